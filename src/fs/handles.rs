//! What the kernel has open: files and directories, by handle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::attr::Ino;
use super::tree::inode::Inode;
use super::tree::stream::Stream;
use crate::data::read::Reader;

/// The number of an open file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// How a file was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// May read.
    pub read: bool,
    /// May write.
    pub write: bool,
    /// Writes go to the end.
    pub append: bool,
    /// The content is dropped at open.
    pub truncate: bool,
    /// The name must be new.
    pub exclusive: bool,
}

impl OpenMode {
    /// As of who makes the file: its close brings it to the store, also when it was opened for reading only.
    #[must_use]
    pub const fn of_maker(self) -> Self {
        Self { write: true, ..self }
    }
}

/// An open file.
#[derive(Debug)]
pub struct OpenFile<S> {
    /// Its number.
    pub id: HandleId,
    /// The file: see [`OpenFile::inode`].
    pub at: Mutex<Arc<Inode<S>>>,
    /// How it was opened.
    pub mode: OpenMode,
    /// The thread that opened it.
    pub opened_by: u32,
    /// Reads what the store has; made at open, or by the first read.
    pub reader: Mutex<Option<Arc<Reader<S>>>>,
}

/// An open directory.
#[derive(Debug)]
pub struct OpenDirectory<S> {
    /// The directory.
    pub inode: Arc<Inode<S>>,
    /// What it shows, once it has been read.
    pub stream: Mutex<Option<Arc<Stream>>>,
}

/// All that is open.
#[derive(Debug)]
pub struct Handles<S> {
    next: AtomicU64,
    files: RwLock<HashMap<HandleId, Arc<OpenFile<S>>>>,
    directories: RwLock<HashMap<HandleId, Arc<OpenDirectory<S>>>>,
}

impl<S> Default for Handles<S> {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), files: RwLock::default(), directories: RwLock::default() }
    }
}

impl<S> Handles<S> {
    /// Opens a file.
    pub fn add_file(&self, file: OpenFile<S>) -> HandleId {
        let id = file.id;
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(file));
        id
    }

    /// Opens a directory.
    pub fn add_directory(&self, directory: OpenDirectory<S>) -> HandleId {
        let id = self.id();
        self.directories.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(directory));
        id
    }

    /// The open file of that number.
    #[must_use]
    pub fn file(&self, id: HandleId) -> Option<Arc<OpenFile<S>>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The open directory of that number.
    #[must_use]
    pub fn directory(&self, id: HandleId) -> Option<Arc<OpenDirectory<S>>> {
        self.directories.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Closes a file.
    pub fn remove_file(&self, id: HandleId) -> Option<Arc<OpenFile<S>>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Closes a directory.
    pub fn remove_directory(&self, id: HandleId) -> Option<Arc<OpenDirectory<S>>> {
        self.directories.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// The files that are open for writing, each once.
    #[must_use]
    pub fn written(&self) -> Vec<Arc<Inode<S>>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let written: HashMap<Ino, Arc<Inode<S>>> =
            files.values().filter(|file| file.mode.write).map(|file| file.inode()).map(|inode| (inode.ino, inode)).collect();
        written.into_values().collect()
    }

    /// How much is open: files and directories.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner).len();
        (files, self.directories.read().unwrap_or_else(PoisonError::into_inner).len())
    }

    /// A number that no handle has had.
    #[must_use]
    pub fn id(&self) -> HandleId {
        HandleId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl<S> OpenFile<S> {
    /// The file. Who appends follows the name when another client has replaced what it stood for.
    #[must_use]
    pub fn inode(&self) -> Arc<Inode<S>> {
        Arc::clone(&self.at.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// If it was `old` still it is `new` from now on, of which nothing has been read.
    pub fn follow(&self, old: &Arc<Inode<S>>, new: Arc<Inode<S>>) -> bool {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let still = Arc::ptr_eq(&at, old);
        if still {
            *at = new;
            *self.reader() = None;
        }
        still
    }

    /// The reader's slot.
    pub fn reader(&self) -> MutexGuard<'_, Option<Arc<Reader<S>>>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> OpenDirectory<S> {
    /// The stream's slot.
    pub fn stream(&self) -> MutexGuard<'_, Option<Arc<Stream>>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
