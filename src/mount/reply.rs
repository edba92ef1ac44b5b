//! Between this program's words and fuser's: attributes out, flags in, errors. Pure.

use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
};

use super::errno;
use crate::fs::Stat;
use crate::fs::attr::{Caller, Kind, SetTime};
use crate::fs::error::Situation;
use crate::fs::handles::OpenMode;

/// A reply that can carry an error.
pub trait Fail: Send + 'static {
    /// Answers with the errno of `situation`.
    fn fail(self, situation: Situation);
}

macro_rules! fail {
    ($($reply:ty),*) => {
        $(impl Fail for $reply {
            fn fail(self, situation: Situation) {
                self.error(fuser::Errno::from_i32(errno::of(situation).number));
            }
        })*
    };
}

fail!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr
);

/// The block size that stat suggests for I/O, in bytes: the kernel's largest request.
const PREFERRED_IO_BYTES: u32 = 1 << 20;

/// What the kernel is told of an inode.
#[must_use]
pub fn file_attr(stat: &Stat) -> FileAttr {
    let attr = &stat.attr;
    FileAttr {
        ino: INodeNo(stat.ino.0),
        size: attr.size,
        blocks: attr.blocks(),
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(stat.kind),
        perm: u16::try_from(attr.mode & 0o7777).unwrap_or(0),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: PREFERRED_IO_BYTES,
        flags: 0,
    }
}

/// What the kernel is told of a name that is not there: with a TTL it remembers that.
#[must_use]
pub fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// fuser's word for a type.
#[must_use]
pub const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// How a file is opened by `flags`.
#[must_use]
pub fn open_mode(flags: OpenFlags) -> OpenMode {
    let access = flags.acc_mode();
    OpenMode {
        read: access != OpenAccMode::O_WRONLY,
        write: access != OpenAccMode::O_RDONLY,
        append: flags.0 & libc::O_APPEND != 0,
        truncate: flags.0 & libc::O_TRUNC != 0,
        exclusive: flags.0 & libc::O_EXCL != 0,
    }
}

/// Who sent the request.
#[must_use]
pub fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), tid: request.pid() }
}

/// A time to set.
#[must_use]
pub fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(before_epoch(at)),
    }
}

/// fuser takes the fraction of a time before 1970 for one that leads away from it: -2 s and 0.5 s, which is -1.5, becomes -2.5.
fn before_epoch(at: SystemTime) -> SystemTime {
    match SystemTime::UNIX_EPOCH.duration_since(at) {
        Ok(before) if before.subsec_nanos() > 0 => at + 2 * Duration::from_nanos(u64::from(before.subsec_nanos())),
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_have_their_fraction_the_right_way_round() {
        let epoch = SystemTime::UNIX_EPOCH;
        let seconds = Duration::from_secs_f64;
        assert_eq!(set_time(TimeOrNow::SpecificTime(epoch - seconds(2.5))), SetTime::At(epoch - seconds(1.5)));
        assert_eq!(set_time(TimeOrNow::SpecificTime(epoch - seconds(2.0))), SetTime::At(epoch - seconds(2.0)));
        assert_eq!(set_time(TimeOrNow::SpecificTime(epoch + seconds(1.5))), SetTime::At(epoch + seconds(1.5)));
    }
}
