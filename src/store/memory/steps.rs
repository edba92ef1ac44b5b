//! Every operation as one synchronous step, with what the traits have no room for (checksums, a delimiter of any kind):
//! the traits and the embedded server are thin layers over these.

use std::sync::Arc;
use std::time::SystemTime;

use super::content::{Content, Reader};
use super::failure::{
    ARCHIVED, COPY_TOO_LARGE, Failure, INVALID_COPY_RANGE, INVALID_RANGE, NO_SUCH_KEY, OBJECT_CHANGED, Outcome, SELF_COPY,
    TOO_LARGE, WRONG_SIZE, WRONG_SUM,
};
use super::listing::{self, Entry, Query};
use super::object::{Checksums, Object, check, check_properties, matches, with_crc64nvme};
use super::uploads::{StoredPart, Whole, md5_tag};
use super::{Data, Drops, Memory, Restored, Tags, archive, moment};
use crate::base::{clock, crc::Crc64, date};
use crate::store::{
    BucketName, ByteRange, CompleteUpload, CopyObject, CopyPart, CreateUpload, ETag, Error, GetObject, Key, ListPage,
    MAX_PART_BYTES, ObjectInfo, ObjectRef, Operation, Part, Payload, Properties, PutObject, RestoreObject, Result, StorageClass,
    Upload, UploadPart,
};

/// A synthetic store's listing ends with so many empty pages: it shows few of its names.
const EMPTY_PAGES: usize = 10;

/// How the properties of a copy come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyProperties {
    /// `REPLACE`: these.
    Replace(Box<Properties>),
    /// `COPY`: those of the source, but the class (else STANDARD) and the redirect, which S3 does not copy.
    Keep {
        /// `x-amz-storage-class`.
        class: Option<StorageClass>,
    },
}

/// What the object that an upload makes is said to be, as far as it is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// `x-amz-checksum-crc64nvme`
    pub crc64nvme: Option<Crc64>,
    /// `x-amz-mp-object-size`
    pub size: Option<u64>,
}

impl Memory {
    /// `PutObject` with the checksums that came with it; CRC64NVME is computed when it is not among them.
    ///
    /// # Errors
    /// As [`crate::store::ObjectStore::put`].
    pub fn put_now(&self, request: &PutObject, sent: Checksums) -> Result<ObjectInfo> {
        self.try_put(request, sent).map_err(at(Operation::PutObject, &request.bucket, &request.key))
    }

    fn try_put(&self, request: &PutObject, sent: Checksums) -> Outcome<ObjectInfo> {
        self.account().bucket(request.bucket.as_str())?;
        check_size(request.payload.len())?;
        check_properties(&request.properties)?;
        let (content, sent) = self.keep(&request.payload, sent);
        let tag = self.tag_of(&content);
        let mut properties = request.properties.clone();
        if self.options().drops == Drops::AclsOfPuts {
            properties.acl = None;
        }
        let object = Object::new(content, tag, properties, clock::now()).summed(sent);
        self.commit(&request.bucket, &request.key, &request.condition, object)
    }

    /// `CopyObject`, saying how the properties come about.
    ///
    /// # Errors
    /// As [`crate::store::ObjectStore::copy`].
    pub fn copy_now(&self, request: &CopyObject, properties: &CopyProperties) -> Result<ObjectInfo> {
        self.try_copy(request, properties).map_err(at(Operation::CopyObject, &request.bucket, &request.key))
    }

    fn try_copy(&self, request: &CopyObject, properties: &CopyProperties) -> Outcome<ObjectInfo> {
        let source = self.readable_source(&request.source, request.source_if_match.as_ref())?;
        let later = |since| date::unix_seconds(source.modified) > date::unix_seconds(since);
        if request.source_if_match.is_none() && request.source_unchanged_since.is_some_and(later) {
            return Err(OBJECT_CHANGED);
        }
        if source.content.len() > MAX_PART_BYTES {
            return Err(COPY_TOO_LARGE);
        }
        let to_self = request.source.bucket == request.bucket && request.source.key == request.key;
        let properties = match properties {
            CopyProperties::Replace(properties) => {
                let tags = properties.tags.clone().or_else(|| source.properties.tags.clone());
                Properties { tags, ..Properties::clone(properties) }
            }
            CopyProperties::Keep { class: None } if to_self => return Err(SELF_COPY),
            CopyProperties::Keep { class } => {
                let mut kept = source.properties.clone();
                kept.storage_class.clone_from(class);
                kept.headers.website_redirect = None;
                kept.acl = None;
                kept.lock = crate::store::ObjectLock::default();
                kept
            }
        };
        check_properties(&properties)?;
        let tags = properties.tags.clone().filter(|_| self.options().drops != Drops::TagsOfCopies);
        let properties = Properties { tags, ..properties };
        let tag = self.tag_of(&source.content);
        let mut object = Object::new(source.content.clone(), tag, properties, clock::now());
        object.checksums.clone_from(&source.checksums);
        self.commit(&request.bucket, &request.key, &request.condition, object)
    }

