//! What goes over the wire, seen from a server that answers by a script: for what no real server does on demand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pailfs::base::{crc::Crc64, encode};
use pailfs::store::*;

use crate::servers;

/// A request as it came: the request line, then the headers.
type Seen = Vec<String>;

/// A server that gives one answer after the other, each on a connection of its own, and tells what it was asked.
struct Script {
    endpoint: String,
    seen: mpsc::Receiver<Seen>,
}

impl Script {
    fn of(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, seen) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut connection, _) = listener.accept().unwrap();
                // Whoever waits for it may have failed already.
                let _ = sender.send(take(&connection));
                connection.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { endpoint, seen }
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    async fn client(&self) -> pailfs::s3::S3Store {
        servers::client(&self.endpoint, "us-east-1", "key", "secret").await
    }
}

/// Reads one request with its body.
fn take(connection: &TcpStream) -> Seen {
    let mut reader = BufReader::new(connection);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
    reader.take(length).read_to_end(&mut Vec::new()).unwrap();
    head
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let of_name = |line: &'a String| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name));
    head.iter().find_map(of_name).map(|(_, value)| value)
}

fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn bucket() -> BucketName {
    BucketName::new("bucket").unwrap()
}

fn object(key: &str) -> ObjectRef {
    ObjectRef::current(bucket(), Key::new(key).unwrap())
}

fn put(key: &str) -> PutObject {
    let (payload, properties) = (Payload::from(Bytes::from_static(b"x")), Properties::default());
    PutObject { bucket: bucket(), key: Key::new(key).unwrap(), payload, properties, condition: Condition::None }
}

#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let body = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>We failed.</Message></Error>";
    let script = Script::of(vec![answer("200 OK", &[("x-amz-request-id", "R")], body); 4]);
    let store = script.client().await;
    let (source, key) = (object("a"), Key::new("b").unwrap());
    let copy = CopyObject {
        source: source.clone(),
        source_if_match: None,
        source_unchanged_since: None,
        bucket: bucket(),
        key: key.clone(),
        replace: None,
        condition: Condition::None,
    };
    let upload = Upload { bucket: bucket(), key: key.clone(), id: UploadId::new("u"), declares_checksums: false };
    let (number, range) = (PartNumber::new(1).unwrap(), ByteRange::new(0, 1).unwrap());
    let part = Part { number, etag: ETag::new("e"), crc64nvme: None, tag_is_md5: false, size: 1 };
    let copy_part = CopyPart { upload: upload.clone(), number, source, source_if_match: None, range };
    let complete = CompleteUpload { upload, parts: vec![part], condition: Condition::None };
    let errors = [
        store.copy(&copy).await.unwrap_err(),
        store.copy_part(&copy_part).await.unwrap_err(),
        store.complete_upload(&complete).await.unwrap_err(),
        store.delete_many(&bucket(), &[DeleteKey { key, etag: None }]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
        assert_eq!(error.story().code.as_deref(), Some("InternalError"), "{error}");
    }
}

#[tokio::test]
async fn each_key_of_a_batch_has_its_own_error() {
    let body = "<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
    let script = Script::of(vec![answer("200 OK", &[], body)]);
    let keys = ["a", "b"].map(|key| Key::new(key).unwrap());
    let keys = keys.map(|key| DeleteKey { key, etag: None });
    let answers = script.client().await.delete_many(&bucket(), &keys).await.unwrap();
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_region_redirect_is_followed_and_remembered() {
    let elsewhere = answer("301 Moved Permanently", &[("x-amz-bucket-region", "eu-west-1")], "");
    let done = answer("200 OK", &[("etag", "\"e\"")], "");
    let script = Script::of(vec![elsewhere, done.clone(), done]);
    let store = script.client().await;
    store.put(&put("a")).await.unwrap();
    store.put(&put("b")).await.unwrap();
    let scopes = ["us-east-1", "eu-west-1", "eu-west-1"];
    for scope in scopes {
        let seen = script.next();
        let authorization = header(&seen, "authorization").unwrap();
        assert!(authorization.contains(&format!("/{scope}/s3/aws4_request")), "{authorization}");
    }
}

/// As radosgw 16 in a bucket that keeps versions: the right tag never matches, in whatever form, and `*` matches nothing.
#[tokio::test]
async fn a_bucket_in_which_no_condition_holds_is_looked_at_just_before() {
    let there = answer("200 OK", &[("etag", "\"e\""), ("last-modified", "Fri, 21 Dec 2012 00:00:00 GMT")], "");
    let failed = answer("412 Precondition Failed", &[("x-amz-request-id", "R")], "");
    let done = answer("200 OK", &[("etag", "\"f\""), ("x-amz-version-id", "v")], "");
    let twice = [&there, &failed, &failed, &there, &failed, &there, &failed, &there, &done];
    let known = [&there, &done, &there];
    let script = Script::of(twice.into_iter().chain(known).cloned().collect());
    let store = script.client().await;
    let request = PutObject { condition: Condition::IfMatch(ETag::new("e")), ..put("a") };
    store.put(&request).await.unwrap();
    let sent = [Some("00000000000000000000000000000000-pailfs"), Some("e"), Some("e"), Some("e"), None];
    let puts: Vec<Seen> = (0..9).map(|_| script.next()).filter(|seen| seen[0].starts_with("PUT")).collect();
    let tags = puts.iter().map(|seen| header(seen, "if-match").map(|tag| tag.trim_matches('"').to_owned()));
    assert_eq!(tags.collect::<Vec<_>>(), sent.map(|tag| tag.map(str::to_owned)));
    // From now on it is looked, whatever shall be there.
    store.put(&request).await.unwrap();
    assert!(script.next()[0].starts_with("HEAD") && header(&script.next(), "if-match").is_none());
    let refused = store.put(&PutObject { condition: Condition::IfAbsent, ..put("a") }).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exists);
}

