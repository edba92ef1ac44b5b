//! Telling the kernel to forget: pages and names from a thread of its own that holds no lock, since that waits for requests in
//! flight.

use std::ffi::OsStr;
use std::sync::mpsc;
use std::thread;

use fuser::{INodeNo, Notifier};

use crate::fs::kernel::Outdated;

/// Tells the kernel what is wrong of its cache.
#[derive(Debug)]
pub struct Invalidator {
    notifier: Notifier,
    waiting: mpsc::Sender<Outdated>,
}

impl Invalidator {
    /// Starts the thread; it ends with this.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(notifier: Notifier) -> std::io::Result<Self> {
        let (waiting, receiver) = mpsc::channel();
        let own = notifier.clone();
        thread::Builder::new().name("pailfs-forget".to_owned()).spawn(move || {
            for outdated in receiver {
                tell(&own, &outdated);
            }
        })?;
        Ok(Self { notifier, waiting })
    }

    /// What the kernel shall ask for again before it uses it. It is not waited for.
    pub fn tell(&self, outdated: Outdated) {
        match outdated {
            // Without a range it waits for nothing, so that any thread may do it.
            Outdated::Attributes(_) => tell(&self.notifier, &outdated),
            Outdated::Pages(_) | Outdated::Name(..) => {
                // The thread is gone only when the mount is.
                let _ = self.waiting.send(outdated);
            }
        }
    }
}

fn tell(notifier: &Notifier, outdated: &Outdated) {
    let told = match outdated {
        Outdated::Attributes(ino) => notifier.inval_inode(INodeNo(ino.0), -1, 0),
        // The whole file: offset 0, no end.
        Outdated::Pages(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
        Outdated::Name(directory, name) => notifier.inval_entry(INodeNo(directory.0), OsStr::new(name)),
    };
    // What the kernel does not know (any more) is no error.
    if let Err(error) = told {
        tracing::debug!(?outdated, %error, "the kernel keeps what it has");
    }
}
