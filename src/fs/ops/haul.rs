//! The keys of a directory on their way to another place: what was copied, and what is known of each copy.
//!
//! Of each key only digests are kept: with its tag and time, that of a source which was copied; with its tag, that of a copy.
//! What a listing shows is looked up in them before anything is deleted, at either place. There are as many as the memory
//! budget has room for: beyond that the copies themselves are asked, whose tokens say what they were made of.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{crc::Crc64, rng, tasks};
use crate::data::budget::Permit;
use crate::data::write::commit::token_of;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::intents::{Begun, CopiedKey, Intent};
use crate::fs::locate::Address;
use crate::store::{ETag, ObjectInfo, ObjectRef};

type Digest = [u64; 2];

/// What the digests of a key take, in sets that have just grown.
pub(in crate::fs) const KEY_BYTES: u64 = 80;

/// The keys of a directory on their way.
#[derive(Debug)]
pub(in crate::fs) struct Haul {
    /// Where they were.
    pub from: Address,
    /// Where they shall be.
    pub to: Address,
    /// What the tokens of the copies begin with.
    pub token: String,
    /// The tag of the marker of the empty directory that is replaced.
    pub replaced: Option<ETag>,
    /// It was begun by a mount that died, or failed: what else has happened since is looked at key by key.
    pub is_old: bool,
    hashers: [RandomState; 2],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// So many keys are remembered, by what this holds of the budget.
    memory: Option<Permit>,
    sources: HashSet<Digest>,
    copies: HashSet<Digest>,
    /// Keys that may have been copied, although that failed.
    doubtful: HashSet<String>,
    /// What was carried of inodes that are known.
    known: HashMap<String, Carried>,
    unwritten: Vec<CopiedKey>,
    intent: Option<Intent>,
    progress: Progress,
}

/// How far a rename is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) struct Progress {
    /// Keys to be moved.
    pub found: u64,
    /// Of these, copied.
    pub copied: u64,
    /// Of these, deleted.
    pub deleted: u64,
    /// Something was deleted, or may have been.
    pub is_deleting: bool,
}

/// An object and its copy.
#[derive(Debug, Clone)]
pub(in crate::fs) struct Carried {
    /// What was copied.
    pub source: Arc<ObjectInfo>,
    /// What it is at the new place.
    pub copy: ObjectInfo,
}

impl Haul {
    pub(in crate::fs) fn new(from: Address, to: Address, replaced: Option<ETag>) -> Self {
        Self::of(from, to, replaced, format!("{}.", rng::token()), false)
    }

    /// What a dead mount has begun.
    pub(in crate::fs) fn left(begun: &Begun, copied: Vec<CopiedKey>, memory: Permit) -> Option<Self> {
        let (from, to) = begun.addresses()?;
        let haul = Self::of(from, to, begun.replaced.as_deref().map(ETag::new), begun.token.clone(), true);
        haul.remember_within(memory);
        for copied in copied {
            haul.note(&copied);
        }
        Some(haul)
    }

    /// As it is now, for a later try.
    pub(in crate::fs) fn for_later(self: Arc<Self>) -> Self {
        let old = Self::of(self.from.clone(), self.to.clone(), self.replaced.clone(), self.token.clone(), true);
        let hashers = self.hashers.clone();
        let state = std::mem::take(&mut *self.lock());
        Self { hashers, state: Mutex::new(state), ..old }
    }

