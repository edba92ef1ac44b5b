//! The body of a PUT: collected in the chunks it came in, and every checksum that came with it verified.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::HeaderMap;
use md5::Digest as _;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders};

use super::convert::invalid;
use crate::base::encode;
use crate::store::memory::{Checksums, Data};
use crate::store::{MAX_PART_BYTES, Payload};

/// Chunks smaller than this are gathered, in bytes: a `Bytes` of its own would cost more than the copy.
const SMALL_CHUNK_BYTES: usize = 16 << 10;
/// How much is gathered before it becomes a chunk, in bytes.
const GATHER_BYTES: usize = 128 << 10;
/// What stands for bytes that are dropped: one block, named again and again.
static BLANK: [u8; 1 << 20] = [0; 1 << 20];

const CRC64NVME: &str = "crc64nvme";
const ALGORITHMS: [&str; 5] = ["crc32", "crc32c", CRC64NVME, "sha1", "sha256"];

/// What arrived.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) payload: Payload,
    /// CRC64NVME and those that were sent.
    pub(super) checksums: Checksums,
}

/// Where the body and its checksums are in a request.
pub(super) struct Delivery<'a> {
    pub(super) body: Option<StreamingBlob>,
    pub(super) headers: &'a HeaderMap,
    pub(super) trailers: Option<TrailingHeaders>,
}

impl Delivery<'_> {
    /// Reads it all.
    pub(super) async fn receive(self, data: Data) -> S3Result<Received> {
        let length = self.declared_length()?;
        if length.is_some_and(|length| length > MAX_PART_BYTES) {
            let message = "Your proposed upload exceeds the maximum allowed size";
            return Err(S3Error::with_message(S3ErrorCode::EntityTooLarge, message));
        }
        let mut sums = Sums::new(&self);
        let mut pile = Pile::new(data);
        let mut body = self.body;
        while let Some(chunk) = next(body.as_mut()).await {
            let chunk = chunk.map_err(|error| broken(&error))?;
            sums.update(&chunk);
            pile.push(chunk);
        }
        let payload = pile.finish();
        if length.is_some_and(|length| length != payload.len()) {
            let message = "You did not provide the number of bytes specified by the Content-Length HTTP header.";
            return Err(S3Error::with_message(S3ErrorCode::IncompleteBody, message));
        }
        let trailers = self.trailers.and_then(|trailers| trailers.take()).unwrap_or_default();
        let checksums = sums.verify(&[self.headers, &trailers])?;
        Ok(Received { payload, checksums })
    }

    /// The number of bytes of the object, framing not counted.
    fn declared_length(&self) -> S3Result<Option<u64>> {
        let decoded = self.headers.get("x-amz-decoded-content-length");
        let length = decoded.or_else(|| self.headers.get(http::header::CONTENT_LENGTH));
        let number = |value: &http::HeaderValue| value.to_str().ok()?.parse().ok();
        length.map(|value| number(value).ok_or_else(|| invalid("A length is not a number."))).transpose()
    }
}

async fn next(body: Option<&mut StreamingBlob>) -> Option<Result<Bytes, StdError>> {
    match body {
        Some(body) => body.next().await,
        None => None,
    }
}

/// What a body's error is to the client.
fn broken(error: &StdError) -> S3Error {
    // The verifying streams of `s3s` have no public type; what is not the connection's is theirs.
    if error.is::<hyper::Error>() {
        return S3Error::with_message(S3ErrorCode::IncompleteBody, "The connection ended within the body.");
    }
    let mut answer = S3Error::with_message(
        S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
        format!("The provided 'x-amz-content-sha256' header or chunk does not match what was computed: {error}"),
    );
    answer.set_status_code(http::StatusCode::BAD_REQUEST);
    answer
}

/// The chunks so far.
struct Pile {
    data: Data,
    chunks: Vec<Bytes>,
    small: BytesMut,
    dropped: u64,
}

