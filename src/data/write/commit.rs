//! Making the staged content the object: one PUT, or the last part and the completion, under the condition that what is
//! there is what this mount believes.
//!
//! Each commit carries a random token in the object's metadata. When an answer is lost, a HEAD tells our commit from
//! another's: never assumed, never reported as a conflict with oneself. When the condition fails, a content that was
//! written whole looks again and repeats (the last close wins); an exclusive creation fails.

use std::sync::Arc;
use std::time::Duration;

use super::parts::PartSlot;
use super::settle::{Change, Source, look, replace_properties};
use super::{Destination, Writer};
use crate::base::{clock, rng};
use crate::data::{Error, Result};
use crate::store::{
    Committed, CompleteUpload, Condition, ETag, ErrorKind, HeadObject, ObjectInfo, ObjectRef, ObjectStore, Outcome, Part,
    Payload, Properties, PutObject,
};

/// The metadata name that carries the token of a commit; never shown to users.
pub const COMMIT_TOKEN: &str = "pailfs-commit";
/// How often a commit looks again when others commit the same key at the same time.
pub(super) const MAX_CONFLICTS: u32 = 8;
/// No further try begins after this time: a caller waits meanwhile, and nobody can end his waiting.
pub(super) const MAX_SETTLING: Duration = Duration::from_secs(60);
/// The wait before the n-th further try is n times this.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What this mount believes is under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Absent,
    /// An object with this tag.
    Object(ETag),
}

/// What to do when something else is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The content was written whole: look again and replace what is there.
    Replace,
    /// The name must be new (`O_EXCL`).
    Fail,
    /// The content belongs behind what was there (`O_APPEND`): it replaces nothing else.
    Stale,
}

/// What a commit has made.
#[derive(Debug, Clone)]
pub struct CommitDone {
    /// Tag and version of the new object.
    pub committed: Committed,
    /// What it was made with.
    pub destination: Destination,
    /// Its size in bytes.
    pub size: u64,
}

