//! The fault loop over the rename of a directory: each key is whole in the old or the new place, or both, whatever goes wrong
//! at whichever call; a failed rename is carried out when it is repeated; nothing is left over then.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pailfs::fs::attr::Ino;
use pailfs::fs::config::Config;
use pailfs::fs::handles::HandleId;
use pailfs::fs::{Looked, Replace, intents};
use pailfs::store::fault::Toxic;
use pailfs::store::*;

use crate::fault_loop::FAULTS;
use crate::world::{CALLER, READ, Step, WRITE, World, content};

/// Keys below the directory, and what they have.
type Keys = BTreeMap<&'static str, Bytes>;

struct Case {
    world: World,
    keys: Keys,
    context: String,
}

impl Case {
    async fn new(policy: RetryPolicy, keys: &Keys, context: String) -> Self {
        let world = World::new(policy);
        for (key, bytes) in keys {
            world.put(&format!("d/{key}"), bytes).await;
        }
        Self { world, keys: keys.clone(), context }
    }

    async fn rename(&self) -> Step<()> {
        self.world.fs.rename((Ino::ROOT, b"d"), (Ino::ROOT, b"e"), Replace::Allowed).await
    }

    /// Nothing is lost, and nothing is mixed up.
    async fn is_whole(&self, context: &str) {
        for (key, bytes) in &self.keys {
            let old = self.world.stored(&format!("d/{key}")).await;
            let new = self.world.stored(&format!("e/{key}")).await;
            assert!(old.is_some() || new.is_some(), "{context}: '{key}' is lost");
            assert!([&old, &new].into_iter().flatten().all(|there| there == bytes), "{context}: '{key}' is mixed up");
        }
    }

    /// Everything is at the new place, there alone, and reads so.
    async fn is_moved(&self, context: &str) {
        for (key, bytes) in &self.keys {
            let there = self.world.stored(&format!("e/{key}")).await;
            assert!(there.as_ref() == Some(bytes), "{context}: '{key}' is not there: {:?}", self.world.keys().await);
            if !key.is_empty() && !key.ends_with('/') {
                assert!(self.read(&format!("e/{key}")).await == *bytes, "{context}: '{key}' reads otherwise");
            }
        }
        assert!(self.world.keys().await.iter().all(|key| !key.starts_with("d/")), "{context}: {:?}", self.world.keys().await);
    }

    async fn inode(&self, path: &str) -> Ino {
        let mut at = Ino::ROOT;
        for name in path.split('/') {
            let looked = self.world.fs.lookup(at, name.as_bytes()).await.unwrap();
            let Looked::Found(stat) = looked else { panic!("{}: '{path}' is not there", self.context) };
            at = stat.ino;
        }
        at
    }

    async fn read(&self, path: &str) -> Bytes {
        let handle = self.world.fs.open(self.inode(path).await, READ, CALLER).await.unwrap();
        let all = self.read_all(handle).await;
        self.world.fs.release(handle).await.unwrap();
        all
    }

    async fn read_all(&self, handle: HandleId) -> Bytes {
        let mut all = Vec::new();
        loop {
            match self.world.fs.read(handle, all.len() as u64, 64 << 10).await.unwrap() {
                bytes if bytes.is_empty() => return all.into(),
                bytes => all.extend_from_slice(&bytes),
            }
        }
    }
}

