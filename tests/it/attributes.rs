//! `--attrs`: how much a listing is believed, what is asked for beside it, and what is remembered from mount to mount.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use pailfs::store::Properties;

use crate::support::{BUCKET, Mount, Site};

/// What was said so long after the date of an object is true of any object with that date.
const SETTLED: Duration = Duration::from_millis(3100);
/// Objects of others were last modified so long ago.
const OLD: Duration = Duration::from_secs(3600);

fn with_mode(mode: u32) -> Properties {
    Properties { metadata: [("mode".to_owned(), (0o100_000 | mode).to_string())].into(), ..Properties::default() }
}

/// Lets an object be of long ago.
fn age(site: &Site, key: &str) {
    site.date(key, SystemTime::now() - OLD);
}

/// Files of others in a directory, of long ago.
fn put_foreign(site: &Site, count: usize) {
    for number in 0..count {
        let key = format!("d/{number:05}");
        site.put(&key, "x");
        age(site, &key);
    }
}

/// (LIST, HEAD) that a command costs.
fn cost(site: &Site, mount: &Mount, command: &str) -> (u64, u64) {
    site.server.reset_counters();
    mount.sh(command);
    let counters = site.server.counters();
    println!("{command}: {counters:?}");
    assert_eq!(counters.requests(), site.count("ListObjectsV2") + site.count("HeadObject"), "{counters:?}");
    (site.count("ListObjectsV2"), site.count("HeadObject"))
}

/// The same directory mounted anew, with the same cache.
fn again(site: &Site, mount: &Mount, extra: &[&str]) {
    mount.unmount();
    start(site, mount, extra);
}

fn start(site: &Site, mount: &Mount, extra: &[&str]) {
    let output = mount.run(&site.server.endpoint(), BUCKET, extra, pailfs::devserver::SECRET_KEY);
    assert!(output.status.success(), "mount failed: {}", String::from_utf8_lossy(&output.stderr));
}

