//! How many requests everyday work costs, counted by the server: each is latency and money.

use std::fs;

use crate::support::Site;

#[test]
fn a_file_is_one_put_and_reads_back() {
    let site = Site::start();
    let mount = site.mount(&[]);
    // The first change in a bucket of an unknown store is looked at.
    mount.sh("ls && echo first > first");
    site.server.reset_counters();
    mount.sh("echo hello > f");
    assert_eq!(site.count("PutObject"), 1, "{:?}", site.server.counters());
    // One round trip (HEAD beside LIST) makes sure that the name is free, since others may have taken it.
    assert_eq!(site.server.counters().requests(), 3, "{:?}", site.server.counters());
    assert_eq!(mount.sh("cat f"), "hello\n");
    assert_eq!(site.get("f").unwrap(), b"hello\n");
    site.server.reset_counters();
    mount.sh("touch t");
    assert_eq!(site.count("PutObject"), 1, "{:?}", site.server.counters());
    assert_eq!(site.get("t").unwrap(), b"");
    mount.unmount();
    assert!(!mount.is_mounted());
}

#[test]
fn a_large_directory_lists_whole_and_only_once_within_the_ttl() {
    let site = Site::start();
    for number in 0..2500 {
        site.put(&format!("d/{number:05}"), "x");
    }
    let mount = site.mount(&["--ttl", "60s"]);
    assert_eq!(fs::read_dir(mount.at("d")).unwrap().count(), 2500);
    site.server.reset_counters();
    assert_eq!(mount.sh("ls -l d | wc -l").trim(), "2501");
    assert_eq!(site.count("ListObjectsV2"), 0, "{:?}", site.server.counters());
}

#[test]
fn what_others_make_after_a_listing_is_found_by_its_name_at_once() {
    let site = Site::start();
    site.put("d/old", "x");
    let mount = site.mount(&["--ttl", "60s"]);
    assert_eq!(mount.sh("ls d"), "old\n");
    site.put("d/new", "fresh");
    site.put("d/below/new", "fresh too");
    assert_eq!(mount.sh("cat d/new d/below/new"), "freshfresh too");
}

#[test]
fn many_small_files_are_read_with_one_listing_and_a_get_each() {
    let site = Site::start();
    for number in 0..100 {
        site.put(&format!("d/{number}"), "x");
    }
    let mount = site.mount(&[]);
    site.server.reset_counters();
    for number in 0..100 {
        assert_eq!(fs::read(mount.at(&format!("d/{number}"))).unwrap(), b"x");
    }
    assert_eq!(site.count("GetObject"), 100);
    let requests = site.server.counters().requests();
    assert!(requests < 125, "{:?}", site.server.counters());
}
