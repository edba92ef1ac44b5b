//! Between this program's words and fuser's: attributes out, flags in, errors. Pure.

use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, INodeNo, OpenAccMode, OpenFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::errno;
use crate::fs::attr::{Caller, Ino, Kind, SetTime};
use crate::fs::error::Situation;
use crate::fs::handles::{HandleId, OpenMode};
use crate::fs::{Allocate, From, Stat};

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
    ReplyLseek,
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

/// The number that fuser has in a type of its own.
#[must_use]
pub const fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

/// The number that fuser has in a type of its own.
#[must_use]
pub const fn handle(number: FileHandle) -> HandleId {
    HandleId(number.0)
}

/// How the kernel shall treat an open file.
#[must_use]
pub fn open_flags(mode: OpenMode) -> FopenFlags {
    match (mode.read, mode.write) {
        // Writing only: 3 to 4 times as fast past the page cache.
        (false, true) => FopenFlags::FOPEN_DIRECT_IO,
        // Without KEEP_CACHE open() waits behind a slow READ. A changed object has another inode, so this is safe.
        (_, false) => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
        (true, true) => FopenFlags::FOPEN_KEEP_CACHE,
    }
}

/// Whose the bytes of a WRITE are.
#[must_use]
pub fn written_from(flags: WriteFlags) -> From {
    if flags.contains(WriteFlags::FUSE_WRITE_CACHE) { From::PageCache } else { From::Caller }
}

/// What `fallocate(2)` is asked for; none of what an object cannot do.
#[must_use]
pub const fn allocate_mode(mode: i32) -> Option<Allocate> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_WITHIN: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Some(Allocate::Extend),
        libc::FALLOC_FL_KEEP_SIZE => Some(Allocate::Reserve),
        PUNCH | ZERO_WITHIN => Some(Allocate::Punch),
        libc::FALLOC_FL_ZERO_RANGE => Some(Allocate::Zero),
        _ => None,
    }
}

/// Attributes of other namespaces are not kept: answered without I/O, and without a story.
#[must_use]
pub fn is_foreign(name: &[u8]) -> bool {
    !name.starts_with(b"user.")
}

/// The value, or its size when none was asked for; ERANGE when it does not fit.
pub fn answer_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(length);
    } else if length > size {
        reply.error(fuser::Errno::ERANGE);
    } else {
        reply.data(value);
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
