//! Layer 5: the composition root: a store and a file system behind a mount point, from its first check to its end.
//!
//! Lifecycle: check the directory (a dead mount on it is taken away) and the source; mount; tell who waits that it is
//! usable; serve until a signal or an unmount from outside; upload what is left; unmount; end. What could not be uploaded
//! is said, and makes the process fail.

mod adapter;
mod attach;
mod dispatch;
pub mod errno;
mod fdinfo;
mod invalidate;
pub mod mountinfo;
mod reply;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use std::{fs as std_fs, io};

pub use self::attach::{Detach, unmount};

use self::adapter::Adapter;
use self::dispatch::{Dispatch, Subject};
use self::invalidate::Invalidator;
use crate::base::{clock, tasks};
use crate::fs::config::Config;
use crate::fs::{Fs, Pending};
use crate::store::{BucketService, ObjectStore};
use crate::telemetry::counters::Counters;

/// What the kernel reads ahead by itself, in KiB, where we may say so: larger READs, and some in flight.
const READ_AHEAD_KIB: &str = "1024";

/// Who wants the process to stop at once waits no longer than this for the mount to be taken away.
const DETACH_LIMIT: Duration = Duration::from_secs(2);
/// It is looked for what nobody has claimed so often, at most and at least.
const LEAST_ROUND: Duration = Duration::from_millis(25);
const LONGEST_ROUND: Duration = Duration::from_secs(1);
/// Attributes that wait are looked for so often.
const UNSENT_ROUND: Duration = Duration::from_millis(250);

/// What is mounted where.
#[derive(Debug, Clone)]
pub struct MountSettings {
    /// The directory.
    pub directory: PathBuf,
    /// How the source is shown in the mount table.
    pub source: String,
    /// The file system's settings.
    pub config: Config,
    /// Other users may use the mount.
    pub allow_other: bool,
    /// More options for the kernel, as they are (`noexec`, ...).
    pub kernel_options: Vec<String>,
}

/// Why a mount did not come about, or did not end well: one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory cannot be mounted on.
    #[error("cannot mount on '{0}': {1}")]
    Directory(PathBuf, String),
    /// The kernel or fusermount3 refused.
    #[error("cannot mount: {0}")]
    Refused(String),
    /// The serving threads failed.
    #[error("the mount broke: {0}")]
    Broken(io::Error),
    /// Data that is not in the store.
    #[error("{} not uploaded, first of them '{}': {}", files(.0.len()), .0[0].path, .0[0].error.as_deref().unwrap_or("still being written"))]
    NotUploaded(Vec<Pending>),
    /// Data that is not in the store, but on the local disk.
    #[error("{} not uploaded, but kept in '{}'", files(*.0), .1.display())]
    Kept(usize, PathBuf),
    /// A second signal ended the process.
    #[error("stopped at once by a second signal: {} not uploaded", files(*.0))]
    Interrupted(usize),
}

fn files(count: usize) -> String {
    if count == 1 { "1 file was".to_owned() } else { format!("{count} files were") }
}

/// Makes sure that `directory` can be mounted on; a dead mount on it is taken away first.
///
/// # Errors
/// [`MountError::Directory`] with the reason.
pub fn prepare_directory(directory: &Path) -> Result<PathBuf, MountError> {
    let refuse = |why: String| MountError::Directory(directory.to_owned(), why);
    if is_dead(directory) {
        // A daemon that was killed leaves its mount in the table.
        unmount(directory, Detach::Yes).map_err(|error| refuse(format!("a dead mount on it cannot be removed: {error}")))?;
    }
    let directory = std_fs::canonicalize(directory).map_err(|error| refuse(error.to_string()))?;
    if !directory.is_dir() {
        return Err(refuse("it is not a directory".to_owned()));
    }
    let there = mountinfo::on(&directory).map_err(|error| refuse(error.to_string()))?;
    if let Some(there) = there
        && there.fs_type == mountinfo::FS_TYPE
    {
        return Err(refuse(format!("'{}' is mounted there already; pailfs umount {} first", there.source, directory.display())));
    }
    Ok(directory)
}

/// Whether `directory` is a mount whose daemon is gone. Its attributes may still be remembered by the kernel, its entries are
/// not.
#[must_use]
pub fn is_dead(directory: &Path) -> bool {
    std_fs::read_dir(directory).is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN))
}

/// Makes sure that there is a FUSE device that may be opened.
///
/// # Errors
/// [`MountError::Refused`] with what to do.
pub fn check_device() -> Result<(), MountError> {
    match std_fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MountError::Refused(
            "/dev/fuse is missing: load the module with 'modprobe fuse' (in a container: --device /dev/fuse)".into(),
        )),
        Err(error) => Err(MountError::Refused(format!("/dev/fuse cannot be opened: {error}"))),
    }
}

/// A mount that is being served.
#[derive(Debug)]
pub struct Mounted<S> {
    fs: Arc<Fs<S>>,
    directory: PathBuf,
    session: fuser::BackgroundSession,
}