fn mode(mount: &Mount, name: &str) -> u32 {
    fs::symlink_metadata(mount.at(name)).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_large_directory_of_others_is_listed_at_the_cost_of_lists() {
    let site = Site::start();
    put_foreign(&site, 10_000);
    for command in ["ls -l d > /dev/null", "find d -type f -size +0 > /dev/null"] {
        let mount = site.mount(&["--ttl", "25s"]);
        mount.sh("stat d > /dev/null");
        let (lists, heads) = cost(&site, &mount, command);
        assert!(lists == 10 && heads <= 80, "{lists} LIST, {heads} HEAD");
        assert_eq!(cost(&site, &mount, command), (0, 0), "within the TTL");
        sleep(Duration::from_secs(26));
        let (lists, heads) = cost(&site, &mount, command);
        // The directory's own name was asked for, too: by a listing alone, unless another test has made the kernel forget it.
        assert!((10..=12).contains(&lists) && heads <= 1, "after the TTL: {lists} LIST, {heads} HEAD");
        again(&site, &mount, &["--ttl", "25s"]);
        mount.sh("stat d > /dev/null");
        assert_eq!(cost(&site, &mount, command), (10, 0), "after a remount");
    }
}

#[test]
fn a_change_in_a_large_directory_of_others_costs_nothing_for_the_others() {
    let site = Site::start();
    put_foreign(&site, 2000);
    let mount = site.mount(&["--ttl", "3s"]);
    mount.sh("ls -l d > /dev/null");
    site.server.reset_counters();
    mount.sh("touch d/new d/00007 && echo x > d/other");
    // Those of the names themselves, and what the first change of a store is looked after.
    assert!(site.count("HeadObject") < 12, "{:?}", site.server.counters());
    assert!(!site.keys().contains(&"d/".to_owned()), "nothing is unusual yet");
    sleep(SETTLED);
    site.server.reset_counters();
    mount.sh("ls -l d > /dev/null");
    // The directory and the three: none of the others.
    assert!(site.count("HeadObject") <= 4, "{:?}", site.server.counters());
    // What is unusual is seen by others, and by them alone is it asked for.
    mount.sh("chmod 600 d/01234 && touch -d @1000000000 d/other");
    assert!(site.metadata("d/").contains_key("pailfs-attrs"), "{:?}", site.metadata("d/"));
    sleep(SETTLED);
    let other = site.mount(&["--ttl", "60s"]);
    site.server.reset_counters();
    other.sh("ls -l d > /dev/null");
    assert!(site.count("HeadObject") <= 24, "{:?}", site.server.counters());
    assert_eq!((mode(&other, "d/01234"), mode(&other, "d/01235")), (0o600, 0o644));
    assert_eq!(fs::metadata(other.at("d/other")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(cost(&site, &other, "ls -l d > /dev/null"), (0, 0));
}

#[test]
fn what_the_metadata_says_is_remembered_and_never_older_than_the_object() {
    for site in [Site::start(), Site::with_md5_tags()] {
        for number in 0..50 {
            site.put_with(&format!("d/{number:02}"), "x", with_mode(0o600 + number % 8));
        }
        let link = [("mode".to_owned(), 0o120_777_u32.to_string()), ("symlink-target".to_owned(), "00".to_owned())].into();
        site.put_with("d/link", "", Properties { metadata: link, ..Properties::default() });
        sleep(SETTLED);
        let mount = site.mount(&["--ttl", "1s"]);
        let listed = mount.sh("ls -l --time-style=full-iso d");
        assert!(listed.contains("-rw-----wx"), "{listed}");
        sleep(Duration::from_millis(1100));
        // The directory itself is looked at.
        assert!(cost(&site, &mount, "ls -l d > /dev/null").1 <= 1);
        again(&site, &mount, &["--ttl", "1s"]);
        mount.sh("stat d > /dev/null");
        let (lists, heads) = cost(&site, &mount, "ls -l d > /dev/null");
        assert!(lists <= 2 && heads <= 1, "{lists} LIST, {heads} HEAD");
        assert_eq!(mount.sh("ls -l --time-style=full-iso d"), listed);
        assert_eq!(fs::read_link(mount.at("d/link")).unwrap().to_str(), Some("00"));
        // Another client's change of the metadata alone keeps the tag, on some stores.
        site.put_with("d/17", "x", with_mode(0o640));
        sleep(Duration::from_millis(1100));
        mount.sh("ls -l d > /dev/null");
        assert_eq!(mode(&mount, "d/17"), 0o640);
        again(&site, &mount, &["--ttl", "1s"]);
        assert_eq!((mode(&mount, "d/17"), mode(&mount, "d/18")), (0o640, 0o602));
        // What other attributes say is always asked.
        site.server.reset_counters();
        mount.sh("getfattr -n user.s3.etag d/30");
        assert!(site.count("HeadObject") >= 1);
    }
}

#[test]
fn what_is_on_the_disk_is_believed_only_as_a_whole() {
    let site = Site::start();
    for number in 0..40 {
        site.put_with(&format!("d/{number:02}"), "x", with_mode(0o600));
    }
    sleep(SETTLED);
    let mount = site.mount(&[]);
    let listed = mount.sh("ls -l d");
    mount.unmount();
    let file = mount.cache().join("pailfs/attributes/objects");
    let text = fs::read(&file).unwrap();
    assert!(text.windows(4).any(|bytes| bytes == b"d/17"), "{} bytes", text.len());
    for broken in [text[..text.len() / 2 + 1].to_vec(), text.iter().map(|byte| byte.wrapping_add(1)).collect(), Vec::new()] {
        fs::write(&file, broken).unwrap();
        start(&site, &mount, &[]);
        assert_eq!(mount.sh("ls -l d"), listed);
        mount.unmount();
    }
}

#[test]
fn listing_asks_nothing_and_posix_asks_for_all() {
    let site = Site::start();
    for number in 0..30 {
        site.put_with(&format!("d/{number:02}"), "x", with_mode(0o600));
    }
    site.put("d/empty", "");
    let mount = site.mount(&["--attrs", "listing", "--ttl", "60s"]);
    let (_, heads) = cost(&site, &mount, "cd d && ls -l > /dev/null");
    assert_eq!((heads, mode(&mount, "d/07")), (0, 0o644));
    let site = Site::start();
    put_foreign(&site, 30);
    let mount = site.mount(&["--attrs", "posix", "--ttl", "60s"]);
    mount.sh("stat d > /dev/null");
    assert_eq!(cost(&site, &mount, "ls -l d > /dev/null").1, 30);
    assert_eq!(cost(&site, &mount, "ls -l d > /dev/null"), (0, 0));
    mount.sh("chmod 600 d/00007");
    assert!(!site.keys().contains(&"d/".to_owned()), "only auto needs to be told");
}

#[test]
fn what_is_unusual_is_announced_before_it_is_there_and_what_is_plain_is_not() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("mkdir plain moved made && echo x > plain/f && ln -s f plain/l && mkdir plain/below && cp plain/f plain/g");
    mount.sh("mv plain/g moved/g && touch plain/f");
    for directory in ["plain/", "moved/", "made/"] {
        assert!(!site.metadata(directory).contains_key("pailfs-attrs"), "{directory}");
    }
    let since = |directory: &str| site.metadata(directory).get("pailfs-attrs").cloned().unwrap_or_default();
    mount.sh("install -m 600 plain/f made/f");
    assert!(since("made/").starts_with("20"), "{:?}", site.metadata("made/"));
    let first = since("made/");
    sleep(Duration::from_millis(1100));
    mount.sh("chmod 700 made made/f && touch -d @5 made && mv made/f moved/f");
    assert_eq!(since("made/"), first, "it is never taken back");
    assert!(since("moved/").starts_with("20"));
    assert_eq!(since("plain/"), "");
    // The directory's own date stays what it was.
    mount.sh("touch -d @1000000000 plain");
    mount.sh("mkdir dated && touch -d @7 dated/a && echo x > dated/b && chmod 600 dated/b");
    again(&site, &mount, &[]);
    assert_eq!(mode(&mount, "moved/f"), 0o700);
    assert_eq!(mode(&mount, "dated/b"), 0o600);
}

/// As `tar` unpacks: what it costs in all.
#[test]
fn what_is_unpacked_with_its_attributes_costs_a_request_a_file_and_few_a_directory() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "60s"]);
    mount
        .sh("setfattr -n user.s3.object-ownership -v BucketOwnerEnforced . && echo a > a && echo b > a && chmod 600 a && mv a b");
    let local = mount.cache().join("source");
    fs::create_dir(&local).unwrap();
    for directory in 0..20 {
        let directory = local.join(format!("{directory}/below"));
        fs::create_dir_all(&directory).unwrap();
        for number in 0..20 {
            let file = directory.join(format!("{number}"));
            fs::write(&file, "x").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600 + number)).unwrap();
            std::os::unix::fs::symlink(format!("{number}"), directory.join(format!("link{number}"))).unwrap();
        }
    }
    site.server.reset_counters();
    mount.sh(&format!("tar -C {} -c . | tar x", local.display()));
    let counters = site.server.counters();
    println!("{counters:?}");
    // The links' times are set when they are there: a copy each.
    let links = 400;
    assert_eq!(site.count("CopyObject"), links);
    // A directory is made, says from when on, and gets its time; what was made first could not know.
    assert!(counters.requests() - links <= 840 + 2 * 41 + 4, "{counters:?}");
    let all = "find . -type f -printf '%P %m %T@\\n' | sort";
    let unpacked = mount.sh(all);
    again(&site, &mount, &["--ttl", "60s"]);
    assert_eq!(mount.sh(all), unpacked);
}

