//! Which close brings a file to the store: the last one of its descriptors, in every way that descriptors multiply. A close
//! that may be the last one has stored everything when it returns.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::io::{FdFlags, dup, fcntl_setfd};

use crate::support::{Mount, Site, eventually};

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
fn who_closes_a_handle_stores_nothing_that_another_one_has_emptied() {
    let (site, mount, file) = written();
    let child = heir(&file, "");
    drop(file);
    is_stored(&site, "f");
    // Emptied, and not written yet, when the child closes the descriptor that it has inherited.
    let mut file = File::create(mount.at("f")).unwrap();
    end(child);
    assert_eq!(site.get("f").as_deref(), Some(&b"bytes"[..]), "a placeholder is in the bucket");
    file.write_all(b"new").unwrap();
    drop(file);
    assert_eq!(site.get("f").as_deref(), Some(&b"new"[..]));
}

#[test]
fn each_of_two_handles_stores_what_was_written_through_it() {
    let (site, mount, file) = written();
    let mut other = OpenOptions::new().append(true).open(mount.at("f")).unwrap();
    other.write_all(b"+more").unwrap();
    drop(other);
    assert_eq!(site.get("f").as_deref(), Some(&b"bytes+more"[..]));
    file.write_at(b"B", 0).unwrap();
    drop(OpenOptions::new().write(true).open(mount.at("f")).unwrap());
    assert_eq!(site.get("f").as_deref(), Some(&b"bytes+more"[..]), "who has written it has it open still");
    drop(file);
    assert_eq!(site.get("f").as_deref(), Some(&b"Bytes+more"[..]));
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

/// A program that stops at each `say`, so that the test looks meanwhile.
struct Steps(std::process::Child);

impl Steps {
    fn python(mount: &Mount, before: &[&str], program: &str) -> Self {
        let helpers = "import os, socket, sys\n\
                       def say(what):\n print(what, flush=True)\n sys.stdin.readline()\n\
                       def close(fd):\n try:\n  os.close(fd)\n except OSError as error:\n  return os.strerror(error.errno)\n return 'well'\n\
                       def new(name, flags=0):\n fd = os.open(name, os.O_CREAT | os.O_WRONLY | flags)\n \
                       os.write(fd, b'bytes')\n return fd\n";
        let mut command = Command::new("timeout");
        command.arg("120").args(before).args(["python3", "-c", &format!("{helpers}{program}")]);
        let child = command.current_dir(&mount.path).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Self(child.unwrap())
    }

    /// What it says next.
    fn says(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while std::io::Read::read(self.0.stdout.as_mut().unwrap(), &mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// It goes on, to what it says next.
    fn go(&mut self) -> String {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.says()
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let ended = self.0.wait().unwrap();
        assert!(std::thread::panicking() || ended.success(), "{ended}");
    }
}

/// What the one who closes before and the one who closes last do with a descriptor that was passed over a socket.
const PASSED: &str = "
one, other = socket.socketpair()
child = os.fork()
if child == 0:
    one.close()
    fd = socket.recv_fds(other, 1, 1)[1][0]
    other.recv(1)
    os.write(fd, b'+more')
    other.send(b'y' if close(fd) == 'well' else b'n')
    os._exit(0)
other.close()
fd = new('f')
socket.send_fds(one, [b'f'], [fd])
say(close(fd))
one.send(b'x')
say(one.recv(1).decode())
os.waitpid(child, 0)
";

#[test]
fn a_descriptor_that_was_passed_to_another_process_is_stored_by_either_close() {
    let site = Site::start();
    let mount = site.mount(&[]);
    for before in [&[][..], &["unshare", "-pf"], &["unshare", "-pfm"]] {
        let mut steps = Steps::python(&mount, before, PASSED);
        assert_eq!(steps.says(), "well");
        is_stored(&site, "f");
        assert_eq!(steps.go(), "y");
        assert_eq!(site.get("f").as_deref(), Some(&b"bytes+more"[..]), "{before:?}");
        steps.go();
        drop(steps);
        fs::remove_file(mount.at("f")).unwrap();
    }
}

#[test]
fn a_descriptor_that_lies_in_a_socket_defers_nothing() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let mut steps = Steps::python(
        &mount,
        &[],
        "one, other = socket.socketpair()\nfd = new('f')\nsocket.send_fds(one, [b'f'], [fd])\nsay(close(fd))\n\
         fd = new('g')\nsecond = os.dup(fd)\nsocket.send_fds(one, [b'g'], [fd])\nsay(close(fd))\nsay(close(second))",
    );
    assert_eq!(steps.says(), "well");
    // Nobody ever takes it out: it will go without a close.
    is_stored(&site, "f");
    assert_eq!(steps.go(), "well");
    assert_eq!(site.get("g"), None, "a further close certainly comes");
    assert_eq!(steps.go(), "well");
    is_stored(&site, "g");
    steps.go();
}

#[test]
fn the_close_that_may_be_the_last_one_is_told_what_went_wrong() {
    let site = Site::start();
    let mount = site.mount(&[]);
    // Both have it open; the child, which did not open it, closes first, and then the one who did.
    let mut steps = Steps::python(
        &mount,
        &[],
        "fd = new('f', os.O_EXCL)\nsay('open')\nchild = os.fork()\nif child == 0:\n os._exit(close(fd) != 'well')\n\
         say(os.waitpid(child, 0)[1])\nsay(close(fd))",
    );
    assert_eq!(steps.says(), "open");
    site.put("f", "theirs");
    assert_eq!(steps.go(), "0", "a further close certainly comes, and it will be told");
    assert_eq!(steps.go(), "File exists");
    steps.go();
    // Here the one who opened it goes first: his may be the last close, and so may the child's.
    let mut steps = Steps::python(
        &mount,
        &[],
        "fd = new('g', os.O_EXCL)\nsay('open')\none, other = os.pipe()\nchild = os.fork()\nif child == 0:\n os.read(one, 1)\n \
         os._exit(close(fd) != 'File exists')\nsay(close(fd))\nos.write(other, b'x')\nsay(os.waitpid(child, 0)[1])",
    );
    assert_eq!(steps.says(), "open");
    site.put("g", "theirs");
    assert_eq!(steps.go(), "File exists");
    assert_eq!(steps.go(), "0", "the child's close is told as well");
    steps.go();
    for name in ["f", "g"] {
        assert_eq!(site.get(name).as_deref(), Some(&b"theirs"[..]));
    }
}

#[test]
fn a_process_that_is_killed_has_closed_what_it_had_open() {
    let site = Site::start();
    let mount = site.mount(&[]);
    for before in [&[][..], &["unshare", "-pf"]] {
        let mut steps = Steps::python(
            &mount,
            before,
            "import mmap\nchild = os.fork()\nif child > 0:\n sys.exit(os.waitpid(child, 0)[1] != 9)\n\
             some = [new(f'f{number}') for number in range(8)]\nagain = [os.dup(fd) for fd in some[:4]]\n\
             for fd in some[2:4]: os.close(fd)\n\
             fd = os.open('mapped', os.O_CREAT | os.O_RDWR)\nos.write(fd, b'xxxxx')\nmapping = mmap.mmap(fd, 5)\nos.close(fd)\n\
             mapping[:] = b'bytes'\nsay('open')\nos.kill(os.getpid(), 9)",
        );
        assert_eq!(steps.says(), "open");
        assert_eq!(steps.go(), "");
        drop(steps);
        for name in (0..8).map(|number| format!("f{number}")).chain(["mapped".to_owned()]) {
            eventually("what it had written is stored", || site.get(&name).as_deref() == Some(&b"bytes"[..]));
            fs::remove_file(mount.at(&name)).unwrap();
        }
    }
}

#[test]
fn a_close_in_another_pid_namespace_is_a_close() {
    let site = Site::start();
    let mount = site.mount(&[]);
    for before in [&["unshare", "-pf"][..], &["unshare", "-pf", "--mount-proc"]] {
        let mut steps = Steps::python(
            &mount,
            before,
            "fd = new('f')\nsay(close(fd))\nfd = new('g')\nsecond = os.dup(fd)\nclose(fd)\nsay(close(second))\n\
             fd = new('h')\nchild = os.fork()\nif child == 0:\n os._exit(close(fd) != 'well')\nos.waitpid(child, 0)\nsay(close(fd))",
        );
        assert_eq!(steps.says(), "well");
        is_stored(&site, "f");
        assert_eq!(steps.go(), "well");
        is_stored(&site, "g");
        assert_eq!(steps.go(), "well");
        is_stored(&site, "h");
        steps.go();
        drop(steps);
        ["f", "g", "h"].iter().for_each(|name| fs::remove_file(mount.at(name)).unwrap());
    }
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
