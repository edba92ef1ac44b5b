//! Deleting what was moved: from the old place once everything is at the new one, or from the new place when it shall not be.
//!
//! Each page that is deleted was listed just before, and only what it shows as it was copied is deleted, under its tag: also
//! where a store ignores the tags, what others have changed or made meanwhile stays. What was changed is copied again.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::haul::Haul;
use crate::base::{clock, date};
use crate::data::write::settle::look;
use crate::fs::Fs;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::store::{
    BucketService, Condition, DeleteKey, ErrorKind, Key, ListStart, ListedObject, ObjectInfo, ObjectStore, Outcome,
};

/// So often it is begun anew before it is given up.
const MAX_PASSES: u32 = 7;
/// The wait before the n-th further pass is n times this.
const PAUSE: Duration = Duration::from_millis(100);
/// Pages that are deleted at once.
const PARALLEL_BATCHES: usize = 4;
/// Objects that are looked at at once.
const PARALLEL_HEADS: usize = 32;

/// Why the old place is not empty.
#[derive(Debug)]
pub(in crate::fs) struct NotCleared {
    pub error: Error,
    /// Nothing was deleted, for certain.
    pub is_untouched: bool,
}

/// What certainly was not deleted before: if it is another object than was copied, its bytes have taken the place of those. Of
/// anything else the copy may be the only one left, and what has the name now is something new.
#[derive(Debug, Clone, Copy)]
enum Undeleted<'a> {
    All,
    Only(&'a HashSet<String>),
}

impl Undeleted<'_> {
    fn has(self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(keys) => keys.contains(key),
        }
    }
}

/// What became of a pass.
#[derive(Debug, Default)]
struct Pass {
    /// The last failure, and whether it may be another one the next time.
    failed: Option<Error>,
    is_final: bool,
    /// Keys that were changed meanwhile and copied again: they are to be deleted by another pass.
    copied_again: Vec<String>,
    /// Keys that stay, because others have them.
    staying: Vec<String>,
    /// The directory's own, which is to be deleted last.
    marker: Option<ListedObject>,
}

impl Pass {
    /// What became of a further page.
    fn add(&mut self, page: Self) {
        self.failed = page.failed.or(self.failed.take());
        self.is_final |= page.is_final;
        self.copied_again.extend(page.copied_again);
        self.staying.extend(page.staying);
        self.marker = page.marker.or(self.marker.take());
    }

