//! The real s3fs and rclone on the same bucket: what they write is exact here, and what is written here they understand.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::time::Duration;

use pailfs::devserver::{ACCESS_KEY, SECRET_KEY};

use crate::support::{BUCKET, Mount, Site, eventually};

/// So long both believe what they know.
const BELIEVED: Duration = Duration::from_millis(2200);

/// Writes a file with keys beside a mount, and returns its path.
fn secret(place: &Mount, name: &str, text: &str) -> String {
    fs::create_dir_all(place.cache()).unwrap();
    let path = place.cache().join(name);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path.display().to_string()
}

/// Another program with the same bucket; what its environment says of certificates and keys is not for it.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    for variable in ["AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        command.env_remove(variable);
    }
    command
}

/// A mount by s3fs.
struct S3fs(Mount);

impl S3fs {
    fn of(site: &Site) -> Self {
        let mounted = Self(Mount::place());
        let keys = secret(&mounted.0, "passwd", &format!("{ACCESS_KEY}:{SECRET_KEY}"));
        let options = format!(
            "passwd_file={keys},url={},use_path_request_style,endpoint=us-east-1,stat_cache_expire=1",
            site.server.endpoint()
        );
        let output = program("s3fs").arg(BUCKET).arg(&mounted.0.path).args(["-o", &options]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        eventually("s3fs has mounted", || mounted.is_there());
        mounted
    }

    fn is_there(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.contains(&format!(" {} ", self.0.path.display()))
    }
}

impl Drop for S3fs {
    fn drop(&mut self) {
        for options in [&[][..], &["-l"]] {
            if self.is_there() {
                let _ = Command::new("umount").args(options).arg(&self.0.path).output();
            }
        }
    }
}

/// All that stat tells, and where links lead.
fn shown(mount: &Mount) -> String {
    mount.sh("find . -mindepth 1 -printf '%P %y %m %U %G %T@ %s %l\\n' | sort")
}

#[test]
fn what_s3fs_has_written_is_exact_and_so_is_for_it_what_is_changed_here() {
    let site = Site::start();
    let (theirs, ours) = (S3fs::of(&site), site.mount(&["--ttl", "1s"]));
    theirs.0.sh(
        "echo hello > f && chmod 640 f && chown 1000:1001 f && touch -d '2020-02-02 02:02:02.5' f && mkdir d && chmod 2750 d && \
         echo x > d/g && ln -s ../f d/link && ln -s /no/where dangling && mkfifo fifo && : > empty && chmod 400 empty && \
         mkdir -p d/sub/deep && chown 5:6 d/sub && echo plain > plain && touch -d '2019-01-01 UTC' d",
    );
    std::thread::sleep(BELIEVED);
    let written = shown(&theirs.0);
    assert_eq!(shown(&ours), written);
    assert_eq!(ours.sh("cat f d/link d/g"), "hello\nhello\nx\n");
    ours.sh("chmod 604 f && chown 7:8 plain && touch -d '2021-03-04 05:06:07.25' d/g && echo more >> f && mv plain renamed && \
         mv d e && rm dangling && mv e/link moved && chmod 700 e/sub && ln -s away e/new");
    std::thread::sleep(BELIEVED);
    let changed = theirs.0.sh("stat -c '%n %a %u %g %s %Y' f renamed e/g e/sub && cat f && ls e");
    assert_eq!(changed, ours.sh("stat -c '%n %a %u %g %s %Y' f renamed e/g e/sub && cat f && ls e"));
    assert!(changed.starts_with("f 604 1000 1001 11 "), "{changed}");
    // A link that was made there leads on; one that was made here has no body, and that is where s3fs looks.
    assert_eq!(theirs.0.sh("readlink moved; test ! -e dangling; readlink e/new"), "../f\n\n");
    assert_eq!(ours.sh("readlink moved e/new"), "../f\naway\n");
    assert_eq!(ours.sh("find . -type l -o -type p | sort"), theirs.0.sh("find . -type l -o -type p | sort"));
}

#[test]
fn what_is_written_here_s3fs_sees_and_changes() {
    let site = Site::start();
    let (theirs, ours) = (S3fs::of(&site), site.mount(&["--ttl", "1s"]));
    ours.sh(
        "echo hello > f && chmod 640 f && chown 1000:1001 f && touch -d '2020-02-02 02:02:02.5 UTC' f && mkdir -m 2750 d && \
         echo x > d/g && chmod 751 d/g && chown 5:6 d && touch -d '2019-01-01 UTC' d && mkfifo -m 600 fifo && echo plain > plain",
    );
    std::thread::sleep(BELIEVED);
    let look = "stat -c '%n %F %a %u %g %s %y' f d && stat -c '%n %F %a %u %g %s' d/g fifo && stat -c '%n %F %s' plain";
    assert_eq!(theirs.0.sh(look), ours.sh(look));
    assert_eq!(theirs.0.sh("cat f d/g plain"), "hello\nx\nplain\n");
    theirs.0.sh(
        "chmod 604 f && chown 7:8 plain && chmod 444 plain && echo more >> d/g && mv plain d/moved && mkdir d/sub && rm fifo",
    );
    std::thread::sleep(BELIEVED);
    let look = "stat -c '%n %F %a %u %g %s %Y' f d d/g d/moved d/sub && cat f d/g d/moved && ls";
    assert_eq!(ours.sh(look), theirs.0.sh(look));
    assert_eq!(ours.sh("stat -c '%a %y' f"), "604 2020-02-02 02:02:02.500000000 +0000\n");
}

/// rclone with the bucket as `bucket:`.
struct Rclone {
    local: Mount,
    config: String,
}

impl Rclone {
    fn of(site: &Site) -> Self {
        let local = Mount::place();
        let text = format!(
            "[s3]\ntype = s3\nprovider = Other\nendpoint = {}\nregion = us-east-1\naccess_key_id = {ACCESS_KEY}\nsecret_access_key = {SECRET_KEY}\n",
            site.server.endpoint()
        );
        let config = secret(&local, "rclone.conf", &text);
        Self { local, config }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output =
            program("rclone").args(["--config", &self.config]).args(arguments).current_dir(&self.local.path).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn rclone_and_this_mount_understand_each_other() {
    let site = Site::with_md5_tags();
    let (rclone, ours) = (Rclone::of(&site), site.mount(&["--ttl", "1s"]));
    rclone.local.sh(
        "mkdir -p from/d && echo hello > from/f && chmod 640 from/f && chown 1000:1001 from/f && echo x > from/d/g && chmod 755 from/d/g && \
         : > from/empty && chmod 600 from/empty && find from -type f -exec touch -d '2020-02-02 02:02:02.5 UTC' {} +",
    );
    rclone.run(&["copy", "--metadata", "from", &format!("s3:{BUCKET}/with")]);
    rclone.run(&["copy", "from", &format!("s3:{BUCKET}/without")]);
    let look = "find . -type f -printf '%P %m %U %G %T@ %s\\n' | sort";
    assert_eq!(ours.sh(&format!("cd with && {look}")), rclone.local.sh(&format!("cd from && {look}")));
    let times = "find . -type f -printf '%P %T@ %s\\n' | sort";
    assert_eq!(ours.sh(&format!("cd without && {times} && cat f")), rclone.local.sh(&format!("cd from && {times} && cat f")));
    // The other way round it knows the times; a mode it expects in octal, and s3fs's is decimal.
    ours.sh("mkdir -p here/sub && echo new > here/n && chmod 640 here/n && touch -d '2021-03-04 05:06:07.25 UTC' here/n && \
         echo p > here/sub/plain && touch -d '2022-01-01 UTC' here/sub/plain && mv with/d/g here/g");
    rclone.run(&["copy", &format!("s3:{BUCKET}/here"), "back"]);
    assert_eq!(rclone.local.sh(&format!("cd back && {times} && cat n g")), ours.sh(&format!("cd here && {times} && cat n g")));
    let unchanged = rclone.run(&["check", "back", &format!("s3:{BUCKET}/here"), "--combined", "-"]);
    assert_eq!(unchanged.lines().filter(|line| line.starts_with('=')).count(), 3, "{unchanged}");
    // What it moves keeps what was set here.
    rclone.run(&["moveto", &format!("s3:{BUCKET}/here/n"), &format!("s3:{BUCKET}/there/n")]);
    std::thread::sleep(BELIEVED);
    assert_eq!(ours.sh("test ! -e here/n && stat -c '%a %y' there/n"), "640 2021-03-04 05:06:07.250000000 +0000\n");
    rclone.local.sh("rm -r from back");
}