    /// The object that a copy reads.
    fn readable_source(&self, source: &ObjectRef, if_match: Option<&ETag>) -> Outcome<Arc<Object>> {
        let object = self.account().object(source)?;
        if let Some(tag) = if_match {
            matches(tag, &object)?;
        }
        if archive::readable(&object, moment()) { Ok(object) } else { Err(ARCHIVED) }
    }

    fn commit(&self, bucket: &BucketName, key: &Key, condition: &crate::store::Condition, object: Object) -> Outcome<ObjectInfo> {
        let object = self.account().bucket_mut(bucket.as_str())?.replace(key.as_str(), condition, object)?;
        Ok(object.info(moment()))
    }

    /// `GetObject`: what is known, the range that is answered, and the slices of it.
    ///
    /// # Errors
    /// As [`crate::store::ObjectStore::get`].
    pub fn open_now(&self, request: &GetObject) -> Result<(ObjectInfo, Option<ByteRange>, Reader)> {
        self.try_open(request).map_err(|failure| failure.of(Operation::GetObject, &request.object))
    }

    fn try_open(&self, request: &GetObject) -> Outcome<(ObjectInfo, Option<ByteRange>, Reader)> {
        let now = moment();
        let object = self.account().object(&request.object)?;
        if let Some(tag) = &request.if_match {
            matches(tag, &object)?;
        }
        if !archive::readable(&object, now) {
            return Err(ARCHIVED);
        }
        let len = object.content.len();
        let range = match request.range {
            Some(range) => Some(ByteRange::new(range.start(), range.end().min(len)).ok_or(INVALID_RANGE)?),
            None => ByteRange::new(0, len),
        };
        let (start, end) = range.map_or((0, 0), |range| (range.start(), range.end()));
        Ok((object.headers(now), range, object.content.read(start, end)))
    }

    /// One page of a listing with any delimiter.
    ///
    /// # Errors
    /// As [`crate::store::ObjectStore::list`].
    pub fn list_now(&self, bucket: &BucketName, query: Query<'_>) -> Result<ListPage> {
        let account = self.account();
        let found = account.bucket(bucket.as_str()).map_err(|failure| failure.of(Operation::ListObjectsV2, bucket))?;
        let (entries, more) = listing::page(&found.objects, query);
        let mut next = entries.last().filter(|_| more).map(|last| listing::token(last.text()));
        if self.options().data == Data::Synthetic && next.is_none() {
            // There are more names than a few pages show: none of them is the end of the directory.
            let shown = query.after.map_or(0, |after| after.matches(char::MAX).count());
            next = (shown < EMPTY_PAGES).then(|| listing::token(&String::from(char::MAX).repeat(shown + 1)));
        }
        let mut page = ListPage { next, ..ListPage::default() };
        for entry in entries {
            match entry {
                Entry::Key(key, object) => page.objects.push(object.listed(key)),
                Entry::Prefix(prefix) => page.prefixes.push(prefix.to_owned()),
            }
        }
        Ok(page)
    }

    /// The text after which the page of `token` begins.
    ///
    /// # Errors
    /// [`crate::store::ErrorKind::Invalid`] when it is no token of ours.
    pub fn token_text(&self, bucket: &BucketName, token: &crate::store::PageToken) -> Result<String> {
        listing::token_text(token).map_err(|failure| failure.of(Operation::ListObjectsV2, bucket))
    }

