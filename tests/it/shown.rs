//! Attributes as they are shown and kept: at once after what changes them, by what the object itself says once it is open,
//! under options that override them, and with `--attrs listing`.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use pailfs::store::{ObjectInfo, Properties};

use crate::support::{Mount, Site};

/// As another user, in the mount.
const OTHER: &str = "setpriv --reuid=1001 --regid=1001 --clear-groups";

fn put(site: &Site, key: &str, body: &str, metadata: &[(&str, &str)]) {
    let metadata: BTreeMap<String, String> =
        metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    site.put_with(key, body, Properties { metadata, ..Properties::default() });
    site.date(key, SystemTime::now() - Duration::from_secs(3600));
}

fn is_like(info: &ObjectInfo, expected: &[(&str, &str)]) -> bool {
    expected.iter().all(|(name, value)| info.properties.metadata.get(*name).is_some_and(|there| there == value))
}

const PRIVATE: [(&str, &str); 4] = [("mode", "33152"), ("uid", "1000"), ("gid", "1001"), ("atime", "7")];

#[test]
fn a_write_takes_setuid_away_at_once() {
    let site = Site::start();
    let mount = site.mount(&["--allow-other", "--ttl", "60s"]);
    for (number, how) in [
        "echo y >> F",
        "echo y > F",
        ": > F",
        "dd if=/dev/zero of=F bs=1 count=1 conv=notrunc status=none",
        "truncate -s 1 F",
        "fallocate -l 100 F",
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("f{number}");
        mount.sh(&format!("echo x > {file} && chmod 6777 {file} && stat -c %a {file}"));
        mount.sh(&format!("{OTHER} sh -c '{}'", how.replace('F', &file)));
        assert_eq!(mount.sh(&format!("stat -c %a {file}")), "777\n", "{how}");
    }
}

#[test]
fn what_is_open_shows_what_its_object_says() {
    let site = Site::start();
    for number in 0..61 {
        // By its date it is not one of the sample.
        let (key, metadata) = (format!("d/{number:02}"), if number == 10 { &PRIVATE[..] } else { &[] });
        put(&site, &key, "secret", metadata);
        let date = SystemTime::now() - Duration::from_secs(10_000 - number * 10);
        site.date(&key, date);
    }
    let mount = site.mount(&["--allow-other", "--ttl", "60s"]);
    let listed = mount.sh("ls -l d | grep 10$");
    assert!(listed.starts_with("-rw-r--r--"), "the sample is another one, this proves nothing: {listed}");
    let open = "import os; fd = os.open('d/10', 0); stat = os.fstat(fd); print(oct(stat.st_mode), stat.st_uid, stat.st_gid)";
    assert_eq!(mount.sh(&format!("python3 -c \"{open}\"")), "0o100600 1000 1001\n");
    mount.sh("cp -p d/10 copy");
    assert_eq!(mount.sh("stat -c '%a %u %g' d/10 copy"), "600 1000 1001\n".repeat(2));
    assert!(is_like(&site.head("copy"), &PRIVATE[..3]));
}

#[test]
fn a_directory_keeps_the_time_of_what_has_happened_in_it() {
    let site = Site::start();
    put(&site, "theirs/f", "x", &[]);
    let mount = site.mount(&["--ttl", "1s"]);
    let times = |mount: &Mount| mount.sh("stat -c '%n %.9Y %.9Z' made set theirs untouched");
    mount.sh("mkdir made set untouched && touch -d @1000000000 set && ls theirs");
    sleep(Duration::from_millis(1100));
    mount.sh("echo x > made/f && echo x > set/f && rm theirs/f && echo x > theirs/g");
    let before = times(&mount);
    assert!(!before.contains("1000000000"), "{before}");
    for _ in 0..2 {
        sleep(Duration::from_millis(1100));
        mount.sh("ls made set theirs > /dev/null");
        assert_eq!(times(&mount), before);
    }
    // What another mount sets counts.
    let other = site.mount(&[]);
    other.sh("touch -d @1100000000 made && chmod 700 set");
    sleep(Duration::from_millis(1100));
    assert_eq!(mount.sh("stat -c '%Y' made && stat -c '%a' set"), "1100000000\n700\n");
}

#[test]
fn owner_and_umask_of_the_mount_are_shown_for_all_and_what_was_set_is_kept() {
    let site = Site::start();
    put(&site, "old", "x", &[("mode", "33261"), ("uid", "7"), ("gid", "8")]);
    let mount = site.mount(&["--allow-other", "--uid", "1001", "--gid", "1002", "--umask", "077"]);
    mount.sh("mkdir d && echo x > new && echo x > set && chmod 777 set && chown 5:6 set && echo more >> old && ln -s new link");
    let shown = |mount: &Mount| mount.sh("stat -c '%n %a %u %g' d new set old link");
    let expected = "d 700 1001 1002\nnew 600 1001 1002\nset 700 1001 1002\nold 700 1001 1002\nlink 777 1001 1002\n";
    assert_eq!(shown(&mount), expected);
    assert!(is_like(&site.head("set"), &[("mode", "33279"), ("uid", "5"), ("gid", "6")]));
    assert!(is_like(&site.head("old"), &[("mode", "33261"), ("uid", "7"), ("gid", "8")]), "{:?}", site.head("old"));
    mount.unmount();
    let other = site.mount(&["--uid", "1001", "--gid", "1002", "--umask", "077"]);
    assert_eq!(shown(&other), expected);
}