#[test]
fn where_the_marker_may_not_be_written_the_change_succeeds_and_why_tells() {
    let site = Site::start();
    site.put("d/f", "x");
    age(&site, "d/f");
    let mount = site.mount(&["--ttl", "1s"]);
    mount.sh("ls -l d && echo x > f && chmod 644 f");
    site.server.set_faults("PutObject:*=denied".parse().unwrap());
    mount.sh("chmod 600 d/f");
    site.server.set_faults("".parse().unwrap());
    assert_eq!((site.metadata("d/f")["mode"].as_str(), mode(&mount, "d/f")), ("33152", 0o600));
    assert!(!site.keys().contains(&"d/".to_owned()));
    for name in ["d", "d/f"] {
        assert!(mount.why(name).contains("other mounts"), "{}", mount.why(name));
    }
    sleep(Duration::from_millis(1100));
    mount.sh("ls -l d > /dev/null");
    assert_eq!(mode(&mount, "d/f"), 0o600);
}

#[test]
fn a_prefix_has_a_marker_and_a_bucket_has_memory() {
    let site = Site::start();
    for number in 0..40 {
        for prefix in ["", "p/"] {
            let key = format!("{prefix}{number:02}");
            site.put(&key, "x");
            age(&site, &key);
        }
    }
    let mount = site.mount_source(&format!("{BUCKET}/p"), &["--ttl", "60s"]);
    mount.sh("ls -l && chmod 640 07 && chmod 711 .");
    assert!(site.metadata("p/").contains_key("pailfs-attrs"));
    let other = site.mount_source(&format!("{BUCKET}/p"), &["--ttl", "60s"]);
    assert_eq!(other.sh("stat -c %a . 07 08"), "711\n640\n644\n");
    let mount = site.mount(&["--ttl", "1s"]);
    mount.sh("ls -l && chmod 640 07 && chmod 711 .");
    assert_eq!(site.keys().iter().filter(|key| key.ends_with('/')).count(), 1);
    sleep(Duration::from_millis(1100));
    assert_eq!(mount.sh("ls -l > /dev/null; stat -c %a 07 08 ."), "640\n644\n711\n");
    again(&site, &mount, &["--ttl", "1s"]);
    assert_eq!(mount.sh("ls -l > /dev/null; stat -c %a 07 08"), "640\n644\n");
}

