//! The contract of what not every store has: where buckets lie, versions, presigned addresses, encryption by a key service,
//! locks, and what copies and multipart uploads keep.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use bytes::Bytes;
use pailfs::base::{clock, rng, tasks};
use pailfs::store::*;

use crate::conformance::{Bench, Verdict, kind, ok, same};

/// A bucket of its own for one point.
async fn fresh<S: ObjectStore + BucketService>(bench: &Bench<S>, new: NewBucket<'_>) -> Result<Bench<S>> {
    let bucket = BucketName::new(&format!("conformance-{}", &rng::token()[..12])).unwrap();
    bench.store.create_bucket(&bucket, new).await?;
    Ok(Bench { store: bench.store.clone(), bucket })
}

pub async fn location<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let location = ok(bench.store.location(&bench.bucket).await)?;
    same(location.is_empty(), false)?;
    match ok(bench.store.head_bucket(&bench.bucket).await)?.region {
        Some(region) => same(region, location),
        None => Ok(()),
    }
}

pub async fn versions<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let bench = ok(fresh(bench, NewBucket::default()).await)?;
    let enabled = ConfigDocument::parse(ConfigKind::Versioning, r#"{"Status":"Enabled"}"#).unwrap();
    ok(bench.store.put_document(&bench.bucket.clone().into(), &Document::Config(enabled)).await)?;
    let first = ok(bench.put("v", b"1", Condition::None).await)?;
    let second = ok(bench.put("v", b"22", Condition::None).await)?;
    // A key that begins alike is another one.
    ok(bench.put("v2", b"x", Condition::None).await)?;
    same(first.version.is_some() && second.version.is_some() && first.version != second.version, true)?;
    ok(bench.store.delete(&DeleteObject { object: bench.object("v"), condition: Condition::None }).await)?;
    kind(bench.head("v").await, ErrorKind::NotFound)?;
    let mut listed = ok(bench.store.list_versions(&bench.object("v")).await)?;
    // Not every store lists delete markers among the others.
    listed.sort_by_key(|version| (!version.is_latest, std::cmp::Reverse(version.size)));
    let shown: Vec<_> = listed.iter().map(|version| (version.size, version.is_latest)).collect();
    same(shown, vec![(None, true), (Some(2), false), (Some(1), false)])?;
    same(Some(listed[2].id.clone()), first.version.clone())?;
    let old = ObjectRef { version: first.version, ..bench.object("v") };
    let download = ok(bench.store.get(&GetObject { object: old, range: None, if_match: None }).await)?;
    same(ok(download.body.collect().await)?, Bytes::from_static(b"1"))?;
    let marker = ObjectRef { version: Some(listed[0].id.clone()), ..bench.object("v") };
    ok(bench.store.delete(&DeleteObject { object: marker, condition: Condition::None }).await)?;
    same(ok(bench.head("v").await)?.size, 2)
}

/// What a client that knows nothing of S3 gets: the status, and the body.
fn plain_get(url: &str) -> (u16, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn fetched(url: String) -> (u16, String) {
    tasks::blocking(move || plain_get(&url)).await
}

pub async fn presigned<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let name = "for all/grüß +&.txt";
    ok(bench.put(name, b"for everybody", Condition::None).await)?;
    let url = ok(bench.store.presign(&bench.object(name), Duration::from_secs(60)).await)?;
    let (status, body) = fetched(url).await;
    same((status, body.contains("for everybody")), (200, true))
}

pub async fn expired_address<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    ok(bench.put("soon", b"x", Condition::None).await)?;
    let url = ok(bench.store.presign(&bench.object("soon"), Duration::from_secs(1)).await)?;
    clock::sleep(Duration::from_millis(2500)).await;
    same(fetched(url).await.0, 403)
}

fn tags(value: &str) -> Tags {
    let mut tags = Tags::default();
    tags.set("colour", value);
    tags
}

