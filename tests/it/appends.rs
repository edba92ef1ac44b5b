//! Two mounts append to one object, and the store does not answer one of them: every line is there, and none twice.

use bytes::Bytes;
use pailfs::data::write::staging::Staging;
use pailfs::fs::attr::Ino;
use pailfs::fs::config::Config;
use pailfs::fs::handles::{HandleId, OpenMode};
use pailfs::store::fault::Toxic;
use pailfs::store::*;

use crate::fault_case::MIB;
use crate::world::{CALLER, WRITE, World, content};

const APPEND: OpenMode = OpenMode { append: true, ..WRITE };

/// What answers nothing for certain, or refuses for certain.
const UNANSWERED: [Toxic; 6] = [
    Toxic::Refused(ErrorKind::Busy),
    Toxic::Refused(ErrorKind::Denied),
    Toxic::Lost,
    Toxic::Vanished,
    Toxic::Silent,
    Toxic::Late,
];

/// Two mounts of the same store; the second one never fails.
fn two_mounts(policy: RetryPolicy) -> [World; 2] {
    let config = || Config::new(BucketName::new("bucket").unwrap());
    let first = World::new(policy);
    let second = World::on(first.memory.clone(), config(), RetryPolicy::default(), std::time::Duration::ZERO);
    [first, second]
}

async fn line(world: &World, handle: HandleId, at: usize, bytes: &Bytes) {
    world.append(handle, at, bytes).await;
}

/// Opens to append, appends, closes.
async fn append_all(world: &World, at: usize, bytes: &Bytes) {
    let handle = world.open("log", APPEND).await.unwrap();
    line(world, handle, at, bytes).await;
    world.flush(handle).await.unwrap();
    world.fs.release(handle).await.unwrap();
}

/// Lets the next call of a kind go wrong, whichever that is.
fn next_of(world: &World, good: &[Operation], operation: Operation, toxic: Toxic) {
    let nth = good.iter().position(|call| *call == operation).unwrap();
    world.fault.inject(world.fault.calls().len() + nth, toxic);
}

/// What a close of what was begun on `old` asks for when nobody is in the way.
async fn calls_of_close(old: Option<&Bytes>, mine: &Bytes) -> Vec<Operation> {
    let world = World::new(RetryPolicy::default());
    if let Some(old) = old {
        world.put("log", old).await;
    }
    let handle = world.open("log", APPEND).await.unwrap();
    line(&world, handle, old.map_or(0, Bytes::len), mine).await;
    let before = world.fault.calls().len();
    world.flush(handle).await.unwrap();
    world.fs.release(handle).await.unwrap();
    world.fault.calls()[before..].to_vec()
}

async fn is_stored(worlds: &[World; 2], expected: &[&Bytes], context: &str) {
    let stored = worlds[0].stored("log").await.unwrap();
    let expected: Vec<u8> = expected.iter().flat_map(|bytes| bytes.iter().copied()).collect();
    assert!(stored == expected, "{context}: {} bytes are there instead of {}", stored.len(), expected.len());
    for world in worlds {
        assert!(world.take_kept().is_empty(), "{context}: nothing is kept aside");
        assert_eq!(world.fs.commit_all().await, [], "{context}");
    }
    assert_eq!(worlds[0].uploads().await, 0, "{context}: no upload is left");
}

/// Objects of these lengths are there before: none, one that is sent whole each time, and one that is copied in parts.
fn olds() -> [Option<Bytes>; 3] {
    [None, Some(content(9, 100)), Some(content(9, 20 * MIB))]
}

fn maker(old: Option<&Bytes>) -> Operation {
    if old.is_some_and(|old| old.len() > MIB) { Operation::CompleteMultipartUpload } else { Operation::PutObject }
}