#[test]
fn the_time_of_a_change_is_exact_and_survives() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "60s"]);
    mount.sh("mkdir d e && echo x > d/f && chmod 600 d/f");
    let ctime = |name: &str| {
        let found = fs::symlink_metadata(mount.at(name)).unwrap();
        (found.ctime(), found.ctime_nsec())
    };
    let mut last = ctime("d/f");
    let mut name = "d/f";
    for (command, then) in [
        ("chmod 640 d/f", "d/f"),
        ("touch -d @1000000000 d/f", "d/f"),
        ("echo more >> d/f", "d/f"),
        ("mv d/f d/g", "d/g"),
        ("setfattr -n user.a -v b d/g", "d/g"),
        ("mv d/g e/f", "e/f"),
        ("chown 7:8 e/f", "e/f"),
        ("truncate -s 1 e/f", "e/f"),
    ] {
        sleep(Duration::from_millis(20));
        mount.sh(command);
        name = then;
        assert!(ctime(name) > last, "{command}: {last:?}, {:?}", ctime(name));
        last = ctime(name);
        let stored = site.metadata(name)["ctime"].clone();
        assert_eq!(stored, format!("{}.{:09}", last.0, last.1), "{command}");
    }
    again(&site, &mount, &["--ttl", "60s"]);
    assert_eq!(ctime(name), last);
    // What stores nothing else has the date of its object.
    mount.sh("echo x > plain");
    assert_eq!(site.metadata("plain").get("ctime"), None);
    again(&site, &mount, &["--ttl", "60s"]);
    assert_eq!(ctime("plain").0, i64::try_from(seconds(site.head("plain").last_modified)).unwrap());
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn another_mounts_change_of_a_directory_is_seen_while_this_one_keeps_listing() {
    let site = Site::start();
    let mounts = [site.mount(&["--ttl", "500ms"]), site.mount(&["--ttl", "500ms"])];
    let past = || sleep(Duration::from_millis(700));
    mounts[0].sh("mkdir x && touch x/f");
    past();
    mounts[1].sh("ls > /dev/null && stat x");
    mounts[0].sh("chmod 750 x && chown 3:4 x && touch -d '2020-02-02 02:02:02.5 UTC' x");
    for _ in 0..3 {
        past();
        let seen = mounts[1].sh("ls -l > /dev/null; stat -c '%a %u %g %Y' x");
        assert_eq!(seen, "750 3 4 1580608922\n");
    }
    // What is changed there is changed of what is there now, also where it was not seen yet.
    mounts[0].sh("chown 5:6 x");
    sleep(Duration::from_millis(1100));
    mounts[1].sh("chmod 700 x");
    past();
    assert_eq!(mounts[0].sh("stat -c '%a %u %g %Y' x"), "700 5 6 1580608922\n");
}

