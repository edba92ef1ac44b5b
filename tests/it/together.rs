//! Two mounts of one bucket at the same time, through the kernel: what one has closed the other one opens, and what both
//! append is all there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;

use crate::support::{BUCKET, Mount, Site};

const LINES: usize = 200;

fn content(round: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 512 + round * 7) as u8).collect()
}

#[test]
fn what_one_mount_has_closed_the_other_one_opens() {
    let site = Site::start();
    let mounts = [site.mount(&[]), site.mount(&[])];
    for round in 0..40 {
        let (writer, reader) = (&mounts[round % 2], &mounts[1 - round % 2]);
        // Longer and shorter, of one and of several parts, and of the same length as before.
        let bytes = content(round, [10, 10, 300_000, 0, 4096, 9 << 20][round % 6]);
        fs::write(writer.at("f"), &bytes).unwrap();
        assert!(fs::read(reader.at("f")).unwrap() == bytes, "round {round}, {} bytes", bytes.len());
        // In place, by whoever has just read it.
        reader.sh("printf changed | dd of=f conv=notrunc,fsync status=none");
        let mut changed = bytes;
        changed.resize(changed.len().max(7), 0);
        changed[..7].copy_from_slice(b"changed");
        assert!(fs::read(writer.at("f")).unwrap() == changed, "round {round}: changed");
        reader.sh("mv f g");
        assert!(fs::read(writer.at("g")).unwrap() == changed, "round {round}: moved");
        writer.sh("mv g f");
    }
    assert_eq!(site.uploads(), [""; 0]);
}

#[test]
fn lines_that_two_mounts_append_at_the_same_time_are_all_there_once() {
    let site = Site::start();
    let mounts = [site.mount(&[]), site.mount(&[])];
    let append = |mount: &Mount, who: &str| {
        mount.sh(&format!("set -e; for n in $(seq {LINES}); do echo {who} $n >> log; done"));
    };
    std::thread::scope(|threads| {
        for (mount, who) in mounts.iter().zip(["one", "two"]) {
            threads.spawn(move || append(mount, who));
        }
    });
    let log = String::from_utf8(site.get("log").unwrap()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let distinct: BTreeSet<&str> = lines.iter().copied().collect();
    assert_eq!((lines.len(), distinct.len()), (2 * LINES, 2 * LINES), "none is lost in '{BUCKET}', none is there twice");
    for who in ["one", "two"] {
        let own: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with(who)).collect();
        assert!(own.iter().enumerate().all(|(at, line)| *line == format!("{who} {}", at + 1)), "in order: {own:?}");
    }
}

#[test]
fn a_line_stays_whatever_the_first_answer_to_a_new_logs_close_is() {
    let site = Site::start();
    let mounts = [site.mount(&[]), site.mount(&[])];
    for fault in ["503", "500", "drop", "lost", "lost-500"] {
        let log = format!("log {fault}");
        let line = |mount: &Mount, who: &str| {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(mount.at(&log)).unwrap();
            file.write_all(format!("{who}\n").as_bytes()).unwrap();
            file
        };
        let (first, second) = (line(&mounts[0], "one"), line(&mounts[1], "two"));
        second.sync_all().unwrap();
        site.server.set_faults(format!("PutObject[{log}]:1={fault}").parse().unwrap());
        first.sync_all().unwrap_or_else(|error| panic!("{fault}: {error}"));
        site.server.set_faults("".parse().unwrap());
        assert_eq!(site.get(&log).unwrap(), b"two\none\n", "{fault}");
    }
}

#[test]
fn every_line_is_kept_that_two_processes_each_append_on_two_mounts() {
    let site = Site::start();
    let mounts = [site.mount(&["--ttl", "100ms"]), site.mount(&["--ttl", "100ms"])];
    fs::write(mounts[0].at("log"), "").unwrap();
    let append = |mount: &Mount, who: usize, read: bool| {
        let mut file = fs::OpenOptions::new().read(read).append(true).open(mount.at("log")).unwrap();
        for number in 0..20 {
            // As others do who look at it meanwhile.
            fs::metadata(mount.at("log")).unwrap();
            file.write_all(format!("{who} {number}\n").as_bytes()).unwrap_or_else(|error| panic!("{who} {number}: {error}"));
            file.sync_all().unwrap_or_else(|error| panic!("{who} {number}: {error}"));
        }
    };
    std::thread::scope(|scope| {
        for who in 0..6 {
            let mount = &mounts[who % 2];
            scope.spawn(move || append(mount, who, who > 3));
        }
    });
    let stored = String::from_utf8(site.get("log").unwrap()).unwrap();
    let mut lines: Vec<&str> = stored.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((lines.len(), stored.lines().count()), (120, 120));
}

