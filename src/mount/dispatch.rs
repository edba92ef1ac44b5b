//! What every operation has in common: a span, a task, an error's story and its reply; once.
//!
//! A handler never blocks and never panics on the FUSE thread: it answers from memory, or hands its reply to a task. A panic
//! in a task drops the reply, which fuser answers with EIO: for that request alone.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, OnceLock};

use fuser::INodeNo;
use tracing::Instrument as _;

use super::errno;
use super::reply::Fail;
use crate::base::tasks;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::handles::HandleId;
use crate::store::{BucketService, ObjectStore};

/// What an operation is about, for its story.
#[derive(Debug, Clone)]
pub enum Subject {
    /// An inode.
    Inode(Ino),
    /// A name in a directory, which may not be there.
    Name(Ino, Vec<u8>),
}

/// Hands operations to the runtime.
#[derive(Debug)]
pub struct Dispatch<S> {
    fs: Arc<Fs<S>>,
    runtime: tokio::runtime::Handle,
    mount_id: Arc<OnceLock<u64>>,
}

impl<S: ObjectStore + BucketService> Dispatch<S> {
    /// Operations of `fs` on `runtime`. The mount's id is told when it is known.
    pub const fn new(fs: Arc<Fs<S>>, runtime: tokio::runtime::Handle, mount_id: Arc<OnceLock<u64>>) -> Self {
        Self { fs, runtime, mount_id }
    }

    /// The file system.
    pub const fn fs(&self) -> &Arc<Fs<S>> {
        &self.fs
    }

    /// The mount's id, once it is known.
    pub fn mount_id(&self) -> Option<u64> {
        self.mount_id.get().copied()
    }

    /// Tells the kernel what it cannot know after a write through `handle`, which it has opened as `number`. It may have refused
    /// bytes in its cache: those of a mapping are there before they come here. And who appends may have followed the name to
    /// another inode, of which the kernel has what was before.
    pub fn after_write(&self, handle: HandleId, number: Ino) -> impl Fn(&Result<()>) + Send + 'static {
        let fs = Arc::clone(&self.fs);
        move |written| {
            if written.is_err() {
                fs.pages_changed(number);
            }
            if let Some(followed) = fs.inode_of(handle).filter(|now| *now != number) {
                fs.pages_changed(followed);
            }
        }
    }

    /// Lets code on the FUSE thread spawn tasks.
    pub fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Runs an operation and answers with `reply`.
    pub fn run<R, T, F>(
        &self,
        operation: &'static str,
        subject: Subject,
        reply: R,
        work: F,
        answer: impl FnOnce(R, T) + Send + 'static,
    ) where
        R: Fail,
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let fs = Arc::clone(&self.fs);
        let span = tracing::debug_span!("fuse", operation);
        let task = async move {
            match work.await {
                Ok(value) => answer(reply, value),
                Err(error) => {
                    tell(&fs, operation, &subject, &error);
                    reply.fail(error.situation());
                }
            }
        };
        tasks::spawn_on(&self.runtime, task.instrument(span));
    }

    /// Runs what answers by itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tasks::spawn_on(&self.runtime, task);
    }

    /// Answers an error that was met without waiting.
    pub fn fail<R: Fail>(&self, operation: &'static str, subject: &Subject, reply: R, error: &Error) {
        tell(&self.fs, operation, subject, error);
        reply.fail(error.situation());
    }
}

/// A name in a directory, as it is used and as it is told of.
pub fn name_of(parent: INodeNo, name: &OsStr) -> (Ino, Vec<u8>, Subject) {
    let (parent, name) = (Ino(parent.0), name.as_bytes().to_vec());
    (parent, name.clone(), Subject::Name(parent, name))
}

/// Records a failure, unless it is an ordinary answer to a question.
pub fn tell<S: ObjectStore + BucketService>(fs: &Fs<S>, operation: &'static str, subject: &Subject, error: &Error) {
    let asked = matches!(operation, "lookup" | "getattr" | "getxattr" | "listxattr" | "removexattr");
    if asked && matches!(error.situation(), Situation::NotFound | Situation::NoAttribute) {
        return;
    }
    // The kernel reads and writes then; and the end of the data is what was asked for.
    let ordinary = match operation {
        "copy_file_range" => error.situation() == Situation::Unsupported,
        "lseek" => error.situation() == Situation::BeyondEnd,
        _ => false,
    };
    if ordinary {
        return;
    }
    // The kernel looks the name up and opens again by itself: nobody hears of this one, and it must not hide what somebody did.
    if operation == "open" && error.situation() == Situation::Stale {
        tracing::debug!(story = error.words(), "stale at open");
        return;
    }
    let (path, ino) = match subject {
        Subject::Inode(ino) => (fs.path_of(*ino), Some(*ino)),
        Subject::Name(parent, name) => (format!("{}/{}", fs.path_of(*parent), String::from_utf8_lossy(name)), None),
    };
    fs.record_failure(operation, path, ino, errno::of(error.situation()).name, error);
}
