//! Directories as lists: opendir, readdir, readdirplus, releasedir.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fs::attr::{Ino, Kind};
use crate::fs::config::AttrsMode;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::handles::{DirEntry, HandleId, OpenDirectory, Snapshot};
use crate::fs::meta::posix;
use crate::fs::name::{self, Component};
use crate::fs::tree::directory::{Child, ListedChild, Listing};
use crate::fs::tree::inode::{Facts, Inode, Role};
use crate::fs::tree::moves::Access;
use crate::fs::{Fs, Stat};
use crate::store::{BucketService, ListedObject, ObjectStore};

/// One entry for the kernel.
#[derive(Debug)]
pub struct Emitted<'a> {
    /// The name as shown.
    pub name: &'a str,
    /// Where reading goes on after it.
    pub offset: u64,
    /// Number, type and attributes; attributes only in readdirplus.
    pub stat: Stat,
    /// The attributes are as they should be: the kernel may keep them for the TTL.
    pub certain: bool,
    /// `.` and `..`, which count for no lookup.
    pub is_dot: bool,
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Opens a directory; nothing is asked of the store yet.
    ///
    /// # Errors
    /// [`Situation::NotDirectory`].
    pub fn opendir(&self, ino: Ino) -> Result<HandleId> {
        let inode = self.directory(ino)?;
        Ok(self.handles.add_directory(OpenDirectory { inode, snapshot: std::sync::Mutex::new(None) }))
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: HandleId) {
        self.handles.remove_directory(handle);
    }

    /// Gives the entries from `offset` on to `emit`, until it says that it is full. `plus`: with attributes, and each
    /// entry that was taken counts as a lookup.
    ///
    /// # Errors
    /// A listing that breaks off fails as a whole: never a shorter directory.
    pub async fn readdir(
        &self,
        handle: HandleId,
        offset: u64,
        plus: Plus,
        mut emit: impl FnMut(Emitted<'_>) -> Full,
    ) -> Result<()> {
        let open = self.handles.directory(handle).ok_or_else(|| Error::new(Situation::BadHandle, "the directory is not open"))?;
        let _entered = self.moves.enter(&open.inode, Access::Look).await;
        let known = open.snapshot().clone().filter(|_| offset > 0);
        let snapshot = match known {
            Some(snapshot) => snapshot,
            None => {
                let snapshot = self.snapshot(&open.inode).await?;
                *open.snapshot() = Some(snapshot.clone());
                snapshot
            }
        };
        let dots = [(".", Arc::clone(&open.inode)), ("..", self.parent_of(&open.inode))];
        for (index, (dot, inode)) in dots.iter().enumerate().skip(position(offset)) {
            let stat = self.stat(inode);
            let next = index as u64 + 1;
            if emit(Emitted { name: dot, offset: next, stat, certain: true, is_dot: true }) == Full::Yes {
                return Ok(());
            }
        }
        for (index, entry) in snapshot.entries.iter().enumerate().skip(position(offset).saturating_sub(dots.len())) {
            let next = (index + dots.len()) as u64 + 1;
            if self.emit_entry(&open.inode, &snapshot, entry, next, plus, &mut emit) == Full::Yes {
                return Ok(());
            }
        }
        Ok(())
    }

    fn emit_entry(
        &self,
        directory: &Arc<Inode<S>>,
        snapshot: &Snapshot,
        entry: &DirEntry,
        offset: u64,
        plus: Plus,
        emit: &mut impl FnMut(Emitted<'_>) -> Full,
    ) -> Full {
        let name = entry.name.as_str();
        if plus == Plus::No {
            let attr = posix::directory(&self.config, self.mounted_at);
            let stat = Stat { ino: entry.ino, kind: entry.kind, attr };
            return emit(Emitted { name, offset, stat, certain: false, is_dot: false });
        }
        // An entry that was removed since the snapshot is passed over: it has no attributes to show.
        let Some((inode, certain)) = self.resolve_entry(directory, snapshot, entry) else { return Full::No };
        let full = emit(Emitted { name, offset, stat: self.stat(&inode), certain, is_dot: false });
        if full == Full::No {
            self.table.remember(&inode);
        }
        full
    }

    fn resolve_entry(&self, directory: &Arc<Inode<S>>, snapshot: &Snapshot, entry: &DirEntry) -> Option<(Arc<Inode<S>>, bool)> {
        let nothing = Child::default();
        let listing = snapshot.listing.as_deref()?;
        let child = listing.children.get(&entry.component).unwrap_or(&nothing);
        let facts: Option<Facts> = match entry.role {
            Role::Directory => child.directory.then(|| self.child_directory_facts(directory, child)),
            Role::Object => child.object.as_ref().map(|object| self.child_facts(object)),
        };
        let inode = self.settle(directory, &entry.component, entry.role, facts, listing.began)?;
        let state = inode.lock();
        let listed_suffices = match entry.role {
            Role::Directory => self.config.attrs == AttrsMode::Listing,
            Role::Object => child.object.as_ref().is_some_and(|object| !listing.wants_metadata(object)),
        };
        let certain = state.exact || listed_suffices;
        drop(state);
        Some((inode, certain))
    }

    /// What a listing, and HEAD where it was asked, say about an object.
    pub(in crate::fs) fn child_facts(&self, child: &ListedChild) -> Facts {
        if let Some(info) = &child.info {
            return self.object_facts(Arc::clone(info));
        }
        self.listed_facts(&ListedObject {
            key: String::new(),
            size: child.size,
            etag: child.etag.clone(),
            last_modified: child.last_modified,
            storage_class: child.storage_class.clone(),
        })
    }

    /// What the directory shows now: the listing with this mount's own changes.
    async fn snapshot(&self, inode: &Arc<Inode<S>>) -> Result<Snapshot> {
        let listing = self.listing(inode).await?;
        inode.lock().directory.rely_on(&listing);
        // Both roles of every component, with own knowledge laid over the listing.
        let mut names: BTreeMap<Component, (bool, bool)> = BTreeMap::new();
        let made = {
            let state = inode.lock();
            for (component, child) in &listing.children {
                let here = |role, listed| state.directory.own_knowledge(role, component, listing.began).unwrap_or(listed);
                let roles = (here(Role::Directory, child.directory), here(Role::Object, child.object.is_some()));
                names.insert(component.clone(), roles);
            }
            state.directory.made_since(listing.began)
        };
        for (role, component) in made {
            let roles = names.entry(component).or_default();
            match role {
                Role::Directory => roles.0 = true,
                Role::Object => roles.1 = true,
            }
        }
        let number = self.numbers_in(inode);
        let mut entries = Vec::with_capacity(names.len());
        let mut subdirectories = 0;
        for (component, (directory, object)) in names {
            if directory {
                subdirectories += 1;
                entries.extend(self.entry(inode, &listing, &number, &component, Role::Directory, false));
            }
            if object {
                entries.extend(self.entry(inode, &listing, &number, &component, Role::Object, directory));
            }
        }
        inode.lock().attr.nlink = 2 + subdirectories;
        Ok(Snapshot { entries: Arc::new(entries), listing: Some(listing) })
    }

    fn entry(
        &self,
        directory: &Arc<Inode<S>>,
        listing: &Listing,
        number: &impl Fn(&Component, Role) -> Ino,
        component: &Component,
        role: Role,
        beside_directory: bool,
    ) -> Option<DirEntry> {
        let name = name::show(component, beside_directory)?;
        let there = self.table.at(directory.ino, role, component);
        let kind = match (&there, role) {
            (Some(inode), _) => inode.kind,
            (None, Role::Directory) => Kind::Directory,
            (None, Role::Object) => {
                let listed = listing.children.get(component).and_then(|child| child.object.as_ref());
                listed.map_or(Kind::File, |listed| self.child_facts(listed).kind)
            }
        };
        let ino = there.map_or_else(|| number(component, role), |inode| inode.ino);
        Some(DirEntry { name, component: component.clone(), role, kind, ino })
    }

    fn parent_of(&self, inode: &Arc<Inode<S>>) -> Arc<Inode<S>> {
        inode.place().parent.unwrap_or_else(|| Arc::clone(inode))
    }
}

/// Whether attributes come with the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plus {
    /// READDIRPLUS.
    Yes,
    /// READDIR.
    No,
}

/// Whether the kernel's buffer is full: then the entry was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// It was not taken.
    Yes,
    /// It was taken.
    No,
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
