//! The fault loop: a scenario is run again and again, and its n-th request goes wrong, n = 0, 1, 2, ..., in every way there
//! is. Whatever goes wrong: what was acknowledged is in the store, what was not is there whole or not at all, what is left
//! can be committed afterwards, and no memory, handle or upload leaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pailfs::base::rng::Rng;
use pailfs::fs::Replace;
use pailfs::fs::attr::Ino;
use pailfs::fs::error::Situation;
use pailfs::fs::handles::OpenMode;
use pailfs::store::fault::{Fault, Toxic};
use pailfs::store::memory::Memory;
use pailfs::store::*;

use crate::world::{CALLER, READ, WRITE, World, content};

fn toxics() -> Vec<Toxic> {
    let kinds = [ErrorKind::Denied, ErrorKind::Busy, ErrorKind::Unavailable, ErrorKind::TimedOut, ErrorKind::StoreFull];
    kinds
        .map(Toxic::Refused)
        .into_iter()
        .chain([Toxic::Lost, Toxic::Vanished, Toxic::Cut(0), Toxic::Cut(100_000), Toxic::Altered, Toxic::Misreported])
        .collect()
}

/// Runs `scenario` until its requests are used up, for every toxic and with and without repeating.
async fn fault_loop(name: &str, scenario: impl AsyncFn(&World, &str)) {
    for policy in [RetryPolicy::once(), RetryPolicy::default()] {
        for toxic in toxics() {
            for nth in 0.. {
                let world = World::new(policy);
                world.fault.inject(nth, toxic);
                let context = format!("{name}, {toxic:?} at call {nth}, {} attempts", policy.attempts);
                scenario(&world, &context).await;
                world.settle(&context, Some((nth, toxic))).await;
                if world.fault.calls().len() <= nth {
                    assert!(nth > 0, "{context}: the scenario asks for something");
                    break;
                }
            }
        }
    }
}

/// Replaces a file by another content: what the store has is one of the two, whole, and the new one if close said so.
async fn replace(world: &World, context: &str, old: Option<&Bytes>, new: &Bytes) {
    let said = world.write("f", new).await;
    let stored = world.stored("f").await;
    if said.is_ok() {
        assert!(stored.as_ref() == Some(new), "{context}: close succeeded, so the store has it");
    } else {
        assert!(stored.as_ref() == Some(new) || stored.as_ref() == old, "{context}: whole, old or new");
    }
}