/// Runs a scenario with each fault at each of its calls. It does whatever comes before the rename, and what is to be looked at
/// when that is done.
async fn every_fault<T>(name: &str, keys: &Keys, before: impl AsyncFn(&mut Case) -> T, after: impl AsyncFn(&mut Case, T)) {
    for (kind, (toxic, situation, burst)) in FAULTS.into_iter().enumerate() {
        for nth in 0.. {
            let policy = if kind % 5 == 4 && burst == 1 { RetryPolicy::default() } else { RetryPolicy::once() };
            let context = format!("{name}, {toxic:?} from call {nth} of the rename on, {burst} times");
            let mut case = Case::new(policy, keys, context.clone()).await;
            let held = before(&mut case).await;
            let done_before = case.world.fault.calls().len();
            for at in nth..nth + burst {
                case.world.fault.inject(done_before + at, toxic);
            }
            let renamed = case.rename().await;
            let calls = case.world.fault.calls();
            case.world.fault.heal();
            case.is_whole(&context).await;
            if let Err(error) = renamed {
                assert_eq!(error.situation(), situation, "{context}: {error}");
                if kind % 2 == 0 {
                    // Who looks finds it at one of the places.
                    let _ = case.world.fs.lookup(Ino::ROOT, b"d").await.unwrap();
                    let _ = case.world.fs.lookup(Ino::ROOT, b"e").await.unwrap();
                }
                tokio::time::sleep(Duration::from_secs(60)).await;
                case.is_whole(&context).await;
                case.rename().await.unwrap_or_else(|again| panic!("{context}: {error}; again: {again}: {:?}", calls));
            }
            case.is_whole(&context).await;
            after(&mut case, held).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            case.is_moved(&context).await;
            let left = case.world.uploads().await;
            assert!(left == 0 || toxic == Toxic::Lost, "{context}: {left} uploads");
            if calls.len() <= done_before + nth {
                break;
            }
        }
    }
}

fn keys() -> Keys {
    let of = |seed| content(seed, 3000 + usize::from(seed));
    BTreeMap::from([("", Bytes::new()), ("a", of(1)), ("b%20", of(2)), ("s/", Bytes::new()), ("s/c", of(3)), ("t/deep/f", of(4))])
}

