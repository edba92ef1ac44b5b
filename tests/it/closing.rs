//! Which close brings a file to the store: the last one of its descriptors, in every way that descriptors multiply. A close
//! that may be the last one has stored everything when it returns.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::io::{FdFlags, dup, fcntl_setfd};

use crate::support::{Mount, Site};

/// A mount, and a file that is open for writing and has bytes which no close has claimed.
fn written() -> (Site, Mount, File) {
    let site = Site::start();
    let mount = site.mount(&[]);
    let file = dirty(&mount, "f");
    (site, mount, file)
}

fn dirty(mount: &Mount, name: &str) -> File {
    let mut file = File::create(mount.at(name)).unwrap();
    file.write_all(b"bytes").unwrap();
    file
}

#[track_caller]
fn is_stored(site: &Site, name: &str) {
    assert_eq!(site.get(name).as_deref(), Some(&b"bytes"[..]), "the close of '{name}' has returned");
}

#[test]
fn a_descriptor_that_only_reads_defers_nothing() {
    let (site, mount, file) = written();
    let reader = File::open(mount.at("f")).unwrap();
    drop(file);
    is_stored(&site, "f");
    drop(reader);
}

#[test]
fn a_path_descriptor_defers_nothing() {
    let (site, mount, file) = written();
    let path = OpenOptions::new().read(true).custom_flags(OFlags::PATH.bits().cast_signed()).open(mount.at("f")).unwrap();
    drop(file);
    is_stored(&site, "f");
    drop(path);
}

#[test]
fn a_second_writer_defers_nothing() {
    let (site, mount, file) = written();
    let second = OpenOptions::new().write(true).open(mount.at("f")).unwrap();
    drop(file);
    is_stored(&site, "f");
    drop(second);
}

#[test]
fn a_writer_of_another_file_or_mount_defers_nothing() {
    let (site, mount, file) = written();
    let other = dirty(&mount, "g");
    // The same inode number, by another mount.
    let second = site.mount(&[]);
    site.put("f", "theirs");
    let elsewhere = OpenOptions::new().write(true).open(second.at("f")).unwrap();
    drop(file);
    is_stored(&site, "f");
    drop(other);
    is_stored(&site, "g");
    drop(elsewhere);
}

#[test]
fn the_last_duplicate_stores_and_the_first_one_asks_nothing() {
    let (site, _mount, file) = written();
    let duplicate = dup(&file).unwrap();
    drop(file);
    assert_eq!(site.count("PutObject"), 0, "a further close certainly comes");
    drop(duplicate);
    is_stored(&site, "f");
    assert_eq!(site.count("PutObject"), 1);
}

#[test]
fn a_descriptor_closed_by_another_one_taking_its_number_is_closed() {
    let (site, _mount, file) = written();
    let null = File::open("/dev/null").unwrap();
    let mut number = std::os::fd::OwnedFd::from(file);
    rustix::io::dup2(&null, &mut number).unwrap();
    is_stored(&site, "f");
}

#[test]
fn a_thread_may_close_what_another_one_has_opened_and_left() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let file = std::thread::scope(|threads| threads.spawn(|| dirty(&mount, "f")).join().unwrap());
    std::thread::scope(|threads| threads.spawn(move || drop(file)).join().unwrap());
    is_stored(&site, "f");
    // The duplicate that is left belongs to the process, whichever thread closes the other one.
    let file = dirty(&mount, "g");
    let duplicate = dup(&file).unwrap();
    std::thread::scope(|threads| threads.spawn(move || drop(file)).join().unwrap());
    std::thread::scope(|threads| threads.spawn(move || drop(duplicate)).join().unwrap());
    is_stored(&site, "g");
}

/// A process that has inherited `file` and waits for a line, writes `said` to the file and ends.
fn heir(file: &File, said: &str) -> std::process::Child {
    fcntl_setfd(file, FdFlags::empty()).unwrap();
    let script = format!("echo ready; read line; printf %s '{said}' >&{}", file.as_fd().as_raw_fd());
    let mut child = Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    child
}

fn end(mut child: std::process::Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_a_child_inherits_is_stored_by_whoever_closes_last() {
    let (site, mount, file) = written();
    let child = heir(&file, "");
    drop(file);
    // The child has it open, which nobody looks for: it may be the last close.
    is_stored(&site, "f");
    end(child);
    is_stored(&site, "f");

    let file = dirty(&mount, "g");
    let child = heir(&file, "+more");
    drop(file);
    is_stored(&site, "g");
    end(child);
    assert_eq!(site.get("g").as_deref(), Some(&b"bytes+more"[..]), "the end of a process closes what it has open");

    let file = dirty(&mount, "h");
    end(heir(&file, "+more"));
    drop(file);
    assert_eq!(site.get("h").as_deref(), Some(&b"bytes+more"[..]));
}

#[test]
fn an_opener_that_has_it_open_in_another_process_closes_last() {
    let site = Site::start();
    let mount = site.mount(&[]);
    // The shell opens, a child writes and ends first, the shell's own end closes.
    mount.sh("exec 3> f; (echo one >&3); echo two >&3");
    assert_eq!(site.get("f").as_deref(), Some(&b"one\ntwo\n"[..]));
    // Here the shell's own descriptor goes first, and the child is waited for.
    mount.sh("(read line < /dev/null; echo one >&3) 3> g; cat g");
    assert_eq!(site.get("g").as_deref(), Some(&b"one\n"[..]));
}

#[test]
fn a_bind_mount_shows_the_file_under_another_number_and_defers_nothing() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let bound = Bound::new(&mount);
    let mut file = File::create(bound.0.join("f")).unwrap();
    file.write_all(b"bytes").unwrap();
    drop(file);
    is_stored(&site, "f");
    let mut file = File::create(bound.0.join("g")).unwrap();
    file.write_all(b"bytes").unwrap();
    let duplicate = dup(&file).unwrap();
    drop(file);
    drop(duplicate);
    is_stored(&site, "g");
    // One descriptor by each way.
    let file = dirty(&mount, "h");
    let other = OpenOptions::new().write(true).open(bound.0.join("h")).unwrap();
    drop(file);
    is_stored(&site, "h");
    drop(other);
}

/// The mount's root at a second place.
struct Bound(std::path::PathBuf);

impl Bound {
    fn new(mount: &Mount) -> Self {
        let place = std::env::temp_dir().join(format!("pailfs-bound-{}", pailfs::base::rng::token()));
        fs::create_dir(&place).unwrap();
        let bound = Self(place);
        assert!(Command::new("mount").arg("--bind").arg(&mount.path).arg(&bound.0).status().unwrap().success());
        bound
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
