//! What a listing does not tell about its objects: from which of them metadata is wanted, what is remembered of it, and what is
//! asked for at once: zero-byte objects, whose type must be right, and a sample that tells whose directory it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;

use super::directory::{ListedChild, Listing};
use super::facts::Facts;
use super::inode::{Inode, Role};
use super::listing::refuses_head;
use super::since::Since;
use crate::base::{clock, date};
use crate::fs::Fs;
use crate::fs::config::AttrsMode;
use crate::fs::error::Result;
use crate::fs::locate::Address;
use crate::fs::meta::posix::{self, Stored};
use crate::fs::name::Component;
use crate::fs::remembered::Identity;
use crate::store::{BucketService, ErrorKind, HeadObject, ListPage, ListedObject, Metadata, ObjectInfo, ObjectStore};

/// Objects of a listing that are asked for at once.
const PARALLEL_HEADS: usize = 32;
/// Of each page, so many of the newest objects and of the others are looked at for POSIX metadata.
const SAMPLE: usize = 4;

/// What is known of a listed object beside the listing.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What HEAD said.
    pub info: Option<Arc<ObjectInfo>>,
    /// The metadata of its attributes, as it was remembered on disk.
    pub attributes: Option<Arc<Metadata>>,
}

impl Told {
    /// The metadata of its attributes, and maybe other.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.info.as_ref().map(|info| &info.properties.metadata).or(self.attributes.as_deref())
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// From when on the objects of a directory have attributes that no listing shows, as far as can be known when this page of
    /// it has come.
    pub(in crate::fs) async fn since_by(&self, inode: &Arc<Inode<S>>, address: &Address, page: &ListPage) -> Result<Since> {
        match self.config.attrs {
            AttrsMode::Listing => return Ok(Since::NEVER),
            AttrsMode::Posix => return Ok(Since::ALWAYS),
            AttrsMode::Auto => {}
        }
        let marker = page.objects.iter().find(|object| object.key == address.key && object.size == 0);
        if marker.is_some_and(|marker| !is_of(inode, marker)) {
            self.learn_marker(inode, address, clock::instant()).await?;
        }
        Ok(self.known_since(inode, address).await)
    }

    /// As far as it is known without asking the store.
    pub(in crate::fs) async fn known_since(&self, inode: &Arc<Inode<S>>, address: &Address) -> Since {
        let recalled = inode.lock().directory.since_recalled;
        let remembered = if recalled { Since::NEVER } else { self.remembered.recall_since(address).await };
        let mut state = inode.lock();
        state.directory.since_recalled = true;
        state.directory.since = state.directory.since.or_earlier(remembered).or_earlier(state.said_by_marker());
        state.directory.since
    }

    /// Takes note that the objects of a directory have attributes since then: for ever.
    pub(in crate::fs) fn learn_since(&self, inode: &Inode<S>, address: &Address, since: Since) {
        let mut state = inode.lock();
        state.directory.since = state.directory.since.or_earlier(since);
        let since = state.directory.since;
        drop(state);
        self.remembered.note_since(address, since);
    }

    /// Looks at what a page does not tell; `since` is what is known of the directory, and is learnt of. In the order of the
    /// objects.
    pub(in crate::fs) async fn told_of(
        &self,
        (inode, directory): (&Inode<S>, &Address),
        objects: &[(Component, ListedObject)],
        last: Option<&Listing>,
        since: &mut Since,
    ) -> Result<Vec<Told>> {
        let mut told: Vec<Told> = objects.iter().map(|(component, object)| known(last, component, object)).collect();
        if self.config.attrs == AttrsMode::Listing {
            return Ok(told);
        }
        let sample = if self.config.attrs == AttrsMode::Auto { sample(objects, last, *since) } else { BTreeSet::new() };
        let at_once = |index: &usize| objects[*index].1.size == 0 || sample.contains(index);
        let covered = |index: &usize, since: Since| since.covers(objects[*index].1.last_modified);
        let looked_for: Vec<usize> = (0..objects.len()).filter(|index| at_once(index) || covered(index, *since)).collect();
        self.recall(directory, objects, &looked_for, &mut told).await?;
        let wanted: Vec<usize> = (0..objects.len()).filter(|index| at_once(index) && told[*index].metadata().is_none()).collect();
        for (index, info) in self.ask(directory, objects, &wanted).await? {
            told[index].info = Some(info);
        }
        // One object with POSIX metadata tells that others have it too, on this page and the next ones.
        if sample.iter().any(|index| told[*index].metadata().is_some_and(posix::is_posix)) {
            *since = Since::ALWAYS;
            self.learn_since(inode, directory, *since);
            let rest: Vec<usize> = (0..objects.len()).collect();
            self.recall(directory, objects, &rest, &mut told).await?;
        }
        Ok(told)
    }

