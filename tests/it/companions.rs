//! Tags and access lists beside changes of the object: set while it is written, moved, on stores that drop them.

use std::sync::Arc;

use bytes::Bytes;
use pailfs::fs::attr::{Ino, SetAttr, SetTime};
use pailfs::fs::config::Config;
use pailfs::fs::error::Situation;
use pailfs::fs::handles::OpenMode;
use pailfs::fs::{Looked, Replace, SetHow};

use pailfs::store::fault::Toxic;
use pailfs::store::memory::{Drops, Memory, Options};
use pailfs::store::*;

use crate::world::{CALLER, WRITE, World, content};

fn world(drops: Drops) -> World {
    let config = Config { trusts_store: drops == Drops::Nothing, ..Config::new(BucketName::new("bucket").unwrap()) };
    let memory = Memory::with(Options { drops, ..Options::default() });
    World::on(memory, config, RetryPolicy::default(), std::time::Duration::from_secs(5))
}

async fn ino(world: &World, name: &str) -> Ino {
    match world.fs.lookup(Ino::ROOT, name.as_bytes()).await.unwrap() {
        Looked::Found(stat) => stat.ino,
        Looked::Absent => panic!("there is no {name}"),
    }
}

async fn set(world: &World, file: &str, name: &str, value: &str) {
    let ino = ino(world, file).await;
    world.fs.setxattr(ino, name.as_bytes(), value.as_bytes(), SetHow::Any, CALLER).await.unwrap();
}

fn resource(key: &str) -> Resource {
    ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new(key).unwrap()).into()
}

async fn tags(world: &World, key: &str) -> String {
    match world.memory.get_document(&resource(key), Subresource::Tagging).await.unwrap() {
        Some(Document::Tags(tags)) => tags.to_header(),
        _ => String::new(),
    }
}

async fn is_public(world: &World, key: &str) -> bool {
    match world.memory.get_document(&resource(key), Subresource::Acl).await.unwrap() {
        Some(Document::Acl(acl)) => !acl.is_private(),
        other => panic!("{other:?}"),
    }
}

fn asked(world: &World, since: usize) -> Vec<Operation> {
    world.fault.calls()[since..].to_vec()
}

