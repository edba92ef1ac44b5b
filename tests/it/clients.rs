//! Two clients on one bucket, and files that move, fail or vanish while they are written: nothing acknowledged is lost,
//! nothing of another client's is replaced that should not be. Each test is named for what once broke.

use std::time::Duration;

use bytes::Bytes;
use pailfs::fs::attr::{Ino, SetAttr};
use pailfs::fs::config::{Config, KeepAcl};
use pailfs::fs::error::Situation;
use pailfs::fs::handles::{HandleId, OpenMode};
use pailfs::fs::{Looked, Replace};
use pailfs::store::fault::Toxic;
use pailfs::store::*;

use crate::world::{CALLER, READ, WRITE, World, content};

const EXCLUSIVE: OpenMode = OpenMode { exclusive: true, ..WRITE };

impl World {
    async fn create(&self, name: &str, mode: OpenMode) -> HandleId {
        let (stat, handle) = self.fs.create(Ino::ROOT, name.as_bytes(), 0o644, mode, CALLER).await.unwrap();
        self.fs.forget(stat.ino, 1);
        handle
    }

    pub async fn append(&self, handle: HandleId, at: usize, bytes: &Bytes) {
        for (index, chunk) in bytes.chunks(1 << 20).enumerate() {
            let offset = (at + (index << 20)) as u64;
            self.fs.write(handle, offset, bytes.slice_ref(chunk), CALLER).await.unwrap();
        }
    }

    pub async fn flush(&self, handle: HandleId) -> Result<(), Situation> {
        self.fs.flush(handle, |_| false).await.map_err(|error| error.situation())
    }

    async fn rename(&self, from: &str, to: &str, replace: Replace) -> Result<(), Situation> {
        let moved = self.fs.rename((Ino::ROOT, from.as_bytes()), (Ino::ROOT, to.as_bytes()), replace).await;
        moved.map_err(|error| error.situation())
    }

    /// As `stat` does: the kernel knows the inode from then on.
    async fn look(&self, name: &str) -> Option<Ino> {
        match self.fs.lookup(Ino::ROOT, name.as_bytes()).await.unwrap() {
            Looked::Found(stat) => Some(stat.ino),
            Looked::Absent => None,
        }
    }

    /// Another client's DELETE.
    async fn delete(&self, key: &str) {
        let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new(key).unwrap());
        self.memory.delete(&DeleteObject { object, condition: Condition::None }).await.unwrap();
    }

    pub fn next_fails(&self, toxic: Toxic) {
        self.fault.inject(self.fault.calls().len(), toxic);
    }
}

type Result<T, E> = std::result::Result<T, E>;

#[tokio::test(start_paused = true)]
async fn a_renamed_open_file_grows_under_its_new_name() {
    for committed_before in [false, true] {
        let world = World::new(RetryPolicy::default());
        let bytes = content(1, 20 << 20);
        let handle = world.create("log", WRITE).await;
        world.append(handle, 0, &bytes.slice(..1 << 20)).await;
        if committed_before {
            world.fs.fsync(handle).await.unwrap();
        }
        world.rename("log", "log.1", Replace::Forbidden).await.unwrap();
        world.put("log", &content(2, 10)).await;
        world.append(handle, 1 << 20, &bytes.slice(1 << 20..)).await;
        world.flush(handle).await.unwrap();
        world.fs.release(handle).await.unwrap();
        assert!(world.stored("log.1").await == Some(bytes), "committed before: {committed_before}");
        assert_eq!(world.stored("log").await, Some(content(2, 10)));
        world.settle("renamed", None).await;
    }
}

/// Writes 20 MiB, and lets the fsync fail: its first request is the tail, the second the completion, then it looks.
async fn failed_large_commit(toxics: &[(usize, Toxic)], bytes: &Bytes) -> (World, HandleId) {
    let world = World::new(RetryPolicy::once());
    let handle = world.create("f", WRITE).await;
    world.append(handle, 0, &bytes.slice(..20 << 20)).await;
    // The parts that left while it was written arrive.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let calls = world.fault.calls().len();
    for (nth, toxic) in toxics {
        world.fault.inject(calls + nth, *toxic);
    }
    assert!(world.fs.fsync(handle).await.is_err(), "{toxics:?}");
    (world, handle)
}

