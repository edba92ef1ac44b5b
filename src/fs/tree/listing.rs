//! A directory read from the store: pages, markers, zero-byte objects, the sample that tells whose bucket it is.
//!
//! A page that fails fails the listing: never a shorter directory. A file and a directory of one name are shown together, so
//! that only one of them gets the plain name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;

use super::directory::{Child, ListedChild, Listing};
use super::inode::{Inode, Role};
use super::stream::{Asked, Extent, Stream, Turn, moved_away};
use crate::base::tasks::{self, Scoped};
use crate::base::{clock, date};
use crate::fs::Fs;
use crate::fs::config::AttrsMode;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::fs::meta::posix;
use crate::fs::name::Component;
use crate::store::{
    BucketService, Delimiter, ErrorKind, HeadObject, ListObjects, ListPage, ListStart, ListedObject, MAX_PAGE_KEYS, ObjectInfo,
    ObjectStore, PageToken,
};

/// What is known of a name takes some hundred bytes: of a directory with more names than the memory limit by this, in bytes,
/// only the names are kept while it is read.
const KEPT_DIVISOR: u64 = 2048;
/// Objects of a listing that are asked for at once.
const PARALLEL_HEADS: usize = 32;
/// A page with more zero-byte objects, which are all asked for, is not listed for a lookup's sake.
const MAX_EMPTY_FOR_LOOKUP: usize = 32;
/// Of each page, so many of the newest objects and of the others are looked at for POSIX metadata.
const SAMPLE: usize = 4;

impl<S: ObjectStore + BucketService> Fs<S> {
    /// What is shown of a directory from now on: by its listing while that is fresh, by what somebody else is just reading, or
    /// read from the store.
    pub(in crate::fs) async fn begin_reading(&self, inode: &Arc<Inode<S>>) -> Result<Arc<Stream>> {
        let listing = if self.is_account(inode) {
            self.account_listing(inode).await?
        } else {
            let (mut state, now) = (inode.lock(), clock::instant());
            match state.directory.fresh_listing(now, self.config.ttl) {
                Some(listing) => listing,
                None => return Ok(state.directory.read_along(now, self.config.ttl)),
            }
        };
        inode.lock().directory.rely_on(&listing);
        let stream = Stream::new(listing.began);
        stream.add_shared(self.names_of(inode, &listing), listing);
        self.end_reading(inode, &stream);
        Ok(stream)
    }

    /// The buckets of the account, from memory while that is fresh. One caller asks the store, the others wait for him.
    pub(in crate::fs) async fn account_listing(&self, root: &Arc<Inode<S>>) -> Result<Arc<Listing>> {
        let asked = clock::instant();
        let _alone = root.gate.write().await;
        let known = {
            let state = root.lock();
            let fresh = state.directory.fresh_listing(clock::instant(), self.config.ttl);
            // One that was begun since, by somebody for whom this call has waited, is as good however long it took.
            fresh.or_else(|| state.directory.last_listing().filter(|listing| listing.began >= asked))
        };
        if let Some(listing) = known {
            return Ok(listing);
        }
        let listing = Arc::new(self.list_account().await?);
        self.tell_unshowable(root, listing.unshowable);
        root.lock().directory.learn(Arc::clone(&listing));
        Ok(listing)
    }

    /// Reads on: there are entries behind the `place`th then, or the end of the stream is known.
    pub(in crate::fs) async fn read_more(&self, inode: &Arc<Inode<S>>, stream: &Stream, place: usize) {
        let mut turn = stream.turn.lock().await;
        while stream.entries() <= place && stream.end().is_none() {
            if let Err(error) = self.read_page(inode, stream, &mut turn).await {
                // Never a shorter directory.
                stream.finish(Err(error));
            }
        }
    }

