//! The store's contract, point by point, on every backend: in memory, over HTTP to the embedded server, and on real servers.
//!
//! What a real server does not do is an exception of its version with a reason; an exception that no longer holds fails.

use bytes::Bytes;
use pailfs::base::{encode, rng};
use pailfs::store::*;

use crate::{capabilities, documents, integrity, keys, servers};

/// What a server does not do, by its name and version.
const EXCEPTIONS: [(&str, &str, &str); 38] = [
    ("rgw 16.2.15", "restore", "there is no RestoreObject, and an object of class GLACIER can be read"),
    ("rgw 16.2.15", "restore of a plain object", "there is no RestoreObject"),
    ("moto 5.2.5", "odd keys", "a key with a newline is not found"),
    ("moto 5.2.5", "delete many", "a key with a newline is not found"),
    ("moto 5.2.5", "restore", "a restore may be begun only some time after the PUT; shown through a mount"),
    ("seaweed 4.48", "odd keys", "keys are paths: empty components collapse, '\\' becomes '/'"),
    ("seaweed 4.48", "listing order", "listed by directory, not by key"),
    ("seaweed 4.48", "restore", "there is no archive"),
    ("seaweed 4.48", "restore of a plain object", "there is no RestoreObject"),
    ("rgw 16.2.15", "ownership", "there are no ownership controls: the request is taken for another one"),
    ("rgw 16.2.15", "public access block", "one that was dropped is answered as one that allows everything"),
    ("moto 5.2.5", "object acl", "grants that are set one by one are dropped"),
    ("moto 5.2.5", "email grant", "grants that are set one by one are dropped"),
    ("moto 5.2.5", "ownership", "access lists are taken also where they are disabled"),
    ("seaweed 4.48", "acl of a new object", "grant headers of a PUT are ignored"),
    ("seaweed 4.48", "email grant", "refused"),
    ("seaweed 4.48", "lifecycle", "transitions are not implemented"),
    ("seaweed 4.48", "policy", "a list of one is answered as one"),
    ("seaweed 4.48", "public access block", "not implemented"),
    ("seaweed 4.48", "ownership", "access lists are taken also where they are disabled"),
    ("rgw 16.2.15", "tags of copies", "a copy with new metadata has no tags, and unreadable ones when some are sent"),
    ("rgw 16.2.15", "tags of uploads", "those that an upload is begun with cannot be read"),
    ("rgw 16.2.15", "key service", "there is none"),
    ("rgw 16.2.15", "ownership of a new bucket", "there are no ownership controls"),
    ("moto 5.2.5", "expired address", "no signature is verified"),
    ("seaweed 4.48", "acl of uploads", "ignored"),
    ("seaweed 4.48", "key service", "there is none"),
    ("seaweed 4.48", "ownership of a new bucket", "always BucketOwnerEnforced"),
    ("rgw 16.2.15", "sums of uploads", "there are no checksums; the tag is compared"),
    ("rgw 16.2.15", "wrong whole refused", "there are no checksums"),
    ("moto 5.2.5", "sums of uploads", "there are no checksums of parts, and a wrong one of the object; the tag is compared"),
    ("moto 5.2.5", "wrong whole refused", "there are no checksums"),
    ("rgw 16.2.15", "conditional delete many", "the conditions of DeleteObjects are ignored"),
    ("moto 5.2.5", "conditional delete many", "the conditions of DeleteObjects are ignored"),
    ("memory", "versions", "there are none"),
    ("memory", "presigned address", "there is no address"),
    ("memory", "expired address", "there is no address"),
    ("embedded", "versions", "there are none"),
];

/// One backend under test.
pub struct Bench<S> {
    pub store: S,
    pub bucket: BucketName,
}

impl<S: ObjectStore + BucketService> Bench<S> {
    pub fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    pub fn object(&self, name: &str) -> ObjectRef {
        ObjectRef::current(self.bucket.clone(), Self::key(name))
    }

    pub async fn put(&self, name: &str, body: &[u8], condition: Condition) -> Result<Committed> {
        self.put_with(name, body, condition, Properties::default()).await
    }

    pub async fn put_with(&self, name: &str, body: &[u8], condition: Condition, properties: Properties) -> Result<Committed> {
        let payload = Payload::from(Bytes::copy_from_slice(body));
        self.store.put(&PutObject { bucket: self.bucket.clone(), key: Self::key(name), payload, properties, condition }).await
    }

