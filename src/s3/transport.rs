//! HTTP: one request out, one answer in. The only home of reqwest, and of hyper-util for the few keys that reqwest's URL type
//! would change.
//!
//! The `url` crate resolves dot segments even when they are percent-encoded, and turns `\` into `/`: `/bucket/%2e%2e/other`
//! would become another bucket. So a request whose final path is not the signed one never goes through reqwest; it takes a
//! second, minimal client that sends the path as it is.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client as PlainClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::config::{S3Config, SLOWEST_UPLOAD_BYTES_PER_S, Timeouts};
use crate::base::clock;
use crate::store::Payload;

/// Connections kept open to one host when nothing is under way.
const MAX_IDLE_CONNECTIONS: usize = 64;
/// An idle connection is closed after this time: before most servers do it.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// A request that is addressed and signed.
#[derive(Debug)]
pub struct Wire {
    /// The method.
    pub method: &'static str,
    /// `http` or `https`.
    pub scheme: String,
    /// The host.
    pub authority: String,
    /// Path and query as they were signed.
    pub path_and_query: String,
    /// All headers but `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Payload,
    /// How long the store may work on it before it answers.
    pub patience: Duration,
}

/// An answer; its body follows.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: AnswerBody,
}

/// The body of an answer, with a deadline between two chunks.
pub struct AnswerBody {
    chunks: Pin<Box<dyn futures_util::Stream<Item = Result<Bytes, TransportError>> + Send>>,
    idle: Duration,
}

impl AnswerBody {
    /// The next chunk.
    pub async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        match clock::deadline(self.idle, self.chunks.next()).await {
            Ok(chunk) => chunk,
            Err(late) => Some(Err(TransportError::TimedOut(late.to_string()))),
        }
    }

    /// The whole body, as far as `limit` bytes.
    ///
    /// # Errors
    /// The first failure of the transfer.
    pub async fn collect(mut self, limit: usize) -> Result<Vec<u8>, TransportError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk?);
            if all.len() > limit {
                return Err(TransportError::Broken(format!("the answer is longer than {limit} bytes")));
            }
        }
        Ok(all)
    }
}

/// Why there was no (whole) answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// No connection: the request was never sent.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The request was sent, as far as anybody knows, and no answer came in time.
    #[error("no answer: {0}")]
    TimedOut(String),
    /// The connection broke on the way.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The request could not be formed.
    #[error("{0}")]
    Unsendable(String),
}

/// The client cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TransportSetup(String);

type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

/// Connections to the store.
#[derive(Debug, Clone)]
pub struct Transport {
    usual: reqwest::Client,
    verbatim: PlainClient<Connector, PayloadBody>,
    timeouts: Timeouts,
}

impl Transport {
    /// A client with the configuration's deadlines and certificates.
    ///
    /// # Errors
    /// [`TransportSetup`] for a CA bundle that cannot be used.
    pub fn new(config: &S3Config) -> Result<Self, TransportSetup> {
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(config.timeouts.connect)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_CONNECTION);
        if let Some(path) = &config.ca_bundle {
            let refuse = |why: String| TransportSetup(format!("CA bundle '{}': {why}", path.display()));
            let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| refuse(error.to_string()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let usual = builder.build().map_err(|error| TransportSetup(format!("no HTTP client: {}", deepest(&error))))?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(config.timeouts.connect));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| TransportSetup(format!("no certificates: {error}")))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let verbatim = PlainClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_CONNECTION).build(connector);
        Ok(Self { usual, verbatim, timeouts: config.timeouts })
    }

    /// Sends a request and waits for the answer's headers.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn send(&self, wire: Wire) -> Result<Answer, TransportError> {
        let sending = Duration::from_secs(wire.payload.len() / SLOWEST_UPLOAD_BYTES_PER_S);
        let limit = wire.patience + sending;
        let url = format!("{}://{}{}", wire.scheme, wire.authority, wire.path_and_query);
        let parsed = reqwest::Url::parse(&url).ok().filter(|parsed| path_and_query(parsed) == wire.path_and_query);
        let answer = match parsed {
            Some(parsed) => clock::deadline(limit, self.send_usual(wire, parsed)).await,
            None => clock::deadline(limit, self.send_verbatim(wire, &url)).await,
        };
        answer.map_err(|late| TransportError::TimedOut(late.to_string()))?
    }

    async fn send_usual(&self, wire: Wire, url: reqwest::Url) -> Result<Answer, TransportError> {
        let method =
            reqwest::Method::from_bytes(wire.method.as_bytes()).map_err(|error| TransportError::Unsendable(error.to_string()))?;
        let mut request = self.usual.request(method, url).headers(wire.headers);
        if has_body(wire.method) {
            request = request.body(reqwest::Body::wrap(PayloadBody::new(wire.payload)));
        }
        let response = request.send().await.map_err(|error| {
            let words = deepest(&error);
            if error.is_connect() {
                TransportError::Unreachable(words)
            } else if error.is_timeout() {
                TransportError::TimedOut(words)
            } else if error.is_builder() {
                TransportError::Unsendable(words)
            } else {
                TransportError::Broken(words)
            }
        })?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let chunks = response.bytes_stream().map(|chunk| chunk.map_err(|error| TransportError::Broken(deepest(&error))));
        Ok(Answer { status, headers, body: AnswerBody { chunks: Box::pin(chunks), idle: self.timeouts.idle } })
    }

    async fn send_verbatim(&self, wire: Wire, url: &str) -> Result<Answer, TransportError> {
        let unsendable = |error: &dyn std::fmt::Display| TransportError::Unsendable(error.to_string());
        let uri: http::Uri = url.parse().map_err(|error| unsendable(&error))?;
        if uri.path_and_query().map(http::uri::PathAndQuery::as_str) != Some(wire.path_and_query.as_str()) {
            return Err(TransportError::Unsendable("the key cannot be sent as it was signed".to_owned()));
        }
        let mut request = http::Request::new(PayloadBody::new(wire.payload));
        *request.method_mut() = http::Method::from_bytes(wire.method.as_bytes()).map_err(|error| unsendable(&error))?;
        *request.uri_mut() = uri;
        *request.headers_mut() = wire.headers;
        let response = self.verbatim.request(request).await.map_err(|error| {
            let words = deepest(&error);
            if error.is_connect() { TransportError::Unreachable(words) } else { TransportError::Broken(words) }
        })?;
        let (parts, body) = response.into_parts();
        let chunks = body.into_data_stream().map(|chunk| chunk.map_err(|error| TransportError::Broken(deepest(&error))));
        let body = AnswerBody { chunks: Box::pin(chunks), idle: self.timeouts.idle };
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

fn path_and_query(url: &reqwest::Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

fn has_body(method: &str) -> bool {
    matches!(method, "PUT" | "POST")
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A payload as a body of known length: its chunks go out as they are.
#[derive(Debug)]
struct PayloadBody {
    payload: Payload,
    next: usize,
    left: u64,
}

impl PayloadBody {
    fn new(payload: Payload) -> Self {
        let left = payload.len();
        Self { payload, next: 0, left }
    }
}

impl HttpBody for PayloadBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(chunk) = self.payload.chunks().get(self.next).cloned() else { return Poll::Ready(None) };
        self.next += 1;
        self.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