    /// `CreateMultipartUpload`.
    ///
    /// # Errors
    /// As [`crate::store::ObjectStore::create_upload`].
    pub fn create_upload_now(&self, request: &CreateUpload) -> Result<Upload> {
        let begun = || {
            check_properties(&request.properties)?;
            let (bucket, properties) = (request.bucket.as_str(), request.properties.clone());
            self.account().begin_upload(bucket, &request.key, properties, clock::now())
        };
        let id = begun().map_err(at(Operation::CreateMultipartUpload, &request.bucket, &request.key))?;
        Ok(Upload { bucket: request.bucket.clone(), key: request.key.clone(), id, declares_checksums: false })
    }

    /// `UploadPart` with the checksums that came with it.
    ///
    /// # Errors
    /// As [`crate::store::ObjectStore::upload_part`].
    pub fn upload_part_now(&self, request: &UploadPart, sent: Checksums) -> Result<Part> {
        let stored = || {
            self.account().upload(&request.upload)?;
            check_size(request.payload.len())?;
            let (content, sent) = self.keep(&request.payload, sent);
            self.add_part(&request.upload, request.number, content, sent)
        };
        stored().map_err(of_upload(Operation::UploadPart, &request.upload))
    }

    /// `UploadPartCopy`, also of a whole source (no range).
    ///
    /// # Errors
    /// As [`crate::store::ObjectStore::copy_part`].
    pub fn copy_part_now(&self, request: &CopyPart) -> Result<Part> {
        let stored = || {
            self.account().upload(&request.upload)?;
            let source = self.readable_source(&request.source, request.source_if_match.as_ref())?;
            if request.range.end() > source.content.len() {
                return Err(INVALID_COPY_RANGE);
            }
            if request.range.len() > MAX_PART_BYTES {
                return Err(COPY_TOO_LARGE);
            }
            self.add_part(&request.upload, request.number, source.content.cut(request.range), Checksums::new())
        };
        stored().map_err(of_upload(Operation::UploadPartCopy, &request.upload))
    }

    fn add_part(&self, upload: &Upload, number: crate::store::PartNumber, content: Content, sent: Checksums) -> Outcome<Part> {
        let checksums = with_crc64nvme(sent, || content.crc64nvme());
        let part = StoredPart { etag: self.tag_of(&content), content, checksums };
        let described = part.describe(number);
        self.account().upload_mut(upload)?.parts.insert(number, part);
        Ok(described)
    }

    /// `CompleteMultipartUpload`, if the object is what it is said to be.
    ///
    /// # Errors
    /// As [`crate::store::ObjectStore::complete_upload`].
    pub fn complete_now(&self, request: &CompleteUpload, declared: Declared) -> Result<ObjectInfo> {
        self.try_complete(request, declared).map_err(of_upload(Operation::CompleteMultipartUpload, &request.upload))
    }

    fn try_complete(&self, request: &CompleteUpload, declared: Declared) -> Outcome<ObjectInfo> {
        let mut account = self.account();
        let upload = account.upload(&request.upload)?;
        let Whole { content, md5, crc64nvme, sizes } = upload.assemble(&request.parts)?;
        if declared.size.is_some_and(|size| size != content.len()) {
            return Err(WRONG_SIZE);
        }
        if declared.crc64nvme.is_some() && crc64nvme.is_some() && declared.crc64nvme != crc64nvme {
            return Err(WRONG_SUM);
        }
        let properties = upload.properties.clone();
        let random = account.opaque_tag();
        let whole = md5.filter(|_| self.options().tags == Tags::Md5).map_or(random, md5_tag);
        let tag = ETag::new(&format!("{whole}-{}", sizes.len()));
        let mut object = Object::new(content, tag, properties, clock::now());
        object.checksums = with_crc64nvme(Checksums::new(), || crc64nvme);
        object.parts = sizes;
        let bucket = account.bucket_mut(request.upload.bucket.as_str())?;
        check(&request.condition, bucket.find(request.upload.key.as_str()).as_deref())?;
        let object = bucket.replace(request.upload.key.as_str(), &crate::store::Condition::None, object)?;
        account.take_upload(&request.upload)?;
        Ok(object.info(moment()))
    }

