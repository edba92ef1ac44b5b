//! Telling the kernel to forget: pages and names from a thread of its own that holds no lock, since that waits for requests in
//! flight.

use std::ffi::OsStr;
use std::sync::mpsc;
use std::thread;

use fuser::{INodeNo, Notifier};

use crate::fs::attr::Ino;

/// What the kernel has cached.
#[derive(Debug)]
enum Cached {
    Pages(Ino),
    Name(Ino, String),
}

/// Hands what is wrong of the kernel's cache to the thread that tells it.
#[derive(Debug, Clone)]
pub struct Invalidator(mpsc::Sender<Cached>);

impl Invalidator {
    /// Starts the thread; it ends with the last clone of this.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(notifier: Notifier) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("pailfs-forget".to_owned()).spawn(move || {
            for cached in receiver {
                let told = match &cached {
                    // The whole file: offset 0, no end.
                    Cached::Pages(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
                    Cached::Name(directory, name) => notifier.inval_entry(INodeNo(directory.0), OsStr::new(name)),
                };
                // What the kernel does not know (any more) is no error.
                if let Err(error) = told {
                    tracing::debug!(?cached, %error, "the kernel keeps what it has");
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// The kernel's pages of `ino` are not what the file holds: a write from a mapping was refused, say.
    pub fn forget_pages(&self, ino: Ino) {
        self.send(Cached::Pages(ino));
    }

    /// What the kernel knows of a name in a directory may be wrong.
    pub fn forget_name(&self, directory: Ino, name: String) {
        self.send(Cached::Name(directory, name));
    }

    fn send(&self, cached: Cached) {
        // The thread is gone only when the mount is.
        let _ = self.0.send(cached);
    }
}

/// The kernel asks for the attributes of `ino` before it uses them again. Without a range this waits for nothing, so that any thread
/// may do it; an inode that the kernel does not know (any more) is no error.
pub fn forget_attributes(notifier: &Notifier, ino: Ino) {
    if let Err(error) = notifier.inval_inode(INodeNo(ino.0), -1, 0) {
        tracing::debug!(%ino, %error, "the kernel keeps the attributes");
    }
}
