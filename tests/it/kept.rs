//! Documents through the kernel: set with setfattr, seen by another client, and kept by everything that replaces the object.

use std::fs;

use pailfs::store::*;

use crate::support::{BUCKET, Mount, Site};

fn object(key: &str) -> Resource {
    ObjectRef::current(BucketName::new(BUCKET).unwrap(), Key::new(key).unwrap()).into()
}

fn document(site: &Site, resource: &Resource, subresource: Subresource) -> Option<Document> {
    site.block_on(site.server.memory().get_document(resource, subresource)).unwrap()
}

fn grants(site: &Site, key: &str) -> usize {
    match document(site, &object(key), Subresource::Acl) {
        Some(Document::Acl(acl)) => acl.grants.len(),
        other => panic!("{other:?}"),
    }
}

fn tags(site: &Site, key: &str) -> String {
    match document(site, &object(key), Subresource::Tagging) {
        Some(Document::Tags(tags)) => tags.to_header(),
        _ => String::new(),
    }
}

fn value(mount: &Mount, name: &str, file: &str) -> String {
    mount.sh(&format!("getfattr -n {name} --only-values '{file}'"))
}

#[test]
fn access_lists_are_set_read_and_added_to() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "x").unwrap();
    assert_eq!(value(&mount, "user.s3.acl", "f"), "FULL_CONTROL id=pailfs");
    assert_eq!(value(&mount, "user.s3.owner", "f"), "pailfs (pailfs)");
    mount.sh("setfattr -n user.s3.acl -v public-read f");
    mount.sh("setfattr -n user.s3.acl.grant -v 'READ_ACP email=foo@bar.com' f");
    let lines = value(&mount, "user.s3.acl", "f");
    assert!(lines.starts_with("FULL_CONTROL id=pailfs\nREAD group=AllUsers\nREAD_ACP id="), "{lines}");
    mount.sh("setfattr -n user.s3.acl.grant -v 'READ group=AllUsers' f");
    assert_eq!(value(&mount, "user.s3.acl", "f"), lines, "it is there already");
    mount.sh("setfattr -n user.s3.acl -v \"$(printf 'FULL_CONTROL id=pailfs\\nREAD id=abc')\" f");
    assert_eq!(value(&mount, "user.s3.acl", "f"), "FULL_CONTROL id=pailfs\nREAD id=abc");
    mount.sh("setfattr -x user.s3.acl f");
    assert_eq!(value(&mount, "user.s3.acl", "f"), "FULL_CONTROL id=pailfs");
    mount.sh("setfattr -n user.s3.acl -v public-read . && setfattr -n user.s3.acl.grant -v 'WRITE id=abc' .");
    assert_eq!(value(&mount, "user.s3.acl", "."), "FULL_CONTROL id=pailfs\nREAD group=AllUsers\nWRITE id=abc");
    for bad in ["publicread", "READ mail=foo@bar.com", "READ group=Everybody"] {
        assert!(mount.sh_fails(&format!("setfattr -n user.s3.acl -v '{bad}' f")).contains("Invalid argument"), "{bad}");
    }
    assert!(mount.sh_fails("setfattr -n user.s3.acl.grant -v 'READ email=nobody@nowhere' f").contains("Invalid argument"));
    assert!(mount.why("f").contains("does not match any account"), "{}", mount.why("f"));
    assert_eq!(grants(&site, "f"), 1);
}

#[test]
fn a_bucket_without_access_lists_says_so() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "x").unwrap();
    assert!(mount.sh_fails("getfattr -n user.s3.object-ownership .").contains("No such attribute"));
    mount.sh("setfattr -n user.s3.object-ownership -v BucketOwnerEnforced .");
    assert_eq!(value(&mount, "user.s3.object-ownership", "."), "BucketOwnerEnforced");
    assert!(mount.sh_fails("setfattr -n user.s3.acl -v public-read f").contains("not supported"));
    assert!(mount.why("f").contains("disabled"), "{}", mount.why("f"));
    assert!(mount.why("f").contains("user.s3.object-ownership"), "{}", mount.why("f"));
    assert!(!mount.why("f").contains("does not offer"), "{}", mount.why("f"));
    // Nothing is asked about lists that do not count.
    mount.sh("setfattr -n user.a -v 1 f");
    site.server.reset_counters();
    mount.sh("setfattr -n user.b -v 1 f && echo y > f && mv f g");
    let counts = site.server.counters().operations;
    assert!(counts.keys().all(|operation| !operation.contains("Acl") && !operation.contains("Ownership")), "{counts:?}");
}

