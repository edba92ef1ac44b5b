//! One inode: one object (or directory) as this mount knows it.
//!
//! An inode's type never changes, and its bytes are those of one ETag, or what this mount is writing. When another client
//! replaces the object, the name gets a new inode and this one lives on for its handles. What this mount commits itself
//! keeps the inode.
//!
//! Data states of a file: [`Content::Clean`] -> [`Content::Writing`] (also new files) -> `Clean` at the last close;
//! [`Content::Orphan`] when it was removed while open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::closing::Closing;
use super::directory::Directory;
use super::facts::Facts;
use super::since::Since;
use crate::base::{clock, date};
use crate::data::read::Reader;
use crate::data::write::Writer;
use crate::data::write::commit::{Base, OnConflict};
use crate::fs::attr::{Attr, Caller, Ino, Kind, without_privileges};
use crate::fs::error::Error;
use crate::fs::meta::posix::ExplicitTimes;
use crate::fs::name::Component;
use crate::store::{ETag, ObjectInfo, ObjectRef, Properties, StorageClass, VersionId};

/// What a place holds: a directory and an object may share a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The directory of that name.
    Directory,
    /// The object of that name.
    Object,
}

impl Role {
    /// What one component may stand for at once.
    pub const BOTH: [Self; 2] = [Self::Directory, Self::Object];
}

/// Where an inode is.
#[derive(Debug, Clone)]
pub struct Place<S> {
    /// The directory; `None` for the root.
    pub parent: Option<Arc<Inode<S>>>,
    /// The name in it.
    pub component: Component,
}

/// The bytes of an inode.
#[derive(Debug, Clone)]
pub enum Content<S> {
    /// No bytes, but names.
    Directory,
    /// What the store has under this tag (`None`: the listing did not say).
    Clean(Option<ETag>),
    /// A content of this mount's own, committed or not; present while somebody may write.
    Writing(Writing<S>),
    /// Removed while it was open: what its readers may still read; `None` when it had left as parts that nobody can read
    /// back.
    Orphan(Option<Bytes>),
}

/// A new content.
#[derive(Debug)]
pub struct Writing<S> {
    /// The bytes.
    pub writer: Arc<Writer<S>>,
    /// What this mount believes is in the store under the name.
    pub base: Base,
    /// What to do when something else is.
    pub on_conflict: OnConflict,
    /// What the object under the name has beside its bytes.
    pub known: Arc<Known>,
}

impl<S> Writing<S> {
    /// What is written where nothing is.
    pub fn anew(writer: Arc<Writer<S>>, on_conflict: OnConflict) -> Self {
        let known = Known { of: None, properties: Properties::default(), at: clock::instant(), modified: clock::now() };
        Self { writer, base: Base::Absent, on_conflict, known: Arc::new(known) }
    }
}

impl<S> Clone for Writing<S> {
    fn clone(&self) -> Self {
        let (writer, known) = (Arc::clone(&self.writer), Arc::clone(&self.known));
        Self { writer, base: self.base.clone(), on_conflict: self.on_conflict, known }
    }
}

/// What the object that is written has beside its bytes, list and tags included: what the next upload carries differs from it
/// in what was set here.
#[derive(Debug, Clone)]
pub struct Known {
    /// The object with this tag has it; none is known where a new file was renamed over what was there.
    pub of: Option<ETag>,
    /// As the store said, or was told.
    pub properties: Properties,
    /// When list and tags were asked for, or sent.
    pub at: Instant,
    /// The object was not made later, by the store's clock.
    pub modified: SystemTime,
}

/// Where a rename that failed may have brought a copy all the same.
#[derive(Debug, Clone)]
pub struct Moving {
    /// The new name's object.
    pub to: ObjectRef,
    /// The tokens of the copies that were asked for.
    pub tokens: Vec<String>,
    /// The copy that certainly was made, of the object with the first tag, where that one may be gone: as object and tag.
    pub made: Option<(ETag, ObjectRef, ETag)>,
}

