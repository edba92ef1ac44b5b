//! HEADs that are sent ahead of a walk which asks about one object after the other: in the order of the directory's listing,
//! several at once. Every HEAD of a walk is known to its directory while it is under way, so that no object is asked twice.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::open::replaced;
use crate::base::{clock, tasks};
use crate::fs::Fs;
use crate::fs::error::Result;
use crate::fs::name::Component;
use crate::fs::tree::directory::{HeadAnswer, Listing};
use crate::fs::tree::inode::{Content, Inode, Role};
use crate::fs::tree::walk::Fetched;
use crate::store::{BucketService, ErrorKind, HeadObject, ObjectInfo, ObjectStore};

/// So many names are looked at for the next ones that nothing is known of: the search must cost less than a request.
const MAX_LOOKED_THROUGH: usize = 1000;

/// What is asked for in a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The attributes, where a listing does not tell them and nothing is remembered.
    Attributes,
    /// All that HEAD tells.
    All,
}

/// The answer to a HEAD that was sent for this question, or ahead of it.
struct Headed {
    asked: Instant,
    ahead: bool,
    answer: Result<Arc<ObjectInfo>>,
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// As [`Fs::known_info`], for questions that a walk asks file by file: the next ones are fetched with it.
    pub(super) async fn info_in_walk(&self, inode: &Arc<Inode<S>>, what: Wanted) -> Result<Arc<ObjectInfo>> {
        let (known, place, ordinary) = {
            let state = inode.lock();
            let ordinary = state.linked && matches!(state.content, Content::Clean(_));
            (state.info.clone(), state.place.clone(), ordinary)
        };
        if let Some(info) = known {
            return Ok(info);
        }
        let Some(parent) = place.parent.filter(|_| ordinary) else { return self.fresh_info(inode).await };
        let listing = parent.lock().directory.listing_of(&place.component);
        match self.head_in_walk(&parent, &place.component, listing.as_deref(), what).await? {
            Some(headed) => match self.taken_over(inode, &headed) {
                Some(info) => Ok(info),
                None if headed.ahead => self.fresh_info(inode).await,
                None => headed.answer.and_then(|info| self.learn_head(inode, info, headed.asked)),
            },
            None => self.fresh_info(inode).await,
        }
    }

    /// What was fetched ahead for an inode, when it can be believed.
    pub(super) async fn fetched_ahead(&self, inode: &Arc<Inode<S>>) -> Option<Arc<ObjectInfo>> {
        let place = inode.place();
        let parent = place.parent.filter(|_| !inode.is_directory())?;
        let fetched = parent.lock().directory.walk.fetched(&place.component, clock::instant(), self.config.ttl)?;
        let headed = received(fetched, true).await?;
        parent.lock().directory.walk.done(&place.component);
        self.taken_over(inode, &headed)
    }

    /// What HEAD says of a listed object whose attributes only its metadata tells, for a lookup that would else ask for it
    /// alone.
    pub(super) async fn listed_metadata(
        &self,
        directory: &Arc<Inode<S>>,
        component: &Component,
        listing: &Listing,
    ) -> Option<Arc<ObjectInfo>> {
        let child = listing.children.get(component)?;
        let object = child.object.as_ref().filter(|object| !child.directory && listing.wants_metadata(object))?;
        let facts = self.child_facts(object);
        let exact = |inode: Arc<Inode<S>>| {
            let state = inode.lock();
            state.exact && state.is_same_object(&facts)
        };
        if self.table.at(directory.ino, Role::Object, component).is_some_and(exact) {
            return None;
        }
        let info = self.head_in_walk(directory, component, Some(listing), Wanted::Attributes).await.ok()??.answer.ok()?;
        (object.etag.as_ref() == Some(&info.etag)).then_some(info)
    }

