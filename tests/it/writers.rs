//! Ways of writing that applications have and that went wrong once.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use crate::support::{Site, eventually};

#[test]
fn the_pages_of_a_mapping_have_their_places_though_the_file_was_opened_to_append() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), vec![b'a'; 8192]).unwrap();
    mount.sh("python3 -c \"import mmap, os
f = os.open('f', os.O_RDWR | os.O_APPEND)
m = mmap.mmap(f, 8192)
m[100:105] = b'HELLO'
m.flush()
os.write(f, b'end')
m.close()
os.close(f)\"");
    let stored = site.get("f").unwrap();
    assert_eq!((stored.len(), &stored[100..105], &stored[8192..]), (8195, &b"HELLO"[..], &b"end"[..]));
}

#[test]
fn who_makes_a_file_stores_it_with_his_close_whatever_he_opened_it_for() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let made = |name: &str, flags| OpenOptions::new().read(true).custom_flags(libc::O_CREAT | flags).open(mount.at(name));
    drop(made("f", 0).unwrap());
    assert_eq!(site.get("f"), Some(Vec::new()));
    mount.sh("flock lock true");
    assert_eq!(site.get("lock"), Some(Vec::new()));
    // The loser of a race is told.
    let file = made("g", libc::O_EXCL).unwrap();
    site.put("g", "another client's");
    let closed = rustix::io::dup(&file).map(|copy| rustix::fs::fsync(&copy).unwrap_err());
    assert_eq!(closed.unwrap(), rustix::io::Errno::EXIST);
    assert_eq!(site.get("g").unwrap(), b"another client's");
}

#[test]
fn no_part_is_too_short_however_a_file_was_begun() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let bytes = vec![7; 24 << 20];
    for (name, size) in [("f", (24 << 20) - 1), ("g", (16 << 20) - 4096)] {
        fs::write(mount.at(name), &bytes[..size]).unwrap();
        // Its end is looked at, and more is written behind it.
        let file = OpenOptions::new().read(true).write(true).open(mount.at(name)).unwrap();
        file.read_at(&mut [0; 100], size as u64 - 100).unwrap();
        file.write_all_at(&bytes[..250_660], size as u64).unwrap();
        file.sync_all().unwrap();
        assert_eq!(site.get(name).unwrap().len(), size + 250_660);
    }
    // The last byte of a part is written, then the part before it.
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(mount.at("h")).unwrap();
    file.write_all_at(&bytes[..8 << 20], (8 << 20) - 1).unwrap();
    file.read_at(&mut vec![0; (8 << 20) + 1], 0).unwrap();
    file.write_all_at(&bytes[..250_660], (16 << 20) - 1).unwrap();
    file.flush().unwrap();
    file.sync_all().unwrap();
    let stored = site.get("h").unwrap();
    assert_eq!((stored.len(), stored[(8 << 20) - 2], stored[(8 << 20) - 1]), ((16 << 20) - 1 + 250_660, 0, 7));
}

#[test]
fn files_that_are_removed_while_open_are_readable_within_little_memory() {
    let site = Site::start();
    let mount = site.mount(&["--memory-limit", "64MiB", "--staging-limit", "8MiB"]);
    let bytes: Vec<u8> = (0..30_u32 << 20).map(|at| (at % 251) as u8).collect();
    let open =
        |name: &String| OpenOptions::new().read(true).write(true).create(true).truncate(true).open(mount.at(name)).unwrap();
    let names: Vec<String> = (0..4).map(|number| format!("f{number}")).collect();
    let files: Vec<_> = names.iter().map(open).collect();
    for file in &files {
        file.write_all_at(&bytes, 0).unwrap();
    }
    for name in &names {
        fs::remove_file(mount.at(name)).unwrap();
    }
    for file in &files {
        let mut read = vec![0; bytes.len()];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes);
    }
}

#[test]
fn what_stays_open_is_stored_some_time_after_its_last_write() {
    let site = Site::start();
    let mount = site.mount(&["--commit-after", "1s"]);
    let mut log = fs::File::create(mount.at("log")).unwrap();
    log.write_all(b"one\n").unwrap();
    assert_eq!(site.get("log"), None);
    eventually("what was written", || site.get("log").is_some_and(|bytes| bytes == b"one\n"));
    // Reading is no reason to wait.
    log.write_all(b"two\n").unwrap();
    eventually("what was read", || {
        fs::read(mount.at("log")).unwrap();
        site.get("log").is_some_and(|bytes| bytes == b"one\ntwo\n")
    });
    // The bytes that a failure has kept from the store are told of, and the close brings them.
    site.server.set_faults("PutObject:*=denied".parse().unwrap());
    log.write_all(b"three\n").unwrap();
    eventually("a failure", || mount.failures().contains("commit"));
    site.server.set_faults("".parse().unwrap());
    assert_eq!(site.get("log").unwrap(), b"one\ntwo\n");
    drop(log);
    assert_eq!(site.get("log").unwrap(), b"one\ntwo\nthree\n");
    // What another client has made meanwhile is not replaced by what was changed in place.
    let file = OpenOptions::new().write(true).open(mount.at("log")).unwrap();
    file.write_all_at(b"ONE", 0).unwrap();
    site.put("log", "theirs");
    eventually("a loss", || mount.failures().contains("commit: ESTALE") || file.sync_all().is_err());
    assert_eq!(site.get("log").unwrap(), b"theirs");
}

