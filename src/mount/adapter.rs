//! FUSE's operations as calls of the file system: copies what it needs out of the request, no more.
//!
//! Kernel behaviour that shapes it: a name that is not there is an entry with inode 0 and a TTL (ENOENT is not cached);
//! reading handles keep the page cache and are not flushed; write-only handles are direct; attributes that a listing did not
//! know for sure have a TTL of zero. Never SETXATTR_EXT, POSIX_ACL or WRITEBACK_CACHE.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::dispatch::{Dispatch, Subject, name_of, tell};
use super::fdinfo::OpenElsewhere;
use super::reply::{
    Fail, absent, allocate_mode, answer_xattr, caller, file_attr, file_type, handle, ino, is_foreign, open_flags, open_mode,
    set_time, written_from,
};
use crate::data::write::extents::Seek;
use crate::fs::attr::SetAttr;
use crate::fs::error::{Error, Situation};
use crate::fs::{Full, Looked, Plus, ReadNow, Replace, SetHow, Spot, WriteNow};
use crate::store::{BucketService, ObjectStore};

/// An inode number is not used again for another object while the kernel knows it.
const GENERATION: Generation = Generation(0);
/// Requests that the kernel keeps in flight by itself; its own default of 12 starves read-ahead.
const MAX_BACKGROUND: u16 = 64;
/// The answer to a copy has 32 bits, and the kernel asks for the rest.
const MAX_COPY_BYTES: u64 = 2 << 30;

/// A file system for fuser.
#[derive(Debug)]
pub struct Adapter<S> {
    dispatch: Dispatch<S>,
}

impl<S: ObjectStore + BucketService> Adapter<S> {
    /// Adapts what `dispatch` runs.
    pub const fn new(dispatch: Dispatch<S>) -> Self {
        Self { dispatch }
    }

    fn ttl(&self) -> Duration {
        self.dispatch.fs().config().ttl
    }
}