#[tokio::test]
async fn the_path_that_is_sent_is_the_one_that_was_signed() {
    let keys = ["a/../b", "../x", ".", "..", "a\\b", "a//b", "%2e%2e/x", "a?b#c", "a b+c", "ä", "a\nb", "./", "x/.."];
    let script = Script::of(vec![answer("200 OK", &[("etag", "\"e\"")], ""); keys.len()]);
    let store = script.client().await;
    for key in keys {
        store.put(&put(key)).await.unwrap();
        let line = format!("PUT /bucket/{} HTTP/1.1", encode::uri_path(key));
        assert_eq!(script.next()[0], line, "{key:?}");
    }
}

#[tokio::test]
async fn a_range_that_is_not_the_wanted_one_is_no_answer() {
    let headers = |range| vec![("etag", "\"e\""), ("last-modified", "Fri, 21 Dec 2012 00:00:00 GMT"), ("content-range", range)];
    let other = answer("206 Partial Content", &headers("bytes 0-3/100"), "abcd");
    let missing = answer("206 Partial Content", &headers("nonsense"), "abcd");
    let script = Script::of(vec![other, missing]);
    let store = script.client().await;
    let request = GetObject { object: object("a"), range: ByteRange::new(4, 8), if_match: None };
    for _ in 0..2 {
        assert_eq!(store.get(&request).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

/// The tag of `x`, and the checksum of it.
const MD5_OF_X: &str = "\"9dd4e461268c8034f5c8564e155c67a6\"";
const OTHER_MD5: &str = "\"9dd4e461268c8034f5c8564e155c67a7\"";

fn sum_of(text: &str) -> String {
    Crc64::of([text]).to_string()
}

fn is_damaged<T: std::fmt::Debug>(answer: Result<T>) {
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Corrupt, Outcome::Damaged), "{error}");
}

#[tokio::test]
async fn a_put_of_which_the_store_has_something_else_has_failed() {
    let summed = |sum: &str| answer("200 OK", &[("etag", MD5_OF_X), ("x-amz-checksum-crc64nvme", sum)], "");
    let script = Script::of(vec![summed(&sum_of("x")), summed(&sum_of("y"))]);
    let store = script.client().await;
    let made = store.put(&put("a")).await.unwrap();
    assert_eq!(made.crc64nvme, Some(Crc64::of(["x"])));
    is_damaged(store.put(&put("a")).await);
    let sent = [script.next(), script.next()];
    assert_eq!(
        sent.map(|seen| header(&seen, "x-amz-checksum-crc64nvme").map(str::to_owned)),
        [(); 2].map(|()| Some(sum_of("x")))
    );
}

#[tokio::test]
async fn a_store_without_checksums_is_judged_by_its_tags_once_they_are_known_to_be_md5s() {
    let tagged = |tag, more: &[(&str, &str)]| answer("200 OK", &[&[("etag", tag)], more].concat(), "");
    let encrypted = [("x-amz-server-side-encryption", "aws:kms")];
    let script = Script::of(vec![
        // Nothing is known: a checksum goes along, and none comes back.
        tagged(OTHER_MD5, &[]),
        tagged(MD5_OF_X, &[]),
        tagged(OTHER_MD5, &[]),
        tagged(OTHER_MD5, &encrypted),
        tagged("\"9dd4e461268c8034f5c8564e155c67a6-1\"", &[]),
    ]);
    let store = script.client().await;
    store.put(&put("a")).await.unwrap();
    store.put(&put("a")).await.unwrap();
    is_damaged(store.put(&put("a")).await);
    store.put(&put("a")).await.unwrap();
    store.put(&put("a")).await.unwrap();
    let sent: Vec<Seen> = (0..5).map(|_| script.next()).collect();
    let md5s: Vec<_> = sent.iter().map(|seen| header(seen, "content-md5").is_some()).collect();
    assert_eq!(md5s, [false, true, true, true, true]);
    // The body is hashed for its signature until the tag has proved the MD5.
    let signed: Vec<_> = sent.iter().map(|seen| header(seen, "x-amz-content-sha256") != Some("UNSIGNED-PAYLOAD")).collect();
    assert_eq!(signed, [true, true, false, false, false]);
}

#[tokio::test]
async fn tags_that_are_no_md5s_tell_nothing() {
    let tagged = |tag| answer("200 OK", &[("etag", tag)], "");
    let script = Script::of(vec![tagged(OTHER_MD5), tagged(OTHER_MD5), tagged(MD5_OF_X), tagged(OTHER_MD5)]);
    let store = script.client().await;
    for _ in 0..4 {
        store.put(&put("a")).await.unwrap();
    }
    let sent: Vec<Seen> = (0..4).map(|_| script.next()).collect();
    assert!(sent.iter().all(|seen| header(seen, "x-amz-content-sha256") != Some("UNSIGNED-PAYLOAD")));
    assert_eq!(header(&sent[3], "content-md5"), None);
}

fn completed(tag: &str, sum: &str) -> String {
    let sum = if sum.is_empty() { String::new() } else { format!("<ChecksumCRC64NVME>{sum}</ChecksumCRC64NVME>") };
    let body = format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag>{sum}</CompleteMultipartUploadResult>");
    answer("200 OK", &[], &body)
}

fn complete(declares_checksums: bool, part: Part) -> CompleteUpload {
    let upload = Upload { bucket: bucket(), key: Key::new("b").unwrap(), id: UploadId::new("u"), declares_checksums };
    CompleteUpload { upload, parts: vec![part], condition: Condition::None }
}

#[tokio::test]
async fn the_whole_is_told_to_a_store_that_takes_it_and_to_no_other() {
    let refused = answer("400 Bad Request", &[], "<Error><Code>InvalidRequest</Code><Message>What is this?</Message></Error>");
    let wrong = answer("400 Bad Request", &[], "<Error><Code>BadDigest</Code><Message>No.</Message></Error>");
    let done = completed("e-1", &sum_of("x"));
    let part =
        Part { number: PartNumber::FIRST, etag: ETag::new("e"), crc64nvme: Some(Crc64::of(["x"])), tag_is_md5: false, size: 1 };
    let request = complete(true, part);
    let told = |seen: Seen| header(&seen, "x-amz-checksum-crc64nvme").map(str::to_owned);
    // One that does not know the words.
    let script = Script::of(vec![refused.clone(), done.clone(), done.clone()]);
    let store = script.client().await;
    for _ in 0..2 {
        assert_eq!(store.complete_upload(&request).await.unwrap().crc64nvme, Some(Crc64::of(["x"])));
    }
    assert_eq!([(); 3].map(|()| told(script.next())), [Some(sum_of("x")), None, None]);
    // One that does, and refuses.
    let script = Script::of(vec![wrong, done, refused]);
    let store = script.client().await;
    let error = store.complete_upload(&request).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Corrupt, Outcome::NotApplied), "{error}");
    store.complete_upload(&request).await.unwrap();
    assert_eq!(store.complete_upload(&request).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!([(); 3].map(|()| told(script.next())), [(); 3].map(|()| Some(sum_of("x"))));
}

