//! Names: lookup, and what makes new ones (mkdir, symlink, mknod).

use std::sync::Arc;
use std::time::Duration;

use crate::base::{clock, encode};
use crate::data::guess;
use crate::data::write::commit::with_token;
use crate::data::write::settle::put_empty;
use crate::fs::attr::{Attr, Caller, Ino, Kind};
use crate::fs::config::AttrsMode;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::fs::meta::posix::{self, ExplicitTimes};
use crate::fs::name::{self, Component, MAX_NEW_BYTES, MAX_SHOWN_BYTES, Shown};
use crate::fs::ops::commit::new_info;
use crate::fs::tree::directory::Listing;
use crate::fs::tree::facts::Facts;
use crate::fs::tree::inode::{Inode, Role};
use crate::fs::tree::moves::Access;
use crate::fs::tree::since::Since;
use crate::fs::{Fs, Stat};
use crate::store::{BucketService, Condition, Headers, Key, ObjectInfo, ObjectStore, Properties};

/// What a lookup found.
#[derive(Debug, Clone, Copy)]
pub enum Looked {
    /// It is there, and the kernel is told of it once more.
    Found(Stat),
    /// There is nothing of that name.
    Absent,
}

/// What was looked at beside a listing that does not suffice for a name.
struct Looks {
    /// The directory of that name.
    marker: Option<Facts>,
    /// The object of that name.
    info: Option<Arc<ObjectInfo>>,
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Looks a name up.
    ///
    /// # Errors
    /// [`Situation::NameNotUtf8`], [`Situation::NameTooLong`], and the store's failures. That nothing is there is no error.
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Looked> {
        let directory = self.directory(parent)?;
        let _entered = self.moves.enter(&directory, Access::Look).await;
        let Some(shown) = parse_existing(name)? else { return Ok(Looked::Absent) };
        match self.find(&directory, &shown).await? {
            Some(inode) => Ok(Looked::Found(self.told(&inode))),
            // Only what others have made may have such a name.
            None if name.len() > MAX_NEW_BYTES => Err(too_long(name)),
            None => {
                self.kernel.note_missing(parent, name);
                Ok(Looked::Absent)
            }
        }
    }

    /// The inode of a name that must be there.
    pub(in crate::fs) async fn must_find(&self, directory: &Arc<Inode<S>>, name: &[u8]) -> Result<Arc<Inode<S>>> {
        let missing = || Error::new(Situation::NotFound, "there is nothing of that name");
        let shown = parse_existing(name)?.ok_or_else(missing)?;
        if let Some(inode) = self.known(directory, &shown) {
            return Ok(inode);
        }
        self.find(directory, &shown).await?.ok_or_else(missing)
    }

    /// The inode that the kernel has just been told of under a name, when it acts on it: what is done to it is conditional, so
    /// it need not be asked for again.
    pub(in crate::fs) fn known(&self, directory: &Arc<Inode<S>>, shown: &Shown) -> Option<Arc<Inode<S>>> {
        let at = |role| self.table.at(directory.ino, role, &shown.component);
        self.choose(directory, shown, at(Role::Directory), at(Role::Object)).filter(|inode| inode.lock().linked)
    }

    /// Tells the kernel of an inode: counts it, and gives what stat shows.
    pub(in crate::fs) fn told(&self, inode: &Arc<Inode<S>>) -> Stat {
        self.table.remember(inode);
        self.stat(inode)
    }

    pub(in crate::fs) fn stat(&self, inode: &Arc<Inode<S>>) -> Stat {
        let attr = {
            let state = inode.lock();
            posix::shown(&self.config, inode.kind, state.attr, state.mode_is_ours)
        };
        Stat { ino: inode.ino, kind: inode.kind, attr }
    }