async fn tags_of<S: ObjectStore + BucketService>(bench: &Bench<S>, name: &str) -> std::result::Result<Option<Document>, String> {
    ok(bench.store.get_document(&bench.object(name).into(), Subresource::Tagging).await)
}

pub async fn tags_of_copies<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let properties = Properties { tags: Some(tags("blue")), ..Properties::default() };
    let etag = ok(bench.put_with("tagged", b"x", Condition::None, properties).await)?.etag;
    for (name, replaced, left) in [("same tags", None, "blue"), ("other tags", Some(tags("red")), "red")] {
        let copy = CopyObject {
            source: bench.object("tagged"),
            source_if_match: Some(etag.clone()),
            source_unchanged_since: None,
            bucket: bench.bucket.clone(),
            key: Key::new(name).unwrap(),
            replace: Some(Properties { tags: replaced, ..Properties::default() }),
            condition: Condition::IfAbsent,
        };
        ok(bench.store.copy(&copy).await)?;
        same(tags_of(bench, name).await?, Some(Document::Tags(tags(left))))?;
    }
    Ok(())
}

/// An object of one part.
async fn upload<S: ObjectStore + BucketService>(bench: &Bench<S>, name: &str, properties: Properties) -> Verdict {
    let create = CreateUpload { bucket: bench.bucket.clone(), key: Key::new(name).unwrap(), properties };
    let upload = ok(bench.store.create_upload(&create).await)?;
    let number = PartNumber::new(1).unwrap();
    let part = UploadPart { upload: upload.clone(), number, payload: Payload::from("part") };
    let parts = vec![ok(bench.store.upload_part(&part).await)?];
    ok(bench.store.complete_upload(&CompleteUpload { upload, parts, condition: Condition::IfAbsent }).await).map(|_| ())
}

pub async fn tags_of_uploads<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    upload(bench, "tagged parts", Properties { tags: Some(tags("blue")), ..Properties::default() }).await?;
    same(tags_of(bench, "tagged parts").await?, Some(Document::Tags(tags("blue"))))
}

pub async fn acl_of_uploads<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let acl = Some(AclChange::Canned(CannedAcl::PublicRead));
    upload(bench, "public parts", Properties { acl, ..Properties::default() }).await?;
    let read = ok(bench.store.get_document(&bench.object("public parts").into(), Subresource::Acl).await)?;
    let Some(Document::Acl(acl)) = read else { return Err(format!("got {read:?}, wanted an access list")) };
    same(acl.grants.iter().any(|grant| grant.grantee.is(&Grantee::group("AllUsers"))), true)
}

pub async fn key_service<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let key_id = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let encryption = Encryption { algorithm: "aws:kms".to_owned(), key_id: Some(key_id.to_owned()), bucket_key: Some(true) };
    let properties = Properties { encryption: Some(encryption.clone()), ..Properties::default() };
    ok(bench.put_with("secret", b"x", Condition::None, properties).await)?;
    let info = ok(bench.head("secret").await)?;
    same(info.properties.encryption, Some(encryption))?;
    same(info.facts.others.get("sse-kms-key-id").map(String::as_str), Some(key_id))
}

/// Locks are agreed upon when a bucket is made.
pub async fn lock_refused<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let lock = ObjectLock { retention: None, legal_hold: true };
    let properties = Properties { lock, ..Properties::default() };
    kind(bench.put_with("locked", b"x", Condition::None, properties).await, ErrorKind::Invalid)
}

pub async fn ownership_of_a_new_bucket<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let new = NewBucket { ownership: Some(Ownership::BucketOwnerPreferred), ..NewBucket::default() };
    let bench = ok(fresh(bench, new).await)?;
    let controls = Subresource::Config(ConfigKind::OwnershipControls);
    let read = ok(bench.store.get_document(&bench.bucket.clone().into(), controls).await)?;
    let wanted = r#"{"Rules":[{"ObjectOwnership":"BucketOwnerPreferred"}]}"#;
    let wanted = ConfigDocument::parse(ConfigKind::OwnershipControls, wanted).unwrap();
    same(read, Some(Document::Config(wanted)))
}
