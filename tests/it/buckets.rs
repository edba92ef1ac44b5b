//! The mount of an account without a kernel: names, requests, and what goes wrong, on a store in memory.

use std::time::Duration;

use pailfs::fs::attr::{Ino, Kind};
use pailfs::fs::config::{Config, Source};
use pailfs::fs::error::Situation;
use pailfs::fs::meta::location::Location;
use pailfs::fs::{Full, Looked, Plus, Replace, SetHow, Stat};
use pailfs::store::fault::Toxic;
use pailfs::store::*;

use crate::world::{CALLER, READ, WRITE, World, content};

fn name(text: &str) -> BucketName {
    BucketName::new(text).unwrap()
}

fn account() -> Config {
    Config { source: Source::Account, ..Config::new(name("bucket")) }
}

/// A mount that believes for `ttl`.
fn world_with(ttl: Duration) -> World {
    World::of_ttl(account(), RetryPolicy::once(), ttl)
}

fn world() -> World {
    World::of(account(), RetryPolicy::once())
}

async fn look(world: &World, parent: Ino, text: &str) -> Option<Stat> {
    match world.fs.lookup(parent, text.as_bytes()).await.unwrap() {
        Looked::Found(stat) => Some(stat),
        Looked::Absent => None,
    }
}

async fn names(world: &World, ino: Ino) -> Vec<String> {
    let handle = world.fs.opendir(ino).unwrap();
    let mut names = Vec::new();
    let listed = world.fs.readdir(handle, 0, Plus::No, |entry| {
        if !entry.is_dot {
            names.push(entry.name.to_owned());
        }
        Full::No
    });
    listed.await.unwrap();
    world.fs.releasedir(handle);
    names.sort();
    names
}

/// What was asked of the store since the last call.
struct Asked(usize);

impl Asked {
    fn since(&mut self, world: &World) -> Vec<Operation> {
        let calls = world.fault.calls();
        calls[std::mem::replace(&mut self.0, calls.len())..].to_vec()
    }
}

