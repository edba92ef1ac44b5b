//! The mount of an account through the kernel, on the embedded server.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output};

use pailfs::devserver::SECRET_KEY;

use crate::support::{Mount, Site};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn why(mount: &Mount, name: &str) -> String {
    said(&mount.pailfs(&["why", mount.at(name).to_str().unwrap()]))
}

#[test]
fn everyday_work_with_buckets() {
    let site = Site::start();
    let mount = site.mount_source("s3://", &["--ttl", "1s"]);
    let local = Mount::place();
    local.sh("mkdir -p tree/a/b && for n in 1 2 3; do echo $n > tree/a/b/$n; done; : > tree/empty");
    let tree = local.at("tree").display().to_string();
    assert_eq!(mount.sh("ls"), "bucket\n");
    mount.sh("mkdir one two && test \"$(ls)\" = \"$(printf 'bucket\\none\\ntwo')\"");
    mount.sh(&format!("cp -r {tree} one/ && diff -r one/tree {tree}"));
    mount.sh("mv one/tree/a/b/1 two/moved && test \"$(cat two/moved)\" = 1 && test ! -e one/tree/a/b/1");
    mount.sh("mv one/tree two/ && test ! -e one/tree && test \"$(cat two/tree/a/b/3)\" = 3");
    mount.sh("rmdir one && test ! -e one && rm -r two && test \"$(ls)\" = bucket");
    // A directory that is moved to the top becomes a bucket.
    mount.sh("mkdir -p bucket/inner && echo x > bucket/inner/f && mv bucket/inner outer && test \"$(cat outer/f)\" = x");
    assert!(mount.sh_fails("mkdir outer").contains("File exists"));
    assert!(why(&mount, "outer").contains("this account's own"));
    mount.sh("mkdir -p outer");
    assert!(mount.sh_fails("mkdir Bad_Name").contains("Invalid argument"));
    assert!(why(&mount, "Bad_Name").contains("3 to 63 lower-case letters"));
    assert!(mount.sh_fails("echo x > file").contains("not permitted"));
    assert!(why(&mount, "file").contains("only buckets can be here"));
    assert!(mount.sh_fails("mv outer inner").contains("not permitted"));
    assert!(why(&mount, "outer").contains("S3 cannot rename a bucket"));
    assert!(mount.sh_fails("rmdir outer").contains("not empty"));
    assert!(why(&mount, "outer").contains("it holds 'f'"));
    // Of the name the kernel knows by itself that it is taken: whose it is, is told whatever else has failed there.
    assert!(why(&mount, "outer").contains("this account's own"));
    assert!(mount.sh_fails("ls no-such-bucket").contains("No such file"));
    fs::remove_dir_all(tree).unwrap();
    mount.unmount();
}

#[test]
fn what_it_costs_through_the_kernel() {
    let site = Site::start();
    let mount = site.mount_source("s3://", &["--ttl", "60s"]);
    assert_eq!((site.count("ListBuckets"), site.server.counters().requests()), (1, 1), "the check at mount");
    site.server.reset_counters();
    mount.sh("ls -l");
    assert_eq!((site.count("ListBuckets"), site.server.counters().requests()), (1, 1), "{:?}", site.server.counters());
    mount.sh("ls && stat bucket");
    assert_eq!(site.server.counters().requests(), 1, "{:?}", site.server.counters());
    site.server.reset_counters();
    mount.sh("mkdir fresh");
    assert_eq!((site.count("HeadBucket"), site.count("CreateBucket")), (1, 1), "{:?}", site.server.counters());
    assert_eq!(site.server.counters().requests(), 2, "{:?}", site.server.counters());
    site.server.reset_counters();
    // As in a mount of one bucket: HEAD beside LIST, and the PUT; the first in a bucket of an unknown store looks once more.
    mount.sh("echo x > bucket/f");
    assert_eq!(site.server.counters().requests(), 4, "{:?}", site.server.counters());
    mount.unmount();
    let unchecked = Site::start();
    let mount = unchecked.mount_source("s3://", &["--no-check"]);
    assert_eq!(unchecked.server.counters().requests(), 0);
    mount.unmount();
}