impl<S: ObjectStore + BucketService> Mounted<S> {
    /// Mounts `store`; when this returns the mount can be used.
    ///
    /// # Errors
    /// [`MountError::Refused`].
    pub fn start(
        store: S,
        settings: MountSettings,
        counters: Arc<Counters>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, MountError> {
        let fs = Fs::new(store, settings.config.clone(), counters);
        let mount_id = Arc::new(OnceLock::new());
        let dispatch = Dispatch::new(Arc::clone(&fs), runtime.clone(), Arc::clone(&mount_id));
        let adapter = Adapter::new(dispatch);
        let refused = |error: io::Error| MountError::Refused(explain(&error));
        let config = attach::session_config(&settings);
        let session = match attach::by_system_call(&settings).map_err(refused)? {
            Some(device) => fuser::Session::from_fd(adapter, device, config.acl, config),
            None => fuser::Session::new(adapter, &settings.directory, &config),
        };
        let session = session.map_err(refused)?;
        let session = session.spawn().map_err(refused)?;
        let kernel = Invalidator::start(session.notifier()).map_err(refused)?;
        fs.on_outdated(move |outdated| kernel.tell(outdated));
        if let Ok(Some(mount)) = mountinfo::on(&settings.directory) {
            // Set once, here.
            let _ = mount_id.set(mount.id);
            let read_ahead = format!("/sys/class/bdi/{}/read_ahead_kb", mount.device);
            if let Err(error) = std_fs::write(&read_ahead, READ_AHEAD_KIB) {
                tracing::debug!(%error, "the kernel's read-ahead stays at 128 KiB");
            }
        }
        Ok(Self { fs, directory: settings.directory, session })
    }

    /// The file system that is served.
    #[must_use]
    pub fn fs(&self) -> Arc<Fs<S>> {
        Arc::clone(&self.fs)
    }

    /// Serves until `stop` is told or the mount is taken away from outside, then uploads what is left and unmounts.
    ///
    /// # Errors
    /// [`MountError::NotUploaded`], [`MountError::Interrupted`], [`MountError::Broken`].
    pub async fn serve(self, mut stop: impl AsyncFnMut()) -> Result<(), MountError> {
        let Self { fs, directory, session } = self;
        if let Some(after) = fs.config().commit_after {
            tasks::spawn(commit_unclaimed(Arc::downgrade(&fs), after));
        }
        tasks::spawn(send_unsent(Arc::downgrade(&fs)));
        let (ended, mut end) = tokio::sync::oneshot::channel();
        let ending = tasks::spawn(async move {
            let outcome = tasks::blocking(move || session.join()).await;
            // Nobody listens once the process is going.
            let _ = ended.send(outcome);
        });
        let mut broken = None;
        let still_mounted = tokio::select! {
            () = stop() => true,
            outcome = &mut end => {
                broken = outcome.ok().and_then(io::Result::err);
                false
            }
        };
        let mut pending = tokio::select! {
            pending = fs.commit_all() => pending,
            () = stop() => {
                let lost = fs.pending().len();
                if still_mounted {
                    detach_at_once(directory).await;
                }
                return Err(MountError::Interrupted(lost));
            }
        };
        if still_mounted {
            tasks::blocking(move || {
                if unmount(&directory, Detach::No).is_err()
                    && let Err(error) = unmount(&directory, Detach::Yes)
                {
                    tracing::error!(%error, directory = %directory.display(), "cannot unmount");
                }
            })
            .await;
        }
        // Files that are still open were written since, or removed and wait for their close.
        if fs.open_handles().0 > 0 {
            pending = tokio::select! {
                pending = fs.finish() => pending,
                () = stop() => return Err(MountError::Interrupted(fs.pending().len())),
            };
        }
        fs.remember().await;
        let unstored = pending.len();
        if unstored > 0 {
            pending = fs.keep_all().await;
        }
        let kept = unstored - pending.len().min(unstored);
        ending.abort();
        match (pending.is_empty(), broken) {
            (false, _) => Err(MountError::NotUploaded(pending)),
            (true, _) if kept > 0 => Err(MountError::Kept(kept, fs.config().kept_directory.clone().unwrap_or_default())),
            (true, Some(error)) if error.raw_os_error() != Some(libc::ENODEV) => Err(MountError::Broken(error)),
            (true, _) => Ok(()),
        }
    }
}

/// Brings to the store what no close or fsync has claimed, as long as there is the mount.
async fn commit_unclaimed<S: ObjectStore + BucketService>(fs: Weak<Fs<S>>, after: Duration) {
    loop {
        clock::sleep((after / 4).clamp(LEAST_ROUND, LONGEST_ROUND)).await;
        let Some(fs) = fs.upgrade() else { return };
        for (ino, error) in fs.commit_unclaimed(after).await {
            dispatch::tell(&fs, "commit", &Subject::Inode(ino), &error);
        }
    }
}

/// Sends attributes that have waited for a rename, as long as there is the mount.
async fn send_unsent<S: ObjectStore + BucketService>(fs: Weak<Fs<S>>) {
    loop {
        clock::sleep(UNSENT_ROUND).await;
        let Some(fs) = fs.upgrade() else { return };
        for (ino, error) in fs.send_unsent().await {
            dispatch::tell(&fs, "setattr", &Subject::Inode(ino), &error);
        }
    }
}

/// Takes the mount out of the tree, so that the process leaves none behind that answers ENOTCONN.
async fn detach_at_once(directory: PathBuf) {
    let shown = directory.display().to_string();
    match clock::deadline(DETACH_LIMIT, tasks::blocking(move || unmount(&directory, Detach::Yes))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, directory = shown, "cannot unmount"),
        Err(error) => tracing::error!(%error, directory = shown, "cannot unmount"),
    }
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => format!("{error}: mounting needs root, or the program fusermount3 (package fuse3)"),
        Some(libc::ENOENT) => format!("{error}: is the program fusermount3 there? (package fuse3)"),
        _ => error.to_string(),
    }
}
