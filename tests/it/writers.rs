//! Ways of writing that applications have and that went wrong once.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use crate::support::Site;

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
