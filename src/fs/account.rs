//! What a mount remembers of its account: where the next bucket is made, and where the buckets lie.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::meta::location::Location;
use super::ops::put_back::Companion;
use crate::data::write::commit::MadeBy;
use crate::store::BucketName;

/// The account's state. Its locks are leaves.
#[derive(Debug)]
pub struct Account {
    /// As the mount was told.
    default: Option<Location>,
    /// As it is now.
    next: Mutex<Option<Location>>,
    /// Where the buckets lie that were asked for. A bucket does not move.
    known: Mutex<HashMap<BucketName, String>>,
    /// Whether access lists count in the buckets that were asked for it.
    acls: Mutex<HashMap<BucketName, Acls>>,
    /// Held by who asks for it, so that many do not ask at once.
    pub(super) asking_acls: tokio::sync::Mutex<()>,
    /// What the store was found to keep with an object that was made so, or not.
    kept: Mutex<HashMap<(Companion, MadeBy), bool>>,
}

/// What is with the access lists of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acls {
    /// They count.
    Count,
    /// They are disabled: what was set would not count, and be lost.
    Disabled,
    /// They may count, but these credentials cannot read them.
    Unreadable,
}

impl Account {
    /// Buckets are made in `location`, until somebody says otherwise.
    #[must_use]
    pub fn new(location: Option<Location>) -> Self {
        Self {
            default: location.clone(),
            next: Mutex::new(location),
            known: Mutex::default(),
            acls: Mutex::default(),
            asking_acls: tokio::sync::Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// Where the next bucket is made; `None`: where the store puts it.
    #[must_use]
    pub fn location(&self) -> Option<Location> {
        lock(&self.next).clone()
    }

    /// The next bucket is made in `location`.
    pub fn set_location(&self, location: Option<Location>) {
        *lock(&self.next) = location;
    }

    /// The next bucket is made where the mount was told.
    pub fn reset_location(&self) {
        self.set_location(self.default.clone());
    }

    /// Where a bucket lies, as far as known.
    #[must_use]
    pub fn location_of(&self, bucket: &BucketName) -> Option<String> {
        lock(&self.known).get(bucket).cloned()
    }

    /// A bucket lies there.
    pub fn learn(&self, bucket: &BucketName, location: &str) {
        lock(&self.known).insert(bucket.clone(), location.to_owned());
    }

    /// Whether access lists count in a bucket, as far as known.
    #[must_use]
    pub fn acls_of(&self, bucket: &BucketName) -> Option<Acls> {
        lock(&self.acls).get(bucket).copied()
    }

    /// What is with the access lists of a bucket.
    pub fn learn_acls(&self, bucket: &BucketName, acls: Acls) {
        lock(&self.acls).insert(bucket.clone(), acls);
    }

    /// Whether access lists count may have changed.
    pub fn forget_acls(&self, bucket: &BucketName) {
        lock(&self.acls).remove(bucket);
    }

    /// Whether the store keeps something with an object that is made so, as far as known.
    #[must_use]
    pub fn keeps(&self, companion: Companion, making: MadeBy) -> Option<bool> {
        lock(&self.kept).get(&(companion, making)).copied()
    }

    /// It does, or it does not.
    pub fn learn_keeps(&self, companion: Companion, making: MadeBy, kept: bool) {
        lock(&self.kept).insert((companion, making), kept);
    }

    /// What the store was found to drop, in words.
    #[must_use]
    pub fn dropped(&self) -> Vec<String> {
        let kept = lock(&self.kept);
        let mut dropped: Vec<String> =
            kept.iter().filter(|(_, kept)| !**kept).map(|((what, making), _)| format!("{what} of {making}")).collect();
        dropped.sort();
        dropped
    }

    /// A bucket was made or removed: the next one of the name may lie elsewhere.
    pub fn forget(&self, bucket: &BucketName) {
        lock(&self.known).remove(bucket);
        self.forget_acls(bucket);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