#[test]
fn who_appends_follows_the_name_to_what_another_client_has_put_there() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "0s"]);
    fs::write(mount.at("log"), "one\n").unwrap();
    for read in [false, true] {
        let mut early = OpenOptions::new().read(read).append(true).open(mount.at("log")).unwrap();
        let mut other = OpenOptions::new().append(true).open(mount.at("log")).unwrap();
        site.put("log", "theirs\n");
        // Somebody sees it, so the name is another inode's now.
        assert_eq!(fs::read(mount.at("log")).unwrap(), b"theirs\n");
        let mut late = OpenOptions::new().append(true).open(mount.at("log")).unwrap();
        late.write_all(b"late\n").unwrap();
        early.write_all(b"early\n").unwrap();
        other.write_all(b"other\n").unwrap();
        early.sync_all().unwrap();
        assert_eq!(site.get("log").unwrap(), b"theirs\nlate\nearly\nother\n");
        other.write_all(b"end\n").unwrap();
        drop((other, late));
        if read {
            let mut all = vec![0; 100];
            let len = early.read_at(&mut all, 0).unwrap();
            assert_eq!(&all[..len], b"theirs\nlate\nearly\nother\nend\n");
        }
        drop(early);
        assert_eq!(site.get("log").unwrap(), b"theirs\nlate\nearly\nother\nend\n");
    }
    // A removed file stays removed.
    let mut gone = OpenOptions::new().append(true).open(mount.at("log")).unwrap();
    fs::remove_file(mount.at("log")).unwrap();
    fs::write(mount.at("log"), "new\n").unwrap();
    gone.write_all(b"nowhere\n").unwrap();
    drop(gone);
    assert_eq!(site.get("log").unwrap(), b"new\n");
}

#[test]
fn a_removed_file_takes_half_of_the_memory_and_the_disk_and_leaves_room_for_others() {
    let site = Site::start();
    let mount = site.mount(&["--memory-limit", "64MiB", "--staging-limit", "8MiB"]);
    let open = |name: &str| OpenOptions::new().read(true).write(true).create(true).truncate(true).open(mount.at(name)).unwrap();
    let gone = open("gone");
    fs::remove_file(mount.at("gone")).unwrap();
    let block = |number: u64| vec![u8::try_from(number % 251).unwrap(); 1 << 20];
    let mut kept = 0;
    let full = (0..200).find_map(|number| {
        let written = gone.write_all_at(&block(number), number << 20);
        kept = number;
        written.err()
    });
    assert_eq!(full.unwrap().raw_os_error(), Some(libc::ENOSPC));
    assert!((32..=48).contains(&kept), "{kept} MiB");
    // Others write at random places, more than there is memory.
    let other = open("other");
    for number in (0..80).step_by(2).chain((1..80).step_by(2)) {
        other.write_all_at(&block(number), number << 20).unwrap();
    }
    other.sync_all().unwrap();
    drop(other);
    let stored = site.get("other").unwrap();
    assert!((0..80).all(|number| stored[number << 20..(number + 1) << 20] == block(number as u64)));
    let mut read = vec![0; 1 << 20];
    for number in 0..kept {
        gone.read_exact_at(&mut read, number << 20).unwrap();
        assert!(read == block(number), "block {number}");
    }
    // What is there can be written again.
    gone.write_all_at(&block(7), 0).unwrap();
    drop(gone);
    assert_eq!(site.uploads(), Vec::<String>::new());
}

#[test]
fn who_reads_while_this_mount_commits_reads_on() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), vec![b'a'; 40 << 20]).unwrap();
    let writer = OpenOptions::new().read(true).write(true).open(mount.at("f")).unwrap();
    let reader = fs::File::open(mount.at("f")).unwrap();
    // The store has the new object long before this mount hears of it.
    site.server.set_faults("CompleteMultipartUpload:*=delay@1000".parse().unwrap());
    writer.write_all_at(b"changed", 0).unwrap();
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| writer.sync_all().unwrap());
        let mut place = 1 << 20;
        while !commit.is_finished() {
            let mut read = [0; 4096];
            reader.read_exact_at(&mut read, place).unwrap_or_else(|error| panic!("at {place}: {error}"));
            assert_eq!(read, [b'a'; 4096]);
            place = (place + (13 << 20) + 4096) % (39 << 20) + 4096;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        commit.join().unwrap();
    });
}

#[test]
fn who_appends_replaces_nothing_where_the_file_was_written_whole_before() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "100ms"]);
    for (name, first) in [("empty", ""), ("log", "first\n")] {
        for early in [true, false] {
            let name = format!("{name}-{early}");
            let open = || OpenOptions::new().append(true).open(mount.at(&name)).unwrap();
            // As a shell that has begun the log; or a release that comes late.
            let mut whole = File::create(mount.at(&name)).unwrap();
            let mut log = early.then(&open);
            whole.write_all(first.as_bytes()).unwrap();
            whole.sync_all().unwrap();
            let mut log = log.take().unwrap_or_else(open);
            site.put(&name, &format!("{first}theirs\n"));
            log.write_all(b"mine\n").unwrap();
            log.sync_all().unwrap();
            let stored = String::from_utf8(site.get(&name).unwrap()).unwrap();
            assert_eq!(stored, format!("{first}theirs\nmine\n"), "{name}");
            drop((whole, log));
            assert_eq!(site.get(&name).unwrap(), stored.as_bytes(), "{name}: after all closes");
        }
    }
}