#[test]
fn a_directory_made_anew_says_anew_since_when_its_objects_have_attributes() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "1s"]);
    let unusual = "for n in 1 2 3; do echo x > d/f$n; done; chmod 600 d/f1";
    let says = || site.metadata("d/").contains_key("pailfs-attrs");
    mount.sh(&format!("mkdir d; {unusual}"));
    assert!(says());
    for gone in ["rm -r d", "mv d dold"] {
        mount.sh(&format!("{gone}; mkdir d"));
        assert!(!says(), "{gone}: a new marker");
        mount.sh(unusual);
        assert!(says(), "{gone}");
    }
    // Another client removes the marker alone.
    site.delete("d/");
    sleep(Duration::from_millis(1200));
    mount.sh("chmod 640 d/f2");
    assert!(says(), "the marker alone was removed");
    let fresh = site.mount(&[]);
    assert_eq!(fresh.sh("stat -c %a d/f1 d/f2 d/f3"), "600\n640\n644\n");
}

/// Whoever looks sees the time at which the bytes were written, whatever has been copied since.
#[test]
fn what_is_moved_or_given_an_attribute_keeps_its_time() {
    let site = Site::start();
    for key in ["tagged/f", "tagged/class", "from/f", "tree/f", "tree/below/f", "marked/", "marked/f", "marked/g"] {
        site.put(key, if key.ends_with('/') { "" } else { "x" });
        age(&site, key);
    }
    let mount = site.mount(&[]);
    let times = |mount: &Mount| mount.sh("find . -type f -printf '%P %T@\\n' | sort");
    mount.sh("mkdir to && echo x > to/new && mv to/new to/saved");
    assert!(!site.metadata("to/").contains_key("pailfs-attrs"), "who saves under another name makes nothing unusual");
    let before = times(&mount);
    mount.sh("setfattr -n user.a -v b tagged/f && setfattr -n user.s3.storage-class -v STANDARD_IA tagged/class");
    mount.sh("mv from/f to/f && mv tree moved && mv marked other && setfattr -n user.a -v b other");
    let renamed = before.replace("from/f ", "to/f ").replace("tree/", "moved/").replace("marked/", "other/");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with("to/saved ")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&times(&mount)), sorted(&renamed));
    for directory in ["tagged/", "to/", "other/"] {
        assert!(site.metadata(directory).contains_key("pailfs-attrs"), "{directory}: others need not guess");
    }
    let elsewhere = site.mount(&[]);
    assert_eq!(sorted(&times(&elsewhere)), sorted(&renamed));
    let dates = "stat -c %Y other";
    assert_eq!(elsewhere.sh(dates), mount.sh(dates));
    // A new content has a new time again.
    elsewhere.sh("echo more >> to/f && echo y > other/f");
    again(&site, &mount, &[]);
    let recent = mount.sh("find . -type f -mmin -60 -printf '%P\\n' | sort");
    assert_eq!(recent, "other/f\nto/f\nto/saved\n");
}
