//! The name space against a model: what this mount does, what other clients do to the bucket, remounts and crashes, in any
//! order. One function says which tree a bucket is (`model_tree.rs`); every answer and every tree is compared with it.
//!
//! The cases are the same ones each time; `PAILFS_CASES=N` tries more, `PAILFS_SEED=N` others. A failing case is made smaller by
//! proptest and printed, and its seed is kept in `tests/it/model.proptest-regressions`.

use std::time::Duration;

use pailfs::fs::config::MOST_FORGOTTEN;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, FileFailurePersistence, RngSeed};

use crate::kill::number;
use crate::model_run::Run;

/// Cases when nobody says otherwise.
const CASES: u64 = 1500;
/// What components of keys others have, and what names are asked for here.
pub const COMPONENTS: [&str; 5] = ["a", "b", "c", "", ".."];
pub const NAMES: [&str; 7] = ["a", "b", "c", "a%00", "%2F", "%2E%2E", "%00"];

/// So many files are open at once.
pub const SLOTS: usize = 3;

/// A path as indexes into [`NAMES`], or a key as indexes into [`COMPONENTS`].
pub type Indexes = Vec<usize>;

#[derive(Debug, Clone)]
pub enum Op {
    /// By this mount.
    Write(Indexes, u8),
    Append(Indexes, u8),
    Truncate(Indexes, u8),
    Chmod(Indexes, u32),
    Symlink(Indexes, u8),
    Mkdir(Indexes),
    Unlink(Indexes),
    Rmdir(Indexes),
    Rename(Indexes, Indexes, bool),
    /// By this mount, through handles that stay open: truncated or not, at an offset.
    Open(usize, Indexes, bool),
    WriteAt(usize, u8, u8),
    Fsync(usize),
    Close(usize),
    /// By another client: an object of so many bytes, or none any more. `true`: the key ends in a slash.
    Put(Indexes, bool, u8),
    Delete(Indexes, bool),
    /// Everything is looked at.
    Look,
    /// The kernel forgets what it knows.
    Forget,
    /// The mount ends and begins again, with its files stored, or as after a crash.
    Remount,
    Crash,
}

impl Op {
    /// The paths of the mount that it is about.
    pub fn paths(&self) -> Vec<&Indexes> {
        match self {
            Self::Write(at, _) | Self::Append(at, _) | Self::Truncate(at, _) | Self::Chmod(at, _) | Self::Symlink(at, _) => {
                vec![at]
            }
            Self::Mkdir(at) | Self::Unlink(at) | Self::Rmdir(at) => vec![at],
            Self::Rename(from, to, _) => vec![from, to],
            Self::Open(_, at, _) => vec![at],
            Self::WriteAt(..) | Self::Fsync(_) | Self::Close(_) => Vec::new(),
            Self::Put(..) | Self::Delete(..) | Self::Look | Self::Forget | Self::Remount | Self::Crash => Vec::new(),
        }
    }
}

fn path() -> impl Strategy<Value = Indexes> {
    // Those at the beginning are the ones that others are likely to have met.
    prop::collection::vec(prop_oneof![8 => 0..3_usize, 1 => 3..NAMES.len()], 1..4)
}

fn key() -> impl Strategy<Value = Indexes> {
    prop::collection::vec(prop_oneof![8 => 0..3_usize, 1 => 3..COMPONENTS.len()], 1..4)
}

fn own() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (path(), any::<u8>()).prop_map(|(at, seed)| Op::Write(at, seed)),
        1 => (path(), any::<u8>()).prop_map(|(at, seed)| Op::Append(at, seed)),
        1 => (path(), any::<u8>()).prop_map(|(at, seed)| Op::Truncate(at, seed)),
        1 => (path(), prop_oneof![Just(0o600), Just(0o755)]).prop_map(|(at, mode)| Op::Chmod(at, mode)),
        1 => (path(), any::<u8>()).prop_map(|(at, seed)| Op::Symlink(at, seed)),
        4 => path().prop_map(Op::Mkdir),
        3 => path().prop_map(Op::Unlink),
        3 => path().prop_map(Op::Rmdir),
        5 => (path(), path(), prop::bool::weighted(0.8)).prop_map(|(from, to, replace)| Op::Rename(from, to, replace)),
        2 => Just(Op::Look),
        1 => Just(Op::Forget),
        1 => Just(Op::Remount),
        1 => Just(Op::Crash),
    ]
}

