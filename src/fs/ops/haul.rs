//! The keys of a directory on their way to another place: what was copied, and what is known of each copy.
//!
//! Of each key only digests are kept: with its tag and time, that of a source which was copied; with its tag, that of a copy.
//! What a listing shows is looked up in them before anything is deleted, at either place.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::keeping::TagsBy;
use crate::base::{date, rng, tasks};
use crate::data::write::commit::{MadeBy, in_group, token_of};
use crate::data::write::settle::{copy_object, look};
use crate::fs::Fs;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::intents::{Begun, CopiedKey, Intent};
use crate::fs::locate::Address;
use crate::fs::name::Component;
use crate::fs::ops::begin::source_of;
use crate::fs::ops::commit::copied_info;
use crate::fs::tree::inode::{Inode, Role};
use crate::fs::tree::listing::next_page;
use crate::store::{
    BucketService, Condition, Delimiter, ETag, Key, ListObjects, ListPage, ListStart, ListedObject, MAX_PAGE_KEYS, ObjectInfo,
    ObjectRef, ObjectStore,
};

/// Copies that are asked for at once: as many as requests may be in flight.
const PARALLEL_COPIES: usize = crate::store::limit::MAX_SMALL_REQUESTS;
/// What was listed is kept up to so many keys; beyond that it is listed once more for the copying.
const MAX_HELD_KEYS: usize = 100_000;
/// An object that others change all the time is copied anew so often.
const MAX_TRIES: u32 = 5;

type Digest = [u64; 2];

/// The keys of a directory on their way.
#[derive(Debug)]
pub(in crate::fs) struct Haul {
    /// Where they were.
    pub from: Address,
    /// Where they shall be.
    pub to: Address,
    /// What the tokens of the copies begin with.
    pub token: String,
    /// The tag of the marker of the empty directory that is replaced.
    pub replaced: Option<ETag>,
    /// It was begun by a mount that died, or failed: what else has happened since is looked at key by key.
    pub is_old: bool,
    hashers: [RandomState; 2],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: HashSet<Digest>,
    sources: HashSet<Digest>,
    copies: HashSet<Digest>,
    /// Keys that may have been copied, although that failed.
    doubtful: HashSet<String>,
    /// What was carried of inodes that are known.
    known: HashMap<String, Carried>,
    unwritten: Vec<CopiedKey>,
    intent: Option<Intent>,
    progress: Progress,
}

/// How far a rename is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) struct Progress {
    /// Keys to be moved.
    pub found: u64,
    /// Of these, copied.
    pub copied: u64,
    /// Of these, deleted.
    pub deleted: u64,
    /// Something was deleted, or may have been.
    pub is_deleting: bool,
}

/// An object and its copy.
#[derive(Debug, Clone)]
pub(in crate::fs) struct Carried {
    /// What was copied.
    pub source: Arc<ObjectInfo>,
    /// What it is at the new place.
    pub copy: ObjectInfo,
}

/// What a listing of the old place shows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) enum Fate {
    /// It was copied as it is.
    Copied,
    /// It was copied, and changed since.
    Changed,
    /// It came since.
    New,
}

impl Haul {
    pub(in crate::fs) fn new(from: Address, to: Address, replaced: Option<ETag>) -> Self {
        Self::of(from, to, replaced, format!("{}.", rng::token()), false)
    }

    /// What a dead mount has begun.
    pub(in crate::fs) fn left(begun: &Begun, copied: Vec<CopiedKey>) -> Option<Self> {
        let (from, to) = begun.addresses()?;
        let haul = Self::of(from, to, begun.replaced.as_deref().map(ETag::new), begun.token.clone(), true);
        for copied in copied {
            haul.note(&copied);
        }
        Some(haul)
    }

    /// As it is now, for a later try.
    pub(in crate::fs) fn for_later(self: Arc<Self>) -> Self {
        let old = Self::of(self.from.clone(), self.to.clone(), self.replaced.clone(), self.token.clone(), true);
        let hashers = self.hashers.clone();
        let state = std::mem::take(&mut *self.lock());
        Self { hashers, state: Mutex::new(state), ..old }
    }