    async fn read_page(&self, inode: &Arc<Inode<S>>, stream: &Stream, turn: &mut Turn) -> Result<()> {
        let address = self.locate(inode)?;
        let mut asked = match turn.asked.take() {
            Some(asked) if asked.address == address => asked,
            Some(_) => return Err(moved_away()),
            None => self.ask_for_page(address, ListStart::Beginning, stream.began),
        };
        let page = asked.answer.ended().await?;
        let next = next_page(&asked.start, page.next.clone())?;
        let is_last = next.is_none();
        // The next page is on its way while this one is shown.
        turn.asked = next.map(|start| self.ask_for_page(asked.address.clone(), start, clock::instant()));
        let last = inode.lock().directory.last_listing();
        let mut listing = Listing { began: asked.at, ..self.empty_listing(last.as_deref()) };
        listing.posix |= turn.posix;
        let extent = Extent::of(&page);
        self.take_page(&mut listing, &asked.address, page, last.as_deref()).await?;
        turn.posix = listing.posix;
        turn.unshowable += listing.unshowable;
        let (mut children, began) = turn.held.take(&asked.address.key, extent, listing.children, (asked.at, is_last));
        if is_last && !turn.held.is_sorted() {
            let named = |component: &Component| [Role::Directory, Role::Object].map(|role| (role, component.clone()));
            let shown = stream.shown_of(&children.keys().flat_map(named).collect::<Vec<_>>());
            children.retain(|component, _| named(component).iter().all(|name| !shown.contains(name)));
        }
        let listing = Listing { began, children, ..listing };
        let names = self.names_of(inode, &listing);
        stream.add(names, listing, self.most_kept());
        if is_last {
            self.tell_unshowable(inode, turn.unshowable);
            if let Some(whole) = stream.whole() {
                let mut state = inode.lock();
                state.directory.learn(Arc::clone(&whole));
                state.directory.rely_on(&whole);
            }
            self.end_reading(inode, stream);
        }
        Ok(())
    }

    fn tell_unshowable(&self, inode: &Inode<S>, count: u64) {
        if count > 0 {
            tracing::warn!(path = self.path_of(inode.ino), count, "names that cannot be shown are left out");
        }
    }

    fn ask_for_page(&self, address: Address, start: ListStart, at: Instant) -> Asked {
        let (store, request) = (self.store.clone(), Self::page_request(&address, start.clone()));
        let answer = Scoped::new(tasks::spawn(async move { store.list(&request).await }));
        Asked { address, at, start, answer }
    }

    /// So many names of a directory are kept with all that is known of them.
    fn most_kept(&self) -> usize {
        usize::try_from(self.config.memory_limit / KEPT_DIVISOR).unwrap_or(usize::MAX)
    }

    /// The directory's listing for the lookup of a name: the fresh one, or a new one of few pages where that is the better
    /// question than the one name. `None` when the name must be asked for alone.
    pub(in crate::fs) async fn listing_for_lookup(
        &self,
        inode: &Arc<Inode<S>>,
        component: &Component,
        asked: Instant,
    ) -> Option<Arc<Listing>> {
        let (fresh, pages) = {
            let directory = &inode.lock().directory;
            if let Some(listing) = directory.being_read(component, asked, self.config.ttl) {
                return Some(listing);
            }
            let fresh = directory.fresh_listing(asked, self.config.ttl);
            // Where it tells nothing of names that are missing, a new one would.
            let tells = |listing: &Arc<Listing>| {
                listing.children.contains_key(component) || directory.relies_on(listing, asked, self.config.ttl)
            };
            let suffices =
                fresh.as_ref().is_some_and(tells) || fresh.is_some() && !directory.is_asked_for_missing(asked, self.config.ttl);
            match directory.wants_listing(asked, self.config.ttl).filter(|_| !suffices) {
                Some(pages) => (fresh, pages),
                None => return fresh,
            }
        };
        // Somebody lists it now, maybe for long: the name alone is quicker.
        let Ok(_alone) = inode.gate.try_write() else { return fresh };
        let address = self.locate(inode).ok()?;
        let last = inode.lock().directory.last_listing();
        // Who may not list asks for each name; any other failure will be that of the one name, too.
        let listing = self.list_small(&address, last.as_deref(), pages).await.ok().flatten().map(Arc::new);
        let mut state = inode.lock();
        match &listing {
            Some(listing) => {
                state.directory.learn(Arc::clone(listing));
                if state.directory.is_asked_for_missing(asked, self.config.ttl) {
                    state.directory.rely_on(listing);
                }
            }
            None => state.directory.note_unlistable(asked, pages),
        }
        drop(state);
        listing.or(fresh)
    }

    /// Whether a fresh listing that is relied on has nothing under a name, and nothing was found there since. (What was listed
    /// for the sake of names that are there, proves nothing: others may have made another one since.)
    pub(in crate::fs) fn is_unlisted(&self, directory: &Arc<Inode<S>>, component: &Component, listing: &Listing) -> bool {
        let found = |role| {
            let made = directory.lock().directory.own_knowledge(role, component, listing.began) == Some(true);
            made || self.table.at(directory.ino, role, component).is_some()
        };
        let relied_on = directory.lock().directory.relies_on(listing, clock::instant(), self.config.ttl);
        relied_on && !listing.children.contains_key(component) && !found(Role::Directory) && !found(Role::Object)
    }

