//! Random operations through the kernel, on a mount and on a local directory side by side: every answer and every byte must be
//! the same, also on a second mount after close, after a remount, and in the bucket at the end.
//!
//! `PAILFS_SEED=N` repeats a run, `PAILFS_STEPS=N` makes it longer, and with `PAILFS_FILES=1` all of it is done to one file
//! (`scripts/fsx N`). A failing run is cut down to few steps before it is shown.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pailfs::base::rng::{self, Rng};
use rustix::fs::FallocateFlags;

use crate::support::{Mount, Site};

/// Sizes around which something changes: pages of the kernel, its requests, our pages, our parts.
const EDGES: [u64; 9] = [0, 1, 4096, 128 << 10, 1 << 20, 5 << 20, 8 << 20, 9 << 20, 17 << 20];
const MAX_FILE_BYTES: u64 = 24 << 20;
/// Files when nobody says otherwise.
const FILES: u64 = 4;
/// The longest file of a run on one file only, which is read as a whole more often.
const MAX_ONLY_FILE_BYTES: u64 = 8 << 20;
const HANDLES: usize = 5;
const MAX_SHRINKING: Duration = Duration::from_secs(100);

/// What is done: numbers that mean the same on both sides.
#[derive(Debug, Clone, Copy)]
struct Step {
    kind: u64,
    a: u64,
    b: u64,
    c: u64,
}

/// The same file, open on both sides.
struct Pair {
    mounted: File,
    local: File,
    how: u64,
}

struct Run {
    site: Site,
    mount: Mount,
    other: Mount,
    local: PathBuf,
    files: u64,
    max_bytes: u64,
    handles: Vec<Option<Pair>>,
    story: Vec<String>,
}

/// What one side answered: bytes or a number as text, or an errno.
type Answer = Result<Vec<u8>, i32>;

fn answer<T>(result: io::Result<T>, value: impl FnOnce(T) -> Vec<u8>) -> Answer {
    result.map(value).map_err(|error| error.raw_os_error().unwrap_or(-1))
}

fn open_options(how: u64) -> OpenOptions {
    let mut options = OpenOptions::new();
    match how {
        0 => options.read(true),
        1 => options.read(true).write(true),
        2 => options.read(true).write(true).create(true),
        3 => options.write(true).create(true).truncate(true),
        4 => options.append(true).create(true),
        5 => options.read(true).append(true),
        6 => options.write(true).create_new(true),
        _ => options.write(true),
    };
    options
}

/// Bytes that tell every write from every other.
fn content(stamp: u64, len: u64) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(31).wrapping_add(stamp * 97) >> 3) as u8 ^ stamp as u8).collect()
}

impl Run {
    fn new() -> Self {
        let site = Site::start();
        let options = ["--memory-limit", "64MiB"];
        let (mount, other) = (site.mount(&options), site.mount(&["--ttl", "0", "--memory-limit", "64MiB"]));
        let local = std::env::temp_dir().join(format!("pailfs-oracle-{}", rng::token()));
        fs::create_dir(&local).unwrap();
        let files = number("PAILFS_FILES", FILES);
        let max_bytes = if files == 1 { MAX_ONLY_FILE_BYTES } else { MAX_FILE_BYTES };
        let handles = (0..HANDLES).map(|_| None).collect();
        Self { site, mount, other, local, files, max_bytes, handles, story: Vec::new() }
    }

    fn both<T>(&self, name: &str, act: impl Fn(&Path) -> T) -> (T, T) {
        (act(&self.mount.at(name)), act(&self.local.join(name)))
    }

    fn agree(&self, what: &str, answers: (Answer, Answer)) -> Result<(), String> {
        if answers.0 == answers.1 {
            return Ok(());
        }
        let show = |answer: &Answer| match answer {
            Ok(bytes) if bytes.len() < 40 => format!("{bytes:?}"),
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(errno) => format!("errno {errno}"),
        };
        let first = match &answers {
            (Ok(one), Ok(other)) => one.iter().zip(other).position(|(one, other)| one != other),
            _ => None,
        };
        let (mounted, local) = (show(&answers.0), show(&answers.1));
        let failures = self.mount.failures();
        Err(format!("{what}: mounted {mounted}, local {local}, first difference at {first:?}; failures: {failures}"))
    }