    /// The inode that a shown name stands for, from what is known and fresh, else by asking the store.
    pub(in crate::fs) async fn find(&self, directory: &Arc<Inode<S>>, shown: &Shown) -> Result<Option<Arc<Inode<S>>>> {
        if self.is_account(directory) {
            return self.find_bucket(directory, shown).await;
        }
        let asked = clock::instant();
        if let Some(inode) = self.find_own(directory, shown) {
            return Ok(Some(inode));
        }
        if let Some(listing) = self.listing_for_lookup(directory, &shown.component, asked).await {
            let marker = self.look_at_marker(directory, shown, &listing).await?;
            let info = self.listed_metadata(directory, &shown.component, &listing).await;
            if let Some(inode) = self.find_listed(directory, shown, &listing, Looks { marker, info }) {
                return Ok(Some(inode));
            }
            if self.is_unlisted(directory, &shown.component, &listing) {
                return Ok(None);
            }
        }
        let asked = clock::instant();
        if directory.lock().directory.is_absent(&shown.component, asked, self.config.ttl) {
            return Ok(None);
        }
        if let Some(below) = self.find_again(directory, shown).await? {
            return Ok(Some(below));
        }
        let probe = self.probe(&self.locate(directory)?, &shown.component).await?;
        if probe.object.is_some() {
            directory.lock().directory.note_found(asked, self.config.ttl);
        }
        let below = self.settle(directory, &shown.component, Role::Directory, probe.directory, asked);
        let object = self.settle(directory, &shown.component, Role::Object, probe.object, asked);
        if below.is_none() && object.is_none() {
            directory.lock().directory.note_absent(shown.component.clone(), asked, self.config.ttl);
        }
        Ok(self.choose(directory, shown, below, object))
    }

    /// A directory that was there mostly still is, and then no object has its plain name: none is asked for.
    async fn find_again(&self, directory: &Arc<Inode<S>>, shown: &Shown) -> Result<Option<Arc<Inode<S>>>> {
        let known = self.table.at(directory.ino, Role::Directory, &shown.component).filter(|_| !shown.beside_directory);
        let Some(known) = known else { return Ok(None) };
        let (asked, had_marker) = (clock::instant(), known.lock().info.is_some());
        let below = self.probe_directory(&self.locate_in(directory, &shown.component, Role::Directory)?, had_marker).await;
        // What is not answered is asked for once more, with the object: who may not list may know its name.
        let Ok(Some(facts)) = below else { return Ok(None) };
        Ok(self.settle(directory, &shown.component, Role::Directory, Some(facts), asked))
    }

    /// The one of directory and object that a shown name stands for. The object beside a directory that this mount has just
    /// removed is reached under its old name, too, while a listing that was read before may still show it: `rm -r` goes by one.
    fn choose(
        &self,
        directory: &Arc<Inode<S>>,
        shown: &Shown,
        below: Option<Arc<Inode<S>>>,
        object: Option<Arc<Inode<S>>>,
    ) -> Option<Arc<Inode<S>>> {
        if shown.beside_directory && below.is_none() {
            let since = clock::instant().checked_sub(self.config.ttl)?;
            let names = &directory.lock().directory;
            let removed = names.own_knowledge(Role::Directory, &shown.component, since) == Some(false);
            return object.filter(|_| removed || names.was_beside(&shown.component));
        }
        let chosen = choose(shown, below, object);
        if let Some(object) = chosen.as_ref().filter(|inode| !inode.is_directory()) {
            object.lock().beside_directory = shown.beside_directory;
        }
        chosen
    }

    /// A directory's own mode is in its marker, which a listing does not show: asked for once within the TTL, unless listings
    /// shall suffice.
    async fn look_at_marker(&self, directory: &Arc<Inode<S>>, shown: &Shown, listing: &Listing) -> Result<Option<Facts>> {
        let listed = listing.children.get(&shown.component).is_some_and(|child| child.directory);
        if !listed || shown.beside_directory || !self.believes_markers() {
            return Ok(None);
        }
        let known = self.table.at(directory.ino, Role::Directory, &shown.component);
        let looked_at = known.and_then(|inode| inode.lock().looked_at);
        if looked_at.is_some_and(|at| clock::instant().saturating_duration_since(at) < self.config.ttl) {
            return Ok(None);
        }
        let below = self.locate_in(directory, &shown.component, Role::Directory)?;
        let marker = self.marker_facts(&below).await?;
        Ok(Some(marker.unwrap_or_else(|| Facts { exact: true, ..self.directory_facts(None) })))
    }

