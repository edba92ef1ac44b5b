//! Transfers that break, or bring other bytes, through the kernel.

use std::fs;

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
