//! Changes of one request: an empty object, a copy, new properties. Each is conditional and carries a commit token, so that a
//! lost answer is settled by looking, and what was not applied is sent again under the same condition.

use std::time::SystemTime;

use super::Destination;
use super::commit::{MAX_CONFLICTS, MAX_SETTLING, PAUSE, is_ours};
use crate::base::{clock, crc::Crc64};
use crate::data::{Error, Result};
use crate::store::{
    self, Committed, CompleteUpload, Condition, CopyObject, ETag, ErrorKind, HeadObject, MAX_PART_BYTES, ObjectInfo, ObjectRef,
    ObjectStore, Operation, Outcome, Part, PartNumber, Payload, Properties, PutObject,
};

/// The answer to a change that two clients made at the same moment: it may be sent again.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
const CONFLICT_STATUS: u16 = 409;

/// A request that makes an object.
#[derive(Debug)]
pub(super) enum Change {
    /// Of bytes that are here.
    Put(PutObject),
    /// Of another object, or of itself, which add up to this.
    Copy(CopyObject, Option<Crc64>),
    /// Of parts.
    Complete(CompleteUpload),
}

impl Change {
    /// Sends it under a condition.
    pub(super) async fn send<S: ObjectStore>(&mut self, store: &S, condition: Condition) -> store::Result<Committed> {
        let made = match self {
            Self::Put(request) => {
                request.condition = condition;
                store.put(request).await
            }
            Self::Copy(request, _) => {
                request.condition = condition;
                store.copy(request).await
            }
            Self::Complete(request) => {
                request.condition = condition;
                store.complete_upload(request).await
            }
        }?;
        self.check(&made).map_or(Ok(made), Err)
    }

    /// The error when what was made does not add up to what it must. A PUT is compared where its checksum is computed: by the
    /// store.
    fn check(&self, made: &Committed) -> Option<store::Error> {
        let (operation, expected, target) = match self {
            Self::Put(_) => return None,
            Self::Copy(request, sum) => (Operation::CopyObject, *sum, (&request.bucket, &request.key)),
            Self::Complete(request) => {
                let upload = &request.upload;
                (Operation::CompleteMultipartUpload, request.crc64nvme(), (&upload.bucket, &upload.key))
            }
        };
        let differ = expected.is_some() && made.crc64nvme.is_some() && expected != made.crc64nvme;
        let words = "the object that the store has made does not add up to what was sent for it";
        let target = format_args!("{}/{}", target.0, target.1);
        differ.then(|| damaged(store::Error::new(ErrorKind::Corrupt, operation, target, words)))
    }

    /// The parts of what it makes, which has `size` bytes, in order.
    pub(super) fn parts(&self, size: u64) -> Vec<Part> {
        let crc64nvme = match self {
            Self::Put(request) => Some(Crc64::of(request.payload.chunks())),
            Self::Copy(_, sum) => *sum,
            Self::Complete(request) => return request.parts.clone(),
        };
        vec![Part { number: PartNumber::FIRST, etag: ETag::new(""), crc64nvme, tag_is_md5: false, size }]
    }

    /// What a request has made that carries our token, found there after `error`.
    pub(super) fn found(&self, info: &ObjectInfo, error: store::Error) -> store::Result<Committed> {
        if error.kind() == ErrorKind::Corrupt && error.outcome() == Outcome::Unknown {
            return Err(damaged(error));
        }
        let size = match self {
            Self::Put(request) => Some(request.payload.len()),
            Self::Copy(..) => None,
            Self::Complete(request) => Some(request.size()),
        };
        if size.is_some_and(|size| size != info.size) {
            let words = format!("what the store has made is {} bytes long, which is wrong", info.size);
            return Err(damaged(error.with(|story| (story.kind, story.message) = (ErrorKind::Corrupt, words))));
        }
        let made = Committed::from(info);
        self.check(&made).map_or(Ok(made), Err)
    }
}

fn damaged(error: store::Error) -> store::Error {
    error.with(|story| story.outcome = Outcome::Damaged)
}