    /// A file of this mount's that the store does not have yet: no request can know better.
    fn find_own(&self, directory: &Arc<Inode<S>>, shown: &Shown) -> Option<Arc<Inode<S>>> {
        let inode = self.table.at(directory.ino, Role::Object, &shown.component)?;
        let plain = {
            let state = inode.lock();
            state.is_dirty() && !state.beside_directory
        };
        let no_directory = self.table.at(directory.ino, Role::Directory, &shown.component).is_none();
        (plain && no_directory && !shown.beside_directory).then_some(inode)
    }

    /// What a fresh listing has under a name, with what was looked at beside it; `None` when that does not suffice.
    fn find_listed(
        &self,
        directory: &Arc<Inode<S>>,
        shown: &Shown,
        listing: &Listing,
        Looks { marker, info }: Looks,
    ) -> Option<Arc<Inode<S>>> {
        let child = listing.children.get(&shown.component)?;
        let known = |role| self.table.at(directory.ino, role, &shown.component);
        if self.is_forgotten((directory.ino, &directory.lock().directory), &shown.component, &Role::BOTH, listing) {
            return None;
        }
        let looked_at = marker.is_some();
        let below = marker.or_else(|| child.directory.then(|| self.directory_facts(None)));
        let looked_at_object = info.is_some();
        let mut object = match info {
            Some(info) => Some(self.object_facts(info)),
            None => child.object.as_ref().map(|object| self.child_facts(object)),
        };
        if let (Some(facts), Some(listed)) = (&mut object, &child.object)
            && !looked_at_object
            && listing.wants_metadata(listed)
            && known(Role::Object).is_none_or(|inode| {
                let state = inode.lock();
                !state.exact || !state.is_same_object(facts)
            })
            && (!child.directory || shown.beside_directory)
        {
            return None;
        }
        let below = self.settle(directory, &shown.component, Role::Directory, below, listing.began);
        if let Some(below) = below.as_ref().filter(|_| looked_at) {
            below.lock().looked_at = Some(clock::instant());
        }
        let object = self.settle(directory, &shown.component, Role::Object, object, listing.began);
        self.choose(directory, shown, below, object)
    }

    /// The directory of that number.
    pub(in crate::fs) fn directory(&self, ino: Ino) -> Result<Arc<Inode<S>>> {
        let inode = self.inode(ino)?;
        if inode.is_directory() { Ok(inode) } else { Err(Error::new(Situation::NotDirectory, "it is not a directory")) }
    }

    /// What a name that is to be made stands for, and where it would be.
    pub(in crate::fs) async fn new_name(&self, directory: &Arc<Inode<S>>, name: &[u8], role: Role) -> Result<(Shown, Address)> {
        let text = utf8(name)?;
        if text.len() > MAX_NEW_BYTES {
            return Err(too_long(name));
        }
        let invalid = || Error::new(Situation::Invalid, format!("'{text}' stands for no S3 key; see: pailfs help names"));
        let shown = name::parse(text).ok_or_else(invalid)?;
        if shown.component.as_str().is_empty() && role == Role::Object {
            return Err(Error::new(Situation::Invalid, "'%2F' stands for the key of the directory itself and cannot be created"));
        }
        if shown.beside_directory {
            let plain = Shown { beside_directory: false, ..shown.clone() };
            let beside = self.find(directory, &plain).await?;
            if role == Role::Directory || beside.is_none_or(|inode| !inode.is_directory()) {
                return Err(invalid());
            }
        }
        let address = self.locate_in(directory, &shown.component, role)?;
        Key::new(&address.key)?;
        Ok((shown, address))
    }

    /// Makes a directory: its marker is put before this returns, on the condition that there is none.
    ///
    /// # Errors
    /// [`Situation::Exists`], [`Situation::ReadOnly`], names that cannot be, and the store's failures.
    pub async fn mkdir(&self, parent: Ino, name: &[u8], mode: u32, caller: Caller) -> Result<Stat> {
        let directory = self.directory(parent)?;
        if self.is_account(&directory) {
            return self.make_bucket(&directory, name).await;
        }
        let attr = Attr { mode: mode & 0o7777, ..self.new_attr(parent, Kind::Directory, caller)? };
        self.make(parent, name, Kind::Directory, (attr, caller), None).await
    }

