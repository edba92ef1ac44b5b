//! The real servers that `scripts/servers` has started, and a scenario through a mount of each.

use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use pailfs::base::rng;
use pailfs::s3::S3Store;
use pailfs::s3::config::{CredentialsSource, S3Config};

/// The servers that must be there.
const NAMES: [&str; 3] = ["rgw", "moto", "seaweed"];

/// A real server.
pub struct RealServer {
    pub name: &'static str,
    pub endpoint: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    pub version: String,
}

/// All of them. A test that needs one that is missing fails.
pub fn all() -> Vec<RealServer> {
    let directory = std::env::var("PAILFS_TEST_SERVERS").expect("the real servers are missing: run ./scripts/test");
    NAMES.map(|name| read(name, &PathBuf::from(&directory).join(name).join("env"))).into()
}

fn read(name: &'static str, path: &PathBuf) -> RealServer {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let fields: HashMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name, value.trim_matches('"'))).collect();
    let field = |name: &str| fields[name].to_owned();
    RealServer {
        name,
        endpoint: field("S3_ENDPOINT"),
        region: field("S3_REGION"),
        access_key: field("AWS_ACCESS_KEY_ID"),
        secret_key: field("AWS_SECRET_ACCESS_KEY"),
        version: field("S3_SERVER_VERSION"),
    }
}

/// The name of the one that is no real server.
#[cfg(feature = "demo")]
pub const EMBEDDED: &str = "embedded";

impl RealServer {
    /// The embedded server as if it were one of them.
    #[cfg(feature = "demo")]
    pub fn embedded(site: &crate::support::Site) -> Self {
        Self {
            name: EMBEDDED,
            endpoint: site.server.endpoint(),
            region: "us-east-1".into(),
            access_key: pailfs::devserver::ACCESS_KEY.into(),
            secret_key: pailfs::devserver::SECRET_KEY.into(),
            version: EMBEDDED.into(),
        }
    }

    /// Mounts `source` of it.
    #[cfg(feature = "demo")]
    pub fn run(&self, source: &str, mount: &crate::support::Mount, extra: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_pailfs"))
            .args(["mount", source])
            .arg(&mount.path)
            .args(["--endpoint-url", &self.endpoint, "--region", &self.region])
            .args(extra)
            .env("XDG_CACHE_HOME", mount.cache())
            .env("XDG_STATE_HOME", mount.cache())
            .env("AWS_ACCESS_KEY_ID", &self.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret_key)
            .output()
            .unwrap()
    }
}

/// The Python that has boto3.
#[cfg(feature = "demo")]
pub fn python() -> Command {
    let interpreter = Command::new("scripts/servers").arg("python").output().unwrap();
    Command::new(String::from_utf8(interpreter.stdout).unwrap().trim())
}