#[test]
fn tags_one_by_one_and_all_together() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "x").unwrap();
    mount.sh_fails("getfattr -n user.s3.tags f");
    mount.sh("setfattr -n user.s3.tag.colour -v blue f && setfattr -n user.s3.tag.size -v 'very large' f");
    assert_eq!(value(&mount, "user.s3.tags", "f"), "colour=blue\nsize=very large");
    assert_eq!(value(&mount, "user.s3.tag.size", "f"), "very large");
    assert!(mount.sh("getfattr -d -m - f").contains("user.s3.tags"));
    mount.sh("cp --preserve=xattr f g");
    assert_eq!(tags(&site, "g"), "colour=blue&size=very%20large");
    mount.sh("setfattr -x user.s3.tag.colour f");
    assert_eq!(tags(&site, "f"), "size=very%20large");
    mount.sh("setfattr -x user.s3.tags f");
    assert_eq!(tags(&site, "f"), "");
    assert!(mount.sh_fails("setfattr -x user.s3.tags f").contains("No such attribute"));
    let many = (0..11).map(|index| format!("t{index}=x")).collect::<Vec<_>>().join("\\n");
    assert!(mount.sh_fails(&format!("setfattr -n user.s3.tags -v \"$(printf '{many}')\" f")).contains("Invalid argument"));
    mount.sh("setfattr -n user.s3.tags -v team=blue .");
    assert_eq!(value(&mount, "user.s3.tags", "."), "team=blue");
}

/// Each way of replacing an object keeps what a file keeps on a disk.
#[test]
fn everything_that_replaces_an_object_keeps_its_properties() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "0s"]);
    for way in [
        "echo new > f",
        "setfattr -n user.new -v 1 f",
        "chmod 600 f",
        "touch f",
        "mv f x && mv x f",
        "dd if=/dev/zero of=f bs=1M count=20 2>/dev/null",
    ] {
        mount.sh(
            "rm -f f && echo old > f && setfattr -n user.colour -v blue f && setfattr -n user.s3.cache-control -v no-cache f",
        );
        mount.sh("setfattr -n user.s3.storage-class -v STANDARD_IA f && setfattr -n user.s3.acl -v public-read f");
        mount.sh("setfattr -n user.s3.tags -v team=red f");
        mount.sh(way);
        assert_eq!(value(&mount, "user.colour", "f"), "blue", "{way}");
        assert_eq!(value(&mount, "user.s3.cache-control", "f"), "no-cache", "{way}");
        assert_eq!(value(&mount, "user.s3.storage-class", "f"), "STANDARD_IA", "{way}");
        assert_eq!((grants(&site, "f"), tags(&site, "f")), (2, "team=red".to_owned()), "{way}");
    }
    mount.sh("rm f && echo fresh > f");
    assert_eq!((grants(&site, "f"), tags(&site, "f").as_str()), (1, ""), "a new name starts fresh");
}

