//! Every way of changing a file, with its n-th request going wrong, n = 0, 1, 2, ..., in every way there is. Each call that
//! fails must fail as the store did, must leave every object whole, old or new, and every byte that was written readable
//! here; and when the store is well again, the same call succeeds. What was acknowledged is in the store, exactly, and at the
//! end no upload, memory or handle is left.

use std::time::Duration;

use bytes::Bytes;
use pailfs::fs::error::Situation;
use pailfs::store::fault::Toxic;
use pailfs::store::*;

use crate::fault_case::{APPEND, BOTH, Between, Case, EXCLUSIVE, MIB, WHOLE};
use crate::world::{CALLER, WRITE, World, content};

/// What goes wrong, how it is told, and how many calls in a row.
pub const FAULTS: [(Toxic, Situation, usize); 18] = [
    (Toxic::Refused(ErrorKind::Denied), Situation::Denied, 1),
    (Toxic::Refused(ErrorKind::Denied), Situation::Denied, 3),
    (Toxic::Refused(ErrorKind::Busy), Situation::Busy, 1),
    (Toxic::Refused(ErrorKind::Unavailable), Situation::Io, 1),
    (Toxic::Refused(ErrorKind::Expired), Situation::Expired, 1),
    (Toxic::Refused(ErrorKind::StoreFull), Situation::NoSpace, 1),
    (Toxic::Refused(ErrorKind::Corrupt), Situation::Corrupt, 1),
    (Toxic::Refused(ErrorKind::TimedOut), Situation::TimedOut, 1),
    (Toxic::Lost, Situation::Io, 1),
    (Toxic::Lost, Situation::Io, 2),
    (Toxic::Vanished, Situation::Io, 1),
    (Toxic::Vanished, Situation::Io, 2),
    (Toxic::Silent, Situation::TimedOut, 1),
    (Toxic::Late, Situation::Io, 1),
    (Toxic::Cut(0), Situation::Io, 1),
    (Toxic::Cut(100_000), Situation::Io, 1),
    (Toxic::Altered, Situation::Corrupt, 1),
    (Toxic::Misreported, Situation::Corrupt, 1),
];

/// Whether a toxic does anything to an operation.
fn concerns(toxic: Toxic, operation: Operation) -> bool {
    let makes = [Operation::PutObject, Operation::CopyObject, Operation::CompleteMultipartUpload];
    match toxic {
        Toxic::Cut(_) | Toxic::Altered => operation == Operation::GetObject,
        Toxic::Late | Toxic::Misreported | Toxic::Damaged(_) => makes.contains(&operation),
        _ => true,
    }
}