#[test]
fn with_strict_excl_open_tells_who_was_first() {
    let site = Site::start();
    let mounts = [site.mount(&["--strict-excl"]), site.mount(&["--strict-excl", "--ttl", "60s"])];
    let create = |mount: &Mount, name: &str| fs::OpenOptions::new().write(true).create_new(true).open(mount.at(name));
    for round in 0..20 {
        let name = format!("lock{round}");
        let opened = std::thread::scope(|threads| {
            let opening = mounts.each_ref().map(|mount| threads.spawn(|| create(mount, &name)));
            opening.map(|opening| opening.join().unwrap())
        });
        let [first, second] = opened;
        let (Ok(mut won), Err(lost)) = (if first.is_ok() { (first, second) } else { (second, first) }) else {
            panic!("round {round}: both or none")
        };
        assert_eq!(lost.raw_os_error(), Some(libc::EEXIST), "round {round}");
        assert_eq!(site.get(&name).as_deref(), Some(&b""[..]), "it is there as soon as it is open");
        won.write_all(b"mine").unwrap();
        drop(won);
        for mount in &mounts {
            assert_eq!(fs::read(mount.at(&name)).unwrap(), b"mine", "round {round}");
        }
        fs::remove_file(mounts[round % 2].at(&name)).unwrap();
        assert_eq!(site.get(&name), None);
    }
    // What is not written is not sent again.
    site.server.reset_counters();
    drop(create(&mounts[0], "empty").unwrap());
    assert_eq!((site.count("PutObject"), site.get("empty").as_deref()), (1, Some(&b""[..])));
    // Nothing is made that the store has refused, and nothing is left of it.
    site.server.set_faults("PutObject:*=denied".parse().unwrap());
    assert_eq!(create(&mounts[0], "refused").unwrap_err().raw_os_error(), Some(libc::EACCES));
    site.server.set_faults("".parse().unwrap());
    assert!(!mounts[0].at("refused").exists());
    drop(create(&mounts[0], "refused").unwrap());
    // Only O_EXCL asks for it.
    site.server.reset_counters();
    let file = fs::File::create(mounts[0].at("plain")).unwrap();
    assert_eq!(site.get("plain"), None);
    drop(file);
    assert_eq!(site.count("PutObject"), 1);
}

#[test]
fn locks_of_the_kernel_hold_between_the_processes_of_a_mount_and_cost_nothing() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "x").unwrap();
    fs::metadata(mount.at("f")).unwrap();
    mount.sh("exec 3>>f; flock -n 3; ! flock -n f true; exec 3>&-; flock -n f true");
    mount.sh("python3 -c 'import fcntl, os\n\
         f = open(\"f\", \"r+\"); fcntl.lockf(f, fcntl.LOCK_EX)\n\
         if os.fork() == 0:\n \
          g = open(\"f\", \"r+\")\n \
          try: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB); os._exit(1)\n \
          except BlockingIOError: os._exit(0)\n\
         assert os.wait()[1] == 0'");
    assert_eq!(site.count("PutObject"), 1, "nobody has changed it since");
}

/// Opens, appends up to three lines, closes, for some seconds; prints the lines of which close has said that they are stored.
const APPENDER: &str = "
import os, sys, time
name, lines, end = sys.argv[1], 0, time.time() + 5
while time.time() < end:
    file, first = os.open('log', os.O_WRONLY | os.O_APPEND), lines
    for _ in range(lines % 3 + 1):
        os.write(file, f'{name}.{lines}\\n'.encode())
        lines += 1
    os.close(file)
    print(*(f'{name}.{line}' for line in range(first, lines)), sep='\\n')
";

/// Two processes of one mount and one of another, none of which believes anything: names are looked up while others are about to
/// write.
#[test]
fn no_line_is_lost_of_those_whom_the_name_leaves_while_they_begin_to_write() {
    let site = Site::start();
    site.put("log", "");
    let mounts = [site.mount(&["--ttl", "0s"]), site.mount(&["--ttl", "0s"])];
    let written: Vec<String> = std::thread::scope(|scope| {
        let writers = [0, 0, 1].into_iter().enumerate().map(|(number, mount)| {
            let mount = &mounts[mount];
            scope.spawn(move || mount.sh(&format!("python3 -c \"{APPENDER}\" {number}")))
        });
        writers.collect::<Vec<_>>().into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let stored = String::from_utf8(site.get("log").unwrap()).unwrap();
    let there: BTreeSet<&str> = stored.lines().collect();
    let said: Vec<&str> = written.iter().flat_map(|lines| lines.lines()).collect();
    let lost: Vec<&&str> = said.iter().filter(|line| !there.contains(**line)).collect();
    assert!(said.len() > 100 && lost.is_empty(), "of {} lines these are lost: {lost:?}", said.len());
}

/// `mv job mine/` on two mounts at once is how one of them takes a job.
#[test]
fn only_one_of_two_mounts_moves_a_file_away() {
    let site = Site::start();
    site.server.set_latency(std::time::Duration::from_millis(20));
    let mounts = [site.mount(&["--ttl", "0"]), site.mount(&["--ttl", "0"])];
    mounts[0].sh("mkdir done");
    for round in 0..12 {
        let job = format!("job{round}");
        if round % 2 == 1 {
            // Whose DELETE is refused asks again, and may come too late by then.
            site.server.set_faults("DeleteObject:1=503".parse().unwrap());
        }
        site.put(&job, &job);
        let [first, second] = mounts.each_ref().map(|mount| mount.at(""));
        let start = std::sync::Barrier::new(2);
        let take = |root: &std::path::Path, taker: &str| {
            start.wait();
            std::fs::rename(root.join(&job), root.join(format!("done/{job}.{taker}")))
        };
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| take(&first, "a"));
            (take(&second, "b"), one.join().unwrap())
        });
        let failed = match (one, other) {
            (Ok(()), Err(error)) | (Err(error), Ok(())) => error,
            both => panic!("{both:?}"),
        };
        assert_eq!(failed.raw_os_error(), Some(libc::ENOENT), "{failed}");
        let keys: Vec<String> = site.keys().into_iter().filter(|key| key.contains(&job)).collect();
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert!(site.get(&keys[0]).unwrap() == job.as_bytes());
        for mount in &mounts {
            assert_eq!(mount.sh(&format!("ls {job}* done | grep -c {job} || true")), "1\n");
        }
    }
}
