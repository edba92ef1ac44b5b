//! The marker of a directory as what keeps its attributes, and says from when on its objects have some that no listing shows.
//!
//! It is replaced by a PUT and no self-copy: it has no bytes, and some stores do not copy keys that end in a slash. It is looked
//! at before, unless it was within a second, so that nothing which others have set meanwhile is taken back: its tag is that of
//! every empty object, and no condition would tell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attrs::{MAX_CONFLICTS, note_made};
use super::commit::{new_info, note_stored};
use super::keeping::TagsBy;
use super::open::CURRENT;
use crate::base::{clock, date};
use crate::data::guess;
use crate::data::write::commit::{MadeBy, with_token};
use crate::data::write::settle::put_empty;
use crate::fs::Fs;
use crate::fs::config::AttrsMode;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::fs::meta::posix;
use crate::fs::tree::inode::Inode;
use crate::fs::tree::since::Since;
use crate::store::{BucketService, Condition, Headers, Metadata, ObjectInfo, ObjectStore, Properties};

/// An object that is about to be made in a directory.
#[derive(Debug)]
pub(super) struct Announced<'a, S> {
    /// The directory.
    pub(super) directory: Option<Arc<Inode<S>>>,
    /// Its bytes.
    pub(super) size: u64,
    /// What it carries.
    pub(super) metadata: &'a Metadata,
    /// The upload was not begun before: its date may be that.
    pub(super) begun: Instant,
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// A directory's attributes are those of its marker, which is made when it has none. A bucket has none, nor has an
    /// account: their attributes last as long as the mount.
    pub(super) async fn update_marker(
        &self,
        inode: &Arc<Inode<S>>,
        apply: impl Fn(&mut Properties, Option<&ObjectInfo>) + Send,
    ) -> Result<()> {
        if !self.has_marker(inode) {
            return Ok(());
        }
        let _alone = self.markers.lock().await;
        let (made, put_back) = self.replace_marker(inode, apply).await?;
        note_made(inode, made);
        put_back
    }

    /// Learns what the marker of the mount's root says, if it is below a prefix: once, since the mount point must be there also
    /// when the store is not. Later its listings tell whether the marker was changed.
    pub(super) async fn look_at_root(&self, root: &Arc<Inode<S>>) -> Result<()> {
        let asked = clock::instant();
        root.lock().looked_at.get_or_insert(asked);
        self.learn_marker(root, &self.locate(root)?, asked).await
    }

    /// Learns what a directory's marker says, when it has one.
    pub(in crate::fs) async fn learn_marker(&self, directory: &Inode<S>, address: &Address, asked: Instant) -> Result<()> {
        match self.marker_facts(address).await?.and_then(|facts| facts.info) {
            Some(info) => self.learn_head(directory, info, asked).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Before an object is made with attributes that no listing shows: says so in its directory's marker, if that does not say
    /// it already. Where the marker may not be written the object is made all the same, and `why` tells who will not see them.
    pub(super) async fn announce(&self, inode: &Arc<Inode<S>>, object: Announced<'_, S>) {
        // Empty objects are asked for anyway.
        let unusual = object.size > 0 && posix::is_posix(object.metadata);
        if self.config.attrs != AttrsMode::Auto || !unusual {
            return;
        }
        let Some(directory) = object.directory else { return };
        // An upload that was begun before what is said there would not be covered by it.
        let age = clock::instant().saturating_duration_since(object.begun);
        if self.announced(&directory).covers(self.store_clock.now() - age) {
            return;
        }
        let _alone = self.markers.lock().await;
        if let Err(error) = self.announce_alone(&directory, age).await {
            let words = format!(
                "it is stored with attributes that listings do not show, and the marker of its directory, which would tell, cannot be \
                 written: other mounts, and this one after a remount, show this file's mode, owner and times only when they find them \
                 by a sample, or with --attrs posix ({})",
                error.words()
            );
            let errno = if error.situation() == Situation::Denied { "EACCES" } else { "EIO" };
            for path in [&directory, inode].map(|inode| self.failed_path(inode)) {
                tracing::warn!(path, story = words, "attributes are not announced");
                self.failures.record("announce", path, errno, words.clone());
            }
            // Here they are seen, and it is not tried again.
            let (mut state, said) = (directory.lock(), Since::now(self.store_clock.now(), age));
            state.directory.since = state.directory.since.or_earlier(said);
            state.directory.unsaid = state.directory.unsaid.or_earlier(said);
        }
    }

    /// What a directory's marker says, as far as known, or could not be made to say. What is only remembered here tells others
    /// nothing: the marker may be another one since.
    fn announced(&self, directory: &Arc<Inode<S>>) -> Since {
        let has_marker = self.has_marker(directory);
        let state = directory.lock();
        if !has_marker {
            return state.directory.since;
        }
        state.said_by_marker().or_earlier(state.directory.unsaid)
    }

    /// Looks at a directory's marker, unless it was within a second: what is changed of it is changed of what is there.
    pub(super) async fn look_at_present_marker(&self, directory: &Arc<Inode<S>>) -> Result<()> {
        let asked = clock::instant();
        let looked_at = directory.lock().looked_at;
        if !self.has_marker(directory) || looked_at.is_some_and(|at| asked.saturating_duration_since(at) < CURRENT) {
            return Ok(());
        }
        self.learn_marker(directory, &self.locate(directory)?, asked).await
    }

    async fn announce_alone(&self, directory: &Arc<Inode<S>>, age: Duration) -> Result<()> {
        let address = self.locate(directory)?;
        let known = self.known_since(directory, &address).await;
        let announced = if self.has_marker(directory) { self.announced(directory) } else { known };
        if announced.covers(self.store_clock.now() - age) {
            return Ok(());
        }
        if !self.has_marker(directory) {
            self.learn_since(directory, &address, Since::now(self.store_clock.now(), age));
            return Ok(());
        }
        let (mut before, mut wrong) = (Since::NEVER, Since::NEVER);
        loop {
            let said = Since::now(self.store_clock.now(), age);
            let say = |properties: &mut Properties, shown: Option<&ObjectInfo>| {
                let there = Since::of(&properties.metadata);
                if there != wrong {
                    before = there;
                }
                before.or_earlier(said).put(&mut properties.metadata);
                if let Some(info) = shown {
                    // The directory's own date stays.
                    posix::keep_time(&mut properties.metadata, date::whole_seconds(info.last_modified));
                }
            };
            let (made, put_back) = self.replace_marker(directory, say).await?;
            if let Err(error) = put_back {
                tracing::warn!(%address, %error, "what the store has dropped of a marker could not be put back");
            }
            self.store_clock.note(made.last_modified);
            let since = Since::of(&made.properties.metadata);
            directory.lock().committed(made);
            note_stored(directory);
            if wrong == Since::NEVER && since == said && said.is_off(Since::now(self.store_clock.now(), age)) {
                // Our clock is not the store's, which has just told the time.
                wrong = said;
                continue;
            }
            self.learn_since(directory, &address, since);
            return Ok(());
        }
    }

    /// Replaces the marker by what `apply` makes of it; it is told when the present one was stored, if there is one. The caller
    /// is the only one of this mount to do that now.
    async fn replace_marker(
        &self,
        inode: &Arc<Inode<S>>,
        mut apply: impl FnMut(&mut Properties, Option<&ObjectInfo>) + Send,
    ) -> Result<(ObjectInfo, Result<()>)> {
        let address = self.locate(inode)?;
        let object = address.object()?;
        let mut recent = {
            let state = inode.lock();
            let recent = state.looked_at.is_some_and(|at| clock::instant().saturating_duration_since(at) < CURRENT);
            state.info.clone().filter(|_| recent)
        };
        let mut left = MAX_CONFLICTS;
        loop {
            let known = match recent.take() {
                Some(info) => Some(info),
                None => {
                    let asked = clock::instant();
                    match self.marker_facts(&address).await?.and_then(|facts| facts.info) {
                        // What happened here since is not undone by what the marker says.
                        Some(info) if inode.lock().exact => Some(info),
                        Some(info) => Some(self.learn_head(inode, info, asked)?),
                        None => None,
                    }
                }
            };
            let (mut properties, condition) = match &known {
                Some(info) => {
                    let kept = self.kept(&object, info, info.properties.clone(), TagsBy::Request).await?;
                    (kept, Condition::IfMatch(info.etag.clone()))
                }
                None => {
                    let headers = Headers { content_type: Some(guess::DIRECTORY.to_owned()), ..Headers::default() };
                    (Properties { headers, ..Properties::default() }, Condition::IfAbsent)
                }
            };
            apply(&mut properties, known.as_deref());
            let destination = with_token(&address.destination(properties)?);
            match put_empty(&self.store, &destination, condition).await.map_err(Error::from) {
                Ok(committed) => {
                    let put_back = self.put_back(&object, &destination.properties, None, MadeBy::Put).await;
                    return Ok((new_info(committed, 0, destination.properties), put_back));
                }
                // Others have written it meanwhile.
                Err(error) if matches!(error.situation(), Situation::Stale | Situation::Exists) && left > 0 => left -= 1,
                Err(error) => return Err(error),
            }
        }
    }
}