/// What changes about an inode.
#[derive(Debug)]
pub struct State<S> {
    /// Where it is, or was last.
    pub place: Place<S>,
    /// Whether the name still leads here.
    pub linked: bool,
    /// An object that was last seen beside a directory of its name, which has the plain name then.
    pub beside_directory: bool,
    /// What stat shows.
    pub attr: Attr,
    /// Which of its times are stored.
    pub explicit: ExplicitTimes,
    /// The attributes come from the metadata, or need not.
    pub exact: bool,
    /// All that HEAD said about the object, or about a directory's marker.
    pub info: Option<Arc<ObjectInfo>>,
    /// The class as the listing said, when HEAD has not been asked.
    pub listed_class: Option<StorageClass>,
    /// Where a symbolic link leads, if its metadata says so.
    pub target: Option<Arc<str>>,
    /// The date of the object of which all this is known, in whole seconds. One with another date has other metadata.
    pub modified: Option<SystemTime>,
    /// What was set of its attributes waits to be sent (`fs::ops::unsent`).
    pub unsent: bool,
    /// The bytes.
    pub content: Content<S>,
    /// What is known of the names in it.
    pub directory: Directory,
    /// This mount wrote it.
    pub ours: bool,
    /// This mount has set its mode: the special bits of that are believed.
    pub mode_is_ours: bool,
    /// When this mount last changed the object: facts that were asked for before are older.
    pub committed_at: Option<Instant>,
    /// When `info` was last what the store said.
    pub looked_at: Option<Instant>,
    /// Open handles, those that may write among them.
    pub opens: u32,
    /// Handles that may write.
    pub writers: u32,
    /// What their closes owe.
    pub closing: Closing,
    /// The name went to another client: why the content cannot be stored.
    pub lost: Option<Error>,
    /// To be deleted at the last close: `(tag)`.
    pub doomed: Option<Option<ETag>>,
    /// A rename has failed, and may have been carried out in part.
    pub moving: Option<Moving>,
    /// The last failure here.
    pub last_error: Option<Arc<str>>,
    /// Readers to pin anew when this mount commits the object.
    pub readers: Vec<Weak<Reader<S>>>,
}

/// One object or directory.
#[derive(Debug)]
pub struct Inode<S> {
    /// Its number.
    pub ino: Ino,
    /// Its type, for ever.
    pub kind: Kind,
    /// Writers share it; commit, truncate, setattr, xattr, unlink and listing take it alone.
    pub gate: tokio::sync::RwLock<()>,
    state: Mutex<State<S>>,
}

impl<S> Inode<S> {
    /// An inode for what `facts` describe.
    pub fn new(ino: Ino, place: Place<S>, facts: Facts) -> Arc<Self> {
        let content = if facts.kind == Kind::Directory { Content::Directory } else { Content::Clean(facts.etag) };
        let state = State {
            place,
            linked: true,
            beside_directory: false,
            attr: facts.attr,
            explicit: facts.explicit,
            exact: facts.exact,
            info: facts.info,
            listed_class: facts.listed_class,
            target: facts.target,
            modified: facts.modified,
            unsent: false,
            content,
            directory: Directory::default(),
            ours: false,
            mode_is_ours: false,
            committed_at: None,
            looked_at: None,
            opens: 0,
            writers: 0,
            closing: Closing::default(),
            lost: None,
            doomed: None,
            moving: None,
            last_error: None,
            readers: Vec::new(),
        };
        Arc::new(Self { ino, kind: facts.kind, gate: tokio::sync::RwLock::new(()), state: Mutex::new(state) })
    }

    /// The state, for a short look or change: never across an await, never with another inode's.
    pub fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if nobody holds it now.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, State<S>>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The role of its place.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.is_directory() { Role::Directory } else { Role::Object }
    }

    /// The content that is being written, when there is one.
    #[must_use]
    pub fn writing(&self) -> Option<Writing<S>> {
        match &self.lock().content {
            Content::Writing(writing) => Some(writing.clone()),
            _ => None,
        }
    }

    /// Whether that is the content that is being written.
    #[must_use]
    pub fn is_written_by(&self, writer: &Arc<Writer<S>>) -> bool {
        matches!(&self.lock().content, Content::Writing(writing) if Arc::ptr_eq(&writing.writer, writer))
    }

    /// The directory it is in, and its name there.
    #[must_use]
    pub fn place(&self) -> Place<S>
    where
        S: Clone,
    {
        self.lock().place.clone()
    }
}

impl<S> State<S> {
    /// It is empty: whatever it was begun for, from now on it is written whole.
    pub fn begin_anew(&mut self) {
        if let Content::Writing(writing) = &mut self.content
            && writing.on_conflict == OnConflict::Stale
        {
            writing.on_conflict = OnConflict::Replace;
        }
    }

    /// The tag of what is open for writing while the store has all of it, so that it is as anything that others may replace.
    #[must_use]
    pub fn replaceable(&self) -> Option<&ETag>
    where
        S: crate::store::ObjectStore,
    {
        match &self.content {
            Content::Writing(Writing { base: Base::Object(own), writer, .. }) if self.moving.is_none() && !writer.is_dirty() => {
                Some(own)
            }
            _ => None,
        }
    }

