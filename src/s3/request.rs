//! From the store's requests to HTTP's: method, query, headers, body. Pure.

use std::sync::{Arc, OnceLock};

use super::xml;
use crate::base::crc::Crc64;
use crate::base::encode;
use crate::store::*;

/// The prefix of user metadata in headers.
pub const META_PREFIX: &str = "x-amz-meta-";

/// One request, before it is addressed and signed.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub operation: Operation,
    /// The method.
    pub method: &'static str,
    /// The bucket.
    pub bucket: Option<BucketName>,
    /// The key.
    pub key: Option<Key>,
    /// Names and values, not encoded.
    pub query: Vec<(String, String)>,
    /// Lower-case names, ASCII values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Payload,
    /// The condition that the store shall check.
    pub condition: Condition,
    /// The tag that the source of a read or copy must have.
    pub source_etag: Option<ETag>,
    /// What was computed of the body, once for all the times that it is sent.
    pub digests: Arc<OnceLock<Digests>>,
}

/// What the body of a request was found to be when it was sent.
#[derive(Debug, Clone)]
pub struct Digests {
    /// `x-amz-checksum-crc64nvme`
    pub crc64nvme: Option<Crc64>,
    /// `Content-MD5`
    pub md5: Option<[u8; 16]>,
    /// `x-amz-content-sha256`
    pub hash: String,
}

impl Request {
    fn new(operation: Operation, method: &'static str) -> Self {
        Self {
            operation,
            method,
            bucket: None,
            key: None,
            query: Vec::new(),
            headers: Vec::new(),
            payload: Payload::default(),
            condition: Condition::None,
            source_etag: None,
            digests: Arc::default(),
        }
    }

    fn object(mut self, bucket: &BucketName, key: &Key) -> Self {
        self.bucket = Some(bucket.clone());
        self.key = Some(key.clone());
        self
    }

    fn bucket(mut self, bucket: &BucketName) -> Self {
        self.bucket = Some(bucket.clone());
        self
    }

    fn version(self, version: Option<&VersionId>) -> Self {
        match version {
            Some(version) => self.query("versionId", version.as_str()),
            None => self,
        }
    }

    /// Adds to the query.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn xml(mut self, body: String) -> Self {
        self.payload = Payload::from(bytes::Bytes::from(body));
        self.header("content-type", "application/xml")
    }

    fn properties(mut self, properties: &Properties) -> Self {
        let headers = &properties.headers;
        for (name, value) in [
            ("content-type", &headers.content_type),
            ("cache-control", &headers.cache_control),
            ("content-disposition", &headers.content_disposition),
            ("content-encoding", &headers.content_encoding),
            ("content-language", &headers.content_language),
            ("expires", &headers.expires),
            ("x-amz-website-redirect-location", &headers.website_redirect),
        ] {
            if let Some(value) = value {
                self.headers.push((name.to_owned(), encode::ascii(value).into_owned()));
            }
        }
        for (name, value) in &properties.metadata {
            self.headers.push((format!("{META_PREFIX}{name}"), encode::ascii(value).into_owned()));
        }
        if let Some(class) = &properties.storage_class {
            self = self.header("x-amz-storage-class", class.as_str());
        }
        if let Some(encryption) = &properties.encryption {
            self = self.header("x-amz-server-side-encryption", encryption.algorithm.as_str());
            if let Some(key) = &encryption.key_id {
                self = self.header("x-amz-server-side-encryption-aws-kms-key-id", key.as_str());
            }
            if let Some(bucket_key) = encryption.bucket_key {
                self = self.header("x-amz-server-side-encryption-bucket-key-enabled", bucket_key.to_string());
            }
        }
        if let Some(tags) = properties.tags.as_ref().filter(|tags| !tags.is_empty()) {
            self = self.header("x-amz-tagging", tags.to_header());
        }
        for (name, value) in properties.lock.to_headers() {
            self = self.header(name, value);
        }
        for (name, value) in properties.acl.iter().flat_map(AclChange::headers) {
            self = self.header(name, value);
        }
        self
    }

    /// Whether the object is locked by the request that makes it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.headers.iter().any(|(name, _)| name.starts_with("x-amz-object-lock-"))
    }

    /// What is asked about, for people.
    #[must_use]
    pub fn target(&self) -> String {
        match (&self.bucket, &self.key) {
            (Some(bucket), Some(key)) => format!("{bucket}/{key}"),
            (Some(bucket), None) => bucket.to_string(),
            _ => String::new(),
        }
    }
}