    /// A length: mostly short, sometimes around an edge.
    fn length(raw: u64) -> u64 {
        let (way, rest) = (raw % 20, raw / 20);
        match way {
            0..12 => rest % 9000,
            12..17 => rest % 300_000,
            _ => (EDGES[(rest % 9) as usize] + (rest / 9) % 3).saturating_sub(1),
        }
    }

    /// A place in a file of `size` bytes: at its end, at an edge, anywhere.
    fn place(&self, raw: u64, size: u64) -> u64 {
        let (way, rest) = (raw % 8, raw / 8);
        let place = match way {
            0 => 0,
            1 | 2 => size,
            3 => (EDGES[(rest % 9) as usize] + (rest / 9) % 3).saturating_sub(1),
            4 => size + rest % 100_000,
            _ => rest % (size + 1),
        };
        place.min(self.max_bytes)
    }

    fn step(&mut self, number: usize, step: Step) -> Result<(), String> {
        let Step { kind, a, b, c } = step;
        let name = format!("f{}", a % self.files);
        let slot = (a % HANDLES as u64) as usize;
        match kind % 40 {
            0..6 => {
                let free = self.handles.iter().position(Option::is_none).unwrap_or(slot);
                self.handles[free] = None;
                let how = b % 8;
                self.story.push(format!("{number}: open {name} how {how} as {free}"));
                match self.both(&name, |path| open_options(how).open(path)) {
                    (Ok(mounted), Ok(local)) => self.handles[free] = Some(Pair { mounted, local, how }),
                    (mounted, local) => self.agree("open", (answer(mounted, |_| vec![]), answer(local, |_| vec![])))?,
                }
            }
            6..9 => {
                self.story.push(format!("{number}: close {slot}"));
                self.handles[slot] = None;
            }
            9..17 => self.with(slot, |run, pair, size| {
                let (at, len) = (run.place(b, size), Self::length(c));
                let bytes = content(number as u64, len.min(run.max_bytes - at));
                run.story.push(format!("{number}: write {slot} (how {}) at {at} {} bytes", pair.how, bytes.len()));
                let write = |file: &File| answer(file.write_all_at(&bytes, at), |()| vec![]);
                run.agree("write", (write(&pair.mounted), write(&pair.local)))
            })?,
            17..22 => self.with(slot, |run, pair, size| {
                let (at, len) = (run.place(b, size), Self::length(c));
                run.story.push(format!("{number}: read {slot} at {at} {len} bytes"));
                run.agree("read", (read_at(&pair.mounted, at, len), read_at(&pair.local, at, len)))
            })?,
            22 | 23 => self.with(slot, |run, pair, size| {
                let len = run.place(b, size);
                run.story.push(format!("{number}: ftruncate {slot} to {len}"));
                let cut = |file: &File| answer(file.set_len(len), |()| vec![]);
                run.agree("ftruncate", (cut(&pair.mounted), cut(&pair.local)))
            })?,
            24 => {
                let size = fs::metadata(self.local.join(&name)).map_or(0, |metadata| metadata.len());
                let len = self.place(b, size).to_string();
                self.story.push(format!("{number}: truncate {name} to {len}"));
                let cut = |path: &Path| {
                    let done = Command::new("truncate").args(["-c", "-s", &len]).arg(path).status().unwrap();
                    Ok(vec![u8::from(done.success())])
                };
                let answers = self.both(&name, cut);
                self.agree("truncate", answers)?;
            }
            25 | 26 => self.with(slot, |run, pair, size| {
                let (at, len) = (run.place(b, size), Self::length(c).max(1).min(run.max_bytes));
                let flags = [
                    FallocateFlags::empty(),
                    FallocateFlags::KEEP_SIZE,
                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    FallocateFlags::ZERO_RANGE,
                    FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                ][(b / 8 % 5) as usize];
                run.story.push(format!("{number}: fallocate {slot} {flags:?} at {at} {len} bytes"));
                let allocate = |file: &File| {
                    rustix::fs::fallocate(file, flags, at, len).map(|()| vec![]).map_err(|errno| errno.raw_os_error())
                };
                run.agree("fallocate", (allocate(&pair.mounted), allocate(&pair.local)))
            })?,
            27 | 28 => self.with(slot, |run, pair, _| {
                run.story.push(format!("{number}: fsync {slot}"));
                run.agree("fsync", (answer(pair.mounted.sync_all(), |()| vec![]), answer(pair.local.sync_all(), |()| vec![])))
            })?,
            29 => {
                let to = format!("f{}", b % self.files);
                self.story.push(format!("{number}: rename {name} to {to}"));
                let (mounted, local) = (&self.mount.path, &self.local);
                let rename = |place: &Path| answer(fs::rename(place.join(&name), place.join(&to)), |()| vec![]);
                self.agree("rename", (rename(mounted), rename(local)))?;
            }
            30 => {
                self.story.push(format!("{number}: unlink {name}"));
                let answers = self.both(&name, |path| answer(fs::remove_file(path), |()| vec![]));
                self.agree("unlink", answers)?;
            }
            31 | 32 => {
                let other = (b % HANDLES as u64) as usize;
                let (Some(from), Some(to)) = (&self.handles[slot], &self.handles[other]) else { return Ok(()) };
                let size = from.local.metadata().unwrap().len();
                let whole = c % 2 == 0;
                let (at, len) = if whole { (0, size) } else { (self.place(c / 2, size), Self::length(c / 3)) };
                let offset = if whole { 0 } else { self.place(c / 5, to.local.metadata().unwrap().len()) };
                self.story.push(format!("{number}: copy_file_range {slot} at {at} to {other} at {offset} {len} bytes"));
                let answers = (copy(&from.mounted, at, &to.mounted, offset, len), copy(&from.local, at, &to.local, offset, len));
                self.agree("copy_file_range", answers)?;
            }
            33 => {
                self.story.push(format!("{number}: map {name}"));
                let (at, text) = (b.to_string(), number.to_string());
                let answers = self.both(&name, |path| map(path, &at, &text));
                self.agree("mmap", answers)?;
            }
            34 => self.with(slot, |run, pair, size| {
                let at = run.place(b, size);
                run.story.push(format!("{number}: seek for data and holes {slot} at {at}"));
                holes_are_zeros(&pair.mounted, at, size)
            })?,
            35 | 36 => {
                self.story.push(format!("{number}: read {name} as a whole"));
                let answers = self.both(&name, |path| answer(fs::read(path), |bytes| bytes));
                self.agree("read", answers)?;
                let answers = self.both(&name, |path| answer(fs::metadata(path), |metadata| metadata.len().to_string().into()));
                self.agree("stat", answers)?;
            }
            37 => {
                // Close-to-open: what no handle has unsaved is what others see.
                if self.handles.iter().flatten().all(|pair| pair.how == 0) {
                    self.story.push(format!("{number}: the other mount reads {name}"));
                    let local = answer(fs::read(self.local.join(&name)), |bytes| bytes);
                    self.agree("the other mount", (answer(fs::read(self.other.at(&name)), |bytes| bytes), local))?;
                }
            }
            38 if c % 4 == 0 => {
                self.story.push(format!("{number}: remount"));
                self.close_all();
                self.mount.unmount();
                let again = self.mount.run(
                    &self.site.server.endpoint(),
                    crate::support::BUCKET,
                    &["--memory-limit", "64MiB"],
                    pailfs::devserver::SECRET_KEY,
                );
                assert!(again.status.success(), "{again:?}");
            }
            _ => {
                self.story.push(format!("{number}: sizes"));
                for name in (0..self.files).map(|n| format!("f{n}")) {
                    let answers =
                        self.both(&name, |path| answer(fs::metadata(path), |metadata| metadata.len().to_string().into()));
                    self.agree(&name, answers)?;
                }
            }
        }
        Ok(())
    }