#[tokio::test(start_paused = true)]
async fn writing_survives_every_fault() {
    let (small, large) = (content(1, 70_000), content(2, 19 << 20));
    fault_loop("small files", async |world, context| {
        replace(world, context, None, &small).await;
        let old = world.stored("f").await;
        replace(world, context, old.as_ref(), &content(3, 10)).await;
    })
    .await;
    fault_loop("a large file", async |world, context| replace(world, context, None, &large).await).await;
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_creation_whose_request_is_lost_replaces_nobody() {
    let world = World::new(RetryPolicy::once());
    let exclusive = OpenMode { exclusive: true, ..WRITE };
    let (stat, handle) = world.fs.create(Ino::ROOT, b"f", 0o644, exclusive, CALLER).await.unwrap();
    world.fs.write(handle, 0, content(1, 10), CALLER).await.unwrap();
    world.put("f", &content(2, 10)).await;
    world.fault.inject(world.fault.calls().len(), Toxic::Vanished);
    assert_eq!(world.fs.flush(handle, |_| false).await.unwrap_err().situation(), Situation::Exists);
    let _ = world.fs.release(handle).await;
    world.fs.forget(stat.ino, 1);
    assert_eq!(world.stored("f").await, Some(content(2, 10)));
}

#[tokio::test(start_paused = true)]
async fn idle_open_files_do_not_keep_others_from_reading() {
    // 200 open files whose first 512 KiB nobody reads, in 64 MiB.
    let world = World::new(RetryPolicy::default());
    let bytes = content(1, 600 << 10);
    for index in 0..200 {
        world.put(&format!("f{index}"), &bytes).await;
    }
    let mut handles = Vec::new();
    for index in 0..200 {
        handles.push(world.open(&format!("f{index}"), READ).await.unwrap());
    }
    for handle in &handles {
        let mut all = Vec::new();
        while all.len() < bytes.len() {
            all.extend_from_slice(&world.fs.read(*handle, all.len() as u64, 128 << 10).await.unwrap());
        }
        assert!(all == bytes);
    }
    for handle in handles {
        world.fs.release(handle).await.unwrap();
    }
    world.settle("idle files", None).await;
}

#[tokio::test(start_paused = true)]
async fn reading_survives_every_fault() {
    let large = content(4, 9 << 20);
    fault_loop("reading", async |world, context| {
        world.put("f", &large).await;
        // The bytes, or an error: never others, never fewer.
        if let Ok(read) = world.read("f").await {
            assert!(read == large, "{context}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_stays_when_nobody_knows_whether_the_old_name_is_gone() {
    let moving = async |world: &World| world.fs.rename((Ino::ROOT, b"f"), (Ino::ROOT, b"g"), Replace::Allowed).await;
    let clean = World::new(RetryPolicy::once());
    clean.write("f", &content(1, 10)).await.unwrap();
    moving(&clean).await.unwrap();
    let delete = clean.fault.calls().iter().position(|call| *call == Operation::DeleteObject).unwrap();
    for (answer, gone) in [(Toxic::Lost, true), (Toxic::Vanished, false)] {
        let world = World::new(RetryPolicy::once());
        world.write("f", &content(1, 10)).await.unwrap();
        // The DELETE of the old name, and the look for it.
        (delete..delete + 2).for_each(|nth| world.fault.inject(nth, answer));
        assert_eq!(moving(&world).await.unwrap_err().situation(), Situation::Io);
        assert_eq!(world.stored("f").await.is_none(), gone);
        assert_eq!(world.stored("g").await, Some(content(1, 10)), "it may be the only one");
        moving(&world).await.unwrap();
        assert_eq!((world.stored("f").await, world.read("g").await.unwrap()), (None, content(1, 10)));
    }
}

#[tokio::test(start_paused = true)]
async fn many_short_writers_end_though_memory_is_short() {
    // 40 files of 4 MiB in 64 MiB: none is long enough to send a part of.
    let world = World::new(RetryPolicy::default());
    let content = content(7, 4 << 20);
    let mut handles = Vec::new();
    for index in 0..40 {
        handles.push(world.open(&format!("f{index}"), WRITE).await.unwrap());
    }
    for offset in 0..4_u64 {
        for handle in &handles {
            let start = (offset << 20) as usize;
            let chunk = content.slice(start..start + (1 << 20));
            world.fs.write(*handle, offset << 20, chunk, CALLER).await.unwrap();
        }
    }
    for (index, handle) in handles.into_iter().enumerate() {
        world.fs.flush(handle, |_| false).await.unwrap();
        world.fs.release(handle).await.unwrap();
        assert!(world.stored(&format!("f{index}")).await.as_ref() == Some(&content));
    }
    world.settle("many writers", None).await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_whose_parts_are_refused_hears_of_it_instead_of_waiting() {
    let world = World::new(RetryPolicy::once());
    let handle = world.open("f", WRITE).await.unwrap();
    for nth in 0..200 {
        world.fault.inject(nth + world.fault.calls().len(), Toxic::Refused(ErrorKind::Denied));
    }
    let mut failed = false;
    for index in 0..128_u64 {
        let chunk = Bytes::from(vec![7; 1 << 20]);
        failed |= world.fs.write(handle, index << 20, chunk, CALLER).await.is_err();
    }
    assert!(failed, "with 64 MiB of memory, writing 128 MiB of refused parts fails");
    assert!(world.fs.flush(handle, |_| false).await.is_err());
    let _ = world.fs.release(handle).await;
    assert_eq!(world.stored("f").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_request_stalls_nobody_else() {
    let world = World::new(RetryPolicy::default());
    world.write("f", &content(8, 10)).await.unwrap();
    world.fault.inject(world.fault.calls().len(), Toxic::Stalled);
    let stuck = tokio::spawn({
        let fs = Arc::clone(&world.fs);
        async move { fs.mkdir(Ino::ROOT, b"d", 0o755, CALLER).await.is_ok() }
    });
    tokio::task::yield_now().await;
    assert_eq!(world.read("f").await.unwrap(), content(8, 10));
    assert!(!stuck.is_finished());
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_falls_silent_is_given_up_at_the_deadline() {
    let memory = Memory::new();
    let bucket = BucketName::new("bucket").unwrap();
    memory.ensure_bucket(&bucket);
    let fault = Fault::new(memory);
    let store = Retry::new(fault.clone(), RetryPolicy::default(), Rng::from_os());
    fault.inject(0, Toxic::Refused(ErrorKind::Unavailable));
    fault.inject(1, Toxic::Stalled);
    let begun = tokio::time::Instant::now();
    let head = store.head(&HeadObject { object: ObjectRef::current(bucket, Key::new("k").unwrap()) }).await;
    assert_eq!(head.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(begun.elapsed() <= RetryPolicy::default().deadline + Duration::from_secs(1), "{:?}", begun.elapsed());
}