    /// Takes from the disk what is remembered of those objects that nothing is known of.
    async fn recall(
        &self,
        directory: &Address,
        objects: &[(Component, ListedObject)],
        wanted: &[usize],
        told: &mut [Told],
    ) -> Result<()> {
        let (mut indices, mut identities) = (Vec::new(), Vec::new());
        for index in wanted.iter().filter(|index| told[**index].metadata().is_none()) {
            let (component, ListedObject { size, etag, last_modified, .. }) = &objects[*index];
            let Some(etag) = etag else { continue };
            indices.push(*index);
            let identity = Identity { size: *size, etag, last_modified: *last_modified };
            identities.push((directory.below(component, Role::Object), identity));
        }
        for (index, attributes) in indices.into_iter().zip(self.remembered.recall(identities).await) {
            told[index].attributes = attributes;
        }
        Ok(())
    }

    /// HEADs of the `wanted` objects, in parallel. What is gone or refused is left as the listing said.
    async fn ask(
        &self,
        directory: &Address,
        objects: &[(Component, ListedObject)],
        wanted: &[usize],
    ) -> Result<Vec<(usize, Arc<ObjectInfo>)>> {
        let mut heads = Vec::with_capacity(wanted.len());
        for index in wanted {
            heads.push(self.ask_one(*index, directory.below(&objects[*index].0, Role::Object)));
        }
        let answers: Vec<_> = futures_util::stream::iter(heads).buffer_unordered(PARALLEL_HEADS).collect().await;
        answers.into_iter().filter_map(Result::transpose).collect()
    }

