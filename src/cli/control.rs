//! Talking to a mount's daemon through the mount itself: `user.pailfs.*` attributes of its root.

use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::mount::mountinfo::{self, Mount};

/// The largest value of an attribute, in bytes.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// The longest process id, in decimal.
const MAX_PID_BYTES: usize = 20;

/// The mount that `path` lies on, and the path below its root. The path need not exist.
pub(super) fn mount_of(path: &Path) -> Result<(Mount, PathBuf), String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let mounts = mountinfo::all().map_err(|error| format!("cannot read the mount table: {error}"))?;
    let ours = |path: &Path| {
        let mut found: Option<(Mount, PathBuf)> = None;
        for mount in mounts.iter().filter(|mount| mount.fs_type == mountinfo::FS_TYPE) {
            if let Ok(below) = path.strip_prefix(&mount.point)
                && found.as_ref().is_none_or(|(best, _)| best.point.as_os_str().len() <= mount.point.as_os_str().len())
            {
                found = Some((mount.clone(), below.to_owned()));
            }
        }
        found
    };
    let resolved = resolve(&absolute);
    ours(&absolute).or_else(|| ours(&resolved)).ok_or_else(|| format!("'{}' is not on a pailfs mount", path.display()))
}

/// The path with the links of its deepest existing directory resolved.
fn resolve(path: &Path) -> PathBuf {
    for ancestor in path.ancestors().skip(1) {
        if let Ok(real) = std::fs::canonicalize(ancestor)
            && let Ok(rest) = path.strip_prefix(ancestor)
        {
            return real.join(rest);
        }
    }
    path.to_owned()
}

/// An answer of the daemon's.
pub(super) fn ask(root: &Path, name: &str) -> Result<String, String> {
    attribute(root, &format!("user.pailfs.{name}")).map_err(|error| explain(root, error))
}

/// An attribute of a file or directory on a mount.
pub(super) fn attribute(path: &Path, name: &str) -> Result<String, Errno> {
    let mut value = vec![0; MAX_VALUE_BYTES];
    let length = rustix::fs::getxattr(path, name, &mut value)?;
    value.truncate(length);
    Ok(String::from_utf8_lossy(&value).into_owned())
}

/// Tells the daemon to do something, and waits until it is done.
pub(super) fn tell(root: &Path, name: &str) -> Result<(), String> {
    tell_of(root, name, "1").map_err(|error| explain(root, error))
}

/// As [`tell`], about something; the daemon's own answer.
pub(super) fn tell_of(root: &Path, name: &str, value: &str) -> Result<(), Errno> {
    rustix::fs::setxattr(root, format!("user.pailfs.{name}"), value.as_bytes(), XattrFlags::empty())
}

/// Whether the daemon itself says that this user may not ask it. (The kernel may forbid it to the mount's own user, too.)
pub(super) fn is_refused(root: &Path) -> bool {
    rustix::fs::getxattr(root, "user.pailfs.pid", &mut [0; MAX_PID_BYTES]) == Err(Errno::PERM)
}

fn explain(root: &Path, error: Errno) -> String {
    match error {
        Errno::NOTCONN => format!("the daemon of '{}' is dead: pailfs umount --force {0} takes the mount away", root.display()),
        Errno::PERM => "only root and the user who mounted may ask the daemon".to_owned(),
        error => format!("the daemon of '{}' does not answer: {error}", root.display()),
    }
}

/// A text may name a key, and a key may hold what a terminal would obey.
pub(super) fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}
