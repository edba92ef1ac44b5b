//! The way to the kernel's caches, which only the mount knows: attributes that change by something else than a call that sets
//! them, or that turn out to be others than a listing let expect; pages that the file does not hold; names that are looked at
//! afresh.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::Fs;
use super::attr::Ino;
use super::name;
use super::tree::inode::Role;

/// What the kernel shall ask for again before it uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outdated {
    /// The attributes of an inode.
    Attributes(Ino),
    /// The bytes of a file.
    Pages(Ino),
    /// What a name in a directory stands for, or that it does not.
    Name(Ino, String),
}

type Forget = Box<dyn Fn(Outdated) + Send + Sync>;

/// So many names that it was told to be missing are remembered, the latest.
const MAX_MISSING: usize = 4096;

/// Tells the kernel to forget, once there is one to be told.
#[derive(Default)]
pub(super) struct Kernel {
    forget: OnceLock<Forget>,
    missing: Mutex<VecDeque<(Ino, String)>>,
}

impl Kernel {
    /// The kernel is told that there is nothing of a name.
    pub(super) fn note_missing(&self, directory: Ino, name: &[u8]) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        let mut missing = self.missing();
        if missing.len() == MAX_MISSING {
            missing.pop_front();
        }
        missing.push_back((directory, name.to_owned()));
    }

    fn missing(&self) -> MutexGuard<'_, VecDeque<(Ino, String)>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, outdated: Outdated) {
        if let Some(forget) = self.forget.get() {
            forget(outdated);
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Kernel").field(&self.forget.get().is_some()).finish()
    }
}

impl<S> Fs<S> {
    /// From now on `forget` tells the kernel. It is called while a handler runs, and must not wait. Only the first one counts.
    pub fn on_outdated(&self, forget: impl Fn(Outdated) + Send + Sync + 'static) {
        // Set once, by the mount.
        let _ = self.kernel.forget.set(Box::new(forget));
    }

    /// The kernel asks for the attributes of an inode before it shows them again, or judges by them.
    pub(super) fn attributes_changed(&self, ino: Ino) {
        self.kernel.tell(Outdated::Attributes(ino));
    }

    /// The kernel's pages of an inode are not what the file holds: a write from a mapping was refused, say.
    pub fn pages_changed(&self, ino: Ino) {
        self.kernel.tell(Outdated::Pages(ino));
    }

    /// Has all that is known asked for again: each directory is listed afresh when it is next looked into, and the kernel asks
    /// for attributes, and what names stand for.
    pub fn look_afresh(&self) {
        for inode in self.table.all() {
            let file = {
                let mut state = inode.lock();
                state.looked_at = None;
                state.directory.forget_listing();
                // Who is in a directory stays there: its own name is not touched.
                let parent = state.place.parent.as_ref().filter(|_| state.linked && !inode.is_directory());
                parent.and_then(|parent| Some((parent.ino, name::show(&state.place.component, state.beside_directory)?)))
            };
            if let Some((directory, name)) = file {
                self.kernel.tell(Outdated::Name(directory, name));
            }
            self.attributes_changed(inode.ino);
        }
        let missing = std::mem::take(&mut *self.kernel.missing());
        let is_directory = |(directory, name): &(Ino, String)| {
            name::parse(name).is_some_and(|shown| self.table.at(*directory, Role::Directory, &shown.component).is_some())
        };
        // What was made since is told above, or is a directory.
        for (directory, name) in missing.into_iter().filter(|missing| !is_directory(missing)) {
            self.kernel.tell(Outdated::Name(directory, name));
        }
    }
}
