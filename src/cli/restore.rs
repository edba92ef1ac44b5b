//! `pailfs restore`: asks for many archived files, several at a time, and counts what came of it.
//!
//! The daemon is told through the mount's root, by inode number, so that no permission on the files is needed. Running it again
//! asks only for what is still missing.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::args::RestoreFiles;
use super::why::Failure;
use super::{Outcome, control};
use crate::base::clock;

/// Files asked for at once.
const PARALLEL: usize = 16;
/// Paths that wait for one of them.
const QUEUE: usize = 1024;
/// How often a restore under way is looked at: at first, and at most.
const POLL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// What came of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Requested,
    UnderWay,
    There,
    NotArchived,
    Failed(String),
}

#[derive(Debug, Default)]
struct Counts {
    requested: u64,
    under_way: u64,
    there: u64,
    not_archived: u64,
    failed: u64,
}

impl Counts {
    fn add(&mut self, state: &State) {
        *match state {
            State::Requested => &mut self.requested,
            State::UnderWay => &mut self.under_way,
            State::There => &mut self.there,
            State::NotArchived => &mut self.not_archived,
            State::Failed(_) => &mut self.failed,
        } += 1;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requested, under_way, there, not_archived, failed } = self;
        write!(f, "{requested} requested, {under_way} under way, {there} there, {not_archived} not archived, {failed} failed")
    }
}

/// What every file is asked with.
struct Order {
    value: String,
    progress: indicatif::ProgressBar,
}

/// Restores files, and everything below directories.
pub(super) fn restore(arguments: &RestoreFiles) -> Outcome {
    let tier = arguments.tier.map_or_else(String::new, |tier| format!(",{}", tier.as_str()));
    let order = Order { value: format!("{}{tier}", arguments.days), progress: indicatif::ProgressBar::new_spinner() };
    let mut counts = Counts::default();
    let mut waiting = Vec::new();
    for (path, state) in order.ask_all(&arguments.paths) {
        counts.add(&state);
        if let State::Failed(why) = &state {
            order.complain(&format!("{}: {why}", path.display()));
        }
        if matches!(state, State::Requested | State::UnderWay) {
            waiting.push(path);
        }
    }
    order.progress.finish_and_clear();
    say!("{counts}");
    if counts.failed > 0 {
        return Err("not all could be restored; running it again asks only for what is missing".to_owned());
    }
    if arguments.wait { order.wait(waiting) } else { Ok(()) }
}

impl Order {
    /// Asks for every file; what came of each, in no order.
    fn ask_all(&self, paths: &[PathBuf]) -> Vec<(PathBuf, State)> {
        let (sender, receiver) = mpsc::sync_channel::<PathBuf>(QUEUE);
        let (receiver, answers) = (Mutex::new(receiver), Mutex::new(Vec::new()));
        let answer = |path: PathBuf, state: State| {
            self.progress.inc(1);
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((path, state));
        };
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL {
                scope.spawn(|| {
                    loop {
                        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(path) = next else { return };
                        let state = self.ask(&path);
                        answer(path, state);
                    }
                });
            }
            for path in paths {
                walk(path, &mut |found| match found {
                    Ok(file) => drop(sender.send(file)),
                    Err((path, why)) => answer(path, State::Failed(why)),
                });
            }
            drop(sender);
        });
        answers.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, path: &Path) -> State {
        match control::mount_of(path) {
            Ok((mount, _)) => self.ask_daemon(&mount.point, path),
            Err(why) => State::Failed(why),
        }
    }

    fn ask_daemon(&self, root: &Path, path: &Path) -> State {
        // Held open without permissions, so that the kernel does not forget its number meanwhile.
        let held = match rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(held) => std::fs::File::from(held),
            Err(error) => return State::Failed(error.to_string()),
        };
        let number = match held.metadata() {
            Ok(metadata) => metadata.ino(),
            Err(error) => return State::Failed(error.to_string()),
        };
        match control::tell_of(root, "restore", &format!("{number} {}", self.value)) {
            Ok(()) => State::Requested,
            Err(Errno::ALREADY) => State::UnderWay,
            Err(Errno::EXIST) => State::There,
            Err(Errno::INVAL) => match story(root, path) {
                Some(why) if !why.contains("not archived") => State::Failed(why),
                _ => State::NotArchived,
            },
            Err(error) => State::Failed(story(root, path).unwrap_or_else(|| error.to_string())),
        }
    }

    /// Waits until all can be read.
    fn wait(&self, mut waiting: Vec<PathBuf>) -> Outcome {
        let begun = Instant::now();
        let mut pause = *POLL.start();
        let mut failed = 0_usize;
        while !waiting.is_empty() {
            if std::io::stderr().is_terminal() {
                self.progress.set_message(format!("{} under way after {} s", waiting.len(), begun.elapsed().as_secs()));
            }
            clock::block(pause);
            pause = (pause * 2).min(*POLL.end());
            let mut left = Vec::new();
            for (path, state) in self.ask_all(&waiting) {
                match state {
                    State::Requested | State::UnderWay => left.push(path),
                    // A move out of the archive ends the same way.
                    State::There | State::NotArchived => {}
                    State::Failed(why) => {
                        failed += 1;
                        self.complain(&format!("{}: {why}", path.display()));
                    }
                }
            }
            waiting = left;
        }
        self.progress.finish_and_clear();
        if failed > 0 { Err(format!("{failed} could not be restored")) } else { Ok(()) }
    }

    fn complain(&self, line: &str) {
        self.progress.suspend(|| {
            // Nobody listens any more: the count still tells.
            let _ = writeln!(std::io::stderr(), "{line}");
        });
    }
}

/// Calls `found` for every file at or below `path`.
fn walk(path: &Path, found: &mut impl FnMut(Result<PathBuf, (PathBuf, String)>)) {
    let failed = |error: std::io::Error| (path.to_owned(), error.to_string());
    match std::fs::symlink_metadata(path) {
        Err(error) => return found(Err(failed(error))),
        Ok(metadata) if metadata.is_file() => return found(Ok(path.to_owned())),
        Ok(metadata) if !metadata.is_dir() => return,
        Ok(_) => {}
    }
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                found(Err((directory, error.to_string())));
                continue;
            }
        };
        for entry in entries {
            match entry.and_then(|entry| Ok((entry.file_type()?, entry.path()))) {
                Ok((kind, path)) if kind.is_dir() => directories.push(path),
                Ok((kind, path)) if kind.is_file() => found(Ok(path)),
                Ok(_) => {}
                Err(error) => found(Err((directory.clone(), error.to_string()))),
            }
        }
    }
}

/// What the daemon said of a file last.
fn story(root: &Path, path: &Path) -> Option<String> {
    let below = control::mount_of(path).ok()?.1;
    let start = format!("'/{}': ", below.display());
    let failures = control::ask(root, "failures").ok()?;
    let told = failures.lines().filter_map(|line| serde_json::from_str::<Failure>(line).ok());
    told.map(|failure| failure.story).find_map(|story| story.strip_prefix(&start).map(str::to_owned))
}
