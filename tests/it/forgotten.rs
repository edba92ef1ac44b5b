//! What the kernel has forgotten for want of memory shows the same as before, as long as it can be kept: the store does not
//! tell all of it.

use std::time::Duration;

use pailfs::fs::attr::{Attr, Ino, SetAttr, SetTime};
use pailfs::fs::config::Config;
use pailfs::fs::handles::{HandleId, OpenMode};
use pailfs::fs::{Fs, Looked, Replace};
use pailfs::store::{BucketName, Condition, DeleteObject, HeadObject, Key, ObjectRef, ObjectStore as _, RetryPolicy};

use crate::world::{CALLER, READ, WRITE, World, content};

async fn look<S>(fs: &Fs<S>, parent: Ino, name: &str) -> (Ino, Attr)
where
    S: pailfs::store::ObjectStore + pailfs::store::BucketService,
{
    match fs.lookup(parent, name.as_bytes()).await.unwrap() {
        Looked::Found(stat) => (stat.ino, stat.attr),
        Looked::Absent => panic!("there is no {name}"),
    }
}

async fn create(world: &World, directory: Ino, name: &str) -> HandleId {
    let mode = OpenMode { exclusive: true, ..WRITE };
    world.fs.create(directory, name.as_bytes(), 0o644, mode, CALLER).await.unwrap().1
}

/// A new directory.
async fn made(world: &World, parent: Ino, name: &str) -> Ino {
    world.fs.mkdir(parent, name.as_bytes(), 0o755, CALLER).await.unwrap();
    look(&world.fs, parent, name).await.0
}

async fn close(world: &World, handle: HandleId) {
    world.fs.flush(handle, |_| false).await.unwrap();
    world.fs.release(handle).await.unwrap();
}

fn world(most_forgotten: usize) -> World {
    let config = Config { most_forgotten, ..Config::new(BucketName::new("bucket").unwrap()) };
    World::of_ttl(config, RetryPolicy::once(), Duration::from_secs(5))
}

#[tokio::test]
async fn what_was_made_here_and_directories_show_the_same_when_they_are_forgotten() {
    let world = world(100);
    let fs = &world.fs;
    world.put("theirs/f", &content(1, 10)).await;
    world.write("plain", &content(1, 10)).await.unwrap();
    world.write("privileged", &content(1, 10)).await.unwrap();
    fs.mknod(Ino::ROOT, b"device", 0o020_644, 5, CALLER).await.unwrap();
    fs.mkdir(Ino::ROOT, b"d", 0o755, CALLER).await.unwrap();
    let set = SetAttr { mode: Some(0o4755), ..SetAttr::default() };
    let (privileged, _) = look(fs, Ino::ROOT, "privileged").await;
    fs.setattr(privileged, set, CALLER).await.unwrap();
    for directory in ["d", "theirs"] {
        let (ino, _) = look(fs, Ino::ROOT, directory).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        fs.mkdir(ino, b"new", 0o755, CALLER).await.unwrap();
    }
    for name in ["plain", "privileged", "device", "d", "theirs"] {
        let (ino, before) = look(fs, Ino::ROOT, name).await;
        fs.forget(ino, 100);
        let (again, after) = look(fs, Ino::ROOT, name).await;
        assert_eq!((again, after), (ino, before), "{name}");
    }
}

#[tokio::test]
async fn so_many_are_kept_and_what_is_gone_is_not() {
    let world = world(2);
    let fs = &world.fs;
    let mut before = Vec::new();
    for name in ["a", "b", "c", "gone"] {
        world.write(name, &content(1, 10)).await.unwrap();
        let (ino, _) = look(fs, Ino::ROOT, name).await;
        let set = SetAttr { mode: Some(0o4755), mtime: Some(SetTime::Now), ..SetAttr::default() };
        fs.setattr(ino, set, CALLER).await.unwrap();
        before.push(ino);
    }
    fs.unlink(Ino::ROOT, b"gone").await.unwrap();
    for ino in before.iter().rev().chain(&before) {
        fs.forget(*ino, 100);
    }
    // The first one was forgotten last, and others' setuid bits are not believed.
    assert_eq!(look(fs, Ino::ROOT, "b").await.1.mode, 0o4755);
    assert_eq!(look(fs, Ino::ROOT, "a").await.1.mode, 0o4755);
    assert_eq!(look(fs, Ino::ROOT, "c").await.1.mode, 0o755);
    assert!(matches!(fs.lookup(Ino::ROOT, b"gone").await.unwrap(), Looked::Absent));
    // What another client has put there since is not what was kept.
    world.put("a", &content(2, 20)).await;
    fs.forget(before[0], 100);
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let (_, attr) = look(fs, Ino::ROOT, "a").await;
    assert_eq!((attr.size, attr.mode), (20, 0o644));
}