impl Pile {
    const fn new_of(data: Data, small: BytesMut) -> Self {
        Self { data, chunks: Vec::new(), small, dropped: 0 }
    }

    fn new(data: Data) -> Self {
        Self::new_of(data, BytesMut::new())
    }

    fn push(&mut self, chunk: Bytes) {
        if self.data == Data::Synthetic {
            self.dropped += chunk.len() as u64;
            return;
        }
        if chunk.len() >= SMALL_CHUNK_BYTES {
            self.flush();
            self.chunks.push(chunk);
            return;
        }
        self.small.extend_from_slice(&chunk);
        if self.small.len() >= GATHER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }

    fn finish(mut self) -> Payload {
        self.flush();
        while self.dropped > 0 {
            let len = self.dropped.min(BLANK.len() as u64);
            self.chunks.push(Bytes::from_static(&BLANK[..len as usize]));
            self.dropped -= len;
        }
        Payload::new(self.chunks)
    }
}

/// The checksums as they are computed.
struct Sums {
    hasher: ChecksumHasher,
    md5: Option<md5::Md5>,
}

impl Sums {
    /// Those that were or will be sent, and CRC64NVME.
    fn new(delivery: &Delivery<'_>) -> Self {
        let trailers: Vec<&str> =
            delivery.headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok()).collect();
        let sent = |algorithm: &str| {
            let name = header_name(algorithm);
            delivery.headers.contains_key(&name) || trailers.iter().any(|list| list.split(',').any(|one| one.trim() == name))
        };
        let hasher = ChecksumHasher {
            crc32: sent("crc32").then(Default::default),
            crc32c: sent("crc32c").then(Default::default),
            sha1: sent("sha1").then(s3s::crypto::Checksum::new),
            sha256: sent("sha256").then(s3s::crypto::Checksum::new),
            crc64nvme: Some(Default::default()),
        };
        let md5 = delivery.headers.contains_key("content-md5").then(md5::Md5::new);
        Self { hasher, md5 }
    }

    fn update(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        if let Some(md5) = &mut self.md5 {
            md5.update(chunk);
        }
    }

    /// Compares with what was sent in any of `places`.
    fn verify(self, places: &[&HeaderMap]) -> S3Result<Checksums> {
        let sent = |name: &str| places.iter().find_map(|headers| headers.get(name));
        if let Some(md5) = self.md5 {
            let computed = encode::base64(&md5.finalize());
            if sent("content-md5").is_some_and(|value| value.as_bytes() != computed.as_bytes()) {
                let message = "The Content-MD5 you specified did not match what we received.";
                return Err(S3Error::with_message(S3ErrorCode::BadDigest, message));
            }
        }
        let computed = table(self.hasher.finalize());
        for (algorithm, value) in &computed {
            if sent(&header_name(algorithm)).is_some_and(|sent| sent.as_bytes() != value.as_bytes()) {
                let message = format!("The {} you specified did not match the calculated checksum.", algorithm.to_uppercase());
                return Err(S3Error::with_message(S3ErrorCode::BadDigest, message));
            }
        }
        Ok(computed)
    }
}

fn header_name(algorithm: &str) -> String {
    format!("x-amz-checksum-{algorithm}")
}

fn table(sums: Checksum) -> Checksums {
    let values = [sums.checksum_crc32, sums.checksum_crc32c, sums.checksum_crc64nvme, sums.checksum_sha1, sums.checksum_sha256];
    ALGORITHMS.into_iter().zip(values).filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The checksums as answers carry them.
pub(super) fn answer(checksums: &Checksums) -> Checksum {
    let get = |algorithm: &str| checksums.get(algorithm).cloned();
    Checksum {
        checksum_crc32: get("crc32"),
        checksum_crc32c: get("crc32c"),
        checksum_crc64nvme: get(CRC64NVME),
        checksum_sha1: get("sha1"),
        checksum_sha256: get("sha256"),
        checksum_type: None,
    }
}
