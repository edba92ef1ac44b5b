//! The way to the kernel's caches, which only the mount knows: attributes that change by something else than a call that sets
//! them, or that turn out to be others than a listing let expect.

use std::fmt;
use std::sync::OnceLock;

use super::Fs;
use super::attr::Ino;

type Forget = Box<dyn Fn(Ino) + Send + Sync>;

/// Tells the kernel to forget the attributes of an inode, once there is one to be told.
#[derive(Default)]
pub(super) struct Kernel(OnceLock<Forget>);

impl fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Kernel").field(&self.0.get().is_some()).finish()
    }
}

impl<S> Fs<S> {
    /// From now on `forget` tells the kernel to forget the attributes of an inode. It is called while a handler runs, and must
    /// not wait. Only the first one counts.
    pub fn on_changed_attributes(&self, forget: impl Fn(Ino) + Send + Sync + 'static) {
        // Set once, by the mount.
        let _ = self.kernel.0.set(Box::new(forget));
    }

    /// The kernel asks for the attributes of an inode before it shows them again, or judges by them.
    pub(super) fn attributes_changed(&self, ino: Ino) {
        if let Some(forget) = self.kernel.0.get() {
            forget(ino);
        }
    }
}
