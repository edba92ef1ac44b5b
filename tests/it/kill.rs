//! A daemon that is killed at any moment of any work: every content that a close or an fsync has acknowledged is in the bucket,
//! byte for byte, or what was written since and not acknowledged yet; never a mixture, never a placeholder.
//!
//! `PAILFS_ROUNDS=N` makes a longer run (`scripts/kill-test N`), `PAILFS_SEED=N` repeats one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use pailfs::base::rng::Rng;

use crate::support::{Mount, Site, eventually};

/// Rounds when nobody says otherwise.
const ROUNDS: u64 = 20;
/// The daemon is killed after so many requests, at most.
const MAX_REQUESTS: u64 = 60;

/// What the bucket may have under the names of one worker: what was acknowledged last, and what an operation that has not
/// ended would make.
#[derive(Debug, Default)]
struct Files {
    names: Vec<String>,
    acknowledged: BTreeMap<String, Vec<u8>>,
    in_flight: Vec<BTreeMap<String, Vec<u8>>>,
}

impl Files {
    fn bytes(&self, name: &str) -> Vec<u8> {
        self.acknowledged.get(name).cloned().unwrap_or_default()
    }

    /// From now on the bucket may have this as well.
    fn may_have(&mut self, name: &str, bytes: &[u8]) {
        let mut next = self.acknowledged.clone();
        next.insert(name.to_owned(), bytes.to_vec());
        self.in_flight.push(next);
    }

    /// From now on it has the last of what it may have.
    fn acknowledge(&mut self) {
        self.acknowledged = self.in_flight.pop().unwrap();
        self.in_flight.clear();
    }

    /// Does one thing to one file, as far as the daemon lives.
    fn work(&mut self, root: &Path, rng: &mut Rng, large: bool) -> io::Result<()> {
        let pick = usize::try_from(rng.below(self.names.len() as u64)).unwrap();
        let name = self.names[pick].clone();
        let path = root.join(&name);
        let old = self.bytes(&name);
        let length = if large { (12 << 20) + rng.below(8 << 20) } else { rng.below(100_000) };
        match rng.below(5) {
            0 => self.replace(&path, &name, &content(rng, length)),
            1 => {
                let new = [old, content(rng, 1 + length / 4)].concat();
                self.change(&path, &name, &new, |file, new, from| file.write_all_at(&new[from..], from as u64))
            }
            2 if !old.is_empty() => {
                let mut new = old;
                let at = usize::try_from(rng.below(new.len() as u64)).unwrap();
                let end = (at + 5000).min(new.len());
                new[at..end].copy_from_slice(&content(rng, (end - at) as u64));
                self.change(&path, &name, &new, |file, new, _| file.write_all_at(&new[at..end], at as u64))
            }
            3 => self.replace_twice(&path, &name, &content(rng, length)),
            _ => self.rename(root, rng, &name),
        }
    }

    fn replace(&mut self, path: &Path, name: &str, new: &[u8]) -> io::Result<()> {
        self.may_have(name, new);
        let mut file = File::create(path)?;
        file.write_all(new)?;
        close(file, path.parent().unwrap())?;
        self.acknowledge();
        Ok(())
    }

    /// With an fsync in the middle.
    fn replace_twice(&mut self, path: &Path, name: &str, new: &[u8]) -> io::Result<()> {
        let half = new.len() / 2;
        self.may_have(name, &new[..half]);
        let mut file = File::create(path)?;
        file.write_all(&new[..half])?;
        file.sync_all()?;
        self.acknowledge();
        self.may_have(name, new);
        file.write_all(&new[half..])?;
        close(file, path.parent().unwrap())?;
        self.acknowledge();
        Ok(())
    }