    pub async fn read(&self, name: &str, range: Option<ByteRange>, if_match: Option<ETag>) -> Result<Vec<u8>> {
        let download = self.store.get(&GetObject { object: self.object(name), range, if_match }).await?;
        Ok(download.body.collect().await?.to_vec())
    }

    pub async fn head(&self, name: &str) -> Result<ObjectInfo> {
        self.store.head(&HeadObject { object: self.object(name) }).await
    }

    pub async fn list(&self, prefix: &str, delimiter: Delimiter, start: ListStart, max_keys: u16) -> Result<ListPage> {
        self.store
            .list(&ListObjects { bucket: self.bucket.clone(), prefix: Prefix::new(prefix), delimiter, start, max_keys })
            .await?
            .read()
    }
}

/// A contract point that failed says why.
pub type Verdict = std::result::Result<(), String>;

pub fn kind<T: std::fmt::Debug>(answer: Result<T>, expected: ErrorKind) -> Verdict {
    match answer {
        Err(error) if error.kind() == expected => Ok(()),
        other => Err(format!("expected {expected:?}, got {other:?}")),
    }
}

pub fn ok<T>(answer: Result<T>) -> std::result::Result<T, String> {
    answer.map_err(|error| format!("{error} [{:?}]", error.kind()))
}

pub fn same<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Verdict {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?}, wanted {wanted:?}")) }
}

async fn round_trip<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let committed = ok(bench.put("f", b"hello", Condition::None).await)?;
    let info = ok(bench.head("f").await)?;
    same((info.size, info.etag.clone()), (5, committed.etag.clone()))?;
    same(ok(bench.read("f", None, None).await)?, b"hello".to_vec())?;
    same(ok(bench.read("f", ByteRange::new(1, 3), Some(committed.etag)).await)?, b"el".to_vec())?;
    same(ok(bench.read("f", ByteRange::new(3, 100), None).await)?, b"lo".to_vec())?;
    ok(bench.put("empty", b"", Condition::None).await)?;
    same(ok(bench.read("empty", None, None).await)?, Vec::new())?;
    ok(bench.store.delete(&DeleteObject { object: bench.object("f"), condition: Condition::None }).await)?;
    kind(bench.head("f").await, ErrorKind::NotFound)?;
    kind(bench.read("f", None, None).await, ErrorKind::NotFound)?;
    ok(bench.store.delete(&DeleteObject { object: bench.object("f"), condition: Condition::None }).await)
}

async fn metadata<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let mut properties = Properties::default();
    properties.headers.content_type = Some("text/x-test".into());
    properties.headers.cache_control = Some("no-cache".into());
    for (name, value) in [("plain", "a b"), ("some-key", "grüß €"), ("x", "1")] {
        properties.metadata.insert(name.into(), encode::word(value));
    }
    ok(bench.put_with("m", b"x", Condition::None, properties.clone()).await)?;
    let info = ok(bench.head("m").await)?;
    // A store may choose another form of the same text.
    let texts = |metadata: &Metadata| {
        metadata.iter().map(|(name, value)| (name.clone(), encode::unword(value).into_owned())).collect::<Metadata>()
    };
    same(texts(&info.properties.metadata), texts(&properties.metadata))?;
    same(info.properties.headers.content_type, properties.headers.content_type)?;
    same(info.properties.headers.cache_control, properties.headers.cache_control)
}

async fn range_past_the_end<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    ok(bench.put("r", b"abc", Condition::None).await)?;
    kind(bench.read("r", ByteRange::new(3, 9), None).await, ErrorKind::Invalid)
}

async fn pinned_reads<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let old = ok(bench.put("p", b"old", Condition::None).await)?.etag;
    ok(bench.put("p", b"new content", Condition::None).await)?;
    kind(bench.read("p", None, Some(old)).await, ErrorKind::Changed)
}

async fn put_conditions<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let first = ok(bench.put("c", b"1", Condition::IfAbsent).await)?.etag;
    kind(bench.put("c", b"2", Condition::IfAbsent).await, ErrorKind::Exists)?;
    let second = ok(bench.put("c", b"22", Condition::IfMatch(first.clone())).await)?.etag;
    kind(bench.put("c", b"333", Condition::IfMatch(first.clone())).await, ErrorKind::Changed)?;
    kind(bench.put("absent", b"x", Condition::IfMatch(first)).await, ErrorKind::Changed)?;
    ok(bench.put("c", b"333", Condition::IfMatch(second)).await)?;
    same(ok(bench.read("c", None, None).await)?, b"333".to_vec())
}