    fn with(&mut self, slot: usize, act: impl FnOnce(&mut Self, &Pair, u64) -> Result<(), String>) -> Result<(), String> {
        let Some(pair) = self.handles[slot].take() else { return Ok(()) };
        let size = pair.local.metadata().unwrap().len();
        let done = act(self, &pair, size);
        self.handles[slot] = Some(pair);
        done
    }

    fn close_all(&mut self) {
        self.handles.iter_mut().for_each(|handle| *handle = None);
    }

    /// After everything was closed, the bucket has what the local directory has, and nothing else.
    fn finish(&mut self) -> Result<(), String> {
        self.close_all();
        self.mount.unmount();
        for name in (0..self.files).map(|n| format!("f{n}")) {
            let local = answer(fs::read(self.local.join(&name)), |bytes| bytes);
            self.agree(&format!("{name} in the bucket"), (self.site.get(&name).ok_or(libc::ENOENT), local))?;
        }
        let uploads = self.site.uploads();
        if uploads.is_empty() { Ok(()) } else { Err(format!("uploads are left: {uploads:?}")) }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.close_all();
        let _ = fs::remove_dir_all(&self.local);
    }
}

fn read_at(file: &File, at: u64, len: u64) -> Answer {
    let mut bytes = vec![0; len as usize];
    let mut have = 0;
    while have < bytes.len() {
        match file.read_at(&mut bytes[have..], at + have as u64) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) => return answer(Err::<(), _>(error), |()| vec![]),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

fn copy(from: &File, at: u64, to: &File, offset: u64, len: u64) -> Answer {
    let (mut from_at, mut to_at, mut left) = (at, offset, len);
    while left > 0 {
        let copied = rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), left as usize);
        match copied {
            Ok(0) => break,
            Ok(copied) => left -= copied as u64,
            Err(errno) => return Err(errno.raw_os_error()),
        }
    }
    Ok((len - left).to_string().into())
}

