//! The account behind the lock: buckets, their objects and uploads, and every change as one synchronous step, which is what
//! makes conditions atomic. No await, no clock: the moment is an argument. Slow work (checksums) is done by the caller
//! before he takes the lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::content::Content;
use super::failure::{
    ACL_DISABLED, BUCKET_EXISTS, BUCKET_NOT_EMPTY, CONDITION_SENSELESS, INVALID_LOCATION, NO_LOCKS, NO_SUCH_BUCKET, NO_SUCH_KEY,
    NO_SUCH_UPLOAD, NO_SUCH_VERSION, Outcome, PUBLIC_ACL,
};
use super::object::{Object, check};
use super::pattern;
use super::uploads::StoredUpload;
use crate::base::rng::Rng;
use crate::store::{
    AclChange, CannedAcl, Condition, Document, ETag, Key, ObjectLock, ObjectRef, Properties, Subresource, Upload, UploadId,
};

/// A bucket with all that is in it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) created: SystemTime,
    pub(super) location: Option<String>,
    pub(super) objects: BTreeMap<String, Arc<Object>>,
    /// By key and id, which is the order of `ListMultipartUploads`.
    pub(super) uploads: BTreeMap<(String, String), StoredUpload>,
    /// Its documents, but the access list when that is only the owner's.
    pub(super) documents: HashMap<Subresource, Document>,
    /// Whether it takes locks.
    pub(super) locks: Locks,
    /// Whether keys that name a size exist.
    named_sizes: NamedSizes,
}

/// Whether a bucket was made for object locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locks {
    Taken,
    Refused,
}

/// Whether keys that name a size exist without being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedSizes {
    Exist,
    Unknown,
}

/// All buckets.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) named_sizes: NamedSizes,
    rng: Rng,
    uploads_begun: u64,
}

impl Account {
    pub(super) fn new(named_sizes: NamedSizes) -> Self {
        Self { buckets: BTreeMap::new(), named_sizes, rng: Rng::from_os(), uploads_begun: 0 }
    }

    /// A tag that says nothing about the bytes.
    pub(super) fn opaque_tag(&mut self) -> String {
        self.rng.token()
    }

    pub(super) fn bucket(&self, name: &str) -> Outcome<&Bucket> {
        self.buckets.get(name).ok_or(NO_SUCH_BUCKET)
    }

    pub(super) fn bucket_mut(&mut self, name: &str) -> Outcome<&mut Bucket> {
        self.buckets.get_mut(name).ok_or(NO_SUCH_BUCKET)
    }

    pub(super) fn create_bucket(&mut self, name: &str, location: Option<&str>, now: SystemTime) -> Outcome<()> {
        if location == Some("us-east-1") {
            return Err(INVALID_LOCATION);
        }
        if self.buckets.contains_key(name) {
            return Err(BUCKET_EXISTS);
        }
        let bucket = Bucket {
            created: now,
            location: location.map(str::to_owned),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            documents: HashMap::new(),
            locks: Locks::Refused,
            named_sizes: self.named_sizes,
        };
        self.buckets.insert(name.to_owned(), bucket);
        Ok(())
    }

    pub(super) fn delete_bucket(&mut self, name: &str) -> Outcome<()> {
        if !self.bucket(name)?.objects.is_empty() {
            return Err(BUCKET_NOT_EMPTY);
        }
        self.buckets.remove(name);
        Ok(())
    }

    /// The object, or why there is none.
    pub(super) fn object(&self, object: &ObjectRef) -> Outcome<Arc<Object>> {
        let found = self.bucket(object.bucket.as_str())?.find(object.key.as_str());
        match &object.version {
            Some(version) if version.as_str() != "null" => Err(NO_SUCH_VERSION),
            _ => found.ok_or(NO_SUCH_KEY),
        }
    }

    pub(super) fn begin_upload(&mut self, bucket: &str, key: &Key, properties: Properties, now: SystemTime) -> Outcome<UploadId> {
        self.bucket(bucket)?.check_lock(&properties.lock)?;
        self.uploads_begun += 1;
        // Ids ascend with time, as the order of a listing wants it.
        let id = format!("{:016x}{:016x}", self.uploads_begun, self.rng.next_u64());
        let upload = StoredUpload { properties, begun: now, parts: BTreeMap::new() };
        self.bucket_mut(bucket)?.uploads.insert((key.as_str().to_owned(), id.clone()), upload);
        Ok(UploadId::new(&id))
    }

    pub(super) fn upload(&self, upload: &Upload) -> Outcome<&StoredUpload> {
        self.bucket(upload.bucket.as_str())?.uploads.get(&place(upload)).ok_or(NO_SUCH_UPLOAD)
    }

    pub(super) fn upload_mut(&mut self, upload: &Upload) -> Outcome<&mut StoredUpload> {
        self.bucket_mut(upload.bucket.as_str())?.uploads.get_mut(&place(upload)).ok_or(NO_SUCH_UPLOAD)
    }

    pub(super) fn take_upload(&mut self, upload: &Upload) -> Outcome<StoredUpload> {
        self.bucket_mut(upload.bucket.as_str())?.uploads.remove(&place(upload)).ok_or(NO_SUCH_UPLOAD)
    }
}

impl Bucket {
    /// The object at `key`, stored or named.
    pub(super) fn find(&self, key: &str) -> Option<Arc<Object>> {
        self.objects.get(key).cloned().or_else(|| self.named(key))
    }

    /// Puts `object` at `key` if the condition holds.
    pub(super) fn replace(&mut self, key: &str, condition: &Condition, object: Object) -> Outcome<Arc<Object>> {
        check(condition, self.find(key).as_deref())?;
        self.check_lock(&object.properties.lock)?;
        let opens_up = !matches!(
            object.properties.acl,
            None | Some(AclChange::Canned(CannedAcl::Private | CannedAcl::BucketOwnerFullControl))
        );
        if opens_up && self.disables_acls() {
            return Err(ACL_DISABLED);
        }
        if self.refuses_public(object.properties.acl.as_ref()) {
            return Err(PUBLIC_ACL);
        }
        let object = Arc::new(object);
        self.objects.insert(key.to_owned(), Arc::clone(&object));
        Ok(object)
    }

    /// Whether an object may be locked like this.
    pub(super) fn check_lock(&self, lock: &ObjectLock) -> Outcome<()> {
        if self.locks == Locks::Refused && *lock != ObjectLock::default() { Err(NO_LOCKS) } else { Ok(()) }
    }

    pub(super) fn delete(&mut self, object: &ObjectRef, condition: &Condition) -> Outcome<()> {
        if *condition == Condition::IfAbsent {
            return Err(CONDITION_SENSELESS);
        }
        check(condition, self.find(object.key.as_str()).as_deref())?;
        if object.version.as_ref().is_none_or(|version| version.as_str() == "null") {
            self.objects.remove(object.key.as_str());
        }
        Ok(())
    }

    /// The object that a key names by its size. Its tag follows from the size, its time from the bucket's.
    fn named(&self, key: &str) -> Option<Arc<Object>> {
        let size = pattern::named_size(key).filter(|_| self.named_sizes == NamedSizes::Exist)?;
        let mut rng = Rng::seeded(key.bytes().fold(size, |seed, byte| seed.rotate_left(7) ^ u64::from(byte)));
        let tag = ETag::new(&rng.token());
        Some(Arc::new(Object::new(Content::Pattern { len: size }, tag, Properties::default(), self.created)))
    }
}

fn place(upload: &Upload) -> (String, String) {
    (upload.key.as_str().to_owned(), upload.id.as_str().to_owned())
}