#[tokio::test]
async fn what_is_set_while_a_file_is_written_is_set_at_once_and_stays() {
    let world = world(Drops::Nothing);
    world.write("f", &content(1, 10)).await.unwrap();
    set(&world, "f", "user.s3.tags", "old=1").await;
    let handle = world.open("f", OpenMode { truncate: true, ..WRITE }).await.unwrap();
    // Opened, and not written: the upload to be was asked for its tags already.
    set(&world, "f", "user.s3.tag.new", "2").await;
    assert_eq!(tags(&world, "f").await, "old=1&new=2");
    world.fs.write(handle, 0, content(2, 10), CALLER).await.unwrap();
    set(&world, "f", "user.s3.tag.third", "3").await;
    set(&world, "f", "user.s3.acl", "public-read").await;
    assert_eq!(tags(&world, "f").await, "old=1&new=2&third=3");
    assert!(is_public(&world, "f").await);
    world.fs.flush(handle, |_| false).await.unwrap();
    // Committed, and still open: what follows goes the same way.
    set(&world, "f", "user.s3.tag.fourth", "4").await;
    world.fs.write(handle, 0, content(3, 10), CALLER).await.unwrap();
    world.fs.flush(handle, |_| false).await.unwrap();
    world.fs.release(handle).await.unwrap();
    assert_eq!(tags(&world, "f").await, "old=1&new=2&third=3&fourth=4");
    assert!(is_public(&world, "f").await);
    world.fs.removexattr(ino(&world, "f").await, b"user.s3.tag.old").await.unwrap();
    world.write("f", &content(4, 10)).await.unwrap();
    assert_eq!(tags(&world, "f").await, "new=2&third=3&fourth=4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_file_is_tagged_and_overwritten_at_the_same_time() {
    let world = Arc::new(world(Drops::Nothing));
    for round in 0..15 {
        let name = format!("race{round}");
        world.write(&name, &content(0, 10)).await.unwrap();
        let writer = tokio::spawn({
            let (world, name) = (Arc::clone(&world), name.clone());
            async move {
                for k in 1..6 {
                    world.write(&name, &content(k, 10)).await.unwrap();
                }
            }
        });
        for k in 1..6 {
            set(&world, &name, &format!("user.s3.tag.t{k}"), "1").await;
            set(&world, &name, "user.s3.acl.grant", &format!("READ id=reader{k}")).await;
        }
        writer.await.unwrap();
        assert_eq!(tags(&world, &name).await, "t1=1&t2=1&t3=1&t4=1&t5=1", "{name}");
        match world.memory.get_document(&resource(&name), Subresource::Acl).await.unwrap() {
            Some(Document::Acl(acl)) => assert_eq!(acl.grants.len(), 6, "{name}: {acl:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_was_moved_is_known_to_have_its_tags() {
    let world = world(Drops::Nothing);
    world.write("f", &content(1, 10)).await.unwrap();
    set(&world, "f", "user.s3.tags", "a=1").await;
    world.fs.rename((Ino::ROOT, b"f"), (Ino::ROOT, b"g"), Replace::Allowed).await.unwrap();
    let names = world.fs.listxattr(ino(&world, "g").await).await.unwrap();
    assert!(names.iter().any(|name| name == "user.s3.tags"), "{names:?}");
    world.write("g", &content(2, 10)).await.unwrap();
    assert_eq!(tags(&world, "g").await, "a=1");
}

#[tokio::test]
async fn tags_that_copies_drop_are_put_back() {
    let world = world(Drops::TagsOfCopies);
    world.write("f", &content(1, 10)).await.unwrap();
    set(&world, "f", "user.s3.tags", "a=1").await;
    set(&world, "f", "user.x", "1").await;
    assert_eq!(tags(&world, "f").await, "a=1");
    let since = world.fault.calls().len();
    set(&world, "f", "user.x", "2").await;
    use Operation::{CopyObject, GetObjectAcl, GetObjectTagging, PutObjectTagging};
    let calls = asked(&world, since);
    for wanted in [GetObjectAcl, GetObjectTagging, CopyObject, PutObjectTagging] {
        assert_eq!(calls.iter().filter(|call| **call == wanted).count(), 1, "{wanted}: {calls:?}");
    }
    world.fs.rename((Ino::ROOT, b"f"), (Ino::ROOT, b"g"), Replace::Allowed).await.unwrap();
    assert_eq!(tags(&world, "g").await, "a=1");
    let g = ino(&world, "g").await;
    assert!(world.fs.listxattr(g).await.unwrap().iter().any(|name| name == "user.s3.tags"));
    assert_eq!(world.fs.getxattr(g, b"user.s3.tags", CALLER).await.unwrap(), b"a=1");
    // A new content carries them itself, and the store keeps those.
    world.write("g", &Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(tags(&world, "g").await, "a=1");
}

#[tokio::test]
async fn access_lists_that_puts_drop_are_put_back() {
    let world = world(Drops::AclsOfPuts);
    world.write("f", &content(1, 10)).await.unwrap();
    set(&world, "f", "user.s3.acl", "public-read").await;
    for round in 2..4 {
        world.write("f", &content(round, 10)).await.unwrap();
        assert!(is_public(&world, "f").await, "{round}");
    }
}

#[tokio::test]
async fn what_cannot_be_looked_at_in_an_archive_is_no_failure() {
    let count = async |toxic: Option<usize>| {
        let world = world(Drops::TagsOfCopies);
        let handle = world.open("f", WRITE).await.unwrap();
        world.fs.write(handle, 0, content(1, 10), CALLER).await.unwrap();
        set(&world, "f", "user.s3.storage-class", "GLACIER").await;
        set(&world, "f", "user.s3.tags", "a=1").await;
        set(&world, "f", "user.s3.acl", "public-read").await;
        toxic.inspect(|nth| world.fault.inject(*nth, Toxic::Refused(ErrorKind::Archived)));
        world.fs.flush(handle, |_| false).await.unwrap();
        world.fs.release(handle).await.unwrap();
        assert_eq!((tags(&world, "f").await.as_str(), is_public(&world, "f").await), ("a=1", true));
        world.fault.calls()
    };
    let calls = count(None).await;
    let looks = calls.iter().enumerate().skip_while(|(_, call)| **call != Operation::PutObject);
    let looks: Vec<usize> = looks
        .filter(|(_, call)| matches!(call, Operation::GetObjectTagging | Operation::GetObjectAcl))
        .map(|(nth, _)| nth)
        .collect();
    assert_eq!(looks.len(), 2, "{calls:?}");
    for nth in looks {
        count(Some(nth)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mounts_change_the_metadata_of_one_file_without_an_error() {
    let memory = Memory::new();
    let config = || Config::new(BucketName::new("bucket").unwrap());
    let mount = || Arc::new(World::on(memory.clone(), config(), RetryPolicy::default(), std::time::Duration::from_secs(5)));
    let (one, other) = (mount(), mount());
    one.write("f", &content(1, 10)).await.unwrap();
    let ten = |world: &Arc<World>, letter: char| {
        let world = Arc::clone(world);
        tokio::spawn(async move {
            // The kernel knows the file by one number all the time.
            let ino = ino(&world, "f").await;
            for k in 0..10 {
                let name = format!("user.{letter}{k}");
                world.fs.setxattr(ino, name.as_bytes(), b"1", SetHow::Any, CALLER).await.unwrap();
                let mtime = Some(SetTime::At(std::time::UNIX_EPOCH + std::time::Duration::from_secs(k)));
                let stat = world.fs.setattr(ino, SetAttr { mtime, ..SetAttr::default() }, CALLER).await.unwrap();
                assert_eq!(stat.ino, ino);
            }
        })
    };
    let (first, second) = (ten(&one, 'd'), ten(&other, 'e'));
    first.await.unwrap();
    second.await.unwrap();
    let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new("f").unwrap());
    let metadata = memory.head(&HeadObject { object }).await.unwrap().properties.metadata;
    assert_eq!(metadata.keys().filter(|name| name.len() == 2).count(), 20, "{metadata:?}");
}

#[tokio::test]
async fn the_type_follows_the_name_as_long_as_it_was_a_guess() {
    let world = world(Drops::Nothing);
    for (from, to) in [(".a.txt.X8f2Qz", "a.txt"), ("b.txt", "b.html")] {
        world.write(from, &content(1, 10)).await.unwrap();
        world.fs.rename((Ino::ROOT, from.as_bytes()), (Ino::ROOT, to.as_bytes()), Replace::Allowed).await.unwrap();
    }
    // Before it is stored at all.
    let handle = world.open("c.tmp", WRITE).await.unwrap();
    world.fs.write(handle, 0, content(1, 10), CALLER).await.unwrap();
    world.fs.rename((Ino::ROOT, b"c.tmp"), (Ino::ROOT, b"c.json"), Replace::Allowed).await.unwrap();
    world.fs.flush(handle, |_| false).await.unwrap();
    world.fs.release(handle).await.unwrap();
    for (name, wanted) in [("a.txt", "text/plain"), ("b.html", "text/html"), ("c.json", "application/json")] {
        let told = world.fs.getxattr(ino(&world, name).await, b"user.s3.content-type", CALLER).await.unwrap();
        assert_eq!(String::from_utf8(told).unwrap(), wanted, "{name}");
    }
}

#[tokio::test]
async fn more_uploads_than_an_attribute_holds_are_counted() {
    let world = world(Drops::Nothing);
    for number in 0..2500 {
        let (bucket, key) = (BucketName::new("bucket").unwrap(), Key::new(format!("upload/{number:04}")).unwrap());
        world.memory.create_upload(&CreateUpload { bucket, key, properties: Properties::default() }).await.unwrap();
    }
    let text = world.fs.getxattr(Ino::ROOT, b"user.s3.uploads", CALLER).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    let (shown, last) = (text.lines().count() - 1, text.lines().last().unwrap());
    assert_eq!(last, format!("... {} more", 2500 - shown));
}

#[tokio::test]
async fn what_is_always_there_cannot_be_created() {
    let world = world(Drops::Nothing);
    world.write("f", &content(1, 10)).await.unwrap();
    let f = ino(&world, "f").await;
    for (name, value) in [("user.s3.acl", "private"), ("user.s3.storage-class", "STANDARD")] {
        let refused = world.fs.setxattr(f, name.as_bytes(), value.as_bytes(), SetHow::Create, CALLER).await.unwrap_err();
        assert_eq!(refused.situation(), Situation::Exists, "{name}");
        world.fs.setxattr(f, name.as_bytes(), value.as_bytes(), SetHow::Replace, CALLER).await.unwrap();
    }
    let all = world.fs.getxattr(f, b"user.s3", CALLER).await.unwrap();
    assert!(String::from_utf8(all).unwrap().starts_with("url=s3://bucket/f\netag="));
    let handle = world.open("new", WRITE).await.unwrap();
    let all = world.fs.getxattr(ino(&world, "new").await, b"user.s3", CALLER).await.unwrap();
    assert!(String::from_utf8(all).unwrap().starts_with("url=s3://bucket/new\nsize=0\n"));
    world.fs.release(handle).await.unwrap();
}

#[tokio::test]
async fn names_that_s3_keeps_for_itself_are_no_buckets() {
    let config = Config { source: pailfs::fs::config::Source::Account, ..Config::new(BucketName::new("bucket").unwrap()) };
    let world = World::of(config, RetryPolicy::default());
    for name in ["xn--att", "sthree-a", "amzn-s3-demo-a", "att-s3alias", "att--ol-s3", "att.mrap", "att--x-s3", "a--table-s3"] {
        let refused = world.fs.mkdir(Ino::ROOT, name.as_bytes(), 0o755, CALLER).await.unwrap_err();
        assert_eq!(refused.situation(), Situation::Invalid, "{name}: {refused}");
    }
    let missing = world.fs.getxattr(Ino::ROOT, b"user.s3.uploads", CALLER).await.unwrap_err();
    assert_eq!(missing.situation(), Situation::NoAttribute);
}

/// The kernel forgets what it has no room for, and also what a second look shows to be another object.
#[tokio::test]
async fn what_was_set_is_seen_also_when_the_kernel_has_forgotten_the_file() {
    let world = world(Drops::Nothing);
    world.write("f", &content(1, 10)).await.unwrap();
    world.fs.mkdir(Ino::ROOT, b"d", 0o755, CALLER).await.unwrap();
    let listing = world.fs.opendir(Ino::ROOT).unwrap();
    world.fs.readdir(listing, 0, pailfs::fs::Plus::Yes, |_| pailfs::fs::Full::No).await.unwrap();
    world.fs.releasedir(listing);
    for name in ["f", "d"] {
        let file = ino(&world, name).await;
        world.fs.listxattr(file).await.unwrap();
        world.fs.setxattr(file, b"user.a", b"1", SetHow::Any, CALLER).await.unwrap();
        let change = SetAttr { mode: Some(0o700), ..SetAttr::default() };
        world.fs.setattr(file, change, CALLER).await.unwrap();
        if name == "f" {
            set(&world, name, "user.s3.tags", "t=1").await;
        }
        world.fs.forget(file, 100);
        let again = ino(&world, name).await;
        assert_eq!(world.fs.getattr(again).await.unwrap().attr.mode, 0o700, "{name}");
        let names = world.fs.listxattr(again).await.unwrap();
        assert!(names.contains(&"user.a".to_owned()), "{name}: {names:?}");
        assert_eq!(names.contains(&"user.s3.tags".to_owned()), name == "f", "{names:?}");
    }
}
