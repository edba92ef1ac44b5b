//! All inodes by number and by place, with the kernel's lookup counts.
//!
//! The kernel may use a number until it has forgotten it as often as it was told of it; the number stays in the table that
//! long. Numbers are a hash of bucket and key (the next free one on collision), so they survive remounts.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::inode::{Inode, Role};
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
}

#[derive(Debug)]
struct Slot<S> {
    inode: Arc<Inode<S>>,
    lookups: u64,
}

impl<S> Table<S> {
    /// A table that holds the root for ever.
    #[must_use]
    pub fn new(root: Arc<Inode<S>>) -> Self {
        let slot = Slot { inode: root, lookups: 1 };
        let inner = Inner { inodes: HashMap::from([(Ino::ROOT, slot)]), places: HashMap::new() };
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
        inner.inodes.insert(Ino(number), Slot { inode: Arc::clone(&inode), lookups: 0 });
        inner.places.insert(key, Ino(number));
        inode
    }

    /// Takes the name away from `inode`; it stays for its handles and for what the kernel knows.
    pub fn unlink(&self, parent: Ino, role: Role, component: &Component, inode: &Arc<Inode<S>>) {
        let mut inner = self.write();
        let key = (parent, role, component.clone());
        if inner.places.get(&key) == Some(&inode.ino) {
            inner.places.remove(&key);
        }
    }

    /// Gives `inode` a new place, in which nobody is.
    pub fn relink(&self, from: (Ino, &Component), to: (Ino, &Component), inode: &Arc<Inode<S>>) {
        let mut inner = self.write();
        let role = inode.role();
        let old = (from.0, role, from.1.clone());
        if inner.places.get(&old) == Some(&inode.ino) {
            inner.places.remove(&old);
        }
        inner.places.insert((to.0, role, to.1.clone()), inode.ino);
    }

    /// The kernel was told of `inode` once more.
    pub fn remember(&self, inode: &Arc<Inode<S>>) {
        let mut inner = self.write();
        inner.inodes.entry(inode.ino).or_insert_with(|| Slot { inode: Arc::clone(inode), lookups: 0 }).lookups += 1;
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
        let Some(slot) = self.inodes.get(&ino) else { return };
        if slot.lookups > 0 || ino == Ino::ROOT {
            return;
        }
        let inode = Arc::clone(&slot.inode);
        // Rank 3 under rank 4, against the order: safe, since `try_lock` never waits. Who holds the state now will
        // forget or release in turn.
        let Some(state) = inode.try_lock() else { return };
        let in_use =
            state.opens > 0 || state.is_writing() || state.unsent || state.directory.is_kept() || state.directory.has_own_names();
        let key = state.place.parent.as_ref().map(|parent| (parent.ino, inode.role(), state.place.component.clone()));
        drop(state);
        if in_use {
            return;
        }
        self.inodes.remove(&ino);
        if let Some(key) = key
            && self.places.get(&key) == Some(&ino)
        {
            self.places.remove(&key);
        }
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