#[tokio::test]
async fn who_is_kept_keeps_the_directories_above() {
    for most_forgotten in [0, 100] {
        let world = world(most_forgotten);
        let fs = &world.fs;
        let p = made(&world, Ino::ROOT, "p").await;
        let q = made(&world, p, "q").await;
        let handle = create(&world, q, "new").await;
        fs.write(handle, 0, content(1, 10), CALLER).await.unwrap();
        fs.rename((q, b"new"), (q, b"f"), Replace::Allowed).await.unwrap();
        close(&world, handle).await;
        fs.rename((q, b"f"), (q, b"g"), Replace::Allowed).await.unwrap();
        let (file, _) = look(fs, q, "g").await;
        for ino in [file, q, p] {
            fs.forget(ino, 100);
        }
        let (p, _) = look(fs, Ino::ROOT, "p").await;
        let (q, _) = look(fs, p, "q").await;
        let (file, _) = look(fs, q, "g").await;
        let handle = fs.open(file, WRITE, CALLER).await.unwrap();
        fs.write(handle, 3, content(2, 3), CALLER).await.unwrap();
        // It is moved along: read at its new place, and nothing is left at the old one.
        fs.rename((Ino::ROOT, b"p"), (Ino::ROOT, b"p2"), Replace::Allowed).await.unwrap();
        fs.rename((p, b"q"), (Ino::ROOT, b"q2"), Replace::Allowed).await.unwrap();
        let reader = fs.open(file, READ, CALLER).await.unwrap();
        assert_eq!(fs.read(reader, 0, 100).await.unwrap().len(), 10, "{most_forgotten}");
        assert!(matches!(fs.lookup(p, b"q").await.unwrap(), Looked::Absent), "{most_forgotten}");
        for handle in [handle, reader] {
            close(&world, handle).await;
        }
        assert_eq!(world.keys().await, ["p2/", "q2/", "q2/g"]);
    }
}

/// A directory that has a marker needs not be kept by this mount when it is emptied: when another client has removed it, it is gone.
#[tokio::test(start_paused = true)]
async fn a_directory_that_was_emptied_here_can_be_removed_by_others() {
    let world = world(100);
    let fs = &world.fs;
    let d = made(&world, Ino::ROOT, "d").await;
    let handle = create(&world, d, "f").await;
    close(&world, handle).await;
    fs.unlink(d, b"f").await.unwrap();
    assert!(matches!(fs.lookup(Ino::ROOT, b"d").await.unwrap(), Looked::Found(_)));
    let marker = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new("d/").unwrap());
    world.memory.delete(&DeleteObject { object: marker, condition: Condition::None }).await.unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(matches!(fs.lookup(Ino::ROOT, b"d").await.unwrap(), Looked::Absent));
}

/// The kernel forgets the directories above what waits here to be sent: it is sent to where they have been moved since.
#[tokio::test]
async fn what_waits_below_a_directory_that_is_forgotten_and_moved_is_sent_to_its_new_place() {
    for most_forgotten in [0, 100] {
        let world = world(most_forgotten);
        let fs = &world.fs;
        let p = made(&world, Ino::ROOT, "p").await;
        let q = made(&world, p, "q").await;
        let handle = create(&world, q, ".f.000000").await;
        fs.write(handle, 0, content(1, 10), CALLER).await.unwrap();
        close(&world, handle).await;
        let (file, _) = look(fs, q, ".f.000000").await;
        fs.setattr(file, SetAttr { mode: Some(0o604), ..SetAttr::default() }, CALLER).await.unwrap();
        for ino in [file, q, p] {
            fs.forget(ino, 100);
        }
        fs.rename((Ino::ROOT, b"p"), (Ino::ROOT, b"p2"), Replace::Allowed).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(fs.send_unsent().await.len(), 0, "{most_forgotten}");
        let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new("p2/q/.f.000000").unwrap());
        let stored = world.memory.head(&HeadObject { object }).await.unwrap();
        assert_eq!(stored.properties.metadata["mode"], (0o100_604).to_string(), "{most_forgotten}");
    }
}
