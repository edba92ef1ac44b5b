//! A store that goes wrong on purpose, at the n-th call: for the tests of everything above.
//!
//! `Retry<Limit<Fault<Memory>>>` is the real stack with another bottom. Payloads are copied as if they had travelled, so
//! that the sender's memory is its own again when the call ends.

#![deny(clippy::missing_trait_methods)]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::*;
use crate::base::{clock, crc::Crc64, tasks};

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toxic {
    /// Nothing is done, and this is the answer.
    Refused(ErrorKind),
    /// All is done, and the answer is lost, whatever it was.
    Lost,
    /// Nothing is done, and nobody knows: the request itself is lost.
    Vanished,
    /// No answer ever comes, and nothing is done.
    Stalled,
    /// No answer comes, and nothing is done: whoever asked gives up in time, as the transport does.
    Silent,
    /// The answer is lost, and the request arrives long after it was given up: where it makes an object; else it is lost.
    Late,
    /// The body of a GET ends with an error after this many bytes.
    Cut(u64),
    /// The first byte of the body of a GET is another, as after a broken transfer that a checksum finds.
    Altered,
    /// The first byte of the body of a GET is another, and nothing tells.
    Forged,
    /// An object is made, and the store says of it that it adds up to something else than it does.
    Misreported,
    /// An object is made, but the byte at this place is another, and the store says what it adds up to.
    Damaged(u64),
}

/// How long a silent store is waited for.
const SILENCE: Duration = Duration::from_secs(30);
/// How much later a late request arrives.
const DELAY: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Script {
    calls: Vec<Operation>,
    toxics: BTreeMap<usize, Toxic>,
}

/// A store whose calls are numbered from 0 and fail as told.
#[derive(Debug, Clone)]
pub struct Fault<S> {
    inner: S,
    script: Arc<Mutex<Script>>,
}

impl<S> Fault<S> {
    /// Wraps `inner`; nothing goes wrong yet.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, script: Arc::default() }
    }

    /// Lets the `nth` call from the beginning go wrong.
    pub fn inject(&self, nth: usize, toxic: Toxic) {
        self.script().toxics.insert(nth, toxic);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.script().toxics.clear();
    }

    /// What was asked so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Operation> {
        self.script().calls.clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What will go wrong with the next call.
    fn due(&self) -> Option<Toxic> {
        let script = self.script();
        script.toxics.get(&script.calls.len()).copied()
    }

    fn next(&self, operation: Operation) -> Option<Toxic> {
        let mut script = self.script();
        let nth = script.calls.len();
        script.calls.push(operation);
        script.toxics.remove(&nth)
    }

    async fn call<T>(&self, operation: Operation, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match self.next(operation) {
            None | Some(Toxic::Cut(_) | Toxic::Altered | Toxic::Forged | Toxic::Misreported | Toxic::Damaged(_)) => call.await,
            Some(Toxic::Refused(kind)) => Err(Error::new(kind, operation, "the test", "refused on purpose")),
            Some(Toxic::Lost) => {
                let _ = call.await;
                Err(unanswered(operation, "the answer is lost on purpose"))
            }
            Some(Toxic::Vanished | Toxic::Late) => Err(unanswered(operation, "the request is lost on purpose")),
            Some(Toxic::Stalled) => std::future::pending().await,
            Some(Toxic::Silent) => silence(operation).await,
        }
    }
}

impl<S: Clone + Send + 'static> Fault<S> {
    /// When the next call is to arrive late: `call`, long after.
    fn send_late<F>(&self, call: impl FnOnce(S) -> F)
    where
        F: Future<Output = Result<Committed>> + Send + 'static,
    {
        if self.due() == Some(Toxic::Late) {
            let late = call(self.inner.clone());
            tasks::spawn(async move {
                clock::sleep(DELAY).await;
                late.await
            });
        }
    }
}

/// No answer, until nobody waits for it any more.
async fn silence<T>(operation: Operation) -> Result<T> {
    clock::sleep(SILENCE).await;
    let silent = Error::new(ErrorKind::TimedOut, operation, "the test", "silent on purpose");
    Err(silent.with(|story| story.outcome = Outcome::Unknown))
}

fn unanswered(operation: Operation, message: &str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "the test", message).with(|story| story.outcome = Outcome::Unknown)
}

/// The payload as it would arrive.
fn travelled(payload: &Payload) -> Payload {
    Payload::new(payload.chunks().iter().map(|chunk| Bytes::copy_from_slice(chunk)).collect())
}

