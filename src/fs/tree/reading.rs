//! Reading a directory from the store, ahead of whoever is shown it: while one page is shown, the next is looked at, and the one
//! after that is on its way, so that the store's answers alone decide how long it takes.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::directory::Listing;
use super::inode::{Inode, Role};
use super::stream::{Extent, Page, Pages, Stream, Turn, moved_away};
use crate::base::clock;
use crate::base::tasks::{self, Scoped};
use crate::fs::Fs;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::fs::name::Component;
use crate::fs::tree::listing::next_page;
use crate::store::{BucketService, ListStart, ObjectStore, UnreadPage};

/// So many pages are asked for or waiting, beside the one that is shown.
const PAGES_AHEAD: usize = 2;
/// What is known of a name takes some hundred bytes: of a directory with more names than the memory limit by this, in bytes,
/// only the names are kept while it is read.
const KEPT_DIVISOR: u64 = 2048;

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

    /// Reads on: there are entries behind the `place`th then, or the end of the stream is known.
    pub(in crate::fs) async fn read_more(self: &Arc<Self>, inode: &Arc<Inode<S>>, stream: &Stream, place: usize) {
        let mut turn = stream.turn.lock().await;
        while stream.entries() <= place && stream.end().is_none() {
            if let Err(error) = self.read_page(inode, stream, &mut turn).await {
                // Never a shorter directory.
                stream.finish(Err(error));
            }
        }
    }

    async fn read_page(self: &Arc<Self>, inode: &Arc<Inode<S>>, stream: &Stream, turn: &mut Turn) -> Result<()> {
        let address = self.locate(inode)?;
        let pages = turn.pages.get_or_insert_with(|| self.read_ahead(inode, address.clone(), stream.began));
        if pages.address != address {
            return Err(moved_away());
        }
        let broken = || Error::new(Situation::Io, "the listing has broken off");
        let Page { at, is_last, mut taken } = pages.next.recv().await.ok_or_else(broken)??;
        let (extent, listing) = taken.ended().await?;
        turn.unshowable += listing.unshowable;
        let (mut children, began) = turn.held.take(&address.key, extent, listing.children, (at, is_last));
        if is_last && !turn.held.is_sorted() {
            let named = |component: &Component| [Role::Directory, Role::Object].map(|role| (role, component.clone()));
            let shown = stream.shown_of(&children.keys().flat_map(named).collect::<Vec<_>>());
            children.retain(|component, _| named(component).iter().all(|name| !shown.contains(name)));
        }
        // What the samples of other pages have told meanwhile counts for this one.
        let since = listing.since.or_earlier(inode.lock().directory.since);
        let listing = Listing { began, children, since, ..listing };
        let names = self.names_of(inode, &listing);
        stream.add(names, listing, self.most_kept());
        if is_last {
            self.tell_unshowable(inode, turn.unshowable);
            inode.lock().directory.note_size(clock::instant(), stream.entries());
            if let Some(whole) = stream.whole() {
                let mut state = inode.lock();
                state.directory.learn(Arc::clone(&whole));
                state.directory.rely_on(&whole);
            }
            self.end_reading(inode, stream);
        }
        Ok(())
    }

    /// Begins to read a directory ahead.
    fn read_ahead(self: &Arc<Self>, inode: &Arc<Inode<S>>, address: Address, began: Instant) -> Pages {
        let (to, next) = mpsc::channel(PAGES_AHEAD);
        let reading = Arc::clone(self).list_pages(Arc::clone(inode), address.clone(), began, to);
        Pages { address, next, _reading: Scoped::new(tasks::spawn(reading)) }
    }

    /// Lists a directory page by page, and has each read and looked at while the next is on its way, as long as there is room.
    async fn list_pages(self: Arc<Self>, inode: Arc<Inode<S>>, address: Address, began: Instant, to: mpsc::Sender<Result<Page>>) {
        let (mut start, mut at) = (ListStart::Beginning, began);
        // Nobody listens once the directory is closed.
        while let Ok(room) = to.reserve().await {
            let (page, next) = match self.list_page(&address, &start).await {
                Ok(listed) => listed,
                Err(error) => return room.send(Err(error)),
            };
            let is_last = next.is_none();
            let taking = Arc::clone(&self).take_listed(Arc::clone(&inode), address.clone(), page, at);
            room.send(Ok(Page { at, is_last, taken: Scoped::new(tasks::spawn(taking)) }));
            match next {
                Some(next) => (start, at) = (next, clock::instant()),
                None => return,
            }
        }
    }

    async fn list_page(&self, address: &Address, start: &ListStart) -> Result<(UnreadPage, Option<ListStart>)> {
        let page = self.store.list(&Self::page_request(address, start.clone())).await?;
        let next = next_page(start, page.next().cloned())?;
        Ok((page, next))
    }

    async fn take_listed(
        self: Arc<Self>,
        inode: Arc<Inode<S>>,
        address: Address,
        page: UnreadPage,
        at: Instant,
    ) -> Result<(Option<Extent>, Listing)> {
        let page = page.read()?;
        let extent = Extent::of(&page);
        let last = inode.lock().directory.last_listing();
        let mut listing = Listing { began: at, ..self.empty_listing() };
        self.take_page(&mut listing, (&inode, &address), page, last.as_deref()).await?;
        Ok((extent, listing))
    }

    pub(in crate::fs) fn tell_unshowable(&self, inode: &Inode<S>, count: u64) {
        if count > 0 {
            tracing::warn!(path = self.path_of(inode.ino), count, "names that cannot be shown are left out");
        }
    }

    /// So many names of a directory are kept with all that is known of them.
    fn most_kept(&self) -> usize {
        usize::try_from(self.config.memory_limit / KEPT_DIVISOR).unwrap_or(usize::MAX)
    }
}
