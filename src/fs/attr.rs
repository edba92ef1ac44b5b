//! What stat shows, as types. Pure.

use std::fmt;
use std::time::SystemTime;

use super::handles::HandleId;

/// An inode number. 1 is the mount's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The type of a file. It never changes under one inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// Whether it is a device node.
    #[must_use]
    pub const fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }
}

/// What stat shows beside the inode number and the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Bytes.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky: the low 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access, as far as somebody set it.
    pub atime: SystemTime,
    /// Last change of the content.
    pub mtime: SystemTime,
    /// Last change of anything.
    pub ctime: SystemTime,
    /// Device number of a device node.
    pub rdev: u32,
    /// Links: 1, or for a directory 2 and its known sub-directories.
    pub nlink: u32,
}

impl Attr {
    /// 512-byte blocks, rounded up: with fewer, `cp` believes in holes and copies by reading.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.size.div_ceil(512)
    }
}

/// A time that a caller sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The present.
    Now,
    /// That one.
    At(SystemTime),
}

/// What a setattr changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// New length.
    pub size: Option<u64>,
    /// The open file that the length is set through (`ftruncate`).
    pub through: Option<HandleId>,
    /// New permission bits.
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
}

impl SetAttr {
    /// Whether anything but the length changes.
    #[must_use]
    pub const fn changes_attributes(&self) -> bool {
        self.mode.is_some() || self.uid.is_some() || self.gid.is_some() || self.atime.is_some() || self.mtime.is_some()
    }
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Thread, 0 when the kernel does not say.
    pub tid: u32,
}

/// The mode after somebody other than root has written, or after a chown: no setuid, and no setgid where it means execution.
#[must_use]
pub const fn without_privileges(mode: u32) -> u32 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 { mode & !0o2000 } else { mode }
}