/// A client whose keys come from a file, as a user's would.
pub async fn client(endpoint: &str, region: &str, access_key: &str, secret_key: &str) -> S3Store {
    use std::io::Write as _;
    let path = std::env::temp_dir().join(format!("pailfs-keys-{}", rng::token()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    writeln!(file, "{access_key}:{secret_key}").unwrap();
    let config = S3Config {
        endpoint: Some(endpoint.into()),
        region: region.into(),
        credentials: CredentialsSource::File(path.clone()),
        ..S3Config::default()
    };
    let store = S3Store::new(config).await.unwrap();
    std::fs::remove_file(path).unwrap();
    store
}

#[cfg(feature = "demo")]
mod mounted {
    use pailfs::store::{BucketName, BucketService as _, NewBucket};

    use super::*;
    use crate::support::{Mount, eventually};

    fn scenario(name: &str, work: impl FnOnce(&Mount)) {
        scenario_on(name, |_, mount| work(mount));
    }

    fn scenario_on(name: &str, work: impl FnOnce(&RealServer, &Mount)) {
        let server = all().into_iter().find(|server| server.name == name).unwrap();
        let bucket = format!("mounted-{}", &rng::token()[..12]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = client(&server.endpoint, &server.region, &server.access_key, &server.secret_key).await;
            store.create_bucket(&BucketName::new(&bucket).unwrap(), NewBucket::default()).await.unwrap();
        });
        let mount = Mount::place();
        let mounted = server.run(&bucket, &mount, &["--ttl", "200ms"]);
        assert!(mounted.status.success(), "{mounted:?}");
        work(&server, &mount);
        mount.unmount();
    }

    /// What works on every S3 store.
    fn everyday(mount: &Mount) {
        let local = Mount::place();
        local
            .sh("mkdir -p tree/a/b && for n in 1 2 3 4 5 6 7 8 9; do echo \"file $n\" > \"tree/a/b/f $n\"; done; : > tree/empty");
        local.sh("head -c 20000000 /dev/urandom > large");
        let tree = local.at("tree").display().to_string();
        mount.sh(&format!("cp -r {tree} . && diff -r tree {tree}"));
        mount.sh(&format!("cp {0} large && cmp large {0}", local.at("large").display()));
        mount.sh("echo one > f && echo two > f && test \"$(cat f)\" = two");
        mount.sh("mv f g && test \"$(cat g)\" = two && test ! -e f && mv g tree/a && test \"$(cat tree/a/g)\" = two");
        mount.sh("chmod 640 tree/a/g && touch -d '2020-02-02 02:02:02 UTC' tree/a/g && ln -s g tree/a/l && test \"$(cat tree/a/l)\" = two");
        mount.sh("setfattr -n user.s3.meta.colour -v 'grün' tree/a/g");
        assert_eq!(mount.sh("getfattr -n user.s3.meta.colour --only-values tree/a/g"), "grün");
        assert!(mount.sh("ls -l tree/a").contains("-rw-r-----"));
        assert!(mount.sh_fails("mkdir tree").contains("File exists"));
        assert!(mount.sh_fails("rmdir tree").contains("not empty"));
        mount.sh("rm large && rm -r tree && test -z \"$(ls)\"");
        local.sh("rm -r tree large");
    }

    #[test]
    fn radosgw_serves_everyday_work() {
        scenario("rgw", everyday);
    }

    #[test]
    fn seaweedfs_serves_everyday_work() {
        scenario("seaweed", everyday);
    }

    #[test]
    fn moto_serves_everyday_work() {
        scenario("moto", everyday);
    }

    /// A bucket that keeps versions takes changes like any other. (radosgw 16 has no condition that works there.)
    fn versions(server: &RealServer, mount: &Mount) {
        mount.sh("echo one > before && setfattr -n user.s3.versioning -v Enabled .");
        for round in ["1", "2", "3"] {
            mount.sh(&format!(
                "echo {round} > f && echo {round} > before && test \"$(cat f before)\" = \"$(printf '{round}\\n{round}')\""
            ));
        }
        assert!(mount.sh_fails("set -C; echo x > f").contains("exist"));
        mount.sh("chmod 600 f && setfattr -n user.a -v 1 f && mv f g && test \"$(cat g)\" = 3 && test ! -e f");
        mount.sh("echo 4 > g && ln -s g l && mkdir d && rm g l && rmdir d && test ! -e g && test ! -e l && echo again > g && rm g before");
        // Another client's object is found by an exclusive creation, and its change by an overwrite.
        let other = Mount::place();
        let source = mount_source(mount);
        assert!(server.run(&source, &other, &["--ttl", "1m"]).status.success());
        other.sh("test ! -e new");
        mount.sh("echo first > new");
        assert!(other.sh_fails("echo second | dd of=new conv=excl").contains("exist"));
        assert_eq!(mount.sh("cat new"), "first\n");
        other.unmount();
        mount.sh("rm new");
    }

    #[test]
    fn radosgw_serves_a_bucket_with_versions() {
        scenario_on("rgw", versions);
    }

    #[test]
    fn seaweedfs_serves_a_bucket_with_versions() {
        scenario_on("seaweed", versions);
    }

    #[test]
    fn moto_serves_a_bucket_with_versions() {
        scenario_on("moto", versions);
    }

    /// Whole directories, there and back; with a file of `large` bytes.
    fn directories(mount: &Mount, large: &str) {
        mount.sh("mkdir -p d/s/deep d/empty && for n in $(seq 30); do echo $n > d/$n; echo $n > d/s/deep/$n; done");
        mount.sh("ln -s ../x d/link && chmod 600 d/7 && echo odd > 'd/s/a b%20+&ü'");
        mount.sh("setfattr -n user.s3.tags -v a=1 d/7 && setfattr -n user.k -v v d/8");
        mount.sh(&format!("head -c {large} /dev/urandom > d/large"));
        let sums = |place: &str| mount.sh(&format!("cd {place} && find . -type f -exec md5sum {{}} + | sort && find . | sort"));
        let before = sums("d");
        mount.sh("mkdir e && mv -T d e && test ! -e d");
        assert_eq!(sums("e"), before);
        assert_eq!(mount.sh("stat -c %a e/7 && readlink e/link && getfattr --only-values -n user.k e/8"), "600\n../x\nv");
        assert_eq!(mount.sh("getfattr -n user.s3.tags --only-values e/7"), "a=1");
        assert!(mount.sh_fails("mkdir f && touch f/x && mv -T e f").contains("not empty"));
        mount.sh("exec 5< e/large; head -c 1000 <&5 > /dev/null; mv e/s s && mv e d && test $(wc -c <&5) -gt 1000000 && mv s d/");
        assert_eq!(sums("d"), before);
        mount.sh("rm -r d f && test ! -e d");
    }

    #[test]
    fn radosgw_renames_directories() {
        scenario("rgw", |mount| directories(mount, "20000000"));
    }

    #[test]
    fn moto_renames_directories() {
        // It has no access list of what is made of parts.
        scenario("moto", |mount| directories(mount, "2000000"));
    }

    #[test]
    fn seaweedfs_renames_directories() {
        scenario("seaweed", |mount| directories(mount, "20000000"));
    }

    /// What a copy, a rename and a new content keep beside the bytes, on stores that drop it, too.
    fn companions(mount: &Mount) {
        kept_over(mount, &[]);
    }

    /// As well by what is made of parts.
    fn large_companions(mount: &Mount) {
        // Parts that have left carry nothing that is set afterwards: they are copied once more.
        let set_between = "(head -c 20000000 /dev/zero; sleep 0.2; setfattr -n user.y -v $RANDOM$$ f; echo) > f";
        kept_over(mount, &["head -c 20000000 /dev/zero > f", "echo x >> f", "truncate -s 9000000 f", set_between]);
    }

    fn kept_over(mount: &Mount, more: &[&str]) {
        mount.sh("echo 1 > f && setfattr -n user.s3.tags -v \"$(printf 'a=1\\nb=2')\" f");
        let tags = |file: &str| mount.sh(&format!("getfattr -n user.s3.tags --only-values {file}"));
        let small = ["chmod 600 f", "setfattr -n user.x -v 1 f", "echo 2 > f", "chmod 640 f", "mv f g && mv g f"];
        for change in small.iter().chain(more) {
            mount.sh(change);
            assert_eq!(tags("f"), "a=1\nb=2", "{change}");
        }
        assert!(mount.sh("getfattr -d f").contains("user.s3.tags"));
        // Where lists are disabled they are not kept; radosgw does not know the setting.
        mount.try_sh("setfattr -n user.s3.object-ownership -v ObjectWriter .");
        if mount.try_sh("setfattr -n user.s3.acl -v public-read f").status.success() {
            for change in ["echo 3 > f", "chmod 600 f", "mv f g && mv g f"].iter().chain(more) {
                mount.sh(change);
                let acl = mount.sh("getfattr -n user.s3.acl --only-values f");
                assert!(acl.contains("READ group=AllUsers"), "{change}: {acl}");
            }
        }
    }

    /// What a store does not keep is refused when it is set, again and again; what it keeps is there.
    fn odd_properties(name: &str, not_kept: &[&str]) {
        scenario(name, |mount| {
            let odd = [
                ("user.s3.meta.a_b", "x"),
                ("user.s3.meta.c%d", "x"),
                ("user.s3.website-redirect", "/other"),
                ("user.s3.expires", "Sat, 21 Dec 2030 00:00:00 GMT"),
                ("user.s3.content-disposition", "attachment; filename=\"a b.txt\""),
            ];
            for round in ["first", "second"] {
                mount.sh(&format!("echo {round} > {round}"));
                for (attribute, value) in odd {
                    let set = mount.try_sh(&format!("setfattr -n '{attribute}' -v '{value}' {round}"));
                    assert_eq!(set.status.success(), !not_kept.contains(&attribute), "{name} {attribute} {round}: {set:?}");
                    if set.status.success() {
                        // Also when it is asked for anew, and after another change.
                        mount.sh(&format!("chmod 600 {round} && mv {round} moved && mv moved {round} && echo new > {round} && getfattr -n user.s3 {round} > /dev/null"));
                        assert_eq!(
                            mount.sh(&format!("getfattr -n '{attribute}' --only-values {round}")),
                            value,
                            "{name} {attribute}"
                        );
                    } else {
                        assert!(mount.why(round).contains("does not keep"), "{name} {attribute}: {}", mount.why(round));
                    }
                }
            }
        });
    }

    #[test]
    fn radosgw_is_asked_whether_it_keeps_what_is_odd() {
        odd_properties("rgw", &["user.s3.meta.a_b"]);
    }

    #[test]
    fn seaweedfs_is_asked_whether_it_keeps_what_is_odd() {
        odd_properties("seaweed", &["user.s3.website-redirect"]);
    }

    #[test]
    fn moto_is_asked_whether_it_keeps_what_is_odd() {
        odd_properties("moto", &["user.s3.meta.c%d"]);
    }

    #[test]
    fn radosgw_keeps_tags_and_access_lists() {
        scenario("rgw", large_companions);
    }

    #[test]
    fn seaweedfs_keeps_tags_and_access_lists() {
        scenario("seaweed", large_companions);
    }

    #[test]
    fn moto_keeps_tags_and_access_lists() {
        scenario("moto", companions);
    }

    #[test]
    fn moto_restores_what_is_archived_through_setfattr() {
        let server = all().into_iter().find(|server| server.name == "moto").unwrap();
        scenario("moto", |mount| {
            // Another client puts an archived object; moto counts the restore's time from the PUT.
            let bucket = mount_source(mount);
            let python = "import sys, boto3\n\
                s = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='k', aws_secret_access_key='s')\n\
                s.put_object(Bucket=sys.argv[2], Key='ice', Body=b'from the ice', StorageClass='GLACIER')";
            let put = super::python().args(["-c", python, &server.endpoint, &bucket]).output().unwrap();
            assert!(put.status.success(), "{put:?}");
            std::thread::sleep(std::time::Duration::from_millis(2500));
            assert!(mount.sh_fails("cat ice").contains("remote"));
            mount.sh("setfattr -n user.s3.restore -v 5 ice");
            assert_eq!(mount.sh("getfattr -n user.s3.restore --only-values ice"), "ongoing");
            eventually("the restore ends", || mount.sh("getfattr -n user.s3.restore --only-values ice").starts_with("until"));
            assert_eq!(mount.sh("cat ice"), "from the ice");
            // What is stored there with its tags shows them to nobody.
            mount.sh("exec 5> cold; echo x >&5; setfattr -n user.s3.tags -v a=1 cold; setfattr -n user.s3.storage-class -v GLACIER cold; exec 5>&-");
            assert!(mount.sh("ls -l cold && getfattr -n user.s3.storage-class --only-values cold").contains("GLACIER"));
        });
    }

    /// The bucket must be made for locks, and the lock is set and read by an independent client. (radosgw 16 takes no condition
    /// in a bucket with versions, SeaweedFS has no locks, and moto drops those of a multipart upload.)
    #[test]
    fn moto_keeps_the_lock_of_what_is_replaced() {
        let server = all().into_iter().find(|server| server.name == "moto").unwrap();
        let bucket = format!("locked-{}", &rng::token()[..12]);
        let boto = |script: &str| {
            let head = "import sys, boto3, datetime\n\
                    s = boto3.client('s3', endpoint_url=sys.argv[1], region_name=sys.argv[3], aws_access_key_id=sys.argv[4], aws_secret_access_key=sys.argv[5])\n\
                    b = sys.argv[2]\n";
            let arguments = [&server.endpoint, &bucket, &server.region, &server.access_key, &server.secret_key];
            let output = super::python().args(["-c", &format!("{head}{script}")]).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}: {output:?}", server.name);
            String::from_utf8(output.stdout).unwrap()
        };
        boto(
            "s.create_bucket(Bucket=b, ObjectLockEnabledForBucket=True)\n\
                 u = datetime.datetime(2040, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)\n\
                 s.put_object(Bucket=b, Key='f', Body=b'old', ObjectLockMode='GOVERNANCE', ObjectLockRetainUntilDate=u, ObjectLockLegalHoldStatus='ON')",
        );
        let lock_of = |key: &str| {
            boto(&format!(
                "h = s.head_object(Bucket=b, Key='{key}')\n\
                     print(h.get('ObjectLockMode'), h['ObjectLockRetainUntilDate'].strftime('%Y-%m-%d %H:%M:%S'), h.get('ObjectLockLegalHoldStatus'), h['ContentLength'])"
            ))
        };
        let locked = |bytes: u64| format!("GOVERNANCE 2040-01-02 03:04:05 ON {bytes}\n");
        assert_eq!(lock_of("f"), locked(3));
        let mount = Mount::place();
        let mounted = server.run(&bucket, &mount, &["--ttl", "200ms"]);
        assert!(mounted.status.success(), "{mounted:?}");
        for (work, bytes) in [
            ("echo newer > f", 6),
            ("setfattr -n user.colour -v blue f", 6),
            ("chmod 600 f", 6),
            ("mv f g && echo small and new > g && mv g f", 14),
        ] {
            let done = mount.try_sh(work);
            assert!(done.status.success(), "'{work}': {done:?} {}", mount.why("f"));
            assert_eq!(lock_of("f"), locked(bytes), "after '{work}'");
        }
        assert_eq!(mount.sh("getfattr -n user.s3.lock.mode --only-values f"), "GOVERNANCE");
        mount.unmount();
    }

    fn mount_source(mount: &Mount) -> String {
        pailfs::mount::mountinfo::on(&mount.path).unwrap().unwrap().source
    }
}
