//! What this mount knows of the names in a directory: the last listing, and what it did itself since. Pure but for the
//! instants it is told.
//!
//! A listing that was asked for before this mount removed a name still has it, and one asked for before it made a name does
//! not: so own edits are kept with their time and are laid over every older answer.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::attributes::Told;
use super::inode::Role;
use super::since::Since;
use super::stream::Stream;
use super::walk::Walk;
use crate::fs::error;
use crate::fs::name::Component;
use crate::store::{ETag, MAX_PAGE_KEYS, ObjectInfo, StorageClass};

/// Edits older than this matter to no answer that is still under way: every request's deadline is shorter.
const EDIT_MEMORY: Duration = Duration::from_secs(120);
/// So many names that are not there are remembered.
const MAX_ABSENT: usize = 4096;
/// So many names that were asked for one by one and found, or not found, within the TTL make a page of names the better
/// question.
const ASKED_BEFORE_LISTING: u32 = 3;
/// So many that were found make some pages the better question.
const ASKED_BEFORE_PAGES: u32 = 24;
/// So many pages are read instead of asking for one name after the other.
const PAGES_FOR_LOOKUPS: usize = 8;
/// So many names that were asked for one after the other in the order of listings make a walk: the page behind the last one tells
/// of the next ones.
const ASKED_IN_ORDER: u32 = 8;
/// What a listing lacks is missing for this part of the TTL.
const RELIANCE: u32 = 5;
/// A directory that did not fit a page, or may not be listed, is not tried again for so long.
const UNLISTABLE_MEMORY: Duration = Duration::from_secs(300);
/// Old edits are looked for when there are this many at least.
const EDITS_BEFORE_PURGE: usize = 1024;

/// The answer to a HEAD, once it has come.
pub type HeadAnswer = watch::Receiver<Option<error::Result<Arc<ObjectInfo>>>>;

/// An object as a listing shows it, with what HEAD added.
#[derive(Debug, Clone)]
pub struct ListedChild {
    /// Bytes.
    pub size: u64,
    /// The tag, where the listing tells.
    pub etag: Option<ETag>,
    /// When S3 took it.
    pub last_modified: SystemTime,
    /// The class, `None` for STANDARD.
    pub storage_class: Option<StorageClass>,
    /// What is known beside the listing.
    pub told: Told,
}

/// What one component stands for.
#[derive(Debug, Clone, Default)]
pub struct Child {
    /// The object of that name.
    pub object: Option<ListedChild>,
    /// Whether there are keys below it.
    pub directory: bool,
    /// When it was made, if it is a bucket.
    pub made: Option<SystemTime>,
}

impl Child {
    /// It stands for this, too.
    pub fn join(&mut self, other: Self) {
        self.directory |= other.directory;
        self.object = other.object.or_else(|| self.object.take());
        self.made = other.made.or(self.made);
    }
}

/// A listing: complete, or what was learnt of some names at once.
#[derive(Debug)]
pub struct Listing {
    /// When its first page was asked for.
    pub began: Instant,
    /// The names.
    pub children: BTreeMap<Component, Child>,
    /// From when on objects may carry POSIX metadata: ask for each one's.
    pub since: Since,
    /// Keys that no name can show.
    pub unshowable: u64,
}

#[derive(Debug, Clone, Copy)]
struct Edit {
    at: Instant,
    here: bool,
    /// Holds until it is replaced, whatever the listings say: an uncommitted file, a removed one that is still open.
    pinned: bool,
}

