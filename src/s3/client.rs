//! One request, addressed, signed, sent, and its answer judged: what every operation has in common.
//!
//! Region redirects are followed and remembered for each bucket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::config::{PayloadSigning, S3Config};
use super::credentials::CredentialsProvider;
use super::dialect::{Dialect, Known};
use super::endpoint::Endpoint;
use super::error::{Refusal, from_refusal, is_reading};
use super::request::{Digests, Request};
use super::response;
use super::sign::{self, ToSign};
use super::transport::{Answer, Transport, TransportError, Wire};
use super::{digest, xml};
use crate::base::{clock, crc::Crc64, date, encode, tasks};
use crate::store::{BucketName, Condition, Error, ErrorKind, Operation, Outcome, Payload, Result};

/// An error document, or any small answer, is at most this long, in bytes.
const MAX_DOCUMENT_BYTES: usize = 16 << 20;
/// How often a request is sent elsewhere because the store says so.
const MAX_REDIRECTS: u32 = 2;
/// Hashing this much or more goes to a thread that may take its time, in bytes.
const LARGE_PAYLOAD_BYTES: u64 = 1 << 20;

/// S3's limit on how long a presigned address is good.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html>
const MAX_PRESIGNED_SECONDS: u64 = 7 * 24 * 3600;

/// What all operations share.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) config: S3Config,
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    pub(super) credentials: CredentialsProvider,
    pub(super) dialect: Dialect,
    pub(super) regions: Mutex<HashMap<BucketName, String>>,
}