#[tokio::test(start_paused = true)]
async fn a_directory_survives_every_fault() {
    every_fault("a directory", &keys(), async |_| {}, async |_, ()| {}).await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_without_a_marker_survives_every_fault() {
    let mut keys = keys();
    keys.retain(|key, _| !key.is_empty() && !key.ends_with('/'));
    every_fault("without a marker", &keys, async |_| {}, async |_, ()| {}).await;
}

#[tokio::test(start_paused = true)]
async fn open_and_dirty_files_survive_every_fault() {
    let little = content(9, 500);
    every_fault(
        "open and dirty files",
        &keys(),
        async |case| {
            let reader = case.world.fs.open(case.inode("d/a").await, READ, CALLER).await.unwrap();
            let first = case.world.fs.read(reader, 0, 100).await.unwrap();
            assert_eq!(first, case.keys["a"].slice(..100));
            let writer = case.world.fs.open(case.inode("d/s/c").await, WRITE, CALLER).await.unwrap();
            let directory = case.inode("d/s").await;
            let (_, new) = case.world.fs.create(directory, b"new", 0o644, WRITE, CALLER).await.unwrap();
            case.world.fs.write(new, 0, little.clone(), CALLER).await.unwrap();
            (reader, writer, new)
        },
        async |case, (reader, writer, new)| {
            assert!(case.read_all(reader).await == case.keys["a"], "{}: the reader", case.context);
            case.world.fs.write(writer, 0, little.clone(), CALLER).await.unwrap();
            case.world.fs.write(new, little.len() as u64, little.clone(), CALLER).await.unwrap();
            for handle in [writer, new] {
                case.world.fs.flush(handle, |_| false).await.unwrap();
            }
            for handle in [reader, writer, new] {
                case.world.fs.release(handle).await.unwrap();
            }
            let old = case.keys["s/c"].clone();
            case.keys.insert("s/c", [&little[..], &old[little.len()..]].concat().into());
            case.keys.insert("s/new", [&little[..], &little[..]].concat().into());
        },
    )
    .await;
}

/// More than is remembered of at the smallest memory limit: the copies themselves tell what they were made of.
#[tokio::test(start_paused = true)]
async fn more_keys_than_are_remembered_are_moved() {
    let mut case = Case::new(RetryPolicy::once(), &Keys::new(), String::from("many keys")).await;
    let bytes = content(1, 10);
    for number in 0..60_000 {
        case.world.put(&format!("d/{number:05}"), &bytes).await;
    }
    case.rename().await.unwrap();
    let all = case.world.keys().await;
    assert_eq!((all.len(), all[0].as_str()), (1000, "e/00000"));
    let left = case.world.stored("e/59999").await;
    assert_eq!(left, Some(bytes));
    let heads = case.world.fault.calls().iter().filter(|call| **call == Operation::HeadObject).count();
    println!("{heads} HEADs");
    assert!((60_000..80_000).contains(&heads), "{heads}");
    case.keys = keys();
}

/// Where renames are recorded; it goes with the test.
struct Records(std::path::PathBuf);

impl Records {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("pailfs-renames-{}", pailfs::base::rng::token())))
    }

    fn config(&self) -> Config {
        let renames = Some(intents::Place { directory: self.0.clone(), endpoint: "here".into() });
        Config { renames, ..Config::new(BucketName::new("bucket").unwrap()) }
    }

    fn count(&self) -> usize {
        std::fs::read_dir(&self.0).map_or(0, Iterator::count)
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_mount_takes_back_or_finishes_what_a_dead_one_has_begun() {
    let (mut taken_back, mut finished) = (0, 0);
    for toxic in [Toxic::Vanished, Toxic::Lost] {
        for nth in 0.. {
            let records = Records::new();
            let context = format!("dies at call {nth}, {toxic:?}");
            let world = World::of(records.config(), RetryPolicy::once());
            for (key, bytes) in &keys() {
                world.put(&format!("d/{key}"), bytes).await;
            }
            let memory = world.memory.clone();
            let mut case = Case { world, keys: keys(), context: context.clone() };
            for at in nth..nth + 1000 {
                case.world.fault.inject(at, toxic);
            }
            let renamed = case.rename().await;
            assert!(
                renamed.is_ok() == (records.count() == 0) || !case.world.keys().await.iter().any(|key| key.starts_with("e/")),
                "{context}"
            );
            let done = case.world.fault.calls().len() <= nth;
            case.world = World::on(memory, records.config(), RetryPolicy::once(), Duration::ZERO);
            case.is_whole(&context).await;
            case.world.fs.finish_renames().await;
            case.is_whole(&context).await;
            let all = case.world.keys().await;
            assert_eq!(records.count(), 0, "{context}: {all:?}");
            match all.iter().filter(|key| key.starts_with("e/")).count() {
                0 => taken_back += 1,
                _ => {
                    case.is_moved(&context).await;
                    finished += 1;
                }
            }
            if done {
                break;
            }
            case.rename().await.ok();
            case.is_moved(&context).await;
        }
    }
    assert!(taken_back > 20 && finished > 2, "{taken_back} {finished}");
}

#[tokio::test(start_paused = true)]
async fn what_others_have_done_since_the_mount_died_stays() {
    for deleting in [false, true] {
        let records = Records::new();
        let world = World::of(records.config(), RetryPolicy::once());
        for (key, bytes) in &keys() {
            world.put(&format!("d/{key}"), bytes).await;
        }
        let mut case = Case { world, keys: keys(), context: format!("deleting: {deleting}") };
        // The n-th call is the first delete.
        let clean = Case::new(RetryPolicy::once(), &keys(), String::new()).await;
        clean.rename().await.unwrap();
        let calls = clean.world.fault.calls();
        let first = calls.iter().position(|call| *call == Operation::DeleteObjects).unwrap();
        let (from, toxic) = if deleting { (first, Toxic::Vanished) } else { (first - 2, Toxic::Vanished) };
        for at in from..from + 1000 {
            case.world.fault.inject(at, toxic);
        }
        case.rename().await.unwrap_err();
        let memory = case.world.memory.clone();
        case.world = World::on(memory, records.config(), RetryPolicy::once(), Duration::ZERO);
        let other = content(77, 10);
        case.world.put("d/a", &other).await;
        case.world.put("e/s/c", &other).await;
        case.world.put("d/new", &other).await;
        case.world.fs.finish_renames().await;
        assert_eq!(case.world.stored("d/a").await.as_ref(), Some(&other), "what is at the old place may be something new");
        let copy = Some(keys()["a"].clone()).filter(|_| deleting);
        assert_eq!(case.world.stored("e/a").await, copy, "and then the copy is the only one of what was there");
        assert_eq!(case.world.stored("e/s/c").await.as_ref(), Some(&other), "what was changed at the new place stays");
        assert_eq!(case.world.stored("d/s/c").await, Some(keys()["s/c"].clone()), "and what it replaced");
        assert_eq!(case.world.stored("d/new").await.as_ref(), Some(&other));
        let place = if deleting { "e" } else { "d" };
        assert_eq!(case.world.stored(&format!("{place}/t/deep/f")).await, Some(keys()["t/deep/f"].clone()));
    }
}