async fn delete_if_match<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let old = ok(bench.put("d", b"1", Condition::None).await)?.etag;
    let new = ok(bench.put("d", b"22", Condition::None).await)?.etag;
    let delete = |etag| DeleteObject { object: bench.object("d"), condition: Condition::IfMatch(etag) };
    kind(bench.store.delete(&delete(old)).await, ErrorKind::Changed)?;
    ok(bench.head("d").await)?;
    ok(bench.store.delete(&delete(new)).await)?;
    kind(bench.head("d").await, ErrorKind::NotFound)
}

async fn copies<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let etag = ok(bench.put("s", b"source", Condition::None).await)?.etag;
    let mut replaced = Properties::default();
    replaced.metadata.insert("k".into(), "v".into());
    let copy = |key: &str, source_if_match: ETag, condition| CopyObject {
        source: bench.object("s"),
        source_if_match: Some(source_if_match),
        source_unchanged_since: None,
        bucket: bench.bucket.clone(),
        key: Key::new(key).unwrap(),
        replace: Some(replaced.clone()),
        condition,
    };
    ok(bench.store.copy(&copy("t", etag.clone(), Condition::IfAbsent)).await)?;
    kind(bench.store.copy(&copy("t", etag.clone(), Condition::IfAbsent)).await, ErrorKind::Exists)?;
    kind(bench.store.copy(&copy("u", ETag::new("0123456789abcdef0123456789abcdef"), Condition::None)).await, ErrorKind::Changed)?;
    same(ok(bench.head("t").await)?.properties.metadata.get("k").cloned(), Some("v".to_owned()))?;
    ok(bench.store.copy(&copy("s", etag.clone(), Condition::IfMatch(etag))).await)?;
    same(ok(bench.head("s").await)?.properties.metadata.get("k").cloned(), Some("v".to_owned()))?;
    same(ok(bench.read("s", None, None).await)?, b"source".to_vec())
}

async fn dated_copies<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    ok(bench.put("dated", b"source", Condition::None).await)?;
    let copy = |info: &ObjectInfo, since, value: &str| {
        let mut properties = Properties::default();
        properties.metadata.insert("k".into(), value.into());
        CopyObject {
            source: bench.object("dated"),
            source_if_match: None,
            source_unchanged_since: Some(since),
            bucket: bench.bucket.clone(),
            key: Key::new("dated").unwrap(),
            replace: Some(properties),
            condition: Condition::IfMatch(info.etag.clone()),
        }
    };
    // Twice: the first one may still have to learn what the store does.
    for value in ["1", "2"] {
        let info = ok(bench.head("dated").await)?;
        let before = info.last_modified - std::time::Duration::from_secs(2);
        kind(bench.store.copy(&copy(&info, before, "lost")).await, ErrorKind::Changed)?;
        ok(bench.store.copy(&copy(&info, info.last_modified, value)).await)?;
        same(ok(bench.head("dated").await)?.properties.metadata.get("k").cloned(), Some(value.to_owned()))?;
    }
    Ok(())
}

async fn multipart<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let create = CreateUpload { bucket: bench.bucket.clone(), key: Key::new("big").unwrap(), properties: Properties::default() };
    let upload = ok(bench.store.create_upload(&create).await)?;
    let sizes = [MIN_PART_BYTES as usize, MIN_PART_BYTES as usize + 3, 10];
    let mut parts = Vec::new();
    for (index, size) in sizes.into_iter().enumerate() {
        let number = PartNumber::new(u16::try_from(index).unwrap() + 1).unwrap();
        let payload = Payload::from(Bytes::from(vec![b'a' + index as u8; size]));
        parts.push(ok(bench.store.upload_part(&UploadPart { upload: upload.clone(), number, payload }).await)?);
    }
    let listed = ok(bench.store.list_parts(&upload).await)?;
    same(listed.iter().map(|part| part.size).collect::<Vec<_>>(), sizes.map(|size| size as u64).to_vec())?;
    let uploads = ok(bench.store.list_uploads(&bench.bucket, &Prefix::new("big"), None).await)?;
    same(uploads.uploads.into_iter().map(|(upload, _)| upload.id).collect(), vec![upload.id.clone()])?;
    kind(bench.head("big").await, ErrorKind::NotFound)?;
    let complete = CompleteUpload { upload: upload.clone(), parts, condition: Condition::IfAbsent };
    let committed = ok(bench.store.complete_upload(&complete).await)?;
    let info = ok(bench.head("big").await)?;
    same((info.size, info.etag), (sizes.iter().sum::<usize>() as u64, committed.etag))?;
    let at = MIN_PART_BYTES;
    same(ok(bench.read("big", ByteRange::new(at - 2, at + 2), None).await)?, b"aabb".to_vec())?;
    let upload = ok(bench.store.create_upload(&create).await)?;
    ok(bench.store.abort_upload(&upload).await)?;
    kind(bench.store.list_parts(&upload).await, ErrorKind::NoUpload)?;
    same(ok(bench.head("big").await)?.size, sizes.iter().sum::<usize>() as u64)
}