#[test]
fn what_is_set_while_a_file_is_written_travels_with_it() {
    use std::io::Write as _;
    let site = Site::start();
    let mount = site.mount(&[]);
    // Whether lists count is asked once a bucket.
    fs::write(mount.at("warm"), "x").unwrap();
    mount.sh("setfattr -n user.s3.acl -v private warm");
    let mut file = fs::File::create(mount.at("f")).unwrap();
    file.write_all(b"x").unwrap();
    site.server.reset_counters();
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(mount.at("f"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    set("user.s3.acl", b"public-read");
    set("user.s3.tag.a", b"1");
    set("user.s3.storage-class", b"STANDARD_IA");
    assert_eq!(site.server.counters().operations.values().sum::<u64>(), 0, "{:?}", site.server.counters());
    set("user.s3.acl.grant", b"READ id=abc");
    drop(file);
    crate::support::eventually("the file is stored", || site.get("f").is_some());
    assert_eq!((grants(&site, "f"), tags(&site, "f").as_str()), (3, "a=1"));
    assert_eq!(value(&mount, "user.s3.storage-class", "f"), "STANDARD_IA");
    assert_eq!(site.count("PutObject"), 1);
    assert_eq!(site.count("PutObjectAcl"), 0);
}

#[test]
fn configurations_of_a_bucket_come_and_go() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let cors = r#"{"CORSRules":[{"AllowedMethods":["PUT","GET"],"AllowedOrigins":["https://www.example.com"],"AllowedHeaders":["*"],"MaxAgeSeconds":3000}]}"#;
    let lifecycle = r#"{"Rules":[{"ID":"old","Filter":{"Prefix":"logs/"},"Status":"Enabled","Transitions":[{"Days":30,"StorageClass":"GLACIER"}]}]}"#;
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}"#;
    for (name, text) in [("cors", cors), ("lifecycle", lifecycle), ("policy", policy)] {
        let name = format!("user.s3.{name}");
        assert!(mount.sh_fails(&format!("getfattr -n {name} .")).contains("No such attribute"));
        mount.sh(&format!("setfattr -n {name} -v '{text}' ."));
        let read: serde_json::Value = serde_json::from_str(&value(&mount, &name, ".")).unwrap();
        assert_eq!(read, serde_json::from_str::<serde_json::Value>(text).unwrap());
        mount.sh(&format!(
            "getfattr -n {name} --only-values . > /tmp/$$ && setfattr -n {name} -v \"$(cat /tmp/$$)\" . && rm /tmp/$$"
        ));
        mount.sh(&format!("setfattr -x {name} ."));
        assert!(mount.sh_fails(&format!("setfattr -x {name} .")).contains("No such attribute"));
    }
    mount.sh("setfattr -n user.s3.cors -v '<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>' .");
    assert!(value(&mount, "user.s3.cors", ".").contains("\"AllowedMethods\""));
    assert!(
        mount
            .sh_fails(
                "setfattr -n user.s3.cors -v '{\"CORSRules\":[{\"AllowedMethods\":[\"FETCH\"],\"AllowedOrigins\":[\"*\"]}]}' ."
            )
            .contains("Invalid")
    );
    assert!(mount.why(".").contains("CORSRules[0].AllowedMethods[0] is 'FETCH'"), "{}", mount.why("."));
    assert_eq!(value(&mount, "user.s3.versioning", "."), "Unversioned");
    mount.sh("setfattr -n user.s3.versioning -v Suspended . && mkdir d");
    assert_eq!(value(&mount, "user.s3.versioning", "."), "Suspended");
    assert!(mount.sh_fails("getfattr -n user.s3.cors d").contains("No such attribute"));
    site.begin_upload("d/big", b"x");
    assert!(value(&mount, "user.s3.uploads", ".").ends_with(" d/big"));
    assert!(value(&mount, "user.s3.uploads", "d").ends_with(" d/big"));
    site.server.reset_counters();
    mount.sh("ls -l > /dev/null && getfattr -d -m - d > /dev/null");
    let counts = site.server.counters().operations;
    assert!(counts.keys().all(|operation| !operation.contains("Acl") && !operation.contains("Tagging")), "{counts:?}");
}

#[test]
fn listing_names_as_much_as_was_asked_for() {
    let site = Site::start();
    site.put("f.txt", "x");
    let list = |extra: &[&str]| {
        let mount = site.mount(extra);
        mount.sh("ls > /dev/null");
        site.server.reset_counters();
        let names = mount.sh("getfattr -d -m - f.txt | grep -v '^#' | cut -d= -f1");
        (names, site.count("HeadObject"))
    };
    assert_eq!(list(&["--list-xattrs", "none"]), (String::new(), 0));
    let (names, _) = list(&["--list-xattrs", "all"]);
    assert!(names.contains("user.s3.etag") && names.contains("user.s3.checksum."), "{names}");
}

#[test]
fn new_buckets_are_as_the_mount_was_told() {
    let site = Site::start();
    let mount = Mount::place();
    let extra = ["--object-ownership", "BucketOwnerEnforced"];
    let output = mount.run(&site.server.endpoint(), "s3://", &extra, pailfs::devserver::SECRET_KEY);
    assert!(output.status.success(), "{output:?}");
    mount.sh("mkdir closed && echo x > closed/f");
    assert_eq!(value(&mount, "user.s3.object-ownership", "closed"), "BucketOwnerEnforced");
    assert!(mount.sh_fails("setfattr -n user.s3.acl -v public-read closed/f").contains("not supported"));
}

#[test]
fn an_open_file_that_is_changed_between_two_commits_keeps_its_list_and_tags() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let changes = ["os.fchmod(f.fileno(), 0o640)", "os.setxattr(f.fileno(), 'user.new', b'1')", "os.utime(f.fileno(), (1, 1))"];
    for (number, change) in changes.iter().enumerate() {
        for mode in ["w", "a", "r+"] {
            let name = format!("f{number}{}", mode.len());
            fs::write(mount.at(&name), "x").unwrap();
            mount.sh(&format!("setfattr -n user.s3.acl -v public-read {name} && setfattr -n user.s3.tags -v t=1 {name}"));
            let program = format!(
                "import os\nwith open('{name}', '{mode}') as f:\n  f.write('x'); f.flush(); os.fsync(f.fileno()); {change}; f.write('y')"
            );
            mount.sh(&format!("python3 -c \"{program}\""));
            assert_eq!((tags(&site, &name).as_str(), grants(&site, &name)), ("t=1", 2), "{mode} {change}");
        }
    }
    mount.sh("echo a > p; exec 5> p; setfattr -n user.s3.acl -v public-read p; setfattr -n user.s3.tags -v a=b p; \
              setfattr -n user.m1 -v 1 p; echo z >&5; exec 5>&-");
    assert_eq!((tags(&site, "p").as_str(), grants(&site, "p")), ("a=b", 2));
}