/// What is known of a directory's names.
#[derive(Debug, Default)]
pub struct Directory {
    listing: Option<Arc<Listing>>,
    /// It is being read.
    reading: Weak<Stream>,
    /// A page of a directory that is too large to be listed for its names' sake: it tells of what it has only.
    nearby: Option<Arc<Listing>>,
    /// The name that was last asked for, and how many before it were in the order of listings.
    in_order: Option<(Component, u32)>,
    /// When the listing was begun whose lack of a name is relied on.
    relied_on: Option<Instant>,
    edits: HashMap<(Role, Component), Edit>,
    /// Old edits are looked for when there are so many.
    purge_at: usize,
    /// Objects that were beside a directory of their name until that was removed here: who has listed them before goes on by the
    /// names that they had.
    left_beside: HashSet<Component>,
    /// It stays, though the store has nothing of it: its last name was removed here.
    kept: bool,
    /// Names that the store was asked for and had nothing of, and when.
    absent: HashMap<Component, Instant>,
    /// Objects that were asked for one by one and found.
    found: Tally,
    /// Names that were asked for one by one and not found.
    missed: Tally,
    /// When it was found to be larger than so many pages, or not to be listed.
    unlistable_at: Option<(Instant, usize)>,
    /// From when on its objects may have attributes that no listing shows, as far as is known: it never gets later.
    pub(in crate::fs) since: Since,
    /// What its marker should say, and may not be written to say.
    pub(in crate::fs) unsaid: Since,
    /// What earlier mounts have remembered of that is in it.
    pub(in crate::fs) since_recalled: bool,
    /// Objects of it that are asked about one after the other.
    pub(in crate::fs) walk: Walk<HeadAnswer>,
}

/// How often something has happened, and since when.
#[derive(Debug, Clone, Copy, Default)]
struct Tally(Option<(Instant, u32)>);

impl Tally {
    fn count(&mut self, now: Instant, ttl: Duration) {
        let recent = self.0.filter(|(since, _)| now.saturating_duration_since(*since) < ttl);
        let (since, count) = recent.unwrap_or((now, 0));
        self.0 = Some((since, count + 1));
    }

    fn within(self, now: Instant, ttl: Duration) -> u32 {
        self.0.filter(|(since, _)| now.saturating_duration_since(*since) < ttl).map_or(0, |(_, count)| count)
    }
}

impl Directory {
    /// The last listing, if it was begun less than `ttl` before `now`.
    #[must_use]
    pub fn fresh_listing(&self, now: Instant, ttl: Duration) -> Option<Arc<Listing>> {
        self.listing.clone().filter(|listing| now.saturating_duration_since(listing.began) < ttl)
    }

    /// What was listed around a name, however old: by one who is reading, else the last listing.
    #[must_use]
    pub fn listing_of(&self, component: &Component) -> Option<Arc<Listing>> {
        self.reading.upgrade().and_then(|stream| stream.listed(component)).or_else(|| self.last_listing())
    }

    /// The last listing, however old: to carry over what HEAD said.
    #[must_use]
    pub fn last_listing(&self) -> Option<Arc<Listing>> {
        self.listing.clone()
    }

    /// The stream of one who is reading it at `now` and began less than `ttl` before; else a new one, for others to join.
    pub fn read_along(&mut self, now: Instant, ttl: Duration) -> Arc<Stream> {
        let open = self.reading.upgrade().filter(|stream| stream.is_open_to_others(now, ttl));
        open.unwrap_or_else(|| {
            let stream = Stream::new(now);
            self.reading = Arc::downgrade(&stream);
            stream
        })
    }

    /// What one who is reading it, or who asks for its names in order, has learnt of a name less than `ttl` before `now`.
    #[must_use]
    pub fn being_read(&self, component: &Component, now: Instant, ttl: Duration) -> Option<Arc<Listing>> {
        let read = self.reading.upgrade().and_then(|stream| stream.listed(component));
        let nearby = self.nearby.as_ref().filter(|listing| listing.children.contains_key(component)).cloned();
        let fresh = |listing: &Arc<Listing>| now.saturating_duration_since(listing.began) < ttl;
        read.filter(fresh).or_else(|| nearby.filter(fresh))
    }

    /// A name is looked up. Gives the one before it, if names are looked up in the order of listings where they are too many to be
    /// listed from the first: the page behind that one is a better question.
    pub fn walk_to(&mut self, component: &Component, now: Instant) -> Option<Component> {
        let before = self.in_order.replace((component.clone(), 0));
        let ((last, run), Some((_, in_order))) = (before?, &mut self.in_order) else { return None };
        *in_order = match last.cmp(component) {
            Ordering::Less => run + 1,
            // The kernel asks twice for what it is about to make.
            Ordering::Equal => run,
            Ordering::Greater => 0,
        };
        (*in_order >= ASKED_IN_ORDER && last < *component && self.is_large(now)).then_some(last)
    }