/// What is under a key now.
///
/// # Errors
/// The store's, but for [`ErrorKind::NotFound`].
pub async fn look<S: ObjectStore>(store: &S, object: &ObjectRef) -> store::Result<Option<ObjectInfo>> {
    match store.head(&HeadObject { object: object.clone() }).await {
        Ok(info) => Ok(Some(info)),
        Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts an object without bytes.
///
/// # Errors
/// [`Error::Exists`] or [`Error::Stale`] by the condition, [`Error::Store`].
pub async fn put_empty<S: ObjectStore>(store: &S, target: &Destination, condition: Condition) -> Result<Committed> {
    let request = PutObject {
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        payload: Payload::default(),
        properties: target.properties.clone(),
        condition: Condition::None,
    };
    settled(store, target, &condition, Change::Put(request)).await
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The object.
    pub object: ObjectRef,
    /// The tag it must have.
    pub etag: ETag,
    /// Its bytes.
    pub size: u64,
    /// What they add up to, where the store has said so.
    pub crc64nvme: Option<Crc64>,
}

/// Replaces the properties of an object by a copy onto itself, on the condition that it is still that one, and that its
/// metadata was not changed alone after `since`.
///
/// # Errors
/// [`Error::Stale`] when it is not, [`Error::Store`].
pub async fn replace_properties<S: ObjectStore>(
    store: &S,
    source: Source,
    since: SystemTime,
    properties: Properties,
) -> Result<Committed> {
    let target = Destination { bucket: source.object.bucket.clone(), key: source.object.key.clone(), properties };
    let condition = Condition::IfMatch(source.etag.clone());
    if source.size > MAX_PART_BYTES {
        return super::copy::copy_in_parts(store, source, &target, condition).await;
    }
    // The destination's condition covers the bytes.
    let request = CopyObject { source_unchanged_since: Some(since), ..copy_request(source.object, &target) };
    settled(store, &target, &condition, Change::Copy(request, source.crc64nvme)).await
}

/// Copies an object inside the store, in parts when it is larger than one request can copy.
///
/// # Errors
/// [`Error::Stale`], [`Error::Exists`] by the conditions, [`Error::Store`].
pub async fn copy_object<S: ObjectStore>(
    store: &S,
    source: Source,
    target: &Destination,
    condition: Condition,
) -> Result<Committed> {
    if source.size > MAX_PART_BYTES {
        return super::copy::copy_in_parts(store, source, target, condition).await;
    }
    let request = CopyObject { source_if_match: Some(source.etag), ..copy_request(source.object, target) };
    settled(store, target, &condition, Change::Copy(request, source.crc64nvme)).await
}

impl Source {
    /// Whether it is the same object, whatever is known of it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.object == other.object && self.etag == other.etag
    }

    /// The object as the only part of what it is copied to.
    pub(super) fn whole(&self) -> Part {
        let Self { etag, size, crc64nvme, .. } = self.clone();
        Part { number: PartNumber::FIRST, etag, crc64nvme, tag_is_md5: false, size }
    }
}

pub(super) fn copy_request(source: ObjectRef, target: &Destination) -> CopyObject {
    CopyObject {
        source,
        source_if_match: None,
        source_unchanged_since: None,
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        replace: Some(target.properties.clone()),
        condition: Condition::None,
    }
}

/// Sends a request under `condition`. When its answer is lost it is looked whether what is there is ours; what was not
/// applied is sent again as long as the condition holds.
///
/// # Errors
/// The answer's own, or what the condition says of what others have made meanwhile.
pub(super) async fn settled<S: ObjectStore>(
    store: &S,
    target: &Destination,
    condition: &Condition,
    mut change: Change,
) -> Result<Committed> {
    let object = ObjectRef::current(target.bucket.clone(), target.key.clone());
    let last = clock::instant() + MAX_SETTLING;
    let mut attempt = 0;
    loop {
        let error = match change.send(store, condition.clone()).await {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        let unknown = error.outcome() == Outcome::Unknown;
        if !unknown && !matches!(error.kind(), ErrorKind::Exists | ErrorKind::Changed) {
            return Err(error.into());
        }
        let Ok(there) = look(store, &object).await else { return Err(error.into()) };
        if let Some(info) = there.as_ref().filter(|info| is_ours(info, &target.properties)) {
            return Ok(change.found(info, error)?);
        }
        let holds = match (condition, &there) {
            (Condition::IfAbsent, there) => there.is_none(),
            (Condition::IfMatch(etag), there) => there.as_ref().is_some_and(|info| info.etag == *etag),
            (Condition::None, _) => true,
        };
        let again = unknown || error.story().status == Some(CONFLICT_STATUS);
        attempt += 1;
        match condition {
            _ if again && holds && attempt < MAX_CONFLICTS && clock::instant() < last => clock::sleep(PAUSE * attempt).await,
            Condition::IfAbsent if unknown && !holds => return Err(Error::Exists),
            Condition::IfMatch(_) if unknown && !holds => return Err(Error::Stale),
            _ => return Err(error.into()),
        }
    }
}