    /// Makes a file clean that is open for writing, when others have replaced what the store had of it by what is there `now`,
    /// as an answer that was `asked` for then says. The caller holds the gate alone.
    pub fn give_way(&mut self, now: Option<&ETag>, asked: Instant)
    where
        S: crate::store::ObjectStore,
    {
        let own = self.replaceable().filter(|own| now.is_some_and(|now| now != *own)).cloned();
        if let Some(own) = own.filter(|_| self.committed_at.is_none_or(|at| at < asked)) {
            self.content = Content::Clean(Some(own));
        }
    }

    /// The name leads somewhere else now, or nowhere: what is written here stays here.
    pub fn unlink(&mut self)
    where
        S: crate::store::ObjectStore,
    {
        (self.linked, self.unsent) = (false, false);
        if let Content::Writing(writing) = &self.content {
            writing.writer.stay();
        }
    }

    /// Notes that this mount has just made the object what it is. The times are those of the change, which was before.
    pub fn committed(&mut self, info: ObjectInfo) {
        let now = clock::instant();
        (self.committed_at, self.looked_at) = (Some(now), Some(now));
        self.exact = true;
        self.ours = true;
        self.listed_class = None;
        self.modified = Some(date::whole_seconds(info.last_modified));
        match &mut self.content {
            Content::Writing(writing) => {
                writing.base = Base::Object(info.etag.clone());
                let Properties { tags, acl, .. } = writing.known.properties.clone();
                writing.known = Arc::new(Known {
                    of: Some(info.etag.clone()),
                    properties: Properties { tags, acl, ..info.properties.clone() },
                    at: writing.known.at,
                    modified: info.last_modified,
                });
            }
            Content::Clean(etag) => *etag = Some(info.etag.clone()),
            Content::Directory | Content::Orphan(_) => {}
        }
        self.info = Some(Arc::new(info));
    }

    /// A copy to `to` is about to be asked for, with this token.
    pub fn note_moving(&mut self, to: &ObjectRef, token: String) {
        match &mut self.moving {
            Some(moving) if moving.to == *to => moving.tokens.push(token),
            moving => *moving = Some(Moving { to: to.clone(), tokens: vec![token], made: None }),
        }
    }

    /// Notes that `caller` has changed the bytes, now `size` of them.
    pub fn note_changed(&mut self, size: u64, caller: Caller) {
        self.attr.size = size;
        self.attr.mtime = clock::now();
        self.attr.ctime = self.attr.mtime;
        self.explicit.mtime = false;
        if caller.uid != 0 {
            self.attr.mode = without_privileges(self.attr.mode);
        }
    }

    /// What a directory's marker says, as far as known.
    #[must_use]
    pub fn said_by_marker(&self) -> Since {
        self.info.as_ref().map_or(Since::NEVER, |info| Since::of(&info.properties.metadata))
    }

    /// How many handles may write that are not closed, as far as known.
    #[must_use]
    pub fn open_writers(&self) -> usize {
        (self.writers as usize).saturating_sub(self.closing.parting())
    }

    /// The tag of the object in the store, as far as known.
    #[must_use]
    pub fn etag(&self) -> Option<ETag> {
        match &self.content {
            Content::Clean(etag) => etag.clone(),
            Content::Writing(Writing { base: Base::Object(etag), .. }) => Some(etag.clone()),
            _ => None,
        }
    }

    /// The copy of the present object that a failed rename has made, where only that one is certain to be there.
    #[must_use]
    pub fn copy_made(&self) -> Option<(ObjectRef, ETag)> {
        let (of, object, etag) = self.moving.as_ref()?.made.as_ref()?;
        (self.etag().as_ref() == Some(of)).then(|| (object.clone(), etag.clone()))
    }

    /// The version of the object in the store, as far as known.
    #[must_use]
    pub fn version(&self) -> Option<VersionId> {
        self.info.as_ref().and_then(|info| info.version.clone())
    }

    /// Whether the store does not have the content.
    #[must_use]
    pub fn is_dirty(&self) -> bool
    where
        S: crate::store::ObjectStore,
    {
        matches!(&self.content, Content::Writing(writing) if writing.writer.is_dirty())
    }

    /// Whether it has a content of this mount's own, which no answer of the store's takes away.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        matches!(self.content, Content::Writing(_))
    }

    /// Whether more is known than an answer can say that was asked for at `asked`: it is written here, or the store said
    /// something later.
    #[must_use]
    pub fn is_newer_than(&self, asked: Instant) -> bool {
        self.is_writing() || self.committed_at.is_some_and(|at| at >= asked) || self.looked_at.is_some_and(|at| at > asked)
    }

    /// The living readers.
    pub fn readers(&mut self) -> Vec<Arc<Reader<S>>> {
        self.readers.retain(|reader| reader.strong_count() > 0);
        self.readers.iter().filter_map(Weak::upgrade).collect()
    }
}