#[test]
fn locations_are_set_and_told() {
    let site = Site::start();
    let mount = site.mount_source("s3://", &["--location", "APNortheast"]);
    let location = |of: &str| mount.sh(&format!("getfattr -n user.s3.location --only-values {of}"));
    assert_eq!(location("."), "ap-northeast-1");
    mount.sh("mkdir first && setfattr -n user.s3.location -v EU . && mkdir second");
    mount.sh("setfattr -n user.s3.location -v us-east-1 . && mkdir third");
    assert_eq!([location("first"), location("second"), location("third")], ["ap-northeast-1", "eu-west-1", "us-east-1"]);
    mount.sh("setfattr -x user.s3.location .");
    assert_eq!(location("."), "ap-northeast-1");
    assert!(mount.sh_fails("setfattr -n user.s3.location -v 'a b' .").contains("Invalid argument"));
    assert!(why(&mount, "").contains("is not a location"));
    assert!(mount.sh_fails("setfattr -n user.s3.location -v EU first").contains("not permitted"));
    mount.unmount();
    let single = site.mount(&[]);
    assert_eq!(single.sh("getfattr -n user.s3.location --only-values ."), "us-east-1");
    single.unmount();
}

#[test]
fn a_bucket_is_the_same_after_a_remount() {
    let site = Site::start();
    let look = || {
        let mount = site.mount_source("s3://", &[]);
        let seen = fs::metadata(mount.at("bucket")).unwrap();
        mount.unmount();
        (seen.ino(), seen.mtime(), seen.mode())
    };
    let first = look();
    assert_eq!(first, look());
    assert_eq!(first.2 & 0o7777, 0o755);
}

#[test]
fn the_daemon_answers_on_the_root_of_an_account() {
    let site = Site::start();
    let mount = site.mount_source("s3://", &["--read-only"]);
    assert!(mount.sh_fails("mkdir new-one").contains("Read-only file system"));
    let status = mount.sh("getfattr -n user.pailfs.status --only-values .");
    assert!(status.contains("\"source\":\"s3://\""), "{status}");
    assert!(!mount.daemon().is_empty());
    mount.unmount();
    let mount = site.mount_source("s3://", &[]);
    // What cannot be uploaded is named by its path below the root, and kept with the bucket it belongs to.
    site.server.set_faults("PutObject:*=denied".parse().unwrap());
    assert!(mount.sh_fails("cp /etc/passwd bucket/f").contains("Permission denied"));
    assert!(why(&mount, "bucket/f").contains("PutObject"));
    let path = mount.path.to_str().unwrap();
    let held = said(&mount.pailfs(&["umount", path]));
    assert!(held.contains("/bucket/f (") && mount.is_mounted(), "{held}");
    let forced = said(&mount.pailfs(&["umount", "--force", path]));
    let kept = forced.lines().find(|line| line.contains("/kept/")).unwrap();
    let note = fs::read_to_string(format!("{kept}.json")).unwrap();
    assert!(note.contains("\"bucket\": \"bucket\"") && note.contains("\"key\": \"f\"") && !mount.is_mounted(), "{note}");
}