    /// Makes a symbolic link to `target`.
    ///
    /// # Errors
    /// As [`Fs::mkdir`]; [`Situation::NameTooLong`] for a target that does not fit the metadata.
    pub async fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], caller: Caller) -> Result<Stat> {
        let target = utf8(target)?;
        if target.len() > MAX_TARGET_BYTES {
            return Err(Error::new(
                Situation::NameTooLong,
                "the target is longer than an object's metadata can hold (1,500 bytes)",
            ));
        }
        let attr = Attr { mode: 0o777, size: target.len() as u64, ..self.new_attr(parent, Kind::Symlink, caller)? };
        self.make(parent, name, Kind::Symlink, (attr, caller), Some(target)).await
    }

    /// Makes an empty file, a FIFO, a socket or a device node.
    ///
    /// # Errors
    /// As [`Fs::mkdir`].
    pub async fn mknod(&self, parent: Ino, name: &[u8], mode: u32, rdev: u32, caller: Caller) -> Result<Stat> {
        let kind = match posix::kind_by_type_bits(mode) {
            None if mode & !0o7777 == 0 => Kind::File,
            Some(kind) if !matches!(kind, Kind::Directory | Kind::Symlink) => kind,
            _ => return Err(Error::new(Situation::Invalid, "mknod makes files, FIFOs, sockets and devices")),
        };
        let attr = Attr { mode: mode & 0o7777, rdev, ..self.new_attr(parent, kind, caller)? };
        self.make(parent, name, kind, (attr, caller), None).await
    }

    /// What a new name starts with: its owner, the group of a setgid directory, the present.
    pub(in crate::fs) fn new_attr(&self, parent: Ino, kind: Kind, caller: Caller) -> Result<Attr> {
        let parent = self.directory(parent)?.lock().attr;
        let gid = if parent.mode & 0o2000 != 0 { parent.gid } else { caller.gid };
        let now = clock::now();
        Ok(Attr {
            size: 0,
            mode: 0,
            uid: caller.uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            rdev: 0,
            nlink: if kind == Kind::Directory { 2 } else { 1 },
        })
    }

    /// Puts a zero-byte object that is something, under `If-None-Match: *`.
    async fn make(
        &self,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        (mut attr, caller): (Attr, Caller),
        target: Option<&str>,
    ) -> Result<Stat> {
        self.writable()?;
        let directory = self.directory(parent)?;
        let _entered = self.moves.enter(&directory, Access::Change).await;
        if kind == Kind::Directory && directory.lock().attr.mode & 0o2000 != 0 {
            attr.mode |= 0o2000;
        }
        let role = if kind == Kind::Directory { Role::Directory } else { Role::Object };
        let (shown, address) = self.new_name(&directory, name, role).await?;
        self.must_be_free(&directory, &shown)?;
        let component = shown.component;
        let mut properties = Properties { headers: Headers::default(), ..Properties::default() };
        properties.headers.content_type = Some(match kind {
            Kind::Directory => guess::DIRECTORY.to_owned(),
            Kind::File => guess::content_type(component.as_str()),
            _ => guess::UNKNOWN.to_owned(),
        });
        posix::encode(&self.config, kind, &attr, ExplicitTimes::default(), &mut properties.metadata);
        let is_unusual = posix::is_posix(&properties.metadata) || self.setter.is(caller.tid);
        if kind == Kind::Directory && self.config.attrs == AttrsMode::Auto && is_unusual {
            // What is made with a mode or owner of its own, or by who sets them (tar, rsync, cp -a), is filled with the like.
            Since::now(self.store_clock.now(), Duration::ZERO).put(&mut properties.metadata);
        }
        if let Some(target) = target {
            properties.metadata.insert(posix::SYMLINK_TARGET.to_owned(), encode::word(target));
        }
        let missing_since = directory.lock().directory.missing_since(&component, clock::instant(), self.config.ttl);
        let info = self.put_new(&address, properties).await?;
        self.store_clock.note(info.last_modified);
        let facts = Facts {
            exact: true,
            info: Some(Arc::new(info.clone())),
            etag: Some(info.etag.clone()),
            target: target.map(Arc::from),
            ..Facts::plain(kind, attr)
        };
        let inode = self.insert(&directory, &component, facts, None);
        {
            let mut state = inode.lock();
            state.mode_is_ours = true;
            state.committed(info);
        }
        if let Some(since) = missing_since.filter(|_| inode.is_directory()) {
            self.learn_empty(&inode, since);
        }
        self.note_made(&directory, &inode, &component, false);
        Ok(self.told(&inode))
    }

    /// PUT of an empty object where there is none. An answer that got lost is settled by looking.
    async fn put_new(&self, address: &Address, properties: Properties) -> Result<ObjectInfo> {
        let destination = with_token(&address.destination(properties)?);
        let committed = put_empty(&self.store, &destination, Condition::IfAbsent).await?;
        Ok(new_info(committed, 0, destination.properties))
    }

    /// Refuses a name that this mount knows to be taken.
    pub(in crate::fs) fn must_be_free(&self, directory: &Arc<Inode<S>>, shown: &Shown) -> Result<()> {
        for role in [Role::Object, Role::Directory] {
            let beside = role == Role::Directory && shown.beside_directory;
            let Some(there) = self.table.at(directory.ino, role, &shown.component).filter(|_| !beside) else { continue };
            let state = there.lock();
            if state.doomed.is_some() {
                return Err(Error::new(
                    Situation::Busy,
                    "a removed file of this name is still being read; its object goes when the last reader closes it",
                ));
            }
            let written = state.is_dirty() || state.committed_at.is_some();
            if written && state.linked {
                return Err(Error::new(Situation::Exists, "the name is taken"));
            }
        }
        Ok(())
    }

    /// Notes a name that this mount has made. It is `pinned` while the store does not have it.
    pub(in crate::fs) fn note_made(&self, directory: &Arc<Inode<S>>, inode: &Arc<Inode<S>>, component: &Component, pinned: bool) {
        let now = clock::instant();
        let mut state = directory.lock();
        state.directory.edit(inode.role(), component.clone(), true, pinned, now);
        touch_directory(&mut state.attr, i32::from(inode.is_directory()));
    }

    fn believes_markers(&self) -> bool {
        self.config.attrs != AttrsMode::Listing
    }
}

