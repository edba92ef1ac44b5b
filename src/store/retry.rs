//! Repeats what may be repeated: with jitter, within a deadline, never a change whose outcome is unknown.
//!
//! A GET whose body breaks off goes on at the missing byte, pinned to the tag it began with. A conditional change that was
//! sent and not answered is *not* repeated here: the caller looks first (see `data::write::commit`).

#![deny(clippy::missing_trait_methods)]

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::base::{clock, rng::Rng};

/// A body that brings this much gets on, in bytes: the kernel's largest request. One that trickles ends at the deadline.
const PROGRESS_BYTES: u64 = 1 << 20;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// No new attempt begins after this time.
    pub deadline: Duration,
    /// The longest wait before the second attempt; it doubles from there.
    pub first_pause: Duration,
    /// The longest wait of all.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    /// Rides out a store's restart of some seconds, and gives up before a person does.
    fn default() -> Self {
        Self {
            attempts: 10,
            deadline: Duration::from_secs(40),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// One attempt only.
    #[must_use]
    pub fn once() -> Self {
        Self { attempts: 1, ..Self::default() }
    }
}

/// When a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Sending it twice does what sending it once does.
    Always,
    /// The same, and what it brings is small: further attempts end at the deadline, since somebody waits.
    Shortly,
    /// As that; but a 500 that comes again and again is the answer: moto has no other for the list of what was uploaded in parts.
    Briefly,
    /// Only when the store definitely did not carry it out.
    IfNotApplied,
}

/// So often a 500 is asked for again where it may be the answer.
const BRIEF_ATTEMPTS: u32 = 4;

fn again(condition: &Condition) -> Again {
    if *condition == Condition::None { Again::Always } else { Again::IfNotApplied }
}

/// A store that repeats failed requests.
#[derive(Debug, Clone)]
pub struct Retry<S> {
    inner: S,
    policy: RetryPolicy,
    rng: Arc<Mutex<Rng>>,
}

impl<S> Retry<S> {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: S, policy: RetryPolicy, rng: Rng) -> Self {
        Self { inner, policy, rng: Arc::new(Mutex::new(rng)) }
    }

    async fn attempt<T, F>(&self, again: Again, mut call: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut series = Series::new(self.policy);
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let last = self.pause_or_give_up(&mut series, again, error).await?;
            if matches!(again, Again::Shortly | Again::Briefly) {
                // What reads may be left: a store that is silent is not waited for a second whole time.
                return self.attempt_until(&mut series, again, last, call).await;
            }
        }
    }

    /// The further attempts of what changes nothing: each ends at the deadline.
    async fn attempt_until<T, F>(
        &self,
        series: &mut Series,
        again: Again,
        mut last: Error,
        mut call: impl FnMut() -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        loop {
            last = match clock::deadline(series.left(), call()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => self.pause_or_give_up(series, again, error).await?,
                Err(_) => return Err(last.with(|story| story.attempts = series.attempts + 1)),
            };
        }
    }

    /// Waits before the next attempt and gives the error back, or fails with it when there is none.
    async fn pause_or_give_up(&self, series: &mut Series, again: Again, error: Error) -> Result<Error> {
        series.attempts += 1;
        let pause = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            series.next_pause(again, &error, &mut rng)
        };
        match pause {
            Some(pause) => {
                tracing::debug!(%error, pause_ms = pause.as_millis(), "will be repeated");
                clock::sleep(pause).await;
                Ok(error)
            }
            None => Err(error.with(|story| story.attempts = story.attempts.max(series.attempts))),
        }
    }
}

/// The attempts of one request so far.
#[derive(Debug)]
struct Series {
    policy: RetryPolicy,
    begun: Instant,
    attempts: u32,
}

impl Series {
    fn new(policy: RetryPolicy) -> Self {
        Self { policy, begun: clock::instant(), attempts: 0 }
    }

    /// The time until the deadline.
    fn left(&self) -> Duration {
        self.policy.deadline.saturating_sub(clock::instant().duration_since(self.begun))
    }

