//! What other clients do is seen by whoever opens, at once, and by whoever only looks, within the TTL; who has a file open
//! reads the bytes of one object, never of two.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use pailfs::store::{BucketName, Key, ObjectRef, Properties};

use crate::support::{Mount, Site};

/// More than the kernel reads at once, and not a multiple of a page.
const LEN: usize = 3_000_001;

/// Another content for an object of `LEN` bytes of 'o'.
fn replacements() -> [(&'static str, String); 4] {
    [
        ("grown", "n".repeat(LEN + 5000)),
        ("shrunk", "n".repeat(LEN / 3)),
        ("of the same size", "n".repeat(LEN)),
        ("of the same size and time", "N".repeat(LEN)),
    ]
}

/// A process that has mapped a file and looks at all of it when it is told to.
struct Mapped(Child);

impl Mapped {
    fn new(mount: &Mount, name: &str) -> Self {
        let program = "import mmap, os, sys\nf = os.open(sys.argv[1], os.O_RDONLY)\nm = mmap.mmap(f, 0, prot=mmap.PROT_READ)\n\
                       first = m[0]\nprint('mapped', flush=True)\nsys.stdin.readline()\n\
                       print('same' if all(m[at] == first for at in range(0, len(m), 4096)) else 'mixed', flush=True)";
        let mut child = Command::new("python3")
            .args(["-c", program, mount.at(name).to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mapped\n");
        Self(child)
    }

    /// What it sees is one content, or it is told that there is none any more (SIGBUS).
    fn must_not_be_mixed(mut self, context: &str) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = self.0.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let killed = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert!(said == "same\n" || killed == Some(libc::SIGBUS), "{context}: {said:?}, {killed:?}");
    }
}

fn same_time(site: &Site, key: &str, time: SystemTime) {
    let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new(key).unwrap());
    site.server.memory().set_last_modified(&object, time).unwrap();
}

/// What an open file still reads is the old content's, or it is told that there is none any more.
fn reads_the_old(file: &File, context: &str) {
    for offset in (0..LEN as u64).step_by(100_000) {
        let mut page = [0; 5000];
        match file.read_at(&mut page, offset) {
            Ok(read) => {
                let expected = page.len().min(LEN - usize::try_from(offset).unwrap());
                assert!(read == expected && page[..read].iter().all(|byte| *byte == b'o'), "{context}: mixed at {offset}");
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{context}"),
        }
    }
}

#[test]
fn an_object_that_was_replaced_is_another_file_to_whoever_opens_it() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "60s"]);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (context, new) in replacements() {
        let name = context.replace(' ', "-");
        site.put(&name, &"o".repeat(LEN));
        same_time(&site, &name, time);
        let before = fs::metadata(mount.at(&name)).unwrap();
        let reader = File::open(mount.at(&name)).unwrap();
        let mapped = Mapped::new(&mount, &name);
        let mut log = OpenOptions::new().append(true).open(mount.at(&name)).unwrap();
        site.put(&name, &new);
        if context.ends_with("time") {
            same_time(&site, &name, time);
        }
        assert!(fs::read(mount.at(&name)).unwrap() == new.as_bytes(), "{context}: who opens it reads the new one");
        let after = fs::metadata(mount.at(&name)).unwrap();
        assert_eq!(after.len(), new.len() as u64, "{context}");
        assert_ne!(after.ino(), before.ino(), "{context}: another file");
        assert_eq!(reader.metadata().unwrap().ino(), before.ino(), "{context}: who has it open keeps it");
        reads_the_old(&reader, context);
        mapped.must_not_be_mixed(context);
        // What is appended goes behind what the name has.
        log.write_all(b"line").unwrap();
        log.sync_all().unwrap();
        assert!(site.get(&name).unwrap() == format!("{new}line").as_bytes(), "{context}: appended");
        assert!(fs::read(mount.at(&name)).unwrap() == format!("{new}line").as_bytes(), "{context}: read back");
    }
}