    /// Takes a page of names over that was asked for instead of a name, if it is one to be had; whether it has that.
    pub fn learn_nearby(&mut self, page: Option<&Arc<Listing>>, component: &Component) -> bool {
        self.nearby = page.cloned();
        let has = page.is_some_and(|page| page.children.contains_key(component));
        if !has {
            // They may be a few names that lie far from each other.
            self.in_order = None;
        }
        has
    }

    fn is_large(&self, now: Instant) -> bool {
        self.unlistable_at.is_some_and(|(at, _)| now.saturating_duration_since(at) < UNLISTABLE_MEMORY)
    }

    /// Takes a new listing over, unless a newer one is there.
    pub fn learn(&mut self, listing: Arc<Listing>) {
        if self.listing.as_ref().is_none_or(|old| old.began <= listing.began) {
            self.listing = Some(listing);
        }
    }

    /// What a listing lacks is missing: somebody has read it, or it was asked for instead of names that are missing.
    pub fn rely_on(&mut self, listing: &Listing) {
        self.relied_on = Some(listing.began);
    }

    /// Whether the listing's lack of a name is relied on at `now`: for a part of the time for which it is believed, since
    /// whoever asks for a name that was not there often does so because somebody has just made it.
    #[must_use]
    pub fn relies_on(&self, listing: &Listing, now: Instant, ttl: Duration) -> bool {
        self.relied_on == Some(listing.began) && now.saturating_duration_since(listing.began) < ttl / RELIANCE
    }

    /// Since when a name is known to be missing, if it is at `now`.
    #[must_use]
    pub fn missing_since(&self, component: &Component, now: Instant, ttl: Duration) -> Option<Instant> {
        let asked = self.absent.get(component).copied().filter(|at| now.saturating_duration_since(*at) < ttl);
        let listing = self.fresh_listing(now, ttl).filter(|listing| self.relies_on(listing, now, ttl));
        asked.max(listing.filter(|listing| !listing.children.contains_key(component)).map(|listing| listing.began))
    }

    /// Forgets the listing, and what is not there. Who is reading it now reads on.
    pub fn forget_listing(&mut self) {
        self.listing = None;
        (self.reading, self.nearby) = (Weak::new(), None);
        self.absent.clear();
        self.walk = Walk::default();
    }

    /// The store had nothing of a name at `asked`.
    pub fn note_absent(&mut self, component: Component, asked: Instant, ttl: Duration) {
        self.missed.count(asked, ttl);
        if self.absent.len() >= MAX_ABSENT {
            self.absent.retain(|_, at| asked.saturating_duration_since(*at) < ttl);
        }
        if self.absent.len() < MAX_ABSENT {
            self.absent.insert(component, asked);
        }
    }

    /// Whether a name was asked for less than `ttl` before `now` and was not there: the kernel asks twice for what it is
    /// about to create.
    #[must_use]
    pub fn is_absent(&self, component: &Component, now: Instant, ttl: Duration) -> bool {
        self.absent.get(component).is_some_and(|at| now.saturating_duration_since(*at) < ttl)
    }

    /// Whether a name was asked for after a listing was begun, and was not there: it is shown no more.
    #[must_use]
    pub fn is_gone_since(&self, component: &Component, began: Instant) -> bool {
        self.absent.get(component).is_some_and(|at| *at > began)
    }

    /// An object of it was found by asking for its name alone.
    pub fn note_found(&mut self, now: Instant, ttl: Duration) {
        self.found.count(now, ttl);
    }

    /// How many pages of names are worth more than asking for one more name, if any: several were asked for within `ttl`.
    #[must_use]
    pub fn wants_listing(&self, now: Instant, ttl: Duration) -> Option<usize> {
        let found = self.found.within(now, ttl);
        let pages = if self.is_asked_for_missing(now, ttl) || found >= ASKED_BEFORE_PAGES {
            PAGES_FOR_LOOKUPS
        } else if found >= ASKED_BEFORE_LISTING {
            1
        } else {
            return None;
        };
        (!self.is_large(now) || self.unlistable_at.is_none_or(|(_, tried)| tried < pages)).then_some(pages)
    }

