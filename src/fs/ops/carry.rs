//! Copying the keys of a directory to another place: what is there is looked at first, all of it, then copied in parallel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::haul::{Carried, Haul, KEY_BYTES};
use super::keeping::TagsBy;
use crate::base::date;
use crate::data;
use crate::data::budget::{Class, Permit};
use crate::data::write::Destination;
use crate::data::write::commit::{MadeBy, in_group};
use crate::data::write::settle::{copy_object, look, put_empty};
use crate::fs::Fs;
use crate::fs::config::AttrsMode;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::intents::CopiedKey;
use crate::fs::locate::Address;
use crate::fs::name::Component;
use crate::fs::ops::begin::source_of;
use crate::fs::ops::commit::copied_info;
use crate::fs::tree::inode::{Inode, Role};
use crate::fs::tree::listing::next_page;
use crate::fs::tree::since::Since;
use crate::store::{
    BucketService, Committed, Condition, Delimiter, Key, ListObjects, ListPage, ListStart, ListedObject, MAX_PAGE_KEYS,
    ObjectInfo, ObjectStore, StorageClass,
};

/// Copies that are asked for at once: as many as requests may be in flight.
const PARALLEL_COPIES: usize = crate::store::limit::MAX_SMALL_REQUESTS;
/// What was listed is kept up to so many keys; beyond that it is listed once more for the copying.
const MAX_HELD_KEYS: usize = 10_000;
/// So many keys are remembered in any case, ...
const MIN_REMEMBERED: u64 = 4096;
/// ... and otherwise within this part of the memory limit, where it is free.
const MEMORY_DIVISOR: u64 = 16;
/// An object that others change all the time is copied anew so often.
const MAX_TRIES: u32 = 5;

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
        Ok(self.store.list(&request).await?.read()?)
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
                if listed.storage_class.as_ref().is_some_and(StorageClass::is_archive) {
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

    /// Memory for what is remembered of so many keys.
    pub(in crate::fs) fn memory_for(&self, keys: u64) -> Permit {
        let bytes = (keys * KEY_BYTES).min(self.budget.limit() / MEMORY_DIVISOR);
        let least = bytes.min(MIN_REMEMBERED * KEY_BYTES);
        self.budget.try_spare(Class::Read, bytes).unwrap_or_else(|| self.budget.overdraw(Class::Read, least))
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
            let failed = AtomicBool::new(false);
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

    async fn carry_unless(&self, failed: &AtomicBool, haul: &Haul, root: &Arc<Inode<S>>, listed: &ListedObject) -> Result<()> {
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
            let date = if listed.etag.as_ref() == Some(&info.etag) { listed.last_modified } else { info.last_modified };
            let modified = date::unix_seconds(date);
            self.keep_time(inode.as_ref(), &info, &mut destination.properties.metadata);
            let is_marker = info.size == 0 && source.key.as_str().ends_with('/');
            if is_marker && self.config.attrs == AttrsMode::Auto && self.has_aged(&info) {
                // What is below has mostly aged, too, and its copies carry their times.
                let metadata = &mut destination.properties.metadata;
                Since::of(metadata).or_earlier(Since::now(self.store_clock.now(), Duration::ZERO)).put(metadata);
            }
            in_group(&mut destination, &haul.token_for(&info.etag, modified));
            let mut made = copy_object(&self.store, source_of(&source, &info), &destination, condition.clone()).await;
            // What is not there to be copied is told as if it had been changed.
            let unchanged = |now: Option<ObjectInfo>| now.is_some_and(|now| now.etag == info.etag);
            if is_marker && matches!(made, Err(data::Error::Stale)) && unchanged(look(&self.store, &source).await?) {
                made = self.put_marker(&destination, condition.clone()).await;
            }
            let committed = match made {
                Ok(committed) => committed,
                Err(error) => {
                    let changed = matches!(error, data::Error::Stale);
                    if changed && tries < MAX_TRIES && look(&self.store, &source).await?.is_none_or(|now| now.etag != info.etag) {
                        // Another client has changed it: it is looked at anew.
                        continue;
                    }
                    haul.doubt(relative);
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
                modified,
                copy: committed.etag.as_str().to_owned(),
            };
            let put_back = self.put_back(&target, &destination.properties, tags.as_ref(), MadeBy::copy_of(info.size)).await;
            if let Err(error) = put_back {
                haul.doubt(relative);
                return Err(error);
            }
            if inode.is_some() {
                let copy = copied_info(&info, committed, destination.properties);
                haul.note_carried(relative, Carried { source: info, copy });
            }
            haul.note_copied(copied);
            return Ok(());
        }
        Ok(())
    }

    /// SeaweedFS 4 shows markers, but finds none to copy; they have no bytes. Where there are keys below one it takes it for
    /// being there, though it is not.
    async fn put_marker(&self, marker: &Destination, condition: Condition) -> data::Result<Committed> {
        let put = put_empty(&self.store, marker, condition).await;
        if !matches!(put, Err(data::Error::Exists)) {
            return put;
        }
        // Only a listing tells what is there.
        let address = Address { bucket: marker.bucket.clone(), key: marker.key.as_str().to_owned() };
        let listed = self.list_some(&address, Delimiter::None, 1).await;
        if listed.is_ok_and(|listed| listed.iter().all(|listed| listed.key != address.key)) {
            return put_empty(&self.store, marker, Condition::None).await;
        }
        put
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
            listing.children.get(&Component::new(name)?)?.object.as_ref()?.told.info.clone()
        };
        let is_same = |info: &Arc<ObjectInfo>| {
            let not_newer = date::unix_seconds(listed.last_modified) <= date::unix_seconds(info.last_modified);
            Some(&info.etag) == listed.etag.as_ref() && info.size == listed.size && not_newer && info.is_settled()
        };
        own.filter(is_same).or_else(|| of_listing().filter(is_same))
    }
}

fn archived(key: &str) -> Error {
    let words = format!("'{key}' is archived and cannot be copied, so nothing was renamed: restore it first (pailfs restore)");
    Error::new(Situation::Archived, words)
}
