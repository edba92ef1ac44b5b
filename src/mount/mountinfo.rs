//! `/proc/self/mountinfo`: which mounts there are, and what ours is called. Pure but for the one read.
//! <https://www.kernel.org/doc/Documentation/filesystems/proc.rst> section 3.5

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The type of our mounts in the kernel's tables.
pub const FS_TYPE: &str = "fuse.pailfs";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub id: u64,
    /// `major:minor` of its device.
    pub device: String,
    /// Where it is.
    pub point: PathBuf,
    /// Its type.
    pub fs_type: String,
    /// What is mounted, as it was given.
    pub source: String,
}

/// All mounts, the topmost one of a directory last.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn all() -> io::Result<Vec<Mount>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().filter_map(parse).collect())
}

/// The topmost mount on `directory`, which must be an absolute path without links.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn on(directory: &Path) -> io::Result<Option<Mount>> {
    Ok(all()?.into_iter().rfind(|mount| mount.point == directory))
}

fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let id = left.next()?.parse().ok()?;
    let device = left.nth(1)?.to_owned();
    let point = PathBuf::from(unescape(left.nth(1)?));
    let mut right = right.split(' ');
    Some(Mount { id, device, point, fs_type: right.next()?.to_owned(), source: unescape(right.next()?) })
}

/// Spaces, tabs, newlines and backslashes are octal there.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = r"36 35 0:45 / /mnt/a\040b rw,nosuid,nodev shared:1 - fuse.pailfs my-bucket rw,user_id=0";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.device.as_str(), mount.point.to_str()), (36, "0:45", Some("/mnt/a b")));
        assert_eq!((mount.fs_type.as_str(), mount.source.as_str()), (FS_TYPE, "my-bucket"));
        assert!(all().unwrap().iter().any(|mount| mount.point == Path::new("/")));
    }
}
