//! Archived objects: when they can be read, and what a restore does. Pure: the time is an argument.
//! A restore takes a configured while; then a readable copy is there until its days are over.

use std::time::{Duration, Instant, SystemTime};

use super::failure::{NO_EXPEDITED, NOT_ARCHIVED, Outcome, RESTORE_ONGOING, WRONG_DAYS};
use super::object::Object;
use crate::store::{RestoreState, RestoreTier};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// For waiting.
    pub(super) instant: Instant,
    /// For dates.
    pub(super) wall: SystemTime,
}

/// A restore that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Restore {
    ready: Instant,
    until: Option<SystemTime>,
    tier: RestoreTier,
}

/// What a restore does at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// It was begun, or made faster: 202.
    Begun,
    /// The copy that is there stays longer: 200.
    Extended,
}

impl Restore {
    /// What `x-amz-restore` says; `None` when the copy has expired.
    pub(super) fn state(&self, now: Moment) -> Option<RestoreState> {
        if now.instant < self.ready {
            return Some(RestoreState::Ongoing);
        }
        self.until.filter(|until| now.wall < *until).map(RestoreState::Until)
    }
}

/// `x-amz-restore` of `object`.
pub(super) fn state(object: &Object, now: Moment) -> Option<RestoreState> {
    object.restore.as_ref().and_then(|restore| restore.state(now))
}

/// `x-amz-archive-status` of `object`: gone when a restore of an `INTELLIGENT_TIERING` object is done.
pub(super) fn status(object: &Object, now: Moment) -> Option<String> {
    let done = object.restore.as_ref().is_some_and(|restore| now.instant >= restore.ready);
    object.archive_status.clone().filter(|_| !done)
}

/// Whether the bytes can be read.
pub(super) fn readable(object: &Object, now: Moment) -> bool {
    if object.in_archive_class() {
        return matches!(state(object, now), Some(RestoreState::Until(_)));
    }
    status(object, now).is_none()
}

/// Carries out a `RestoreObject`.
pub(super) fn restore(
    object: &mut Object,
    days: Option<u32>,
    tier: Option<RestoreTier>,
    duration: Duration,
    now: Moment,
) -> Outcome<Restored> {
    let tiered = status(object, now).is_some();
    if !tiered && !object.in_archive_class() {
        return Err(NOT_ARCHIVED);
    }
    if object.storage_class() == Some("DEEP_ARCHIVE") && tier == Some(RestoreTier::Expedited) {
        return Err(NO_EXPEDITED);
    }
    if tiered != days.is_none() || days == Some(0) {
        return Err(WRONG_DAYS);
    }
    let until = |from: SystemTime| days.and_then(|days| from.checked_add(DAY * days));
    match (state(object, now), &mut object.restore) {
        (Some(RestoreState::Until(_)), Some(restore)) => {
            restore.until = until(now.wall);
            Ok(Restored::Extended)
        }
        (Some(RestoreState::Ongoing), Some(restore)) => {
            // S3 lets a request with a faster tier overtake the one that is under way.
            let faster = tier.filter(|tier| speed(*tier) > speed(restore.tier)).ok_or(RESTORE_ONGOING)?;
            restore.tier = faster;
            Ok(Restored::Begun)
        }
        _ => {
            let until = until(now.wall + duration);
            object.restore = Some(Restore { ready: now.instant + duration, until, tier: tier.unwrap_or_default() });
            Ok(Restored::Begun)
        }
    }
}

const fn speed(tier: RestoreTier) -> u8 {
    match tier {
        RestoreTier::Bulk => 0,
        RestoreTier::Standard => 1,
        RestoreTier::Expedited => 2,
    }
}