    /// Whether several names were asked for within `ttl` that are missing. A page tells for all of them.
    #[must_use]
    pub fn is_asked_for_missing(&self, now: Instant, ttl: Duration) -> bool {
        self.missed.within(now, ttl) >= ASKED_BEFORE_LISTING
    }

    /// So many names were read: whether it is too large to be listed for the sake of some.
    pub const fn note_size(&mut self, now: Instant, names: usize) {
        if names > PAGES_FOR_LOOKUPS * MAX_PAGE_KEYS as usize {
            self.note_unlistable(now, PAGES_FOR_LOOKUPS);
        }
    }

    /// It is larger than so many pages, or may not be listed.
    pub const fn note_unlistable(&mut self, now: Instant, pages: usize) {
        self.unlistable_at = Some((now, pages));
    }

    /// This mount has made (`here`) or removed a name.
    pub fn edit(&mut self, role: Role, component: Component, here: bool, pinned: bool, now: Instant) {
        if self.edits.len() >= self.purge_at.max(EDITS_BEFORE_PURGE) {
            self.edits.retain(|_, edit| edit.pinned || now.saturating_duration_since(edit.at) < EDIT_MEMORY);
            // Not again before as many have come: the cost of looking is shared out.
            self.purge_at = self.edits.len() * 2;
        }
        self.absent.remove(&component);
        if (role == Role::Directory) == here {
            self.left_beside.remove(&component);
        }
        self.edits.insert((role, component), Edit { at: now, here, pinned });
    }

    /// A directory was removed here, and the object beside it stays.
    pub fn leave_beside(&mut self, component: Component) {
        self.left_beside.insert(component);
    }

    /// Whether an object was beside a directory of its name that was removed here.
    #[must_use]
    pub fn was_beside(&self, component: &Component) -> bool {
        self.left_beside.contains(component)
    }

    /// What this mount itself knows about a name, where an answer that was asked for at `asked` cannot know better.
    #[must_use]
    pub fn own_knowledge(&self, role: Role, component: &Component, asked: Instant) -> Option<bool> {
        let edit = self.edits.get(&(role, component.clone()))?;
        (edit.pinned || edit.at >= asked).then_some(edit.here)
    }

    /// The names that this mount has made since `asked`.
    #[must_use]
    pub fn made_since(&self, asked: Instant) -> Vec<(Role, Component)> {
        let made = self.edits.iter().filter(|(_, edit)| edit.here && (edit.pinned || edit.at >= asked));
        made.map(|(name, _)| name.clone()).collect()
    }

    /// Whether it has a name that the store has nothing of (yet).
    #[must_use]
    pub fn has_own_names(&self) -> bool {
        self.edits.values().any(|edit| edit.pinned && edit.here)
    }

    /// Keeps the directory, though it may be empty in the store.
    pub const fn keep(&mut self) {
        self.kept = true;
    }

