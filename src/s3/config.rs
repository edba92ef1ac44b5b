//! What a client is configured with.

use std::path::PathBuf;
use std::time::Duration;

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// AWS: in the host, unless the name has a dot; elsewhere: in the path.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    VirtualHost,
}

/// Whether the signature covers the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadSigning {
    /// A checksum header in place of a signed hash, once the store has shown that it verifies checksums.
    #[default]
    Auto,
    /// Always a signed SHA-256.
    Always,
}

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CredentialsSource {
    /// The AWS chain: environment, profiles, SSO, web identity, container, instance.
    #[default]
    Chain,
    /// One profile of the AWS files.
    Profile(String),
    /// A file of `KEY:SECRET`, or of a profile's lines.
    File(PathBuf),
    /// None: requests are not signed.
    Anonymous,
}

/// How long one attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until the answer's headers, beside the time that sending takes at [`SLOWEST_UPLOAD_BYTES_PER_S`].
    pub headers: Duration,
    /// As `headers`, where the store has up to 5 GiB to copy before it answers.
    pub copy: Duration,
    /// Between two chunks of a body.
    pub idle: Duration,
}

/// A body is given this much time for its way, in bytes a second: a part of 8 MiB gets 64 s more.
pub const SLOWEST_UPLOAD_BYTES_PER_S: u64 = 128 << 10;

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(3), headers: seconds(30), copy: seconds(300), idle: seconds(20) }
    }
}

/// A client's settings.
#[derive(Debug, Clone, Default)]
pub struct S3Config {
    /// `http://host:port` or `https://host`; `None` is AWS in `region`.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// How buckets are named.
    pub addressing: Addressing,
    /// Where credentials come from.
    pub credentials: CredentialsSource,
    /// Whether payloads are signed.
    pub payload_signing: PayloadSigning,
    /// `x-amz-request-payer: requester`
    pub requester_pays: bool,
    /// `x-amz-expected-bucket-owner`
    pub expected_bucket_owner: Option<String>,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Deadlines.
    pub timeouts: Timeouts,
}
