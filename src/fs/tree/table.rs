//! All inodes by number and by place, with the kernel's lookup counts.
//!
//! The kernel may use a number until it has forgotten it as often as it was told of it; the number stays in the table that
//! long. What this mount has made, and directories, stay for a while longer: the store does not tell all that is known of them
//! (times to the nanosecond, what has happened in a directory, whose setuid bits and devices they are). Numbers are a hash of
//! bucket and key (the next free one on collision), so they survive remounts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::inode::{Inode, Role, State};
use crate::fs::attr::Ino;
use crate::fs::name::Component;

/// Numbers below this are not given out by hash.
const FIRST_HASHED: u64 = 16;

type PlaceKey = (Ino, Role, Component);

/// The inode table.
#[derive(Debug)]
pub struct Table<S> {
    inner: RwLock<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    inodes: HashMap<Ino, Slot<S>>,
    places: HashMap<PlaceKey, Ino>,
    /// How many places are in a directory: it stays as long as there is one, since what is below finds its key by it.
    inside: HashMap<Ino, usize>,
    /// What the kernel has forgotten and is kept, the longest forgotten first; maybe it has been told of some again.
    forgotten: VecDeque<Ino>,
    most_forgotten: usize,
}

#[derive(Debug)]
struct Slot<S> {
    inode: Arc<Inode<S>>,
    lookups: u64,
    /// The kernel has forgotten it, and it is kept.
    is_forgotten: bool,
}

impl<S> Slot<S> {
    const fn new(inode: Arc<Inode<S>>, lookups: u64) -> Self {
        Self { inode, lookups, is_forgotten: false }
    }
}

impl<S> Table<S> {
    /// A table that holds the root for ever, and so many that the kernel has forgotten.
    #[must_use]
    pub fn new(root: Arc<Inode<S>>, most_forgotten: usize) -> Self {
        let slot = Slot::new(root, 1);
        let inodes = HashMap::from([(Ino::ROOT, slot)]);
        let inner = Inner { inodes, places: HashMap::new(), inside: HashMap::new(), forgotten: VecDeque::new(), most_forgotten };
        Self { inner: RwLock::new(inner) }
    }