    fn next_pause(&self, again: Again, error: &Error, rng: &mut Rng) -> Option<Duration> {
        let passing = matches!(
            error.kind(),
            ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Unreachable | ErrorKind::Corrupt
        );
        let allowed = again != Again::IfNotApplied || error.outcome() == Outcome::NotApplied;
        // Bytes that were wrong on the way may be right the next time. Parts that the store has do not change by themselves.
        let lasting = error.kind() == ErrorKind::Corrupt && error.story().operation == Operation::CompleteMultipartUpload;
        let allowed = allowed && !lasting && error.outcome() != Outcome::Damaged;
        let brief = again == Again::Briefly && error.story().status == Some(500);
        let most = if brief { self.policy.attempts.min(BRIEF_ATTEMPTS) } else { self.policy.attempts };
        if !passing || !allowed || self.attempts >= most {
            return None;
        }
        // Half of it by chance: clients that failed together do not come back together, and none of them at once.
        let ceiling = self.policy.first_pause.saturating_mul(1 << (self.attempts - 1).min(16)).min(self.policy.longest_pause);
        let half = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX) / 2;
        let jitter = Duration::from_millis(half + rng.below(half.max(1)));
        let asked = error.story().retry_after_s.map_or(Duration::ZERO, Duration::from_secs).min(self.policy.longest_pause);
        let pause = jitter.max(asked);
        (clock::instant().duration_since(self.begun) + pause < self.policy.deadline).then_some(pause)
    }
}

impl<S: ObjectStore> Retry<S> {
    async fn get_resuming(&self, request: &GetObject) -> Result<Download> {
        let Download { info, range, body } = self.attempt(Again::Shortly, || self.inner.get(request)).await?;
        let Some(whole) = range else { return Ok(Download { info, range, body }) };
        let resumed = Resumed {
            retry: self.clone(),
            // Pinned: what follows the break must be of the same object.
            request: GetObject { if_match: Some(info.etag.clone()), ..request.clone() },
            start: whole.start(),
            next: whole.start(),
            end: whole.end(),
            body: Some(body),
            series: Series::new(self.policy),
            progress: 0,
        };
        let stream = futures_util::stream::unfold(resumed, |mut resumed| async move {
            let chunk = resumed.next().await?;
            Some((chunk, resumed))
        });
        Ok(Download { info, range, body: Body::new(stream) })
    }
}

/// A body that goes on after a break.
struct Resumed<S> {
    retry: Retry<S>,
    request: GetObject,
    start: u64,
    next: u64,
    end: u64,
    body: Option<Body>,
    series: Series,
    /// Bytes that came in this series.
    progress: u64,
}

impl<S: ObjectStore> Resumed<S> {
    async fn next(&mut self) -> Option<Result<bytes::Bytes>> {
        loop {
            let rest = ByteRange::new(self.next, self.end)?;
            let step = match &mut self.body {
                Some(body) => body.next().await,
                None => {
                    self.request.range = Some(rest);
                    match self.retry.inner.get(&self.request).await {
                        Ok(download) => {
                            self.body = Some(download.body);
                            continue;
                        }
                        Err(error) => Some(Err(error)),
                    }
                }
            };
            let error = match step {
                Some(Ok(chunk)) => {
                    self.next += chunk.len() as u64;
                    self.progress += chunk.len() as u64;
                    if self.progress >= PROGRESS_BYTES {
                        // A long body may break many times, as long as it gets on.
                        self.series = Series::new(self.retry.policy);
                        self.progress = 0;
                    }
                    return Some(Ok(chunk));
                }
                Some(Err(error)) => error,
                None => Error::new(ErrorKind::Unavailable, Operation::GetObject, &self.request.object, "the body ended early"),
            };
            self.body = None;
            if error.kind() == ErrorKind::Corrupt && self.next > self.start {
                // Some of the wrong bytes have been given out already: going on behind them would hide it.
                self.end = self.next;
                return Some(Err(error));
            }
            if let Err(error) = self.retry.pause_or_give_up(&mut self.series, Again::Always, error).await {
                self.end = self.next;
                return Some(Err(error));
            }
        }
    }
}

