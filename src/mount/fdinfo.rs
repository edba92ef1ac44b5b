//! Whether a FLUSH is certainly not the last one of its handle.
//!
//! FLUSH comes once for each closed duplicate of a descriptor, and before any data in `echo x > f`. When the flushing or the
//! opening thread still shows a descriptor of the file with write access, a further FLUSH must come: the closing one is
//! already gone from `/proc/T/fdinfo` (proc(5)). Reading it asks the file system nothing, so it cannot deadlock. Whatever
//! cannot be read or told apart means: commit now, which costs an extra commit at worst.

use std::fs;
use std::path::Path;

/// A thread with more descriptors is not searched: that would take longer than the commit.
const MAX_DESCRIPTORS: usize = 4096;

/// A file as fdinfo names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenElsewhere {
    /// The inode number.
    pub ino: u64,
    /// The mount's id in `/proc/self/mountinfo`.
    pub mount_id: u64,
}

impl OpenElsewhere {
    /// Whether one of `threads` certainly has the file open for writing.
    #[must_use]
    pub fn is_shown_by(self, threads: [u32; 2]) -> bool {
        threads
            .into_iter()
            .filter(|thread| *thread != 0)
            .any(|thread| self.is_shown_in(&Path::new("/proc").join(thread.to_string())))
    }

    fn is_shown_in(self, process: &Path) -> bool {
        let Ok(entries) = fs::read_dir(process.join("fdinfo")) else { return false };
        entries
            .take(MAX_DESCRIPTORS)
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
            .any(|text| self.is_described_by(&text))
    }

    /// Whether one fdinfo describes a descriptor of this file that can write.
    fn is_described_by(self, text: &str) -> bool {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let number = |name| field(name).and_then(|value| value.parse::<u64>().ok());
        let flags = field("flags:").and_then(|value| i32::from_str_radix(value, 8).ok());
        let writes = flags.is_some_and(|flags| flags & libc::O_PATH == 0 && flags & libc::O_ACCMODE != libc::O_RDONLY);
        writes && number("ino:") == Some(self.ino) && number("mnt_id:") == Some(self.mount_id)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_text_of_proc_is_read_strictly() {
        let file = OpenElsewhere { ino: 7, mount_id: 21 };
        let text = |flags: &str, ino, mount| format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t{mount}\nino:\t{ino}\n");
        assert!(file.is_described_by(&text("0100001", 7, 21)));
        assert!(file.is_described_by(&text("0100002", 7, 21)));
        for other in [
            text("0100000", 7, 21),
            text("010000001", 7, 21),
            text("0100001", 8, 21),
            text("0100001", 7, 22),
            String::new(),
            "flags:\tx\n".to_owned(),
        ] {
            assert!(!file.is_described_by(&other), "{other}");
        }
    }

    #[test]
    fn a_descriptor_of_this_process_is_found_until_it_is_closed() {
        let path = std::env::temp_dir().join(format!("pailfs-fdinfo-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        let text = fs::read_dir("/proc/thread-self/fdinfo")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
            .find(|text| text.contains(&format!("ino:\t{}\n", file.metadata().unwrap().ino())))
            .unwrap();
        let mount_id = text.lines().find_map(|line| line.strip_prefix("mnt_id:\t")).unwrap().parse().unwrap();
        let open = OpenElsewhere { ino: file.metadata().unwrap().ino(), mount_id };
        let process = std::process::id();
        assert!(open.is_shown_by([0, process]));
        drop(file);
        assert!(!open.is_shown_by([0, process]));
        fs::remove_file(&path).unwrap();
    }
}
