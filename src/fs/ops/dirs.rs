//! Directories as lists: opendir, readdir, readdirplus, releasedir.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::base::clock;
use crate::fs::attr::{Ino, Kind};
use crate::fs::config::AttrsMode;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::handles::{HandleId, OpenDirectory};
use crate::fs::meta::posix;
use crate::fs::name::{self, Component, Shown};
use crate::fs::tree::directory::{Child, Listing};
use crate::fs::tree::facts::Facts;
use crate::fs::tree::inode::{Inode, Role};
use crate::fs::tree::moves::Access;
use crate::fs::tree::stream::{Chunk, Names, Stream, role_of};
use crate::fs::{Fs, Stat};
use crate::store::{BucketService, ObjectStore};

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
        Ok(self.handles.add_directory(OpenDirectory { inode, stream: std::sync::Mutex::new(None) }))
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
        self: &Arc<Self>,
        handle: HandleId,
        offset: u64,
        plus: Plus,
        mut emit: impl FnMut(Emitted<'_>) -> Full,
    ) -> Result<()> {
        let open = self.handles.directory(handle).ok_or_else(|| Error::new(Situation::BadHandle, "the directory is not open"))?;
        let _entered = self.moves.enter(&open.inode, Access::Look).await;
        let known = open.stream().clone().filter(|_| offset > 0);
        let stream = match known {
            Some(stream) => stream,
            None => {
                let stream = self.begin_reading(&open.inode).await?;
                *open.stream() = Some(Arc::clone(&stream));
                stream
            }
        };
        let unknown = posix::directory(&self.config, self.mounted_at);
        let mut taken = false;
        let dots = [(".", Arc::clone(&open.inode)), ("..", self.parent_of(&open.inode))];
        for (index, (dot, inode)) in dots.iter().enumerate().skip(position(offset)) {
            let stat = self.stat(inode);
            let next = index as u64 + 1;
            if emit(Emitted { name: dot, offset: next, stat, certain: true, is_dot: true }) == Full::Yes {
                return Ok(());
            }
            taken = true;
        }
        let mut place = position(offset).saturating_sub(dots.len());
        // The kernel asks for the attributes of the first entries in any case, of others when those were looked at.
        let metadata = if offset > 0 { Metadata::Ask } else { Metadata::AsKnown };
        loop {
            let Some(chunk) = stream.chunk(place) else {
                match stream.end() {
                    // What there is is given out before more is waited for, and before it is told that the rest failed.
                    _ if taken && place > 0 => return Ok(()),
                    Some(end) => return end,
                    None => self.read_more(&open.inode, &stream, place).await,
                }
                continue;
            };
            let number = self.numbers_in(&open.inode);
            for (name, kind) in chunk.names.since(place - chunk.first) {
                place += 1;
                let Some(shown) = name::parse(name) else { continue };
                let role = role_of(kind);
                let found = match plus {
                    Plus::No => {
                        let removed =
                            open.inode.lock().directory.own_knowledge(role, &shown.component, stream.began) == Some(false);
                        let there = self.table.at(open.inode.ino, role, &shown.component);
                        let ino = || there.map_or_else(|| number(&shown.component, role), |inode| inode.ino);
                        (!removed).then(|| (Stat { ino: ino(), kind, attr: unknown }, false, None))
                    }
                    Plus::Yes => match self.entry(&open.inode, &chunk, (&shown, role), metadata).await {
                        Err(_) if taken => return Ok(()),
                        found => found?.map(|(inode, certain)| (self.stat(&inode), certain, Some(inode))),
                    },
                };
                // What was removed since has nothing to show.
                let Some((stat, certain, inode)) = found else { continue };
                let offset = (place + dots.len()) as u64;
                if emit(Emitted { name, offset, stat, certain, is_dot: false }) == Full::Yes {
                    return Ok(());
                }
                if let Some(inode) = inode {
                    self.table.remember(&inode);
                }
                taken = true;
            }
        }
    }

    /// What an entry is, and whether its attributes are certain; `None` when it was removed since it was read.
    async fn entry(
        &self,
        directory: &Arc<Inode<S>>,
        chunk: &Chunk,
        (shown, role): (&Shown, Role),
        metadata: Metadata,
    ) -> Result<Option<(Arc<Inode<S>>, bool)>> {
        let nothing = Child::default();
        let known = chunk.listing.as_deref().filter(|listing| {
            let names = &directory.lock().directory;
            !self.is_forgotten((directory.ino, names), &shown.component, &[role], listing)
        });
        let Some(listing) = known else {
            // It was read long ago, and what was known of it is not kept; or what is known is older than what was done here.
            let inode = self.find(directory, shown).await?.filter(|inode| inode.role() == role);
            return Ok(inode.map(|inode| (inode, true)));
        };
        let child = listing.children.get(&shown.component).unwrap_or(&nothing);
        let metadata = match (role, metadata) {
            (Role::Object, Metadata::Ask) => self.listed_metadata(directory, &shown.component, listing).await,
            _ => None,
        };
        let asked = metadata.is_some();
        let facts: Option<Facts> = match (role, metadata) {
            (_, Some(info)) => Some(self.object_facts(info)),
            (Role::Directory, None) => child.directory.then(|| self.child_directory_facts(directory, child)),
            (Role::Object, None) => child.object.as_ref().map(|object| self.child_facts(object)),
        };
        let Some(inode) = self.settle(directory, &shown.component, role, facts, listing.began) else { return Ok(None) };
        let state = inode.lock();
        let listed_suffices = match role {
            Role::Directory => self.config.attrs == AttrsMode::Listing,
            Role::Object => child.object.as_ref().is_some_and(|object| !listing.wants_metadata(object)),
        };
        // No listing tells of a directory's attributes: what its marker said is believed for as long as any answer.
        let now = clock::instant();
        let recent = |at: Instant| now.saturating_duration_since(at) < self.config.ttl;
        let exact = state.exact && (role == Role::Object || state.looked_at.is_some_and(recent));
        let certain = asked || exact || listed_suffices;
        drop(state);
        Ok(Some((inode, certain)))
    }

    /// The names of what was learnt, with this mount's own changes.
    pub(in crate::fs) fn names_of(&self, directory: &Arc<Inode<S>>, listing: &Listing) -> Names {
        let mut shown: Vec<(&Component, bool, bool)> = Vec::with_capacity(listing.children.len());
        {
            let state = directory.lock();
            for (component, child) in &listing.children {
                let gone = state.directory.is_gone_since(component, listing.began);
                let here =
                    |role, listed| state.directory.own_knowledge(role, component, listing.began).unwrap_or(listed && !gone);
                shown.push((component, here(Role::Directory, child.directory), here(Role::Object, child.object.is_some())));
            }
        }
        let mut names = Names::default();
        for (component, below, object) in shown {
            self.push_names(directory, &mut names, listing.children.get(component), component, (below, below, object));
        }
        names
    }

    /// The end of a directory's stream: what this mount has made there, and no page has told of.
    pub(in crate::fs) fn end_reading(&self, directory: &Arc<Inode<S>>, stream: &Stream) {
        let made = directory.lock().directory.made_since(stream.began);
        let shown = stream.shown_of(&made);
        let mut late: BTreeMap<Component, (bool, bool, bool)> = BTreeMap::new();
        for name in made {
            let is_new = !shown.contains(&name);
            let (role, component) = name;
            let at = |role| self.table.at(directory.ino, role, &component).filter(|inode| inode.lock().linked);
            // It has not been made here, but is there.
            let beside = at(Role::Object).is_some_and(|inode| inode.lock().beside_directory) || at(Role::Directory).is_some();
            let (is_directory, below, object) = late.entry(component).or_default();
            *is_directory |= beside;
            match role {
                Role::Directory => (*is_directory, *below) = (true, is_new),
                Role::Object => *object = is_new,
            }
        }
        let mut names = Names::default();
        for (component, roles) in late {
            self.push_names(directory, &mut names, None, &component, roles);
        }
        stream.add_shared(names, Arc::new(Listing { began: stream.began, ..self.empty_listing() }));
        directory.lock().attr.nlink = 2 + stream.count_directories();
        stream.finish(Ok(()));
    }

    /// Adds a component's names: `is_directory` when there is one, `below` and `object` for what is to be added.
    fn push_names(
        &self,
        directory: &Arc<Inode<S>>,
        names: &mut Names,
        child: Option<&Child>,
        component: &Component,
        (is_directory, below, object): (bool, bool, bool),
    ) {
        if below && let Some(name) = name::show(component, false) {
            names.push(&name, Kind::Directory);
        }
        if object && let Some(name) = name::show(component, is_directory) {
            let there = self.table.at(directory.ino, Role::Object, component);
            let listed =
                || child.and_then(|child| child.object.as_ref()).map_or(Kind::File, |object| self.child_facts(object).kind);
            names.push(&name, there.map_or_else(listed, |inode| inode.kind));
        }
    }

    fn parent_of(&self, inode: &Arc<Inode<S>>) -> Arc<Inode<S>> {
        inode.place().parent.unwrap_or_else(|| Arc::clone(inode))
    }
}

/// Whether metadata is asked for that only HEAD tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metadata {
    Ask,
    AsKnown,
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