fn anybodys() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => own(),
        4 => (key(), prop::bool::weighted(0.2), any::<u8>()).prop_map(|(at, slash, seed)| Op::Put(at, slash, seed)),
        2 => (key(), prop::bool::weighted(0.2)).prop_map(|(at, slash)| Op::Delete(at, slash)),
    ]
}

fn with_handles() -> impl Strategy<Value = Op> {
    let slot = 0..SLOTS;
    prop_oneof![
        12 => own(),
        4 => (slot.clone(), path(), any::<bool>()).prop_map(|(slot, at, truncate)| Op::Open(slot, at, truncate)),
        5 => (slot.clone(), any::<u8>(), any::<u8>()).prop_map(|(slot, offset, seed)| Op::WriteAt(slot, offset, seed)),
        1 => slot.clone().prop_map(Op::Fsync),
        3 => slot.prop_map(Op::Close),
    ]
}

/// Does all of them, and compares; also when nothing is kept of what the kernel has forgotten.
fn run(ops: &[Op], ttl: Duration) {
    for most_forgotten in [0, MOST_FORGOTTEN] {
        run_with(ops, ttl, most_forgotten);
    }
}

fn run_with(ops: &[Op], ttl: Duration, most_forgotten: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new(ttl, most_forgotten);
        for (step, op) in ops.iter().enumerate() {
            let (real, expected) = run.apply(op).await;
            assert_eq!(real, expected, "step {step}: {op:?}");
            if matches!(op, Op::Look | Op::Remount | Op::Crash) || step + 1 == ops.len() {
                run.check(&format!("step {step}: {op:?}")).await;
            }
            // Longer than what others do may stay unseen.
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        for slot in 0..SLOTS {
            assert_eq!(run.apply(&Op::Close(slot)).await, (Ok(()), Ok(())), "the close of {slot} at the end");
        }
        run.check("the end").await;
        run.forget_all();
        run.world.settle("the end", None).await;
    });
}

fn cases() -> Cases {
    let cases = u32::try_from(number("PAILFS_CASES", CASES)).unwrap();
    let kept = FileFailurePersistence::Direct("tests/it/model.proptest-regressions");
    let rng_seed = RngSeed::Fixed(number("PAILFS_SEED", 1));
    Cases { cases, failure_persistence: Some(Box::new(kept)), max_shrink_iters: 20_000, rng_seed, ..Cases::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_step_of_anybody_leaves_the_tree_that_the_bucket_is(ops in prop::collection::vec(anybodys(), 1..25), ttl in 0..2_u64) {
        run(&ops, Duration::from_secs(ttl));
    }

    #[test]
    fn what_this_mount_does_is_seen_at_once_in_what_it_believes(ops in prop::collection::vec(with_handles(), 1..40)) {
        run(&ops, Duration::from_secs(3600));
    }
}

#[test]
fn an_older_listing_does_not_displace_what_was_looked_at_since() {
    // The inode is forgotten after the commit, and asked for again; the listing from before is believed still.
    let ops = [Op::Open(0, vec![2], false), Op::Remount, Op::Open(1, vec![2], true), Op::Close(1), Op::Forget];
    run(&ops, Duration::from_secs(3600));
}

#[test]
fn a_file_beside_a_directory_never_has_the_plain_name() {
    // Not stored yet, while the kernel has forgotten the directory.
    let ops = [Op::Mkdir(vec![0]), Op::Open(0, vec![3], false), Op::Forget, Op::Write(vec![0], 0), Op::Look];
    run(&ops, Duration::from_secs(3600));
}