impl<S: ObjectStore> ObjectStore for Retry<S> {
    async fn head(&self, request: &HeadObject) -> Result<ObjectInfo> {
        self.attempt(Again::Shortly, || self.inner.head(request)).await
    }

    async fn get(&self, request: &GetObject) -> Result<Download> {
        self.get_resuming(request).await
    }

    async fn list(&self, request: &ListObjects) -> Result<UnreadPage> {
        self.attempt(Again::Shortly, || self.inner.list(request)).await
    }

    async fn put(&self, request: &PutObject) -> Result<Committed> {
        self.attempt(again(&request.condition), || self.inner.put(request)).await
    }

    async fn delete(&self, request: &DeleteObject) -> Result<()> {
        self.attempt(again(&request.condition), || self.inner.delete(request)).await
    }

    async fn delete_many(&self, bucket: &BucketName, keys: &[DeleteKey]) -> Result<Vec<Result<()>>> {
        self.attempt(Again::Always, || self.inner.delete_many(bucket, keys)).await
    }

    async fn copy(&self, request: &CopyObject) -> Result<Committed> {
        self.attempt(again(&request.condition), || self.inner.copy(request)).await
    }

    async fn create_upload(&self, request: &CreateUpload) -> Result<Upload> {
        self.attempt(Again::Always, || self.inner.create_upload(request)).await
    }

    async fn upload_part(&self, request: &UploadPart) -> Result<Part> {
        self.attempt(Again::Always, || self.inner.upload_part(request)).await
    }

    async fn copy_part(&self, request: &CopyPart) -> Result<Part> {
        self.attempt(Again::Always, || self.inner.copy_part(request)).await
    }

    async fn complete_upload(&self, request: &CompleteUpload) -> Result<Committed> {
        self.attempt(Again::IfNotApplied, || self.inner.complete_upload(request)).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.attempt(Again::Always, || self.inner.abort_upload(upload)).await
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.attempt(Again::Always, || self.inner.list_parts(upload)).await
    }

    async fn list_uploads(&self, bucket: &BucketName, prefix: &Prefix, after: Option<(String, String)>) -> Result<UploadPage> {
        self.attempt(Again::Always, || self.inner.list_uploads(bucket, prefix, after.clone())).await
    }
}

impl<S: BucketService> BucketService for Retry<S> {
    async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        self.attempt(Again::Shortly, || self.inner.list_buckets()).await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo> {
        self.attempt(Again::Shortly, || self.inner.head_bucket(bucket)).await
    }

    async fn location(&self, bucket: &BucketName) -> Result<String> {
        self.attempt(Again::Always, || self.inner.location(bucket)).await
    }

    async fn create_bucket(&self, bucket: &BucketName, new: NewBucket<'_>) -> Result<()> {
        self.attempt(Again::IfNotApplied, || self.inner.create_bucket(bucket, new)).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        self.attempt(Again::IfNotApplied, || self.inner.delete_bucket(bucket)).await
    }

    async fn restore(&self, request: &RestoreObject) -> Result<()> {
        self.attempt(Again::IfNotApplied, || self.inner.restore(request)).await
    }

    async fn list_versions(&self, object: &ObjectRef) -> Result<Vec<ObjectVersion>> {
        self.attempt(Again::Always, || self.inner.list_versions(object)).await
    }

    async fn presign(&self, object: &ObjectRef, valid: Duration) -> Result<String> {
        self.inner.presign(object, valid).await
    }

    async fn get_document(&self, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
        let again = if subresource == Subresource::Acl { Again::Briefly } else { Again::Shortly };
        self.attempt(again, || self.inner.get_document(resource, subresource)).await
    }

    async fn put_document(&self, resource: &Resource, document: &Document) -> Result<()> {
        self.attempt(Again::Always, || self.inner.put_document(resource, document)).await
    }

    async fn delete_document(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        self.attempt(Again::Always, || self.inner.delete_document(resource, subresource)).await
    }

    fn report(&self) -> Report {
        self.inner.report()
    }
}
