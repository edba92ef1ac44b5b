//! What the store in memory promises beyond the common contract.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::base::crc::Crc64;
use crate::store::{BucketService as _, ByteRange, ETag, ObjectInfo, Prefix};
use crate::store::{
    CompleteUpload, Condition, CopyObject, CopyPart, CreateUpload, DeleteObject, ErrorKind, GetObject, HeadObject, Key,
    MIN_PART_BYTES, ObjectRef, ObjectStore as _, PartNumber, Payload, Properties, PutObject, RestoreObject, RestoreState,
    RestoreTier, StorageClass, UploadPart,
};

fn bucket() -> BucketName {
    BucketName::new("bucket").unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn object(text: &str) -> ObjectRef {
    ObjectRef::current(bucket(), key(text))
}

fn store(options: Options) -> Memory {
    let memory = Memory::with(options);
    memory.ensure_bucket(&bucket());
    memory
}

fn put(name: &str, payload: impl Into<Payload>) -> PutObject {
    PutObject {
        bucket: bucket(),
        key: key(name),
        payload: payload.into(),
        properties: Properties::default(),
        condition: Condition::None,
    }
}

fn copy(from: &str, to: &str) -> CopyObject {
    CopyObject {
        source: object(from),
        source_if_match: None,
        source_unchanged_since: None,
        bucket: bucket(),
        key: key(to),
        replace: None,
        condition: Condition::None,
    }
}

async fn read(memory: &Memory, name: &str, range: Option<ByteRange>) -> Bytes {
    let request = GetObject { object: object(name), range, if_match: None };
    memory.get(&request).await.unwrap().body.collect().await.unwrap()
}

#[tokio::test]
async fn conditions_decide_before_anything_happens() {
    let memory = store(Options::default());
    let absent = Condition::IfMatch(ETag::new("x"));
    let kind = |result: crate::store::Result<_>| result.map(|_: crate::store::Committed| ()).map_err(|error| error.kind());
    assert_eq!(kind(memory.put(&PutObject { condition: absent.clone(), ..put("k", "0") }).await), Err(ErrorKind::Changed));
    let first = memory.put(&PutObject { condition: Condition::IfAbsent, ..put("k", "1") }).await.unwrap();
    assert_eq!(kind(memory.put(&PutObject { condition: Condition::IfAbsent, ..put("k", "2") }).await), Err(ErrorKind::Exists));
    let pinned = Condition::IfMatch(first.etag.clone());
    memory.put(&PutObject { condition: pinned.clone(), ..put("k", "3") }).await.unwrap();
    assert_eq!(kind(memory.put(&PutObject { condition: pinned.clone(), ..put("k", "4") }).await), Err(ErrorKind::Changed));
    assert_eq!(kind(memory.copy(&CopyObject { condition: pinned.clone(), ..copy("k", "k2") }).await), Err(ErrorKind::Changed));
    assert_eq!(
        kind(memory.copy(&CopyObject { source_if_match: Some(first.etag.clone()), ..copy("k", "k2") }).await),
        Err(ErrorKind::Changed)
    );
    assert_eq!(kind(memory.copy(&copy("k", "k")).await), Err(ErrorKind::Invalid));
    let error = memory.delete(&DeleteObject { object: object("k"), condition: pinned }).await.unwrap_err();
    assert_eq!((error.kind(), error.story().status), (ErrorKind::Changed, Some(412)));
    let error = memory.delete(&DeleteObject { object: object("gone"), condition: absent }).await.unwrap_err();
    assert_eq!((error.kind(), error.story().status), (ErrorKind::Changed, Some(404)));
    assert_eq!(read(&memory, "k", None).await, "3");
    let get = GetObject { object: object("k"), range: None, if_match: Some(first.etag) };
    assert_eq!(memory.get(&get).await.unwrap_err().kind(), ErrorKind::Changed);
    let past = GetObject { object: object("k"), range: ByteRange::new(1, 2), if_match: None };
    assert_eq!(memory.get(&past).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(memory.delete_bucket(&bucket()).await.unwrap_err().kind(), ErrorKind::NotEmpty);
}

#[tokio::test]
async fn tags_are_md5_when_asked_for() {
    let memory = store(Options { tags: Tags::Md5, ..Options::default() });
    let made = memory.put(&put("k", "hello")).await.unwrap();
    assert_eq!(made.etag.as_str(), "5d41402abc4b2a76b9719d911017c592");
    let info = memory.head(&HeadObject { object: object("k") }).await.unwrap();
    assert_eq!(info.checksums["crc64nvme"], Crc64::of(["hello"]).to_string());
}

#[tokio::test]
async fn parts_become_an_object_by_the_rules_of_s3() {
    let memory = store(Options { tags: Tags::Md5, ..Options::default() });
    let upload =
        memory.create_upload(&CreateUpload { bucket: bucket(), key: key("m"), properties: Properties::default() }).await.unwrap();
    let number = |number| PartNumber::new(number).unwrap();
    let part = |number, payload| UploadPart { upload: upload.clone(), number, payload };
    let large = Bytes::from(vec![1_u8; MIN_PART_BYTES as usize]);
    let small = memory.upload_part(&part(number(1), "small".into())).await.unwrap();
    let last = memory.upload_part(&part(number(7), "end".into())).await.unwrap();
    let complete = |parts: &[&crate::store::Part]| CompleteUpload {
        upload: upload.clone(),
        parts: parts.iter().copied().cloned().collect(),
        condition: Condition::IfAbsent,
    };
    let code = |result: crate::store::Result<crate::store::Committed>| result.unwrap_err().story().code.clone().unwrap();
    assert_eq!(code(memory.complete_upload(&complete(&[&small, &last])).await), "EntityTooSmall");
    assert_eq!(code(memory.complete_upload(&complete(&[&last, &small])).await), "InvalidPartOrder");
    assert_eq!(code(memory.complete_upload(&complete(&[])).await), "MalformedXML");
    let first = memory.upload_part(&part(number(1), large.clone().into())).await.unwrap();
    assert_eq!(code(memory.complete_upload(&complete(&[&small, &last])).await), "InvalidPart");
    memory.put(&put("m", "other")).await.unwrap();
    assert_eq!(code(memory.complete_upload(&complete(&[&first, &last])).await), "PreconditionFailed");
    memory.delete(&DeleteObject { object: object("m"), condition: Condition::None }).await.unwrap();
    assert_eq!(memory.list_parts(&upload).await.unwrap(), [first.clone(), last.clone()]);
    assert_eq!(memory.list_uploads(&bucket(), &Prefix::new("m"), None).await.unwrap().uploads.len(), 1);
    let declared = |crc64nvme, size| memory.complete_now(&complete(&[&first, &last]), Declared { crc64nvme, size });
    let code_of = |result: crate::store::Result<crate::store::ObjectInfo>| result.unwrap_err().story().code.clone().unwrap();
    assert_eq!(code_of(declared(Some(Crc64::EMPTY), None)), "BadDigest");
    assert_eq!(code_of(declared(None, Some(5))), "InvalidRequest");
    let made = memory.complete_upload(&complete(&[&first, &last])).await.unwrap();
    assert!(made.etag.as_str().ends_with("-2"), "{:?}", made.etag);
    let whole = [&large[..], b"end"].concat();
    assert_eq!(read(&memory, "m", None).await, whole);
    let info = memory.head(&HeadObject { object: object("m") }).await.unwrap();
    assert_eq!(info.checksums["crc64nvme"], Crc64::of([&whole]).to_string());
    assert_eq!(code(memory.complete_upload(&complete(&[&first, &last])).await), "NoSuchUpload");
    assert_eq!(memory.part_sizes(&object("m")).unwrap(), [MIN_PART_BYTES, 3]);
}

#[tokio::test]
async fn copied_parts_are_ranges_of_the_source() {
    let memory = store(Options::default());
    memory.put(&put("s", "0123456789")).await.unwrap();
    let upload =
        memory.create_upload(&CreateUpload { bucket: bucket(), key: key("m"), properties: Properties::default() }).await.unwrap();
    let request = |range| CopyPart {
        upload: upload.clone(),
        number: PartNumber::new(1).unwrap(),
        source: object("s"),
        source_if_match: None,
        range,
    };
    assert_eq!(memory.copy_part(&request(ByteRange::new(5, 11).unwrap())).await.unwrap_err().kind(), ErrorKind::Invalid);
    let part = memory.copy_part(&request(ByteRange::new(2, 5).unwrap())).await.unwrap();
    memory.complete_upload(&CompleteUpload { upload, parts: vec![part], condition: Condition::None }).await.unwrap();
    assert_eq!(read(&memory, "m", None).await, "234");
}

#[tokio::test(start_paused = true)]
async fn an_archived_object_is_read_after_its_restore() {
    let memory = store(Options::default());
    let glacier = Properties { storage_class: Some(StorageClass::new("GLACIER")), ..Properties::default() };
    memory.put(&PutObject { properties: glacier, ..put("cold", "ice") }).await.unwrap();
    memory.put(&put("warm", "tea")).await.unwrap();
    let get = GetObject { object: object("cold"), range: None, if_match: None };
    assert_eq!(memory.get(&get).await.unwrap_err().kind(), ErrorKind::Archived);
    assert_eq!(memory.copy(&copy("cold", "copy")).await.unwrap_err().kind(), ErrorKind::Archived);
    let onto_itself = CopyObject { replace: Some(Properties::default()), ..copy("cold", "cold") };
    assert_eq!(memory.copy(&onto_itself).await.unwrap_err().kind(), ErrorKind::Archived);
    let restore = |name, tier| RestoreObject { object: object(name), days: Some(3), tier };
    assert_eq!(memory.restore(&restore("warm", None)).await.unwrap_err().kind(), ErrorKind::Invalid);
    memory.restore(&restore("cold", None)).await.unwrap();
    assert_eq!(memory.restore(&restore("cold", None)).await.unwrap_err().kind(), ErrorKind::RestoreOngoing);
    assert_eq!(memory.restore_now(&restore("cold", Some(RestoreTier::Expedited))).unwrap(), Restored::Begun);
    let head = HeadObject { object: object("cold") };
    assert_eq!(memory.head(&head).await.unwrap().restore, Some(RestoreState::Ongoing));
    clock::sleep(Duration::from_secs(3)).await;
    assert!(matches!(memory.head(&head).await.unwrap().restore, Some(RestoreState::Until(_))));
    assert_eq!(read(&memory, "cold", None).await, "ice");
    assert_eq!(memory.restore_now(&restore("cold", None)).unwrap(), Restored::Extended);
    let deep = Properties { storage_class: Some(StorageClass::new("DEEP_ARCHIVE")), ..Properties::default() };
    memory.put(&PutObject { properties: deep, ..put("deep", "ice") }).await.unwrap();
    let fast = restore("deep", Some(RestoreTier::Expedited));
    assert_eq!(memory.restore(&fast).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn synthetic_objects_exist_by_name_and_drop_what_is_sent() {
    let memory = store(Options { data: Data::Synthetic, ..Options::default() });
    let far = ByteRange::new((8 << 30) - 5, 8 << 30);
    assert_eq!(read(&memory, "d/8GiB", far).await, pattern_at((8 << 30) - 5, 5));
    let head = HeadObject { object: object("8GiB") };
    let told = async || ObjectInfo { as_of: None, ..memory.head(&head).await.unwrap() };
    assert_eq!(told().await, told().await);
    memory.put(&put("sent", "abc")).await.unwrap();
    assert_eq!(read(&memory, "sent", None).await, pattern_at(0, 3));
    assert_eq!(memory.head(&HeadObject { object: object("other") }).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn documents_that_s3_refuses_are_refused() {
    use crate::store::{
        AclChange, CannedAcl, ConfigDocument, ConfigKind, Document, Grant, Grantee, Permission, Resource, Subresource,
        Tags as ObjectTags,
    };
    let memory = store(Options::default());
    memory.put(&put("f", "x")).await.unwrap();
    let (file, all) = (Resource::from(object("f")), Resource::from(bucket()));
    let tags = |pairs: &[(String, String)]| {
        let mut tags = ObjectTags::default();
        pairs.iter().for_each(|(name, value)| tags.set(name, value));
        tags
    };
    let many = |count: usize| tags(&(0..count).map(|n| (format!("t{n}"), String::new())).collect::<Vec<_>>());
    let long = |name: usize, value: usize| tags(&[("\u{fc}".repeat(name), "\u{fc}".repeat(value))]);
    let code = |done: crate::store::Result<()>| done.err().and_then(|error| error.story().code.clone());
    for (resource, tags, refused) in [
        (&file, many(10), None),
        (&file, many(11), Some("BadRequest")),
        (&all, many(50), None),
        (&all, many(51), Some("BadRequest")),
        (&file, long(128, 256), None),
        (&file, long(129, 1), Some("InvalidTag")),
        (&file, long(1, 257), Some("InvalidTag")),
        (&file, long(0, 1), Some("InvalidTag")),
    ] {
        assert_eq!(code(memory.put_document(resource, &Document::Tags(tags.clone())).await).as_deref(), refused, "{tags:?}");
    }
    let with = |properties| PutObject { properties, ..put("g", "x") };
    let tagged = Properties { tags: Some(many(11)), ..Properties::default() };
    assert_eq!(code(memory.put(&with(tagged)).await.map(drop)).as_deref(), Some("BadRequest"));
    let stranger = Grant { grantee: Grantee::Group("http://example.com/everybody".into()), permission: Permission::Read };
    let granted = Properties { acl: Some(AclChange::Grants(vec![stranger])), ..Properties::default() };
    assert_eq!(code(memory.put(&with(granted)).await.map(drop)).as_deref(), Some("InvalidArgument"));

    let public = || Properties { acl: Some(AclChange::Canned(CannedAcl::PublicRead)), ..Properties::default() };
    memory.put(&with(public())).await.unwrap();
    let block = ConfigDocument::parse(ConfigKind::PublicAccessBlock, r#"{"BlockPublicAcls":true}"#).unwrap();
    memory.put_document(&all, &Document::Config(block)).await.unwrap();
    assert_eq!(memory.put(&with(public())).await.unwrap_err().kind(), ErrorKind::Denied);
    for (resource, canned, refused) in [
        (&file, CannedAcl::AuthenticatedRead, Some("AccessDenied")),
        (&all, CannedAcl::PublicReadWrite, Some("AccessDenied")),
        (&all, CannedAcl::LogDeliveryWrite, None),
        (&file, CannedAcl::Private, None),
    ] {
        assert_eq!(code(memory.put_document(resource, &Document::CannedAcl(canned)).await).as_deref(), refused, "{canned:?}");
    }

    let rule = b"<LifecycleConfiguration><Rule><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    let rule = ConfigDocument::from_body(ConfigKind::Lifecycle, rule).unwrap();
    assert_eq!(code(memory.put_document(&all, &Document::Config(rule)).await).as_deref(), Some("MalformedXML"));
    let lifecycle = Subresource::Config(ConfigKind::Lifecycle);
    assert_eq!(memory.get_document(&all, lifecycle).await.unwrap(), None);
}
