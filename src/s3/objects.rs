//! `ObjectStore` over HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::S3Store;
use super::client::{Answered, Client};
use super::dialect::Known;
use super::received::wrong;
use super::request::{self, Request};
use super::transport::{AnswerBody, TransportError};
use super::{listing, response, xml};
use crate::base::crc::{Crc64, Running};
use crate::store::*;

impl ObjectStore for S3Store {
    async fn head(&self, request: &HeadObject) -> Result<ObjectInfo> {
        let object = &request.object;
        let request = request::head(request);
        let answered = match self.0.call(request.clone()).await {
            // An answer to HEAD has no body that could say what is wrong: expired credentials, for example.
            Err(error) if error.story().status == Some(400) && error.story().code.is_none() => {
                return Err(self.reason(object).await.unwrap_or(error));
            }
            answered => answered?,
        };
        let size = response::text(&answered.headers, "content-length").and_then(|length| length.parse().ok());
        let info = size.and_then(|size| response::object_info(&answered.headers, size));
        self.0.dialect.learn_speaks_s3();
        info.ok_or_else(|| self.0.not_s3(&request))
    }

    async fn get(&self, request: &GetObject) -> Result<Download> {
        let sent = Arc::new(request::get(request));
        let answer = self.0.send(&sent).await?;
        let not_s3 = || self.0.not_s3(&sent);
        let length: u64 =
            response::text(&answer.headers, "content-length").and_then(|text| text.parse().ok()).ok_or_else(not_s3)?;
        let served = response::text(&answer.headers, "content-range").and_then(|value| response::content_range(&value));
        let (range, size) = match (answer.status, served) {
            (206, Some((range, size))) => (Some(range), size),
            // A store that ignores the range sends everything.
            _ => (ByteRange::new(0, length), length),
        };
        let info = response::object_info(&answer.headers, size).ok_or_else(not_s3)?;
        self.0.dialect.learn_speaks_s3();
        if request.if_match.as_ref().is_some_and(|wanted| *wanted != info.etag) {
            return Err(Error::new(ErrorKind::Changed, sent.operation, sent.target(), "the object is another one now"));
        }
        if range.map_or(0, ByteRange::len) != length {
            return Err(not_s3());
        }
        let wanted = request.range.and_then(|wanted| ByteRange::new(wanted.start(), wanted.end().min(size)));
        let misplaced = match (wanted, range) {
            (Some(wanted), Some(range)) => wanted.start() < range.start() || wanted.end() > range.end(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if misplaced || answer.status == 206 && served.is_none() {
            return Err(Error::new(ErrorKind::Corrupt, sent.operation, sent.target(), "the store sent another range"));
        }
        // Where the whole object comes in one answer, so does what its bytes must add up to.
        let composite = response::text(&answer.headers, response::CHECKSUM_TYPE).is_some_and(|kind| kind == "COMPOSITE");
        let expected = response::crc64nvme(&answer.headers).filter(|_| length == size && !composite);
        let sum = expected.map(|expected| (Running::default(), expected));
        let body = Incoming { client: Arc::clone(&self.0), request: sent, body: Some(answer.body), left: length, sum };
        Ok(cut(Download { info, range, body: body.into_body() }, wanted))
    }

    async fn list(&self, request: &ListObjects) -> Result<UnreadPage> {
        let request = request::list(request);
        let answered = self.0.call(request.clone()).await?;
        let (next, client) = (listing::next(&answered.body), Arc::clone(&self.0));
        let told = next.clone();
        let read = move || {
            let page = listing::page(&answered.body).filter(|page| told.is_none() || page.next == told);
            let page = page.ok_or_else(|| client.not_s3(&request))?;
            client.dialect.learn_speaks_s3();
            Ok(page)
        };
        // The last page, or one that says at its end what comes next, is read now.
        if next.is_none() { read().map(UnreadPage::from) } else { Ok(UnreadPage::new(next, read)) }
    }

    async fn put(&self, request: &PutObject) -> Result<Committed> {
        let request = request::put(request);
        let answered = self.call_conditional(request.clone()).await?;
        self.note_checksum(&answered);
        let committed = response::committed(&answered.headers).ok_or_else(|| self.0.not_s3(&request))?;
        self.check_received(&request, &committed.etag, &answered)?;
        Ok(committed)
    }

    async fn delete(&self, request: &DeleteObject) -> Result<()> {
        if request.condition == Condition::IfAbsent {
            return Err(Error::new(ErrorKind::Invalid, Operation::DeleteObject, &request.object, "nothing cannot be deleted"));
        }
        let plain = request.condition == Condition::None;
        match self.call_conditional(request::delete(request)).await {
            Err(error) if plain && error.kind() == ErrorKind::NotFound => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    async fn delete_many(&self, bucket: &BucketName, keys: &[DeleteKey]) -> Result<Vec<Result<()>>> {
        if keys.len() > usize::from(MAX_PAGE_KEYS) {
            return Err(Error::new(ErrorKind::Invalid, Operation::DeleteObjects, bucket, "more than 1,000 keys"));
        }
        // XML 1.0 cannot name all of them.
        let (mut left, odd): (Vec<DeleteKey>, Vec<DeleteKey>) =
            keys.iter().cloned().partition(|one| crate::base::xml::can_hold(one.key.as_str()));
        let mut failed: HashMap<String, Error> = HashMap::new();
        if self.0.dialect.conditions_in(Some(bucket), Operation::DeleteObjects) == Known::Unknown
            && let Some(first) = left.iter().position(|one| one.etag.is_some()).map(|at| left.remove(at))
        {
            match self.learn_batch_condition(bucket, &first).await {
                Ok(Some(gone)) => failed.extend(gone.err().map(|error| (first.key.as_str().to_owned(), error))),
                Ok(None) => left.insert(0, first),
                Err(error) => return Err(error),
            }
        }
        failed.extend(self.delete_batch(bucket, &left).await?);
        for DeleteKey { key, etag } in odd {
            let object = ObjectRef::current(bucket.clone(), key.clone());
            let condition = etag.map_or(Condition::None, Condition::IfMatch);
            match self.delete(&DeleteObject { object: object.clone(), condition }).await {
                Err(error) if error.kind() == ErrorKind::Changed && self.is_absent(&object).await => {}
                answer => failed.extend(answer.err().map(|error| (key.as_str().to_owned(), error))),
            }
        }
        Ok(keys.iter().map(|one| failed.remove(one.key.as_str()).map_or(Ok(()), Err)).collect())
    }

    async fn copy(&self, request: &CopyObject) -> Result<Committed> {
        let sent = request::copy(request);
        if let Some(since) = request.source_unchanged_since.filter(|_| request.source_if_match.is_none()) {
            let answered = self.copy_unchanged(sent.clone(), &request.source, since).await?;
            return copied(&answered).ok_or_else(|| self.0.not_s3(&sent));
        }
        self.check_source(&sent, &request.source, request.source_if_match.as_ref()).await?;
        let answered = match self.learn_source_condition(&sent).await? {
            Some(answered) => answered,
            None => self.call_conditional(sent.clone()).await?,
        };
        copied(&answered).ok_or_else(|| self.0.not_s3(&sent))
    }

    async fn create_upload(&self, request: &CreateUpload) -> Result<Upload> {
        let (sent, answered, declares_checksums) = self.begin_upload(request).await?;
        let id = xml::upload_id(&answered.body).ok_or_else(|| self.0.not_s3(&sent))?;
        Ok(Upload { bucket: request.bucket.clone(), key: request.key.clone(), id, declares_checksums })
    }

    async fn upload_part(&self, request: &UploadPart) -> Result<Part> {
        let sent = request::upload_part(request);
        let answered = self.0.call(sent.clone()).await?;
        let etag = response::text(&answered.headers, "etag").ok_or_else(|| self.0.not_s3(&sent))?;
        let etag = ETag::new(&etag);
        let reported = answered.headers.contains_key(response::CRC64NVME);
        if reported || request.upload.declares_checksums {
            self.0.dialect.learn_checksums(reported);
        }
        let tag_is_md5 = self.check_received(&sent, &etag, &answered)?;
        let crc64nvme = response::crc64nvme(&answered.headers);
        Ok(Part { number: request.number, etag, crc64nvme, tag_is_md5, size: request.payload.len() })
    }

    async fn copy_part(&self, request: &CopyPart) -> Result<Part> {
        let sent = request::copy_part(request);
        self.check_source(&sent, &request.source, request.source_if_match.as_ref()).await?;
        let answered = match self.learn_source_condition(&sent).await? {
            Some(answered) => answered,
            None => self.0.call(sent.clone()).await?,
        };
        let etag = xml::result_etag(&answered.body).ok_or_else(|| self.0.not_s3(&sent))?;
        let crc64nvme = xml::result_crc64nvme(&answered.body);
        Ok(Part { number: request.number, etag, crc64nvme, tag_is_md5: false, size: request.range.len() })
    }

    async fn complete_upload(&self, request: &CompleteUpload) -> Result<Committed> {
        let (sent, answered) = self.complete(request).await?;
        let etag = xml::result_etag(&answered.body).ok_or_else(|| self.0.not_s3(&sent))?;
        if !etag.as_str().is_empty() {
            self.check_composed(request, &sent, &etag)?;
            let crc64nvme = xml::result_crc64nvme(&answered.body);
            return Ok(Committed { crc64nvme, ..response::committed_as(etag, &answered.headers) });
        }
        // radosgw 16 completes without saying under which tag.
        let object = ObjectRef::current(request.upload.bucket.clone(), request.upload.key.clone());
        let info = self.head(&HeadObject { object }).await;
        let info = info.and_then(|info| match self.check_composed(request, &sent, &info.etag) {
            Ok(()) if info.size == request.size() => Ok(info),
            Ok(()) => Err(wrong(&sent, Outcome::Damaged, "the object is not as long as its parts")),
            Err(error) => Err(error),
        });
        // It may be another client's by now: who knows the token can tell.
        let info = info.map_err(|error| error.with(|story| story.outcome = Outcome::Unknown))?;
        Ok(Committed::from(&info))
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.0.call(request::abort(upload)).await.map(|_| ())
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let request = request::list_parts(upload, after.as_deref());
            let answered = self.0.call(request.clone()).await?;
            let (parts, next) = xml::parts_page(&answered.body).ok_or_else(|| self.0.not_s3(&request))?;
            all.extend(parts);
            match next {
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => return Ok(all),
            }
        }
    }

    async fn list_uploads(&self, bucket: &BucketName, prefix: &Prefix, after: Option<(String, String)>) -> Result<UploadPage> {
        // Not encoded: radosgw 16 encodes the keys when asked to, does not say so, and leaves the markers as they are.
        let plain = request::list_uploads(bucket, prefix, after.as_ref(), false);
        let answered = self.0.call(plain).await?;
        if let Some(page) = xml::uploads_page(&answered.body, bucket, false) {
            return Ok(page);
        }
        // XML cannot hold every key.
        let request = request::list_uploads(bucket, prefix, after.as_ref(), true);
        let answered = self.0.call(request.clone()).await?;
        xml::uploads_page(&answered.body, bucket, true).ok_or_else(|| self.0.not_s3(&request))
    }
}

impl S3Store {
    /// Why a request for an object is refused, as a GET of its first byte tells.
    async fn reason(&self, object: &ObjectRef) -> Option<Error> {
        let request = GetObject { object: object.clone(), range: ByteRange::new(0, 1), if_match: None };
        self.0.send(&Arc::new(request::get(&request))).await.err()
    }

    /// Sends one `DeleteObjects`; what it says of the keys that failed.
    pub(super) async fn delete_batch(&self, bucket: &BucketName, keys: &[DeleteKey]) -> Result<HashMap<String, Error>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let ignored = self.0.dialect.conditions_in(Some(bucket), Operation::DeleteObjects) == Known::No;
        // What is not understood is not sent.
        let bare = |one: &DeleteKey| DeleteKey { etag: one.etag.clone().filter(|_| !ignored), ..one.clone() };
        let request = request::delete_many(bucket, &keys.iter().map(bare).collect::<Vec<_>>());
        let answered = self.0.call(request.clone()).await?;
        let failures = xml::delete_failures(&answered.body).ok_or_else(|| self.0.not_s3(&request))?;
        // Gone is gone, by whomever.
        let failures = failures.into_iter().filter(|(_, code, _)| code != "NoSuchKey");
        let failed = failures.map(|(key, code, message)| {
            let kind = match code.as_str() {
                "AccessDenied" => ErrorKind::Denied,
                "PreconditionFailed" | "ConditionalRequestConflict" => ErrorKind::Changed,
                _ => ErrorKind::Unavailable,
            };
            let error = Error::new(kind, Operation::DeleteObjects, format_args!("{bucket}/{key}"), message);
            (key, error.with(|story| story.code = Some(code)))
        });
        Ok(failed.collect())
    }

    async fn is_absent(&self, object: &ObjectRef) -> bool {
        self.head(&HeadObject { object: object.clone() }).await.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// Begins an upload; says whether the store was told, and has repeated, that its parts carry checksums. A store of which
    /// nobody knows is asked by this; one that refuses the word is asked without.
    async fn begin_upload(&self, request: &CreateUpload) -> Result<(Request, Answered, bool)> {
        let checksums = self.0.dialect.checksums();
        if checksums != Known::No {
            let sent = request::create_upload(request, true);
            match self.0.call(sent.clone()).await {
                Ok(answered) => {
                    let repeated = answered.headers.contains_key(response::CHECKSUM_ALGORITHM);
                    if repeated {
                        // Known before the first part is sent: else a whole window of parts is hashed for its signature.
                        self.0.dialect.learn_checksums(true);
                    }
                    return Ok((sent, answered, checksums == Known::Yes || repeated));
                }
                Err(error)
                    if checksums == Known::Unknown && matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported) =>
                {
                    self.0.dialect.learn_checksums(false);
                }
                Err(error) => return Err(error),
            }
        }
        let sent = request::create_upload(request, false);
        let answered = self.0.call(sent.clone()).await?;
        Ok((sent, answered, false))
    }

    /// A store that verifies checksums says so by reporting them.
    fn note_checksum(&self, answered: &Answered) {
        if self.0.dialect.checksums() == Known::Unknown {
            self.0.dialect.learn_checksums(answered.headers.contains_key(response::CRC64NVME));
        }
    }
}

/// What the answer to a copy says of the new object.
fn copied(answered: &Answered) -> Option<Committed> {
    let committed = response::committed_as(xml::result_etag(&answered.body)?, &answered.headers);
    // Exact, where the answer's date may be older than the answer.
    let at = xml::result_time(&answered.body).or(committed.at);
    Some(Committed { at, crc64nvme: xml::result_crc64nvme(&answered.body), ..committed })
}

/// A body that must be exactly as long as was said, and add up to what was said. Its last chunk is given out only when it does.
struct Incoming {
    client: Arc<Client>,
    request: Arc<Request>,
    body: Option<AnswerBody>,
    left: u64,
    /// The checksum so far, and what it must become.
    sum: Option<(Running, Crc64)>,
}

impl Incoming {
    fn into_body(self) -> Body {
        Body::new(futures_util::stream::unfold(self, |mut incoming| async move {
            let chunk = incoming.next().await?;
            Some((chunk, incoming))
        }))
    }

    async fn next(&mut self) -> Option<Result<Bytes>> {
        let body = self.body.as_mut()?;
        let failure = match body.next().await {
            Some(Ok(chunk)) if chunk.len() as u64 <= self.left => {
                self.left -= chunk.len() as u64;
                if self.adds_up(&chunk) {
                    return Some(Ok(chunk));
                }
                self.corrupt("the bytes do not add up to the object's checksum: they were damaged on the way, or in the store")
            }
            Some(Ok(_)) => self.corrupt("the body is longer than was said"),
            Some(Err(error)) => self.client.broken(&self.request, &error),
            None if self.left == 0 => {
                self.body = None;
                return None;
            }
            // As if the connection had broken: it goes on at the missing byte.
            None => self.client.broken(&self.request, &TransportError::Broken("the body ended early".to_owned())),
        };
        self.body = None;
        Some(Err(failure))
    }

    /// Whether the bytes can still be right: only the last of them can show that they are not.
    fn adds_up(&mut self, chunk: &[u8]) -> bool {
        let Some((sum, expected)) = &mut self.sum else { return true };
        sum.update(chunk);
        self.left > 0 || sum.value() == *expected
    }

    fn corrupt(&self, words: &str) -> Error {
        Error::new(ErrorKind::Corrupt, self.request.operation, self.request.target(), words)
    }
}

/// Takes the wanted range out of what was served, where a store has sent more.
fn cut(download: Download, wanted: Option<ByteRange>) -> Download {
    let (Some(wanted), Some(served)) = (wanted, download.range) else { return download };
    if wanted == served || wanted.start() < served.start() || wanted.end() > served.end() {
        return download;
    }
    let start = (download.body, served.start());
    let stream = futures_util::stream::unfold(start, move |(mut body, mut at)| async move {
        while at < wanted.end() {
            let chunk = match body.next().await? {
                Ok(chunk) => chunk,
                Err(error) => return Some((Err(error), (body, wanted.end()))),
            };
            let (from, to) = (at.max(wanted.start()), (at + chunk.len() as u64).min(wanted.end()));
            let begin = at;
            at += chunk.len() as u64;
            if from < to {
                // Both lie within the chunk.
                let slice = usize::try_from(from - begin).unwrap_or(0)..usize::try_from(to - begin).unwrap_or(0);
                return Some((Ok(chunk.slice(slice)), (body, at)));
            }
        }
        None
    });
    Download { range: Some(wanted), body: Body::new(stream), ..download }
}
