//! Bad input by the dozen, through the kernel: each is refused with the right errno and an explanation that names what is
//! wrong, and nothing on the server is another thing afterwards.

use std::fs;

use pailfs::store::{
    BucketName, BucketService as _, ConfigKind, HeadObject, Key, Metadata, ObjectRef, ObjectStore as _, Properties, Resource,
    Subresource,
};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::support::{BUCKET, Mount, Site};

/// All that the server has of the object and of the bucket, as text.
fn everything(site: &Site) -> String {
    let bucket = BucketName::new(BUCKET).unwrap();
    let object = ObjectRef::current(bucket.clone(), Key::new("f").unwrap());
    let memory = site.server.memory();
    site.block_on(async {
        let mut info = memory.head(&HeadObject { object: object.clone() }).await.unwrap();
        info.as_of = None;
        let mut text = format!("{info:?}\n");
        for subresource in [Subresource::Acl, Subresource::Tagging] {
            let resource = Resource::from(object.clone());
            text.push_str(&format!("{:?}\n", memory.get_document(&resource, subresource).await.unwrap()));
        }
        let configurations = [
            ConfigKind::Cors,
            ConfigKind::Lifecycle,
            ConfigKind::Policy,
            ConfigKind::Versioning,
            ConfigKind::OwnershipControls,
            ConfigKind::PublicAccessBlock,
        ];
        let of_bucket = [Subresource::Acl, Subresource::Tagging].into_iter().chain(configurations.map(Subresource::Config));
        for subresource in of_bucket {
            let resource = Resource::from(bucket.clone());
            text.push_str(&format!("{:?}\n", memory.get_document(&resource, subresource).await.unwrap()));
        }
        text
    })
}

fn prepared(site: &Site) -> Mount {
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "content").unwrap();
    mount
        .sh("setfattr -n user.s3.tags -v colour=blue f && setfattr -n user.s3.acl -v public-read f && setfattr -n user.a -v b f");
    mount.sh(r#"setfattr -n user.s3.cors -v '{"CORSRules":[{"AllowedMethods":["GET"],"AllowedOrigins":["*"]}]}' ."#);
    mount
}