async fn small_part_refused<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let create =
        CreateUpload { bucket: bench.bucket.clone(), key: Key::new("small").unwrap(), properties: Properties::default() };
    let upload = ok(bench.store.create_upload(&create).await)?;
    let mut parts = Vec::new();
    for number in [1, 2] {
        let number = PartNumber::new(number).unwrap();
        parts.push(ok(bench
            .store
            .upload_part(&UploadPart { upload: upload.clone(), number, payload: Payload::from("x") })
            .await)?);
    }
    let answer = bench.store.complete_upload(&CompleteUpload { upload: upload.clone(), parts, condition: Condition::None }).await;
    let refused = kind(answer, ErrorKind::Invalid);
    let _ = bench.store.abort_upload(&upload).await;
    refused
}

async fn missing_bucket<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let bucket = BucketName::new("no-such-bucket-anywhere").unwrap();
    let list = ListObjects {
        bucket: bucket.clone(),
        prefix: Prefix::new(""),
        delimiter: Delimiter::None,
        start: ListStart::Beginning,
        max_keys: 1,
    };
    kind(bench.store.list(&list).await, ErrorKind::NoBucket)?;
    kind(bench.store.head_bucket(&bucket).await, ErrorKind::NoBucket)?;
    let object = ObjectRef::current(bucket, Key::new("k").unwrap());
    kind(bench.store.get(&GetObject { object, range: None, if_match: None }).await.map(|_| ()), ErrorKind::NoBucket)
}

async fn buckets<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let all = ok(bench.store.list_buckets().await)?;
    same(all.iter().any(|bucket| bucket.name == bench.bucket.as_str()), true)?;
    ok(bench.put("b", b"x", Condition::None).await)?;
    kind(bench.store.delete_bucket(&bench.bucket).await, ErrorKind::NotEmpty)?;
    ok(bench.store.head_bucket(&bench.bucket).await).map(|_| ())
}

async fn restore<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let properties = Properties { storage_class: Some(StorageClass::new("GLACIER")), ..Properties::default() };
    ok(bench.put_with("ice", b"frozen", Condition::None, properties).await)?;
    kind(bench.read("ice", None, None).await, ErrorKind::Archived)?;
    let request = RestoreObject { object: bench.object("ice"), days: Some(5), tier: Some(RestoreTier::Standard) };
    ok(bench.store.restore(&request).await)?;
    same(ok(bench.head("ice").await)?.restore, Some(RestoreState::Ongoing))?;
    kind(bench.store.restore(&request).await, ErrorKind::RestoreOngoing)?;
    for _ in 0..300 {
        if matches!(ok(bench.head("ice").await)?.restore, Some(RestoreState::Until(_))) {
            return same(ok(bench.read("ice", None, None).await)?, b"frozen".to_vec());
        }
        pailfs::base::clock::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err("the restore did not end".into())
}

async fn restore_of_a_plain_object<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    ok(bench.put("warm", b"x", Condition::None).await)?;
    kind(
        bench.store.restore(&RestoreObject { object: bench.object("warm"), days: Some(1), tier: None }).await,
        ErrorKind::Invalid,
    )
}