/// Two mounts of a log, `mine` being appended to it on the first, the handle of that, and where it begins.
async fn begun(old: Option<&Bytes>, mine: &Bytes, policy: RetryPolicy) -> ([World; 2], HandleId, usize) {
    let worlds = two_mounts(policy);
    if let Some(old) = old {
        worlds[0].put("log", old).await;
    }
    let at = old.map_or(0, Bytes::len);
    let handle = worlds[0].open("log", APPEND).await.unwrap();
    line(&worlds[0], handle, at, mine).await;
    (worlds, handle, at)
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_race_and_a_lost_answer_have_kept_back_comes_behind_the_winners() {
    let (mine, theirs) = (content(1, 10), content(2, 7));
    for old in olds() {
        let calls = calls_of_close(old.as_ref(), &mine).await;
        for toxic in UNANSWERED {
            let (worlds, handle, at) = begun(old.as_ref(), &mine, RetryPolicy::default()).await;
            append_all(&worlds[1], at, &theirs).await;
            next_of(&worlds[0], &calls, maker(old.as_ref()), toxic);
            let context = format!("{toxic:?} behind {at}");
            let first = worlds[0].flush(handle).await;
            if toxic == Toxic::Refused(ErrorKind::Denied) {
                assert!(first.is_err(), "{context}");
                worlds[0].flush(handle).await.unwrap();
            } else {
                assert_eq!(first, Ok(()), "{context}");
            }
            worlds[0].fs.release(handle).await.unwrap();
            let old = old.clone().unwrap_or_default();
            is_stored(&worlds, &[&old, &theirs, &mine], &context).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_without_an_answer_is_not_appended_again_behind_what_others_have_appended_to_it() {
    let (mine, theirs, more) = (content(1, 10), content(2, 7), content(3, 5));
    for old in olds() {
        let calls = calls_of_close(old.as_ref(), &mine).await;
        for (toxic, written_on) in [(Toxic::Lost, false), (Toxic::Lost, true), (Toxic::Vanished, false), (Toxic::Vanished, true)]
        {
            let (worlds, handle, at) = begun(old.as_ref(), &mine, RetryPolicy::once()).await;
            next_of(&worlds[0], &calls, maker(old.as_ref()), toxic);
            // Nor can it be looked whether it was applied.
            let nth = calls.iter().position(|call| *call == maker(old.as_ref())).unwrap();
            worlds[0].fault.inject(worlds[0].fault.calls().len() + nth + 1, Toxic::Refused(ErrorKind::TimedOut));
            assert!(worlds[0].flush(handle).await.is_err());
            let applied = toxic == Toxic::Lost;
            append_all(&worlds[1], at + if applied { mine.len() } else { 0 }, &theirs).await;
            let context = format!("{toxic:?} behind {at}, written on: {written_on}");
            if written_on {
                let end = at + mine.len();
                let written = worlds[0].fs.write(handle, end as u64, more.clone(), CALLER).await;
                assert!(written.is_ok(), "{context}: {written:?}");
            }
            assert_eq!(worlds[0].flush(handle).await, Ok(()), "{context}");
            worlds[0].fs.release(handle).await.unwrap();
            let old = old.clone().unwrap_or_default();
            let (nothing, more) = (Bytes::new(), if written_on { more.clone() } else { Bytes::new() });
            let expected =
                if applied { [&old, &mine, &theirs, &nothing, &more] } else { [&old, &theirs, &nothing, &mine, &more] };
            is_stored(&worlds, &expected, &context).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_had_left_before_an_unanswered_end_is_found_in_what_others_have_made_of_it() {
    let (mine, theirs) = (content(1, 30 * MIB + 5), content(2, 7));
    let calls = calls_of_close(None, &mine).await;
    let worlds = two_mounts(RetryPolicy::once());
    let handle = worlds[0].open("log", APPEND).await.unwrap();
    line(&worlds[0], handle, 0, &mine).await;
    next_of(&worlds[0], &calls, Operation::CompleteMultipartUpload, Toxic::Lost);
    let nth = calls.iter().position(|call| *call == Operation::CompleteMultipartUpload).unwrap();
    worlds[0].fault.inject(worlds[0].fault.calls().len() + nth + 1, Toxic::Refused(ErrorKind::TimedOut));
    assert!(worlds[0].flush(handle).await.is_err());
    append_all(&worlds[1], mine.len(), &theirs).await;
    assert_eq!(worlds[0].flush(handle).await, Ok(()));
    worlds[0].fs.release(handle).await.unwrap();
    is_stored(&worlds, &[&mine, &theirs], "streamed").await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_removed_after_an_unanswered_append_stays_what_its_writers_make_of_it() {
    let worlds = two_mounts(RetryPolicy::once());
    let handle = worlds[0].open("log", APPEND).await.unwrap();
    line(&worlds[0], handle, 0, &content(1, 10)).await;
    worlds[0].next_fails(Toxic::Lost);
    worlds[0].fault.inject(worlds[0].fault.calls().len() + 1, Toxic::Refused(ErrorKind::TimedOut));
    assert!(worlds[0].flush(handle).await.is_err());
    worlds[1].fs.unlink(Ino::ROOT, b"log").await.unwrap();
    append_all(&worlds[1], 0, &content(2, 20)).await;
    assert_eq!(worlds[0].flush(handle).await, Ok(()));
    worlds[0].fs.release(handle).await.unwrap();
    // Whatever is there is none of it: a line that is there twice is better than one that is nowhere.
    is_stored(&worlds, &[&content(2, 20), &content(1, 10)], "removed").await;
}

/// Whenever it is removed while a close appends to it: what was removed stays away, and what was appended is there.
#[tokio::test(start_paused = true)]
async fn what_was_removed_does_not_come_back_with_what_is_appended_to_it_meanwhile() {
    let (mine, theirs) = (content(1, 10), content(2, 7));
    for old in olds().into_iter().flatten() {
        for nth in 0.. {
            let (worlds, handle, at) = begun(Some(&old), &mine, RetryPolicy::default()).await;
            append_all(&worlds[1], at, &theirs).await;
            let before = worlds[0].fault.calls().len();
            // It is asked again a little later.
            worlds[0].fault.inject(before + nth, Toxic::Refused(ErrorKind::Busy));
            let removal = async {
                while worlds[0].fault.calls().len() <= before + nth {
                    tokio::time::sleep(std::time::Duration::from_micros(10)).await;
                }
                worlds[1].fs.unlink(Ino::ROOT, b"log").await.unwrap();
            };
            let closing = worlds[0].flush(handle);
            tokio::pin!(closing);
            let first = tokio::select! {
                biased;
                () = removal => None,
                done = &mut closing => Some(done),
            };
            if let Some(done) = first {
                assert_eq!(done, Ok(()));
                assert!(nth > 3, "the close asks for something");
                break;
            }
            let context = format!("removed at request {nth} of a close, of {at}");
            assert_eq!(closing.await, Ok(()), "{context}");
            worlds[0].fs.release(handle).await.unwrap();
            is_stored(&worlds, &[&mine], &context).await;
        }
    }
}

/// More than a part each: `mine` leaves while it is written, and theirs comes in between.
async fn large_lines(old: Option<&Bytes>, mine: &Bytes, world: World) {
    let second = World::on(world.memory.clone(), world.fs.config().clone(), RetryPolicy::default(), std::time::Duration::ZERO);
    let worlds = [world, second];
    let theirs = [content(2, 9 * MIB), content(3, 12 * MIB)];
    if let Some(old) = old {
        worlds[0].put("log", old).await;
    }
    let at = old.map_or(0, Bytes::len);
    let handle = worlds[0].open("log", APPEND).await.unwrap();
    line(&worlds[0], handle, at, mine).await;
    append_all(&worlds[1], at, &theirs[0]).await;
    let context = format!("{} behind {at}", mine.len());
    assert_eq!(worlds[0].flush(handle).await, Ok(()), "{context}");
    append_all(&worlds[1], at + theirs[0].len() + mine.len(), &theirs[1]).await;
    line(&worlds[0], handle, 0, &mine.slice(..9 * MIB)).await;
    assert_eq!(worlds[0].flush(handle).await, Ok(()), "{context}: later");
    worlds[0].fs.release(handle).await.unwrap();
    let old = old.cloned().unwrap_or_default();
    let all = [&old, &theirs[0], mine, &theirs[1], &mine.slice(..9 * MIB)];
    is_stored(&worlds, &all, &context).await;
    for world in &worlds {
        world.settle("all is closed", None).await;
    }
}

#[tokio::test]
async fn what_was_appended_and_has_left_as_parts_comes_behind_the_winners() {
    for (old, len) in olds().into_iter().zip([10, 17, 9]) {
        large_lines(old.as_ref(), &content(1, len * MIB), World::new(RetryPolicy::default())).await;
    }
}

#[tokio::test]
async fn what_was_appended_and_is_in_the_staging_directory_comes_behind_the_winners() {
    let directory = std::env::temp_dir().join(format!("pailfs-staging-{}", pailfs::base::rng::token()));
    let staging = Staging::new(directory.clone(), 1 << 30);
    let config = Config { staging, ..Config::new(BucketName::new("bucket").unwrap()) };
    large_lines(Some(&content(9, 20 * MIB)), &content(1, 80 * MIB), World::of(config, RetryPolicy::default())).await;
    std::fs::remove_dir_all(directory).unwrap();
}
