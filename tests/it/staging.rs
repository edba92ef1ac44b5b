//! More changes than fit into memory: they go to the staging directory, or the file is stored as it stands; every byte is right.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use pailfs::base::rng::Rng;

use crate::support::{Mount, Site};

const MIB: u64 = 1 << 20;
const FILE_MIB: u64 = 160;

fn bytes(stamp: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9E37_79B9).wrapping_add(stamp * 0x85EB) >> 7) as u8).collect()
}

/// Writes from the end to the beginning, then here and there, and reads some of it back.
fn scatter(file: &File, seed: u64) -> Vec<u8> {
    for block in (0..FILE_MIB).rev() {
        file.write_all_at(&bytes(block, MIB as usize), block * MIB).unwrap();
    }
    let mut random = Rng::seeded(seed);
    let mut read = Vec::new();
    for number in 0..400 {
        let (at, len) = (random.below((FILE_MIB - 1) * MIB), 1 + random.below(70_000) as usize);
        file.write_all_at(&bytes(1000 + number, len), at).unwrap();
        if number % 8 == 0 {
            let mut some = vec![0; 100_000];
            file.read_exact_at(&mut some, random.below((FILE_MIB - 1) * MIB)).unwrap();
            read.extend(some);
        }
    }
    read
}

fn open(path: &std::path::Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn peak_mib(mount: &Mount) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.daemon())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn compare(staging_limit: &str, seed: u64) -> (Site, Mount) {
    let site = Site::start();
    let mount = site.mount(&["--memory-limit", "64MiB", "--staging-limit", staging_limit]);
    let local = std::env::temp_dir().join(format!("pailfs-staging-{}", pailfs::base::rng::token()));
    let (ours, theirs) = (open(&mount.at("f")), open(&local));
    assert!(scatter(&ours, seed) == scatter(&theirs, seed), "what is read while it is written");
    ours.sync_all().unwrap();
    let expected = fs::read(&local).unwrap();
    fs::remove_file(&local).unwrap();
    assert!(site.get("f").unwrap() == expected, "what fsync has stored");
    // And once more, on what is stored now.
    ours.write_all_at(b"changed", 77 * MIB + 5).unwrap();
    drop(ours);
    let mut expected = expected;
    expected[(77 * MIB + 5) as usize..][..7].copy_from_slice(b"changed");
    assert!(site.get("f").unwrap() == expected, "what close has stored");
    assert!(peak_mib(&mount) < 200, "{} MiB", peak_mib(&mount));
    assert_eq!(site.uploads(), Vec::<String>::new());
    (site, mount)
}

#[test]
fn more_changes_than_memory_go_to_the_staging_directory() {
    let (site, mount) = compare("1GiB", 1);
    // One upload of the whole, and one of the later change, whose condition is tried out first: nothing was stored in between.
    assert_eq!(site.count("CompleteMultipartUpload"), 3);
    let staging = mount.cache().join("pailfs/staging");
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0, "its files have no names");
}

#[test]
fn without_a_staging_directory_the_file_is_stored_as_it_stands_and_goes_on() {
    let (site, _mount) = compare("0B", 2);
    assert!(site.count("CompleteMultipartUpload") > 3);
}
