//! A directory as it is read from the store, page by page. What was shown keeps its place for as long as somebody has the
//! directory open, so an offset means the same entry however often it is read from; of all entries the names are kept, of
//! what else is known of them only as much as is of use.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::directory::{Child, Listing};
use super::inode::Role;
use super::since::Since;
use crate::base::tasks::Scoped;
use crate::fs::attr::Kind;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::fs::name::{self, Component};
use crate::store::ListPage;

/// Of a directory with too many names to keep what is known of them, the last chunks are kept whole: the kernel asks for
/// attributes of what it has just been given.
const WHOLE_CHUNKS: usize = 4;

/// Names as they are shown, one behind the other in one text.
#[derive(Debug, Default)]
pub struct Names {
    text: String,
    ends: Vec<u32>,
    kinds: Vec<Kind>,
}

impl Names {
    /// Adds a name.
    pub fn push(&mut self, name: &str, kind: Kind) {
        self.text.push_str(name);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.kinds.push(kind);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The names from the `from`th on, with their types.
    pub fn since(&self, from: usize) -> impl Iterator<Item = (&str, Kind)> {
        let end = |index: usize| self.ends[index] as usize;
        (from..self.len()).map(move |index| {
            let start = if index == 0 { 0 } else { end(index - 1) };
            (&self.text[start..end(index)], self.kinds[index])
        })
    }
}

/// The role of an entry of that type.
#[must_use]
pub fn role_of(kind: Kind) -> Role {
    if kind == Kind::Directory { Role::Directory } else { Role::Object }
}

/// Entries that were learnt together.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The place of its first entry in the directory.
    pub first: usize,
    /// The entries.
    pub names: Arc<Names>,
    /// What is known of them, if that was kept.
    pub listing: Option<Arc<Listing>>,
}

impl Chunk {
    /// The place behind its last entry.
    #[must_use]
    pub fn end(&self) -> usize {
        self.first + self.names.len()
    }
}

/// A directory that is being read, or was.
#[derive(Debug)]
pub struct Stream {
    /// When its first page was asked for.
    pub began: Instant,
    /// Who asks the store for the next page: one at a time.
    pub turn: tokio::sync::Mutex<Turn>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: Vec<Chunk>,
    /// What is known of every entry is there still.
    whole: bool,
    end: Option<Result<()>>,
}

/// What is read next.
#[derive(Debug)]
pub struct Turn {
    /// The pages that were asked for, once some were.
    pub pages: Option<Pages>,
    /// Names that are not shown yet.
    pub held: Held,
    /// See [`Listing::unshowable`].
    pub unshowable: u64,
}

/// The pages of a directory, as they come.
#[derive(Debug)]
pub struct Pages {
    /// Of which directory.
    pub address: Address,
    /// The next ones; an error is the last.
    pub next: mpsc::Receiver<Result<Page>>,
    /// Who asks for them.
    pub _reading: Scoped<()>,
}

/// A page that has come.
#[derive(Debug)]
pub struct Page {
    /// When it was asked for.
    pub at: Instant,
    /// No other follows.
    pub is_last: bool,
    /// Where it lies in the store's order, and what it says, with what is being looked at beside it.
    pub taken: Scoped<Result<(Option<Extent>, Listing)>>,
}

impl Stream {
    /// A directory of which nothing was read yet.
    #[must_use]
    pub fn new(began: Instant) -> Arc<Self> {
        let turn = Turn { pages: None, held: Held::new(began), unshowable: 0 };
        let state = State { whole: true, ..State::default() };
        Arc::new(Self { began, turn: tokio::sync::Mutex::new(turn), state: Mutex::new(state) })
    }

    /// The chunk that has the entry at `place`, if it was read already.
    #[must_use]
    pub fn chunk(&self, place: usize) -> Option<Chunk> {
        let state = self.lock();
        let index = state.chunks.partition_point(|chunk| chunk.end() <= place);
        state.chunks.get(index).cloned()
    }