/// Runs a scenario with each fault at each of its calls.
pub async fn every_fault(name: &str, scenario: impl AsyncFn(&mut Case)) {
    let mut clean = Case::new(RetryPolicy::once(), Situation::Io, Between::Nothing, name.to_owned());
    scenario(&mut clean).await;
    // Large contents take turns with the kinds; `PAILFS_ALL_FAULTS=1` leaves none out.
    let large = clean.shown.values().any(|bytes| bytes.len() > 4 * MIB);
    let clean = clean.end(None).await;
    assert!(!clean.is_empty(), "{name} asks for something");
    let large = large || clean.contains(&Operation::CreateMultipartUpload);
    for (kind, (toxic, situation, burst)) in FAULTS.into_iter().enumerate() {
        for nth in 0.. {
            let all = std::env::var_os("PAILFS_ALL_FAULTS").is_some();
            let passed = toxic != Toxic::Lost && (nth + kind) % 4 != 0;
            if large && !all && passed && nth < clean.len() {
                continue;
            }
            // Parts leave in any order.
            if clean.get(nth).is_some_and(|operation| !concerns(toxic, *operation)) {
                continue;
            }
            let between = if (nth / 2 + kind) % 2 == 0 { Between::Nothing } else { Between::Reading };
            let policy = if kind % 5 == 4 && burst == 1 { RetryPolicy::default() } else { RetryPolicy::once() };
            let story = format!("{name}, {toxic:?} from call {nth} on, {burst} times, {} attempts, {between:?}", policy.attempts);
            let mut case = Case::new(policy, situation, between, story);
            for at in nth..nth + burst {
                case.world.fault.inject(at, toxic);
            }
            scenario(&mut case).await;
            let calls = case.end(Some((nth, toxic, burst))).await;
            if calls.len() <= nth {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn new_files_survive_every_fault() {
    let (small, large) = (content(1, 70_000), content(2, 20 * MIB));
    every_fault("a new small file", async |case| {
        let handle = case.open("f", WRITE).await;
        case.write("f", handle, 0, &small).await;
        case.close("f", handle).await;
    })
    .await;
    every_fault("a new file with O_EXCL", async |case| {
        let handle = case.open("f", EXCLUSIVE).await;
        case.write("f", handle, 0, &small).await;
        case.close("f", handle).await;
    })
    .await;
    every_fault("a new large file", async |case| {
        let handle = case.open("f", WRITE).await;
        case.write("f", handle, 0, &large).await;
        case.close("f", handle).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn overwriting_and_appending_survive_every_fault() {
    let (old, new, little) = (content(3, 12 * MIB), content(4, 9 * MIB), content(5, 4096));
    every_fault("overwriting whole", async |case| {
        case.given("f", &old).await;
        let handle = case.open("f", WHOLE).await;
        case.write("f", handle, 0, &new).await;
        case.close("f", handle).await;
    })
    .await;
    every_fault("appending", async |case| {
        case.given("f", &old).await;
        let handle = case.open("f", APPEND).await;
        case.append("f", handle, &little).await;
        case.close("f", handle).await;
    })
    .await;
    every_fault("fsync twice", async |case| {
        case.given("f", &little).await;
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 100, &new).await;
        case.fsync("f", handle).await;
        case.write("f", handle, 5, &little).await;
        case.fsync("f", handle).await;
        case.append("f", handle, &little).await;
        case.close("f", handle).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn edits_survive_every_fault() {
    let (old, little) = (content(6, 30 * MIB), content(7, 4096));
    every_fault("an edit in the middle", async |case| {
        case.given("f", &old).await;
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 14 * MIB + 77, &little).await;
        case.close("f", handle).await;
    })
    .await;
    let streamed = content(8, 18 * MIB);
    every_fault("a header rewritten last", async |case| {
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 0, &streamed).await;
        case.write("f", handle, 10, &little).await;
        case.close("f", handle).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn truncation_survives_every_fault() {
    let (old, little) = (content(9, 12 * MIB), content(10, 4096));
    every_fault("truncate(2)", async |case| {
        case.given("f", &old).await;
        case.truncate("f", 7 * MIB + 3).await;
        case.acknowledged("truncate", "f").await;
        case.truncate("f", 13 * MIB).await;
        case.acknowledged("truncate", "f").await;
        case.truncate("f", 0).await;
        case.acknowledged("truncate", "f").await;
    })
    .await;
    every_fault("ftruncate", async |case| {
        case.given("f", &old).await;
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 6 * MIB, &little).await;
        case.truncate("f", 6 * MIB + 100).await;
        case.truncate("f", 12 * MIB).await;
        case.append("f", handle, &little).await;
        case.close("f", handle).await;
    })
    .await;
    let streamed = content(11, 18 * MIB);
    every_fault("emptied after parts have left", async |case| {
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 0, &streamed).await;
        case.truncate("f", 0).await;
        case.append("f", handle, &little).await;
        case.close("f", handle).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_clients_that_append_survive_every_fault() {
    let (old, line) = (content(18, 100_000), content(19, 50));
    every_fault("two clients that append", async |case| {
        case.given("f", &old).await;
        // What another client has replaced cannot be read through a handle of before.
        case.between = Between::Nothing;
        let other = World::on(case.world.memory.clone(), case.world.fs.config().clone(), RetryPolicy::once(), Duration::ZERO);
        let handle = case.open("f", APPEND).await;
        case.append("f", handle, &line).await;
        let theirs = other.open("f", APPEND).await.unwrap();
        let others = content(20, 70);
        other.fs.write(theirs, 0, others.clone(), CALLER).await.unwrap();
        other.fs.flush(theirs, |_| false).await.unwrap();
        other.fs.release(theirs).await.unwrap();
        case.stored.insert("f", vec![Some([&old[..], &others].concat().into())]);
        let both = Bytes::from([&old[..], &others, &line].concat());
        case.aim = vec![("f", Some(both.clone()))];
        let flushed = case.world.fs.flush(handle, |_| false).await;
        if let Err(error) = flushed {
            let context = case.failed("close", &error).await;
            case.world.fs.flush(handle, |_| false).await.unwrap_or_else(|again| panic!("{context}: again: {again}"));
        }
        case.aim.clear();
        case.shown.insert("f", both);
        case.acknowledged("close", "f").await;
        case.world.fs.release(handle).await.unwrap();
    })
    .await;
}