    fn of(from: Address, to: Address, replaced: Option<ETag>, token: String, is_old: bool) -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        Self { from, to, token, replaced, is_old, hashers, state: Mutex::default() }
    }

    /// The part of a key below the directory at `address`.
    fn below<'a>(key: &'a str, address: &Address) -> Result<&'a str> {
        key.strip_prefix(address.key.as_str())
            .ok_or_else(|| Error::new(Situation::Io, format!("the store has listed '{key}', which is elsewhere")))
    }

    /// The part of a key of the old place below the directory.
    pub(in crate::fs) fn relative<'a>(&self, key: &'a str) -> Result<&'a str> {
        Self::below(key, &self.from)
    }

    /// The part of a key of the new place below the directory.
    pub(in crate::fs) fn relative_to<'a>(&self, key: &'a str) -> Result<&'a str> {
        Self::below(key, &self.to)
    }

    /// Where a key is.
    pub(in crate::fs) fn source(&self, relative: &str) -> Result<ObjectRef> {
        Address { key: format!("{}{relative}", self.from.key), ..self.from.clone() }.object()
    }

    /// Where a key shall be.
    pub(in crate::fs) fn target(&self, relative: &str) -> Result<ObjectRef> {
        Address { key: format!("{}{relative}", self.to.key), ..self.to.clone() }.object()
    }

    /// Whether this rename has made an object.
    pub(in crate::fs) fn has_made(&self, info: &ObjectInfo) -> bool {
        token_of(&info.properties).is_some_and(|token| token.starts_with(&self.token))
    }

    /// Whether a listing of the new place shows a copy.
    pub(in crate::fs) fn is_copy(&self, relative: &str, etag: &ETag) -> bool {
        let digest = self.digest((relative, etag.as_str()));
        self.lock().copies.contains(&digest)
    }

    /// Whether a key may have been copied, although that failed.
    pub(in crate::fs) fn is_doubtful(&self, relative: &str) -> bool {
        self.lock().doubtful.contains(relative)
    }

    /// Whether there is such a key.
    pub(in crate::fs) fn is_doubted(&self) -> bool {
        !self.lock().doubtful.is_empty()
    }

    /// Whether there is nothing to take back.
    pub(in crate::fs) fn is_untouched(&self) -> bool {
        let state = self.lock();
        state.copies.is_empty() && state.doubtful.is_empty() && !self.is_old
    }

    /// What a listing of the old place shows.
    pub(in crate::fs) fn fate(&self, relative: &str, etag: &ETag, modified: std::time::SystemTime) -> Fate {
        let source = self.digest((relative, etag.as_str(), date::unix_seconds(modified)));
        let key = self.digest(relative);
        let state = self.lock();
        match (state.sources.contains(&source), state.keys.contains(&key)) {
            (true, _) => Fate::Copied,
            (false, true) => Fate::Changed,
            (false, false) => Fate::New,
        }
    }

    pub(in crate::fs) fn progress(&self) -> Progress {
        self.lock().progress
    }

    pub(in crate::fs) fn advance(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock().progress);
    }

    /// What was carried of a known inode.
    pub(in crate::fs) fn carried(&self, relative: &str) -> Option<Carried> {
        self.lock().known.get(relative).cloned()
    }

    pub(in crate::fs) fn note_carried(&self, relative: &str, carried: Carried) {
        self.lock().known.insert(relative.to_owned(), carried);
    }

    fn digest(&self, of: impl Hash) -> Digest {
        [self.hashers[0].hash_one(&of), self.hashers[1].hash_one(&of)]
    }

    fn note(&self, copied: &CopiedKey) {
        let CopiedKey { key, etag, modified, copy } = copied;
        let (key, source, copy) = (
            self.digest(key.as_str()),
            self.digest((key.as_str(), etag.as_str(), *modified)),
            self.digest((key.as_str(), copy.as_str())),
        );
        let mut state = self.lock();
        state.keys.insert(key);
        state.sources.insert(source);
        state.copies.insert(copy);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the intent, where there is a place for it; without one a crash in between leaves what was copied at both places.
    pub(in crate::fs) fn keep_intent(&self, intent: Intent) {
        self.lock().intent = Some(intent);
    }

    /// Records what was copied.
    pub(in crate::fs) async fn record(&self) -> Result<()> {
        let (keys, intent) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.unwritten), state.intent.take())
        };
        self.with_intent(intent, move |intent| intent.copied(keys)).await
    }

    /// Records that deleting begins.
    pub(in crate::fs) async fn record_deleting(&self) -> Result<()> {
        let intent = self.lock().intent.take();
        self.with_intent(intent, Intent::deleting).await
    }

    async fn with_intent(
        &self,
        intent: Option<Intent>,
        work: impl FnOnce(&mut Intent) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let Some(mut intent) = intent else { return Ok(()) };
        let (intent, written) = tasks::blocking(move || {
            let written = work(&mut intent);
            (intent, written)
        })
        .await;
        self.lock().intent = Some(intent);
        let words = |error| format!("the rename cannot be recorded in the state directory, so nothing was moved: {error}");
        written.map_err(|error| Error::new(Situation::Io, words(error)))
    }

    /// All is done.
    pub(in crate::fs) async fn end(&self) {
        let Some(intent) = self.lock().intent.take() else { return };
        if let Err(error) = tasks::blocking(move || intent.end()).await {
            tracing::warn!(%error, "the record of a rename stays: the next mount looks at it again, and finds nothing to do");
        }
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// A page of all keys below an address.
    pub(in crate::fs) async fn page_below(&self, address: &Address, start: ListStart) -> Result<ListPage> {
        let request = ListObjects {
            bucket: address.bucket.clone(),
            prefix: address.prefix(),
            delimiter: Delimiter::None,
            start,
            max_keys: MAX_PAGE_KEYS,
        };
        Ok(self.store.list(&request).await?)
    }

    /// Looks at everything that is to be moved, before anything is done: all of it must be possible. The marker comes apart;
    /// the rest is returned unless there is too much of it.
    ///
    /// # Errors
    /// [`Situation::Archived`], [`Situation::NameTooLong`], and the store's failures.
    pub(in crate::fs) async fn survey(&self, haul: &Haul) -> Result<(Option<ListedObject>, Option<Vec<ListedObject>>)> {
        let (mut marker, mut held, mut start) = (None, Some(Vec::new()), ListStart::Beginning);
        loop {
            let page = self.page_below(&haul.from, start.clone()).await?;
            let found = page.objects.len();
            haul.advance(|progress| progress.found += found as u64);
            for listed in page.objects {
                let relative = haul.relative(&listed.key)?;
                if listed.storage_class.as_ref().is_some_and(crate::store::StorageClass::is_archive) {
                    return Err(archived(&listed.key));
                }
                Key::new(&listed.key)?;
                haul.target(relative)?;
                match &mut held {
                    _ if relative.is_empty() => marker = Some(listed),
                    Some(kept) if kept.len() < MAX_HELD_KEYS => kept.push(listed),
                    _ => held = None,
                }
            }
            match next_page(&start, page.next)? {
                Some(next) => start = next,
                None => return Ok((marker, held)),
            }
        }
    }

    /// Copies everything: the marker first, since it takes the new name; in the place of another marker last, since that
    /// cannot be taken back.
    pub(in crate::fs) async fn carry_all(
        &self,
        haul: &Haul,
        root: &Arc<Inode<S>>,
        (marker, held): (Option<ListedObject>, Option<Vec<ListedObject>>),
    ) -> Result<()> {
        if let Some(marker) = marker.as_ref().filter(|_| haul.replaced.is_none()) {
            self.carry(haul, Some(root), marker, Condition::IfAbsent).await?;
        }
        match held {
            Some(held) => self.carry_many(haul, root, &held).await?,
            None => {
                let mut start = ListStart::Beginning;
                loop {
                    let page = self.page_below(&haul.from, start.clone()).await?;
                    self.carry_many(haul, root, &page.objects).await?;
                    match next_page(&start, page.next)? {
                        Some(next) => start = next,
                        None => break,
                    }
                }
            }
        }
        if let (Some(marker), Some(replaced)) = (&marker, &haul.replaced) {
            self.carry(haul, Some(root), marker, Condition::IfMatch(replaced.clone())).await?;
        }
        haul.record().await
    }

    async fn carry_many(&self, haul: &Haul, root: &Arc<Inode<S>>, listed: &[ListedObject]) -> Result<()> {
        use futures_util::stream::{self, StreamExt as _};
        for chunk in listed.chunks(usize::from(MAX_PAGE_KEYS)) {
            let failed = std::sync::atomic::AtomicBool::new(false);
            let mut copies = Vec::with_capacity(chunk.len());
            for listed in chunk.iter().filter(|listed| listed.key != haul.from.key) {
                copies.push(self.carry_unless(&failed, haul, root, listed));
            }
            // Each one that was asked for is waited for: what is not answered cannot be taken back.
            let done: Vec<Result<()>> = stream::iter(copies).buffer_unordered(PARALLEL_COPIES).collect().await;
            done.into_iter().collect::<Result<()>>()?;
            haul.record().await?;
        }
        Ok(())
    }

    async fn carry_unless(
        &self,
        failed: &std::sync::atomic::AtomicBool,
        haul: &Haul,
        root: &Arc<Inode<S>>,
        listed: &ListedObject,
    ) -> Result<()> {
        use std::sync::atomic::Ordering;
        if failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let carried = self.carry(haul, Some(root), listed, Condition::IfAbsent).await;
        carried.inspect_err(|_| failed.store(true, Ordering::Release))
    }

    /// Copies one key.
    pub(in crate::fs) async fn carry(
        &self,
        haul: &Haul,
        root: Option<&Arc<Inode<S>>>,
        listed: &ListedObject,
        condition: Condition,
    ) -> Result<()> {
        let relative = haul.relative(&listed.key)?;
        let (source, target) = (haul.source(relative)?, haul.target(relative)?);
        let inode = root.and_then(|root| self.inode_below(root, relative, listed.size));
        let mut known = root.and_then(|root| self.info_below(root, inode.as_ref(), relative, listed));
        for tries in 1.. {
            let info = match known.take() {
                Some(info) => info,
                None => match look(&self.store, &source).await? {
                    Some(info) => Arc::new(info),
                    // Another client has removed it.
                    None => return Ok(()),
                },
            };
            if info.archived() {
                return Err(archived(&listed.key));
            }
            let (mut destination, tags) = self.moved(&source, &info, &target).await?;
            in_group(&mut destination, &haul.token);
            let made = copy_object(&self.store, source_of(&source, &info), &destination, condition.clone()).await;
            let committed = match made {
                Ok(committed) => committed,
                Err(error) => {
                    let changed = matches!(error, crate::data::Error::Stale);
                    if changed && tries < MAX_TRIES && look(&self.store, &source).await?.is_none_or(|now| now.etag != info.etag) {
                        // Another client has changed it: it is looked at anew.
                        continue;
                    }
                    haul.lock().doubtful.insert(relative.to_owned());
                    return Err(match Error::from(error) {
                        // Somebody has taken the new name meanwhile: what is believed of it is stale.
                        error if error.situation() == Situation::Exists => error.in_situation(Situation::Stale),
                        error => error,
                    });
                }
            };
            let copied = CopiedKey {
                key: relative.to_owned(),
                etag: info.etag.as_str().to_owned(),
                modified: date::unix_seconds(if listed.etag.as_ref() == Some(&info.etag) {
                    listed.last_modified
                } else {
                    info.last_modified
                }),
                copy: committed.etag.as_str().to_owned(),
            };
            let put_back = self.put_back(&target, &destination.properties, tags.as_ref(), MadeBy::copy_of(info.size)).await;
            if let Err(error) = put_back {
                haul.lock().doubtful.insert(relative.to_owned());
                return Err(error);
            }
            haul.note(&copied);
            let copy = copied_info(&info, committed, destination.properties);
            let mut state = haul.lock();
            state.unwritten.push(copied);
            state.progress.copied += 1;
            if inode.is_some() {
                state.known.insert(relative.to_owned(), Carried { source: info, copy });
            }
            return Ok(());
        }
        Ok(())
    }

    /// The inode that a key below a directory is known as. The key of a marker is its directory's.
    pub(in crate::fs) fn inode_below(&self, root: &Arc<Inode<S>>, relative: &str, size: u64) -> Option<Arc<Inode<S>>> {
        let (path, role) = match relative.strip_suffix('/').filter(|_| size == 0) {
            Some(path) => (path, Role::Directory),
            None if relative.is_empty() => return Some(Arc::clone(root)),
            None => (relative, Role::Object),
        };
        let mut at = Arc::clone(root);
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            let role = if components.peek().is_some() { Role::Directory } else { role };
            at = self.table.at(at.ino, role, &Component::new(component)?)?;
        }
        Some(at)
    }

    /// What HEAD would say of a key, where that is known, of the very object that was listed, and would be no other now.
    fn info_below(
        &self,
        root: &Arc<Inode<S>>,
        inode: Option<&Arc<Inode<S>>>,
        relative: &str,
        listed: &ListedObject,
    ) -> Option<Arc<ObjectInfo>> {
        // Where copies lose the tags, they must be known as they are.
        if !self.copies_keep_tags() && TagsBy::of_copy(listed.size) == TagsBy::Store {
            return None;
        }
        let own = inode.and_then(|inode| inode.lock().info.clone());
        let of_listing = || {
            let (path, name) = relative.rsplit_once('/').unwrap_or(("", relative));
            let parent = if path.is_empty() && !relative.contains('/') {
                Arc::clone(root)
            } else {
                self.inode_below(root, &format!("{path}/"), 0)?
            };
            let listing = parent.lock().directory.last_listing()?;
            listing.children.get(&Component::new(name)?)?.object.as_ref()?.info.clone()
        };
        let is_same = |info: &Arc<ObjectInfo>| {
            let not_newer = date::unix_seconds(listed.last_modified) <= date::unix_seconds(info.last_modified);
            Some(&info.etag) == listed.etag.as_ref() && info.size == listed.size && not_newer
        };
        own.filter(is_same).or_else(|| of_listing().filter(is_same))
    }
}

fn archived(key: &str) -> Error {
    let words = format!("'{key}' is archived and cannot be copied, so nothing was renamed: restore it first (pailfs restore)");
    Error::new(Situation::Archived, words)
}