/// What another client sets on a file that stays open is kept by the commits that follow, as it is when the file is closed.
#[test]
fn a_commit_of_a_file_that_stays_open_takes_nothing_back() {
    use std::io::Write as _;
    let site = Site::with_md5_tags();
    let mount = site.mount(&[]);
    let memory = site.server.memory();
    let set = |document: &Document| site.block_on(memory.put_document(&object("f"), document)).unwrap();
    let mut options = fs::OpenOptions::new();
    let modes = [options.write(true).clone(), options.truncate(true).clone(), fs::OpenOptions::new().append(true).clone()];
    for (mode, theirs) in modes.iter().flat_map(|mode| [(mode, true), (mode, false)]) {
        fs::write(mount.at("f"), "x").unwrap();
        mount
            .sh("setfattr -n user.s3.acl -v public-read f && setfattr -n user.s3.tags -v old=1 f && setfattr -n user.own -v 1 f");
        let mut file = mode.open(mount.at("f")).unwrap();
        file.write_all(b"first").unwrap();
        file.sync_all().unwrap();
        if theirs {
            let mut tags = Tags::default();
            tags.set("new", "2");
            set(&Document::Tags(tags));
            let source = ObjectRef::current(BucketName::new(BUCKET).unwrap(), Key::new("f").unwrap());
            let info = site.block_on(memory.head(&HeadObject { object: source.clone() })).unwrap();
            let mut properties = info.properties;
            properties.headers.cache_control = Some("no-store".into());
            properties.metadata.insert("theirs".into(), "3".into());
            properties.metadata.insert("mode".into(), format!("{}", 0o100_640));
            properties.metadata.remove("own");
            // A copy resets the list.
            let copy = CopyObject {
                bucket: source.bucket.clone(),
                key: source.key.clone(),
                source,
                source_if_match: None,
                source_unchanged_since: None,
                replace: Some(properties),
                condition: Condition::None,
            };
            site.block_on(memory.copy(&copy)).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(1100));
        file.write_all(b"second").unwrap();
        for name in ["user.mine", "user.s3.tag.mine"] {
            rustix::fs::fsetxattr(&file, name, b"2", rustix::fs::XattrFlags::empty()).unwrap();
        }
        file.sync_all().unwrap_or_else(|error| panic!("{error}: {}", mount.why("f")));
        assert!(site.get("f").unwrap().ends_with(b"firstsecond"));
        let names = mount.sh("getfattr -d f | grep -v '^#' | sort");
        let (there, gone, documents, mode) = match theirs {
            true => (
                vec!["user.mine=\"2\"", "user.theirs=\"3\"", "user.s3.cache-control=\"no-store\""],
                "user.own",
                ("new=2&mine=2", 1),
                "640",
            ),
            false => (vec!["user.mine=\"2\"", "user.own=\"1\""], "user.theirs", ("old=1&mine=2", 2), "644"),
        };
        assert_eq!((tags(&site, "f").as_str(), grants(&site, "f")), documents, "{names}");
        assert!(there.iter().all(|wanted| names.contains(wanted)) && !names.contains(gone), "{there:?}, no {gone}: {names}");
        assert_eq!(mount.sh("stat -c %a f").trim(), mode);
        mount.sh("rm f");
    }
}

#[test]
fn encryption_is_kept_whoever_has_chosen_it() {
    let site = Site::start();
    let mount = site.mount(&[]);
    for (algorithm, key_id) in [("AES256", None), ("aws:kms", Some("a-key".to_owned()))] {
        let encryption = Some(Encryption { algorithm: algorithm.to_owned(), key_id, bucket_key: None });
        site.put_with("f", "x", Properties { encryption: encryption.clone(), ..Properties::default() });
        for change in ["setfattr -n user.a -v 1 f", "echo more >> f", "chmod 600 f", "echo new > f", "mv f g && mv g f"] {
            mount.sh(change);
            let object = ObjectRef::current(BucketName::new(BUCKET).unwrap(), Key::new("f").unwrap());
            let info = site.block_on(site.server.memory().head(&HeadObject { object })).unwrap();
            let kept = info.properties.encryption.map(|kept| (kept.algorithm, kept.key_id));
            assert_eq!(kept, encryption.clone().map(|told| (told.algorithm, told.key_id)), "{change}");
        }
    }
}