/// Runs every point; the differences to what is expected of `version`.
async fn differences<S: ObjectStore + BucketService>(bench: &Bench<S>, version: &str) -> Vec<String> {
    let mut differences = Vec::new();
    let mut check = |point: &str, verdict: Verdict| {
        let exception = EXCEPTIONS.iter().find(|(of, excepted, _)| *of == version && *excepted == point);
        match (verdict, exception) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some((_, _, reason))) => differences.push(format!("{version}: '{point}' holds now, though: {reason}")),
            (Err(why), None) => differences.push(format!("{version}: '{point}': {why}")),
        }
    };
    check("round trip", round_trip(bench).await);
    check("metadata", metadata(bench).await);
    check("range past the end", range_past_the_end(bench).await);
    check("pinned reads", pinned_reads(bench).await);
    check("put conditions", put_conditions(bench).await);
    check("delete if match", delete_if_match(bench).await);
    check("listing", keys::listing(bench).await);
    check("listing order", keys::listing_order(bench).await);
    check("odd keys", keys::odd_keys(bench).await);
    check("delete many", keys::delete_many(bench).await);
    check("conditional delete many", keys::conditional_delete_many(bench).await);
    check("copies", copies(bench).await);
    check("copies of what was changed", dated_copies(bench).await);
    check("multipart", multipart(bench).await);
    check("uploads add up", integrity::uploads_add_up(bench).await);
    check("sums of uploads", integrity::sums_of_uploads(bench).await);
    check("wrong whole refused", integrity::wrong_whole_refused(bench).await);
    check("small part refused", small_part_refused(bench).await);
    check("missing bucket", missing_bucket(bench).await);
    check("buckets", buckets(bench).await);
    check("restore", restore(bench).await);
    check("restore of a plain object", restore_of_a_plain_object(bench).await);
    check("object acl", documents::object_acl(bench).await);
    check("bucket acl", documents::bucket_acl(bench).await);
    check("acl of a new object", documents::acl_of_a_new_object(bench).await);
    check("email grant", documents::email_grant(bench, "alt@example.com").await);
    check("object tags", documents::object_tags(bench).await);
    check("counted tags", documents::counted_tags(bench).await);
    check("bucket tags", documents::bucket_tags(bench).await);
    check("cors", documents::configuration(bench, documents::cors()).await);
    check("lifecycle", documents::configuration(bench, documents::lifecycle()).await);
    check("expiry", documents::configuration(bench, documents::expiry()).await);
    check("policy", documents::configuration(bench, documents::policy(&bench.bucket)).await);
    check("versioning", documents::configuration(bench, documents::versioning()).await);
    check("public access block", documents::configuration(bench, documents::public_access_block()).await);
    check("ownership", documents::ownership(bench).await);
    check("location", capabilities::location(bench).await);
    check("versions", capabilities::versions(bench).await);
    check("presigned address", capabilities::presigned(bench).await);
    check("expired address", capabilities::expired_address(bench).await);
    check("tags of copies", capabilities::tags_of_copies(bench).await);
    check("tags of uploads", capabilities::tags_of_uploads(bench).await);
    check("acl of uploads", capabilities::acl_of_uploads(bench).await);
    check("key service", capabilities::key_service(bench).await);
    check("lock without a bucket for it", capabilities::lock_refused(bench).await);
    check("ownership of a new bucket", capabilities::ownership_of_a_new_bucket(bench).await);
    differences
}

async fn bench<S: ObjectStore + BucketService>(store: S) -> Bench<S> {
    let bucket = BucketName::new(&format!("conformance-{}", &rng::token()[..12])).unwrap();
    store.create_bucket(&bucket, NewBucket::default()).await.unwrap();
    Bench { store, bucket }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_memory_keeps_the_contract() {
    assert_eq!(differences(&bench(Memory::new()).await, "memory").await, Vec::<String>::new());
}

#[cfg(feature = "demo")]
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_server_keeps_the_contract_over_http() {
    use pailfs::devserver::{ACCESS_KEY, SECRET_KEY, Server, ServerConfig};
    let restore_ongoing = std::time::Duration::from_millis(500);
    let server = Server::start(ServerConfig { restore_ongoing, ..ServerConfig::default() }).await.unwrap();
    let store = servers::client(&server.endpoint(), "us-east-1", ACCESS_KEY, SECRET_KEY).await;
    let differences = differences(&bench(store).await, "embedded").await;
    server.stop().await;
    assert_eq!(differences, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn real_servers_keep_the_contract_but_for_listed_exceptions() {
    let mut wrong = Vec::new();
    for server in servers::all() {
        let store = servers::client(&server.endpoint, &server.region, &server.access_key, &server.secret_key).await;
        let found = differences(&bench(store).await, &server.version).await;
        let listed = EXCEPTIONS.iter().any(|(version, _, _)| *version == server.version);
        if listed {
            wrong.extend(found);
        } else {
            // A version that nobody has looked at: its differences are news, not failures.
            println!("not listed: {found:#?}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
