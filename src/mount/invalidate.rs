//! Telling the kernel to forget: pages from a thread of its own that holds no lock, since that waits for requests in flight.

use std::sync::mpsc;
use std::thread;

use fuser::{INodeNo, Notifier};

use crate::fs::attr::Ino;

/// Hands inodes whose cached pages are wrong to the thread that tells the kernel.
#[derive(Debug, Clone)]
pub struct Invalidator(mpsc::Sender<Ino>);

impl Invalidator {
    /// Starts the thread; it ends with the last clone of this.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(notifier: Notifier) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Ino>();
        thread::Builder::new().name("pailfs-forget".to_owned()).spawn(move || {
            for ino in receiver {
                // The whole file: offset 0, no end. An inode that the kernel does not know (any more) is no error.
                if let Err(error) = notifier.inval_inode(INodeNo(ino.0), 0, 0) {
                    tracing::debug!(%ino, %error, "the kernel keeps its pages");
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// The kernel's pages of `ino` are not what the file holds: a write from a mapping was refused, say.
    pub fn forget_pages(&self, ino: Ino) {
        // The thread is gone only when the mount is.
        let _ = self.0.send(ino);
    }
}

/// The kernel asks for the attributes of `ino` before it uses them again. Without a range this waits for nothing, so that any thread
/// may do it; an inode that the kernel does not know (any more) is no error.
pub fn forget_attributes(notifier: &Notifier, ino: Ino) {
    if let Err(error) = notifier.inval_inode(INodeNo(ino.0), -1, 0) {
        tracing::debug!(%ino, %error, "the kernel keeps the attributes");
    }
}
