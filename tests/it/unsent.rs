//! Attributes that are set on a file which is about to get its real name: they travel with the rename, or follow soon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use crate::support::{Mount, Site, eventually};

fn mode(site: &Site, key: &str) -> Option<u32> {
    site.metadata(key).get("mode").map(|mode| mode.parse::<u32>().unwrap() & 0o7777)
}

/// After one operation of each kind has shown what the store honours.
fn start() -> (Site, Mount) {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "60s"]);
    mount.sh("setfattr -n user.s3.object-ownership -v BucketOwnerEnforced .");
    mount.sh("echo a > a && echo b > a && chmod 600 a && mv a b && rm b && ls");
    (site, mount)
}

#[test]
fn rsync_costs_a_put_a_copy_and_a_delete_a_file() {
    let (site, mount) = start();
    let source = mount.cache().join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..20_u32 {
        let file = source.join(format!("{number}"));
        fs::write(&file, "x".repeat(number as usize)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604 + number)).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + u64::from(number));
        fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    }
    // rsync compares whole seconds: of this one the directory would keep its own time.
    fs::File::open(&source).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    mount.sh("mkdir d && touch d/first && ls d");
    site.server.reset_counters();
    mount.sh(&format!("rsync -a {}/ d/", source.display()));
    let counters = site.server.counters();
    println!("{counters:?}");
    let (copies, deletes) = (site.count("CopyObject"), site.count("DeleteObject"));
    assert_eq!((copies, deletes), (20, 20), "{counters:?}");
    // The marker tells of them, and gets its times twice; where a release comes late an open looks first.
    assert!(site.count("PutObject") <= 23 && site.count("GetObject") == 0 && counters.requests() <= 20 * 3 + 4, "{counters:?}");
    let all = "find . -type f ! -name first -printf '%P %m %s %T@\\n' | sort";
    let expected = mount.sh(&format!("cd {} && {all}", source.display()));
    assert_eq!(mount.sh(&format!("cd d && {all}")), expected);
    assert_eq!(
        (0..20).map(|number| mode(&site, &format!("d/{number}")).unwrap()).collect::<Vec<_>>(),
        (0o604..0o604 + 20).collect::<Vec<_>>()
    );
    mount.unmount();
    let elsewhere = site.mount(&[]);
    assert_eq!(elsewhere.sh(&format!("cd d && {all}")), expected);
    // Nothing is left to do.
    site.server.reset_counters();
    elsewhere.sh(&format!("rsync -a {}/ d/", source.display()));
    assert_eq!((site.count("PutObject"), site.count("GetObject"), site.count("CopyObject")), (0, 0, 0));
}

#[test]
fn without_a_rename_they_follow_soon_or_with_whatever_comes_first() {
    let (site, mount) = start();
    mount.sh("for n in 1 2 3 4 5 6 7; do echo x > .f.00000$n; chmod 60$n .f.00000$n; done");
    assert_eq!(mount.sh("stat -c %a .f.00000*"), "601\n602\n603\n604\n605\n606\n607\n", "here they are seen at once");
    mount.sh("setfattr -n user.a -v b .f.000001 && echo more >> .f.000002 && sync .f.000003 && mv .f.000004 f && rm .f.000005");
    for (key, expected) in [(".f.000001", 0o601), (".f.000002", 0o602), (".f.000003", 0o603), ("f", 0o604)] {
        assert_eq!(mode(&site, key), Some(expected), "{key}");
    }
    assert_eq!(site.metadata(".f.000001")["a"], "b");
    eventually("what waits is sent", || mode(&site, ".f.000006") == Some(0o606) && mode(&site, ".f.000007") == Some(0o607));
    mount.sh("echo x > .g.000000 && touch -d @5 .g.000000 && chmod 640 .g.000000");
    mount.unmount();
    let stored = site.metadata(".g.000000");
    assert_eq!((stored["mtime"].as_str(), mode(&site, ".g.000000")), ("5", Some(0o640)), "the end of the mount sends it");
    assert!(!site.keys().contains(&".f.000005".to_owned()));
}

#[test]
fn what_is_no_temporary_name_does_not_wait() {
    let site = Site::start();
    site.put(".old.000000", "x");
    let mount = site.mount(&[]);
    mount.sh("echo x > plain && chmod 611 plain && chmod 622 .old.000000");
    assert_eq!((mode(&site, "plain"), mode(&site, ".old.000000")), (Some(0o611), Some(0o622)));
}

#[test]
fn what_cannot_be_sent_is_told_and_tried_again() {
    let (site, mount) = start();
    mount.sh("echo x > .f.000000");
    site.server.set_faults("CopyObject:*=denied".parse().unwrap());
    mount.sh("chmod 604 .f.000000");
    eventually("it is told", || mount.failures().contains(".f.000000"));
    let failed = mount.pailfs(&["umount", mount.at("").to_str().unwrap()]);
    assert!(!failed.status.success(), "it is not lost in silence");
    assert!(mount.sh_fails("mv .f.000000 f").contains("Permission denied"));
    site.server.set_faults("".parse().unwrap());
    mount.sh("mv .f.000000 f");
    assert_eq!(mode(&site, "f"), Some(0o604));
    mount.unmount();
}
