//! Extended attributes through the kernel, with the tools that people use.

use std::fs;
use std::path::Path;

use pailfs::devserver::{ACCESS_KEY, SECRET_KEY};
use pailfs::store::{BucketName, HeadObject, Headers, Key, ObjectRef, ObjectStore as _, Properties};
use rustix::fs::XattrFlags;

use crate::support::{BUCKET, Mount, Site};

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn get(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::getxattr(path, name, &mut value).unwrap();
    value.truncate(length);
    value
}

fn names(path: &Path) -> Vec<String> {
    let mut list = vec![0; 64 << 10];
    let length = rustix::fs::listxattr(path, &mut list).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    names.sort();
    names
}

/// Names and values that a local file system keeps, and S3 only in some disguise.
const ODD: [(&str, &[u8]); 10] = [
    ("user.plain", b"value"),
    ("user.Upper_Case", b"x"),
    ("user.mode", b"no mode"),
    ("user.file-owner", b"nobody"),
    ("user.per%cent", b"100%"),
    ("user.gr\u{fc}n", "wörld".as_bytes()),
    ("user.lines", b"one\ntwo\r\n"),
    ("user.spaces", b"  both  "),
    ("user.binary", b"\x00\xff\xfe"),
    ("user.word", b"=?UTF-8?B?Zg==?="),
];

#[test]
fn every_user_attribute_comes_back_also_from_the_store() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "content").unwrap();
    fs::create_dir(mount.at("d")).unwrap();
    let mount = {
        for place in ["f", "d"] {
            for (name, value) in ODD {
                set(&mount.at(place), name, value);
            }
        }
        mount.unmount();
        site.mount(&[])
    };
    let mut expected: Vec<String> = ODD.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    for place in ["f", "d"] {
        assert_eq!(names(&mount.at(place)), expected, "{place}");
        for (name, value) in ODD {
            assert_eq!(get(&mount.at(place), name), value, "{place} {name}");
        }
    }
    assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "content");
    assert_eq!(mount.sh("stat -c %a f"), "644\n");
    for (name, _) in ODD {
        rustix::fs::removexattr(mount.at("f"), name).unwrap();
    }
    assert_eq!(names(&mount.at("f")), Vec::<String>::new());
}

#[test]
fn an_empty_value_is_a_value() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "x").unwrap();
    set(&mount.at("f"), "user.empty", b"");
    assert_eq!((names(&mount.at("f")), get(&mount.at("f"), "user.empty")), (vec!["user.empty".to_owned()], Vec::new()));
}