    fn fail(&mut self, error: crate::store::Error) {
        self.is_final |=
            error.outcome() == Outcome::NotApplied && !matches!(error.kind(), ErrorKind::Busy | ErrorKind::Unavailable);
        self.failed = Some(error.into());
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Deletes what was copied from the old place.
    pub(in crate::fs) async fn clear_old(&self, haul: &Haul) -> std::result::Result<(), NotCleared> {
        let (mut last, mut copied_again) = (None, HashSet::new());
        for attempt in 1..=MAX_PASSES {
            let first = attempt == 1 && !haul.is_old;
            let pass = self.clear_once(haul, if first { Undeleted::All } else { Undeleted::Only(&copied_again) }).await;
            copied_again.extend(pass.copied_again.iter().cloned());
            for key in &pass.copied_again {
                self.note_of_move(
                    haul,
                    key,
                    "another client has changed it while its directory was renamed: it was copied again",
                );
            }
            let is_untouched = !haul.progress().is_deleting;
            match pass.failed {
                None if pass.copied_again.is_empty() => {
                    for key in &pass.staying {
                        self.note_of_move(
                            haul,
                            key,
                            "another client has made or changed it while its directory was renamed: it stays, and so does what was copied before",
                        );
                    }
                    return Ok(());
                }
                None => {}
                Some(error) if pass.is_final && is_untouched => return Err(NotCleared { error, is_untouched }),
                Some(error) => last = Some(error),
            }
            clock::sleep(PAUSE * attempt).await;
        }
        match last {
            Some(error) => Err(NotCleared { error, is_untouched: !haul.progress().is_deleting }),
            // Others change the same keys again and again: those are at both places.
            None => Ok(()),
        }
    }

    async fn clear_once(&self, haul: &Haul, undeleted: Undeleted<'_>) -> Pass {
        let (mut pass, mut start) = (Pass::default(), Some(ListStart::Beginning));
        let mut pages = self.next_pages(haul, &mut start).await;
        while !pages.is_empty() {
            let mut under_way = Vec::with_capacity(pages.len());
            for (page, has_more) in pages.drain(..) {
                under_way.push(self.clear_page(haul, undeleted, page, has_more));
            }
            let cleared;
            (pages, cleared) = tokio::join!(self.next_pages(haul, &mut start), join_all(under_way));
            cleared.into_iter().for_each(|page| pass.add(page));
        }
        if let Some(marker) = pass.marker.take().filter(|_| pass.failed.is_none()) {
            pass.add(self.clear_page(haul, undeleted, Ok(vec![marker]), false).await);
        }
        pass
    }

    /// The pages that are deleted at once, each with whether it was not the last one.
    async fn next_pages(&self, haul: &Haul, start: &mut Option<ListStart>) -> Vec<(Result<Vec<ListedObject>>, bool)> {
        let mut pages = Vec::new();
        while pages.len() < PARALLEL_BATCHES
            && let Some(from) = start.take()
        {
            match self.page_below(&haul.from, from).await {
                Ok(page) => {
                    // Not by the token: what it stands for is being deleted.
                    let last = page.next.as_ref().and(page.objects.last());
                    *start = last.map(|last| ListStart::After(last.key.clone()));
                    pages.push((Ok(page.objects), start.is_some()));
                }
                Err(error) => pages.push((Err(error), false)),
            }
        }
        pages
    }

    /// Deletes what a page of a listing shows as it was copied; the directory's own marker not yet, while there is more.
    async fn clear_page(&self, haul: &Haul, undeleted: Undeleted<'_>, listed: Result<Vec<ListedObject>>, has_more: bool) -> Pass {
        let mut pass = Pass::default();
        let cleared = match listed {
            Ok(mut listed) => {
                if has_more && let Some(at) = listed.iter().position(|listed| listed.key == haul.from.key) {
                    pass.marker = Some(listed.remove(at));
                }
                // What is in a directory comes before its marker: SeaweedFS, which has real directories, removes them later else.
                listed.reverse();
                self.clear_listed(haul, undeleted, listed, &mut pass).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = cleared {
            pass.failed = Some(error);
        }
        pass
    }

    async fn clear_listed(
        &self,
        haul: &Haul,
        undeleted: Undeleted<'_>,
        listed: Vec<ListedObject>,
        pass: &mut Pass,
    ) -> Result<()> {
        let (mut batch, mut unlike, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for listed in listed {
            let relative = haul.relative(&listed.key)?;
            let etag = match &listed.etag {
                Some(etag) => etag.clone(),
                // The listing does not say.
                None => match look(&self.store, &haul.source(relative)?).await? {
                    Some(info) => info.etag,
                    None => continue,
                },
            };
            let modified = date::unix_seconds(listed.last_modified);
            match haul.is_copied(relative, &etag, modified) {
                true => batch.push((DeleteKey { key: Key::new(&listed.key)?, etag: Some(etag) }, listed)),
                false => unlike.push((etag, modified, listed)),
            }
        }
        let copies = self.look_at_all(&haul.to, unlike.iter().map(|(_, _, listed)| haul.relative(&listed.key))).await?;
        for ((etag, modified, listed), copy) in unlike.into_iter().zip(copies) {
            match copy {
                Some(copy) if haul.is_copy_of(&copy, &etag, modified) => {
                    batch.push((DeleteKey { key: Key::new(&listed.key)?, etag: Some(etag) }, listed));
                }
                Some(copy) if haul.has_made(&copy) && undeleted.has(&listed.key) => changed.push(listed),
                _ => pass.staying.push(listed.key),
            }
        }
        if haul.is_old {
            batch = self.with_copies(haul, batch, pass).await?;
        }
        let keys: Vec<DeleteKey> = batch.iter().map(|(key, _)| key.clone()).collect();
        if !keys.is_empty() {
            match self.store.delete_many(&haul.from.bucket, &keys).await {
                Ok(answers) => {
                    for (answer, (_, listed)) in answers.into_iter().zip(batch) {
                        match answer {
                            Ok(()) => haul.advance(|progress| {
                                progress.deleted += 1;
                                progress.is_deleting = true;
                            }),
                            Err(error) if error.kind() == ErrorKind::Changed => changed.push(listed),
                            Err(error) => {
                                haul.advance(|progress| progress.is_deleting |= error.outcome() != Outcome::NotApplied);
                                pass.fail(error);
                            }
                        }
                    }
                }
                Err(error) => {
                    haul.advance(|progress| progress.is_deleting |= error.outcome() != Outcome::NotApplied);
                    pass.fail(error);
                }
            }
        }
        for listed in changed {
            if self.carry_again(haul, &listed).await? {
                pass.copied_again.push(listed.key)
            } else {
                pass.staying.push(listed.key)
            }
        }
        Ok(())
    }

    /// Of what a dead mount has copied, only that is deleted whose copy is still there.
    async fn with_copies(
        &self,
        haul: &Haul,
        batch: Vec<(DeleteKey, ListedObject)>,
        pass: &mut Pass,
    ) -> Result<Vec<(DeleteKey, ListedObject)>> {
        let infos = self.look_at_all(&haul.to, batch.iter().map(|(_, listed)| haul.relative(&listed.key))).await?;
        let mut sure = Vec::new();
        for ((key, listed), info) in batch.into_iter().zip(infos) {
            let relative = haul.relative(&listed.key)?;
            match info.filter(|info| haul.has_made(info) || haul.is_copy(relative, &info.etag)) {
                Some(_) => sure.push((key, listed)),
                None => pass.staying.push(listed.key),
            }
        }
        Ok(sure)
    }

    /// HEADs of keys below an address.
    async fn look_at_all<'a>(
        &self,
        address: &Address,
        relatives: impl Iterator<Item = Result<&'a str>>,
    ) -> Result<Vec<Option<ObjectInfo>>> {
        use futures_util::stream::{self, StreamExt as _};
        let mut heads = Vec::new();
        for relative in relatives {
            heads.push(self.look_at(Address { key: format!("{}{}", address.key, relative?), ..address.clone() }));
        }
        let infos: Vec<Result<Option<ObjectInfo>>> = stream::iter(heads).buffered(PARALLEL_HEADS).collect().await;
        infos.into_iter().collect()
    }

    async fn look_at(&self, address: Address) -> Result<Option<ObjectInfo>> {
        Ok(look(&self.store, &address.object()?).await?)
    }

    /// Copies a key again that another client has changed since, over the copy; `false` when that is not this rename's any
    /// more.
    async fn carry_again(&self, haul: &Haul, listed: &ListedObject) -> Result<bool> {
        let relative = haul.relative(&listed.key)?;
        let condition = match look(&self.store, &haul.target(relative)?).await? {
            Some(info) if haul.has_made(&info) => Condition::IfMatch(info.etag),
            Some(_) => return Ok(false),
            None => Condition::IfAbsent,
        };
        self.carry(haul, None, listed, condition).await?;
        Ok(true)
    }

    /// Takes the copies away again, unless others have changed them.
    ///
    /// # Errors
    /// Whatever keeps one from being taken away: it is at both places then.
    pub(in crate::fs) async fn take_back(&self, haul: &Haul) -> Result<()> {
        if haul.is_untouched() {
            return Ok(());
        }
        let mut last = None;
        for attempt in 1..=MAX_PASSES {
            match self.take_back_once(haul).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            clock::sleep(PAUSE * attempt).await;
        }
        last.map_or(Ok(()), Err)
    }

    async fn take_back_once(&self, haul: &Haul) -> Result<()> {
        let (mut start, mut failed) = (ListStart::Beginning, None);
        loop {
            let page = self.page_below(&haul.to, start).await?;
            let last = page.objects.last().map(|listed| listed.key.clone());
            let (mut batch, mut unsure) = (Vec::new(), Vec::new());
            for listed in page.objects.iter().rev() {
                let relative = haul.relative_to(&listed.key)?;
                // What was there before is not taken away, though it may have been replaced.
                if relative.is_empty() && haul.replaced.is_some() {
                    continue;
                }
                let known = listed.etag.as_ref().filter(|etag| !haul.is_old && haul.is_copy(relative, etag));
                match known {
                    Some(etag) => batch.push((relative, etag.clone())),
                    None if haul.is_old || haul.has_forgotten() || haul.is_doubtful(relative) || listed.etag.is_none() => {
                        unsure.push(relative);
                    }
                    None => {}
                }
            }
            let infos = self.look_at_all(&haul.to, unsure.iter().copied().map(Ok)).await?;
            let made = unsure.into_iter().zip(infos).filter_map(|(relative, info)| Some((relative, info?)));
            batch.extend(made.filter(|(_, info)| haul.has_made(info)).map(|(relative, info)| (relative, info.etag)));
            if haul.is_old {
                // The only copy is never taken away.
                let sources = self.look_at_all(&haul.from, batch.iter().map(|(relative, _)| Ok(*relative))).await?;
                batch = batch.into_iter().zip(sources).filter(|(_, source)| source.is_some()).map(|(one, _)| one).collect();
            }
            let key = |(relative, etag)| Ok(DeleteKey { key: haul.target(relative)?.key, etag: Some(etag) });
            let keys = batch.into_iter().map(key).collect::<Result<Vec<DeleteKey>>>()?;
            if !keys.is_empty() {
                let answers = self.store.delete_many(&haul.to.bucket, &keys).await?;
                failed = answers
                    .into_iter()
                    .filter_map(std::result::Result::err)
                    .find(|error| error.kind() != ErrorKind::Changed)
                    .or(failed);
            }
            match (page.next, last) {
                (Some(_), Some(last)) => start = ListStart::After(last),
                _ => return failed.map_or(Ok(()), |error| Err(error.into())),
            }
        }
    }

    /// Names a key in the list of failures: nobody's call has failed by it.
    fn note_of_move(&self, haul: &Haul, key: &str, words: &str) {
        tracing::warn!(key, from = %haul.from, to = %haul.to, words, "rename of a directory");
        let error = Error::new(Situation::Stale, format!("'{key}' in '{}': {words}", haul.from));
        self.failures.record("rename", format!("/{key}"), "ESTALE", error.words().to_owned());
    }
}