/// An answer that is no error, with its body in memory.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Client {
    /// Sends a request whose answer is small.
    pub(super) async fn call(&self, request: Request) -> Result<Answered> {
        let request = Arc::new(request);
        let answer = self.send(&request).await?;
        let headers = answer.headers;
        let body = answer.body.collect(MAX_DOCUMENT_BYTES).await.map_err(|error| self.broken(&request, &error))?;
        // These can carry an error inside a 200.
        let deceptive = matches!(
            request.operation,
            Operation::CopyObject | Operation::UploadPartCopy | Operation::CompleteMultipartUpload | Operation::DeleteObjects
        );
        if deceptive && let Some(document) = xml::error_document(&body) {
            return Err(self.refused(&request, 500, &headers, Some(document)));
        }
        Ok(Answered { headers, body })
    }

    /// Sends a request; an error status has become an error.
    pub(super) async fn send(&self, request: &Arc<Request>) -> Result<Answer> {
        for _ in 0..MAX_REDIRECTS {
            let region = self.region_of(request.bucket.as_ref());
            let answer = self.send_to(request, &region).await?;
            if (200..300).contains(&answer.status) {
                return Ok(answer);
            }
            let (status, headers) = (answer.status, answer.headers);
            // A body that breaks off or is no XML leaves the status to judge by.
            let body = answer.body.collect(MAX_DOCUMENT_BYTES).await.unwrap_or_default();
            let document = xml::error_document(&body);
            let told = response::text(&headers, "x-amz-bucket-region");
            let told = told.or_else(|| document.as_ref().and_then(|document| document.region.clone()));
            match told {
                Some(told) if matches!(status, 301 | 307 | 400) && told != region => {
                    self.remember_region(request.bucket.as_ref(), told)
                }
                _ => return Err(self.refused(request, status, &headers, document)),
            }
        }
        Err(Error::new(
            ErrorKind::Invalid,
            request.operation,
            request.target(),
            "the store sends the request from region to region",
        ))
    }

    async fn send_to(&self, request: &Arc<Request>, region: &str) -> Result<Answer> {
        let place = self.endpoint.place(request.bucket.as_ref(), request.key.as_ref(), Some(region));
        let query = sign::canonical_query(&request.query);
        let path_and_query = if query.is_empty() { place.path.clone() } else { format!("{}?{query}", place.path) };
        let unsendable = |why: &str| Error::new(ErrorKind::Invalid, request.operation, request.target(), why);
        let mut headers = request.headers.clone();
        self.add_payload_headers(request, &mut headers).await;
        self.add_account_headers(&mut headers);
        if request.payload.is_empty() && matches!(request.method, "PUT" | "POST") {
            // An empty body would go out without its length, and radosgw wants one.
            headers.push(("content-length".to_owned(), "0".to_owned()));
        }
        match &request.condition {
            Condition::None => {}
            Condition::IfAbsent => headers.push(("if-none-match".to_owned(), "*".to_owned())),
            Condition::IfMatch(etag) if self.dialect.bare_etags() => {
                headers.push(("if-match".to_owned(), etag.as_str().to_owned()))
            }
            Condition::IfMatch(etag) => headers.push(("if-match".to_owned(), etag.quoted())),
        }
        self.sign(request, region, &place.authority, &place.path, &mut headers).await?;
        let mut map = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers.into_iter().filter(|(name, _)| name != "host") {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable("a metadata name is no HTTP header"))?;
            let value = HeaderValue::from_str(&value).map_err(|_| unsendable("a value cannot travel in an HTTP header"))?;
            map.append(name, value);
        }
        let payload = request.payload.clone();
        let wire = Wire {
            method: request.method,
            scheme: place.scheme,
            authority: place.authority,
            path_and_query,
            headers: map,
            payload,
            patience: self.patience(request.operation),
        };
        self.transport.send(wire).await.map_err(|error| self.broken(request, &error))
    }

    /// A checksum for what carries bytes; a signed hash until the store has shown that it verifies the checksum.
    async fn add_payload_headers(&self, request: &Arc<Request>, headers: &mut Vec<(String, String)>) {
        if request.digests.get().is_none() {
            let compute = self.digests(request);
            let large = request.payload.len() >= LARGE_PAYLOAD_BYTES;
            let digests = if large { tasks::blocking(compute).await } else { compute() };
            // Nobody else sends the same request at the same time.
            let _ = request.digests.set(digests);
        }
        let Some(digests) = request.digests.get() else { return };
        headers.extend(digests.crc64nvme.map(|sum| (response::CRC64NVME.to_owned(), sum.to_string())));
        headers.extend(digests.md5.map(|md5| ("content-md5".to_owned(), encode::base64(&md5))));
        headers.push(("x-amz-content-sha256".to_owned(), digests.hash.clone()));
    }

    /// What computes the one checksum that the store is known to verify, or all that it may.
    fn digests(&self, request: &Request) -> impl FnOnce() -> Digests + Send + 'static {
        let carries_bytes = matches!(request.operation, Operation::PutObject | Operation::UploadPart);
        let (checksums, md5_tags) = (self.dialect.checksums(), self.dialect.md5_tags(request.bucket.as_ref()));
        let with_checksum = carries_bytes && checksums != Known::No;
        // Where nothing better is taken, the tag in the answer shows that the store has got the bytes of this MD5.
        let by_md5 = carries_bytes && checksums == Known::No && md5_tags != Known::No;
        let verified = with_checksum && checksums == Known::Yes || by_md5 && md5_tags == Known::Yes;
        let trusted = verified && self.config.payload_signing == PayloadSigning::Auto;
        // S3 takes no locked object without this header, and moto no copy that is to be locked.
        let with_md5 = by_md5 || request.is_locked();
        let payload = request.payload.clone();
        move || Digests {
            crc64nvme: with_checksum.then(|| Crc64::of(payload.chunks())),
            md5: with_md5.then(|| digest::payload_md5(&payload)),
            hash: if trusted { sign::UNSIGNED_PAYLOAD.to_owned() } else { sha256(&payload) },
        }
    }

    /// How long the store may work on a request: it copies bytes for some.
    const fn patience(&self, operation: Operation) -> Duration {
        match operation {
            Operation::CopyObject | Operation::UploadPartCopy | Operation::CompleteMultipartUpload => self.config.timeouts.copy,
            _ => self.config.timeouts.headers,
        }
    }

    fn add_account_headers(&self, headers: &mut Vec<(String, String)>) {
        if self.config.requester_pays {
            headers.push(("x-amz-request-payer".to_owned(), "requester".to_owned()));
        }
        if let Some(owner) = &self.config.expected_bucket_owner {
            headers.push(("x-amz-expected-bucket-owner".to_owned(), owner.clone()));
        }
    }

    async fn sign(
        &self,
        request: &Request,
        region: &str,
        authority: &str,
        path: &str,
        headers: &mut Vec<(String, String)>,
    ) -> Result<()> {
        let refuse = |why: String| Error::new(ErrorKind::Rejected, request.operation, request.target(), why);
        let Some(credentials) = self.credentials.get().await.map_err(|error| refuse(error.to_string()))? else { return Ok(()) };
        let now = clock::now();
        headers.push(("host".to_owned(), authority.to_owned()));
        headers.push(("x-amz-date".to_owned(), date::compact(now)));
        if let Some(token) = &credentials.session_token {
            headers.push(("x-amz-security-token".to_owned(), token.clone()));
        }
        let hash =
            headers.iter().find(|(name, _)| name == "x-amz-content-sha256").map(|(_, hash)| hash.clone()).unwrap_or_default();
        let to_sign = ToSign { method: request.method, path, query: &request.query, headers, payload_hash: &hash };
        let authorization = sign::authorization(&to_sign, &credentials, region, now);
        headers.push(("authorization".to_owned(), authorization));
        Ok(())
    }

    /// The address of a GET that anybody may send for a while.
    pub(super) async fn presigned(&self, request: &Request, valid: Duration) -> Result<String> {
        let region = self.region_of(request.bucket.as_ref());
        let place = self.endpoint.place(request.bucket.as_ref(), request.key.as_ref(), Some(&region));
        let refuse = |kind, why: &str| Error::new(kind, request.operation, request.target(), why);
        if !(1..=MAX_PRESIGNED_SECONDS).contains(&valid.as_secs()) {
            return Err(refuse(ErrorKind::Invalid, "a presigned address is good for 1 second to 7 days"));
        }
        let credentials = self.credentials.get().await.map_err(|error| refuse(ErrorKind::Rejected, &error.to_string()))?;
        let nothing = || refuse(ErrorKind::Rejected, "an anonymous mount has nothing to sign with");
        let credentials = credentials.ok_or_else(nothing)?;
        let mut query = request.query.clone();
        if self.config.requester_pays {
            query.push(("x-amz-request-payer".to_owned(), "requester".to_owned()));
        }
        let get = sign::Presigned { host: &place.authority, path: &place.path, query: &query, valid };
        let query = sign::presigned_query(&get, &credentials, &region, clock::now());
        Ok(format!("{}://{}{}?{query}", place.scheme, place.authority, place.path))
    }

    fn region_of(&self, bucket: Option<&BucketName>) -> String {
        let regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.and_then(|bucket| regions.get(bucket).cloned()).unwrap_or_else(|| self.config.region.clone())
    }

    pub(super) fn remember_region(&self, bucket: Option<&BucketName>, region: String) {
        if let Some(bucket) = bucket {
            self.regions.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket.clone(), region);
        }
    }

    /// The error for an answer that is one.
    fn refused(&self, request: &Request, status: u16, headers: &HeaderMap, document: Option<xml::ErrorDocument>) -> Error {
        let is_s3 = headers.keys().any(|name| name.as_str().starts_with("x-amz-")) || document.is_some();
        if is_s3 {
            self.dialect.learn_speaks_s3();
        }
        from_refusal(Refusal {
            operation: request.operation,
            target: &request.target(),
            status,
            document,
            is_s3: is_s3 || self.dialect.speaks_s3(),
            request_id: response::text(headers, "x-amz-request-id"),
            retry_after_s: response::text(headers, "retry-after").and_then(|value| value.trim().parse().ok()),
            wanted_absence: request.condition == Condition::IfAbsent,
            wanted_match: matches!(request.condition, Condition::IfMatch(_)) || request.source_etag.is_some(),
            has_key: request.key.is_some(),
        })
    }

    /// The error for an answer that did not come, or not whole.
    pub(super) fn broken(&self, request: &Request, error: &TransportError) -> Error {
        let (kind, sent) = match error {
            TransportError::Unreachable(_) => (ErrorKind::Unreachable, false),
            TransportError::TimedOut(_) => (ErrorKind::TimedOut, true),
            TransportError::Broken(_) => (ErrorKind::Unavailable, true),
            TransportError::Unsendable(_) => (ErrorKind::Invalid, false),
        };
        Error::new(kind, request.operation, request.target(), error.to_string()).with(|story| {
            if sent && !is_reading(request.operation) {
                story.outcome = Outcome::Unknown;
            }
            story.source = Some(Box::new(error.clone()));
        })
    }

    /// The error for an answer that says nothing S3 would say.
    pub(super) fn not_s3(&self, request: &Request) -> Error {
        let outcome = if is_reading(request.operation) { Outcome::NotApplied } else { Outcome::Unknown };
        Error::new(ErrorKind::NotS3, request.operation, request.target(), "the answer is not that of an S3 store")
            .with(|story| story.outcome = outcome)
    }
}

fn sha256(payload: &Payload) -> String {
    sign::sha256_hex(payload.chunks().iter().map(|chunk| &chunk[..]))
}