    /// Whether it is kept.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_edits_cover_older_answers_and_not_newer_ones() {
        let name = Component::new("a").unwrap();
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut directory = Directory::default();
        directory.edit(Role::Object, name.clone(), false, false, start);
        assert_eq!(directory.own_knowledge(Role::Object, &name, start), Some(false));
        assert_eq!(directory.own_knowledge(Role::Object, &name, later), None);
        assert_eq!(directory.own_knowledge(Role::Directory, &name, start), None);
        directory.edit(Role::Object, name.clone(), true, true, start);
        assert_eq!(directory.own_knowledge(Role::Object, &name, later), Some(true));
        assert_eq!(directory.made_since(later), vec![(Role::Object, name)]);
    }

    #[test]
    fn a_page_is_asked_for_after_several_finds() {
        let (start, ttl) = (Instant::now(), Duration::from_secs(5));
        let mut directory = Directory::default();
        for expected in [None, None, Some(1)] {
            directory.note_found(start, ttl);
            assert_eq!(directory.wants_listing(start, ttl), expected);
        }
        assert_eq!(directory.wants_listing(start + ttl, ttl), None, "they were found long ago");
        directory.note_unlistable(start, 1);
        assert_eq!(directory.wants_listing(start, ttl), None, "it is large");
        (0..ASKED_BEFORE_PAGES).for_each(|_| directory.note_found(start, ttl));
        assert_eq!(directory.wants_listing(start, ttl), Some(PAGES_FOR_LOOKUPS), "yet it is asked for so many");
        directory.note_unlistable(start, PAGES_FOR_LOOKUPS);
        assert_eq!(directory.wants_listing(start, ttl), None, "it is larger still");
    }

    #[test]
    fn names_in_order_are_looked_for_behind_the_last_one_where_there_are_many() {
        let (now, ttl) = (Instant::now(), Duration::from_secs(5));
        let name = |number: u32| Component::new(&format!("{number:03}")).unwrap();
        let mut directory = Directory::default();
        assert!((0..20).all(|number| directory.walk_to(&name(number), now).is_none()), "it is small");
        directory.note_size(now, PAGES_FOR_LOOKUPS * 1000 + 1);
        assert_eq!(directory.walk_to(&name(20), now), Some(name(19)));
        assert_eq!(directory.walk_to(&name(20), now), None, "the same name once more");
        assert_eq!(directory.walk_to(&name(25), now), Some(name(20)));
        let children = BTreeMap::from([(name(26), Child::default())]);
        let page = Arc::new(Listing { began: now, children, since: Since::NEVER, unshowable: 0 });
        assert!(directory.learn_nearby(Some(&page), &name(26)));
        assert!(directory.being_read(&name(26), now, ttl).is_some() && directory.being_read(&name(27), now, ttl).is_none());
        assert!(directory.being_read(&name(26), now + ttl, ttl).is_none(), "it is old");
        assert!(directory.walk_to(&name(30), now).is_some());
        assert!(
            directory.walk_to(&name(29), now).is_none() && directory.walk_to(&name(30), now).is_none(),
            "the order is broken"
        );
        let in_order = |directory: &mut Directory| (40..49).filter_map(|number| directory.walk_to(&name(number), now)).count();
        assert_eq!(in_order(&mut directory), 3);
        assert!(!directory.learn_nearby(None, &name(49)));
        assert_eq!(directory.walk_to(&name(50), now), None, "such a page was of no use");
    }

    #[test]
    fn a_name_is_missing_since_it_was_asked_for_or_the_listing_was_read() {
        let (start, ttl) = (Instant::now(), Duration::from_secs(5));
        let later = start + Duration::from_millis(10);
        let [name, other] = ["a", "b"].map(|name| Component::new(name).unwrap());
        let mut directory = Directory::default();
        assert_eq!(directory.missing_since(&name, start, ttl), None);
        directory.note_absent(name.clone(), start, ttl);
        assert_eq!(directory.missing_since(&name, later, ttl), Some(start));
        let children = BTreeMap::from([(other.clone(), Child::default())]);
        let listing = Arc::new(Listing { began: later, children, since: Since::NEVER, unshowable: 0 });
        directory.learn(Arc::clone(&listing));
        assert_eq!(directory.missing_since(&name, later, ttl), Some(start), "nobody has read it");
        directory.rely_on(&listing);
        assert_eq!(directory.missing_since(&name, later, ttl), Some(later));
        assert_eq!(directory.missing_since(&other, later, ttl), None);
        assert_eq!(directory.missing_since(&name, later + Duration::from_secs(1), ttl), Some(start), "it was asked for itself");
        assert_eq!(directory.missing_since(&name, later + ttl, ttl), None);
        for _ in 0..2 {
            assert!(!directory.is_asked_for_missing(later, ttl));
            directory.note_absent(name.clone(), later, ttl);
        }
        assert!(directory.is_asked_for_missing(later, ttl) && directory.wants_listing(later, ttl).is_some());
    }

    #[test]
    fn what_is_not_there_is_remembered_until_it_is_made_or_the_time_is_over() {
        let (start, ttl) = (Instant::now(), Duration::from_secs(5));
        let name = Component::new("a").unwrap();
        let mut directory = Directory::default();
        directory.note_absent(name.clone(), start, ttl);
        assert!(directory.is_absent(&name, start, ttl));
        assert!(!directory.is_absent(&name, start + ttl, ttl));
        assert!(!directory.is_absent(&name, start, Duration::ZERO));
        directory.edit(Role::Object, name.clone(), true, true, start);
        assert!(!directory.is_absent(&name, start, ttl));
    }
}