#[tokio::test]
async fn the_tag_of_a_whole_is_compared_once_it_is_known_to_be_made_of_its_parts() {
    // printf x | md5sum | xxd -r -p | md5sum
    let (right, other) = ("9affad555af89da9b0bfcd5e45bc93da-1", "00000000000000000000000000000000-1");
    let part = |tag_is_md5| Part { number: PartNumber::FIRST, etag: ETag::new(MD5_OF_X), crc64nvme: None, tag_is_md5, size: 1 };
    let script = Script::of([other, right, other].map(|tag| completed(tag, "")).into());
    let store = script.client().await;
    // The first one is not made as S3 makes it: then nothing can be said.
    for _ in 0..3 {
        store.complete_upload(&complete(false, part(true))).await.unwrap();
    }
    let script = Script::of([right, other, other].map(|tag| completed(tag, "")).into());
    let store = script.client().await;
    store.complete_upload(&complete(false, part(true))).await.unwrap();
    is_damaged(store.complete_upload(&complete(false, part(true))).await);
    // Where the parts' own tags are no MD5s, that of the whole is none of theirs.
    store.complete_upload(&complete(false, part(false))).await.unwrap();
}

#[cfg(feature = "demo")]
#[test]
fn credentials_that_are_nowhere_are_looked_for_briefly() {
    let (site, mount) = (crate::support::Site::start(), crate::support::Mount::place());
    let begun = Instant::now();
    // No variables, no files: only the instance's metadata service is left, and off AWS nobody answers there.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pailfs"))
        .args(["mount", "bucket", mount.path.to_str().unwrap(), "--endpoint-url", &site.server.endpoint()])
        .env_clear()
        .env("HOME", &mount.path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("credentials") && said.trim_end().lines().count() == 1, "{said}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