/// The longest target of a symbolic link, in bytes: metadata holds 2 KiB in all, and base64 takes a third more.
const MAX_TARGET_BYTES: usize = 1500;

fn too_long(name: &[u8]) -> Error {
    Error::new(Situation::NameTooLong, format!("a new name of {} bytes is longer than {MAX_NEW_BYTES}", name.len()))
}

/// Names in it have changed: so many directories have come to those that are known, or gone.
pub(in crate::fs) fn touch_directory(attr: &mut Attr, directories: i32) {
    let now = clock::now();
    attr.nlink = attr.nlink.saturating_add_signed(directories).max(2);
    attr.mtime = now;
    attr.ctime = now;
}

/// The one of directory and object that a shown name stands for.
fn choose<T>(shown: &Shown, directory: Option<T>, object: Option<T>) -> Option<T> {
    match (shown.beside_directory, directory) {
        (true, Some(_)) => object,
        (true, None) => None,
        (false, Some(directory)) => Some(directory),
        (false, None) => object,
    }
}

/// The name as text.
pub(in crate::fs) fn utf8(name: &[u8]) -> Result<&str> {
    std::str::from_utf8(name).map_err(|_| Error::new(Situation::NameNotUtf8, "S3 keys are UTF-8, and this name is not"))
}

fn parse_existing(name: &[u8]) -> Result<Option<Shown>> {
    let text = utf8(name)?;
    if text.len() > MAX_SHOWN_BYTES {
        return Err(Error::new(Situation::NameTooLong, "the name is longer than 1,024 bytes"));
    }
    Ok(name::parse(text))
}