    /// The answer to a HEAD of an object, and HEADs of the next ones on their way when it is one of a walk.
    async fn head_in_walk(
        &self,
        parent: &Arc<Inode<S>>,
        component: &Component,
        listing: Option<&Listing>,
        what: Wanted,
    ) -> Result<Option<Headed>> {
        let (now, ttl) = (clock::instant(), self.config.ttl);
        if ttl.is_zero() {
            // What is never believed is not worth fetching.
            return Ok(None);
        }
        let (depth, ahead) = {
            let mut state = parent.lock();
            let ahead = state.directory.walk.fetched(component, now, ttl).is_some();
            (state.directory.walk.step(component), ahead)
        };
        let mut wanted = self.unknown_after(parent, (listing, component), what, depth + 1);
        let next = if wanted.len() > depth { wanted.pop() } else { None };
        wanted.insert(0, component.clone());
        self.begin_heads(parent, wanted, next, now)?;
        let fetched = parent.lock().directory.walk.fetched(component, now, ttl);
        let Some(fetched) = fetched else { return Ok(None) };
        let headed = received(fetched, ahead).await;
        parent.lock().directory.walk.done(component);
        Ok(headed)
    }

    /// Sends the HEADs that are not on their way yet, as far as there is room for their answers.
    fn begin_heads(&self, parent: &Arc<Inode<S>>, wanted: Vec<Component>, next: Option<Component>, now: Instant) -> Result<()> {
        let address = self.locate(parent)?;
        let mut begun = Vec::with_capacity(wanted.len());
        {
            let mut state = parent.lock();
            let walk = &mut state.directory.walk;
            walk.expect(next);
            for component in wanted {
                let (sender, answer) = watch::channel(None);
                if walk.fetched(&component, now, self.config.ttl).is_none()
                    && walk.keep(component.clone(), Fetched { asked: now, answer }, self.config.ttl)
                {
                    begun.push((component, sender));
                }
            }
        }
        for (component, sender) in begun {
            let (store, remembered) = (self.store.clone(), Arc::clone(&self.remembered));
            let address = address.below(&component, Role::Object);
            let object = address.object()?;
            tasks::spawn(async move {
                let answer = match store.head(&HeadObject { object }).await {
                    Ok(info) => {
                        remembered.note(&address, &info);
                        Ok(Arc::new(info))
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => Err(replaced()),
                    Err(error) => Err(error.into()),
                };
                // Nobody may be waiting (any more): the answer is kept for who comes.
                sender.send_replace(Some(answer));
            });
        }
        Ok(())
    }

    /// The next objects of a listing that no HEAD is known of.
    fn unknown_after(
        &self,
        parent: &Arc<Inode<S>>,
        (listing, component): (Option<&Listing>, &Component),
        what: Wanted,
        count: usize,
    ) -> Vec<Component> {
        let Some(listing) = listing else { return Vec::new() };
        let after = listing.children.range((Bound::Excluded(component), Bound::Unbounded)).take(MAX_LOOKED_THROUGH);
        // It may have been learnt behind the listing.
        let since = listing.since.or_earlier(parent.lock().directory.since);
        let unknown = after.filter(|(_, child)| {
            child.object.as_ref().is_some_and(|object| match what {
                Wanted::Attributes => object.wants_metadata(since),
                Wanted::All => object.told.info.is_none(),
            })
        });
        let unknown = unknown.filter(|(component, _)| {
            self.table.at(parent.ino, Role::Object, component).is_none_or(|inode| {
                let state = inode.lock();
                let unknown = if what == Wanted::All { state.info.is_none() } else { !state.exact };
                state.linked && unknown && matches!(state.content, Content::Clean(_))
            })
        });
        unknown.take(count).map(|(component, _)| component.clone()).collect()
    }

    /// Takes an answer over if it is about the object that the inode is, and no change of this mount's came after it.
    fn taken_over(&self, inode: &Arc<Inode<S>>, headed: &Headed) -> Option<Arc<ObjectInfo>> {
        let info = headed.answer.as_ref().ok()?;
        let believed = {
            let state = inode.lock();
            let same = state.etag().is_none_or(|own| own == info.etag);
            same && state.committed_at.is_none_or(|at| at < headed.asked)
        };
        if believed { self.learn_head(inode, Arc::clone(info), headed.asked).ok() } else { None }
    }
}

/// Waits for an answer; `None` when none will come.
async fn received(fetched: Fetched<HeadAnswer>, ahead: bool) -> Option<Headed> {
    let Fetched { asked, mut answer } = fetched;
    let answer = answer.wait_for(Option::is_some).await.ok()?.clone()?;
    Some(Headed { asked, ahead, answer })
}