#[test]
fn a_mount_that_goes_by_listings_keeps_what_it_does_not_show() {
    let site = Site::start();
    for key in ["append", "over", "cut", "touched", "middle", "owned", "read"] {
        put(&site, key, "secret", &PRIVATE);
    }
    let mount = site.mount(&["--attrs", "listing", "--allow-other", "--ttl", "60s"]);
    site.server.reset_counters();
    assert_eq!(mount.sh("stat -c '%a %u %s' read"), "644 0 6\n");
    assert_eq!(site.count("HeadObject"), 0, "{:?}", site.server.counters());
    mount.sh("echo x >> append && echo x > over && truncate -s 3 cut && touch touched && chown 5 owned");
    mount.sh("printf x | dd of=middle conv=notrunc status=none");
    for key in ["append", "over", "cut", "touched", "middle"] {
        assert!(is_like(&site.head(key), &PRIVATE[..3]), "{key}: {:?}", site.head(key).properties);
    }
    assert!(is_like(&site.head("owned"), &[("mode", "33152"), ("uid", "5"), ("gid", "1001")]));
    // Who may not read it finds out when he opens it.
    assert!(mount.sh_fails(&format!("{OTHER} cat read")).contains("Permission denied"));
    assert_eq!(mount.sh("stat -c '%a %u' read"), "600 1000\n");
}

#[test]
fn a_mount_that_goes_by_listings_destroys_no_links() {
    let site = Site::start();
    let link: [(&str, &str); 2] = [("mode", "41471"), ("symlink-target", "else/where")];
    put(&site, "link", "", &link);
    put(&site, "s3fs", "where", &[("mode", "41471")]);
    put(&site, "pipe", "", &[("mode", "4516")]);
    let mount = site.mount(&["--attrs", "listing", "--allow-other"]);
    for _ in 0..2 {
        assert_eq!(mount.sh("cat link pipe && stat -c '%F %s' link pipe"), "regular empty file 0\n".repeat(2));
        assert_eq!(mount.sh(&format!("{OTHER} cat link s3fs")), "where");
    }
    for change in [
        "chmod 755 link",
        "echo x > link",
        "dd if=/dev/zero of=pipe bs=1 count=1 oflag=append conv=notrunc status=none",
        ": > pipe",
        "truncate -s 1 pipe",
        "echo x > s3fs",
        "touch link",
    ] {
        let failed = mount.sh_fails(change);
        assert!(failed.contains("not supported"), "{change}: {failed}");
    }
    mount.sh("mv link moved && mv moved link && mkdir d && mv link d/link");
    mount.unmount();
    let other = site.mount(&[]);
    assert_eq!(other.sh("readlink d/link s3fs && stat -c %F pipe"), "else/where\nwhere\nfifo\n");
}

#[test]
fn what_is_not_shown_of_a_strangers_mode_stays_stored() {
    let site = Site::start();
    let mount = site.mount(&["--allow-other", "--ttl", "0"]);
    let stored = |key: &str| site.head(key).properties.metadata["mode"].parse::<u32>().unwrap() & 0o7777;
    for (number, (change, left)) in [
        ("touch F", 0o6755),
        ("touch -d @1000000000 F && touch F && mv F G && mv G F", 0o6755),
        ("echo y >> F", 0o6755),
        ("echo y > F", 0o6755),
        ("printf y | dd of=F conv=notrunc status=none", 0o6755),
        ("truncate -s 0 F", 0o6755),
        ("touch F && echo y >> F && touch F", 0o6755),
        ("OTHER sh -c 'echo y >> F'", 0o777),
        ("chown 5 F", 0o755),
        ("chmod 755 F", 0o755),
        ("chmod 4755 F", 0o4755),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("f{number}");
        let mode = if change.starts_with("OTHER") { 0o106_777 } else { 0o106_755_u32 };
        put(&site, &key, "x", &[("mode", &mode.to_string()), ("uid", "0"), ("gid", "0")]);
        let shown = mount.sh(&format!("stat -c %a {key}"));
        assert_eq!(shown, format!("{:o}\n", mode & 0o777), "{change}");
        mount.sh(&change.replace("OTHER", OTHER).replace('F', &key).replace('G', &format!("{key}g")));
        assert_eq!(format!("{:o}", stored(&key)), format!("{left:o}"), "{change}");
        let own = change.starts_with("chmod");
        assert_eq!(mount.sh(&format!("stat -c %a {key}")), format!("{:o}\n", if own { left } else { left & 0o777 }), "{change}");
    }
    // It is the same one, and nobody's word but this mount's now.
    put(&site, "same", "x", &[("mode", &0o104_755_u32.to_string())]);
    assert_eq!(mount.sh("stat -c %a same && chmod 4755 same && stat -c %a same"), "755\n4755\n");
}