/// `user.NAME` and the headers go to a local disk and back without a word, and a second time changes nothing.
#[test]
fn copying_tools_carry_attributes_there_and_back() {
    let site = Site::start();
    let (mount, local) = (site.mount(&[]), Mount::place());
    let tree = local.at("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("f.txt"), "text").unwrap();
    fs::create_dir(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/g"), "more").unwrap();
    for place in ["f.txt", "sub", "sub/g"] {
        set(&tree.join(place), "user.colour", b"blue");
        set(&tree.join(place), "user.Odd_Name", b"a\nb");
    }
    // In another second than now: rsync compares whole ones.
    local.sh("find tree -exec touch -d '2020-02-03 04:05:06.789' {} +");
    let shown = |root: &Path| {
        local.sh(&format!(
            "cd '{}' && getfattr -dR -m '^user\\.' . && find . -printf '%P %m %TY%Tm%Td%TH%TM%TS\\n' | sort",
            root.display()
        ))
    };
    let silent = |script: String| {
        let said = local.sh(&format!("{{ {script}; }} 2>&1"));
        assert_eq!(said, "", "{script}");
    };
    let (from, to) = (tree.display(), mount.path.display());
    silent(format!("cp -a '{from}' '{to}/cp'"));
    silent(format!("rsync -aX '{from}/' '{to}/rsync'"));
    silent(format!(
        "mkdir '{to}/tar' && tar --xattrs -C '{from}' -cf - . | tar --xattrs --xattrs-include='user.*' -C '{to}/tar' -xpf -"
    ));
    for how in ["cp", "rsync", "tar"] {
        assert_eq!(shown(&mount.at(how)), shown(&tree), "{how}");
        silent(format!("cp -a '{to}/{how}' '{}/{how}'", local.path.display()));
        assert_eq!(shown(&local.at(how)), shown(&tree), "back from {how}");
    }
    let changed = local.sh(&format!("rsync -aXi '{from}/' '{to}/rsync'"));
    assert_eq!(changed, "", "a second rsync changes nothing");
    local.sh("rm -r tree cp rsync tar");
}

#[test]
fn headers_and_class_are_set_listed_and_dropped() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f.txt"), "x").unwrap();
    let headers = [
        ("user.s3.cache-control", "max-age=60"),
        ("user.s3.content-disposition", "attachment"),
        ("user.s3.content-encoding", "gzip"),
        ("user.s3.content-language", "en"),
        ("user.s3.content-type", "text/x"),
        ("user.s3.expires", "Sat, 21 Dec 2030 00:00:00 GMT"),
        ("user.s3.website-redirect", "/other"),
    ];
    mount.sh("chmod 600 f.txt && setfattr -n user.keep -v me f.txt");
    for (name, value) in headers {
        set(&mount.at("f.txt"), name, value.as_bytes());
    }
    set(&mount.at("f.txt"), "user.s3.storage-class", b"STANDARD_IA");
    mount.unmount();
    let mount = site.mount(&[]);
    for (name, value) in headers {
        assert_eq!(get(&mount.at("f.txt"), name), value.as_bytes(), "{name}");
    }
    let mut expected: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    expected.insert(0, "user.keep");
    assert_eq!(names(&mount.at("f.txt")), expected);
    assert_eq!(mount.sh("getfattr -n user.s3.storage-class --only-values f.txt && stat -c ' %a' f.txt"), "STANDARD_IA 600\n");
    for (name, _) in headers {
        rustix::fs::removexattr(mount.at("f.txt"), name).unwrap();
    }
    assert_eq!(names(&mount.at("f.txt")), ["user.keep"]);
    assert_eq!(mount.sh("getfattr -n user.s3.url --only-values f.txt"), "s3://bucket/f.txt");
}

#[test]
fn an_archived_object_comes_back_into_a_class_after_its_restore() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "cold").unwrap();
    set(&mount.at("f"), "user.s3.storage-class", b"GLACIER");
    assert!(mount.sh_fails("setfattr -n user.s3.storage-class -v STANDARD f").contains("Object is remote"));
    assert!(mount.sh_fails("setfattr -n user.colour -v blue f").contains("Object is remote"));
    assert!(mount.why("f").contains("user.s3.restore"), "{}", mount.why("f"));
    mount.sh("setfattr -n user.s3.restore -v 2 f");
    crate::support::eventually("it is restored", || mount.sh("getfattr -n user.s3.restore --only-values f").starts_with("until"));
    assert!(mount.sh_fails("setfattr -n user.colour -v blue f").contains("Object is remote"));
    mount.sh("setfattr -n user.s3.storage-class -v STANDARD f && setfattr -n user.colour -v blue f");
    assert_eq!(mount.sh("getfattr -n user.s3.restore --only-values f && cat f"), "not-archivedcold");
}

#[test]
fn setting_an_attribute_of_a_known_file_is_one_copy() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "1h"]);
    mount.sh("echo x > f && setfattr -n user.a -v 1 f");
    // Known for longer than any window in which it would be believed without asking.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    site.server.reset_counters();
    mount.sh("setfattr -n user.b -v 2 f");
    assert_eq!((site.count("CopyObject"), site.count("HeadObject")), (1, 0), "{:?}", site.server.counters());
    mount.sh("ls -l > /dev/null");
    site.server.reset_counters();
    assert_eq!(mount.sh("getfattr -n user.s3.storage-class --only-values f"), "STANDARD");
    assert_eq!(site.server.counters().operations.values().sum::<u64>(), 0, "{:?}", site.server.counters());
    assert_eq!(mount.sh("getfattr -n user.a --only-values f && getfattr -n user.b --only-values f"), "12");
}