    async fn ask_one(&self, index: usize, address: Address) -> Result<Option<(usize, Arc<ObjectInfo>)>> {
        match self.store.head(&HeadObject { object: address.object()? }).await {
            Ok(info) => {
                self.remembered.note(&address, &info);
                Ok(Some((index, Arc::new(info))))
            }
            Err(error) if error.kind() == ErrorKind::NotFound || refuses_head(error.kind()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a listing, and what was told beside it, say about an object.
    pub(in crate::fs) fn child_facts(&self, child: &ListedChild) -> Facts {
        if let Some(info) = &child.told.info {
            return self.object_facts(Arc::clone(info));
        }
        let ListedChild { size, etag, last_modified, storage_class, .. } = child.clone();
        match &child.told.attributes {
            Some(metadata) => {
                // As HEAD would have told it.
                let last_modified = date::whole_seconds(last_modified);
                Facts { etag, listed_class: storage_class, ..self.stored_facts(Stored { metadata, size, last_modified }) }
            }
            None => self.listed_facts(&ListedObject { key: String::new(), size, etag, last_modified, storage_class }),
        }
    }
}

/// Whether the marker that a listing shows is the one that is known of a directory.
fn is_of<S>(inode: &Inode<S>, listed: &ListedObject) -> bool {
    let Some(info) = inode.lock().info.clone() else { return false };
    listed.etag.as_ref() == Some(&info.etag) && info.may_be_of(listed.last_modified) && info.is_settled()
}

/// Which objects of a page are looked at for POSIX metadata. Of those that are asked for anyway nothing new can be learnt, and of
/// those that the last listing had a sample was taken then.
fn sample(objects: &[(Component, ListedObject)], last: Option<&Listing>, since: Since) -> BTreeSet<usize> {
    let unknown = |index: &usize| {
        let (component, object) = &objects[*index];
        object.size > 0 && !since.covers(object.last_modified) && same_in(last, component, object).is_none()
    };
    let mut by_age: Vec<usize> = (0..objects.len()).filter(unknown).collect();
    by_age.sort_by_key(|index| std::cmp::Reverse(objects[*index].1.last_modified));
    let (newest, others) = by_age.split_at(by_age.len().min(SAMPLE));
    let spread = others.iter().step_by((others.len() / SAMPLE).max(1)).take(SAMPLE);
    newest.iter().chain(spread).copied().collect()
}

/// What was told about the same object beside the last listing: same tag and date. Where dates are of whole seconds, metadata
/// that was changed within that second would not show.
fn known(last: Option<&Listing>, component: &Component, object: &ListedObject) -> Told {
    let exact = date::to_unix(object.last_modified).1 != 0;
    let settled = |told: &&Told| exact || told.info.as_ref().is_none_or(|info| info.is_settled());
    same_in(last, component, object).map(|child| &child.told).filter(settled).cloned().unwrap_or_default()
}

/// The same object in the last listing, if it was there.
fn same_in<'a>(last: Option<&'a Listing>, component: &Component, object: &ListedObject) -> Option<&'a ListedChild> {
    let known = last?.children.get(component)?.object.as_ref()?;
    (known.etag == object.etag && known.last_modified == object.last_modified).then_some(known)
}

impl Listing {
    /// Whether an object's attributes must come from its metadata.
    #[must_use]
    pub fn wants_metadata(&self, child: &ListedChild) -> bool {
        child.wants_metadata(self.since)
    }
}

impl ListedChild {
    /// Whether its attributes must come from its metadata, where objects have some since then.
    #[must_use]
    pub fn wants_metadata(&self, since: Since) -> bool {
        since.covers(self.last_modified) && self.told.metadata().is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::super::directory::Child;
    use super::*;
    use crate::store::{ETag, Facts as OtherFacts, Properties};

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
            facts: OtherFacts::default(),
            checksums: BTreeMap::new(),
        };
        let (etag, storage_class) = (Some(info.etag.clone()), None);
        let told = Told { info: Some(Arc::new(info)), attributes: None };
        let object = ListedChild { size: 1, etag, last_modified: modified, storage_class, told };
        let child = Child { object: Some(object), ..Child::default() };
        let children = BTreeMap::from([(Component::new("f").unwrap(), child)]);
        Listing { began: clock::instant(), children, since: Since::ALWAYS, unshowable: 0 }
    }

    fn listed(size: u64, last_modified: SystemTime) -> ListedObject {
        ListedObject { key: "d/f".into(), size, etag: Some(ETag::new("x")), last_modified, storage_class: None }
    }

    #[test]
    fn what_was_said_within_the_second_of_a_change_is_asked_again() {
        let second = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let knows = |modified: SystemTime, later: u64| {
            let last = listing(modified, second + Duration::from_secs(later));
            known(Some(&last), &Component::new("f").unwrap(), &listed(1, modified)).info.is_some()
        };
        assert!(!knows(second, 0) && !knows(second, 2), "it may have been changed since, with the same tag and date");
        assert!(knows(second, 3));
        assert!(knows(second + Duration::from_millis(7), 0), "such a date is exact");
    }

    #[test]
    fn the_sample_is_of_the_newest_and_some_others_that_nothing_is_known_of() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let objects: Vec<_> =
            (0..100).map(|number| (Component::new("f").unwrap(), listed(u64::from(number != 99), at(number)))).collect();
        let all = sample(&objects, None, Since::NEVER);
        assert!(all.len() == 8 && [95, 96, 97, 98].iter().all(|newest| all.contains(newest)), "{all:?}");
        let old = sample(&objects, None, Since::at(at(50)));
        assert!(old.len() == 8 && old.contains(&49) && old.iter().all(|index| *index < 50), "{old:?}");
        assert!(sample(&objects, None, Since::ALWAYS).is_empty());
        assert_eq!(sample(&objects[..3], None, Since::NEVER).len(), 3);
        let last = listing(at(7), at(100));
        assert!(sample(&objects[7..8], Some(&last), Since::NEVER).is_empty(), "it was looked at then");
        assert_eq!(sample(&objects[8..9], Some(&last), Since::NEVER).len(), 1, "it is another one now");
    }
}
