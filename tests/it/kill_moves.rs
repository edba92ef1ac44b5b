//! A daemon that is killed at any moment of the rename of a directory: each key is whole at the old place, or at the new one,
//! or at both, at every moment; the next mount takes the rename back or finishes it; one that was acknowledged is done.
//!
//! `PAILFS_ROUNDS=N` makes a longer run (`scripts/kill-test N`), `PAILFS_SEED=N` repeats one, `PAILFS_KEYS=N`
//! one of a directory with more keys.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::kill::{number, seeded};
use crate::support::{Mount, Site, eventually};

/// Rounds when nobody says otherwise.
const ROUNDS: u64 = 8;
/// Keys that nothing is known of, below the directory.
const FOREIGN: u64 = 100;

/// Keys below the directory, and what they have.
type Tree = BTreeMap<String, Vec<u8>>;

/// What is at a place.
fn there(site: &Site, place: &str) -> Tree {
    let prefix = format!("{place}/");
    let keys = site.keys().into_iter().filter_map(|key| Some((key.strip_prefix(&prefix)?.to_owned(), key.clone())));
    keys.filter_map(|(relative, key)| Some((relative, site.get(&key)?))).collect()
}

/// Nothing is lost, and nothing is mixed up.
fn is_whole(site: &Site, tree: &Tree, context: &str) {
    let (one, other) = (there(site, "d"), there(site, "e"));
    for (key, bytes) in tree {
        let copies: Vec<_> = [&one, &other].into_iter().filter_map(|place| place.get(key)).collect();
        assert!(!copies.is_empty(), "{context}: '{key}' is lost");
        assert!(copies.iter().all(|copy| *copy == bytes), "{context}: '{key}' is mixed up");
    }
}

#[test]
fn a_killed_rename_of_a_directory_is_taken_back_or_finished() {
    let (seed, mut rng) = seeded();
    let site = Site::start();
    let foreign = number("PAILFS_KEYS", FOREIGN);
    for number in 0..foreign {
        site.put(&format!("d/foreign/{}/{number}", number % 7), &format!("foreign {number}"));
    }
    let mount = Mount::place();
    let (mut at, mut before) = ("d", None);
    let (mut moved, mut taken_back, mut finished) = (0, 0, 0);
    for round in 0..number("PAILFS_ROUNDS", ROUNDS) {
        let context = format!("seed {seed}, round {round}");
        let output = mount.run(&site.server.endpoint(), "bucket", &[], pailfs::devserver::SECRET_KEY);
        assert!(output.status.success(), "{context}: {output:?}");
        // What the last one has left is put in order behind the start.
        if let Some(tree) = &before {
            let is_at = |place: &str, other: &str| there(&site, place) == *tree && there(&site, other).is_empty();
            eventually("the rename is taken back or finished", || is_at("d", "e") || is_at("e", "d"));
            let now = if is_at("d", "e") { "d" } else { "e" };
            if now == at {
                taken_back += 1
            } else {
                finished += 1
            }
            at = now;
        }
        let to = if at == "d" { "e" } else { "d" };
        mount.sh(&format!(
            "mkdir -p {at}/own/new{round} && for n in 1 2 3; do echo {round} > {at}/own/$n; done; echo x > {at}/open"
        ));
        let mut open = fs::OpenOptions::new().append(true).open(mount.at(&format!("{at}/open"))).unwrap();
        open.write_all(format!("{round}\n").as_bytes()).unwrap();
        open.sync_all().unwrap();
        let tree = there(&site, at);
        assert!(tree.len() as u64 > foreign, "{context}: {} keys", tree.len());
        let daemon = mount.daemon();
        // While it copies, or about when it begins to delete.
        let is_late = round % 2 == 1;
        site.server.set_latency(Duration::from_millis(if is_late { 40 } else { 3 }));
        site.server.reset_counters();
        let (requests, pause) = (1 + rng.below(2 * tree.len() as u64), Duration::from_millis(rng.below(150)));
        let is_over = AtomicBool::new(false);
        let renamed = std::thread::scope(|threads| {
            let renaming = threads.spawn(|| {
                let renamed = fs::rename(mount.at(at), mount.at(to));
                is_over.store(true, Ordering::Release);
                renamed
            });
            let watching = threads.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    let keys = site.keys();
                    let is_there = |place: &str, key: &str| keys.binary_search(&format!("{place}/{key}")).is_ok();
                    // Pages of a listing are of different moments.
                    let mut missing = tree.keys().filter(|key| !is_there("d", key) && !is_there("e", key));
                    let lost = missing.find(|key| [at, to].iter().all(|place| site.get(&format!("{place}/{key}")).is_none()));
                    assert_eq!(lost, None, "{context}: meanwhile");
                }
            });
            let has_asked = || match is_late {
                true => site.count("CopyObject") >= tree.len() as u64,
                false => site.server.counters().requests() >= requests,
            };
            eventually("the rename has asked for enough", || has_asked() || is_over.load(Ordering::Acquire));
            if is_late {
                std::thread::sleep(pause);
            }
            assert!(Command::new("kill").args(["-9", &daemon]).status().unwrap().success());
            watching.join().unwrap();
            renaming.join().unwrap()
        });
        drop(open);
        eventually("the daemon's last requests are over", || !Path::new("/proc").join(&daemon).exists());
        site.server.set_latency(Duration::ZERO);
        is_whole(&site, &tree, &context);
        before = Some(tree);
        if renamed.is_ok() {
            assert!(there(&site, at).is_empty() && Some(&there(&site, to)) == before.as_ref(), "{context}: it was acknowledged");
            (at, before) = (to, None);
            moved += 1;
        }
    }
    println!("{moved} were done, {taken_back} taken back, {finished} finished");
}
