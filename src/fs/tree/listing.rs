//! What pages of a listing say: names, markers, and what is looked at beside them; and listings for the sake of a name.
//!
//! A page that fails fails the listing: never a shorter directory. A file and a directory of one name are shown together, so
//! that only one of them gets the plain name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::directory::{Directory, ListedChild, Listing};
use super::inode::{Inode, Role};
use super::since::Since;
use super::stream::{Extent, Held};
use crate::base::clock;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::fs::name::Component;
use crate::store::{
    BucketService, Delimiter, ErrorKind, ListObjects, ListPage, ListStart, ListedObject, MAX_PAGE_KEYS, ObjectStore, PageToken,
};

/// A page with more zero-byte objects, which are all asked for, is not listed for a lookup's sake.
const MAX_EMPTY_FOR_LOOKUP: usize = 32;

/// Which pages are asked for instead of a name.
enum Question {
    /// So many from the first.
    First(usize),
    /// The one behind another name.
    Behind(Component),
}

impl<S: ObjectStore + BucketService> Fs<S> {
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

    /// The directory's listing for the lookup of a name: the fresh one, or a new one of few pages where that is the better
    /// question than the one name. `None` when the name must be asked for alone.
    pub(in crate::fs) async fn listing_for_lookup(
        &self,
        inode: &Arc<Inode<S>>,
        component: &Component,
        asked: Instant,
    ) -> Option<Arc<Listing>> {
        let (fresh, pages) = {
            let directory = &mut inode.lock().directory;
            let before = directory.walk_to(component, asked);
            if let Some(listing) = directory.being_read(component, asked, self.config.ttl) {
                return Some(listing);
            }
            let fresh = directory.fresh_listing(asked, self.config.ttl);
            // Where it tells nothing of names that are missing, a new one would.
            let tells = |listing: &Arc<Listing>| {
                listing.children.contains_key(component) || directory.relies_on(listing, asked, self.config.ttl)
            };
            // What was made here since, and is forgotten, it does not tell either.
            let suffices = fresh.as_ref().is_some_and(|listing| {
                !self.is_forgotten((inode.ino, directory), component, &Role::BOTH, listing)
                    && (tells(listing) || !directory.is_asked_for_missing(asked, self.config.ttl))
            });
            match (before, directory.wants_listing(asked, self.config.ttl)) {
                _ if suffices => return fresh,
                (Some(before), _) => (fresh, Question::Behind(before)),
                (None, Some(pages)) => (fresh, Question::First(pages)),
                (None, None) => return fresh,
            }
        };
        // Somebody lists it now, maybe for long: the name alone is quicker.
        let Ok(_alone) = inode.gate.try_write() else { return fresh };
        let address = self.locate(inode).ok()?;
        let last = inode.lock().directory.last_listing();
        // Who may not list asks for each name; any other failure will be that of the one name, too.
        let pages = match pages {
            Question::First(pages) => pages,
            Question::Behind(before) => {
                let page = self.list_behind((inode, &address), last.as_deref(), &before).await.ok().flatten().map(Arc::new);
                let has_it = inode.lock().directory.learn_nearby(page.as_ref(), component);
                return page.filter(|_| has_it).or(fresh);
            }
        };
        let listing = self.list_small((inode, &address), last.as_deref(), pages).await.ok().flatten().map(Arc::new);
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

    /// Whether this mount has made or changed what is under a name in one of these roles since it was listed, and its inode is
    /// forgotten: only the store can tell what it is now.
    pub(in crate::fs) fn is_forgotten(
        &self,
        (ino, directory): (Ino, &Directory),
        component: &Component,
        roles: &[Role],
        listing: &Listing,
    ) -> bool {
        roles.iter().any(|role| {
            let own = directory.own_knowledge(*role, component, listing.began);
            own == Some(true) && self.table.at(ino, *role, component).is_none()
        })
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

    pub(in crate::fs) fn page_request(directory: &Address, start: ListStart) -> ListObjects {
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
        let listing = Arc::new(Listing { began: since, ..self.empty_listing() });
        let mut state = made.lock();
        state.directory.learn(Arc::clone(&listing));
        state.directory.rely_on(&listing);
    }

    pub(in crate::fs) fn empty_listing(&self) -> Listing {
        Listing { began: clock::instant(), children: BTreeMap::new(), since: Since::NEVER, unshowable: 0 }
    }

    /// The listing of a directory that fits so many pages.
    async fn list_small(
        &self,
        (inode, directory): (&Arc<Inode<S>>, &Address),
        last: Option<&Listing>,
        pages: usize,
    ) -> Result<Option<Listing>> {
        let mut listing = self.empty_listing();
        let mut start = ListStart::Beginning;
        for _ in 0..pages {
            let page = self.store.list(&Self::page_request(directory, start)).await?.read()?;
            if asks_for_many(&page) {
                return Ok(None);
            }
            let next = page.next.clone();
            self.take_page(&mut listing, (inode, directory), page, last).await?;
            match next {
                Some(token) => start = ListStart::Token(token),
                None => return Ok(Some(listing)),
            }
        }
        Ok(None)
    }

    /// The names of one page behind a name, as far as it tells all about them.
    async fn list_behind(
        &self,
        (inode, directory): (&Arc<Inode<S>>, &Address),
        last: Option<&Listing>,
        before: &Component,
    ) -> Result<Option<Listing>> {
        let mut listing = self.empty_listing();
        let start = ListStart::After(directory.below(before, Role::Object).key);
        let page = self.store.list(&Self::page_request(directory, start)).await?.read()?;
        if asks_for_many(&page) {
            return Ok(None);
        }
        let (extent, is_last) = (Extent::of(&page), page.next.is_none());
        self.take_page(&mut listing, (inode, directory), page, last).await?;
        let mut held = Held::new(listing.began);
        let children = std::mem::take(&mut listing.children);
        (listing.children, _) = held.take(&directory.key, extent, children, (listing.began, is_last));
        // What is below it is behind it, too.
        listing.children.remove(before);
        Ok(Some(listing))
    }

    pub(in crate::fs) async fn take_page(
        &self,
        listing: &mut Listing,
        (inode, directory): (&Arc<Inode<S>>, &Address),
        page: ListPage,
        last: Option<&Listing>,
    ) -> Result<()> {
        listing.since = listing.since.or_earlier(self.since_by(inode, directory, &page).await?);
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
        let told = self.told_of((inode, directory), &fresh, last, &mut listing.since).await?;
        for ((component, ListedObject { size, etag, last_modified, storage_class, .. }), told) in fresh.into_iter().zip(told) {
            let child = ListedChild { size, etag, last_modified, storage_class, told };
            listing.children.entry(component).or_default().object = Some(child);
        }
        Ok(())
    }
}

/// Whether a page has too many zero-byte objects to be asked for a lookup's sake.
fn asks_for_many(page: &ListPage) -> bool {
    page.objects.iter().filter(|object| object.size == 0).count() > MAX_EMPTY_FOR_LOOKUP
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