#[tokio::test(start_paused = true)]
async fn what_it_costs() {
    use Operation::{CreateBucket, HeadBucket, ListBuckets};
    let world = world_with(Duration::from_secs(5));
    let mut asked = Asked(0);
    assert_eq!(names(&world, Ino::ROOT).await, ["bucket"]);
    assert_eq!(asked.since(&world), [ListBuckets]);
    assert_eq!(names(&world, Ino::ROOT).await, ["bucket"]);
    assert!(look(&world, Ino::ROOT, "bucket").await.is_some());
    assert_eq!(asked.since(&world), [], "the list is believed for the TTL");
    // As the kernel does: lookup, then mkdir.
    assert!(look(&world, Ino::ROOT, "new-one").await.is_none());
    world.fs.mkdir(Ino::ROOT, b"new-one", 0o755, CALLER).await.unwrap();
    assert_eq!(asked.since(&world), [HeadBucket, CreateBucket]);
    assert_eq!(names(&world, Ino::ROOT).await, ["bucket", "new-one"]);
    for no_name in ["Bad_Name", "x", "%2F", "a..b", "127.0.0.1", "bucket%00"] {
        assert!(look(&world, Ino::ROOT, no_name).await.is_none(), "{no_name}");
    }
    assert_eq!(asked.since(&world), []);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(look(&world, Ino::ROOT, "bucket").await.is_some());
    assert_eq!(asked.since(&world), [HeadBucket]);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_shows_when_it_was_made_and_keeps_its_number() {
    let memory_time = async |world: &World| world.memory.list_buckets().await.unwrap()[0].created.unwrap();
    let world = world();
    let first = look(&world, Ino::ROOT, "bucket").await.unwrap();
    assert_eq!((first.kind, first.attr.mode, first.attr.nlink), (Kind::Directory, 0o755, 2));
    assert_eq!(first.attr.mtime, memory_time(&world).await);
    names(&world, Ino::ROOT).await;
    let again = look(&world, Ino::ROOT, "bucket").await.unwrap();
    assert_eq!((again.ino, again.attr), (first.ino, first.attr));
    // A mount of that bucket alone has the same numbers below.
    world.put("d/f", &content(1, 10)).await;
    let directory = look(&world, first.ino, "d").await.unwrap();
    let file = look(&world, directory.ino, "f").await.unwrap();
    let alone = World::new(RetryPolicy::once());
    alone.put("d/f", &content(1, 10)).await;
    let below = look(&alone, Ino::ROOT, "d").await.unwrap();
    assert_eq!((below.ino, look(&alone, below.ino, "f").await.unwrap().ino), (directory.ino, file.ino));
}

#[tokio::test(start_paused = true)]
async fn making_a_bucket_looks_first() {
    let world = world();
    let mkdir = async |text: &str| world.fs.mkdir(Ino::ROOT, text.as_bytes(), 0o755, CALLER).await;
    let refused = mkdir("bucket").await.unwrap_err();
    assert!(refused.situation() == Situation::Exists && refused.words().contains("own"), "{refused}");
    let refused = mkdir("Bad_Name").await.unwrap_err();
    assert!(refused.situation() == Situation::Invalid && refused.words().contains("3 to 63 lower-case"), "{refused}");
    // Somebody else's: HEAD and LIST are refused.
    let next = world.fault.calls().len();
    world.fault.inject(next, Toxic::Refused(ErrorKind::Denied));
    world.fault.inject(next + 1, Toxic::Refused(ErrorKind::Denied));
    let refused = mkdir("taken").await.unwrap_err();
    assert!(refused.situation() == Situation::Exists && refused.words().contains("another account"), "{refused}");
    assert_eq!(world.fault.calls().last(), Some(&Operation::ListObjectsV2), "nothing is created");
    // Credentials that have expired tell nothing about the bucket.
    let next = world.fault.calls().len();
    world.fault.inject(next, Toxic::Refused(ErrorKind::Denied));
    world.fault.inject(next + 1, Toxic::Refused(ErrorKind::Expired));
    assert_eq!(mkdir("taken").await.unwrap_err().situation(), Situation::Expired);
    for (kind, situation) in [(ErrorKind::TimedOut, Situation::TimedOut), (ErrorKind::Unreachable, Situation::Unreachable)] {
        world.fault.inject(world.fault.calls().len(), Toxic::Refused(kind));
        assert_eq!(mkdir("unknown").await.unwrap_err().situation(), situation);
        world.fault.inject(world.fault.calls().len(), Toxic::Refused(kind));
        assert_eq!(world.fs.lookup(Ino::ROOT, b"unknown").await.unwrap_err().situation(), situation);
    }
    // A lost answer is settled by looking; a lost request has made nothing.
    world.fault.inject(world.fault.calls().len() + 1, Toxic::Lost);
    mkdir("answer-lost").await.unwrap();
    world.fault.inject(world.fault.calls().len() + 1, Toxic::Vanished);
    mkdir("request-lost").await.unwrap_err();
    assert_eq!(names(&world, Ino::ROOT).await, ["answer-lost", "bucket"]);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_of_others_is_there_by_name_only() {
    let world = world();
    let next = world.fault.calls().len();
    world.fault.inject(next, Toxic::Refused(ErrorKind::Denied));
    world.fault.inject(next + 1, Toxic::Refused(ErrorKind::Denied));
    assert!(look(&world, Ino::ROOT, "others").await.is_some());
    assert_eq!(names(&world, Ino::ROOT).await, ["bucket"]);
    assert!(look(&world, Ino::ROOT, "others").await.is_none(), "by then it was deleted");
}

#[tokio::test(start_paused = true)]
async fn the_location_is_told_on_the_root() {
    let location = Location::parse("EU").unwrap();
    let world = World::of(Config { location, ..account() }, RetryPolicy::once());
    let get = async |ino| world.fs.getxattr(ino, b"user.s3.location", CALLER).await.map(|text| String::from_utf8(text).unwrap());
    let set = async |ino, text: &str| world.fs.setxattr(ino, b"user.s3.location", text.as_bytes(), SetHow::Any, CALLER).await;
    assert_eq!(get(Ino::ROOT).await.unwrap(), "eu-west-1");
    let made = async |text: &str| world.fs.mkdir(Ino::ROOT, text.as_bytes(), 0o755, CALLER).await.unwrap().ino;
    assert_eq!(get(made("in-eu").await).await.unwrap(), "eu-west-1");
    set(Ino::ROOT, "saeast").await.unwrap();
    let there = made("in-sa").await;
    assert_eq!((get(Ino::ROOT).await.unwrap(), get(there).await.unwrap()), ("sa-east-1".into(), "sa-east-1".into()));
    // Never as a constraint: the store refuses it.
    set(Ino::ROOT, "us-east-1").await.unwrap();
    made("in-us").await;
    set(Ino::ROOT, "DEFAULT").await.unwrap();
    assert_eq!(get(Ino::ROOT).await.unwrap(), "default");
    world.fs.removexattr(Ino::ROOT, b"user.s3.location").await.unwrap();
    assert_eq!(get(Ino::ROOT).await.unwrap(), "eu-west-1");
    assert_eq!(set(Ino::ROOT, "no such").await.unwrap_err().situation(), Situation::Invalid);
    assert_eq!(set(there, "EU").await.unwrap_err().situation(), Situation::NotPermitted);
    let file = world.fs.create(there, b"f", 0o644, WRITE, CALLER).await.unwrap();
    assert_eq!(get(file.0.ino).await.unwrap_err().situation(), Situation::NoAttribute);
    world.fs.release(file.1).await.unwrap();
    let all = |ino| world.fs.getxattr(ino, b"user.s3", CALLER);
    let said = String::from_utf8(all(there).await.unwrap()).unwrap();
    assert!(said.starts_with("bucket=in-sa\nownership=own\nlocation=sa-east-1\nuser.s3.location, .acl,"), "{said}");
    assert!(String::from_utf8(all(Ino::ROOT).await.unwrap()).unwrap().starts_with("source=s3://\nlocation=eu-west-1\n"));
    // One bucket alone tells it on the root.
    let alone = World::new(RetryPolicy::once());
    let told = alone.fs.getxattr(Ino::ROOT, b"user.s3.location", CALLER).await.unwrap();
    assert_eq!(told, b"us-east-1");
}

#[tokio::test(start_paused = true)]
async fn only_buckets_are_at_the_top() {
    let world = world();
    let bucket = look(&world, Ino::ROOT, "bucket").await.unwrap().ino;
    world.put("f", &content(1, 10)).await;
    let refused = |error: pailfs::fs::error::Error| assert_eq!(error.situation(), Situation::NotPermitted, "{error}");
    refused(world.fs.create(Ino::ROOT, b"file", 0o644, WRITE, CALLER).await.unwrap_err());
    refused(world.fs.symlink(Ino::ROOT, b"link", b"x", CALLER).await.unwrap_err());
    refused(world.fs.mknod(Ino::ROOT, b"file", 0o644, 0, CALLER).await.unwrap_err());
    refused(world.fs.rename((bucket, b"f"), (Ino::ROOT, b"file"), Replace::Allowed).await.unwrap_err());
    refused(world.fs.rename((Ino::ROOT, b"bucket"), (Ino::ROOT, b"other"), Replace::Allowed).await.unwrap_err());
    refused(world.fs.rename((Ino::ROOT, b"bucket"), (bucket, b"inside"), Replace::Allowed).await.unwrap_err());
    assert_eq!(world.stored("f").await, Some(content(1, 10)));
    let read_only = World::of(Config { read_only: true, ..account() }, RetryPolicy::once());
    let made = read_only.fs.mkdir(Ino::ROOT, b"new-one", 0o755, CALLER).await;
    assert_eq!(made.unwrap_err().situation(), Situation::ReadOnly);
    let set = read_only.fs.setxattr(Ino::ROOT, b"user.s3.location", b"EU", SetHow::Any, CALLER).await;
    assert_eq!(set.unwrap_err().situation(), Situation::ReadOnly);
}

#[tokio::test(start_paused = true)]
async fn removing_a_bucket_takes_an_empty_one_only() {
    let world = world();
    let rmdir = async |text: &str| world.fs.rmdir(Ino::ROOT, text.as_bytes()).await;
    let bucket = look(&world, Ino::ROOT, "bucket").await.unwrap().ino;
    world.put("a/f", &content(1, 10)).await;
    let refused = rmdir("bucket").await.unwrap_err();
    assert!(refused.situation() == Situation::NotEmpty && refused.words().contains("'a/f'"), "{refused}");
    let directory = look(&world, bucket, "a").await.unwrap().ino;
    let (_, handle) = world.fs.create(directory, b"new", 0o644, WRITE, CALLER).await.unwrap();
    world.fs.unlink(directory, b"f").await.unwrap();
    let refused = rmdir("bucket").await.unwrap_err();
    assert!(refused.words().contains("not uploaded yet"), "{refused}");
    world.fs.unlink(directory, b"new").await.unwrap();
    world.fs.release(handle).await.unwrap();
    // The store knows better: old versions, for example.
    world.fault.inject(world.fault.calls().len() + 1, Toxic::Refused(ErrorKind::NotEmpty));
    let refused = rmdir("bucket").await.unwrap_err();
    assert!(refused.situation() == Situation::NotEmpty && refused.words().contains("old versions"), "{refused}");
    world.fault.inject(world.fault.calls().len() + 1, Toxic::Vanished);
    rmdir("bucket").await.unwrap_err();
    world.fault.inject(world.fault.calls().len() + 1, Toxic::Lost);
    rmdir("bucket").await.unwrap();
    assert_eq!(names(&world, Ino::ROOT).await, Vec::<String>::new());
    assert_eq!(rmdir("bucket").await.unwrap_err().situation(), Situation::NotFound);
    assert!(look(&world, Ino::ROOT, "bucket").await.is_none());
    // It can be made anew at once, with another inode.
    assert!(world.fs.mkdir(Ino::ROOT, b"bucket", 0o755, CALLER).await.unwrap().ino != bucket);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_gone_says_so() {
    let world = world_with(Duration::from_secs(60));
    let bucket = look(&world, Ino::ROOT, "bucket").await.unwrap().ino;
    names(&world, Ino::ROOT).await;
    world.memory.delete_bucket(&name("bucket")).await.unwrap();
    let handle = world.fs.opendir(bucket).unwrap();
    let gone = world.fs.readdir(handle, 0, Plus::No, |_| Full::No).await.unwrap_err();
    assert_eq!(gone.situation(), Situation::NoBucket);
    // As the adapter does; whoever looks at the top now finds that it is gone.
    world.fs.record_failure("readdir", "/bucket".into(), Some(bucket), "ENXIO", &gone);
    assert!(look(&world, Ino::ROOT, "bucket").await.is_none());
}

/// Runs `scenario` until its requests are used up, each of them going wrong in every way.
async fn fault_loop(scenario: impl AsyncFn(&World, &str)) {
    let kinds = [ErrorKind::Denied, ErrorKind::Unavailable, ErrorKind::TimedOut].map(Toxic::Refused);
    for policy in [RetryPolicy::once(), RetryPolicy::default()] {
        for toxic in kinds.into_iter().chain([Toxic::Lost, Toxic::Vanished]) {
            for nth in 0.. {
                let world = World::of(account(), policy);
                world.memory.ensure_bucket(&name("other"));
                world.put("f", &content(1, 100)).await;
                world.fault.inject(nth, toxic);
                let context = format!("{toxic:?} at call {nth}, {} attempts", policy.attempts);
                scenario(&world, &context).await;
                if world.fault.calls().len() <= nth {
                    assert!(nth > 0, "{context}: the scenario asks for something");
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn buckets_survive_every_fault() {
    fault_loop(async |world, context| {
        let there = async |text: &str| world.memory.head_bucket(&name(text)).await.is_ok();
        if world.fs.mkdir(Ino::ROOT, b"fresh", 0o755, CALLER).await.is_ok() {
            assert!(there("fresh").await, "{context}: mkdir succeeded, so the store has it");
        }
        if world.fs.rmdir(Ino::ROOT, b"other").await.is_ok() {
            assert!(!there("other").await, "{context}: rmdir succeeded, so the store has it no more");
        }
        world.fs.rmdir(Ino::ROOT, b"bucket").await.unwrap_err();
        assert!(there("bucket").await, "{context}: what is not empty stays");
        let handle = world.fs.opendir(Ino::ROOT).unwrap();
        let mut count = 0;
        let listed = world.fs.readdir(handle, 0, Plus::Yes, |entry| {
            count += usize::from(!entry.is_dot);
            Full::No
        });
        if listed.await.is_ok() {
            assert_eq!(count, world.memory.list_buckets().await.unwrap().len(), "{context}: never a shorter list");
        }
        world.fs.releasedir(handle);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_move_between_buckets_survives_every_fault() {
    fault_loop(async |world, context| {
        let (Ok(Looked::Found(from)), Ok(Looked::Found(to))) =
            (world.fs.lookup(Ino::ROOT, b"bucket").await, world.fs.lookup(Ino::ROOT, b"other").await)
        else {
            return;
        };
        let moved = world.fs.rename((from.ino, b"f"), (to.ino, b"g"), Replace::Allowed).await;
        let object = ObjectRef::current(name("other"), Key::new("g").unwrap());
        let new = match world.memory.get(&GetObject { object, range: None, if_match: None }).await {
            Ok(found) => Some(found.body.collect().await.unwrap()),
            Err(_) => None,
        };
        let old = world.stored("f").await;
        assert!([&old, &new].into_iter().flatten().all(|bytes| *bytes == content(1, 100)), "{context}: whole");
        match moved {
            Ok(()) => assert!(old.is_none() && new.is_some(), "{context}: moved"),
            Err(_) => assert!(old.is_some() || new.is_some(), "{context}: it is somewhere"),
        }
        world.settle(context, None).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_file_moves_from_bucket_to_bucket() {
    let world = world();
    let bucket = look(&world, Ino::ROOT, "bucket").await.unwrap().ino;
    let other = world.fs.mkdir(Ino::ROOT, b"other", 0o755, CALLER).await.unwrap().ino;
    let stored = async |text: &str, key: &str| {
        let object = ObjectRef::current(name(text), Key::new(key).unwrap());
        let found = world.memory.get(&GetObject { object, range: None, if_match: None }).await.ok()?;
        Some(found.body.collect().await.unwrap())
    };
    // What the store has, with a reader that goes on.
    world.put("f", &content(1, 70_000)).await;
    let file = look(&world, bucket, "f").await.unwrap().ino;
    let reader = world.fs.open(file, READ, CALLER).await.unwrap();
    world.fs.rename((bucket, b"f"), (other, b"g"), Replace::Allowed).await.unwrap();
    assert_eq!((stored("bucket", "f").await, stored("other", "g").await), (None, Some(content(1, 70_000))));
    assert_eq!(world.fs.read(reader, 0, 70_000).await.unwrap(), content(1, 70_000));
    world.fs.release(reader).await.unwrap();
    // What the store has not, and what has left as parts already.
    for size in [10, 20 << 20] {
        let (_, handle) = world.fs.create(bucket, b"new", 0o644, WRITE, CALLER).await.unwrap();
        for at in (0..size).step_by(1 << 20) {
            let end = size.min(at + (1 << 20));
            world.fs.write(handle, at as u64, content(2, size).slice(at..end), CALLER).await.unwrap();
        }
        world.fs.rename((bucket, b"new"), (other, b"moved"), Replace::Allowed).await.unwrap();
        world.fs.flush(handle, |_| false).await.unwrap();
        world.fs.release(handle).await.unwrap();
        assert_eq!(stored("bucket", "new").await, None);
        assert!(stored("other", "moved").await == Some(content(2, size)), "{size}");
    }
    world.settle("moves", None).await;
}