    /// How many entries were read.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.lock().chunks.last().map_or(0, Chunk::end)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<Result<()>> {
        self.lock().end.clone()
    }

    /// Whether somebody else may read along who came `ttl` after its beginning at most.
    #[must_use]
    pub fn is_open_to_others(&self, now: Instant, ttl: Duration) -> bool {
        let state = self.lock();
        state.end.is_none() && state.whole && now.saturating_duration_since(self.began) < ttl
    }

    /// What the pages that were read say of a name, while that is kept.
    #[must_use]
    pub fn listed(&self, component: &Component) -> Option<Arc<Listing>> {
        let state = self.lock();
        let mut kept = state.chunks.iter().rev().map_while(|chunk| chunk.listing.as_ref());
        kept.find(|listing| listing.children.contains_key(component)).cloned()
    }

    /// Adds the entries of a listing that is kept anyway.
    pub fn add_shared(&self, names: Names, listing: Arc<Listing>) {
        let mut state = self.lock();
        let first = state.chunks.last().map_or(0, Chunk::end);
        state.chunks.push(Chunk { first, names: Arc::new(names), listing: Some(listing) });
    }

    /// Adds entries; of the older ones only the names stay, if more than `most` would be kept whole.
    pub fn add(&self, names: Names, listing: Listing, most: usize) {
        self.add_shared(names, Arc::new(listing));
        let mut state = self.lock();
        if state.chunks.last().is_some_and(|last| last.end() > most) {
            state.whole = false;
            let old = state.chunks.len().saturating_sub(WHOLE_CHUNKS);
            // Those before were let go of already.
            for chunk in state.chunks[..old].iter_mut().rev().take_while(|chunk| chunk.listing.is_some()) {
                chunk.listing = None;
            }
        }
    }

    /// That was all, or it broke off.
    pub fn finish(&self, end: Result<()>) {
        self.lock().end = Some(end);
    }

    /// Everything that was read, as one listing; `None` when it is too much to be kept.
    #[must_use]
    pub fn whole(&self) -> Option<Arc<Listing>> {
        let mut state = self.lock();
        if !state.whole {
            return None;
        }
        let mut all = Listing { began: self.began, children: BTreeMap::new(), since: Since::NEVER, unshowable: 0 };
        for chunk in &mut state.chunks {
            let Some(listing) = chunk.listing.take() else { continue };
            all.since = all.since.or_earlier(listing.since);
            all.unshowable += listing.unshowable;
            let children = Arc::try_unwrap(listing).map_or_else(|shared| shared.children.clone(), |own| own.children);
            for (component, child) in children {
                all.children.entry(component).or_default().join(child);
            }
        }
        let all = Arc::new(all);
        for chunk in &mut state.chunks {
            chunk.listing = Some(Arc::clone(&all));
        }
        Some(all)
    }

    /// How many directories were shown.
    #[must_use]
    pub fn count_directories(&self) -> u32 {
        let chunks = self.lock().chunks.clone();
        let directories = chunks.iter().flat_map(|chunk| &chunk.names.kinds).filter(|kind| **kind == Kind::Directory);
        u32::try_from(directories.count()).unwrap_or(u32::MAX)
    }

    /// Which of these names were shown.
    #[must_use]
    pub fn shown_of(&self, wanted: &[(Role, Component)]) -> HashSet<(Role, Component)> {
        let mut by_name: HashMap<String, &Component> = HashMap::new();
        for (_, component) in wanted {
            by_name.extend([false, true].into_iter().filter_map(|beside| Some((name::show(component, beside)?, component))));
        }
        if by_name.is_empty() {
            return HashSet::new();
        }
        let wanted: HashSet<&(Role, Component)> = wanted.iter().collect();
        let chunks = self.lock().chunks.clone();
        let mut shown = HashSet::new();
        for (name, kind) in chunks.iter().flat_map(|chunk| chunk.names.since(0)) {
            let Some(component) = by_name.get(name) else { continue };
            let entry = (role_of(kind), Component::clone(component));
            if wanted.contains(&entry) {
                shown.insert(entry);
            }
        }
        shown
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a page lies in the store's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    first: String,
    last: String,
    sorted: bool,
}

