//! Attaching to the mount table: by mount(2) where that is allowed, else by `fusermount3` (through fuser), and detaching.
//!
//! mount(2) is called here and not by fuser, whose call leaves the type `fuse`: then neither `mount -t fuse.pailfs` nor our own
//! tools would know the mount. <https://www.kernel.org/doc/html/latest/filesystems/fuse/fuse.html>

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::{MountSettings, mountinfo};

/// Mounts by the system call and returns the connection to serve; `None` when that takes privileges we do not have.
pub(super) fn by_system_call(settings: &MountSettings) -> io::Result<Option<OwnedFd>> {
    let device: OwnedFd = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse")?.into();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let allow = if settings.allow_other { ",allow_other" } else { "" };
    let data = format!("fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions{allow}", device.as_raw_fd());
    let data = CString::new(data).map_err(io::Error::other)?;
    match rustix::mount::mount(
        settings.source.as_str(),
        &settings.directory,
        mountinfo::FS_TYPE,
        flags(settings),
        Some(data.as_c_str()),
    ) {
        Ok(()) => Ok(Some(device)),
        Err(Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn flags(settings: &MountSettings) -> MountFlags {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    if settings.config.read_only {
        flags |= MountFlags::RDONLY;
    }
    for option in &settings.kernel_options {
        flags |= match option.as_str() {
            "noexec" => MountFlags::NOEXEC,
            "sync" => MountFlags::SYNCHRONOUS,
            "dirsync" => MountFlags::DIRSYNC,
            "nosymfollow" => MountFlags::from_bits_retain(NOSYMFOLLOW),
            _ => MountFlags::empty(),
        };
    }
    flags
}

/// `MS_NOSYMFOLLOW` of `linux/mount.h`.
const NOSYMFOLLOW: u32 = 256;

/// The same for fuser, which calls `fusermount3`.
pub(super) fn session_config(settings: &MountSettings) -> fuser::Config {
    use fuser::MountOption;
    let mut options = vec![
        MountOption::FSName(settings.source.clone()),
        MountOption::Subtype("pailfs".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoAtime,
    ];
    if settings.config.read_only {
        options.push(MountOption::RO);
    }
    options.extend(settings.kernel_options.iter().map(|option| match option.as_str() {
        "noexec" => MountOption::NoExec,
        "exec" => MountOption::Exec,
        "sync" => MountOption::Sync,
        "dirsync" => MountOption::DirSync,
        other => MountOption::CUSTOM(other.to_owned()),
    }));
    let mut config = fuser::Config::default();
    config.mount_options = options;
    config.n_threads = Some(FUSE_THREADS);
    config.acl = if settings.allow_other { fuser::SessionACL::All } else { fuser::SessionACL::Owner };
    config
}

/// FUSE threads: for liveness, not for throughput.
const FUSE_THREADS: usize = 2;

/// Whether a busy mount is taken out of the tree all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Gone from the tree now, for good when nobody uses it any more.
    Yes,
    /// Refused while it is in use.
    No,
}

/// Unmounts a directory, by the system call where that is allowed, else by `fusermount3`.
///
/// # Errors
/// `EBUSY` while it is in use, and what else umount2(2) says.
pub fn unmount(directory: &Path, detach: Detach) -> io::Result<()> {
    let flags = if detach == Detach::Yes { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(directory, flags) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => by_helper(directory, detach),
        Err(error) => Err(error.into()),
    }
}

fn by_helper(directory: &Path, detach: Detach) -> io::Result<()> {
    let mut command = std::process::Command::new("fusermount3");
    command.arg("-u");
    if detach == Detach::Yes {
        command.arg("-z");
    }
    let output = command.arg("--").arg(directory).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let busy = words.contains("busy");
    Err(if busy { Errno::BUSY.into() } else { io::Error::other(words) })
}