/// HEAD of an object.
#[must_use]
pub fn head(request: &HeadObject) -> Request {
    let object = &request.object;
    Request::new(Operation::HeadObject, "HEAD")
        .object(&object.bucket, &object.key)
        .version(object.version.as_ref())
        .header("x-amz-checksum-mode", "ENABLED")
}

/// GET of an object.
#[must_use]
pub fn get(request: &GetObject) -> Request {
    let object = &request.object;
    let mut get = Request::new(Operation::GetObject, "GET")
        .object(&object.bucket, &object.key)
        .version(object.version.as_ref())
        .header("x-amz-checksum-mode", "ENABLED");
    get.source_etag.clone_from(&request.if_match);
    if let Some(etag) = &request.if_match {
        get = get.header("if-match", etag.quoted());
    }
    match request.range {
        Some(range) => get.header("range", range.header()),
        None => get,
    }
}

/// `ListObjectsV2`.
#[must_use]
pub fn list(request: &ListObjects) -> Request {
    let list = Request::new(Operation::ListObjectsV2, "GET")
        .bucket(&request.bucket)
        .query("list-type", "2")
        .query("encoding-type", "url")
        .query("max-keys", request.max_keys.to_string())
        .query("prefix", request.prefix.as_str());
    let list = match request.delimiter {
        Delimiter::None => list,
        Delimiter::Slash => list.query("delimiter", "/"),
    };
    match &request.start {
        ListStart::Beginning => list,
        ListStart::After(key) => list.query("start-after", key.as_str()),
        ListStart::Token(token) => list.query("continuation-token", token.as_str()),
    }
}

/// `PutObject`.
#[must_use]
pub fn put(request: &PutObject) -> Request {
    let mut put = Request::new(Operation::PutObject, "PUT").object(&request.bucket, &request.key).properties(&request.properties);
    put.payload = request.payload.clone();
    put.condition = request.condition.clone();
    put
}

/// `DeleteObject`.
#[must_use]
pub fn delete(request: &DeleteObject) -> Request {
    let object = &request.object;
    let mut delete =
        Request::new(Operation::DeleteObject, "DELETE").object(&object.bucket, &object.key).version(object.version.as_ref());
    delete.condition = request.condition.clone();
    delete
}

/// `DeleteObjects`.
#[must_use]
pub fn delete_many(bucket: &BucketName, keys: &[DeleteKey]) -> Request {
    let body = xml::delete_request(keys);
    let md5 = super::digest::content_md5(body.as_bytes());
    Request::new(Operation::DeleteObjects, "POST").bucket(bucket).query("delete", "").header("content-md5", md5).xml(body)
}

fn copy_source(source: &ObjectRef) -> String {
    let version =
        source.version.as_ref().map(|version| format!("?versionId={}", encode::uri(version.as_str()))).unwrap_or_default();
    format!("/{}/{}{version}", source.bucket, encode::uri_path(source.key.as_str()))
}

fn source_condition(mut request: Request, etag: Option<&ETag>) -> Request {
    request.source_etag = etag.cloned();
    match etag {
        Some(etag) => request.header("x-amz-copy-source-if-match", etag.quoted()),
        None => request,
    }
}

/// `CopyObject`.
#[must_use]
pub fn copy(request: &CopyObject) -> Request {
    let copy = Request::new(Operation::CopyObject, "PUT")
        .object(&request.bucket, &request.key)
        .header("x-amz-copy-source", copy_source(&request.source));
    let mut copy = match &request.replace {
        Some(properties) => {
            let copy = copy.header("x-amz-metadata-directive", "REPLACE").properties(properties);
            // Without a word S3 copies the tags of the source.
            if properties.tags.is_some() { copy.header("x-amz-tagging-directive", "REPLACE") } else { copy }
        }
        None => copy.header("x-amz-metadata-directive", "COPY"),
    };
    copy.condition = request.condition.clone();
    source_condition(copy, request.source_if_match.as_ref())
}

