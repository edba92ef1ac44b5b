//! Rename of directories through the kernel.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use pailfs::store::{Properties, StorageClass};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{Mount, Site, eventually};

#[track_caller]
fn errno<T>(result: std::io::Result<T>) -> i32 {
    result.map(drop).expect_err("it must fail").raw_os_error().unwrap()
}

fn with(mount: &Mount, from: &str, to: &str, flags: RenameFlags) -> std::io::Result<()> {
    Ok(renameat_with(CWD, mount.at(from), CWD, mount.at(to), flags)?)
}

/// A mount of a bucket without access lists, on which one operation of each kind has shown what the store honours.
fn practised(site: &Site) -> Mount {
    let mount = site.mount(&["--ttl", "60s"]);
    mount.sh("setfattr -n user.s3.object-ownership -v BucketOwnerEnforced .");
    mount.sh("mkdir w && echo a > w/a && echo b > w/b && cp w/a w/b && cp w/a w/c && mv w/c w/b && mv w x && rm -r x");
    mount
}

#[test]
fn a_tree_keeps_all_that_is_in_it() {
    let site = Site::start();
    let (mount, local) = (site.mount(&[]), Mount::place());
    let make = "mkdir -p d/sub/deep d/empty && for n in $(seq 100); do echo $n > d/$n; echo $n > d/sub/deep/$n; done && \
                ln -s ../x d/link && mkfifo d/fifo && chmod 640 d/7 && touch -d '2020-02-02 02:02:02.123 UTC' d/8 && chmod 750 d/sub && \
                echo odd > 'd/a b%20%+&ü' && echo odd > d/%2F%2E && mkdir 'd/dir with space' && echo x > 'd/dir with space/y'";
    for place in [&mount, &local] {
        place.sh(make);
        place.sh("mv d e && test ! -e d && mkdir d && echo new > d/new");
    }
    let tree = "find d e -type d -printf '%p %m\\n' -o -printf '%p %y %m %s %l\\n' | sort";
    assert_eq!(mount.sh(tree), local.sh(tree));
    mount.sh(&format!("diff -r --no-dereference e {} 2>&1 | grep -v fifo; true", local.at("e").display()));
    assert_eq!(fs::metadata(mount.at("e/8")).unwrap().mtime_nsec(), 123_000_000);
    assert!(site.keys().iter().all(|key| !key.starts_with("d/") || key == "d/" || key == "d/new"), "{:?}", site.keys());
    mount.unmount();
    let again = site.mount(&[]);
    assert_eq!(again.sh(tree), local.sh(tree), "after a remount");
    assert_eq!(fs::metadata(again.at("e/7")).unwrap().permissions().mode() & 0o7777, 0o640);
    let _ = fs::remove_dir_all(&local.path);
}