impl Extent {
    /// That of a page; `None` when it is empty.
    #[must_use]
    pub fn of(page: &ListPage) -> Option<Self> {
        let keys = || page.objects.iter().map(|object| object.key.as_str());
        let prefixes = || page.prefixes.iter().map(String::as_str);
        let first = keys().chain(prefixes()).min()?;
        let last = keys().chain(prefixes()).max()?;
        let sorted = keys().is_sorted() && prefixes().is_sorted();
        Some(Self { first: first.to_owned(), last: last.to_owned(), sorted })
    }
}

/// Names that are held back: an object until it is known whether there are keys below its name, too.
#[derive(Debug)]
pub struct Held {
    children: BTreeMap<Component, Child>,
    /// The last key or prefix that was read.
    last: String,
    /// The store's order is that of bytes, as far as was seen; in any other all are held back until the end.
    sorted: bool,
    /// When the oldest page was asked for that has told of them.
    since: Instant,
}

impl Held {
    /// Whether what was shown cannot be met again.
    #[must_use]
    pub const fn is_sorted(&self) -> bool {
        self.sorted
    }

    /// Nothing is held back yet.
    #[must_use]
    pub const fn new(since: Instant) -> Self {
        Self { children: BTreeMap::new(), last: String::new(), sorted: true, since }
    }

    /// Takes the names of a page that was asked for at `asked`, and gives those of which all is known: the rest after the last
    /// page. With them, as of when that is known.
    pub fn take(
        &mut self,
        directory: &str,
        extent: Option<Extent>,
        page: BTreeMap<Component, Child>,
        (asked, is_last): (Instant, bool),
    ) -> (BTreeMap<Component, Child>, Instant) {
        if self.children.is_empty() {
            self.since = asked;
        }
        let since = self.since;
        for (component, child) in page {
            self.children.entry(component).or_default().join(child);
        }
        if let Some(extent) = extent {
            self.sorted &= extent.sorted && (self.last.is_empty() || extent.first > self.last);
            self.last = self.last.clone().max(extent.last);
        }
        if is_last {
            return (std::mem::take(&mut self.children), since);
        }
        if !self.sorted {
            return (BTreeMap::new(), since);
        }
        let passed = |component: &Component| format!("{directory}{}/", component.as_str()) <= self.last;
        let (known, held) = std::mem::take(&mut self.children).into_iter().partition(|(component, _)| passed(component));
        self.children = held;
        (known, since)
    }
}

