//! Making the staged content the object: one PUT, or the last part and the completion, under the condition that what is
//! there is what this mount believes.
//!
//! Each commit carries a random token in the object's metadata. When an answer is lost, a HEAD tells our commit from
//! another's: never assumed, never reported as a conflict with oneself. When the condition fails, a content that was
//! written whole looks again and repeats (the last close wins); an exclusive creation fails.

use std::sync::Arc;
use std::time::Duration;

use super::parts::PartSlot;
use super::{Destination, Writer};
use crate::base::{clock, rng};
use crate::data::{Error, Result};
use crate::store::{
    self, Committed, CompleteUpload, Condition, CopyObject, ETag, ErrorKind, HeadObject, MAX_PART_BYTES, ObjectInfo, ObjectRef,
    ObjectStore, Outcome, Part, Payload, Properties, PutObject,
};

/// The metadata name that carries the token of a commit; never shown to users.
pub const COMMIT_TOKEN: &str = "pailfs-commit";
/// How often a commit looks again when others commit the same key at the same time.
const MAX_CONFLICTS: u32 = 8;
/// The wait before the n-th further try is n times this.
const PAUSE: Duration = Duration::from_millis(100);

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
    /// [`Error::Exists`] by `on_conflict`, [`Error::Stale`] when others never stop replacing the object,
    /// [`Error::Store`]. The content stays staged then, and the commit may be repeated.
    pub async fn commit(self: &Arc<Self>, base: Base, on_conflict: OnConflict) -> Result<CommitDone> {
        let generation = self.lock().generation;
        let done = if self.has_left() {
            self.commit_parts(base, on_conflict).await?
        } else {
            self.commit_put(base, on_conflict).await?
        };
        let mut state = self.lock();
        state.committed = Some(generation);
        state.completed = state.staged.sent() > 0;
        Ok(done)
    }

    async fn commit_put(&self, base: Base, on_conflict: OnConflict) -> Result<CommitDone> {
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
        let committed = conditional(&self.shared.store, &destination, base, on_conflict, Replacing::Put(request)).await?;
        Ok(CommitDone { committed, destination, size })
    }

    async fn commit_parts(self: &Arc<Self>, base: Base, on_conflict: OnConflict) -> Result<CommitDone> {
        {
            let mut state = self.lock();
            self.relaunch_failed(&mut state);
            let rest = state.staged.staged();
            if rest > 0 {
                self.cut(&mut state, rest)?;
            }
        }
        self.wait_for_parts().await;
        let parts = self.finished_parts()?;
        let (upload, destination) = self.lock().upload.get().cloned().ok_or(Error::TooLarge)?;
        let size = parts.iter().map(|part| part.size).sum();
        let request = CompleteUpload { upload, parts, condition: Condition::None };
        let committed = conditional(&self.shared.store, &destination, base, on_conflict, Replacing::Complete(request)).await?;
        self.lock().completed = true;
        self.settle_destination(CommitDone { committed, destination, size }).await
    }

    /// Brings what was changed after the first part had left (mode, times, a header, the name) to the finished object.
    async fn settle_destination(&self, done: CommitDone) -> Result<CommitDone> {
        let wanted = self.lock().destination.clone();
        if same_but_token(&done.destination.properties, &wanted.properties) {
            return Ok(done);
        }
        let destination = with_token(&Destination { key: done.destination.key.clone(), ..wanted });
        let object = ObjectRef::current(destination.bucket.clone(), destination.key.clone());
        let committed = replace_properties(
            &self.shared.store,
            object,
            done.committed.etag.clone(),
            done.size,
            destination.properties.clone(),
        )
        .await?;
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

/// A request that makes the object.
enum Replacing {
    Put(PutObject),
    Complete(CompleteUpload),
}

impl Replacing {
    async fn send<S: ObjectStore>(&mut self, store: &S, condition: Condition) -> store::Result<Committed> {
        match self {
            Self::Put(request) => {
                request.condition = condition;
                store.put(request).await
            }
            Self::Complete(request) => {
                request.condition = condition;
                store.complete_upload(request).await
            }
        }
    }
}

/// Sends a replacing request under a condition, and does what its failure asks for.
async fn conditional<S: ObjectStore>(
    store: &S,
    destination: &Destination,
    mut base: Base,
    on_conflict: OnConflict,
    mut request: Replacing,
) -> Result<Committed> {
    let object = ObjectRef::current(destination.bucket.clone(), destination.key.clone());
    let mut failure = Error::Stale;
    for attempt in 0..MAX_CONFLICTS {
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
        let there = match store.head(&HeadObject { object: object.clone() }).await {
            Ok(info) => Some(info),
            Err(missing) if missing.kind() == ErrorKind::NotFound => None,
            Err(_) => return Err(error.into()),
        };
        if let Some(info) = there.as_ref().filter(|info| is_ours(info, &destination.properties)) {
            return Ok(Committed { etag: info.etag.clone(), version: info.version.clone() });
        }
        if error.kind() == ErrorKind::NoUpload {
            return Err(error.into());
        }
        let now = there.map_or(Base::Absent, |info| Base::Object(info.etag));
        if on_conflict == OnConflict::Fail && now != Base::Absent {
            return Err(Error::Exists);
        }
        // A lost request that was not applied is repeated; should it still arrive, its condition fails or it is ours.
        failure = if conflict { Error::Stale } else { error.into() };
        base = now;
        clock::sleep(PAUSE * attempt).await;
    }
    Err(failure)
}

/// Replaces the properties of an object by a copy onto itself, on the condition that it is still the one with `etag`.
///
/// # Errors
/// [`Error::Stale`] when it is not, [`Error::Store`].
pub async fn replace_properties<S: ObjectStore>(
    store: &S,
    object: ObjectRef,
    etag: ETag,
    size: u64,
    properties: Properties,
) -> Result<Committed> {
    let target = Destination { bucket: object.bucket.clone(), key: object.key.clone(), properties };
    copy_object(store, object, etag.clone(), size, &target, Condition::IfMatch(etag)).await
}

/// Copies an object inside the store, in parts when it is larger than one request can copy.
///
/// # Errors
/// [`Error::Stale`], [`Error::Exists`] by the conditions, [`Error::Store`].
pub async fn copy_object<S: ObjectStore>(
    store: &S,
    source: ObjectRef,
    etag: ETag,
    size: u64,
    target: &Destination,
    condition: Condition,
) -> Result<Committed> {
    if size > MAX_PART_BYTES {
        return super::copy::copy_in_parts(store, source, etag, size, target, condition).await;
    }
    let request = CopyObject {
        source,
        source_if_match: Some(etag),
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        replace: Some(target.properties.clone()),
        condition,
    };
    settled(store, target, store.copy(&request).await).await
}

/// Settles a lost or conflicting answer by looking whether what is there is ours.
///
/// # Errors
/// The answer's own, when what is there is not ours.
pub async fn settled<S: ObjectStore>(store: &S, target: &Destination, answer: store::Result<Committed>) -> Result<Committed> {
    let error = match answer {
        Ok(committed) => return Ok(committed),
        Err(error) => error,
    };
    let doubtful = error.outcome() == Outcome::Unknown || matches!(error.kind(), ErrorKind::Exists | ErrorKind::Changed);
    if doubtful {
        let object = ObjectRef::current(target.bucket.clone(), target.key.clone());
        if let Ok(info) = store.head(&HeadObject { object }).await
            && is_ours(&info, &target.properties)
        {
            return Ok(Committed { etag: info.etag, version: info.version });
        }
    }
    Err(error.into())
}

/// The destination with a fresh commit token.
#[must_use]
pub fn with_token(destination: &Destination) -> Destination {
    let mut destination = destination.clone();
    destination.properties.metadata.insert(COMMIT_TOKEN.to_owned(), rng::token());
    destination
}

fn is_ours(info: &ObjectInfo, sent: &Properties) -> bool {
    let token = sent.metadata.get(COMMIT_TOKEN);
    token.is_some() && info.properties.metadata.get(COMMIT_TOKEN) == token
}

fn same_but_token(left: &Properties, right: &Properties) -> bool {
    let bare = |properties: &Properties| {
        let mut bare = properties.clone();
        bare.metadata.remove(COMMIT_TOKEN);
        bare
    };
    bare(left) == bare(right)
}