impl<S: ObjectStore> Writer<S> {
    /// Brings the present content and destination to the store. The caller holds the file's gate alone, so nothing changes
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Exists`] or [`Error::Stale`] by `on_conflict`, [`Error::Stale`] when others never stop replacing the object,
    /// [`Error::Store`]. The content stays staged then, and the commit may be repeated.
    pub async fn commit(self: &Arc<Self>, base: Base, on_conflict: OnConflict) -> Result<CommitDone> {
        if let Some(why) = self.refused() {
            return Err(Error::Unsupported(why));
        }
        let generation = self.lock().generation;
        let intent = Intent { base, on_conflict, doubtful: self.lock().doubtful.clone() };
        let done = if self.has_left() { self.commit_parts(intent).await } else { self.commit_put(intent).await };
        let mut state = self.lock();
        match done {
            Ok(done) => {
                state.committed = Some(generation);
                state.completed = state.staged.sent() > 0;
                state.unsettled = None;
                state.doubtful.clear();
                state.failed = None;
                Ok(done)
            }
            Err(error) => {
                if state.failed.is_none() {
                    state.failed = Some(self.shared.pressure.failed());
                }
                Err(error)
            }
        }
    }

    async fn commit_put(&self, intent: Intent) -> Result<CommitDone> {
        let (destination, payload) = {
            let mut state = self.lock();
            (with_token(&state.destination), Payload::new(state.staged.share()))
        };
        let _sending = self.shared.pressure.sending();
        let size = payload.len();
        let request = PutObject {
            bucket: destination.bucket.clone(),
            key: destination.key.clone(),
            payload,
            properties: destination.properties.clone(),
            condition: Condition::None,
        };
        let committed = conditional(&self.shared.store, &destination, intent, Change::Put(request)).await;
        let committed = committed.inspect_err(|error| self.note_doubt(error, &destination))?;
        Ok(CommitDone { committed, destination, size })
    }

    async fn commit_parts(self: &Arc<Self>, intent: Intent) -> Result<CommitDone> {
        let unsettled = self.lock().unsettled.clone();
        if let Some(done) = unsettled {
            return self.settle_destination(done).await;
        }
        let tail = self.send_tail()?;
        self.wait_for_parts().await;
        let done = self.complete(intent).await;
        if let Some(tail) = tail {
            let mut state = self.lock();
            if done.is_ok() || !state.doubtful.is_empty() {
                // The object, or what is certainly one when it is asked for again: nothing is added to it.
                drop(state.staged.take(tail.bytes));
            } else {
                // More may be written before the next try: then the last part is another one.
                state.parts.remove(&tail.number);
            }
        }
        self.settle_destination(done?).await
    }

    /// Sends what is staged as the last part. Its bytes stay staged until the upload is complete.
    fn send_tail(self: &Arc<Self>) -> Result<Option<Tail>> {
        let mut state = self.lock();
        self.relaunch_failed(&mut state);
        let bytes = state.staged.staged();
        if bytes == 0 {
            return Ok(None);
        }
        let number = state.next_part()?;
        let payload = Payload::new(state.staged.share());
        self.launch(&mut state, number, payload);
        Ok(Some(Tail { number, bytes }))
    }

    /// Makes the object of the parts.
    async fn complete(&self, intent: Intent) -> Result<CommitDone> {
        let parts = self.finished_parts()?;
        let (upload, destination) = self.lock().upload.get().cloned().ok_or(Error::TooLarge)?;
        debug_assert_eq!(destination.key, self.lock().destination.key, "a rename commits what has left first");
        let size = parts.iter().map(|part| part.size).sum();
        let request = CompleteUpload { upload, parts, condition: Condition::None };
        let committed = conditional(&self.shared.store, &destination, intent, Change::Complete(request)).await;
        let committed = committed.inspect_err(|error| self.note_doubt(error, &destination))?;
        let done = CommitDone { committed, destination, size };
        let mut state = self.lock();
        state.completed = true;
        state.unsettled = Some(done.clone());
        drop(state);
        Ok(done)
    }

    /// Remembers a commit of which nobody knows whether it was applied.
    fn note_doubt(&self, error: &Error, destination: &Destination) {
        let doubtful = matches!(error, Error::Store(error) if error.outcome() == Outcome::Unknown);
        if doubtful && let Some(token) = token_of(&destination.properties) {
            self.lock().doubtful.push(token.to_owned());
        }
    }

    /// Brings what was changed after the first part had left (mode, times, a header, the name) to the finished object.
    async fn settle_destination(&self, done: CommitDone) -> Result<CommitDone> {
        let wanted = self.lock().destination.clone();
        if same_but_token(&done.destination.properties, &wanted.properties) {
            return Ok(done);
        }
        let destination = with_token(&Destination { properties: wanted.properties, ..done.destination.clone() });
        let object = ObjectRef::current(destination.bucket.clone(), destination.key.clone());
        let properties = destination.properties.clone();
        let source = Source { object: object.clone(), etag: done.committed.etag.clone(), size: done.size };
        let replaced =
            replace_properties(&self.shared.store, source, done.committed.at.unwrap_or_else(clock::now), properties).await;
        let committed = match replaced {
            Ok(committed) => committed,
            // An earlier try may have done it without being heard.
            Err(Error::Stale) => {
                let info = self.shared.store.head(&HeadObject { object }).await?;
                if !self.may_have_made(&info) || !same_but_token(&info.properties, &destination.properties) {
                    return Err(Error::Stale);
                }
                Committed::from(&info)
            }
            Err(error) => {
                self.note_doubt(&error, &destination);
                return Err(error);
            }
        };
        Ok(CommitDone { committed, destination, size: done.size })
    }

    fn finished_parts(&self) -> Result<Vec<Part>> {
        let state = self.lock();
        state
            .parts
            .values()
            .map(|slot| match slot {
                PartSlot::Done(part) => Ok(part.clone()),
                PartSlot::Failed(_, error) => Err(error.clone()),
                PartSlot::InFlight => unreachable!("waited for, and the gate keeps writers out"),
            })
            .collect()
    }
}

/// The last part of an upload that is being completed.
struct Tail {
    number: u16,
    bytes: u64,
}

/// What a commit believes and wants.
struct Intent {
    base: Base,
    on_conflict: OnConflict,
    /// Tokens of earlier tries that may have been applied: finding one of them is no conflict.
    doubtful: Vec<String>,
}

/// Sends a replacing request under a condition, and does what its failure asks for.
async fn conditional<S: ObjectStore>(
    store: &S,
    destination: &Destination,
    intent: Intent,
    mut request: Change,
) -> Result<Committed> {
    let Intent { mut base, on_conflict, doubtful } = intent;
    let object = ObjectRef::current(destination.bucket.clone(), destination.key.clone());
    let last = clock::instant() + MAX_SETTLING;
    let mut attempt = 0;
    loop {
        let condition = match &base {
            Base::Absent => Condition::IfAbsent,
            Base::Object(etag) => Condition::IfMatch(etag.clone()),
        };
        let error = match request.send(store, condition).await {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        let conflict = matches!(error.kind(), ErrorKind::Exists | ErrorKind::Changed);
        if error.outcome() == Outcome::NotApplied && !conflict && error.kind() != ErrorKind::NoUpload {
            return Err(error.into());
        }
        // Look: is it ours (a lost answer, or a repeated request that met its own success)?
        let Ok(there) = look(store, &object).await else { return Err(error.into()) };
        if let Some(info) = there.as_ref().filter(|info| is_ours(info, &destination.properties)) {
            return Ok(info.into());
        }
        if error.kind() == ErrorKind::NoUpload {
            return Err(error.into());
        }
        let earlier = there
            .as_ref()
            .and_then(|info| token_of(&info.properties))
            .is_some_and(|token| doubtful.iter().any(|own| own == token));
        let now = there.map_or(Base::Absent, |info| Base::Object(info.etag));
        // What others made since is not replaced where the name had to be new, or the content was begun on another one.
        let others = now != Base::Absent && now != base && !earlier;
        match on_conflict {
            OnConflict::Fail if others => return Err(Error::Exists),
            OnConflict::Stale if others => return Err(Error::Stale),
            OnConflict::Fail | OnConflict::Stale | OnConflict::Replace => {}
        }
        // A lost request that was not applied is repeated; should it still arrive, its condition fails or it is ours.
        base = now;
        attempt += 1;
        // The last close wins, however many others there are.
        let wins = conflict && on_conflict == OnConflict::Replace;
        if !wins && attempt >= MAX_CONFLICTS || clock::instant() >= last {
            return Err(if conflict { Error::Stale } else { error.into() });
        }
        clock::sleep(PAUSE * (attempt - 1).min(MAX_CONFLICTS)).await;
    }
}

/// The destination with a fresh commit token, and without a retention that is over.
#[must_use]
pub fn with_token(destination: &Destination) -> Destination {
    let mut destination = destination.clone();
    destination.properties.metadata.insert(COMMIT_TOKEN.to_owned(), rng::token());
    destination.properties.lock = destination.properties.lock.in_force(clock::now());
    destination
}

/// The token of the commit that made an object with these properties, if this program made it.
pub(super) fn token_of(properties: &Properties) -> Option<&str> {
    properties.metadata.get(COMMIT_TOKEN).map(String::as_str)
}

pub(super) fn is_ours(info: &ObjectInfo, sent: &Properties) -> bool {
    token_of(sent).is_some_and(|token| token_of(&info.properties) == Some(token))
}

fn same_but_token(left: &Properties, right: &Properties) -> bool {
    let bare = |properties: &Properties| {
        let mut bare = properties.clone();
        bare.metadata.remove(COMMIT_TOKEN);
        bare.lock = bare.lock.in_force(clock::now());
        bare
    };
    bare(left) == bare(right)
}
