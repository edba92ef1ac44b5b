//! A store that makes something else than it was sent: the commit says so, what was written stays, and the next one is right.

use bytes::Bytes;
use pailfs::base::crc::Crc64;
use pailfs::fs::Replace;
use pailfs::fs::attr::{Ino, SetAttr};
use pailfs::fs::error::Situation;
use pailfs::fs::handles::HandleId;
use pailfs::store::fault::Toxic;
use pailfs::store::*;

use crate::conformance::{Bench, Verdict, kind, ok, same};
use crate::fault_case::{APPEND, BOTH, MIB};
use crate::world::{CALLER, WRITE, World, content};

/// An upload of one part that is copied and two that are sent, not complete yet, and what it will be.
async fn three_parts<S: ObjectStore + BucketService>(bench: &Bench<S>) -> std::result::Result<(CompleteUpload, Bytes), String> {
    let (first, second, third) = (content(1, 5 * MIB), content(2, 5 * MIB + 3), content(3, 10));
    ok(bench.put("summed source", &first, Condition::None).await)?;
    let (bucket, key) = (bench.bucket.clone(), Key::new("summed").unwrap());
    let create = CreateUpload { bucket, key, properties: Properties::default() };
    let upload = ok(bench.store.create_upload(&create).await)?;
    let number = |number| PartNumber::new(number).unwrap();
    let copy = CopyPart {
        upload: upload.clone(),
        number: number(1),
        source: bench.object("summed source"),
        source_if_match: None,
        range: ByteRange::new(0, first.len() as u64).unwrap(),
    };
    let mut parts = vec![ok(bench.store.copy_part(&copy).await)?];
    for (index, bytes) in [(2, &second), (3, &third)] {
        let payload = Payload::from(bytes.clone());
        let part = ok(bench.store.upload_part(&UploadPart { upload: upload.clone(), number: number(index), payload }).await)?;
        same(part.crc64nvme.is_some_and(|sum| sum == Crc64::of([bytes])) || part.tag_is_md5, true)?;
        parts.push(part);
    }
    let whole = [first, second, third].concat().into();
    Ok((CompleteUpload { upload, parts, condition: Condition::None }, whole))
}

/// What the store says of parts and of what it makes of them is what their bytes add up to.
pub async fn sums_of_uploads<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let (request, whole) = three_parts(bench).await?;
    let made = ok(bench.store.complete_upload(&request).await)?;
    let expected = Some(Crc64::of([&whole]));
    same((request.crc64nvme(), made.crc64nvme), (expected, expected))?;
    same(ok(bench.head("summed").await)?.crc64nvme(), expected)
}

/// Of parts without checksums the tags tell.
pub async fn uploads_add_up<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    // The first one tells how the store makes its tags, the second is compared.
    for _ in 0..2 {
        let (request, whole) = three_parts(bench).await?;
        ok(bench.store.complete_upload(&request).await)?;
        same(ok(bench.head("summed").await)?.size, whole.len() as u64)?;
    }
    Ok(())
}

/// Parts that do not add up to what the whole shall be make nothing.
pub async fn wrong_whole_refused<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let (mut request, _) = three_parts(bench).await?;
    let before = ok(bench.head("summed").await)?.etag;
    // The same parts and the same length, yet another sum.
    request.parts[1].size -= 1;
    request.parts[2].size += 1;
    let refused = kind(bench.store.complete_upload(&request).await, ErrorKind::Corrupt);
    let _ = bench.store.abort_upload(&request.upload).await;
    refused?;
    same(ok(bench.head("summed").await)?.etag, before)
}

/// Lets the next call of a kind go wrong: the calls of a scenario that goes well are counted first.
fn call_of(calls: &[Operation], operation: Operation) -> usize {
    calls.iter().position(|call| *call == operation).unwrap()
}

/// Writes a file in one go, without closing it.
async fn begin(world: &World, bytes: &Bytes) -> HandleId {
    let handle = world.open("f", BOTH).await.unwrap();
    for (index, chunk) in bytes.chunks(MIB).enumerate() {
        world.fs.write(handle, (index * MIB) as u64, bytes.slice_ref(chunk), CALLER).await.unwrap();
    }
    handle
}

async fn read_all(world: &World, handle: HandleId) -> Bytes {
    let mut all = Vec::new();
    loop {
        match world.fs.read(handle, all.len() as u64, 128 << 10).await.unwrap() {
            bytes if bytes.is_empty() => return all.into(),
            bytes => all.extend_from_slice(&bytes),
        }
    }
}

async fn fails(world: &World, handle: HandleId) {
    assert_eq!(world.fs.flush(handle, |_| false).await.unwrap_err().situation(), Situation::Corrupt);
}

async fn succeeds(world: &World, handle: HandleId, expected: &Bytes) {
    world.fs.flush(handle, |_| false).await.unwrap();
    world.fs.release(handle).await.unwrap();
    assert!(world.stored("f").await.as_ref() == Some(expected), "the store has what was written");
    world.settle("integrity", None).await;
}