    fn page_request(directory: &Address, start: ListStart) -> ListObjects {
        ListObjects {
            bucket: directory.bucket.clone(),
            prefix: directory.prefix(),
            delimiter: Delimiter::Slash,
            start,
            max_keys: MAX_PAGE_KEYS,
        }
    }

    /// A directory that was made where nothing was `since` then has only what this mount makes in it.
    pub(in crate::fs) fn learn_empty(&self, made: &Arc<Inode<S>>, since: Instant) {
        let listing = Arc::new(Listing { began: since, ..self.empty_listing(None) });
        let mut state = made.lock();
        state.directory.learn(Arc::clone(&listing));
        state.directory.rely_on(&listing);
    }

    pub(in crate::fs) fn empty_listing(&self, last: Option<&Listing>) -> Listing {
        Listing {
            began: clock::instant(),
            children: BTreeMap::new(),
            posix: self.config.attrs == AttrsMode::Posix || last.is_some_and(|last| last.posix),
            unshowable: 0,
        }
    }

    /// The listing of a directory that fits so many pages.
    async fn list_small(&self, directory: &Address, last: Option<&Listing>, pages: usize) -> Result<Option<Listing>> {
        let mut listing = self.empty_listing(last);
        let mut start = ListStart::Beginning;
        for _ in 0..pages {
            let page = self.store.list(&Self::page_request(directory, start)).await?;
            let empty = page.objects.iter().filter(|object| object.size == 0).count();
            if empty > MAX_EMPTY_FOR_LOOKUP {
                return Ok(None);
            }
            let next = page.next.clone();
            self.take_page(&mut listing, directory, page, last).await?;
            match next {
                Some(token) => start = ListStart::Token(token),
                None => return Ok(Some(listing)),
            }
        }
        Ok(None)
    }

    async fn take_page(&self, listing: &mut Listing, directory: &Address, page: ListPage, last: Option<&Listing>) -> Result<()> {
        let prefix = directory.key.as_str();
        for below in &page.prefixes {
            match below.strip_prefix(prefix).and_then(|name| name.strip_suffix('/')).and_then(Component::new) {
                Some(component) => listing.children.entry(component).or_default().directory = true,
                None => listing.unshowable += 1,
            }
        }
        let mut fresh: Vec<(Component, ListedObject)> = Vec::new();
        for object in page.objects {
            let marker = object.size == 0 && object.key.ends_with('/');
            match object.key.strip_prefix(prefix).and_then(Component::new) {
                _ if marker => {}
                Some(component) => fresh.push((component, object)),
                None => listing.unshowable += 1,
            }
        }
        let wanted = self.to_ask(listing, &fresh, last);
        let mut infos = self.ask(directory, &fresh, &wanted).await?;
        // One object with POSIX metadata tells that others have it too, on this page and the next ones.
        listing.posix = listing.posix || infos.values().any(|info| posix::is_posix(&info.properties.metadata));
        for (index, (component, object)) in fresh.into_iter().enumerate() {
            let info = infos.remove(&index).or_else(|| remembered(last, &component, &object));
            let child = ListedChild {
                size: object.size,
                etag: object.etag,
                last_modified: object.last_modified,
                storage_class: object.storage_class,
                info,
            };
            listing.children.entry(component).or_default().object = Some(child);
        }
        Ok(())
    }

    /// Which objects of a page are asked for: zero-byte ones, whose type must be right, and a sample for POSIX metadata.
    fn to_ask(&self, listing: &Listing, objects: &[(Component, ListedObject)], last: Option<&Listing>) -> Vec<usize> {
        if self.config.attrs == AttrsMode::Listing {
            return Vec::new();
        }
        let unknown = |index: &usize| remembered(last, &objects[*index].0, &objects[*index].1).is_none();
        let mut wanted: Vec<usize> = (0..objects.len()).filter(|index| objects[*index].1.size == 0).filter(unknown).collect();
        if self.config.attrs == AttrsMode::Auto && !listing.posix {
            let mut by_age: Vec<usize> = (0..objects.len()).collect();
            by_age.sort_by_key(|index| std::cmp::Reverse(objects[*index].1.last_modified));
            let (newest, others) = by_age.split_at(by_age.len().min(SAMPLE));
            let spread = others.iter().step_by((others.len() / SAMPLE).max(1)).take(SAMPLE);
            wanted.extend(newest.iter().chain(spread).copied().filter(unknown));
            wanted.sort_unstable();
            wanted.dedup();
        }
        wanted
    }