const REFUSED: Toxic = Toxic::Refused(ErrorKind::Denied);

#[tokio::test(start_paused = true)]
async fn a_large_file_whose_commit_failed_can_be_written_on_and_committed() {
    let bytes = content(3, 30 << 20);
    for toxics in [(0, REFUSED), (0, Toxic::Vanished), (0, Toxic::Lost), (1, REFUSED)] {
        let (world, handle) = failed_large_commit(&[toxics], &bytes).await;
        world.append(handle, 20 << 20, &bytes.slice(20 << 20..)).await;
        world.flush(handle).await.unwrap();
        world.fs.release(handle).await.unwrap();
        assert!(world.stored("f").await.as_ref() == Some(&bytes), "{toxics:?}");
        world.settle("large", None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_file_whose_completion_is_in_doubt_is_settled_before_it_goes_on() {
    let bytes = content(3, 30 << 20);
    for toxic in [Toxic::Vanished, Toxic::Lost] {
        let (world, handle) = failed_large_commit(&[(1, toxic), (2, REFUSED)], &bytes).await;
        // Before it goes on, it is known whether the parts are an object already.
        world.fs.write(handle, 20 << 20, bytes.slice(..1 << 20), CALLER).await.unwrap();
        assert!(world.stored("f").await == Some(bytes.slice(..20 << 20)), "{toxic:?}");
        world.flush(handle).await.unwrap();
        world.fs.release(handle).await.unwrap();
        let expected = [bytes.slice(..20 << 20), bytes.slice(..1 << 20)].concat();
        assert!(world.stored("f").await.unwrap() == expected, "{toxic:?}");
        world.settle("in doubt", None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_others_delete_while_it_is_written_is_stored_all_the_same() {
    let world = World::new(RetryPolicy::default());
    let handle = world.create("f", WRITE).await;
    world.append(handle, 0, &content(1, 10)).await;
    world.fs.fsync(handle).await.unwrap();
    world.delete("f").await;
    tokio::time::advance(Duration::from_secs(60)).await;
    world.look("f").await;
    world.append(handle, 10, &content(2, 10)).await;
    world.flush(handle).await.unwrap();
    world.fs.release(handle).await.unwrap();
    assert_eq!(world.stored("f").await, Some([content(1, 10), content(2, 10)].concat().into()));
}

#[tokio::test(start_paused = true)]
async fn a_file_whose_name_others_give_to_a_link_is_stored_all_the_same() {
    let world = World::new(RetryPolicy::default());
    let handle = world.create("f", OpenMode { truncate: true, ..WRITE }).await;
    world.append(handle, 0, &content(1, 10)).await;
    let (bucket, key) = (BucketName::new("bucket").unwrap(), Key::new("f").unwrap());
    let mut properties = Properties::default();
    properties.metadata.extend([("mode".into(), "41471".into()), ("symlink-target".into(), "elsewhere".into())]);
    let request = PutObject { bucket, key, payload: Payload::default(), properties, condition: Condition::None };
    world.memory.put(&request).await.unwrap();
    let listing = world.fs.opendir(Ino::ROOT).unwrap();
    world.fs.readdir(listing, 0, pailfs::fs::Plus::Yes, |_| pailfs::fs::Full::No).await.unwrap();
    world.fs.releasedir(listing);
    world.flush(handle).await.unwrap();
    world.fs.release(handle).await.unwrap();
    assert_eq!(world.stored("f").await, Some(content(1, 10)));
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_file_is_an_ordinary_one_once_its_name_is_won() {
    let world = World::new(RetryPolicy::once());
    let handle = world.create("f", EXCLUSIVE).await;
    world.append(handle, 0, &content(1, 10)).await;
    world.fs.fsync(handle).await.unwrap();
    world.append(handle, 10, &content(2, 10)).await;
    world.next_fails(Toxic::Vanished);
    world.flush(handle).await.unwrap();
    world.fs.release(handle).await.unwrap();
    assert_eq!(world.stored("f").await.unwrap().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_commit_knows_its_own_unanswered_predecessor() {
    let world = World::new(RetryPolicy::once());
    let handle = world.create("f", EXCLUSIVE).await;
    world.append(handle, 0, &content(1, 10)).await;
    // The PUT is applied, its answer is lost, and nobody can look.
    world.next_fails(Toxic::Lost);
    world.fault.inject(world.fault.calls().len() + 1, Toxic::Refused(ErrorKind::TimedOut));
    assert!(world.flush(handle).await.is_err());
    world.append(handle, 10, &content(2, 10)).await;
    world.flush(handle).await.unwrap();
    world.fs.release(handle).await.unwrap();
    assert_eq!(world.stored("f").await.unwrap().len(), 20, "the later content, not the earlier one");
}

#[tokio::test(start_paused = true)]
async fn a_removed_file_does_not_come_back_by_an_unanswered_commit() {
    let world = World::new(RetryPolicy::once());
    let handle = world.create("f", WRITE).await;
    world.append(handle, 0, &content(1, 10)).await;
    world.next_fails(Toxic::Lost);
    world.fault.inject(world.fault.calls().len() + 1, Toxic::Refused(ErrorKind::TimedOut));
    assert!(world.flush(handle).await.is_err());
    assert!(world.stored("f").await.is_some());
    world.fs.unlink(Ino::ROOT, b"f").await.unwrap();
    let _ = world.fs.release(handle).await;
    assert_eq!(world.stored("f").await, None);
    world.settle("removed", None).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_to_a_name_that_others_have_taken_comes_behind_theirs() {
    let world = World::new(RetryPolicy::default());
    let handle = world.create("log", OpenMode { append: true, ..WRITE }).await;
    world.append(handle, 0, &content(1, 10)).await;
    world.put("log", &content(2, 10)).await;
    world.flush(handle).await.unwrap();
    world.fs.release(handle).await.unwrap();
    assert_eq!(world.stored("log").await.unwrap(), [content(2, 10), content(1, 10)].concat());
    assert!(world.take_kept().is_empty());
    assert_eq!(world.read("log").await.unwrap(), [content(2, 10), content(1, 10)].concat());
    world.settle("appended", None).await;
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_must_not_replace_does_not_replace_at_close_either() {
    let world = World::new(RetryPolicy::default());
    let handle = world.create("f", WRITE).await;
    world.append(handle, 0, &content(1, 10)).await;
    world.rename("f", "g", Replace::Forbidden).await.unwrap();
    world.put("g", &content(2, 10)).await;
    assert_eq!(world.flush(handle).await, Err(Situation::Exists));
    let _ = world.fs.release(handle).await;
    assert_eq!(world.stored("g").await, Some(content(2, 10)));
    assert_eq!(world.take_kept(), [content(1, 10)]);
}

#[tokio::test(start_paused = true)]
async fn a_chmod_keeps_the_metadata_that_others_have_set_under_the_same_tag() {
    let world = World::new(RetryPolicy::default());
    world.write("f", &content(1, 10)).await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new("f").unwrap());
    let head = HeadObject { object: object.clone() };
    let mut properties = world.memory.head(&head).await.unwrap().properties;
    properties.metadata.insert("colour".into(), "blue".into());
    let (bucket, key, replace) = (object.bucket.clone(), object.key.clone(), Some(properties));
    let copy = CopyObject {
        source: object,
        source_if_match: None,
        source_unchanged_since: None,
        bucket,
        key,
        replace,
        condition: Condition::None,
    };
    world.memory.copy(&copy).await.unwrap();
    let ino = world.look("f").await.unwrap();
    world.fs.setattr(ino, SetAttr { mode: Some(0o600), ..SetAttr::default() }, CALLER).await.unwrap();
    let metadata = world.memory.head(&head).await.unwrap().properties.metadata;
    assert_eq!(metadata.get("colour").map(String::as_str), Some("blue"), "{metadata:?}");
    assert_eq!(metadata.get("mode").map(String::as_str), Some("33152"), "{metadata:?}");
}

#[tokio::test(start_paused = true)]
async fn a_truncation_that_failed_is_not_carried_out_later() {
    let world = World::new(RetryPolicy::once());
    world.write("f", &content(1, 1000)).await.unwrap();
    let ino = world.look("f").await.unwrap();
    world.next_fails(Toxic::Refused(ErrorKind::Unavailable));
    assert!(world.fs.setattr(ino, SetAttr { size: Some(0), ..SetAttr::default() }, CALLER).await.is_err());
    assert_eq!(world.fs.commit_all().await, []);
    assert_eq!(world.stored("f").await, Some(content(1, 1000)));
    assert_eq!(world.read("f").await.unwrap(), content(1, 1000));
}

#[tokio::test(start_paused = true)]
async fn files_that_cannot_be_stored_do_not_break_the_memory_limit() {
    let world = World::new(RetryPolicy::once());
    let bytes = content(1, 4 << 20);
    let mut refused = 0;
    for index in 0..40 {
        let handle = world.create(&format!("f{index}"), WRITE).await;
        let mut written = Ok(());
        for part in 0..4_u64 {
            let chunk = bytes.slice((part << 20) as usize..((part + 1) << 20) as usize);
            written = written.and(world.fs.write(handle, part << 20, chunk, CALLER).await.map_err(|error| error.situation()));
        }
        refused += usize::from(written == Err(Situation::NoSpace));
        world.next_fails(Toxic::Refused(ErrorKind::Denied));
        world.fault.inject(world.fault.calls().len() + 1, Toxic::Refused(ErrorKind::Denied));
        assert!(world.flush(handle).await.is_err());
        assert!(world.fs.release(handle).await.is_err());
    }
    assert!(refused > 0, "the later ones hear that there is no room");
    assert!(world.fs.memory_used() <= 72 << 20, "{} bytes are held in 64 MiB", world.fs.memory_used());
    for index in 0..40 {
        world.fs.unlink(Ino::ROOT, format!("f{index}").as_bytes()).await.unwrap();
    }
    world.settle("refused", None).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_goes_on_while_its_file_is_renamed_and_changed() {
    let world = World::new(RetryPolicy::default());
    let bytes = content(1, 24 << 20);
    world.put("f", &bytes).await;
    let handle = world.open("f", READ).await.unwrap();
    let mut all = Vec::new();
    let mut step = 0;
    while all.len() < bytes.len() {
        all.extend_from_slice(&world.fs.read(handle, all.len() as u64, 1 << 20).await.unwrap());
        step += 1;
        match step {
            5 => world.rename("f", "g", Replace::Forbidden).await.unwrap(),
            10 => {
                let ino = world.look("g").await.unwrap();
                world.fs.setattr(ino, SetAttr { mode: Some(0o600), ..SetAttr::default() }, CALLER).await.unwrap();
            }
            _ => {}
        }
    }
    assert!(all == bytes);
    world.put("g", &content(2, 24 << 20)).await;
    let ahead = world.fs.read(handle, 0, 1 << 20).await;
    assert_eq!(ahead.unwrap_err().situation(), Situation::Stale, "others' bytes are never mixed in");
    world.fs.release(handle).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_loser_of_an_exclusive_creation_sees_the_winners_file() {
    let world = World::new(RetryPolicy::default());
    let (stat, handle) = world.fs.create(Ino::ROOT, b"f", 0o644, EXCLUSIVE, CALLER).await.unwrap();
    world.append(handle, 0, &content(1, 10)).await;
    world.put("f", &content(2, 20)).await;
    assert_eq!(world.flush(handle).await, Err(Situation::Exists));
    // From the moment that close has said so, also before the handle is gone; the kernel still has the old inode.
    for mode in [READ, OpenMode { truncate: true, ..WRITE }] {
        let opened = world.fs.open(stat.ino, mode, CALLER).await;
        assert_eq!(opened.unwrap_err().situation(), Situation::Stale, "{mode:?}");
    }
    let chmod = world.fs.setattr(stat.ino, SetAttr { mode: Some(0o600), ..SetAttr::default() }, CALLER).await;
    assert_eq!(chmod.unwrap_err().situation(), Situation::Stale);
    assert_eq!(world.read("f").await.unwrap(), content(2, 20));
    assert!(world.fs.release(handle).await.unwrap_err().words().contains("kept in"));
    assert_eq!(world.take_kept(), [content(1, 10)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_of_a_large_file_is_all_that_is_here() {
    let bytes = content(4, 30 << 20);
    // Every part is refused: all bytes are here.
    let world = World::new(RetryPolicy::once());
    let handle = world.create("f", WRITE).await;
    for nth in 0..40 {
        world.fault.inject(nth, REFUSED);
    }
    world.append(handle, 0, &bytes).await;
    assert!(world.flush(handle).await.is_err() && world.fs.release(handle).await.is_err());
    assert_eq!(world.fs.keep_all().await, []);
    assert!(world.take_kept() == [bytes.clone()]);
    // Some have left: they are a hole, and their upload stays.
    let world = World::new(RetryPolicy::once());
    let handle = world.create("f", EXCLUSIVE).await;
    world.append(handle, 0, &bytes).await;
    world.put("f", &content(5, 10)).await;
    assert_eq!(world.flush(handle).await, Err(Situation::Exists));
    assert!(world.fs.release(handle).await.unwrap_err().words().contains("but for"));
    let kept = world.take_kept().remove(0);
    assert_eq!((kept.len(), world.uploads().await), (bytes.len(), 1));
    assert!(kept.chunks(1 << 20).zip(bytes.chunks(1 << 20)).all(|(kept, all)| kept == all || kept.iter().all(|byte| *byte == 0)));
    assert_eq!(world.fs.memory_used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_begun_without_truncation_replaces_nobody() {
    let world = World::new(RetryPolicy::default());
    let (touched, written) = (world.create("t", WRITE).await, world.create("w", WRITE).await);
    world.append(written, 0, &content(1, 10)).await;
    world.put("t", &content(2, 20)).await;
    world.put("w", &content(3, 20)).await;
    assert_eq!(world.flush(touched).await, Ok(()), "touch of what is there by now");
    assert_eq!(world.flush(written).await, Err(Situation::Stale));
    let _ = (world.fs.release(touched).await, world.fs.release(written).await);
    assert_eq!(world.read("t").await.unwrap(), content(2, 20));
    assert_eq!(world.read("w").await.unwrap(), content(3, 20));
    assert_eq!(world.take_kept(), [content(1, 10)]);
    world.settle("begun", None).await;
}

#[tokio::test(start_paused = true)]
async fn a_header_may_be_written_last() {
    for old in [None, Some(content(1, 1000))] {
        let world = World::new(RetryPolicy::default());
        if let Some(old) = &old {
            world.write("f", old).await.unwrap();
        }
        let handle = world.open("f", OpenMode { truncate: true, read: true, ..WRITE }).await;
        let handle = match handle {
            Ok(handle) => handle,
            Err(_) => world.create("f", OpenMode { read: true, ..WRITE }).await,
        };
        world.append(handle, 0, &content(2, 20 << 20)).await;
        world.fs.write(handle, 5, content(3, 10), CALLER).await.unwrap();
        let mut expected = content(2, 20 << 20).to_vec();
        expected[5..15].copy_from_slice(&content(3, 10));
        assert!(world.fs.read(handle, 0, 100).await.unwrap()[..] == expected[..100]);
        world.flush(handle).await.unwrap();
        assert!(world.stored("f").await.unwrap() == expected);
        world.fs.release(handle).await.unwrap();
        assert!(world.read("f").await.unwrap() == expected);
        world.settle("header", None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_on_its_way_is_sent_again() {
    // Nothing is asked about access lists, which would not be repeated here.
    let config = Config { keep_acl: KeepAcl::No, ..Config::new(BucketName::new("bucket").unwrap()) };
    let world = World::of(config, RetryPolicy::once());
    world.write("f", &content(1, 10)).await.unwrap();
    let ino = world.look("f").await.unwrap();
    let vanished = || world.next_fails(Toxic::Vanished);
    vanished();
    world.fs.mkdir(Ino::ROOT, b"d", 0o755, CALLER).await.unwrap();
    vanished();
    world.fs.setattr(ino, SetAttr { mode: Some(0o600), ..SetAttr::default() }, CALLER).await.unwrap();
    vanished();
    world.fs.unlink(Ino::ROOT, b"f").await.unwrap();
    assert_eq!(world.stored("f").await, None);
    assert!(world.stored("d/").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_rename_whose_delete_is_refused_leaves_no_copy() {
    let world = World::new(RetryPolicy::once());
    world.write("f", &content(1, 10)).await.unwrap();
    let calls = world.fault.calls().len();
    // HEAD and LIST of the new name, what the bucket does with access lists and the file's, the copy, and then the DELETE of the
    // old one.
    world.fault.inject(calls + 5, REFUSED);
    let moved = world.rename("f", "g", Replace::Forbidden).await;
    assert_eq!(moved, Err(Situation::Denied), "{:?}", &world.fault.calls()[calls..]);
    assert_eq!(world.fault.calls()[calls + 5], Operation::DeleteObject);
    assert_eq!(world.stored("f").await, Some(content(1, 10)));
    assert_eq!(world.stored("g").await, None);
    assert_eq!(world.read("f").await.unwrap(), content(1, 10));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_uploaded_at_the_end_is_kept() {
    let world = World::new(RetryPolicy::once());
    let handle = world.create("f", WRITE).await;
    world.append(handle, 0, &content(1, 10)).await;
    world.next_fails(REFUSED);
    assert!(world.flush(handle).await.is_err());
    world.next_fails(REFUSED);
    assert!(world.fs.release(handle).await.is_err());
    assert_eq!(world.fs.pending().len(), 1);
    assert_eq!(world.fs.keep_all().await, []);
    assert_eq!(world.take_kept(), [content(1, 10)]);
    assert_eq!(world.fs.memory_used(), 0);
}

/// The kernel sends RELEASE when it likes: by then the file may have been opened and emptied again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_release_does_not_store_what_the_next_open_has_emptied() {
    let world = World::new(RetryPolicy::default());
    world.write("f", &content(1, 3000)).await.unwrap();
    let (rounds, before) = (3000, world.fault.calls().len());
    let mut released = Vec::new();
    for _ in 0..rounds {
        let handle = world.open("f", OpenMode { truncate: true, ..WRITE }).await.unwrap();
        world.append(handle, 0, &content(2, 3000)).await;
        world.flush(handle).await.unwrap();
        let fs = std::sync::Arc::clone(&world.fs);
        released.push(tokio::spawn(async move { fs.release(handle).await.unwrap() }));
    }
    for task in released {
        task.await.unwrap();
    }
    let puts = world.fault.calls()[before..].iter().filter(|operation| **operation == Operation::PutObject).count();
    assert_eq!(puts, rounds, "each content is stored once, and no empty one");
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_close_has_left_does_not_replace_what_others_made_since() {
    let world = World::new(RetryPolicy::once());
    world.write("f", &content(1, 10)).await.unwrap();
    let handle = world.open("f", OpenMode { truncate: true, ..WRITE }).await.unwrap();
    world.append(handle, 0, &content(2, 20)).await;
    world.next_fails(Toxic::Refused(ErrorKind::Denied));
    assert_eq!(world.flush(handle).await, Err(Situation::Denied));
    world.next_fails(Toxic::Refused(ErrorKind::Denied));
    assert!(world.fs.release(handle).await.is_err());
    world.put("f", &content(3, 30)).await;
    world.fs.commit_all().await;
    assert_eq!(world.stored("f").await, Some(content(3, 30)));
    assert_eq!(world.take_kept(), [content(2, 20)]);
}