/// Writes `bytes` with `toxic` where the object is made by `operation`; the calls of a good run tell where that is.
async fn damaged(bytes: &Bytes, operation: Operation, toxic: Toxic) -> (World, HandleId) {
    let good = World::new(RetryPolicy::default());
    let handle = begin(&good, bytes).await;
    succeeds(&good, handle, bytes).await;
    let nth = call_of(&good.fault.calls(), operation);
    let world = World::new(RetryPolicy::default());
    world.fault.inject(nth, toxic);
    let handle = begin(&world, bytes).await;
    fails(&world, handle).await;
    (world, handle)
}

#[tokio::test(start_paused = true)]
async fn a_small_file_that_was_stored_wrong_is_told_and_stored_again() {
    let bytes = content(1, 70_000);
    let (world, handle) = damaged(&bytes, Operation::PutObject, Toxic::Damaged(7)).await;
    assert!(world.stored("f").await.unwrap() != bytes, "the store is wrong");
    assert!(read_all(&world, handle).await == bytes, "what was written is here");
    succeeds(&world, handle, &bytes).await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_end_is_here_is_stored_again_with_what_is_right_of_it() {
    let bytes = content(2, 20 * MIB + 5);
    let last = bytes.len() as u64 - 1;
    for toxic in [Toxic::Damaged(last), Toxic::Misreported, Toxic::Refused(ErrorKind::Corrupt)] {
        for reading in [false, true] {
            let (world, handle) = damaged(&bytes, Operation::CompleteMultipartUpload, toxic).await;
            if reading {
                assert!(read_all(&world, handle).await == bytes, "what was written can be read");
            }
            succeeds(&world, handle, &bytes).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_only_the_store_had_and_has_wrong_are_told_again_and_again() {
    let bytes = content(3, 20 * MIB);
    let (world, handle) = damaged(&bytes, Operation::CompleteMultipartUpload, Toxic::Damaged(5)).await;
    for _ in 0..3 {
        fails(&world, handle).await;
    }
    // The first part is lost; it is neither read nor added to. The others are not.
    let right = 8 * MIB..8 * MIB + 100_000;
    assert!(world.fs.read(handle, right.start as u64, 100_000).await.unwrap() == bytes.slice(right));
    assert_eq!(world.fs.read(handle, 0, 10).await.unwrap_err().situation(), Situation::Corrupt);
    let more = world.fs.write(handle, bytes.len() as u64, content(4, 10), CALLER).await;
    assert_eq!(more.unwrap_err().situation(), Situation::Corrupt);
    // Written anew, all is well.
    let again = content(5, 9 * MIB);
    world.write("f", &again).await.unwrap();
    succeeds(&world, handle, &again).await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_takes_what_it_kept_from_the_wrong_object_only_where_that_is_right() {
    let old = content(6, 30 * MIB);
    let edit = content(7, 4096);
    let (at, mut new) = (14 * MIB + 77, old.to_vec());
    new[at..at + edit.len()].copy_from_slice(&edit);
    let new = Bytes::from(new);
    let begin_edit = async |toxic: Option<(usize, Toxic)>| {
        let world = World::new(RetryPolicy::default());
        world.put("f", &old).await;
        if let Some((nth, toxic)) = toxic {
            world.fault.inject(nth, toxic);
        }
        let handle = world.open("f", BOTH).await.unwrap();
        world.fs.write(handle, at as u64, edit.clone(), CALLER).await.unwrap();
        (world, handle)
    };
    let (good, handle) = begin_edit(None).await;
    succeeds(&good, handle, &new).await;
    let nth = call_of(&good.fault.calls(), Operation::CompleteMultipartUpload);
    for (toxic, is_lost) in [
        (Toxic::Misreported, false),
        // What was edited is here, but not what was sent beside it.
        (Toxic::Damaged(0), true),
        (Toxic::Damaged(new.len() as u64 - 1), true),
    ] {
        let (world, handle) = begin_edit(Some((nth, toxic))).await;
        fails(&world, handle).await;
        if is_lost {
            fails(&world, handle).await;
            world.write("f", &new).await.unwrap();
        } else {
            assert!(read_all(&world, handle).await == new);
        }
        succeeds(&world, handle, &new).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_appended_to_a_small_file_brings_along_what_was_there() {
    let (old, line) = (content(8, 100_000), content(9, 50));
    let both = Bytes::from([&old[..], &line].concat());
    for at in [0, both.len() as u64 - 1] {
        let world = World::new(RetryPolicy::default());
        world.put("f", &old).await;
        let handle = world.open("f", APPEND).await.unwrap();
        world.fs.write(handle, 0, line.clone(), CALLER).await.unwrap();
        // All is fetched, and put.
        for nth in 0..3 {
            world.fault.inject(world.fault.calls().len() + nth, Toxic::Damaged(at));
        }
        fails(&world, handle).await;
        world.fault.heal();
        assert_eq!(world.fault.calls().last(), Some(&Operation::PutObject));
        succeeds(&world, handle, &both).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_on_which_the_mount_ends_wrong_is_kept() {
    let bytes = content(10, 70_000);
    let world = World::new(RetryPolicy::default());
    let handle = world.open("f", WRITE).await.unwrap();
    world.fs.write(handle, 0, bytes.clone(), CALLER).await.unwrap();
    world.fault.inject(world.fault.calls().len(), Toxic::Damaged(1));
    fails(&world, handle).await;
    world.fs.release(handle).await.unwrap();
    assert_eq!(world.fs.commit_all().await, [], "it is dirty, and is stored in the end");
    assert!(world.stored("f").await == Some(bytes));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_came_out_wrong_is_told_and_its_source_stays() {
    let bytes = content(11, 70_000);
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    for toxic in [Toxic::Damaged(3), Toxic::Misreported] {
        let world = World::new(RetryPolicy::default());
        world.put("f", &bytes).await;
        let rename = async || world.fs.rename((Ino::ROOT, b"f"), (Ino::ROOT, b"g"), Replace::Allowed).await;
        // What is asked before the copy does not matter to the toxic.
        (0..8).for_each(|nth| world.fault.inject(nth, toxic));
        assert_eq!(rename().await.unwrap_err().situation(), Situation::Corrupt);
        assert!(world.stored("f").await.as_ref() == Some(&bytes));
        world.fault.heal();
        rename().await.unwrap();
        assert!(world.stored("f").await.is_none() && world.stored("g").await.as_ref() == Some(&bytes));
        let calls = world.fault.calls().len();
        (calls..calls + 8).for_each(|nth| world.fault.inject(nth, Toxic::Misreported));
        assert_eq!(world.change("g", mode).await.unwrap_err().situation(), Situation::Corrupt);
        world.fault.heal();
        // Later than the rename: what is asked for at the same moment is not believed.
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        world.change("g", mode).await.unwrap();
        assert!(world.stored("g").await.as_ref() == Some(&bytes));
        world.settle("copies", None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_on_its_way_here_never_becomes_part_of_what_is_stored() {
    // How long the object is, and what is written where.
    let cases: [(usize, &[(usize, usize)]); 6] = [
        (MIB, &[(MIB / 2, 4096)]),
        (MIB, &[(10, 10), (MIB / 2, 10), (MIB - 5, 100)]),
        (20 * MIB, &[(9 * MIB + 7, 4096)]),
        (20 * MIB, &[(9 * MIB + 7, 4096), (10 * MIB, 5), (17 * MIB, 70_000)]),
        (20 * MIB + 5, &[(7 * MIB, 4 * MIB)]),
        (20 * MIB + 5, &[(18 * MIB, 10), (20 * MIB + 5, 4096)]),
    ];
    for (size, edits) in cases {
        let old = content(8, size);
        let mut new = old.to_vec();
        for (at, len) in edits {
            new.resize(new.len().max(at + len), 0);
            new[*at..at + len].copy_from_slice(&content(9, *len));
        }
        let new = Bytes::from(new);
        let edited = async |toxics: &[(usize, Toxic)]| {
            let world = World::new(RetryPolicy::default());
            world.put("f", &old).await;
            for (nth, toxic) in toxics {
                world.fault.inject(*nth, *toxic);
            }
            let handle = world.open("f", WRITE).await.unwrap();
            for (at, len) in edits {
                world.fs.write(handle, *at as u64, content(9, *len), CALLER).await.unwrap();
            }
            let flushed = world.fs.flush(handle, |_| false).await;
            (world, handle, flushed)
        };
        let (good, handle, flushed) = edited(&[]).await;
        flushed.unwrap();
        succeeds(&good, handle, &new).await;
        let calls = good.fault.calls();
        let gets: Vec<usize> = (0..calls.len()).filter(|nth| calls[*nth] == Operation::GetObject).collect();
        assert!(!gets.is_empty(), "something is fetched: {calls:?}");
        for nth in gets {
            let context = format!("{size} bytes, {edits:?}, call {nth}");
            // What is read again is right, and nobody sees anything of it.
            let (world, handle, flushed) = edited(&[(nth, Toxic::Forged)]).await;
            assert!(flushed.is_ok(), "{context}: {flushed:?}");
            succeeds(&world, handle, &new).await;
            // It is wrong as long as the store lasts.
            let always: Vec<(usize, Toxic)> = (nth..nth + 40).map(|nth| (nth, Toxic::Forged)).collect();
            let (world, handle, flushed) = edited(&always).await;
            assert_eq!(flushed.unwrap_err().situation(), Situation::Corrupt, "{context}");
            assert!(world.stored("f").await.as_ref() == Some(&old), "{context}: the object stays");
            world.fault.heal();
            succeeds(&world, handle, &new).await;
        }
    }
}
