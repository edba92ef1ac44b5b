//! Copies inside the store that are not made yet: what they are taken from stays until they are.

use std::ops::Range;

use bytes::Bytes;
use pailfs::fs::Replace;
use pailfs::fs::Spot;
use pailfs::fs::attr::{Ino, SetAttr};
use pailfs::fs::error::Situation;
use pailfs::fs::handles::{HandleId, OpenMode};
use pailfs::store::RetryPolicy;
use pailfs::store::fault::Toxic;

use crate::fault_case::{BOTH, MIB};
use crate::world::{CALLER, World, content};

/// A file that is open for reading and writing, and what it shall have.
struct Open {
    name: &'static str,
    handle: HandleId,
    bytes: Vec<u8>,
}

async fn open(world: &World, name: &'static str, seed: u8, len: usize) -> Open {
    let bytes = content(seed, len);
    world.write(name, &bytes).await.unwrap();
    Open { name, handle: world.open(name, BOTH).await.unwrap(), bytes: bytes.to_vec() }
}

/// Copies a range of one file to the end of another.
async fn copy(world: &World, from: &Open, range: Range<usize>, to: &mut Open) {
    let source = Spot { handle: from.handle, offset: range.start as u64 };
    let target = Spot { handle: to.handle, offset: to.bytes.len() as u64 };
    let copied = world.fs.copy_range(source, target, range.len() as u64, CALLER).await.unwrap();
    assert_eq!(copied, range.len() as u64);
    to.bytes.extend_from_slice(&from.bytes[range]);
}

async fn write(world: &World, file: &mut Open, offset: usize, bytes: &Bytes) {
    world.fs.write(file.handle, offset as u64, bytes.clone(), CALLER).await.unwrap();
    let end = offset + bytes.len();
    file.bytes.resize(file.bytes.len().max(end), 0);
    file.bytes[offset..end].copy_from_slice(bytes);
}

async fn reads(world: &World, file: &Open) {
    let mut all = Vec::new();
    loop {
        match world.fs.read(file.handle, all.len() as u64, MIB as u64).await {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(error) => panic!("reading '{}': {error}", file.name),
        }
    }
    assert!(all == file.bytes, "'{}' reads as it was written", file.name);
}

/// Closes files one after the other; the store has them then.
async fn close(world: &World, files: impl IntoIterator<Item = Open>) {
    let files: Vec<Open> = files.into_iter().collect();
    for file in &files {
        world.fs.flush(file.handle, |_| false).await.unwrap_or_else(|error| panic!("closing '{}': {error}", file.name));
        world.fs.release(file.handle).await.unwrap();
    }
    for file in &files {
        assert!(world.stored(file.name).await.unwrap() == file.bytes, "'{}' is stored as it was written", file.name);
    }
    world.settle("in the end", None).await;
    assert!(world.take_kept().is_empty());
}