impl<S: ObjectStore> Fault<S> {
    async fn get_with(&self, request: &GetObject) -> Result<Download> {
        let toxic = match self.next(Operation::GetObject) {
            Some(toxic @ (Toxic::Cut(_) | Toxic::Altered | Toxic::Forged)) => Some(toxic),
            Some(Toxic::Stalled) => return std::future::pending().await,
            Some(Toxic::Silent) => return silence(Operation::GetObject).await,
            Some(Toxic::Refused(kind)) => {
                return Err(Error::new(kind, Operation::GetObject, "the test", "refused on purpose"));
            }
            Some(Toxic::Lost | Toxic::Vanished | Toxic::Late) => return Err(broken(ErrorKind::Unavailable, "lost on purpose")),
            None | Some(Toxic::Misreported | Toxic::Damaged(_)) => None,
        };
        let Download { info, range, body } = self.inner.get(request).await?;
        let body = match toxic {
            Some(Toxic::Cut(after)) => cut(body, after),
            Some(Toxic::Altered) => altered(body),
            Some(Toxic::Forged) => forged(body),
            _ => body,
        };
        Ok(Download { info, range, body })
    }
}

impl<S: ObjectStore> Fault<S> {
    /// What is said of an object that was made just now.
    async fn reported(&self, due: Option<Toxic>, bucket: &BucketName, key: &Key, made: Committed) -> Result<Committed> {
        match due {
            Some(Toxic::Misreported) => Ok(Committed { crc64nvme: Some(Crc64::of(["something else"])), ..made }),
            Some(Toxic::Damaged(at)) => self.alter(bucket, key, at).await,
            _ => Ok(made),
        }
    }

    /// Makes one byte of an object another one.
    async fn alter(&self, bucket: &BucketName, key: &Key, at: u64) -> Result<Committed> {
        let object = ObjectRef::current(bucket.clone(), key.clone());
        let Download { info, body, .. } = self.inner.get(&GetObject { object, range: None, if_match: None }).await?;
        let mut bytes = body.collect().await?.to_vec();
        if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1;
        }
        let (bucket, key, payload) = (bucket.clone(), key.clone(), Payload::from(Bytes::from(bytes)));
        self.inner.put(&PutObject { bucket, key, payload, properties: info.properties, condition: Condition::None }).await
    }
}

fn damaged(operation: Operation) -> Error {
    let error = Error::new(ErrorKind::Corrupt, operation, "the test", "damaged on purpose");
    error.with(|story| story.outcome = Outcome::Damaged)
}

fn broken(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, Operation::GetObject, "the test", message)
}

fn cut(mut body: Body, after: u64) -> Body {
    let mut left = usize::try_from(after).unwrap_or(usize::MAX);
    let mut over = false;
    Body::new(futures_util::stream::poll_fn(move |context| {
        if over {
            return std::task::Poll::Ready(None);
        }
        if left == 0 {
            over = true;
            return std::task::Poll::Ready(Some(Err(broken(ErrorKind::Unavailable, "the body is cut on purpose"))));
        }
        body.poll_next(context).map(|chunk| {
            chunk.map(|chunk| {
                chunk.map(|chunk| {
                    let kept = chunk.slice(..chunk.len().min(left));
                    left -= kept.len();
                    kept
                })
            })
        })
    }))
}

fn altered(mut body: Body) -> Body {
    let mut first = true;
    Body::new(futures_util::stream::poll_fn(move |context| {
        body.poll_next(context).map(|chunk| {
            if std::mem::take(&mut first) {
                return Some(Err(broken(ErrorKind::Corrupt, "a byte is altered on purpose, and the checksum tells")));
            }
            chunk
        })
    }))
}

fn forged(mut body: Body) -> Body {
    let mut first = true;
    Body::new(futures_util::stream::poll_fn(move |context| {
        body.poll_next(context).map(|chunk| {
            if !std::mem::take(&mut first) {
                return chunk;
            }
            chunk.map(|bytes| {
                bytes.map(|bytes| {
                    let mut bytes = bytes.to_vec();
                    bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
                    bytes.into()
                })
            })
        })
    }))
}

impl<S: ObjectStore> ObjectStore for Fault<S> {
    async fn head(&self, request: &HeadObject) -> Result<ObjectInfo> {
        self.call(Operation::HeadObject, self.inner.head(request)).await
    }

    async fn get(&self, request: &GetObject) -> Result<Download> {
        self.get_with(request).await
    }

    async fn list(&self, request: &ListObjects) -> Result<UnreadPage> {
        self.call(Operation::ListObjectsV2, self.inner.list(request)).await
    }

