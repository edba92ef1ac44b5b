//! Making the staged content the object: one PUT, or the last part and the completion, under the condition that what is
//! there is what this mount believes.
//!
//! Each commit carries a random token in the object's metadata. When an answer is lost, a HEAD tells our commit from
//! another's: never assumed, never reported as a conflict with oneself. When the condition fails, a content that was
//! written whole looks again and repeats (the last close wins); an exclusive creation fails.

use std::sync::Arc;
use std::time::Duration;

use super::append::Doubt;
use super::extents::SourceId;
use super::fetch::{Along, Fetched};
use super::plan::{Plan, Rest, divide, plan};
use super::settle::{Change, Source, copy_request, look, replace_properties};
use super::{Destination, Stored, Writer};
use crate::base::{clock, rng};
use crate::data::{Error, Result};
use crate::store::{
    ByteRange, Committed, CompleteUpload, Condition, CopyObject, ETag, ErrorKind, HeadObject, MAX_PART_BYTES, ObjectInfo,
    ObjectRef, ObjectStore, Outcome, Properties, PutObject,
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
    /// By which request.
    pub by: MadeBy,
}

/// The request that has made an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MadeBy {
    /// One PUT.
    Put,
    /// A copy inside the store.
    Copy,
    /// The completion of an upload.
    Upload,
}

impl MadeBy {
    /// How an object of `size` bytes is copied.
    #[must_use]
    pub const fn copy_of(size: u64) -> Self {
        if size > MAX_PART_BYTES { Self::Upload } else { Self::Copy }
    }
}