    fn change(
        &mut self,
        path: &Path,
        name: &str,
        new: &[u8],
        write: impl FnOnce(&File, &[u8], usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let length = self.bytes(name).len();
        self.may_have(name, new);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        write(&file, new, length)?;
        file.sync_all()?;
        self.acknowledge();
        close(file, path.parent().unwrap())
    }

    fn rename(&mut self, root: &Path, rng: &mut Rng, from: &str) -> io::Result<()> {
        let to = self.names[usize::try_from(rng.below(self.names.len() as u64)).unwrap()].clone();
        if to == from || !self.acknowledged.contains_key(from) {
            return Ok(());
        }
        let bytes = self.bytes(from);
        // A copy and a delete: meanwhile it has both names.
        self.may_have(&to, &bytes);
        let mut moved = self.in_flight.last().cloned().unwrap();
        moved.remove(from);
        self.in_flight.push(moved);
        fs::rename(root.join(from), root.join(to))?;
        self.acknowledge();
        Ok(())
    }

    /// What the bucket has is one of what it may have; from now on that is what counts.
    fn check(&mut self, site: &Site, context: &str) {
        let names = self.names.iter();
        let there: BTreeMap<String, Vec<u8>> = names.filter_map(|name| Some((name.clone(), site.get(name)?))).collect();
        let sizes = |files: &BTreeMap<String, Vec<u8>>| -> Vec<(String, usize)> {
            files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect()
        };
        let allowed: Vec<_> = std::iter::once(&self.acknowledged).chain(&self.in_flight).collect();
        let story = allowed.iter().map(|files| sizes(files)).collect::<Vec<_>>();
        assert!(allowed.contains(&&there), "{context}: the bucket has {:?}, not one of {story:?}", sizes(&there));
        self.acknowledged = there;
        self.in_flight.clear();
    }
}

/// A close that was answered: the daemon still speaks after it.
fn close(file: File, root: &Path) -> io::Result<()> {
    drop(file);
    rustix::fs::getxattr(root, "user.pailfs.pid", &mut [0; 64])?;
    Ok(())
}

fn content(rng: &mut Rng, length: u64) -> Vec<u8> {
    let stamp = rng.below(u64::MAX);
    (0..length).map(|at| ((at / 997) ^ (stamp >> (at % 7 * 8))) as u8).collect()
}

/// What an environment variable says.
pub fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Random numbers, and what a run is repeated with.
pub fn seeded() -> (u64, Rng) {
    let seed = number("PAILFS_SEED", Rng::from_os().below(1 << 32));
    println!("PAILFS_SEED={seed}");
    (seed, Rng::seeded(seed))
}

#[test]
fn a_killed_daemon_loses_nothing_acknowledged_and_mixes_nothing() {
    let (seed, mut rng) = seeded();
    let site = Site::start();
    let mount = Mount::place();
    let mut workers: Vec<(bool, Files)> = [(false, "s"), (false, "t"), (true, "l")]
        .map(|(large, stem)| {
            let names = (0..3).map(|number| format!("{stem}{number}")).collect();
            (large, Files { names, ..Files::default() })
        })
        .into();
    let mut acknowledged = 0;
    for round in 0..number("PAILFS_ROUNDS", ROUNDS) {
        let context = format!("seed {seed}, round {round}");
        // The dead mount is taken away by the next one.
        let output = mount.run(&site.server.endpoint(), "bucket", &[], pailfs::devserver::SECRET_KEY);
        assert!(output.status.success(), "{context}: {output:?}");
        let daemon = mount.daemon();
        site.server.reset_counters();
        let requests = 1 + rng.below(MAX_REQUESTS);
        std::thread::scope(|threads| {
            let workers = workers.iter_mut().map(|(large, files)| {
                let (mut rng, root, large) = (Rng::seeded(rng.next_u64()), &mount.path, *large);
                threads.spawn(move || {
                    let mut done = 0_u64;
                    while files.work(root, &mut rng, large).is_ok() {
                        done += 1;
                    }
                    done
                })
            });
            let workers: Vec<_> = workers.collect();
            eventually("the work has asked for enough", || site.server.counters().requests() >= requests);
            assert!(Command::new("kill").args(["-9", &daemon]).status().unwrap().success());
            for worker in workers {
                acknowledged += worker.join().unwrap();
            }
        });
        eventually("the daemon's last requests are over", || !Path::new("/proc").join(&daemon).exists());
        for (_, files) in &mut workers {
            files.check(&site, &context);
        }
    }
    println!("{acknowledged} operations were acknowledged");
    assert!(acknowledged > 0);
}
