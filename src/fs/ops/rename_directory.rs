//! Rename of a directory: all its keys are copied, then the tree is changed, then the old keys are deleted.
//!
//! This mount's own changes below it wait meanwhile (`tree::moves`); reading goes on, at the old place until the tree is
//! changed and at the new one from then on. Before the first delete an error takes the copies back. What fails later, or dies,
//! is remembered: the same rename goes on where it was, and so does the next mount (`fs::intents`).

use std::sync::Arc;

use super::haul::{Carried, Haul};
use super::rename::{Replace, Spot};
use crate::base::{clock, date, tasks};
use crate::data::write::commit::Base;
use crate::data::write::settle::look;
use crate::fs::Fs;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::intents::{Begun, Intent};
use crate::fs::locate::Address;
use crate::fs::name::{self, Component, Shown};
use crate::fs::ops::names::{touch_directory, utf8};
use crate::fs::tree::inode::{Content, Inode, Place, Role};
use crate::fs::tree::moves::{Leaving, chain};
use crate::store::{BucketService, Condition, ETag, ListedObject, ObjectRef, ObjectStore};

/// So often it is looked whether all that is known below a directory was carried.
const MAX_ROUNDS: u32 = 10;
/// So many renames that failed are remembered.
const MAX_REMEMBERED: usize = 64;

/// The new name.
struct New<'a, S> {
    /// The empty directory that has it now.
    target: Option<&'a Arc<Inode<S>>>,
    directory: &'a Arc<Inode<S>>,
    component: Component,
}