impl<S: ObjectStore + BucketService> Filesystem for Adapter<S> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_AUTO_INVAL_DATA
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        for capability in wanted.iter() {
            // An older kernel lacks some: each is asked for alone.
            if config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "the kernel does not offer");
            }
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND / 4 * 3);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (parent, name, subject) = name_of(parent, name);
        let (fs, ttl) = (Arc::clone(self.dispatch.fs()), self.ttl());
        self.dispatch.run("lookup", subject, reply, async move { fs.lookup(parent, &name).await }, move |reply, looked| {
            match looked {
                Looked::Found(stat) => reply.entry(&ttl, &file_attr(&stat), GENERATION),
                Looked::Absent => reply.entry(&ttl, &absent(), GENERATION),
            }
        });
    }

    fn forget(&self, _request: &Request, number: INodeNo, lookups: u64) {
        self.dispatch.fs().forget(ino(number), lookups);
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let (fs, number, ttl) = (Arc::clone(self.dispatch.fs()), ino(number), self.ttl());
        if let Some(stat) = fs.getattr_now(number) {
            return reply.attr(&ttl, &file_attr(&stat));
        }
        let work = async move { fs.getattr(number).await };
        self.dispatch.run("getattr", Subject::Inode(number), reply, work, move |reply, stat| reply.attr(&ttl, &file_attr(&stat)));
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        file: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (fs, number, caller, ttl) = (Arc::clone(self.dispatch.fs()), ino(number), caller(request), self.ttl());
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let change = SetAttr { size, through: file.map(handle), mode, uid, gid, atime, mtime };
        let work = async move { fs.setattr(number, change, caller).await };
        self.dispatch.run("setattr", Subject::Inode(number), reply, work, move |reply, stat| reply.attr(&ttl, &file_attr(&stat)));
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        let (fs, number) = (Arc::clone(self.dispatch.fs()), ino(number));
        let work = async move { fs.readlink(number).await };
        self.dispatch.run("readlink", Subject::Inode(number), reply, work, |reply, target| reply.data(&target));
    }

    fn mknod(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, rdev: u32, reply: ReplyEntry) {
        let (parent, name, subject) = name_of(parent, name);
        let (fs, caller, ttl) = (Arc::clone(self.dispatch.fs()), caller(request), self.ttl());
        let work = async move { fs.mknod(parent, &name, mode, rdev, caller).await };
        self.dispatch.run("mknod", subject, reply, work, move |reply, stat| reply.entry(&ttl, &file_attr(&stat), GENERATION));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let (parent, name, subject) = name_of(parent, name);
        let (fs, caller, ttl) = (Arc::clone(self.dispatch.fs()), caller(request), self.ttl());
        let work = async move { fs.mkdir(parent, &name, mode, caller).await };
        self.dispatch.run("mkdir", subject, reply, work, move |reply, stat| reply.entry(&ttl, &file_attr(&stat), GENERATION));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (parent, name, subject) = name_of(parent, name);
        let (fs, caller, ttl) = (Arc::clone(self.dispatch.fs()), caller(request), self.ttl());
        let target = target.as_os_str().as_bytes().to_vec();
        let work = async move { fs.symlink(parent, &name, &target, caller).await };
        self.dispatch.run("symlink", subject, reply, work, move |reply, stat| reply.entry(&ttl, &file_attr(&stat), GENERATION));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name, subject) = name_of(parent, name);
        let fs = Arc::clone(self.dispatch.fs());
        self.dispatch.run("unlink", subject, reply, async move { fs.unlink(parent, &name).await }, |reply, ()| reply.ok());
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name, subject) = name_of(parent, name);
        let fs = Arc::clone(self.dispatch.fs());
        self.dispatch.run("rmdir", subject, reply, async move { fs.rmdir(parent, &name).await }, |reply, ()| reply.ok());
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (parent, name, subject) = name_of(parent, name);
        let (new_parent, new_name, _) = name_of(new_parent, new_name);
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            let error = Error::new(Situation::Invalid, "S3 can neither exchange two names nor leave a whiteout");
            return self.dispatch.fail("rename", &subject, reply, &error);
        }
        let replace = if flags.contains(RenameFlags::RENAME_NOREPLACE) { Replace::Forbidden } else { Replace::Allowed };
        let fs = Arc::clone(self.dispatch.fs());
        let work = async move { fs.rename((parent, &name), (new_parent, &new_name), replace).await };
        self.dispatch.run("rename", subject, reply, work, |reply, ()| reply.ok());
    }

    fn link(&self, _request: &Request, _number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (_, _, subject) = name_of(parent, name);
        let error = Error::new(Situation::NotPermitted, "an object has one key: S3 has no hard links");
        self.dispatch.fail("link", &subject, reply, &error);
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (fs, number, caller, mode) = (Arc::clone(self.dispatch.fs()), ino(number), caller(request), open_mode(flags));
        let work = async move { fs.open(number, mode, caller).await };
        self.dispatch.run("open", Subject::Inode(number), reply, work, move |reply, handle| {
            reply.opened(FileHandle(handle.0), open_flags(mode));
        });
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, flags: i32, reply: ReplyCreate) {
        let (parent, name, subject) = name_of(parent, name);
        let (fs, caller, ttl, how) = (Arc::clone(self.dispatch.fs()), caller(request), self.ttl(), open_mode(OpenFlags(flags)));
        let work = async move { fs.create(parent, &name, mode, how, caller).await };
        self.dispatch.run("create", subject, reply, work, move |reply, (stat, handle)| {
            reply.created(&ttl, &file_attr(&stat), GENERATION, FileHandle(handle.0), open_flags(how.of_maker()));
        });
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (fs, file) = (Arc::clone(self.dispatch.fs()), handle(file));
        let now = {
            let _runtime = self.dispatch.enter();
            fs.read_now(file, offset, u64::from(size))
        };
        if let ReadNow::Bytes(bytes) = now {
            return reply.data(&bytes);
        }
        let work = async move { fs.read(file, offset, u64::from(size)).await };
        self.dispatch.run("read", Subject::Inode(ino(number)), reply, work, |reply, bytes: Bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        data: &[u8],
        how: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (fs, file, caller) = (Arc::clone(self.dispatch.fs()), handle(file), caller(request));
        let subject = Subject::Inode(ino(number));
        let taken = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let now = {
            let _runtime = self.dispatch.enter();
            fs.write_now(file, (offset, written_from(how)), data, caller)
        };
        let after = self.dispatch.after_write(file, ino(number));
        match now {
            WriteNow::Done(written) => {
                after(&written);
                match written {
                    Ok(()) => reply.written(taken),
                    Err(error) => self.dispatch.fail("write", &subject, reply, &error),
                }
            }
            WriteNow::Later => {
                let data = Bytes::copy_from_slice(data);
                let work = async move {
                    let written = fs.write_from(file, (offset, written_from(how)), data, caller).await;
                    after(&written);
                    written
                };
                self.dispatch.run("write", subject, reply, work, move |reply, ()| reply.written(taken));
            }
        }
    }

    fn flush(&self, request: &Request, number: INodeNo, file: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let (fs, file, flusher) = (Arc::clone(self.dispatch.fs()), handle(file), caller(request).tid);
        let (inode, mount_id) = (ino(number), self.dispatch.mount_id());
        let work = async move {
            fs.flush(file, |open| {
                let elsewhere = mount_id.map(|mount_id| OpenElsewhere { ino: inode.0, mount_id });
                elsewhere.is_some_and(|elsewhere| elsewhere.is_shown_by([flusher, open.opened_by]))
            })
            .await
        };
        self.dispatch.run("close", Subject::Inode(inode), reply, work, |reply, ()| reply.ok());
    }

    fn release(
        &self,
        _request: &Request,
        number: INodeNo,
        file: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (fs, file, number) = (Arc::clone(self.dispatch.fs()), handle(file), ino(number));
        fs.part(file);
        let work = async move { fs.release(file).await };
        self.dispatch.run("release", Subject::Inode(number), reply, work, |reply, ()| reply.ok());
    }

    fn fsync(&self, _request: &Request, number: INodeNo, file: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        let (fs, file, number) = (Arc::clone(self.dispatch.fs()), handle(file), ino(number));
        self.dispatch.run("fsync", Subject::Inode(number), reply, async move { fs.fsync(file).await }, |reply, ()| reply.ok());
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.dispatch.fs().opendir(ino(number)) {
            Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::empty()),
            Err(error) => reply.fail(error.situation()),
        }
    }

    fn readdir(&self, _request: &Request, number: INodeNo, directory: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let (fs, directory, number) = (Arc::clone(self.dispatch.fs()), handle(directory), ino(number));
        let task = async move {
            let listed = fs
                .readdir(directory, offset, Plus::No, |entry| {
                    let full = reply.add(INodeNo(entry.stat.ino.0), entry.offset, file_type(entry.stat.kind), entry.name);
                    if full { Full::Yes } else { Full::No }
                })
                .await;
            match listed {
                Ok(()) => reply.ok(),
                Err(error) => {
                    tell(&fs, "readdir", &Subject::Inode(number), &error);
                    reply.fail(error.situation());
                }
            }
        };
        self.dispatch.spawn(task);
    }

    fn readdirplus(
        &self,
        _request: &Request,
        number: INodeNo,
        directory: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (fs, directory, number, ttl) = (Arc::clone(self.dispatch.fs()), handle(directory), ino(number), self.ttl());
        let task = async move {
            let listed = fs
                .readdir(directory, offset, Plus::Yes, |entry| {
                    let ttl = if entry.certain { ttl } else { Duration::ZERO };
                    let number = INodeNo(entry.stat.ino.0);
                    let full = reply.add(number, entry.offset, entry.name, &ttl, &file_attr(&entry.stat), GENERATION);
                    if full { Full::Yes } else { Full::No }
                })
                .await;
            match listed {
                Ok(()) => reply.ok(),
                Err(error) => {
                    tell(&fs, "readdir", &Subject::Inode(number), &error);
                    reply.fail(error.situation());
                }
            }
        };
        self.dispatch.spawn(task);
    }

    fn releasedir(&self, _request: &Request, _number: INodeNo, directory: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.dispatch.fs().releasedir(handle(directory));
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, _number: INodeNo, _directory: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        // mkdir, rmdir, unlink and rename have waited for S3 already.
        reply.ok();
    }

    fn ioctl(
        &self,
        _request: &Request,
        _number: INodeNo,
        _file: FileHandle,
        _flags: fuser::IoctlFlags,
        _command: u32,
        _data: &[u8],
        _out_size: u32,
        reply: fuser::ReplyIoctl,
    ) {
        // Programs ask whether a file is a terminal.
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let subject = Subject::Inode(ino(number));
        let Some(how) = allocate_mode(mode) else {
            let error = Error::new(Situation::Unsupported, "ranges of an object can be neither collapsed, inserted nor unshared");
            return self.dispatch.fail("fallocate", &subject, reply, &error);
        };
        let (fs, spot, caller) = (Arc::clone(self.dispatch.fs()), Spot { handle: handle(file), offset }, caller(request));
        let work = async move { fs.allocate(spot, length, how, caller).await };
        self.dispatch.run("fallocate", subject, reply, work, |reply, ()| reply.ok());
    }

    fn lseek(&self, _request: &Request, number: INodeNo, file: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let wanted = if whence == libc::SEEK_HOLE { Seek::Hole } else { Seek::Data };
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        match self.dispatch.fs().seek(Spot { handle: handle(file), offset }, wanted) {
            Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(error) => self.dispatch.fail("lseek", &Subject::Inode(ino(number)), reply, &error),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _source: INodeNo,
        source: FileHandle,
        at: u64,
        number: INodeNo,
        file: FileHandle,
        offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (fs, caller) = (Arc::clone(self.dispatch.fs()), caller(request));
        let (from, to) = (Spot { handle: handle(source), offset: at }, Spot { handle: handle(file), offset });
        let work = async move { fs.copy_range(from, to, length.min(MAX_COPY_BYTES), caller).await };
        self.dispatch.run("copy_file_range", Subject::Inode(ino(number)), reply, work, |reply, taken| {
            reply.written(u32::try_from(taken).unwrap_or(u32::MAX));
        });
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let space = self.dispatch.fs().statfs();
        let (blocks, files) = (space.blocks, space.files);
        reply.statfs(blocks, blocks, blocks, files, files, space.block_bytes, space.name_bytes, space.block_bytes);
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            libc::XATTR_CREATE => SetHow::Create,
            libc::XATTR_REPLACE => SetHow::Replace,
            _ => SetHow::Any,
        };
        let (fs, number, caller) = (Arc::clone(self.dispatch.fs()), ino(number), caller(request));
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        if is_foreign(&name) {
            return reply.fail(Situation::Unsupported);
        }
        let work = async move { fs.setxattr(number, &name, &value, how, caller).await };
        self.dispatch.run("setxattr", Subject::Inode(number), reply, work, |reply, ()| reply.ok());
    }

    fn getxattr(&self, request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (fs, number, caller, name) = (Arc::clone(self.dispatch.fs()), ino(number), caller(request), name.as_bytes().to_vec());
        // `ls` asks twice and gives up on this answer.
        if is_foreign(&name) {
            return reply.fail(Situation::Unsupported);
        }
        let work = async move { fs.getxattr_into(number, &name, size as usize, caller).await };
        self.dispatch.run("getxattr", Subject::Inode(number), reply, work, move |reply, value| answer_xattr(reply, size, &value));
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let (fs, number) = (Arc::clone(self.dispatch.fs()), ino(number));
        let work = async move { fs.listxattr(number).await };
        self.dispatch.run("listxattr", Subject::Inode(number), reply, work, move |reply, names| {
            let list: Vec<u8> = names.iter().flat_map(|name| name.bytes().chain([0])).collect();
            answer_xattr(reply, size, &list);
        });
    }

    fn removexattr(&self, _request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, number, name) = (Arc::clone(self.dispatch.fs()), ino(number), name.as_bytes().to_vec());
        if is_foreign(&name) {
            return reply.fail(Situation::Unsupported);
        }
        let work = async move { fs.removexattr(number, &name).await };
        self.dispatch.run("removexattr", Subject::Inode(number), reply, work, |reply, ()| reply.ok());
    }
}
