//! The control of a running server over HTTP, under a path that is no bucket's. Nothing is signed here.
//!
//! | request | does |
//! |---|---|
//! | `GET /_pailfs/counters` | the counts as JSON: `operations`, `bytes_in`, `bytes_out`, `connections`, `faults` |
//! | `POST /_pailfs/counters/reset` | sets them to 0 |
//! | `GET /_pailfs/faults` | `{"rules": TEXT, "latency_ms": NUMBER, "bandwidth_mib": NUMBER or null}` |
//! | `PUT /_pailfs/faults` | changes those that are given; the rules begin to count anew |
//! | `PUT /_pailfs/objects` | `{"bucket": NAME, "prefix": TEXT, "count": NUMBER, "metadata": {NAME: TEXT}}`: so many objects of one byte |

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::faults::Faults;
use super::state::State;
use crate::store::memory::Memory;
use crate::store::{BucketName, Condition, Key, Metadata, ObjectStore as _, Payload, Properties, PutObject};

/// Where the control lives. A bucket name cannot begin with `_`.
pub(super) const PREFIX: &str = "/_pailfs/";
/// The largest request that is read, in bytes.
const MAX_REQUEST_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    rules: Option<String>,
    latency_ms: Option<u64>,
    /// `Some(None)` is an explicit null: no limit.
    #[serde(default, deserialize_with = "given")]
    bandwidth_mib: Option<Option<f64>>,
}

fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Objects that a measurement needs, without a request for each.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Objects {
    bucket: String,
    #[serde(default)]
    prefix: String,
    count: u32,
    #[serde(default)]
    metadata: Metadata,
}

/// Answers a request under [`PREFIX`].
pub(super) async fn answer(state: &State, memory: &Memory, request: http::Request<Incoming>) -> Response<s3s::Body> {
    let name = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    match (request.method().clone(), name.as_str()) {
        (Method::GET, "counters") => json(&state.counters.snapshot()),
        (Method::POST, "counters/reset") => {
            state.counters.reset();
            text(StatusCode::OK, "reset\n".to_owned())
        }
        (Method::GET, "faults") => settings(state),
        (Method::PUT, "faults") => match change(state, request.into_body()).await {
            Ok(()) => settings(state),
            Err(reason) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        },
        (Method::PUT, "objects") => match put_objects(memory, request.into_body()).await {
            Ok(()) => text(StatusCode::OK, "made\n".to_owned()),
            Err(reason) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "there is no such control\n".to_owned()),
    }
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, String> {
    let bytes = Limited::new(body, MAX_REQUEST_BYTES).collect().await.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Their names are the prefix and eight digits.
async fn put_objects(memory: &Memory, body: Incoming) -> Result<(), String> {
    let objects: Objects = read(body).await?;
    let bucket = BucketName::new(&objects.bucket).map_err(|error| error.to_string())?;
    let properties = Properties { metadata: objects.metadata, ..Properties::default() };
    let payload = Payload::from(Bytes::from_static(b"x"));
    for number in 0..objects.count {
        let key = Key::new(format!("{}{number:08}", objects.prefix)).map_err(|error| error.to_string())?;
        let (properties, payload) = (properties.clone(), payload.clone());
        let put = PutObject { bucket: bucket.clone(), key, payload, properties, condition: Condition::None };
        memory.put(&put).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn change(state: &State, body: Incoming) -> Result<(), String> {
    let change: Change = read(body).await?;
    let faults = change.rules.map(|rules| rules.parse::<Faults>()).transpose().map_err(|error| error.to_string())?;
    if let Some(faults) = faults {
        state.set_faults(faults);
    }
    if let Some(latency) = change.latency_ms {
        state.shape.set_latency(Duration::from_millis(latency));
    }
    if let Some(bandwidth) = change.bandwidth_mib {
        state.shape.set_bandwidth(bandwidth);
    }
    Ok(())
}

fn settings(state: &State) -> Response<s3s::Body> {
    json(&serde_json::json!({
        "rules": state.faults().to_string(),
        "latency_ms": u64::try_from(state.shape.latency().as_millis()).unwrap_or(u64::MAX),
        "bandwidth_mib": state.shape.bandwidth(),
    }))
}

fn json(value: &impl serde::Serialize) -> Response<s3s::Body> {
    match serde_json::to_string(value) {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, body: String) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::from(body));
    *response.status_mut() = status;
    response
}