    /// HEADs of the `wanted` objects, in parallel. What is gone or refused is left as the listing said.
    async fn ask(
        &self,
        directory: &Address,
        objects: &[(Component, ListedObject)],
        wanted: &[usize],
    ) -> Result<BTreeMap<usize, Arc<ObjectInfo>>> {
        let mut heads = Vec::with_capacity(wanted.len());
        for index in wanted {
            let object = directory.below(&objects[*index].0, Role::Object).object()?;
            heads.push(self.ask_one(*index, HeadObject { object }));
        }
        let answers: Vec<_> = futures_util::stream::iter(heads).buffer_unordered(PARALLEL_HEADS).collect().await;
        answers.into_iter().filter_map(Result::transpose).collect()
    }

    async fn ask_one(&self, index: usize, request: HeadObject) -> Result<Option<(usize, Arc<ObjectInfo>)>> {
        match self.store.head(&request).await {
            Ok(info) => Ok(Some((index, Arc::new(info)))),
            Err(error) if error.kind() == ErrorKind::NotFound || refuses_head(error.kind()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the page after the one from `start` on begins.
pub(in crate::fs) fn next_page(start: &ListStart, next: Option<PageToken>) -> Result<Option<ListStart>> {
    let next = next.map(ListStart::Token);
    if next.as_ref() == Some(start) {
        return Err(Error::new(Situation::Io, "the store's listing does not get on: a page names itself as the next"));
    }
    Ok(next)
}

/// Whether a HEAD was refused for good: by permissions, or since the object needs a key of the customer's (SSE-C).
pub(super) const fn refuses_head(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported)
}

/// What HEAD said about the same object in the last listing: same tag and date. Where dates are of whole seconds, metadata
/// that was changed within that second would not show.
fn remembered(last: Option<&Listing>, component: &Component, object: &ListedObject) -> Option<Arc<ObjectInfo>> {
    let known: &Child = last?.children.get(component)?;
    let known = known.object.as_ref()?;
    let is_same = known.etag == object.etag && known.last_modified == object.last_modified;
    let exact = date::to_unix(object.last_modified).1 != 0;
    known.info.clone().filter(|info| is_same && (exact || info.is_settled()))
}

impl Listing {
    /// Whether an object's attributes must come from its metadata.
    #[must_use]
    pub fn wants_metadata(&self, child: &ListedChild) -> bool {
        self.posix && child.info.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::store::{ETag, Facts, Properties};

    fn listing(modified: SystemTime, as_of: SystemTime) -> Listing {
        let info = ObjectInfo {
            size: 1,
            etag: ETag::new("x"),
            last_modified: modified,
            as_of: Some(as_of),
            version: None,
            properties: Properties::default(),
            archive_status: None,
            restore: None,
            facts: Facts::default(),
            checksums: BTreeMap::new(),
        };
        let (etag, storage_class) = (Some(info.etag.clone()), None);
        let object = ListedChild { size: 1, etag, last_modified: modified, storage_class, info: Some(Arc::new(info)) };
        let child = Child { object: Some(object), ..Child::default() };
        let children = BTreeMap::from([(Component::new("f").unwrap(), child)]);
        Listing { began: clock::instant(), children, posix: true, unshowable: 0 }
    }

    #[test]
    fn what_was_said_within_the_second_of_a_change_is_asked_again() {
        let second = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let knows = |modified: SystemTime, later: u64| {
            let listed = ListedObject {
                key: "d/f".into(),
                size: 1,
                etag: Some(ETag::new("x")),
                last_modified: modified,
                storage_class: None,
            };
            let last = listing(modified, second + Duration::from_secs(later));
            remembered(Some(&last), &Component::new("f").unwrap(), &listed).is_some()
        };
        assert!(!knows(second, 0) && !knows(second, 2), "it may have been changed since, with the same tag and date");
        assert!(knows(second, 3));
        assert!(knows(second + Duration::from_millis(7), 0), "such a date is exact");
    }
}