#[test]
fn a_new_file_takes_nothing_over_from_what_it_is_renamed_over() {
    let site = Site::start();
    put(&site, "target", "old", &[("mode", "33188"), ("uid", "3"), ("gid", "3"), ("colour", "red")]);
    let mount = site.mount(&["--allow-other"]);
    mount.sh("sh -c 'exec 3>new; echo mine >&3; sleep 1.2; mv new target; sleep 1.2; exec 3>&-'");
    assert_eq!(mount.sh("cat target && stat -c '%u %g' target"), "mine\n0 0\n");
    let metadata = site.head("target").properties.metadata;
    assert!(["uid", "gid", "colour"].iter().all(|name| !metadata.contains_key(*name)), "{metadata:?}");
}

#[test]
fn a_device_stays_what_this_mount_has_made() {
    for attrs in ["auto", "posix"] {
        let site = Site::start();
        let mount = site.mount(&["--attrs", attrs, "--ttl", "1s", "--allow-other"]);
        mount.sh(
            "mkdir d && mknod d/c c 1 3 && mknod d/b b 7 3 && chmod 640 d/c && mkdir e && mknod e/f c 1 5 && echo x > e/plain",
        );
        let stat = |mount: &Mount, directory: &str| mount.sh(&format!("stat -c '%F %t,%T %i %a' {directory}/c {directory}/b"));
        let listed = |mount: &Mount| mount.sh("ls -l e | cut -c 1 | sort | tr -d '\n'");
        let made = stat(&mount, "d");
        assert!(made.starts_with("character special file 1,3 ") && made.contains("\nblock special file 7,3 "), "{made}");
        for directory in ["d", "d", "d2", "d2"] {
            sleep(Duration::from_millis(1100));
            mount.sh(&format!("test {directory} = d || test -d d2 || mv d d2"));
            assert_eq!((stat(&mount, directory), listed(&mount)), (made.clone(), "-ct".to_owned()), "{attrs}");
        }
        mount.sh("mv d2/b e && touch -d @1000000000 e/b e/f");
        sleep(Duration::from_millis(1100));
        assert_eq!(mount.sh("stat -c '%F %t,%T %Y' e/b"), "block special file 7,3 1000000000\n");
        // A stranger's word does not make one more open.
        let mut properties = site.head("d2/c").properties;
        assert_eq!(properties.metadata["mode"], "8608");
        properties.metadata.insert("mode".to_owned(), "8630".to_owned());
        site.put_with("d2/c", "", properties);
        sleep(Duration::from_millis(1100));
        assert_eq!(mount.sh("stat -c %F d2/c"), "regular empty file\n");
    }
}

#[test]
fn a_device_of_somebody_elses_is_not_overwritten_as_a_file() {
    let site = Site::start();
    put(&site, "device", "", &[("mode", "8630"), ("rdev", "259")]);
    let mount = site.mount(&[]);
    assert_eq!(mount.sh("stat -c '%F %s' device && cat device"), "regular empty file 0\n");
    for change in ["echo x > device", ": > device", "truncate -s 1 device", "chmod 600 device", "touch device"] {
        let failed = mount.sh_fails(change);
        assert!(failed.contains("not supported"), "{change}: {failed}");
    }
    assert_eq!(mount.sh("stat -c '%F %s' device"), "regular empty file 0\n");
    mount.sh("mv device moved");
    mount.unmount();
    let other = site.mount(&["--trust-special", "--allow-other"]);
    assert_eq!(other.sh("stat -c '%F %t,%T' moved"), "character special file 1,3\n");
}

/// `rm -r` removes in the order of the inode numbers where there are more than 10,000 names: the directory first, and long after
/// it the object that was beside it.
#[test]
fn an_object_beside_a_removed_directory_keeps_its_name_for_who_has_listed_it() {
    let site = Site::start();
    for number in 0..20 {
        site.put(&format!("t/{number}"), "x");
        site.put(&format!("t/{number}/below"), "x");
    }
    let mount = site.mount(&["--ttl", "1s"]);
    mount.sh("ls -l t > /dev/null && rm -r $(seq -f t/%.0f 0 19)");
    sleep(Duration::from_millis(1200));
    mount.sh("rm $(seq -f t/%.0f%%00 0 9) && mv t/10%00 t/moved && rm t/11 && cat t/12%00 t/13");
    assert!(mount.sh_fails("cat t/10%00").contains("No such file"));
    assert!(mount.sh_fails("cat t/11%00").contains("No such file"));
    mount.sh("rm -r t");
    assert!(site.keys().is_empty(), "{:?}", site.keys());
}

#[test]
fn what_stores_attributes_stores_its_time_too() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("(umask 077 && echo x > f)");
    let shown = mount.sh("stat -c %.9Y f");
    assert_eq!(site.head("f").properties.metadata["mtime"], shown.trim());
    mount.sh("echo y >> f");
    assert_ne!(mount.sh("stat -c %.9Y f"), shown, "a new content has a new one");
    assert_eq!(site.head("f").properties.metadata["mtime"], mount.sh("stat -c %.9Y f").trim());
}
