//! Transfers that break, or bring other bytes, through the kernel.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use crate::mounted::pattern;
use crate::support::Site;

#[test]
fn damaged_bytes_are_never_read() {
    let site = Site::start();
    site.put("f", &"0123456789".repeat(10_000));
    let mount = site.mount(&[]);
    site.server.set_faults("GetObject:*=flip@1000".parse().unwrap());
    assert!(mount.sh_fails("cat f").contains("Bad message"));
    site.server.set_faults("".parse().unwrap());
    assert_eq!(mount.sh("cat f").len(), 100_000);
}

#[test]
fn a_cut_download_goes_on_at_the_missing_byte() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let data = pattern(3_000_000);
    fs::write(mount.at("f"), &data).unwrap();
    mount.unmount();
    let mount = site.mount(&[]);
    site.server.set_faults("GetObject:1=cut@100000;GetObject:2=cut@50000".parse().unwrap());
    assert!(fs::read(mount.at("f")).unwrap() == data);
}

#[test]
fn a_failed_upload_is_told_at_close_and_the_old_object_stays() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "old").unwrap();
    site.server.set_faults("PutObject:*=denied".parse().unwrap());
    assert!(mount.sh_fails("dd if=/dev/zero of=f bs=1k count=1").contains("Permission denied"));
    assert_eq!(site.get("f").unwrap(), b"old");
    site.server.set_faults(pailfs::devserver::Faults::default());
    // One that passes is not seen at all; an answer that was lost is settled by looking.
    site.server.set_faults("PutObject:1=503;PutObject:3=lost".parse().unwrap());
    fs::write(mount.at("g"), "through").unwrap();
    fs::write(mount.at("h"), "lost").unwrap();
    assert_eq!((site.get("g").unwrap(), site.get("h").unwrap()), (b"through".to_vec(), b"lost".to_vec()));
}

#[test]
fn an_edit_sends_nothing_of_its_neighbours_that_has_changed_on_its_way() {
    let site = Site::start();
    let old: String = (0..20 << 20_u32).map(|at| char::from(b'a' + ((at % 23 + at / 8191) % 26) as u8)).collect();
    let sizes = [1 << 20, 20 << 20];
    for listed in [false, true] {
        let names = |size| (1..=3).map(move |nth| (nth, format!("{size} {listed} {nth}")));
        sizes.iter().for_each(|size| names(*size).for_each(|(_, name)| site.put(&name, &old[..*size])));
        let mount = site.mount(&[]);
        if listed {
            mount.sh("ls -l");
        }
        for (size, (nth, name)) in sizes.iter().flat_map(|size| names(*size).map(move |named| (*size, named))) {
            site.server.set_faults(format!("GetObject[{name}]:{nth}=flip@5").parse().unwrap());
            let file = OpenOptions::new().read(true).write(true).open(mount.at(&name)).unwrap();
            file.write_all_at(&[b'E'; 4096], size as u64 / 2 - 7).unwrap();
            file.sync_all().unwrap_or_else(|error| panic!("{name}: {error}"));
            site.server.set_faults("".parse().unwrap());
            let mut new = old.as_bytes()[..size].to_vec();
            new[size / 2 - 7..][..4096].fill(b'E');
            assert!(site.get(&name).unwrap() == new, "{name}");
        }
    }
}

#[test]
fn an_upload_that_cannot_be_begun_is_asked_for_once_and_not_by_every_part() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let file = fs::File::create(mount.at("f")).unwrap();
    site.server.set_faults("CreateMultipartUpload:*=lost".parse().unwrap());
    let bytes = vec![7; 48 << 20];
    file.write_all_at(&bytes, 0).unwrap();
    assert!(file.sync_all().is_err());
    // Once while it was written, once more by the fsync, each of them repeated.
    let asked = site.count("CreateMultipartUpload");
    assert!(asked <= 25, "{asked}");
    site.server.set_faults("".parse().unwrap());
    file.sync_all().unwrap();
    assert!(site.get("f").unwrap() == bytes);
}
