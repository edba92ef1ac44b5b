//! [`Memory`] as the two traits: asynchronous by name only, since every step is done at once.

use std::time::Duration;

use futures_util::stream;

use super::failure::{Failure, TOO_MANY_KEYS};
use super::listing::Query;
use super::object::Checksums;
use super::steps::{CopyProperties, Declared};
use super::{Memory, moment};
use crate::base::clock;
use crate::store::{
    Body, Bucket, BucketInfo, BucketName, BucketService, Committed, CompleteUpload, Condition, ConfigDocument, ConfigKind,
    CopyObject, CopyPart, CreateUpload, DeleteKey, DeleteObject, Delimiter, Document, DocumentError, Download, Error, ErrorKind,
    GetObject, HeadObject, Key, ListObjects, ListStart, MAX_PAGE_KEYS, NewBucket, ObjectInfo, ObjectRef, ObjectStore,
    ObjectVersion, Operation, Part, Prefix, PutObject, Resource, RestoreObject, Result, Subresource, UnreadPage, Upload,
    UploadId, UploadPage, UploadPart, VersionId,
};

impl ObjectStore for Memory {
    async fn head(&self, request: &HeadObject) -> Result<ObjectInfo> {
        let found = self.account().object(&request.object);
        let object = found.map_err(|failure| failure.of(Operation::HeadObject, &request.object))?;
        Ok(object.headers(moment()))
    }

    async fn get(&self, request: &GetObject) -> Result<Download> {
        let (info, range, reader) = self.open_now(request)?;
        Ok(Download { info, range, body: Body::new(stream::iter(reader.map(Ok))) })
    }

    async fn list(&self, request: &ListObjects) -> Result<UnreadPage> {
        let after = match &request.start {
            ListStart::Beginning => None,
            ListStart::After(text) => Some(text.clone()),
            ListStart::Token(token) => Some(self.token_text(&request.bucket, token)?),
        };
        let query = Query {
            prefix: request.prefix.as_str(),
            delimiter: match request.delimiter {
                Delimiter::None => None,
                Delimiter::Slash => Some("/"),
            },
            after: after.as_deref(),
            limit: usize::from(request.max_keys.min(MAX_PAGE_KEYS)),
        };
        self.list_now(&request.bucket, query).map(UnreadPage::from)
    }

    async fn put(&self, request: &PutObject) -> Result<Committed> {
        self.put_now(request, Checksums::new()).map(committed)
    }

    async fn delete(&self, request: &DeleteObject) -> Result<()> {
        let mut account = self.account();
        let bucket = account.bucket_mut(request.object.bucket.as_str());
        bucket
            .and_then(|bucket| bucket.delete(&request.object, &request.condition))
            .map_err(|failure| failure.of(Operation::DeleteObject, &request.object))
    }

    async fn delete_many(&self, bucket: &BucketName, keys: &[DeleteKey]) -> Result<Vec<Result<()>>> {
        let refused = |failure: Failure| failure.of(Operation::DeleteObjects, bucket);
        if keys.len() > usize::from(MAX_PAGE_KEYS) {
            return Err(refused(TOO_MANY_KEYS));
        }
        let mut account = self.account();
        let found = account.bucket_mut(bucket.as_str()).map_err(refused)?;
        let mut delete = |DeleteKey { key, etag }: &DeleteKey| {
            let object = ObjectRef::current(bucket.clone(), key.clone());
            let condition = etag.clone().map_or(Condition::None, Condition::IfMatch);
            match found.objects.contains_key(key.as_str()) {
                true => found.delete(&object, &condition).map_err(|failure| failure.of(Operation::DeleteObjects, &object)),
                false => Ok(()),
            }
        };
        Ok(keys.iter().map(&mut delete).collect())
    }

    async fn copy(&self, request: &CopyObject) -> Result<Committed> {
        let keep = CopyProperties::Keep { class: None };
        let properties = request.replace.clone().map_or(keep, |properties| CopyProperties::Replace(Box::new(properties)));
        self.copy_now(request, &properties).map(committed)
    }

    async fn create_upload(&self, request: &CreateUpload) -> Result<Upload> {
        self.create_upload_now(request)
    }

    async fn upload_part(&self, request: &UploadPart) -> Result<Part> {
        self.upload_part_now(request, Checksums::new())
    }

    async fn copy_part(&self, request: &CopyPart) -> Result<Part> {
        self.copy_part_now(request)
    }

    async fn complete_upload(&self, request: &CompleteUpload) -> Result<Committed> {
        let declared = Declared { crc64nvme: request.crc64nvme(), size: Some(request.size()) };
        self.complete_now(request, declared).map(committed)
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        let taken = self.account().take_upload(upload);
        taken.map(drop).map_err(|failure| failure.of(Operation::AbortMultipartUpload, target(upload)))
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        let account = self.account();
        let found = account.upload(upload).map_err(|failure| failure.of(Operation::ListParts, target(upload)))?;
        Ok(found.list())
    }

