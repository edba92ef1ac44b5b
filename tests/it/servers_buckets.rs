//! Buckets as directories on the real servers: all that `pailfs help buckets` promises, from a shell.

use pailfs::base::rng;

use crate::servers::{RealServer, all};
use crate::support::Mount;

/// A mount of the account, with buckets that are removed whatever happens.
struct Account {
    server: RealServer,
    mount: Mount,
    buckets: [String; 3],
}

impl Account {
    fn of(name: &str) -> Self {
        let server = all().into_iter().find(|server| server.name == name).unwrap();
        let buckets = ["one", "two", "top"].map(|kind| format!("buckets-{kind}-{}", &rng::token()[..12]));
        let mount = Mount::place();
        let output = server.run("s3://", &mount, &["--ttl", "200ms"]);
        assert!(output.status.success(), "{output:?}");
        Self { server, mount, buckets }
    }

    fn why(&self, name: &str) -> String {
        let output = self.mount.pailfs(&["why", self.mount.at(name).to_str().unwrap()]);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for bucket in &self.buckets {
            self.mount.try_sh(&format!("test ! -e {bucket} || rm -r {bucket}"));
        }
    }
}

/// What works on every S3 store.
fn everyday(account: &Account) {
    let mount = &account.mount;
    let [one, two, top] = &account.buckets;
    let local = Mount::place();
    local.sh("mkdir -p tree/a/b && for n in 1 2 3; do echo \"file $n\" > \"tree/a/b/f $n\"; done; : > tree/empty");
    let tree = local.at("tree").display().to_string();
    mount.sh(&format!("mkdir {one} {two} && ls -l | grep -q {one} && ls -l | grep -q {two}"));
    mount.sh(&format!("cp -r {tree} {one}/ && diff -r {one}/tree {tree}"));
    mount.sh(&format!(
        "mv '{one}/tree/a/b/f 1' {two}/moved && test \"$(cat {two}/moved)\" = 'file 1' && test ! -e '{one}/tree/a/b/f 1'"
    ));
    mount.sh(&format!("mv {one}/tree {two}/ && test ! -e {one}/tree && test \"$(cat '{two}/tree/a/b/f 3')\" = 'file 3'"));
    assert!(mount.sh_fails(&format!("mkdir {one}")).contains("File exists"));
    assert!(account.why(one).contains("this account's own"), "{}", account.why(one));
    assert!(mount.sh_fails(&format!("rmdir {two}")).contains("not empty"));
    assert!(account.why(two).contains("not empty: it holds"), "{}", account.why(two));
    assert!(mount.sh_fails("mkdir Bad_Name").contains("Invalid argument"));
    assert!(mount.sh_fails("echo x > file").contains("not permitted"));
    assert!(mount.sh_fails(&format!("mv {two} {top}")).contains("not permitted"));
    assert!(mount.sh_fails(&format!("ls {top}")).contains("No such file"));
    mount.sh(&format!("mv {two}/tree {top} && test \"$(cat '{top}/a/b/f 2')\" = 'file 2'"));
    mount.sh(&format!("rmdir {one} && rm -r {two} {top}"));
    mount.sh(&format!("test ! -e {one} && test ! -e {two} && ! ls | grep -e {one} -e {two} -e {top}"));
    std::fs::remove_dir_all(tree).unwrap();
}

/// Where buckets lie, and where they are made. `tells` is what the server has for one that was made in `eu-west-1`.
fn locations(account: &Account, tells: &str) {
    let mount = &account.mount;
    let [one, two, _] = &account.buckets;
    let location = |of: &str| mount.sh(&format!("getfattr -n user.s3.location --only-values {of}"));
    assert_eq!(location("."), "default");
    mount.sh(&format!("mkdir {one}"));
    assert_eq!(location(one), account.server.region);
    mount.sh(&format!("setfattr -n user.s3.location -v EU . && mkdir {two}"));
    assert_eq!([location("."), location(two)], ["eu-west-1", tells]);
    mount.sh(&format!("echo x > {two}/f && mv {two}/f {one}/f && test \"$(cat {one}/f)\" = x"));
    assert!(mount.sh("getfattr -n user.s3 --only-values .").starts_with("source=s3://\nlocation=eu-west-1\n"));
    assert!(mount.sh(&format!("getfattr -n user.s3 --only-values {one}")).contains("ownership=own"));
    mount.sh(&format!("setfattr -x user.s3.location . && rm -r {one} {two}"));
    assert_eq!(location("."), "default");
}

/// Other people's: the same server, without credentials.
fn closed(account: &Account) {
    let [one, ..] = &account.buckets;
    account.mount.sh(&format!("mkdir {one}"));
    let stranger = Mount::place();
    // radosgw gives strangers an empty list, AWS refuses it.
    assert!(account.server.run("s3://", &stranger, &["--anonymous", "--no-check"]).status.success());
    assert!(stranger.sh_fails(&format!("mkdir {one}")).contains("File exists"));
    assert!(stranger.sh_fails(&format!("ls {one}")).contains("Permission denied"));
    assert!(stranger.sh_fails(&format!("rmdir {one}")).contains("Permission denied"));
    stranger.unmount();
    account.mount.sh(&format!("rmdir {one}"));
}

#[test]
fn radosgw_has_buckets_as_directories() {
    let account = Account::of("rgw");
    everyday(&account);
    locations(&account, "eu-west-1");
    closed(&account);
}

#[test]
fn moto_has_buckets_as_directories() {
    let account = Account::of("moto");
    everyday(&account);
    locations(&account, "eu-west-1");
}

#[test]
fn seaweedfs_has_buckets_as_directories() {
    let account = Account::of("seaweed");
    everyday(&account);
    // It keeps no location.
    locations(&account, "us-east-1");
}
