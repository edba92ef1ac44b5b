//! A daemon is killed in the middle of an upload: through the kernel.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pailfs::store::{BucketName, ObjectStore as _, Prefix};

use crate::support::{BUCKET, Mount, Site, eventually};

/// Enough that parts leave before the close.
const MIB: usize = 40;

/// A state directory for several mounts; it goes with the test.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("pailfs-state-{}", pailfs::base::rng::token())))
    }

    fn mount(&self, site: &Site) -> Mount {
        site.mount(&["--state-dir", self.0.to_str().unwrap()])
    }

    fn files(&self) -> usize {
        fs::read_dir(self.0.join("uploads")).map_or(0, Iterator::count)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ids(site: &Site) -> Vec<String> {
    let memory = site.server.memory();
    let page = site.block_on(memory.list_uploads(&BucketName::new(BUCKET).unwrap(), &Prefix::new(""), None)).unwrap();
    page.uploads.into_iter().map(|(upload, _)| upload.id.as_str().to_owned()).collect()
}

/// Writes until an upload is under way; its id, and the file, which is open.
fn begin(site: &Site, path: &Path, byte: u8) -> (String, File) {
    let before = ids(site);
    let mut file = File::create(path).unwrap();
    for _ in 0..MIB {
        file.write_all(&vec![byte; 1 << 20]).unwrap();
    }
    let new = || ids(site).into_iter().find(|id| !before.contains(id));
    eventually("an upload is begun", || new().is_some());
    (new().unwrap(), file)
}

fn kill(mount: &Mount) {
    let pid = mount.daemon();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let stat = format!("/proc/{pid}/stat");
    let ended = || fs::read_to_string(&stat).map_or(true, |stat| stat.rsplit(") ").next().unwrap().starts_with('Z'));
    eventually("the daemon is gone", ended);
}

#[test]
fn the_next_mount_aborts_what_a_killed_one_has_left() {
    let site = Site::start();
    site.put("big", "old");
    let state = State::new();
    let killed = state.mount(&site);
    let (left, half) = begin(&site, &killed.at("big"), 1);
    site.begin_upload("big", b"another client's");
    let others: Vec<String> = ids(&site).into_iter().filter(|id| *id != left).collect();
    assert_eq!(others.len(), 1);
    // A second one lives, and is at work on the same key.
    let living = state.mount(&site);
    let (own, file) = begin(&site, &living.at("big"), 2);
    kill(&killed);
    drop(half);
    let after = state.mount(&site);
    eventually("the upload of the dead mount is aborted", || !ids(&site).contains(&left));
    let now = ids(&site);
    assert!(now.len() == 2 && now.contains(&own) && now.contains(&others[0]), "{now:?}");
    assert_eq!(site.get("big").unwrap(), b"old", "the old object is whole");
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(site.get("big").unwrap(), vec![2; MIB << 20], "who lives was not disturbed");
    assert_eq!(ids(&site), others);
    living.unmount();
    after.unmount();
    eventually("no record is left", || state.files() == 0);
}

#[test]
fn a_read_only_mount_changes_nothing_of_the_dead_either() {
    let site = Site::start();
    let state = State::new();
    let killed = state.mount(&site);
    let (left, half) = begin(&site, &killed.at("big"), 1);
    kill(&killed);
    drop(half);
    let reading = site.mount(&["--state-dir", state.0.to_str().unwrap(), "--read-only"]);
    reading.sh("ls > /dev/null");
    reading.unmount();
    assert_eq!(ids(&site), [left]);
    // A relative directory is the one that it was when the mount began.
    let mount = Mount::place();
    let output = Command::new(env!("CARGO_BIN_EXE_pailfs"))
        .current_dir(state.0.parent().unwrap())
        .env("XDG_CACHE_HOME", mount.cache())
        .args(["mount", BUCKET])
        .arg(&mount.path)
        .args(["--endpoint-url", &site.server.endpoint(), "--region", "us-east-1", "--state-dir"])
        .arg(state.0.file_name().unwrap())
        .env("AWS_ACCESS_KEY_ID", pailfs::devserver::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", pailfs::devserver::SECRET_KEY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    eventually("the upload is aborted", || ids(&site).is_empty());
}