    async fn list_uploads(&self, bucket: &BucketName, prefix: &Prefix, after: Option<(String, String)>) -> Result<UploadPage> {
        let account = self.account();
        let found = account.bucket(bucket.as_str()).map_err(|failure| failure.of(Operation::ListMultipartUploads, bucket))?;
        let passed = |key: &String, id: &String| match &after {
            None => true,
            // A marker without an id is the whole key.
            Some((marker, below)) => key > marker || (key == marker && !below.is_empty() && id > below),
        };
        let mut uploads = found.uploads.iter().filter(|((key, id), _)| key.starts_with(prefix.as_str()) && passed(key, id));
        let mut page = UploadPage::default();
        for ((key, id), upload) in uploads.by_ref().take(usize::from(MAX_PAGE_KEYS)) {
            // It was a Key when the upload was begun.
            let Ok(name) = Key::new(key) else { continue };
            page.uploads.push((
                Upload { bucket: bucket.clone(), key: name, id: UploadId::new(id), declares_checksums: false },
                upload.begun,
            ));
        }
        if uploads.next().is_some() {
            let marker = |(upload, _): &(Upload, _)| (upload.key.as_str().to_owned(), upload.id.as_str().to_owned());
            page.next = page.uploads.last().map(marker);
        }
        Ok(page)
    }
}

impl BucketService for Memory {
    async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        let account = self.account();
        let named =
            |(name, bucket): (&String, &super::account::Bucket)| Bucket { name: name.clone(), created: Some(bucket.created) };
        Ok(account.buckets.iter().map(named).collect())
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo> {
        let account = self.account();
        let found = account.bucket(bucket.as_str()).map_err(|failure| failure.of(Operation::HeadBucket, bucket))?;
        let region = match found.location.as_deref() {
            None => self.options().region.clone(),
            // The old name of the region, which only creation takes.
            Some("EU") => "eu-west-1".to_owned(),
            Some(location) => location.to_owned(),
        };
        Ok(BucketInfo { region: Some(region) })
    }

    async fn location(&self, bucket: &BucketName) -> Result<String> {
        Ok(self.head_bucket(bucket).await?.region.unwrap_or_default())
    }

    async fn create_bucket(&self, bucket: &BucketName, new: NewBucket<'_>) -> Result<()> {
        let created = self.account().create_bucket(bucket.as_str(), new.location, clock::now());
        created.map_err(|failure| failure.of(Operation::CreateBucket, bucket))?;
        let Some(ownership) = new.ownership else { return Ok(()) };
        let text = format!("{{\"Rules\":[{{\"ObjectOwnership\":\"{}\"}}]}}", ownership.as_str());
        let controls = ConfigDocument::parse(ConfigKind::OwnershipControls, &text);
        let invalid = |error: DocumentError| Error::new(ErrorKind::Invalid, Operation::CreateBucket, bucket, error.to_string());
        self.put_document_now(&bucket.clone().into(), &Document::Config(controls.map_err(invalid)?))
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        let deleted = self.account().delete_bucket(bucket.as_str());
        deleted.map_err(|failure| failure.of(Operation::DeleteBucket, bucket))
    }

    async fn restore(&self, request: &RestoreObject) -> Result<()> {
        self.restore_now(request).map(drop)
    }

    async fn list_versions(&self, object: &ObjectRef) -> Result<Vec<ObjectVersion>> {
        let account = self.account();
        let bucket = account.bucket(object.bucket.as_str());
        let bucket = bucket.map_err(|failure| failure.of(Operation::ListObjectVersions, object))?;
        let found = bucket.find(object.key.as_str());
        let version = |found: std::sync::Arc<super::object::Object>| ObjectVersion {
            id: VersionId::new("null"),
            size: Some(found.content.len()),
            last_modified: found.modified,
            is_latest: true,
        };
        Ok(found.into_iter().map(version).collect())
    }

    async fn presign(&self, object: &ObjectRef, _: Duration) -> Result<String> {
        let refused = Error::new(ErrorKind::Unsupported, Operation::GetObject, object, "a store in memory has no address");
        Err(refused)
    }

    async fn get_document(&self, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
        self.document_now(resource, subresource)
    }

    async fn put_document(&self, resource: &Resource, document: &Document) -> Result<()> {
        self.put_document_now(resource, document)
    }

    async fn delete_document(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        self.delete_document_now(resource, subresource)
    }
}

fn committed(info: ObjectInfo) -> Committed {
    Committed::from(&info)
}

fn target(upload: &Upload) -> ObjectRef {
    ObjectRef::current(upload.bucket.clone(), upload.key.clone())
}