#[test]
fn refusals_are_clear() {
    let site = Site::start();
    let refused = |source: &str, extra: &[&str], secret: &str| {
        let mount = Mount::place();
        let output = mount.run(&site.server.endpoint(), source, extra, secret);
        assert!(!output.status.success() && !mount.is_mounted());
        said(&output)
    };
    assert!(refused("s3://", &[], "wrong").contains("check access key and secret"));
    assert!(refused("s3://", &["--location", "a b"], SECRET_KEY).contains("is not a location"));
    assert!(refused("bucket", &["--location", "EU"], SECRET_KEY).contains("for the mount of all buckets"));
    assert!(refused("s3:///x", &[], SECRET_KEY).contains("not a bucket name"));
    site.server.set_faults("ListBuckets:*=denied".parse().unwrap());
    assert!(refused("s3://", &[], SECRET_KEY).contains("s3:ListAllMyBuckets"));
    // Another account's: its name is taken, and all that is in it is refused.
    site.server.set_faults("HeadBucket:*=denied; ListObjectsV2:*=denied; HeadObject:*=denied".parse().unwrap());
    let mount = site.mount_source("s3://", &[]);
    assert!(mount.sh_fails("mkdir taken").contains("File exists"));
    assert!(why(&mount, "taken").contains("another account's"));
    assert_eq!(mount.sh("ls"), "bucket\n");
    assert!(mount.sh_fails("ls taken").contains("Permission denied"));
    assert!(mount.sh_fails("echo x > taken/f").contains("Permission denied"));
    assert_eq!(site.count("CreateBucket"), 0);
    mount.unmount();
    site.server.set_faults("ListBuckets:*=denied".parse().unwrap());
    // Who may not list can still go by name.
    let mount = site.mount_source("s3://", &["--no-check"]);
    assert!(mount.sh_fails("ls").contains("Permission denied"));
    mount.sh("echo x > bucket/f && test \"$(cat bucket/f)\" = x");
    mount.unmount();
}

#[test]
fn a_helper_of_mount_takes_it() {
    let site = Site::start();
    let mount = Mount::place();
    let options = format!("endpoint_url={},region=us-east-1,location=EU,_netdev", site.server.endpoint());
    let helper = mount.path.with_extension("helper");
    fs::create_dir(&helper).unwrap();
    let link = helper.join("mount.pailfs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pailfs"), &link).unwrap();
    let output = Command::new(&link)
        .args(["s3://", mount.path.to_str().unwrap(), "-o", &options])
        .env("XDG_CACHE_HOME", mount.cache())
        .env("XDG_STATE_HOME", mount.cache())
        .env("AWS_ACCESS_KEY_ID", pailfs::devserver::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(mount.sh("ls && getfattr -n user.s3.location --only-values ."), "bucket\neu-west-1");
    mount.unmount();
    fs::remove_dir_all(helper).unwrap();
}

#[test]
fn user_s3_says_what_can_be_asked_of_buckets_and_accounts() {
    let site = Site::start();
    site.put("logs/f", "x");
    let all = |mount: &crate::support::Mount, path: &str| mount.sh(&format!("getfattr -n user.s3 --only-values {path}"));
    let whole = all(&site.mount(&[]), ".");
    assert!(whole.starts_with("bucket=bucket\nprefix=\nlocation=us-east-1\nuser.s3.location, .acl,"), "{whole}");
    let prefix = site.mount_source("s3://bucket/logs", &[]);
    let below = all(&prefix, ".");
    assert!(below.starts_with("bucket=bucket\nprefix=logs/\nlocation=us-east-1\nuser.s3.location, .acl,"), "{below}");
    assert!(below.contains("what can be set"), "{below}");
    let account = site.mount_source("s3://", &[]);
    let root = all(&account, ".");
    assert!(root.starts_with("source=s3://\nlocation=default\nuser.s3.location=where mkdir makes buckets"), "{root}");
    let bucket = all(&account, "bucket");
    assert!(bucket.starts_with("bucket=bucket\nownership=own\nlocation=us-east-1\nuser.s3.location, .acl,"), "{bucket}");
    assert_eq!(all(&account, "bucket/logs"), "bucket=bucket\nkey=logs/");
    // What is named there is known, and nobody else has a location.
    for name in ["location", "acl", "owner", "versioning"] {
        account.sh(&format!("getfattr -n user.s3.{name} bucket"));
    }
    for path in ["bucket/logs", "bucket/logs/f"] {
        assert!(account.sh_fails(&format!("getfattr -n user.s3.location {path}")).contains("No such attribute"));
        assert!(account.sh_fails(&format!("setfattr -n user.s3.location -v EU {path}")).contains("No such attribute"));
    }
    assert!(account.sh_fails("setfattr -n user.s3.location -v EU bucket").contains("not permitted"));
    assert!(prefix.sh_fails("setfattr -x user.s3.location .").contains("not permitted"));
}