impl<S: ObjectStore> Writer<S> {
    /// Brings the present content and destination to the store. The caller holds the file's gate alone, so nothing changes
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Exists`] or [`Error::Stale`] by `on_conflict`, [`Error::Stale`] when others never stop replacing the object,
    /// [`Error::Store`]. The content stays then, and the commit may be repeated.
    pub async fn commit(self: &Arc<Self>, base: Base, on_conflict: OnConflict) -> Result<CommitDone> {
        let done = self.bring(base, on_conflict).await;
        let mut state = self.lock();
        match done {
            Ok((generation, done)) => {
                state.committed = Some(generation);
                state.made = None;
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

    /// First the bytes, then what of the properties came too late for them.
    async fn bring(self: &Arc<Self>, base: Base, on_conflict: OnConflict) -> Result<(u64, CommitDone)> {
        self.salvage().await?;
        let (generation, made, doubtful) = {
            let mut state = self.lock();
            state.tried = Some(state.generation);
            let doubtful = state.doubtful.iter().map(|doubt| doubt.token.clone()).collect();
            (state.generation, state.made.clone(), doubtful)
        };
        // What is made of the object that was there cannot replace another one, whoever began it.
        let edited = on_conflict == OnConflict::Replace && self.refers_to_own();
        let on_conflict = if edited { OnConflict::Stale } else { on_conflict };
        let done = match made {
            Some((made, done)) if made == generation => done,
            made => {
                // What an earlier try has made is what is there.
                let base = match made {
                    Some((_, done)) => Base::Object(done.committed.etag),
                    None => self.settle_doubt().await?.unwrap_or(base),
                };
                let movable = on_conflict == OnConflict::Stale && self.is_movable();
                let done = self.make_object(Intent { base, on_conflict, movable, doubtful }).await?;
                let mut state = self.lock();
                state.adopt(&done);
                state.made = Some((generation, done.clone()));
                done
            }
        };
        let done = self.settle_destination(done).await?;
        Ok((generation, done))
    }

    /// When an earlier try may have replaced the object that bytes are still taken from: looks, and takes them from what that
    /// try has made, where the same bytes are at the same places.
    async fn settle_doubt(&self) -> Result<Option<Base>> {
        let object = {
            let state = self.lock();
            if state.doubtful.is_empty() || state.own.is_none() || !state.sending.parts.is_empty() {
                return Ok(None);
            }
            ObjectRef::current(state.destination.bucket.clone(), state.destination.key.clone())
        };
        let Some(info) = look(&self.shared.store, &object).await? else { return Ok(None) };
        if !self.may_have_made(&info) {
            return Ok(None);
        }
        let mut state = self.lock();
        if let Some(own) = state.own {
            let object = ObjectRef { version: info.version.clone(), ..object };
            let pin = Source { object, etag: info.etag.clone(), size: info.size, crc64nvme: info.crc64nvme() };
            state.sources[own.0] = Stored { pin, reader: None };
        }
        Ok(Some(Base::Object(info.etag)))
    }

    async fn make_object(self: &Arc<Self>, intent: Intent) -> Result<CommitDone> {
        let (plan, given_up) = {
            let mut state = self.lock();
            let generation = state.generation;
            if state.sending.tail.is_some_and(|(_, of)| of != generation) {
                state.sending.drop_tail();
            }
            match state.sending.parts.is_empty() {
                true => {
                    let plan = plan(&state.extents, |source| state.sources[source.0].pin.size, self.limits(&state))?;
                    let upload = (!matches!(plan, Plan::Parts(_))).then(|| std::mem::take(&mut state.sending).upload);
                    (plan, upload)
                }
                false => (Plan::Parts(Vec::new()), None),
            }
        };
        if let Some((upload, _)) = given_up.as_ref().and_then(|upload| upload.get()) {
            self.abort(upload).await;
        }
        match plan {
            Plan::Put => self.commit_put(intent).await,
            Plan::Copy(source) => self.commit_copy(intent, source).await,
            Plan::Parts(_) => self.commit_parts(intent).await,
        }
    }

    async fn commit_put(&self, intent: Intent) -> Result<CommitDone> {
        let (destination, pieces, size) = {
            let mut state = self.lock();
            let size = state.extents.len();
            let pieces = ByteRange::new(0, size).map_or_else(Vec::new, |all| state.pieces(all));
            (with_token(&state.destination), pieces, size)
        };
        let Fetched { payload, .. } = &self.payload(pieces, size, Along::All).await?;
        let _sending = self.shared.pressure.sending();
        let request = PutObject {
            bucket: destination.bucket.clone(),
            key: destination.key.clone(),
            payload: payload.clone(),
            properties: destination.properties.clone(),
            condition: Condition::None,
        };
        let done = self.finish(intent, destination, size, Change::Put(request)).await;
        if is_damaged(&done) {
            self.retain(payload).await?;
        }
        done
    }

    async fn commit_copy(&self, intent: Intent, source: SourceId) -> Result<CommitDone> {
        let (destination, source) = {
            let state = self.lock();
            (with_token(&state.destination), state.sources[source.0].pin.clone())
        };
        let (size, crc64nvme, whole) = (source.size, source.crc64nvme, source.whole());
        let object = ObjectRef::current(destination.bucket.clone(), destination.key.clone());
        let request = CopyObject { source_if_match: Some(source.etag), ..copy_request(source.object, &destination) };
        let done = self.finish(intent, destination, size, Change::Copy(request, crc64nvme)).await;
        if is_damaged(&done) {
            self.note_damage(object, vec![whole]);
        }
        done
    }

    async fn commit_parts(self: &Arc<Self>, intent: Intent) -> Result<CommitDone> {
        self.launch_tail()?;
        self.wait_for_parts().await;
        if self.distrust_fetched().await? {
            self.relaunch_failed(&mut self.lock());
            self.wait_for_parts().await;
            self.distrust_fetched().await?;
        }
        let (parts, sources, target) = {
            let state = self.lock();
            let (parts, sources) = state.sending.finished()?;
            let Destination { bucket, key, .. } = state.destination.clone();
            (parts, sources, ObjectRef::current(bucket, key))
        };
        for source in sources {
            // What is changed is its own source: the condition of the completion is about that very object.
            let itself = source.object.bucket == target.bucket && source.object.key == target.key;
            let covered = intent.on_conflict != OnConflict::Replace && intent.base == Base::Object(source.etag.clone());
            if itself && covered {
                continue;
            }
            // Some stores ignore the condition on a part's source: then a change in between shows only now.
            let info = self.shared.store.head(&HeadObject { object: source.object }).await.map_err(Error::of_reading)?;
            // What is changed is its own source: an earlier try that nobody heard of may have replaced it.
            if info.etag != source.etag && !self.may_have_made(&info) {
                return Err(Error::Stale);
            }
        }
        let (upload, destination) = self.lock().sending.upload.get().cloned().ok_or(Error::TooLarge)?;
        debug_assert_eq!(destination.key, self.lock().destination.key, "a rename commits what has left first");
        let size = parts.iter().map(|part| part.size).sum();
        if size != self.len() {
            return Err(Error::Incomplete);
        }
        let object = ObjectRef::current(destination.bucket.clone(), destination.key.clone());
        let request = CompleteUpload { upload, parts: parts.clone(), condition: Condition::None };
        let done = self.finish(intent, destination, size, Change::Complete(request)).await;
        if is_damaged(&done) {
            self.note_damage(object, parts);
            return done;
        }
        if has_outcome(&done, Outcome::NotApplied) && done.as_ref().is_err_and(|error| error.kind() == Some(ErrorKind::Corrupt)) {
            self.refused().await;
            return done;
        }
        let mut state = self.lock();
        if done.is_err() && !state.doubtful.is_empty() {
            // What is certainly an object when it is asked for again: nothing is added to it before that is known. The bytes
            // stay here: they may be needed behind what another client makes meanwhile.
            state.sending.end = size;
            state.sending.tail = None;
        }
        done
    }

    /// Makes the last parts. Their bytes stay here until the upload is complete: more may be written before the next try.
    fn launch_tail(self: &Arc<Self>) -> Result<()> {
        let mut state = self.lock();
        let (from, len) = (state.sending.end, state.extents.len());
        if state.sending.tail.is_none() {
            let first = state.sending.last_number() + 1;
            if from < len {
                let rest = divide(&state.extents, from, len, Rest::Nothing, self.limits(&state))?;
                self.launch_all(&mut state, &rest);
            }
            state.sending.tail = Some((first, state.generation));
        }
        self.relaunch_failed(&mut state);
        Ok(())
    }

    /// Sends the request that makes the object.
    async fn finish(&self, intent: Intent, destination: Destination, size: u64, mut change: Change) -> Result<CommitDone> {
        let by = match &change {
            Change::Put(_) => MadeBy::Put,
            Change::Copy(..) => MadeBy::Copy,
            Change::Complete(_) => MadeBy::Upload,
        };
        let mut unanswered = false;
        let committed = conditional(&self.shared.store, &destination, intent, &mut change, &mut unanswered).await;
        if committed.is_err() && unanswered {
            self.lock().doubtful.extend(Doubt::of(&destination.properties, Some(change.parts(size))));
        }
        let committed = committed?;
        Ok(CommitDone { committed, destination, size, by })
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
        let (etag, crc64nvme) = (done.committed.etag.clone(), done.committed.crc64nvme);
        let source = Source { object: object.clone(), etag, size: done.size, crc64nvme };
        let whole = source.whole();
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
                if matches!(&error, Error::Store(error) if error.outcome() != Outcome::NotApplied) {
                    self.lock().doubtful.extend(Doubt::of(&destination.properties, Some(vec![whole.clone()])));
                }
                let failed = Err(error);
                if is_damaged(&failed) {
                    self.note_damage(object, vec![whole]);
                }
                return failed;
            }
        };
        let object = ObjectRef {
            version: committed.version.clone(),
            ..ObjectRef::current(destination.bucket.clone(), destination.key.clone())
        };
        self.repin(&done.committed.etag, &object, &committed.etag);
        // Of parts as a rule, and then copied: either may have lost something, so it is looked.
        Ok(CommitDone { committed, destination, size: done.size, by: MadeBy::Upload })
    }
}

/// Whether a commit has made something else than it should have.
fn is_damaged(done: &Result<CommitDone>) -> bool {
    has_outcome(done, Outcome::Damaged)
}

fn has_outcome(done: &Result<CommitDone>, outcome: Outcome) -> bool {
    matches!(done, Err(Error::Store(error)) if error.outcome() == outcome)
}

/// What a commit believes and wants.
struct Intent {
    base: Base,
    on_conflict: OnConflict,
    /// The content can go behind whatever is there, also behind nothing.
    movable: bool,
    /// Tokens of earlier tries that may have been applied: finding one of them is no conflict.
    doubtful: Vec<String>,
}

/// Sends a replacing request under a condition, and does what its failure asks for. `unanswered` tells whether one may have been
/// applied without being heard.
async fn conditional<S: ObjectStore>(
    store: &S,
    destination: &Destination,
    intent: Intent,
    request: &mut Change,
    unanswered: &mut bool,
) -> Result<Committed> {
    let Intent { mut base, on_conflict, movable, doubtful } = intent;
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
        // It may have been applied, and another client have gone on from there. What is sent again without asking was refused.
        *unanswered |= error.outcome() != Outcome::NotApplied;
        if error.outcome() == Outcome::Damaged {
            return Err(error.into());
        }
        let conflict = matches!(error.kind(), ErrorKind::Exists | ErrorKind::Changed);
        if error.outcome() == Outcome::NotApplied && !conflict && error.kind() != ErrorKind::NoUpload {
            return Err(error.into());
        }
        // Look: is it ours (a lost answer, or a repeated request that met its own success)?
        let Ok(there) = look(store, &object).await else { return Err(error.into()) };
        if let Some(info) = there.as_ref().filter(|info| is_ours(info, &destination.properties)) {
            *unanswered = true;
            return Ok(request.found(info, error)?);
        }
        let earlier = there
            .as_ref()
            .and_then(|info| token_of(&info.properties))
            .is_some_and(|token| doubtful.iter().any(|own| own == token));
        let now = there.map_or(Base::Absent, |info| Base::Object(info.etag));
        // What others made since is not replaced where the name had to be new, or the content was begun on another one.
        let changed = now != base && !earlier;
        let others = changed && now != Base::Absent;
        match on_conflict {
            OnConflict::Fail if others => return Err(Error::Exists),
            // Nor does what was removed come back with what was appended to it.
            OnConflict::Stale if others || changed && movable => return Err(Error::Stale),
            OnConflict::Fail | OnConflict::Stale | OnConflict::Replace => {}
        }
        if error.kind() == ErrorKind::NoUpload {
            return Err(error.into());
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

/// Marks what makes an object, which has a token, as one of several that belong together.
pub fn in_group(destination: &mut Destination, group: &str) {
    if let Some(token) = destination.properties.metadata.get_mut(COMMIT_TOKEN) {
        token.insert_str(0, group);
    }
}

/// The token of the commit that made an object with these properties, if this program made it.
#[must_use]
pub fn token_of(properties: &Properties) -> Option<&str> {
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