    fn of(from: Address, to: Address, replaced: Option<ETag>, token: String, is_old: bool) -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        Self { from, to, token, replaced, is_old, hashers, state: Mutex::default() }
    }

    /// The part of a key below the directory at `address`.
    fn below<'a>(key: &'a str, address: &Address) -> Result<&'a str> {
        key.strip_prefix(address.key.as_str())
            .ok_or_else(|| Error::new(Situation::Io, format!("the store has listed '{key}', which is elsewhere")))
    }

    /// The part of a key of the old place below the directory.
    pub(in crate::fs) fn relative<'a>(&self, key: &'a str) -> Result<&'a str> {
        Self::below(key, &self.from)
    }

    /// The part of a key of the new place below the directory.
    pub(in crate::fs) fn relative_to<'a>(&self, key: &'a str) -> Result<&'a str> {
        Self::below(key, &self.to)
    }

    /// Where a key is.
    pub(in crate::fs) fn source(&self, relative: &str) -> Result<ObjectRef> {
        Address { key: format!("{}{relative}", self.from.key), ..self.from.clone() }.object()
    }

    /// Where a key shall be.
    pub(in crate::fs) fn target(&self, relative: &str) -> Result<ObjectRef> {
        Address { key: format!("{}{relative}", self.to.key), ..self.to.clone() }.object()
    }

    /// Whether this rename has made an object.
    pub(in crate::fs) fn has_made(&self, info: &ObjectInfo) -> bool {
        token_of(&info.properties).is_some_and(|token| token.starts_with(&self.token))
    }

    /// Whether a listing of the new place shows a copy.
    pub(in crate::fs) fn is_copy(&self, relative: &str, etag: &ETag) -> bool {
        let digest = self.digest((relative, etag.as_str()));
        self.lock().copies.contains(&digest)
    }

    /// Whether a key may have been copied, although that failed.
    pub(in crate::fs) fn is_doubtful(&self, relative: &str) -> bool {
        self.lock().doubtful.contains(relative)
    }

    /// Whether there is such a key.
    pub(in crate::fs) fn is_doubted(&self) -> bool {
        !self.lock().doubtful.is_empty()
    }

    /// Whether there is nothing to take back.
    pub(in crate::fs) fn is_untouched(&self) -> bool {
        let state = self.lock();
        state.progress.copied == 0 && state.doubtful.is_empty() && !self.is_old
    }

    /// Whether what a listing of the old place shows is known to have been copied as it is.
    pub(in crate::fs) fn is_copied(&self, relative: &str, etag: &ETag, modified: u64) -> bool {
        let source = self.digest((relative, etag.as_str(), modified));
        self.lock().sources.contains(&source)
    }

    /// Whether an object at the new place is the copy of what had this tag and time.
    pub(in crate::fs) fn is_copy_of(&self, info: &ObjectInfo, etag: &ETag, modified: u64) -> bool {
        token_of(&info.properties).is_some_and(|token| token.starts_with(&self.token_for(etag, modified)))
    }

    /// What the token of a copy begins with: what it was made of.
    pub(in crate::fs) fn token_for(&self, etag: &ETag, modified: u64) -> String {
        let source = Crc64::of([etag.as_str().as_bytes(), &modified.to_be_bytes()]);
        format!("{}{source}.", self.token)
    }

    /// Some keys may have been copied that are not remembered.
    pub(in crate::fs) fn has_forgotten(&self) -> bool {
        let state = self.lock();
        state.progress.copied > state.sources.len() as u64
    }

    /// Remembers as many keys as `memory` has room for.
    pub(in crate::fs) fn remember_within(&self, memory: Permit) {
        self.lock().memory = Some(memory);
    }

    pub(in crate::fs) fn progress(&self) -> Progress {
        self.lock().progress
    }

    pub(in crate::fs) fn advance(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock().progress);
    }

    /// What was carried of a known inode.
    pub(in crate::fs) fn carried(&self, relative: &str) -> Option<Carried> {
        self.lock().known.get(relative).cloned()
    }

    pub(in crate::fs) fn note_carried(&self, relative: &str, carried: Carried) {
        self.lock().known.insert(relative.to_owned(), carried);
    }

    /// A key was copied.
    pub(in crate::fs) fn note_copied(&self, copied: CopiedKey) {
        self.note(&copied);
        let mut state = self.lock();
        state.unwritten.push(copied);
        state.progress.copied += 1;
    }

    /// A key may have been copied, although that failed.
    pub(in crate::fs) fn doubt(&self, relative: &str) {
        self.lock().doubtful.insert(relative.to_owned());
    }

    fn digest(&self, of: impl Hash) -> Digest {
        [self.hashers[0].hash_one(&of), self.hashers[1].hash_one(&of)]
    }

    fn note(&self, copied: &CopiedKey) {
        let CopiedKey { key, etag, modified, copy } = copied;
        let (source, copy) = (self.digest((key.as_str(), etag.as_str(), *modified)), self.digest((key.as_str(), copy.as_str())));
        let mut state = self.lock();
        let room = state.memory.as_ref().map_or(0, |memory| memory.bytes() / KEY_BYTES);
        // SeaweedFS drops the tokens of markers: those can only be remembered.
        if (state.sources.len() as u64) < room || key.is_empty() || key.ends_with('/') {
            state.sources.insert(source);
            state.copies.insert(copy);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the intent, where there is a place for it; without one a crash in between leaves what was copied at both places.
    pub(in crate::fs) fn keep_intent(&self, intent: Intent) {
        self.lock().intent = Some(intent);
    }

    /// Records what was copied.
    pub(in crate::fs) async fn record(&self) -> Result<()> {
        let (keys, intent) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.unwritten), state.intent.take())
        };
        self.with_intent(intent, move |intent| intent.copied(keys)).await
    }

    /// Records that deleting begins.
    pub(in crate::fs) async fn record_deleting(&self) -> Result<()> {
        let intent = self.lock().intent.take();
        self.with_intent(intent, Intent::deleting).await
    }

    /// Records that the copies go again, whatever had begun.
    pub(in crate::fs) async fn record_taking_back(&self) {
        let intent = self.lock().intent.take();
        if let Err(error) = self.with_intent(intent, Intent::taking_back).await {
            tracing::warn!(%error, "that a rename is taken back cannot be recorded");
        }
    }

    async fn with_intent(
        &self,
        intent: Option<Intent>,
        work: impl FnOnce(&mut Intent) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let Some(mut intent) = intent else { return Ok(()) };
        let (intent, written) = tasks::blocking(move || {
            let written = work(&mut intent);
            (intent, written)
        })
        .await;
        self.lock().intent = Some(intent);
        let words = |error| format!("the rename cannot be recorded in the state directory, so nothing was moved: {error}");
        written.map_err(|error| Error::new(Situation::Io, words(error)))
    }

    /// All is done.
    pub(in crate::fs) async fn end(&self) {
        let Some(intent) = self.lock().intent.take() else { return };
        if let Err(error) = tasks::blocking(move || intent.end()).await {
            tracing::warn!(%error, "the record of a rename stays: the next mount looks at it again, and finds nothing to do");
        }
    }
}