#[tokio::test(start_paused = true)]
async fn files_that_were_copied_from_each_other_are_all_stored() {
    let little = content(9, 1000);
    for len in [16 * MIB, 6 * MIB, 100_000] {
        // Of a little file all is copied: of ranges so short the kernel makes reads and writes.
        let part = |file: &Open| if len > 5 * MIB { 100..5 * MIB + 100 } else { 0..file.bytes.len() };
        for change in [50, len / 2, len + 50] {
            let world = World::new(RetryPolicy::default());
            let (mut a, mut b) = (open(&world, "a", 1, len).await, open(&world, "b", 2, len).await);
            copy(&world, &a, part(&a), &mut b).await;
            copy(&world, &b, part(&b), &mut a).await;
            write(&world, &mut b, change, &little).await;
            reads(&world, &a).await;
            reads(&world, &b).await;
            close(&world, [b, a]).await;
            // In a ring, and what was changed is closed first.
            let world = World::new(RetryPolicy::default());
            let (mut a, mut b) = (open(&world, "a", 1, len).await, open(&world, "b", 2, len).await);
            let mut c = open(&world, "c", 3, len).await;
            copy(&world, &a, part(&a), &mut b).await;
            copy(&world, &b, part(&b), &mut c).await;
            copy(&world, &c, part(&c), &mut a).await;
            write(&world, &mut c, change, &little).await;
            write(&world, &mut b, change, &little).await;
            close(&world, [c, b, a]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_are_copied_from_each_other_at_once_are_both_stored() {
    let world = World::new(RetryPolicy::default());
    let len = 6 * MIB;
    let (mut a, mut b) = (open(&world, "a", 1, len).await, open(&world, "b", 2, len).await);
    let spot = |file: &Open, offset: usize| Spot { handle: file.handle, offset: offset as u64 };
    for round in 0..3 {
        let (to_a, to_b) = (a.bytes.len(), b.bytes.len());
        let (one, other) = tokio::join!(
            world.fs.copy_range(spot(&a, 0), spot(&b, to_b), len as u64, CALLER),
            world.fs.copy_range(spot(&b, 0), spot(&a, to_a), len as u64, CALLER),
        );
        let head = a.bytes[..len].to_vec();
        if one.is_ok() {
            b.bytes.extend_from_slice(&head);
        }
        let head = b.bytes[..len].to_vec();
        if other.is_ok() {
            a.bytes.extend_from_slice(&head);
        }
        assert!(one.is_ok() || other.is_ok(), "round {round}");
        write(&world, &mut a, round, &content(4, 10)).await;
        write(&world, &mut b, round + 100, &content(5, 10)).await;
        let done = tokio::join!(world.fs.fsync(a.handle), world.fs.fsync(b.handle));
        done.0.and(done.1).unwrap();
        reads(&world, &a).await;
        reads(&world, &b).await;
    }
    close(&world, [a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_changes_what_others_are_still_copying_from() {
    // Whatever is done a second time, while the first one waits for the copy, which is slow.
    for second in 0..5 {
        let world = World::new(RetryPolicy::default());
        let (mut a, mut b) = (open(&world, "a", 1, 6 * MIB).await, open(&world, "b", 2, 100).await);
        copy(&world, &a, 0..6 * MIB, &mut b).await;
        write(&world, &mut a, 50, &content(4, 10)).await;
        world.fault.inject(world.fault.calls().len(), Toxic::Silent);
        let again = async {
            tokio::task::yield_now().await;
            match second {
                0 => world.fs.fsync(a.handle).await,
                1 => world.fs.flush(a.handle, |_| false).await,
                2 => world.fs.rename((Ino::ROOT, b"a"), (Ino::ROOT, b"c"), Replace::Allowed).await,
                3 => world.change("a", SetAttr { size: Some(6 * MIB as u64 - 1), ..SetAttr::default() }).await,
                _ => world.fs.unlink(Ino::ROOT, b"a").await,
            }
        };
        let (first, second_done) = tokio::join!(world.fs.fsync(a.handle), again);
        first.unwrap_or_else(|error| panic!("{second}: {error}"));
        second_done.unwrap_or_else(|error| panic!("{second}: {error}"));
        match second {
            2 => a.name = "c",
            3 => a.bytes.truncate(6 * MIB - 1),
            _ => {}
        }
        reads(&world, &a).await;
        reads(&world, &b).await;
        if second < 4 {
            close(&world, [a, b]).await;
        } else {
            world.fs.release(a.handle).await.unwrap();
            close(&world, [b]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_copied_while_its_source_is_being_stored_is_what_was_written() {
    let world = World::new(RetryPolicy::default());
    let (mut a, mut b) = (open(&world, "a", 1, 6 * MIB).await, open(&world, "b", 2, 100).await);
    for round in 0..4 {
        write(&world, &mut a, round, &content(4, 10)).await;
        let (source, target) = (Spot { handle: a.handle, offset: 0 }, Spot { handle: b.handle, offset: 100 });
        let copy = world.fs.copy_range(source, target, 6 * MIB as u64, CALLER);
        let (stored, copied) = tokio::join!(world.fs.fsync(a.handle), copy);
        assert_eq!((stored.unwrap(), copied.unwrap()), ((), 6 * MIB as u64));
        // Another object of the same bytes.
        world.change("a", SetAttr { mode: Some(0o600 + round as u32), ..SetAttr::default() }).await.unwrap();
    }
    b.bytes.extend_from_slice(&a.bytes);
    reads(&world, &b).await;
    close(&world, [a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_stored_keeps_its_bytes_and_nobody_waits_for_it() {
    for (replaced, whole) in [("a", false), ("a", true), ("b", true)] {
        let world = World::new(RetryPolicy::once());
        let (mut a, mut b) = (open(&world, "a", 1, 100_000).await, open(&world, "b", 2, 6 * MIB).await);
        copy(&world, &b, 0..6 * MIB, &mut a).await;
        world.put(replaced, &content(5, 10)).await;
        if whole {
            world.fs.release(b.handle).await.unwrap();
            b.handle = world.open("b", OpenMode { truncate: true, ..BOTH }).await.unwrap();
            b.bytes.clear();
        }
        write(&world, &mut b, 0, &content(6, 100)).await;
        world.fs.fsync(b.handle).await.unwrap_or_else(|error| panic!("{replaced}, {whole}: {error}"));
        assert_eq!(world.fs.flush(a.handle, |_| false).await.unwrap_err().situation(), Situation::Stale);
        world.fs.release(a.handle).await.unwrap_err();
        let kept = world.take_kept().remove(0);
        assert_eq!(kept[100_000..] == a.bytes[100_000..], replaced == "a", "{replaced}, {whole}");
        close(&world, [b]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_copied_and_cannot_be_had_any_more_is_told_to_be_missing() {
    for (replaced, unread, missing) in [("a", 1, 0), ("b", 0, 1)] {
        let world = World::new(RetryPolicy::once());
        let (mut a, b) = (open(&world, "a", 1, 6 * MIB).await, open(&world, "b", 2, 6 * MIB).await);
        copy(&world, &b, 0..6 * MIB, &mut a).await;
        world.put(replaced, &content(5, 10)).await;
        assert_eq!(world.fs.flush(a.handle, |_| false).await.unwrap_err().situation(), Situation::Stale);
        assert!(world.fs.read(a.handle, 0, 10).await.is_err() == (replaced == "a"));
        assert!(world.fs.read(a.handle, 6 * MIB as u64, 10).await.is_err() == (replaced == "b"), "never fewer bytes");
        let told = world.fs.release(a.handle).await.unwrap_err();
        assert_eq!(told.words().contains("but for"), missing > 0, "{told}");
        let directory = world.fs.config().kept_directory.clone().unwrap();
        let mut note = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let note = note.find(|path| path.extension().is_some_and(|kind| kind == "json")).unwrap();
        let note: serde_json::Value = serde_json::from_slice(&std::fs::read(note).unwrap()).unwrap();
        let halves = [serde_json::json!([0, 6 * MIB]), serde_json::json!([6 * MIB, 12 * MIB])];
        assert_eq!(note["unread"], serde_json::json!(halves[..unread]));
        assert_eq!(note["missing"], serde_json::json!(halves[1..][..missing]));
        assert_eq!(note["upload"], serde_json::Value::Null);
        let kept = world.take_kept().remove(0);
        assert_eq!(kept[..6 * MIB] == a.bytes[..6 * MIB], unread == 0);
        assert_eq!(kept[6 * MIB..] == a.bytes[6 * MIB..], missing == 0);
        let _ = world.fs.release(b.handle).await;
        assert_eq!(world.uploads().await, 0);
    }
}