#[test]
fn a_name_of_another_type_is_another_inode() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "60s"]);
    let look = |name: &str| fs::symlink_metadata(mount.at(name)).unwrap();
    let link = || {
        let entries = [("mode", "41471"), ("symlink-target", "target")];
        let metadata = entries.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Properties { metadata, ..Properties::default() }
    };
    // From a file to a directory.
    site.put("a", "file");
    let file = File::open(mount.at("a")).unwrap();
    let before = look("a").ino();
    site.delete("a");
    site.put("a/below", "x");
    assert_eq!(fs::read(mount.at("a")).unwrap_err().raw_os_error(), Some(libc::EISDIR));
    assert_eq!(fs::read(mount.at("a/below")).unwrap(), b"x");
    assert!(look("a").is_dir() && look("a").ino() != before);
    assert!(file.metadata().unwrap().is_file(), "what is open stays what it was");
    // From a file to a link.
    site.put("target", "the target");
    site.put("b", "file");
    let held = File::open(mount.at("b")).unwrap();
    let before = look("b").ino();
    site.put_with("b", "", link());
    assert_eq!(fs::read(mount.at("b")).unwrap(), b"the target");
    let after = look("b");
    assert!(after.is_symlink() && after.ino() != before, "{after:?}, before {before}");
    assert!(held.metadata().unwrap().is_file());
    assert_eq!(fs::read_link(mount.at("b")).unwrap().to_str(), Some("target"));
    // From a directory to a file: a directory is not opened at the store, but its listing is.
    let short = site.mount(&["--ttl", "100ms"]);
    site.put("c/below", "x");
    assert_eq!(fs::read_dir(short.at("c")).unwrap().count(), 1);
    site.delete("c/below");
    site.put("c", "file");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(fs::read(short.at("c")).unwrap(), b"file");
}

#[test]
fn what_others_do_is_seen_within_the_ttl_and_what_this_mount_does_at_once() {
    let site = Site::start();
    site.put("d/f", "x");
    let mount = site.mount(&["--ttl", "1s"]);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(mount.at("d")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(), "f");
    assert!(!mount.at("d/theirs").exists());
    site.put("d/theirs", "new");
    site.delete("d/f");
    // At once, whatever is believed of the rest.
    fs::write(mount.at("d/own"), "own").unwrap();
    fs::create_dir(mount.at("d/directory")).unwrap();
    let seen = names();
    assert!(seen.contains("own") && seen.contains("directory"), "{seen}");
    std::thread::sleep(Duration::from_millis(1100));
    assert!(mount.at("d/theirs").exists() && !mount.at("d/f").exists());
    assert_eq!(names(), "directory own theirs");
    // Only "not there" is: a name that may not be looked at is no missing one.
    std::thread::sleep(Duration::from_millis(1100));
    site.server.set_faults("ListObjectsV2:*=denied; HeadObject:*=denied".parse().unwrap());
    assert_eq!(fs::metadata(mount.at("d/theirs")).unwrap_err().raw_os_error(), Some(libc::EACCES));
    site.server.set_faults("ListObjectsV2:*=denied".parse().unwrap());
    let error = fs::metadata(mount.at("d/unknown")).unwrap_err().raw_os_error();
    assert!(error.is_some_and(|error| error != libc::ENOENT), "{error:?}");
    site.server.set_faults("".parse().unwrap());
    assert_eq!(fs::read(mount.at("d/theirs")).unwrap(), b"new");
}

/// Whatever was looked at a moment before: what was cut to a length has it.
#[test]
fn a_length_that_is_set_is_that_of_what_is_there_now() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "60s"]);
    for (number, size) in [8_usize, 0].into_iter().enumerate() {
        let (stale, held, cut) = (format!("stale{number}"), format!("held{number}"), format!("cut{number}"));
        let file = |name: &str| OpenOptions::new().write(true).open(mount.at(name)).unwrap();
        let set = |name: &str| {
            mount.sh(&format!("python3 -c 'import os; os.truncate(\"{name}\", {size})'"));
            assert!(site.get(name).unwrap() == "n".repeat(size).as_bytes(), "{name}: it has the new one's bytes");
        };
        site.put(&stale, &"o".repeat(size));
        assert_eq!(fs::metadata(mount.at(&stale)).unwrap().len(), size as u64);
        site.put(&stale, &"n".repeat(17));
        set(&stale);
        site.put(&held, &"o".repeat(size));
        let idle = file(&held);
        site.put(&held, &"n".repeat(17));
        set(&held);
        drop(idle);
        site.put(&cut, &"o".repeat(17));
        file(&cut).set_len(size as u64).unwrap();
        site.put(&cut, &"n".repeat(17));
        set(&cut);
        // What has no name any more is as long as it was.
        let removed = file(&cut);
        fs::remove_file(mount.at(&cut)).unwrap();
        removed.set_len(size as u64).unwrap();
        assert_eq!(removed.metadata().unwrap().len(), size as u64);
    }
}
