//! Documents of buckets and objects, as they come and go: before `s3s` reads them, which would drop what it does not know.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use s3s::route::S3Route;
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::convert::{bucket, invalid, key, refuse};
use super::properties;
use crate::base::encode;
use crate::devserver::gate::{Anonymous, admit};
use crate::devserver::state::State;
use crate::store::memory::Memory;
use crate::store::{AclChange, ConfigKind, Document, Resource, Subresource, Tags, Verb, VersionId};

/// Larger documents are refused, in bytes.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Everything that has a document.
const SUBRESOURCES: [Subresource; 8] = [
    Subresource::Acl,
    Subresource::Tagging,
    Subresource::Config(ConfigKind::Cors),
    Subresource::Config(ConfigKind::Lifecycle),
    Subresource::Config(ConfigKind::Policy),
    Subresource::Config(ConfigKind::Versioning),
    Subresource::Config(ConfigKind::OwnershipControls),
    Subresource::Config(ConfigKind::PublicAccessBlock),
];

/// The route of all documents.
pub(crate) struct Documents {
    pub(crate) memory: Memory,
    pub(crate) state: Arc<State>,
    pub(crate) anonymous: Anonymous,
    /// Host names below it name a bucket.
    pub(crate) domain: Option<String>,
}

/// The parameters of a query, decoded.
fn query(uri: &Uri) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((encode::uri_decode(name)?, encode::uri_decode(value)?))
    };
    uri.query().unwrap_or_default().split('&').filter_map(pair).collect()
}

fn subresource(uri: &Uri) -> Option<Subresource> {
    let query = query(uri);
    SUBRESOURCES.into_iter().find(|subresource| query.iter().any(|(name, _)| name == subresource.query()))
}

fn verb(method: &Method) -> Option<Verb> {
    match *method {
        Method::GET => Some(Verb::Get),
        Method::PUT => Some(Verb::Put),
        Method::DELETE => Some(Verb::Delete),
        _ => None,
    }
}

impl Documents {
    /// The bucket, and the key, that a request is about.
    fn resource(&self, uri: &Uri, headers: &HeaderMap) -> S3Result<Resource> {
        let path = encode::uri_decode(uri.path()).ok_or_else(|| invalid("The path is not UTF-8."))?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let by_host = self.domain.as_ref().and_then(|domain| host.strip_suffix(&format!(".{domain}")));
        let (name, rest) = by_host.map_or_else(|| path.split_once('/').unwrap_or((path, "")), |name| (name, path));
        let key = if rest.is_empty() { None } else { Some(key(rest)?) };
        let version = query(uri).into_iter().find(|(name, _)| name == "versionId").map(|(_, id)| VersionId::new(&id));
        Ok(Resource { bucket: bucket(name)?, key, version })
    }

    async fn put(&self, resource: &Resource, subresource: Subresource, headers: &HeaderMap, body: Body) -> S3Result<()> {
        let document = match (subresource, properties::acl(headers)?) {
            (Subresource::Acl, Some(AclChange::Canned(canned))) => Document::CannedAcl(canned),
            (Subresource::Acl, Some(AclChange::Grants(grants))) => {
                Document::Acl(crate::store::Acl { grants, ..Default::default() })
            }
            _ => {
                let body = body.collect().await.map_err(|_| invalid("The body cannot be read."))?.to_bytes();
                let read = Some(body).filter(|body| body.len() <= MAX_DOCUMENT_BYTES);
                read.and_then(|body| Document::from_body(subresource, &body)).ok_or_else(|| {
                    let message = "The XML you provided was not well-formed or did not validate against our published schema";
                    S3Error::with_message(S3ErrorCode::MalformedXML, message)
                })?
            }
        };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let document = match document {
            Document::Config(config) => Document::Config(config.with_header(text)),
            document => document,
        };
        self.memory.put_document_now(resource, &document).map_err(refuse)
    }
}

#[async_trait::async_trait]
impl S3Route for Documents {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut http::Extensions) -> bool {
        verb(method).is_some() && subresource(uri).is_some()
    }

    async fn check_access(&self, req: &mut S3Request<Body>) -> S3Result<()> {
        let resource = self.resource(&req.uri, &req.headers)?;
        let named = verb(&req.method).zip(subresource(&req.uri));
        let operation = named.and_then(|(verb, subresource)| subresource.operation(verb, resource.level()));
        let operation = operation.ok_or_else(|| S3Error::new(S3ErrorCode::MethodNotAllowed))?;
        let key = resource.key.as_ref().map(crate::store::Key::as_str);
        let signed = req.credentials.is_some();
        admit(&self.state, self.anonymous, signed, &operation.to_string(), key, &mut req.extensions)
    }

    async fn call(&self, req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        // A refusal is an answer like any other: `s3s` would log it as a failure of this server.
        match self.answer(req).await {
            Ok(answer) => Ok(answer),
            Err(refused) => {
                let (parts, body) =
                    refused.to_http_response().map_err(|_| S3Error::new(S3ErrorCode::InternalError))?.into_parts();
                let mut answer = S3Response::with_status(body, parts.status);
                answer.headers = parts.headers;
                Ok(answer)
            }
        }
    }
}

impl Documents {
    async fn answer(&self, req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let resource = self.resource(&req.uri, &req.headers)?;
        let (Some(verb), Some(subresource)) = (verb(&req.method), subresource(&req.uri)) else {
            return Err(S3Error::new(S3ErrorCode::MethodNotAllowed));
        };
        match verb {
            Verb::Get => {
                let document = self.memory.document_now(&resource, subresource).map_err(refuse)?;
                let document = match document {
                    None if subresource == Subresource::Tagging && resource.key.is_some() => Document::Tags(Tags::default()),
                    found => found.ok_or_else(|| absent(subresource))?,
                };
                let json = subresource == Subresource::Config(ConfigKind::Policy);
                let mut answer = S3Response::new(Body::from(document.to_body()));
                let kind = if json { "application/json" } else { "application/xml" };
                answer.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
                if let Document::Config(config) = &document
                    && let Some((name, value)) = config.header()
                    && let Ok(value) = HeaderValue::from_str(value)
                {
                    answer.headers.insert(name, value);
                }
                Ok(answer)
            }
            Verb::Put => {
                self.put(&resource, subresource, &req.headers, req.input).await?;
                Ok(S3Response::new(Body::empty()))
            }
            Verb::Delete => {
                self.memory.delete_document_now(&resource, subresource).map_err(refuse)?;
                Ok(S3Response::with_status(Body::empty(), StatusCode::NO_CONTENT))
            }
        }
    }
}

/// What S3 calls the absence of a document.
fn absent(subresource: Subresource) -> S3Error {
    let (code, message) = match subresource {
        Subresource::Tagging => ("NoSuchTagSet", "The TagSet does not exist"),
        Subresource::Config(ConfigKind::Cors) => ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
        Subresource::Config(ConfigKind::Lifecycle) => {
            ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
        }
        Subresource::Config(ConfigKind::Policy) => ("NoSuchBucketPolicy", "The bucket policy does not exist"),
        Subresource::Config(ConfigKind::OwnershipControls) => {
            ("OwnershipControlsNotFoundError", "The bucket ownership controls were not found")
        }
        _ => ("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"),
    };
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::NoSuchKey);
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(StatusCode::NOT_FOUND);
    error
}