/// An inode, and how it was carried.
type Moved<S> = (Arc<Inode<S>>, Option<Carried>, String);

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Moves a directory to another name. The caller holds the rename lock.
    pub(super) async fn rename_directory(
        &self,
        inode: &Arc<Inode<S>>,
        from: &Spot<'_, S>,
        to: &Spot<'_, S>,
        replace: Replace,
    ) -> Result<()> {
        if self.is_account(&to.directory) {
            return Err(Error::new(
                Situation::CrossDevice,
                "a directory cannot become a bucket by a rename: mv makes one and copies",
            ));
        }
        let target = self.directory_target(to).await?;
        if target.as_ref().is_some_and(|target| Arc::ptr_eq(target, inode)) {
            return Ok(());
        }
        if chain(&to.directory).contains(&inode.ino) {
            return Err(Error::new(Situation::Invalid, "a directory cannot be moved into itself"));
        }
        if let Some(target) = &target {
            if replace == Replace::Forbidden {
                return Err(Error::new(Situation::Exists, "the new name is taken"));
            }
            if !target.is_directory() {
                return Err(Error::new(Situation::NotDirectory, "the new name is a file"));
            }
        }
        let (Shown { component, .. }, address) = self.new_name(&to.directory, to.name, Role::Directory).await?;
        let old = self.locate(inode)?;
        let roots: Vec<_> = std::iter::once(inode).chain(&target).collect();
        let leaving = self.moves.leave(&roots).await?;
        if let Some(earlier) = self.take_failed(&old, &address) {
            let earlier = Arc::new(earlier);
            let goes_on = earlier.progress().is_deleting;
            let done =
                if goes_on { self.clear_old(&earlier).await.map_err(|left| left.error) } else { self.take_back(&earlier).await };
            if let Err(error) = done {
                self.remember_failed(earlier);
                return Err(error);
            }
            earlier.end().await;
            if goes_on
                && !inode.lock().directory.has_own_names()
                && self.list_some(&old, crate::store::Delimiter::None, 1).await?.is_empty()
            {
                // That was all of it: the tree has it at the new place since.
                self.note_removed(&from.directory, inode);
                return Ok(());
            }
        }
        let replaced = match &target {
            Some(target) => self.marker_of_empty(target).await?,
            // What is not there may have been made since it was looked for: two directories are never mixed.
            None => self.marker_alone(&address).await?,
        };
        if replaced.is_some() && replace == Replace::Forbidden {
            return Err(Error::new(Situation::Exists, "another client has just made a directory of the new name"));
        }
        let replaced = match &replaced {
            Some(ListedObject { etag: None, .. }) => look(&self.store, &address.object()?).await?.map(|info| info.etag),
            marker => marker.as_ref().and_then(|marker| marker.etag.clone()),
        };
        self.settle_below(inode).await?;
        let haul = Arc::new(Haul::new(old, address, replaced));
        self.hauls().push(Arc::clone(&haul));
        let moved =
            self.bring_over(&haul, inode, New { target: target.as_ref(), directory: &to.directory, component }, &leaving).await;
        self.hauls().retain(|under_way| !Arc::ptr_eq(under_way, &haul));
        if let Err(error) = moved {
            for directory in [&from.directory, &to.directory] {
                directory.lock().directory.forget_listing();
            }
            return Err(error);
        }
        Ok(())
    }

    /// What is at the new name.
    async fn directory_target(&self, to: &Spot<'_, S>) -> Result<Option<Arc<Inode<S>>>> {
        let Some(Shown { component, beside_directory }) = name::parse(utf8(to.name)?) else { return Ok(None) };
        let shown = Shown { component, beside_directory };
        match self.known(&to.directory, &shown) {
            Some(target) => Ok(Some(target)),
            None => self.find(&to.directory, &shown).await,
        }
    }

    /// What is known below a directory is brought to where only the store has it: what is dirty, and copies of what is there.
    /// New files that the store has nothing of just change their names.
    async fn settle_below(&self, root: &Arc<Inode<S>>) -> Result<()> {
        self.make_copies_below(&self.locate(root)?).await?;
        for inode in self.known_below(root) {
            let (linked, doomed, doubtful) = {
                let state = inode.lock();
                let doubtful = state.moving.as_ref().is_some_and(|moving| moving.made.is_some());
                (state.linked, state.doomed.is_some(), doubtful)
            };
            if doomed {
                return Err(Error::new(Situation::Busy, "a removed file in the directory is large and still being read"));
            }
            if linked && doubtful {
                let words = format!("an earlier rename of '{}' was not answered: look at it first", self.path_of(inode.ino));
                return Err(Error::new(Situation::Busy, words));
            }
            if linked && !is_weightless(&inode) {
                self.commit(&inode).await?;
            }
        }
        Ok(())
    }

    fn known_below(&self, root: &Arc<Inode<S>>) -> Vec<Arc<Inode<S>>> {
        let mut below = self.table.all();
        below.retain(|inode| chain(inode).contains(&root.ino));
        below
    }

    async fn bring_over(
        &self,
        haul: &Arc<Haul>,
        root: &Arc<Inode<S>>,
        New { target, directory: to, component }: New<'_, S>,
        leaving: &Leaving<'_, S>,
    ) -> Result<()> {
        let found = self.survey(haul).await?;
        haul.remember_within(self.memory_for(haul.progress().found));
        self.record_intent(haul).await;
        let old = root.place();
        let carried = self.carry_everything(haul, root, found, leaving).await;
        let moved = match carried {
            Ok(moved) => moved,
            Err(error) => return Err(self.give_back(haul, error).await),
        };
        let keyless = haul.progress().copied == 0;
        if let Some(target) = target {
            let mut state = target.lock();
            state.unlink();
            state.attr.nlink = 0;
            state.directory = crate::fs::tree::directory::Directory::default();
            drop(state);
            self.table.unlink(to.ino, Role::Directory, &component, target);
            self.table.release(target.ino);
            touch_directory(&mut to.lock().attr, -1);
        }
        self.relocate(root, (to, &component), keyless);
        self.take_over(haul, &moved);
        leaving.open();
        let cleared = match haul.record_deleting().await {
            Ok(()) => self.clear_old(haul).await,
            Err(error) => Err(super::clear::NotCleared { error, is_untouched: true }),
        };
        match cleared {
            Ok(()) => {
                self.drop_replaced_marker(haul).await;
                haul.end().await;
                Ok(())
            }
            Err(left) if left.is_untouched => {
                if let Err(busy) = leaving.close().await {
                    self.remember_failed(Arc::clone(haul));
                    return Err(busy);
                }
                if let Some(parent) = &old.parent {
                    self.relocate(root, (parent, &old.component), keyless);
                }
                self.put_down(haul, &moved);
                leaving.open();
                Err(self.give_back(haul, left.error).await)
            }
            Err(left) => {
                self.remember_failed(Arc::clone(haul));
                let words = format!(
                    "the directory was copied, but not all of the old keys could be deleted: what is left is at both places, and the same rename goes on: {}",
                    left.error.words()
                );
                Err(Error::new(left.error.situation(), words))
            }
        }
    }

    /// The intent is on the disk before the first copy. That it cannot be is no reason not to rename: should the mount die
    /// meanwhile, what was copied is at both places, and nothing is lost.
    async fn record_intent(&self, haul: &Arc<Haul>) {
        let Some(place) = self.config.renames.clone() else {
            tracing::debug!("there is no state directory: a rename that is cut short would leave copies");
            return;
        };
        let begun = Begun::new(&place, &haul.from, &haul.to, &haul.token, haul.replaced.as_ref());
        match tasks::blocking(move || Intent::begin(&place.directory, begun)).await {
            Ok(intent) => haul.keep_intent(intent),
            Err(error) => tracing::warn!(%error, "a rename cannot be recorded: one that is cut short would leave copies"),
        }
    }

    /// Copies all keys, and waits until nobody is below: then the tree may be changed.
    async fn carry_everything(
        &self,
        haul: &Arc<Haul>,
        root: &Arc<Inode<S>>,
        found: (Option<ListedObject>, Option<Vec<ListedObject>>),
        leaving: &Leaving<'_, S>,
    ) -> Result<Vec<Moved<S>>> {
        self.carry_all(haul, root, found).await?;
        leaving.close().await?;
        let complete = self.complete(haul, root).await;
        complete.inspect_err(|_| leaving.open())
    }

    /// What is known below the directory, each with how it was carried; what was missed is carried now.
    async fn complete(&self, haul: &Arc<Haul>, root: &Arc<Inode<S>>) -> Result<Vec<Moved<S>>> {
        for _ in 0..MAX_ROUNDS {
            let (mut moved, mut is_complete) = (Vec::new(), true);
            for inode in self.known_below(root) {
                let key = self.locate(&inode)?.key;
                let relative = haul.relative(&key)?.to_owned();
                if !inode.lock().linked {
                    continue;
                }
                if !is_weightless(&inode) {
                    // Its parts have left since.
                    self.commit(&inode).await?;
                    is_complete = false;
                }
                let (etag, size, is_dirty) = {
                    let state = inode.lock();
                    (state.etag(), state.attr.size, state.is_dirty())
                };
                // Of the very object that it is: else bytes of two would meet in one page cache.
                let same = |carried: &Carried| match &etag {
                    Some(etag) => *etag == carried.source.etag,
                    None => inode.is_directory() || carried.source.size == size,
                };
                let mut carried = haul.carried(&relative).filter(|_| !is_dirty).filter(same);
                if carried.is_none() && !inode.is_directory() && !is_dirty {
                    // It was not known when its key was copied, or has been made since.
                    if self.carry_late(haul, root, &relative, etag.as_ref()).await? {
                        is_complete = false;
                    }
                    carried = haul.carried(&relative).filter(same);
                }
                moved.push((inode, carried, relative));
            }
            if is_complete {
                haul.record().await?;
                return Ok(moved);
            }
        }
        Err(Error::new(Situation::Busy, "others change the directory all the time: it cannot be moved meanwhile"))
    }

    /// Carries what a known inode stands for, if that is still there.
    async fn carry_late(&self, haul: &Haul, root: &Arc<Inode<S>>, relative: &str, etag: Option<&ETag>) -> Result<bool> {
        let Some(info) = look(&self.store, &haul.source(relative)?).await? else { return Ok(false) };
        if etag.is_some_and(|etag| *etag != info.etag) {
            return Ok(false);
        }
        let there = look(&self.store, &haul.target(relative)?).await?;
        let condition = match there {
            Some(there) if haul.has_made(&there) => {
                if haul.is_copied(relative, &info.etag, date::unix_seconds(info.last_modified)) {
                    haul.note_carried(relative, Carried { source: Arc::new(info), copy: there });
                    return Ok(true);
                }
                Condition::IfMatch(there.etag)
            }
            Some(_) => return Err(Error::new(Situation::Stale, "another client has made files at the new name")),
            None => Condition::IfAbsent,
        };
        let listed = ListedObject {
            key: format!("{}{relative}", haul.from.key),
            size: info.size,
            etag: Some(info.etag.clone()),
            last_modified: info.last_modified,
            storage_class: info.properties.storage_class.clone(),
        };
        self.carry(haul, Some(root), &listed, condition).await?;
        Ok(true)
    }

    /// Gives the directory another place in the tree; `keyless`: the store has nothing of it.
    fn relocate(&self, root: &Arc<Inode<S>>, (to, component): (&Arc<Inode<S>>, &Component), keyless: bool) {
        let old = root.place();
        let is_kept = {
            let mut state = root.lock();
            state.place = Place { parent: Some(Arc::clone(to)), component: component.clone() };
            state.attr.ctime = clock::now();
            if keyless {
                state.directory.keep();
            }
            state.directory.is_kept()
        };
        if let Some(from) = &old.parent {
            self.table.relink((from.ino, &old.component), (to.ino, component), root);
            self.note_gone(from, Role::Directory, old.component, false);
        }
        let mut state = to.lock();
        state.directory.edit(Role::Directory, component.clone(), true, is_kept, clock::instant());
        touch_directory(&mut state.attr, 1);
    }

    /// What is known below the directory is at the new place now.
    fn take_over(&self, haul: &Haul, moved: &[Moved<S>]) {
        for (inode, carried, relative) in moved {
            match carried {
                Some(Carried { source, copy }) => self.settle_at(inode, haul.target(relative), source, copy.clone()),
                None => self.settle_without(inode, haul.target(relative)),
            }
        }
    }

    /// Nothing was deleted: what is known is at the old place as before.
    fn put_down(&self, haul: &Haul, moved: &[Moved<S>]) {
        for (inode, carried, relative) in moved {
            match carried {
                Some(Carried { source, copy }) => {
                    self.settle_at(inode, haul.source(relative), copy, crate::store::ObjectInfo::clone(source));
                }
                None => self.settle_without(inode, haul.source(relative)),
            }
        }
    }

    fn settle_at(
        &self,
        inode: &Arc<Inode<S>>,
        object: Result<ObjectRef>,
        was: &crate::store::ObjectInfo,
        info: crate::store::ObjectInfo,
    ) {
        let Ok(object) = object else { return };
        self.repin(inode, &was.etag, &ObjectRef { version: info.version.clone(), ..object.clone() }, &info.etag);
        if let Some(writing) = inode.writing() {
            writing.writer.redirect(|destination| (destination.bucket, destination.key) = (object.bucket, object.key));
        }
        let facts = (!inode.is_directory()).then(|| self.object_facts(Arc::new(was.clone())));
        let mut state = inode.lock();
        if let Some(facts) = facts.filter(|_| !state.exact) {
            state.learn(&facts);
        }
        // A rename of what is above changes none of these.
        let (ctime, ours, exact) = (state.attr.ctime, state.ours, state.exact);
        state.committed(info);
        (state.attr.ctime, state.ours, state.exact) = (ctime, ours, exact);
        state.moving = None;
        state.directory.forget_listing();
    }

    /// What was not carried: a directory without a marker, a new file, or what other clients have removed.
    fn settle_without(&self, inode: &Arc<Inode<S>>, object: Result<ObjectRef>) {
        if inode.is_directory() {
            let mut state = inode.lock();
            state.info = None;
            state.directory.forget_listing();
            return;
        }
        match (inode.writing(), object) {
            (Some(writing), Ok(object)) => {
                writing.writer.redirect(|destination| (destination.bucket, destination.key) = (object.bucket, object.key));
                inode.lock().moving = None;
            }
            _ => self.forget_name(inode),
        }
    }

    /// The marker of the empty directory that was replaced, where the new one has none.
    async fn drop_replaced_marker(&self, haul: &Haul) {
        let Some(etag) = haul.replaced.clone() else { return };
        let Ok(object) = haul.target("") else { return };
        // Where the new directory has one, that has replaced it. (Its token does not tell: SeaweedFS drops it.)
        if haul.carried("").is_none()
            && haul.progress().copied > 0
            && let Err(left) = self.delete_object(object, Some(etag)).await
        {
            tracing::warn!(error = %left.error, "the marker of the directory that was replaced stays");
        }
    }

    /// Takes back what was copied, since the rename has failed.
    async fn give_back(&self, haul: &Arc<Haul>, error: Error) -> Error {
        haul.record_taking_back().await;
        let taken = self.take_back(haul).await;
        if taken.is_ok() && !haul.is_doubted() {
            haul.end().await;
            return error;
        }
        // What was sent and not answered may be carried out yet: the same rename looks for it.
        self.remember_failed(Arc::clone(haul));
        match taken {
            Ok(()) => error,
            Err(left) => {
                let words = format!("{}; and copies in '{}' could not be taken back: {}", error.words(), haul.to, left.words());
                Error::new(error.situation(), words)
            }
        }
    }

    fn remember_failed(&self, haul: Arc<Haul>) {
        let mut failed = self.failed_hauls.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if failed.len() >= MAX_REMEMBERED {
            failed.remove(0);
        }
        failed.push(haul);
    }

    /// The rename between the same places that has failed before.
    fn take_failed(&self, from: &Address, to: &Address) -> Option<Haul> {
        let mut failed = self.failed_hauls.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = failed.iter().position(|haul| haul.from == *from && haul.to == *to)?;
        Some(failed.remove(at).for_later())
    }
}

/// Whether the store has nothing of what a file is to become, or all of it: it can go elsewhere without a request.
fn is_weightless<S: ObjectStore>(inode: &Arc<Inode<S>>) -> bool {
    let Content::Writing(writing) = inode.lock().content.clone() else { return true };
    let writer = &writing.writer;
    let is_new = writing.base == Base::Absent && !writer.has_left() && !writer.is_doubtful() && writer.bytes_of_store() == 0;
    !writer.is_dirty() || is_new
}
