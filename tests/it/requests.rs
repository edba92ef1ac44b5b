//! How many requests everyday work costs, counted by the server: each is latency and money.

use std::fs;
use std::time::{Duration, Instant};

use pailfs::store::Properties;
use rustix::io::Errno;

use crate::support::{Mount, Site};

#[test]
fn a_file_is_one_put_and_reads_back() {
    let site = Site::start();
    let mount = site.mount(&[]);
    // The first change in a bucket of an unknown store is looked at.
    mount.sh("ls && echo first > first");
    site.server.reset_counters();
    mount.sh("echo hello > f");
    assert_eq!(site.count("PutObject"), 1, "{:?}", site.server.counters());
    assert_eq!(site.server.counters().requests(), 1, "{:?}", site.server.counters());
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
    site.put_all((0..2500).map(|number| format!("d/{number:05}")));
    let mount = site.mount(&["--ttl", "60s"]);
    assert_eq!(fs::read_dir(mount.at("d")).unwrap().count(), 2500);
    site.server.reset_counters();
    assert_eq!(mount.sh("ls -l d | wc -l").trim(), "2501");
    assert_eq!(site.count("ListObjectsV2"), 0, "{:?}", site.server.counters());
}

#[test]
fn what_others_make_after_a_listing_is_found_by_its_name_when_that_is_old() {
    let site = Site::start();
    site.put("d/old", "x");
    let mount = site.mount(&["--ttl", "2s"]);
    assert_eq!(mount.sh("ls d"), "old\n");
    site.server.reset_counters();
    mount.sh("test ! -e d/new && test ! -e d/below && test ! -e d/new");
    assert_eq!(site.server.counters().requests(), 0, "{:?}", site.server.counters());
    site.put("d/new", "fresh");
    site.put("d/below/new", "fresh too");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(mount.sh("cat d/new d/below/new"), "freshfresh too");
    // Names that were only asked for prove nothing about others.
    mount.sh("cat d/old d/new d/below/new d/old d/new > /dev/null");
    site.put("d/newer", "fresh");
    assert_eq!(mount.sh("cat d/newer"), "fresh");
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

/// Lists the attributes of each file of a directory, in order, as `getfattr -R -d` and `rsync -X` do.
fn walk(mount: &Mount, directory: &str) -> usize {
    let mut names: Vec<_> = fs::read_dir(mount.at(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in &names {
        rustix::fs::listxattr(path, &mut [0; 1024]).unwrap();
    }
    names.len()
}

#[test]
fn a_walk_over_attributes_is_one_head_a_file_and_many_at_once() {
    let site = Site::start();
    for number in 0..500 {
        site.put(&format!("d/{number:03}"), "x");
    }
    let latency = Duration::from_millis(40);
    let mount = site.mount(&["--ttl", "30s"]);
    mount.sh("stat d > /dev/null");
    site.server.set_latency(latency);
    site.server.reset_counters();
    let begun = Instant::now();
    assert_eq!(walk(&mount, "d"), 500);
    let took = begun.elapsed();
    assert_eq!(site.count("HeadObject"), 500, "{:?}", site.server.counters());
    println!("500 files at {latency:?}: {took:?}");
    // One after the other they take eight times as long as a quiet machine needs, and here others work, too.
    assert!(took * 4 < latency * 500, "it took {took:?}");
    assert_eq!(walk(&mount, "d"), 500);
    assert_eq!(site.count("HeadObject"), 500, "a second walk asks nothing");
}

#[test]
fn what_is_asked_in_no_order_is_not_fetched_ahead() {
    let site = Site::start();
    for number in 0..100 {
        site.put(&format!("d/{number:03}"), "x");
    }
    let mount = site.mount(&["--ttl", "30s"]);
    mount.sh("ls d > /dev/null");
    let before = site.count("HeadObject");
    // The listing itself looks at a sample: some of these may be in it.
    for number in [71, 13, 37, 91, 59] {
        mount.sh(&format!("getfattr d/{number:03}"));
    }
    assert!(site.count("HeadObject") - before <= 5, "{:?}", site.server.counters());
}

#[test]
fn what_was_fetched_ahead_counts_only_for_the_same_object() {
    let site = Site::start();
    let tagged = |value: &str| Properties { metadata: [("a".to_owned(), value.to_owned())].into(), ..Properties::default() };
    for number in 0..60 {
        site.put_with(&format!("d/{number:03}"), "x", tagged("old"));
    }
    let mount = site.mount(&["--ttl", "1s"]);
    let get = |name: &str| mount.sh(&format!("getfattr --only-values -n user.a d/{name}"));
    mount.sh("ls d > /dev/null && for n in 020 021 022 023; do getfattr -n user.a d/$n; done > /dev/null");
    // These were fetched ahead: what this mount has changed since counts, and what others have changed once it is old.
    mount.sh("setfattr -n user.a -v mine d/025");
    assert_eq!(get("025"), "mine");
    site.put_with("d/027", "other", tagged("theirs"));
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!((get("026").as_str(), get("027").as_str()), ("old", "theirs"));
}

#[test]
fn attributes_in_metadata_are_fetched_ahead_for_lookups() {
    let site = Site::start();
    for number in 0..100 {
        let metadata = [("mode".to_owned(), format!("{}", 0o100_600 + number % 8))].into();
        site.put_with(&format!("d/{number:03}"), "x", Properties { metadata, ..Properties::default() });
    }
    let mount = site.mount(&["--ttl", "30s"]);
    site.server.reset_counters();
    site.server.set_latency(Duration::from_millis(40));
    let begun = Instant::now();
    let listed = mount.sh("stat -c '%n %a' d/*");
    let took = begun.elapsed();
    println!("100 files: {took:?}");
    assert!(listed.lines().enumerate().all(|(n, line)| line == format!("d/{n:03} {:o}", 0o600 + n % 8)), "{listed}");
    // One for the directory's marker.
    assert!(site.count("HeadObject") <= 102, "{:?}", site.server.counters());
    assert!(site.count("ListObjectsV2") <= 4, "{:?}", site.server.counters());
    assert!(took * 4 < Duration::from_millis(40 * 100), "it took {took:?}");
}

/// Programs ask for the length of a value, and then for the value; python offers 128 bytes first.
#[test]
fn an_attribute_that_is_asked_for_by_its_length_first_costs_once() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "1h"]);
    mount.sh("echo x > f && setfattr -n user.s3.tags -v a=1 f && setfattr -n user.s3.lifecycle -v '{\"Rules\":[{\"Status\":\"Enabled\",\"Filter\":{},\"Expiration\":{\"Days\":1}}]}' .");
    for (place, name) in [
        ("f", "user.s3"),
        ("f", "user.s3.restore"),
        ("f", "user.s3.acl"),
        ("f", "user.s3.owner"),
        ("f", "user.s3.tags"),
        ("f", "user.s3.tag.a"),
        (".", "user.s3.lifecycle"),
        (".", "user.s3.location"),
    ] {
        let python = format!("python3 -c 'import os; print(end=os.getxattr(\"{place}\", \"{name}\").decode())'");
        // What the bucket is like is found out by the first one.
        let first = mount.sh(&python);
        for command in [format!("getfattr -n {name} --only-values {place}"), python] {
            std::thread::sleep(Duration::from_millis(1100));
            site.server.reset_counters();
            assert_eq!(mount.sh(&command), first, "{command}");
            let counters = site.server.counters();
            assert!(counters.operations.values().sum::<u64>() <= 1, "{command}: {counters:?}");
        }
    }
    // A change is seen at once.
    let no_room = || rustix::fs::getxattr(mount.at("f"), "user.s3.tags", &mut [0; 1][..]);
    assert_eq!(no_room(), Err(Errno::RANGE));
    mount.sh("setfattr -n user.s3.tags -v b=2 f");
    assert_eq!(mount.sh("python3 -c 'import os; print(os.getxattr(\"f\", \"user.s3.tags\"))'"), "b'b=2'\n");
    assert_eq!(no_room(), Err(Errno::RANGE));
    mount.sh("setfattr -x user.s3.tag.b f");
    let mut value = [0; 100];
    assert_eq!(rustix::fs::getxattr(mount.at("f"), "user.s3.tags", &mut value[..]), Err(Errno::NODATA));
}