/// Changes a byte through a shared mapping, and reads the file back.
fn map(path: &Path, at: &str, text: &str) -> Answer {
    let program = "import mmap, os, sys\ntry:\n  f = os.open(sys.argv[1], os.O_RDWR)\nexcept FileNotFoundError:\n  sys.exit(7)\n\
                   n = os.fstat(f).st_size\nif n == 0: sys.exit(8)\nm = mmap.mmap(f, n)\na = int(sys.argv[2]) % n\n\
                   t = sys.argv[3].encode()[:n - a]\nm[a:a + len(t)] = t\nm.flush()\nm.close()\nos.close(f)\n";
    let done = Command::new("python3").args(["-c", program]).arg(path).args([at, text]).output().unwrap();
    Ok(done.status.code().unwrap_or(-1).to_string().into_bytes())
}

/// What is said to be a hole reads as zeros, and is behind `at`.
fn holes_are_zeros(file: &File, at: u64, size: u64) -> Result<(), String> {
    let hole = match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(at)) {
        Ok(hole) => hole,
        Err(rustix::io::Errno::NXIO) if at >= size => return Ok(()),
        Err(errno) => return Err(format!("SEEK_HOLE {errno}")),
    };
    let data = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(hole)).unwrap_or(size);
    match read_at(file, hole, data.min(size).saturating_sub(hole)) {
        Ok(bytes) if hole >= at && hole <= size && bytes.iter().all(|byte| *byte == 0) => Ok(()),
        Err(errno) if errno == libc::EBADF => Ok(()),
        _ => Err(format!("no hole from {hole} to {data}")),
    }
}

/// Runs the steps; how many it took to fail, with what was done.
fn run(steps: &[(usize, Step)]) -> Result<(), (usize, String)> {
    let mut run = Run::new();
    let mut taken = 0;
    let all = steps.iter().try_for_each(|(number, step)| {
        taken += 1;
        run.step(*number, *step)
    });
    all.and_then(|()| run.finish()).map_err(|why| {
        let mut all = run.story.iter().fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "  {line}");
            all
        });
        let _ = write!(all, "{why}");
        (taken, all)
    })
}

/// Leaves out what is not needed to fail.
fn smallest(mut steps: Vec<(usize, Step)>, mut story: String) -> String {
    let begun = Instant::now();
    let mut chunk = steps.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < steps.len() && begun.elapsed() < MAX_SHRINKING {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + chunk).min(fewer.len()));
            match run(&fewer) {
                Err((taken, shorter)) => {
                    fewer.truncate(taken);
                    (steps, story) = (fewer, shorter);
                }
                Ok(()) => at += chunk,
            }
        }
        chunk /= 2;
    }
    story
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

fn compare(seed: u64, steps: u64) {
    println!("PAILFS_SEED={seed} PAILFS_STEPS={steps}");
    let mut random = Rng::seeded(seed);
    let mut next = || random.next_u64() >> 1;
    let steps: Vec<(usize, Step)> =
        (0..steps as usize).map(|number| (number, Step { kind: next(), a: next(), b: next(), c: next() })).collect();
    if let Err((taken, story)) = run(&steps) {
        println!("PAILFS_SEED={seed} PAILFS_STEPS={taken} fails:\n{story}\nWhat of it is enough:");
        panic!("PAILFS_SEED={seed}:\n{}", smallest(steps[..taken].to_vec(), story));
    }
}

#[test]
fn a_mount_answers_as_a_local_directory_does() {
    let seed = number("PAILFS_SEED", u64::from(std::process::id()));
    for seed in seed..seed + number("PAILFS_RUNS", 3) {
        compare(seed, number("PAILFS_STEPS", 500));
    }
}