    async fn put(&self, request: &PutObject) -> Result<Committed> {
        let request = PutObject { payload: travelled(&request.payload), ..request.clone() };
        let late = request.clone();
        self.send_late(|inner| async move { inner.put(&late).await });
        let due = self.due();
        let made = self.call(Operation::PutObject, self.inner.put(&request)).await?;
        match due {
            // Whoever computes the checksum compares it, and that is nobody here.
            Some(Toxic::Misreported) => Err(damaged(Operation::PutObject)),
            Some(Toxic::Damaged(at)) => {
                self.alter(&request.bucket, &request.key, at).await?;
                Err(damaged(Operation::PutObject))
            }
            _ => Ok(made),
        }
    }

    async fn delete(&self, request: &DeleteObject) -> Result<()> {
        self.call(Operation::DeleteObject, self.inner.delete(request)).await
    }

    async fn delete_many(&self, bucket: &BucketName, keys: &[DeleteKey]) -> Result<Vec<Result<()>>> {
        self.call(Operation::DeleteObjects, self.inner.delete_many(bucket, keys)).await
    }

    async fn copy(&self, request: &CopyObject) -> Result<Committed> {
        let late = request.clone();
        self.send_late(|inner| async move { inner.copy(&late).await });
        let due = self.due();
        let made = self.call(Operation::CopyObject, self.inner.copy(request)).await?;
        self.reported(due, &request.bucket, &request.key, made).await
    }

    async fn create_upload(&self, request: &CreateUpload) -> Result<Upload> {
        self.call(Operation::CreateMultipartUpload, self.inner.create_upload(request)).await
    }

    async fn upload_part(&self, request: &UploadPart) -> Result<Part> {
        let request = UploadPart { payload: travelled(&request.payload), ..request.clone() };
        self.call(Operation::UploadPart, self.inner.upload_part(&request)).await
    }

    async fn copy_part(&self, request: &CopyPart) -> Result<Part> {
        self.call(Operation::UploadPartCopy, self.inner.copy_part(request)).await
    }

    async fn complete_upload(&self, request: &CompleteUpload) -> Result<Committed> {
        let late = request.clone();
        self.send_late(|inner| async move { inner.complete_upload(&late).await });
        let due = self.due();
        let made = self.call(Operation::CompleteMultipartUpload, self.inner.complete_upload(request)).await?;
        self.reported(due, &request.upload.bucket, &request.upload.key, made).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.call(Operation::AbortMultipartUpload, self.inner.abort_upload(upload)).await
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.call(Operation::ListParts, self.inner.list_parts(upload)).await
    }

    async fn list_uploads(&self, bucket: &BucketName, prefix: &Prefix, after: Option<(String, String)>) -> Result<UploadPage> {
        self.call(Operation::ListMultipartUploads, self.inner.list_uploads(bucket, prefix, after)).await
    }
}

impl<S: BucketService> BucketService for Fault<S> {
    async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        self.call(Operation::ListBuckets, self.inner.list_buckets()).await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo> {
        self.call(Operation::HeadBucket, self.inner.head_bucket(bucket)).await
    }

    async fn location(&self, bucket: &BucketName) -> Result<String> {
        self.call(Operation::GetBucketLocation, self.inner.location(bucket)).await
    }

    async fn create_bucket(&self, bucket: &BucketName, new: NewBucket<'_>) -> Result<()> {
        self.call(Operation::CreateBucket, self.inner.create_bucket(bucket, new)).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        self.call(Operation::DeleteBucket, self.inner.delete_bucket(bucket)).await
    }

    async fn restore(&self, request: &RestoreObject) -> Result<()> {
        self.call(Operation::RestoreObject, self.inner.restore(request)).await
    }

    async fn list_versions(&self, object: &ObjectRef) -> Result<Vec<ObjectVersion>> {
        self.call(Operation::ListObjectVersions, self.inner.list_versions(object)).await
    }

    async fn presign(&self, object: &ObjectRef, valid: Duration) -> Result<String> {
        self.inner.presign(object, valid).await
    }

    async fn get_document(&self, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
        let operation = operation(subresource, Verb::Get, resource);
        self.call(operation, self.inner.get_document(resource, subresource)).await
    }

    async fn put_document(&self, resource: &Resource, document: &Document) -> Result<()> {
        let operation = operation(document.subresource(), Verb::Put, resource);
        self.call(operation, self.inner.put_document(resource, document)).await
    }

    async fn delete_document(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        let operation = operation(subresource, Verb::Delete, resource);
        self.call(operation, self.inner.delete_document(resource, subresource)).await
    }

    fn report(&self) -> Report {
        self.inner.report()
    }
}
