//! Object lock: what replaces a locked object is as locked, and costs no request more.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pailfs::base::clock;
use pailfs::fs::config::{Config, Source};
use pailfs::fs::{Replace, SetHow};
use pailfs::store::*;

use crate::world::{CALLER, World, content};
use pailfs::fs::Looked;
use pailfs::fs::attr::{Ino, SetAttr};

fn bucket(name: &str) -> BucketName {
    BucketName::new(name).unwrap()
}

fn lock(days: u64) -> ObjectLock {
    let whole = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(whole + days * 86_400);
    ObjectLock { retention: Some(Retention { mode: "GOVERNANCE".into(), until }), legal_hold: true }
}

async fn put(world: &World, key: &str, lock: ObjectLock) -> Result<Committed> {
    let properties = Properties { lock, ..Properties::default() };
    let request = PutObject {
        bucket: bucket("bucket"),
        key: Key::new(key).unwrap(),
        payload: Payload::from("content"),
        properties,
        condition: Condition::None,
    };
    world.memory.put(&request).await
}

async fn lock_of(world: &World, bucket_name: &str, key: &str) -> ObjectLock {
    let object = ObjectRef::current(bucket(bucket_name), Key::new(key).unwrap());
    let info = world.memory.head(&HeadObject { object }).await.unwrap();
    assert_eq!(info.properties.lock.to_facts(), {
        let locks = info.facts.others.iter().filter(|(name, _)| name.starts_with("lock."));
        locks.map(|(name, value)| (*name, value.clone())).collect()
    });
    info.properties.lock
}

fn world() -> World {
    let world = World::new(RetryPolicy::default());
    world.memory.take_locks(&bucket("bucket"));
    world
}

async fn ino(world: &World, parent: Ino, name: &str) -> Ino {
    match world.fs.lookup(parent, name.as_bytes()).await.unwrap() {
        Looked::Found(stat) => stat.ino,
        Looked::Absent => panic!("{name} is not there"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_replaces_a_locked_object_is_as_locked() {
    let (world, lock) = (world(), lock(3));
    put(&world, "f", lock.clone()).await.unwrap();
    let file = ino(&world, Ino::ROOT, "f").await;
    world.fs.setxattr(file, b"user.colour", b"blue", SetHow::Any, CALLER).await.unwrap();
    assert_eq!(lock_of(&world, "bucket", "f").await, lock, "after a self-copy");
    let shown = world.fs.getxattr(file, b"user.s3.lock.mode", CALLER).await.unwrap();
    assert_eq!(shown, b"GOVERNANCE");
    world.fs.setattr(file, SetAttr { mode: Some(0o600), ..SetAttr::default() }, CALLER).await.unwrap();
    assert_eq!(lock_of(&world, "bucket", "f").await, lock, "after chmod");
    world.write("f", &Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(lock_of(&world, "bucket", "f").await, lock, "after a new content");
    assert_eq!(world.fs.getxattr(file, b"user.s3.lock.legal-hold", CALLER).await.unwrap(), b"ON");
    let large = content(1, 20 << 20);
    world.write("f", &large).await.unwrap();
    assert_eq!(world.stored("f").await.unwrap(), large);
    assert!(world.fault.calls().contains(&Operation::CompleteMultipartUpload));
    assert_eq!(lock_of(&world, "bucket", "f").await, lock, "after a multipart upload");
    world.fs.rename((Ino::ROOT, b"f"), (Ino::ROOT, b"g"), Replace::Allowed).await.unwrap();
    assert_eq!(lock_of(&world, "bucket", "g").await, lock, "under a new name");
    world.write("new", &Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(lock_of(&world, "bucket", "new").await, ObjectLock::default(), "a new name starts fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retention_that_is_over_is_not_sent_and_the_hold_is() {
    let (world, mut lock) = (world(), lock(0));
    let soon = lock.retention.as_mut().unwrap();
    soon.until += Duration::from_secs(2);
    put(&world, "f", lock.clone()).await.unwrap();
    clock::sleep(Duration::from_millis(2100)).await;
    put(&world, "refused", lock).await.unwrap_err();
    world.write("f", &Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(lock_of(&world, "bucket", "f").await, ObjectLock { retention: None, legal_hold: true });
    let file = ino(&world, Ino::ROOT, "f").await;
    world.fs.setxattr(file, b"user.colour", b"blue", SetHow::Any, CALLER).await.unwrap();
    assert_eq!(lock_of(&world, "bucket", "f").await, ObjectLock { retention: None, legal_hold: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_does_not_go_to_another_bucket() {
    let config = Config { source: Source::Account, ..Config::new(bucket("bucket")) };
    let world = World::of(config, RetryPolicy::default());
    world.memory.take_locks(&bucket("bucket"));
    world.memory.ensure_bucket(&bucket("other"));
    put(&world, "f", lock(3)).await.unwrap();
    let (from, to) = (ino(&world, Ino::ROOT, "bucket").await, ino(&world, Ino::ROOT, "other").await);
    world.fs.rename((from, b"f"), (to, b"f"), Replace::Allowed).await.unwrap();
    assert_eq!(lock_of(&world, "other", "f").await, ObjectLock::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_not_made_for_locks_refuses_them() {
    let world = World::new(RetryPolicy::default());
    let refused = put(&world, "f", lock(3)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.story().code.as_deref()), (ErrorKind::Invalid, Some("InvalidRequest")));
}