    /// The inode of that number.
    #[must_use]
    pub fn get(&self, ino: Ino) -> Option<Arc<Inode<S>>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.inodes.get(&ino).map(|slot| Arc::clone(&slot.inode))
    }

    /// The inode at a place.
    #[must_use]
    pub fn at(&self, parent: Ino, role: Role, component: &Component) -> Option<Arc<Inode<S>>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let ino = inner.places.get(&(parent, role, component.clone()))?;
        inner.inodes.get(ino).map(|slot| Arc::clone(&slot.inode))
    }

    /// Puts the inode that `make` builds at a place, with a number after `wanted`; when `expected` is not what is there
    /// (any more), what is there is returned and nothing changes.
    pub fn insert(
        &self,
        (parent, role, component): PlaceKey,
        wanted: u64,
        expected: Option<&Arc<Inode<S>>>,
        make: impl FnOnce(Ino) -> Arc<Inode<S>>,
    ) -> Arc<Inode<S>> {
        let mut inner = self.write();
        let key = (parent, role, component);
        let there = inner.places.get(&key).and_then(|ino| inner.inodes.get(ino)).map(|slot| Arc::clone(&slot.inode));
        if let Some(there) = there
            && !expected.is_some_and(|expected| Arc::ptr_eq(expected, &there))
        {
            return there;
        }
        let mut number = wanted.max(FIRST_HASHED);
        while inner.inodes.contains_key(&Ino(number)) {
            number = number.checked_add(1).unwrap_or(FIRST_HASHED);
        }
        let inode = make(Ino(number));
        inner.inodes.insert(Ino(number), Slot::new(Arc::clone(&inode), 0));
        inner.put(key, Ino(number));
        inode
    }

    /// Takes the name away from `inode`; it stays for its handles and for what the kernel knows.
    pub fn unlink(&self, parent: Ino, role: Role, component: &Component, inode: &Arc<Inode<S>>) {
        let mut inner = self.write();
        inner.take(&(parent, role, component.clone()), inode.ino);
    }

    /// Gives `inode` a new place, in which nobody is.
    pub fn relink(&self, from: (Ino, &Component), to: (Ino, &Component), inode: &Arc<Inode<S>>) {
        let mut inner = self.write();
        let role = inode.role();
        inner.put((to.0, role, to.1.clone()), inode.ino);
        inner.take(&(from.0, role, from.1.clone()), inode.ino);
    }

    /// The kernel was told of `inode` once more.
    pub fn remember(&self, inode: &Arc<Inode<S>>) {
        let mut inner = self.write();
        let slot = inner.inodes.entry(inode.ino).or_insert_with(|| Slot::new(Arc::clone(inode), 0));
        (slot.lookups, slot.is_forgotten) = (slot.lookups + 1, false);
    }

    /// The kernel has forgotten `ino` so often. What nobody knows any more is dropped.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let mut inner = self.write();
        if let Some(slot) = inner.inodes.get_mut(&ino) {
            slot.lookups = slot.lookups.saturating_sub(lookups);
        }
        inner.drop_if_unused(ino);
    }

    /// A handle of `ino` is gone, or its content is safe: drops it if nobody knows it any more.
    pub fn release(&self, ino: Ino) {
        self.write().drop_if_unused(ino);
    }

    /// All inodes, for what concerns the whole mount.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Inode<S>>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.inodes.values().map(|slot| Arc::clone(&slot.inode)).collect()
    }

    /// How often the kernel was told of `ino` and has not forgotten it.
    #[must_use]
    pub fn lookups(&self, ino: Ino) -> u64 {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.inodes.get(&ino).map_or(0, |slot| slot.lookups)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<S>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Inner<S> {
    fn drop_if_unused(&mut self, ino: Ino) {
        let Some(true) = self.with_unused(ino, |inode, state| {
            let stays = state.linked && (state.ours || inode.is_directory());
            if stays {
                // What it shows can be much, and is soon old.
                state.directory.forget_listing();
            }
            stays
        }) else {
            return self.drop_unused(ino);
        };
        if let Some(slot) = self.inodes.get_mut(&ino).filter(|slot| !slot.is_forgotten) {
            slot.is_forgotten = true;
            self.forgotten.push_back(ino);
        }
        if self.forgotten.len() > self.most_forgotten
            && let Some(oldest) = self.forgotten.pop_front()
        {
            self.drop_unused(oldest);
        }
    }

    fn drop_unused(&mut self, ino: Ino) {
        let place = |inode: &Inode<S>, state: &mut State<S>| {
            state.place.parent.as_ref().map(|parent| (parent.ino, inode.role(), state.place.component.clone()))
        };
        let Some(key) = self.with_unused(ino, place) else { return };
        self.inodes.remove(&ino);
        if let Some(key) = key {
            self.take(&key, ino);
        }
    }

    fn put(&mut self, key: PlaceKey, ino: Ino) {
        let parent = key.0;
        if self.places.insert(key, ino).is_none() {
            *self.inside.entry(parent).or_default() += 1;
        }
    }

    /// Takes a place away from `ino`, if it has it; its directory may have waited for that.
    fn take(&mut self, key: &PlaceKey, ino: Ino) {
        if self.places.get(key) != Some(&ino) {
            return;
        }
        self.places.remove(key);
        if let Some(inside) = self.inside.get_mut(&key.0) {
            *inside -= 1;
            if *inside == 0 {
                self.inside.remove(&key.0);
                self.drop_if_unused(key.0);
            }
        }
    }

    /// Looks at an inode that neither the kernel nor anybody here needs; `None` of any other.
    fn with_unused<T>(&self, ino: Ino, look: impl FnOnce(&Inode<S>, &mut State<S>) -> T) -> Option<T> {
        let slot = self.inodes.get(&ino).filter(|slot| slot.lookups == 0 && ino != Ino::ROOT)?;
        // Rank 3 under rank 4, against the order: safe, since `try_lock` never waits. Who holds the state now will
        // forget or release in turn.
        let mut state = slot.inode.try_lock()?;
        let in_use = state.opens > 0
            || state.is_writing()
            || state.unsent
            || state.directory.is_kept()
            || state.directory.has_own_names()
            || self.inside.contains_key(&ino);
        (!in_use).then(|| look(&slot.inode, &mut state))
    }
}

/// The number that a bucket's key gets, if it is free. FNV-1a with a final mix: stable across versions of the program.
#[must_use]
pub fn number_of(bucket: &str, key: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bucket.bytes().chain([0]).chain(key.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    // Some programs keep inode numbers in signed 64 bits.
    (hash ^ (hash >> 32)) & (u64::MAX >> 1)
}