    /// `RestoreObject`, saying what it did.
    ///
    /// # Errors
    /// As [`crate::store::BucketService::restore`].
    pub fn restore_now(&self, request: &RestoreObject) -> Result<Restored> {
        let mut account = self.account();
        let mut restored = || {
            let mut object = account.object(&request.object)?;
            let changed = Arc::make_mut(&mut object);
            let answer = archive::restore(changed, request.days, request.tier, self.options().restore_ongoing, moment())?;
            let bucket = account.bucket_mut(request.object.bucket.as_str())?;
            bucket.objects.insert(request.object.key.as_str().to_owned(), object);
            Ok(answer)
        };
        restored().map_err(|failure: Failure| failure.of(Operation::RestoreObject, &request.object))
    }

    /// The sizes of the parts that an object was made of; none for a single PUT.
    ///
    /// # Errors
    /// [`crate::store::ErrorKind::NotFound`], [`crate::store::ErrorKind::NoBucket`].
    pub fn part_sizes(&self, object: &ObjectRef) -> Result<Vec<u64>> {
        let found = self.account().object(object);
        found.map(|object| object.parts.clone()).map_err(|failure| failure.of(Operation::HeadObject, object))
    }

    /// Makes an object of `size` bytes of the pattern, whatever becomes of other bytes; listings have it.
    ///
    /// # Errors
    /// [`crate::store::ErrorKind::NoBucket`].
    pub fn put_pattern(&self, bucket: &BucketName, key: &Key, size: u64, properties: Properties) -> Result<ObjectInfo> {
        let content = Content::Pattern { len: size };
        let object = Object::new(content.clone(), self.tag_of(&content), properties, clock::now());
        let none = crate::store::Condition::None;
        self.commit(bucket, key, &none, object).map_err(at(Operation::PutObject, bucket, key))
    }

    /// Moves an `INTELLIGENT_TIERING` object into an archive tier (`ARCHIVE_ACCESS`), as only S3 itself does by its age.
    ///
    /// # Errors
    /// [`crate::store::ErrorKind::NotFound`], [`crate::store::ErrorKind::NoBucket`].
    pub fn set_archive_status(&self, object: &ObjectRef, status: Option<&str>) -> Result<()> {
        self.change(object, |found| {
            found.archive_status = status.map(str::to_owned);
            found.restore = None;
        })
    }

    /// Sets the time an object was last modified, for tests of what follows from its age.
    ///
    /// # Errors
    /// [`crate::store::ErrorKind::NotFound`], [`crate::store::ErrorKind::NoBucket`].
    pub fn set_last_modified(&self, object: &ObjectRef, time: SystemTime) -> Result<()> {
        self.change(object, |found| found.modified = time)
    }

    fn change(&self, object: &ObjectRef, change: impl FnOnce(&mut Object)) -> Result<()> {
        let mut account = self.account();
        let bucket = account.bucket_mut(object.bucket.as_str()).map_err(|failure| failure.of(Operation::HeadObject, object))?;
        let found = bucket.objects.get_mut(object.key.as_str());
        change(Arc::make_mut(found.ok_or_else(|| NO_SUCH_KEY.of(Operation::HeadObject, object))?));
        Ok(())
    }

    /// The payload as it will be kept, and its checksums, which are not those of the pattern that a synthetic store reads.
    fn keep(&self, payload: &Payload, sent: Checksums) -> (Content, Checksums) {
        let content = Content::of(payload);
        match self.options().data {
            Data::Stored => (content, sent),
            Data::Synthetic => (Content::Pattern { len: payload.len() }, Checksums::new()),
        }
    }

    fn tag_of(&self, content: &Content) -> ETag {
        let md5 = if self.options().tags == Tags::Md5 { content.md5() } else { None };
        ETag::new(&md5.map_or_else(|| self.account().opaque_tag(), md5_tag))
    }
}

fn check_size(bytes: u64) -> Outcome<()> {
    if bytes <= MAX_PART_BYTES { Ok(()) } else { Err(TOO_LARGE) }
}

fn at<'a>(operation: Operation, bucket: &'a BucketName, key: &'a Key) -> impl FnOnce(Failure) -> Error + 'a {
    move |failure| failure.of(operation, format_args!("{bucket}/{key}"))
}

fn of_upload(operation: Operation, upload: &Upload) -> impl FnOnce(Failure) -> Error + '_ {
    at(operation, &upload.bucket, &upload.key)
}