/// `CreateMultipartUpload`; with checksums where the store verifies them.
#[must_use]
pub fn create_upload(request: &CreateUpload, with_checksums: bool) -> Request {
    let create = Request::new(Operation::CreateMultipartUpload, "POST")
        .object(&request.bucket, &request.key)
        .query("uploads", "")
        .properties(&request.properties);
    if with_checksums {
        create.header("x-amz-checksum-algorithm", "CRC64NVME").header("x-amz-checksum-type", "FULL_OBJECT")
    } else {
        create
    }
}

fn of_upload(operation: Operation, method: &'static str, upload: &Upload) -> Request {
    Request::new(operation, method).object(&upload.bucket, &upload.key).query("uploadId", upload.id.as_str())
}

/// `UploadPart`.
#[must_use]
pub fn upload_part(request: &UploadPart) -> Request {
    let mut part = of_upload(Operation::UploadPart, "PUT", &request.upload).query("partNumber", request.number.get().to_string());
    part.payload = request.payload.clone();
    part
}

/// `UploadPartCopy`.
#[must_use]
pub fn copy_part(request: &CopyPart) -> Request {
    let part = of_upload(Operation::UploadPartCopy, "PUT", &request.upload)
        .query("partNumber", request.number.get().to_string())
        .header("x-amz-copy-source", copy_source(&request.source))
        .header("x-amz-copy-source-range", request.range.header());
    source_condition(part, request.source_if_match.as_ref())
}

/// `CompleteMultipartUpload`; with checksums where the store verifies them, also of the `whole` and its size.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
#[must_use]
pub fn complete(request: &CompleteUpload, with_checksums: bool, whole: Option<Crc64>) -> Request {
    let mut complete = of_upload(Operation::CompleteMultipartUpload, "POST", &request.upload)
        .xml(xml::complete_request(&request.parts, with_checksums));
    complete.condition = request.condition.clone();
    match whole {
        Some(sum) => complete
            .header("x-amz-checksum-crc64nvme", sum.to_string())
            .header("x-amz-checksum-type", "FULL_OBJECT")
            .header("x-amz-mp-object-size", request.size().to_string()),
        None => complete,
    }
}

/// `AbortMultipartUpload`.
#[must_use]
pub fn abort(upload: &Upload) -> Request {
    of_upload(Operation::AbortMultipartUpload, "DELETE", upload)
}

/// `ListParts`, after a marker.
#[must_use]
pub fn list_parts(upload: &Upload, after: Option<&str>) -> Request {
    let list = of_upload(Operation::ListParts, "GET", upload);
    match after {
        Some(marker) => list.query("part-number-marker", marker),
        None => list,
    }
}

/// `ListMultipartUploads`, after markers; with encoded names, or as they are.
#[must_use]
pub fn list_uploads(bucket: &BucketName, prefix: &Prefix, after: Option<&(String, String)>, encoded: bool) -> Request {
    let list = Request::new(Operation::ListMultipartUploads, "GET").bucket(bucket).query("uploads", "");
    let list = if encoded { list.query("encoding-type", "url") } else { list };
    let list = list.query("prefix", prefix.as_str());
    match after {
        Some((key, id)) => list.query("key-marker", key.as_str()).query("upload-id-marker", id.as_str()),
        None => list,
    }
}

/// `RestoreObject`.
#[must_use]
pub fn restore(request: &RestoreObject) -> Request {
    let object = &request.object;
    Request::new(Operation::RestoreObject, "POST")
        .object(&object.bucket, &object.key)
        .query("restore", "")
        .version(object.version.as_ref())
        .xml(xml::restore_request(request))
}

/// `ListBuckets`, from a token on.
#[must_use]
pub fn list_buckets(token: Option<&str>) -> Request {
    let list = Request::new(Operation::ListBuckets, "GET");
    match token {
        Some(token) => list.query("continuation-token", token),
        None => list,
    }
}

/// `HeadBucket`.
#[must_use]
pub fn head_bucket(bucket: &BucketName) -> Request {
    Request::new(Operation::HeadBucket, "HEAD").bucket(bucket)
}

/// `GetBucketLocation`.
#[must_use]
pub fn bucket_location(bucket: &BucketName) -> Request {
    Request::new(Operation::GetBucketLocation, "GET").bucket(bucket).query("location", "")
}

