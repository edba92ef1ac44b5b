//! What is written after a commit that has failed, or through another handle than before: the next commit stores exactly what
//! was written, and replaces nothing of others.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use crate::fault_case::MIB;
use crate::support::{Mount, Site};

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 4096) as u8 ^ (at as u8).wrapping_mul(31)).collect()
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn what_follows_a_commit_that_failed_takes_its_place_behind_what_has_left() {
    let site = Site::start();
    let mount = site.mount(&[]);
    // So much is written before and after, in bytes; a part has 8 MiB.
    for (before, after) in [(20 * MIB, 9 * MIB), (40 * MIB, 3), (46 * MIB, 9 * MIB)] {
        let all = content(before + after);
        for failing in ["CompleteMultipartUpload", "UploadPart", "CreateMultipartUpload"] {
            let context = format!("{before} and {after}, {failing}");
            site.server.set_faults(format!("{failing}:1=denied").parse().unwrap());
            let mut file = File::create(mount.at("f")).unwrap();
            file.write_all(&all[..before]).unwrap();
            let synced = errno(file.sync_all());
            // What has failed before the commit is asked for again by it.
            let again = failing != "CompleteMultipartUpload" && synced.is_none();
            assert!(synced == Some(libc::EACCES) || again, "{context}: {synced:?}");
            site.server.set_faults("".parse().unwrap());
            file.write_all(&all[before..]).unwrap();
            file.sync_all().unwrap_or_else(|error| panic!("{context}: {error}"));
            drop(file);
            assert!(site.get("f").unwrap() == all, "{context}: other bytes");
            assert_eq!(site.uploads(), [""; 0], "{context}");
        }
    }
}

#[test]
fn a_close_stores_what_was_written_whoever_else_opens_the_file_meanwhile() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "0").unwrap();
    // Many descriptors take long to search.
    let _idle: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
    let going_on = AtomicBool::new(true);
    std::thread::scope(|threads| {
        let idling = threads.spawn(|| {
            while going_on.load(Ordering::Relaxed) {
                let idle = OpenOptions::new().write(true).open(mount.at("f")).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
                drop(idle);
            }
        });
        let wrong = (0..400).find(|round| {
            let file = OpenOptions::new().write(true).open(mount.at("f")).unwrap();
            let line = format!("{round:06}");
            file.write_all_at(line.as_bytes(), 0).unwrap();
            drop(file);
            site.get("f").unwrap() != line.as_bytes()
        });
        going_on.store(false, Ordering::Relaxed);
        idling.join().unwrap();
        assert_eq!(wrong, None, "a close that stored nothing");
    });
}

#[test]
fn a_truncation_of_what_goes_behind_others_is_not_forgotten() {
    let site = Site::start();
    let mount = site.mount(&[]);
    for by_path in [false, true] {
        let name = format!("log-{by_path}");
        let mut log = OpenOptions::new().read(true).append(true).create(true).open(mount.at(&name)).unwrap();
        log.write_all(&content(20 * MIB)).unwrap();
        site.put(&name, "theirs");
        if by_path {
            mount.sh(&format!("truncate -s 100000 {name}"));
        } else {
            log.set_len(100_000).unwrap();
        }
        log.write_all(b"line").unwrap();
        log.sync_all().unwrap();
        let stored = site.get(&name).unwrap();
        assert_eq!(stored.len(), 100_004, "{name}");
        let all = [b"theirs".to_vec(), content(20 * MIB)].concat();
        assert!(stored[..100_000] == all[..100_000] && stored.ends_with(b"line"), "{name}");
    }
}

/// A descriptor that was opened before another one has written the file whole.
fn before_it_was_written_whole(site: &Site, mount: &Mount, name: &str) -> File {
    site.put(name, "old");
    let early = OpenOptions::new().read(true).write(true).open(mount.at(name)).unwrap();
    fs::write(mount.at(name), "written whole").unwrap();
    site.put(name, "theirs");
    early
}

#[test]
fn an_edit_replaces_nothing_of_others_though_the_file_was_written_whole_before() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let early = before_it_was_written_whole(&site, &mount, "written");
    early.write_all_at(b"W", 0).and_then(|()| early.sync_all()).unwrap_err();
    let early = before_it_was_written_whole(&site, &mount, "cut");
    early.set_len(5).and_then(|()| early.sync_all()).unwrap_err();
    for name in ["written", "cut"] {
        assert_eq!(site.get(name).unwrap(), b"theirs", "{name}");
        assert_eq!(fs::read(mount.at(name)).unwrap(), b"theirs", "{name}");
    }
    // Emptied by whichever handle, it is written whole again: the last close wins.
    let early = before_it_was_written_whole(&site, &mount, "emptied");
    early.set_len(0).unwrap();
    early.write_all_at(b"anew", 0).unwrap();
    early.sync_all().unwrap();
    assert_eq!(site.get("emptied").unwrap(), b"anew");
    // Also where it was appended to, and where it was new.
    let flags = OFlags::APPEND.bits().cast_signed();
    let mut log = OpenOptions::new().write(true).create(true).custom_flags(flags).open(mount.at("new")).unwrap();
    site.put("new", "theirs");
    log.set_len(0).unwrap();
    log.write_all(b"anew").unwrap();
    log.sync_all().unwrap();
    assert_eq!(site.get("new").unwrap(), b"anew");
}