#[test]
fn what_is_set_wrongly_changes_nothing_and_says_why() {
    let site = Site::start();
    let mount = prepared(&site);
    let before = everything(&site);
    let long = "v".repeat(3 << 10);
    let many = (0..11).map(|n| format!("t{n}=x")).collect::<Vec<_>>().join("\n");
    let no_days = r#"{"Rules":[{"Status":"Enabled","Filter":{},"Transitions":[{"StorageClass":"GLACIER"}]}]}"#;
    let no_filter = r#"{"Rules":[{"Status":"Enabled","Expiration":{"Days":1}}]}"#;
    let fetch = r#"{"CORSRules":[{"AllowedMethods":["GET","FETCH"],"AllowedOrigins":["*"]}]}"#;
    // The place, the name, the value, the errno, and what the explanation has in it.
    let table: &[(&str, &str, &str, Errno, &str)] = &[
        ("f", "user.s3.acl", "public", Errno::INVAL, "public-read"),
        ("f", "user.s3.acl", "", Errno::INVAL, "private"),
        ("f", "user.s3.acl", "READ", Errno::INVAL, "READ"),
        ("f", "user.s3.acl.grant", "READ mail=foo@bar.com", Errno::INVAL, "email="),
        ("f", "user.s3.acl.grant", "LOOK email=foo@bar.com", Errno::INVAL, "LOOK"),
        ("f", "user.s3.acl.grant", "READ id=", Errno::INVAL, "id="),
        ("f", "user.s3.acl.grant", "READ email=nobody", Errno::INVAL, "nobody"),
        ("f", "user.s3.acl.grant", "READ group=Everybody", Errno::INVAL, "roup"),
        (".", "user.s3.acl", "open", Errno::INVAL, "public-read"),
        ("f", "user.s3.restore", "0", Errno::INVAL, "'0' is not a number of days"),
        ("f", "user.s3.restore", "-1", Errno::INVAL, "'-1' is not a number of days"),
        ("f", "user.s3.restore", "1e9", Errno::INVAL, "'1e9' is not a number of days"),
        ("f", "user.s3.restore", "5,Fast", Errno::INVAL, "'Fast' is not a tier"),
        ("f", "user.s3.restore", "5", Errno::INVAL, "class"),
        ("f", "user.s3.tags", "=x", Errno::INVAL, "tag"),
        ("f", "user.s3.tags", &many, Errno::INVAL, "10"),
        ("f", "user.s3.tag.a", &long, Errno::INVAL, "256"),
        (".", "user.s3.cors", "{", Errno::INVAL, "line 1 column 1"),
        (".", "user.s3.cors", r#"{"CORSRules":[{"#, Errno::INVAL, "column 15"),
        (".", "user.s3.cors", fetch, Errno::INVAL, "CORSRules[0].AllowedMethods[1] is 'FETCH'"),
        (".", "user.s3.cors", "<CORSConfiguration>", Errno::INVAL, "XML"),
        (".", "user.s3.lifecycle", no_days, Errno::INVAL, "Rules[0].Transitions[0] must have either Days or Date"),
        (".", "user.s3.lifecycle", no_filter, Errno::INVAL, "Rules[0].Filter must be there"),
        (".", "user.s3.policy", r#"{"Statement":[{"Effect":"Maybe"}]}"#, Errno::INVAL, "Statement[0].Effect"),
        (".", "user.s3.versioning", "On", Errno::INVAL, "Enabled"),
        (".", "user.s3.object-ownership", "Mine", Errno::INVAL, "BucketOwnerEnforced"),
        (".", "user.s3.location", "EU", Errno::PERM, "a bucket stays where it was made"),
        (".", "user.s3.uploads", "x", Errno::PERM, "read-only"),
        ("f", "user.s3.cors", "{}", Errno::NODATA, "bucket"),
        ("f", "user.s3.etag", "x", Errno::PERM, "read-only"),
        ("f", "user.s3.size", "1", Errno::PERM, "read-only"),
        ("f", "user.s3.lock.mode", "GOVERNANCE", Errno::PERM, "read-only"),
        ("f", "user.s3.presigned-url", "x", Errno::PERM, "read-only"),
        (".", "user.s3.storage-class", "GLACIER", Errno::PERM, "only a file"),
        (".", "user.s3.content-type", "text/x", Errno::PERM, "only a file"),
        ("f", "user.s3.nothing", "x", Errno::NODATA, "no such attribute"),
        ("f", "user.pailfs.nothing", "x", Errno::NODATA, "no such attribute"),
        ("f", "user.s3.meta.mode", "x", Errno::PERM, "chmod"),
        ("f", "user.s3.meta.file-owner", "0", Errno::PERM, "chmod"),
        ("f", "user.s3.meta.pailfs-commit", "0", Errno::PERM, "chmod"),
        ("f", "user.s3.meta.UPPER", "x", Errno::INVAL, "name"),
        ("f", "user.s3.meta.a b", "x", Errno::INVAL, "name"),
        ("f", "user.big", &long, Errno::NOSPC, "2,048"),
        ("f", "user.s3.storage-class", "gold", Errno::INVAL, "STANDARD"),
        ("f", "user.s3.storage-class", "", Errno::INVAL, "STANDARD"),
        ("f", "user.s3.content-type", "", Errno::INVAL, "text/plain"),
        ("f", "user.s3.content-type", &long, Errno::INVAL, "1,024"),
        ("f", "user.s3.cache-control", "a\nb", Errno::INVAL, "printable"),
        ("f", "user.s3.website-redirect", "other", Errno::INVAL, "begins with /"),
        ("f", "user.s3.expires", "tomorrow", Errno::INVAL, "Sat, 21 Dec 2030 00:00:00 GMT"),
        ("f", "user.s3.expires", "2030-12-21", Errno::INVAL, "Sat, 21 Dec 2030 00:00:00 GMT"),
    ];
    for (place, name, value, errno, told) in table {
        let _ = rustix::fs::removexattr(mount.at(place), "user.s3.error");
        let set = rustix::fs::setxattr(mount.at(place), *name, value.as_bytes(), XattrFlags::empty());
        assert_eq!(set, Err(*errno), "{name}={value}");
        let error = mount.sh(&format!("getfattr -n user.s3.error --only-values {place}"));
        assert!(error.contains(told), "{name}={value}: {error}");
        let why = mount.why(place);
        assert!(why.contains(told) && why.contains("setxattr"), "{name}={value}: {why}");
        assert_eq!(everything(&site), before, "{name}={value}");
    }
    assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "content");
}

#[test]
fn what_cannot_be_removed_stays() {
    let site = Site::start();
    let mount = prepared(&site);
    let before = everything(&site);
    for (place, name, errno) in [
        ("f", "user.s3.etag", Errno::PERM),
        ("f", "user.s3.storage-class", Errno::PERM),
        ("f", "user.s3.meta.mode", Errno::PERM),
        ("f", "user.nothing", Errno::NODATA),
        ("f", "user.s3.cache-control", Errno::NODATA),
        ("f", "user.s3.tag.nothing", Errno::NODATA),
        ("f", "user.s3.location", Errno::NODATA),
        (".", "user.s3.location", Errno::PERM),
        (".", "user.s3.lifecycle", Errno::NODATA),
    ] {
        assert_eq!(rustix::fs::removexattr(mount.at(place), name), Err(errno), "{name}");
        assert_eq!(everything(&site), before, "{name}");
    }
}

#[test]
fn what_has_no_room_in_the_metadata_is_no_space_and_says_why() {
    let site = Site::start();
    let metadata = Metadata::from([("a".to_owned(), "x".repeat(2040))]);
    site.put_with("f", "content", Properties { metadata, ..Properties::default() });
    let mount = site.mount(&[]);
    for change in ["chmod 600 f", "touch -d 2020-01-01 f", "mv f g", "printf more | dd of=f oflag=append conv=notrunc"] {
        let _ = rustix::fs::removexattr(mount.at("f"), "user.s3.error");
        assert!(mount.sh_fails(change).contains("No space left"), "{change}: {}", mount.failures());
        let why = mount.why("f");
        assert!(why.contains("2,048") && why.contains("setfattr -x"), "{change}: {why}");
    }
    // What was appended is not lost: it waits for room.
    assert_eq!(mount.sh("setfattr -x user.a f && mv f g && cat g"), "contentmore");
    assert_eq!(site.get("g").as_deref(), Some(&b"contentmore"[..]));
}

#[test]
fn why_says_what_helps_and_forgets_it_when_it_is_told_to() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("echo cold > f && setfattr -n user.s3.storage-class -v GLACIER f && setfattr -n user.s3.restore -v 2 f");
    crate::support::eventually("it is restored", || mount.sh("getfattr -n user.s3.restore --only-values f").starts_with("until"));
    for change in ["chmod 600 f", "setfattr -n user.a -v b f", "mv f g", "cp f copy", "echo more >> f"] {
        let _ = rustix::fs::removexattr(mount.at("f"), "user.s3.error");
        let done = mount.try_sh(change);
        let why = mount.why("f");
        assert!(done.status.success() || why.contains("restored") && why.contains("-v STANDARD"), "{change}: {done:?} {why}");
        assert!(!why.contains("restore it first"), "{change}: {why}");
    }
    mount.sh_fails("chmod 600 f");
    assert!(mount.why("f").contains("setattr"));
    mount.sh("setfattr -x user.s3.error f");
    assert_eq!(mount.why("f"), "");
    assert!(mount.sh_fails("getfattr -n user.s3.error f").contains("No such attribute"));
    assert!(mount.sh_fails("setfattr -x user.s3.error f").contains("No such attribute"));
}

#[test]
fn a_reader_who_has_heard_enough_is_no_failure() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh_fails("rmdir nothing");
    let path = mount.path.to_str().unwrap();
    for command in [&["help"][..], &["help", "xattrs"], &["status", path], &["why", "--json", path]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut pailfs = std::process::Command::new(env!("CARGO_BIN_EXE_pailfs"));
        let output = pailfs.args(command).stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("panicked") && !said.contains("print"), "{command:?}: {said}");
    }
}