/// `CreateBucket`. us-east-1 is where a bucket goes when nothing is said; saying it is refused.
#[must_use]
pub fn create_bucket(bucket: &BucketName, new: NewBucket<'_>) -> Request {
    let mut create = Request::new(Operation::CreateBucket, "PUT").bucket(bucket);
    if let Some(ownership) = new.ownership {
        create = create.header("x-amz-object-ownership", ownership.as_str());
    }
    match new.location.filter(|location| *location != "us-east-1") {
        Some(location) => create.xml(xml::location_request(location)),
        None => create,
    }
}

/// A plain GET of an object, without anything that its sender would have to send.
#[must_use]
pub fn plain_get(object: &ObjectRef) -> Request {
    Request::new(Operation::GetObject, "GET").object(&object.bucket, &object.key).version(object.version.as_ref())
}

/// `ListObjectVersions` of one key.
#[must_use]
pub fn list_versions(object: &ObjectRef) -> Request {
    Request::new(Operation::ListObjectVersions, "GET")
        .bucket(&object.bucket)
        .query("versions", "")
        .query("encoding-type", "url")
        .query("max-keys", MAX_PAGE_KEYS.to_string())
        .query("prefix", object.key.as_str())
}

/// A request about a document; `None` when S3 has no such request.
#[must_use]
pub fn of_document(verb: Verb, resource: &Resource, subresource: Subresource) -> Option<Request> {
    let operation = subresource.operation(verb, resource.level())?;
    let method = match verb {
        Verb::Get => "GET",
        Verb::Put => "PUT",
        Verb::Delete => "DELETE",
    };
    let request = Request::new(operation, method).bucket(&resource.bucket);
    let request = match &resource.key {
        Some(key) => request.object(&resource.bucket, key).version(resource.version.as_ref()),
        None => request,
    };
    Some(request.query(subresource.query(), ""))
}

/// A request that sets a document.
#[must_use]
pub fn put_document(resource: &Resource, document: &Document) -> Option<Request> {
    let request = of_document(Verb::Put, resource, document.subresource())?;
    if let Document::CannedAcl(canned) = document {
        return Some(request.header("x-amz-acl", canned.as_str()));
    }
    let body = document.to_body();
    let md5 = super::digest::content_md5(body.as_bytes());
    let request = request.header("content-md5", md5).xml(body);
    Some(match document {
        Document::Config(config) => {
            config.header().into_iter().fold(request, |request, (name, value)| request.header(name, value))
        }
        _ => request,
    })
}

/// `DeleteBucket`.
#[must_use]
pub fn delete_bucket(bucket: &BucketName) -> Request {
    Request::new(Operation::DeleteBucket, "DELETE").bucket(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_that_makes_an_object_carries_its_lock() {
        let lock = ObjectLock {
            retention: Some(Retention { mode: "COMPLIANCE".into(), until: std::time::UNIX_EPOCH }),
            legal_hold: true,
        };
        let properties = Properties { lock: lock.clone(), ..Properties::default() };
        let (bucket, key) = (BucketName::new("bucket").unwrap(), Key::new("k").unwrap());
        let source = ObjectRef::current(bucket.clone(), key.clone());
        let made = [
            put(&PutObject {
                bucket: bucket.clone(),
                key: key.clone(),
                payload: Payload::default(),
                properties: properties.clone(),
                condition: Condition::None,
            }),
            copy(&CopyObject {
                source,
                source_if_match: None,
                source_unchanged_since: None,
                bucket: bucket.clone(),
                key: key.clone(),
                replace: Some(properties.clone()),
                condition: Condition::None,
            }),
            create_upload(&CreateUpload { bucket, key, properties }, true),
        ];
        for request in made {
            let get = |name: &str| request.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone());
            assert_eq!(ObjectLock::from_headers(get), lock, "{:?}", request.operation);
        }
    }

    #[test]
    fn a_copy_names_its_source_encoded() {
        let source = ObjectRef {
            bucket: BucketName::new("bucket").unwrap(),
            key: Key::new("a b/+é?").unwrap(),
            version: Some(VersionId::new("v/1")),
        };
        assert_eq!(copy_source(&source), "/bucket/a%20b/%2B%C3%A9%3F?versionId=v%2F1");
    }
}
