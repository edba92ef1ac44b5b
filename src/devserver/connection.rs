//! One connection: HTTP/1.1 in, requests through the control or S3, answers out, delayed, paced and damaged as told.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::service::S3Service;
use tokio::net::TcpStream;

use super::body::{Intake, Line, Outgoing};
use super::control;
use super::faults::{Action, Refusal};
use super::gate::{Ticket, refused};
use super::pace::Pacer;
use super::state::State;
use crate::base::{clock, rng};
use crate::store::memory::Memory;

/// How much is read from a socket at once and gathered before it is written, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// What a connection serves.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) service: S3Service,
    pub(super) state: Arc<State>,
    pub(super) memory: Memory,
}

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("a fault rule keeps the answer back")]
    Fault,
    #[error("the service failed: {0:?}")]
    Service(s3s::HttpError),
}

/// Serves `stream` until the client closes it or a fault does.
pub(super) async fn serve(site: Site, stream: TcpStream) {
    site.state.counters.connection();
    // Small answers must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let pacer = Arc::new(Pacer::new(&site.state.shape));
    let line = Line { counters: Arc::clone(&site.state.counters), pacer };
    let service = service_fn(move |request| answer(site.clone(), line.clone(), request));
    let mut server = http1::Builder::new();
    server.max_buf_size(BUFFER_BYTES).writev(true).header_read_timeout(None);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(site: Site, line: Line, request: Request<Incoming>) -> Result<Response<Outgoing>, Silence> {
    if request.uri().path().starts_with(control::PREFIX) {
        let response = control::answer(&site.state, &site.memory, request).await;
        return Ok(response.map(|body| Outgoing::new(body, line, None)));
    }
    let unasked = expects_nothing(&request);
    let ticket = Ticket::default();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(ticket.clone());
    let intake = Intake::new(body, line.clone());
    let request = Request::from_parts(parts, s3s::Body::http_body(intake.clone()));
    let response = site.service.call(request).await.map_err(Silence::Service)?;
    intake.drain().await;
    if !ticket.was_let_in() {
        site.state.counters.request("Refused");
    }
    let latency = site.state.shape.latency();
    if !latency.is_zero() {
        clock::sleep(latency).await;
    }
    let action = ticket.action();
    let response = fate(response, action).await?;
    let mut response = finish(response);
    if unasked {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Outgoing::new(body, line, action)))
}

/// Whether the client waits to be asked for a body of no bytes. It is not asked, as HTTP has it; botocore takes that for the
/// answer to its next request on the connection, and waits a minute for another one: so the connection ends.
fn expects_nothing(request: &Request<Incoming>) -> bool {
    let expects =
        request.headers().get(http::header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    expects && http_body::Body::is_end_stream(request.body())
}

/// What an action does to an answer as a whole.
async fn fate(response: Response<s3s::Body>, action: Option<Action>) -> Result<Response<s3s::Body>, Silence> {
    match action {
        Some(Action::Drop | Action::Lose) => Err(Silence::Fault),
        Some(Action::LoseWithError) => refused(Refusal::InternalError).to_http_response().map_err(|_| Silence::Fault),
        Some(Action::Delay(time)) => {
            clock::sleep(time).await;
            Ok(response)
        }
        Some(Action::Stall(time)) if http_body::Body::is_end_stream(response.body()) => {
            clock::sleep(time).await;
            Ok(response)
        }
        _ => Ok(response),
    }
}

/// What every answer has.
fn finish(mut response: Response<s3s::Body>) -> Response<s3s::Body> {
    if response.status() == StatusCode::NOT_MODIFIED {
        *response.body_mut() = Bytes::new().into();
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(rng::token()) {
        headers.insert("x-amz-request-id", id);
    }
    headers.insert(http::header::SERVER, HeaderValue::from_static("pailfs-demo"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use crate::devserver::{Server, ServerConfig};

    async fn closes(address: &str, header: &str) -> bool {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("PUT /bucket/key HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.contains("\r\n\r\n") {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).await.unwrap();
            assert_ne!(read, 0, "{answer}");
            answer.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
        answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n")
    }

    #[tokio::test]
    async fn who_waits_to_be_asked_for_no_bytes_has_no_second_answer_on_the_connection() {
        let server = Server::start(ServerConfig::default()).await.unwrap();
        let address = server.endpoint().trim_start_matches("http://").to_owned();
        assert!(closes(&address, "Expect: 100-continue\r\n").await);
        assert!(!closes(&address, "").await);
    }
}