#[test]
fn what_is_at_the_new_name_decides() {
    let site = Site::start();
    site.put("others/key", "x");
    let mount = site.mount(&[]);
    mount.sh("mkdir -p d/sub full empty && echo x > d/f && echo y > full/y && echo z > file && ln -s nowhere link");
    mount.sh("test ! -e since");
    site.put("since/key", "x");
    assert_eq!(errno(fs::rename(mount.at("d"), mount.at("since"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(mount.at("d"), mount.at("full"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(mount.at("d"), mount.at("others"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(mount.at("d"), mount.at("file"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(mount.at("d"), mount.at("link"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(mount.at("d"), mount.at("d/sub/d"))), libc::EINVAL);
    assert_eq!(errno(fs::rename(mount.at("d/sub"), mount.at("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(mount.at("file"), mount.at("d"))), libc::EISDIR);
    assert_eq!(errno(with(&mount, "d", "empty", RenameFlags::NOREPLACE)), libc::EEXIST);
    assert_eq!(errno(with(&mount, "d", "full", RenameFlags::EXCHANGE)), libc::EINVAL);
    assert_eq!(errno(with(&mount, "d", "new", RenameFlags::WHITEOUT)), libc::EINVAL);
    fs::rename(mount.at("d"), mount.at("d")).unwrap();
    let before = ["d/", "d/f", "d/sub/", "empty/", "file", "full/", "full/y", "link", "others/key", "since/key"];
    assert_eq!(site.keys(), before);
    fs::rename(mount.at("d"), mount.at("empty")).unwrap();
    assert_eq!(mount.sh("cat empty/f && test ! -e d && ls empty"), "x\nf\nsub\n");
    with(&mount, "empty", "new", RenameFlags::NOREPLACE).unwrap();
    // Directories without a marker, and those that this mount alone knows.
    fs::rename(mount.at("others"), mount.at("full2")).unwrap();
    mount.sh("rm full2/key && mv full2 full3 && test -d full3 && test ! -e full2 && rmdir full3");
    assert_eq!(site.keys(), ["file", "full/", "full/y", "link", "new/", "new/f", "new/sub/", "since/key"]);
    mount.sh("mv new/sub . && mv sub full/ && test -d full/sub && mkdir -p p/q && mv p/q q && rmdir p q");
}

#[test]
fn a_directory_of_200_is_200_copies_and_one_delete() {
    let site = Site::start();
    let mount = practised(&site);
    mount.sh("mkdir d && for n in $(seq 199); do echo $n > d/$n; done");
    site.server.reset_counters();
    mount.sh("mv d e");
    let counts = format!("{:?}", site.server.counters());
    println!("{counts}");
    assert_eq!((site.count("CopyObject"), site.count("DeleteObjects"), site.count("DeleteObject")), (200, 1, 0), "{counts}");
    assert_eq!(site.count("HeadObject"), 0, "{counts}");
    assert!(site.count("ListObjectsV2") <= 4 && site.server.counters().requests() <= 205, "{counts}");
    assert_eq!(mount.sh("cat e/* | sort -n | tail -1; ls e | wc -l"), "199\n199\n");
}

#[test]
fn the_first_copies_show_what_the_store_honours() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "60s"]);
    mount.sh("setfattr -n user.s3.object-ownership -v BucketOwnerEnforced . && echo 1 > f && mv f g && mv g h");
    site.server.reset_counters();
    mount.sh("mv h i");
    let counts = format!("{:?}", site.server.counters());
    assert_eq!((site.count("CopyObject"), site.count("DeleteObject"), site.count("HeadObject")), (1, 1, 0), "{counts}");
}

#[test]
fn what_nothing_is_known_of_is_looked_at_once() {
    let site = Site::start();
    let mount = practised(&site);
    site.put_all((0..200).map(|number| format!("d/{number}")));
    site.server.reset_counters();
    fs::rename(mount.at("d"), mount.at("e")).unwrap();
    let counts = format!("{:?}", site.server.counters());
    assert_eq!((site.count("CopyObject"), site.count("DeleteObjects"), site.count("DeleteObject")), (200, 1, 0), "{counts}");
    // What a copy must name to keep it is in no listing: encryption, redirect, lock, the number of tags. The rest is
    // for the names of the directories, and their markers.
    assert!((200..=204).contains(&site.count("HeadObject")), "{counts}");
}

#[test]
fn a_directory_of_1000_is_copied_in_parallel() {
    let site = Site::start();
    let mount = practised(&site);
    site.put_all((0..1000).map(|number| format!("d/{number:04}")));
    mount.sh("ls d > /dev/null");
    let latency = Duration::from_millis(100);
    site.server.set_latency(latency);
    let begun = Instant::now();
    fs::rename(mount.at("d"), mount.at("e")).unwrap();
    let took = begun.elapsed();
    println!("1000 files at {latency:?}: {took:?}, {:?}", site.server.counters());
    // Nothing of them is known: one HEAD and one copy each, 64 at once.
    assert!(took < latency * 120, "{took:?}");
    site.server.set_latency(Duration::ZERO);
    assert_eq!(mount.sh("ls e | wc -l; ls -d d 2>&1 | wc -l"), "1000\n1\n");
}

#[test]
fn open_files_go_along() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let old = vec![7u8; 3 << 20];
    mount.sh("mkdir -p d/sub");
    fs::write(mount.at("d/read"), &old).unwrap();
    fs::write(mount.at("d/sub/changed"), &old).unwrap();
    fs::write(mount.at("d/dirty"), &old).unwrap();
    let mut reader = fs::File::open(mount.at("d/read")).unwrap();
    let mut start = vec![0; 1000];
    reader.read_exact(&mut start).unwrap();
    let changed = fs::OpenOptions::new().write(true).read(true).open(mount.at("d/sub/changed")).unwrap();
    let dirty = fs::OpenOptions::new().write(true).open(mount.at("d/dirty")).unwrap();
    dirty.write_at(b"dirty", 100).unwrap();
    let mut new = fs::File::create(mount.at("d/sub/new")).unwrap();
    new.write_all(b"one").unwrap();
    fs::rename(mount.at("d"), mount.at("e")).unwrap();
    assert_eq!(site.get("e/sub/new"), None, "what the store has nothing of needs no request");
    reader.seek(SeekFrom::Start(2 << 20)).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest == old[2 << 20..]);
    changed.write_at(b"changed", 200).unwrap();
    dirty.write_at(b"again", 300).unwrap();
    new.write_all(b"two").unwrap();
    drop((changed, dirty, new));
    let stored = |key: &str| site.get(key);
    eventually("all is stored", || stored("e/sub/new").as_deref() == Some(b"onetwo"));
    eventually("at the new place", || stored("e/sub/changed").is_some_and(|bytes| &bytes[200..207] == b"changed"));
    eventually("all of it", || {
        stored("e/dirty").is_some_and(|bytes| &bytes[100..105] == b"dirty" && &bytes[300..305] == b"again")
    });
    assert!(site.keys().iter().all(|key| key.starts_with("e/")), "{:?}", site.keys());
    drop(reader);
    mount.unmount();
}

#[test]
fn across_buckets_of_an_account() {
    let site = Site::start();
    let mount = site.mount_source("s3://", &[]);
    mount.sh("mkdir one two && mkdir -p one/d/e && echo 1 > one/d/f && echo 2 > one/d/e/g && setfattr -n user.k -v v one/d/f");
    site.server.reset_counters();
    mount.sh("mv one/d two/x && test ! -e one/d && cat two/x/f two/x/e/g");
    // The first copy shows whether the store looks at its source.
    assert!(site.count("CopyObject") <= 5 && site.count("PutObject") == 0, "{:?}", site.server.counters());
    assert_eq!(mount.sh("getfattr --only-values -n user.k two/x/f && rmdir one"), "v");
    // The top has buckets only.
    assert_eq!(errno(fs::rename(mount.at("two/x"), mount.at("three"))), libc::EXDEV);
    assert_eq!(errno(fs::rename(mount.at("two"), mount.at("three"))), libc::EPERM);
}

#[test]
fn archived_objects_are_found_before_anything_is_done() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("mkdir d && for n in 1 2 3; do echo $n > d/$n; done");
    site.put_with("d/z/ice", "x", Properties { storage_class: Some(StorageClass::new("GLACIER")), ..Properties::default() });
    let keys = site.keys();
    site.server.reset_counters();
    assert_eq!(errno(fs::rename(mount.at("d"), mount.at("e"))), libc::EREMOTE);
    assert_eq!((site.count("CopyObject"), site.keys()), (0, keys));
    assert!(mount.why("d").contains("'d/z/ice' is archived"), "{}", mount.why("d"));
    mount.sh("test ! -e e && cat d/1 && mv d/1 d/4");
}

#[test]
fn what_others_do_meanwhile_is_not_lost() {
    let site = Site::start();
    let mount = practised(&site);
    mount.sh("mkdir d && for n in a b c; do echo $n > d/$n; done");
    site.server.set_latency(Duration::from_millis(500));
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| fs::rename(mount.at("d"), mount.at("e")));
        eventually("all is copied", || site.keys().iter().filter(|key| key.starts_with("e/")).count() == 4);
        site.put("d/b", "changed by another client");
        site.put("d/new", "made by another client");
        moving.join().unwrap().unwrap();
    });
    site.server.set_latency(Duration::ZERO);
    assert_eq!(site.keys(), ["d/new", "e/", "e/a", "e/b", "e/c"]);
    assert_eq!(site.get("e/b").unwrap(), b"changed by another client");
    let failures = mount.failures();
    assert!(failures.contains("d/b") && failures.contains("it was copied again"), "{failures}");
    assert!(failures.contains("d/new") && failures.contains("it stays"), "{failures}");
    eventually("the old directory is still there", || Path::new(&mount.at("d/new")).exists());
}

#[test]
fn a_rename_is_shown_while_it_goes_on_and_changes_wait() {
    let site = Site::start();
    let mount = practised(&site);
    mount.sh("mkdir d other && for n in a b c; do echo $n > d/$n; done");
    let held = fs::File::open(mount.at("d")).unwrap();
    site.server.set_latency(Duration::from_millis(500));
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| fs::rename(mount.at("d"), mount.at("e")));
        eventually("it is under way", || site.keys().iter().any(|key| key.starts_with("e/")));
        let status = mount.pailfs(&["status", mount.path.to_str().unwrap(), "--json"]);
        let status = String::from_utf8(status.stdout).unwrap();
        assert!(status.contains("\"renames\"") && status.contains("s3://bucket/d/"), "{status}");
        // Elsewhere the work goes on.
        mount.sh("echo x > other/x");
        let file = rustix::fs::openat(&held, "late", rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY, 0o644.into());
        drop(file.unwrap());
        moving.join().unwrap().unwrap();
    });
    site.server.set_latency(Duration::ZERO);
    eventually("a file that was made meanwhile is at the new place", || site.get("e/late").is_some());
    assert!(site.keys().iter().all(|key| !key.starts_with("d/")), "{:?}", site.keys());
}