/// What is told of a directory that has gone to another place while it was read.
#[must_use]
pub fn moved_away() -> Error {
    Error::new(Situation::Stale, "the directory was renamed while it was being read")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::base::clock;
    use crate::fs::tree::attributes::Told;
    use crate::fs::tree::directory::ListedChild;
    use crate::store::ListedObject;

    fn object(key: &str) -> ListedObject {
        ListedObject { key: key.to_owned(), size: 1, etag: None, last_modified: UNIX_EPOCH, storage_class: None }
    }

    fn listed() -> ListedChild {
        ListedChild { size: 1, etag: None, last_modified: UNIX_EPOCH, storage_class: None, told: Told::default() }
    }

    /// The pages that S3 gives of these keys below `d/`, `size` keys and prefixes each.
    fn pages(names: &BTreeSet<String>, size: usize) -> Vec<ListPage> {
        let mut entries: BTreeSet<String> = BTreeSet::new();
        for name in names {
            entries.insert(format!("d/{}", name.split_inclusive('/').next().unwrap_or(name)));
        }
        let entries: Vec<String> = entries.into_iter().collect();
        let page = |entries: &[String]| {
            let (prefixes, objects) = entries.iter().cloned().partition(|entry: &String| entry.ends_with('/'));
            let objects: Vec<String> = objects;
            ListPage { objects: objects.iter().map(|key| object(key)).collect(), prefixes, next: None }
        };
        entries.chunks(size).map(page).collect()
    }

    fn children(page: &ListPage) -> BTreeMap<Component, Child> {
        let mut children: BTreeMap<Component, Child> = BTreeMap::new();
        for object in &page.objects {
            children.entry(Component::new(&object.key[2..]).unwrap()).or_default().object = Some(listed());
        }
        for prefix in &page.prefixes {
            children.entry(Component::new(prefix[2..].trim_end_matches('/')).unwrap()).or_default().directory = true;
        }
        children
    }

    /// What is shown of these pages, as (name, directory, object) in the order of showing.
    fn shown(pages: &[ListPage]) -> Vec<(String, bool, bool)> {
        let now = clock::instant();
        let mut held = Held::new(now);
        let mut shown = Vec::new();
        for (index, page) in pages.iter().enumerate() {
            let (known, _) = held.take("d/", Extent::of(page), children(page), (now, index + 1 == pages.len()));
            shown.extend(
                known.into_iter().map(|(name, child)| (name.as_str().to_owned(), child.directory, child.object.is_some())),
            );
        }
        shown
    }

    proptest! {
        #[test]
        fn every_name_is_shown_once_with_all_that_it_is(names in proptest::collection::btree_set("[a-b!.]{1,3}(/c)?", 1..40), size in 1_usize..8, reversed: bool) {
            let mut pages = pages(&names, size);
            if reversed {
                // A store without order: it shows on the first page.
                for page in &mut pages {
                    page.objects.reverse();
                    page.prefixes.reverse();
                }
                pages.reverse();
                prop_assume!(Extent::of(&pages[0]).is_some_and(|extent| !extent.sorted));
            }
            let mut expected: BTreeMap<String, (bool, bool)> = BTreeMap::new();
            for name in &names {
                let roles = expected.entry(name.split('/').next().unwrap().to_owned()).or_default();
                if name.contains('/') { roles.0 = true } else { roles.1 = true }
            }
            let shown = shown(&pages);
            prop_assert_eq!(shown.len(), expected.len());
            for (name, directory, object) in shown {
                prop_assert_eq!(expected.get(&name), Some(&(directory, object)));
            }
        }
    }

    #[test]
    fn a_name_is_held_back_only_until_the_listing_has_passed_it() {
        let now = clock::instant();
        let mut held = Held::new(now);
        let names = |page: &str| -> BTreeSet<String> { page.split(' ').map(str::to_owned).collect() };
        let mut take = |page: &str, is_last| {
            let page = pages(&names(page), 100).remove(0);
            let (known, _) = held.take("d/", Extent::of(&page), children(&page), (now, is_last));
            known.into_keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(take("a a!", false), [""; 0]);
        assert_eq!(take("a!x a-", false), ["a!", "a!x"]);
        assert_eq!(take("a/x", false), ["a", "a-"]);
        assert_eq!(take("b", true), ["b"]);
    }

    #[test]
    fn of_many_names_only_the_last_are_kept_whole() {
        let now = clock::instant();
        let stream = Stream::new(now);
        let component = |number: usize| Component::new(&format!("n{number}")).unwrap();
        for number in 0..20 {
            let mut names = Names::default();
            names.push(&format!("n{number}"), Kind::File);
            let child = Child { object: Some(listed()), ..Child::default() };
            let children = BTreeMap::from([(component(number), child)]);
            stream.add(names, Listing { began: now, children, since: Since::NEVER, unshowable: 0 }, 10);
            assert_eq!(stream.whole().map(|listing| listing.children.len()), (number < 10).then_some(number + 1));
        }
        assert_eq!(stream.entries(), 20);
        for place in 0..20 {
            let chunk = stream.chunk(place).unwrap();
            let names: Vec<_> = chunk.names.since(place - chunk.first).map(|(name, _)| name.to_owned()).collect();
            assert_eq!((names, chunk.listing.is_some()), (vec![format!("n{place}")], place >= 16));
            assert_eq!(stream.listed(&component(place)).is_some(), place >= 16);
        }
        assert!(stream.chunk(20).is_none());
        let wanted = [(Role::Object, component(3)), (Role::Directory, component(4)), (Role::Object, component(77))];
        assert_eq!(stream.shown_of(&wanted).into_iter().collect::<Vec<_>>(), [(Role::Object, component(3))]);
    }
}