#[test]
fn a_tree_is_restored_by_one_command_and_again_only_what_is_missing() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("mkdir -p d/sub && for i in 1 2 3 4 5; do echo $i > d/f$i; echo $i > d/sub/g$i; done && echo w > d/warm");
    mount.sh("setfattr -n user.s3.storage-class -v GLACIER d/f* d/sub/g* && chmod 555 d");
    let restore = |extra: &[&str]| {
        let output = mount.pailfs(&[&["restore", mount.at("d").to_str().unwrap(), "--days", "2"], extra].concat());
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(restore(&[]), (true, "10 requested, 0 under way, 0 there, 1 not archived, 0 failed\n".into(), String::new()));
    let (success, said, _) = restore(&["--wait"]);
    assert!(success && said.ends_with("1 not archived, 0 failed\n") && said.starts_with("0 requested"), "{said}");
    assert_eq!(restore(&[]), (true, "0 requested, 0 under way, 10 there, 1 not archived, 0 failed\n".into(), String::new()));
    assert_eq!(mount.sh("cat d/f2 d/sub/g5"), "2\n5\n");
    assert_eq!(site.count("RestoreObject"), 10);
    let (success, _, said) = {
        let output = mount.pailfs(&["restore", mount.at("nothing").to_str().unwrap(), "--days", "1"]);
        (output.status.success(), output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    assert!(!success && said.contains("nothing: No such file"), "{said}");
}

#[test]
fn opening_an_archived_object_asks_for_its_restore_where_the_mount_says_so() {
    let site = Site::start();
    let mount = site.mount(&["--auto-restore", "3", "--auto-restore-limit", "6"]);
    for name in ["a", "b"] {
        fs::write(mount.at(name), "cold").unwrap();
        set(&mount.at(name), "user.s3.storage-class", b"GLACIER");
    }
    assert!(mount.sh_fails("cat a").contains("Object is remote"));
    assert!(mount.why("a").contains("for 3 days was asked for"), "{}", mount.why("a"));
    assert!(mount.sh_fails("cat b").contains("Object is remote"));
    assert!(mount.why("b").contains("--auto-restore-limit is used up"), "{}", mount.why("b"));
    assert_eq!(site.count("RestoreObject"), 1);
    crate::support::eventually("it can be read", || mount.try_sh("cat a").stdout == b"cold");
}

#[test]
fn incomplete_uploads_are_listed_and_aborted() {
    let site = Site::start();
    for key in ["logs/a", "logs/b", "other/c"] {
        site.begin_upload(key, &vec![0; 5 << 20]);
    }
    let keys = Mount::place();
    let file = keys.at("keys");
    fs::write(&file, format!("{}:{}\n", ACCESS_KEY, SECRET_KEY)).unwrap();
    keys.sh("chmod 600 keys");
    let uploads = |action: &str, of: &[&str]| {
        let endpoint = site.server.endpoint();
        let store = ["--endpoint-url", &endpoint, "--credentials-file", file.to_str().unwrap()];
        let output = keys.pailfs(&[&["uploads", action], of, &store[..]].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = uploads("list", &["bucket"]);
    assert_eq!(listed.lines().count(), 3);
    assert!(listed.lines().all(|line| line.split('\t').nth(1) == Some("5242880")), "{listed}");
    assert_eq!(uploads("abort", &["bucket", "--older-than", "2d"]), "0 aborted, which kept 0 bytes\n");
    assert_eq!(uploads("abort", &["s3://bucket/logs"]), "2 aborted, which kept 10485760 bytes\n");
    let left = uploads("list", &["bucket", "--json"]);
    assert!(left.lines().count() == 1 && left.contains("\"key\":\"other/c\""), "{left}");
    keys.sh("rm keys");
}

#[test]
fn metadata_that_nobody_set_goes_back_as_it_came() {
    let site = Site::start();
    let values = [
        // Behind a plain word: the embedded server's parser refuses a lone one of another charset than UTF-8.
        ("latin", "x =?ISO-8859-1?Q?gr=FC=DF?=", "x grüß"),
        ("mixed", "abc =?UTF-8?B?w7xu?= def", "abc ün def"),
        ("quoted", "=?UTF-8?Q?gr=C3=BC?=", "grü"),
    ];
    let metadata = values.map(|(name, value, _)| (name.to_owned(), value.to_owned())).into();
    let headers = Headers { content_disposition: Some("a; filename=\"=?UTF-8?Q?=C3=BC?=\"".to_owned()), ..Headers::default() };
    site.put_with("f", "x", Properties { metadata, headers: headers.clone(), ..Properties::default() });
    let mount = site.mount(&[]);
    mount.sh("chmod 600 f && echo y >> f && mv f g && setfattr -n user.other -v '=?x?=' g && chmod 640 g");
    for (name, _, shown) in values {
        assert_eq!(get(&mount.at("g"), &format!("user.{name}")), shown.as_bytes());
    }
    assert_eq!(get(&mount.at("g"), "user.other"), b"=?x?=");
    let object = ObjectRef::current(BucketName::new(BUCKET).unwrap(), Key::new("g").unwrap());
    let info = site.block_on(site.server.memory().head(&HeadObject { object })).unwrap();
    for (name, value, _) in values {
        assert_eq!(info.properties.metadata[name], value);
    }
    assert_eq!(info.properties.headers.content_disposition, headers.content_disposition);
}
