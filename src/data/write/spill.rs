//! Pages on their way to the staging file and back.

use std::sync::Arc;

use bytes::Bytes;

use super::staging::{Staged, StagingFile};
use super::{State, Writer};
use crate::base::tasks;
use crate::data::budget::{Class, PAGE_BYTES, Permit};
use crate::data::{Error, Result};
use crate::store::ObjectStore;

/// So many pages go at once.
const PAGES_AT_ONCE: usize = 8;

/// Where pages of a content are that are not in memory.
#[derive(Debug, Default)]
pub(super) struct Away {
    file: Option<Arc<StagingFile>>,
    going: Going,
}

/// Whether pages are on their way to the staging file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Going {
    #[default]
    No,
    Yes,
    /// The file could not be written to: what is in memory stays there.
    Broken,
}

impl<S: ObjectStore> Writer<S> {
    /// Begins to send pages to the staging file, if it has more than so many in memory and there is room; whether some go.
    pub(super) fn spill(&self, state: &mut State<S>, least: usize) -> bool {
        let last_written = state.run.1.saturating_sub(1);
        if state.away.going != Going::No || !self.shared.staging.has_room() {
            return state.away.going == Going::Yes;
        }
        let Some(writer) = self.me.upgrade().filter(|_| state.pages.count_here() > least) else { return false };
        state.away.going = Going::Yes;
        tasks::spawn(async move {
            let _sending = writer.shared.pressure.sending();
            let going = match writer.send_pages_away(last_written).await {
                Ok(()) => Going::No,
                Err(error) => {
                    tracing::error!(%error, "the staging directory cannot be written to: memory must do");
                    Going::Broken
                }
            };
            writer.lock().away.going = going;
            writer.part_done.notify_waiters();
        });
        true
    }

    /// Until memory is no longer short, or there is no more room.
    async fn send_pages_away(&self, last_written: u64) -> std::io::Result<()> {
        while self.shared.budget.used() > self.shared.budget.limit() / 2 {
            let (victims, file) = {
                let mut state = self.lock();
                (state.pages.victims(PAGES_AT_ONCE, last_written), state.away.file.clone())
            };
            if victims.is_empty() {
                return Ok(());
            }
            let (count, staging) = (victims.len(), self.shared.staging.clone());
            let (file, gone) = tasks::blocking(move || {
                let file = file.map_or_else(|| staging.file(), Ok)?;
                let mut gone: Vec<(u64, Bytes, Staged)> = Vec::new();
                for (page, bytes) in victims {
                    let Some(staged) = file.put(&bytes)? else { break };
                    gone.push((page, bytes, staged));
                }
                std::io::Result::Ok((file, gone))
            })
            .await?;
            let full = gone.len() < count;
            {
                let mut state = self.lock();
                state.away.file.get_or_insert(file);
                for (page, bytes, staged) in gone {
                    state.pages.send_away(page, &bytes, staged);
                }
            }
            self.part_done.notify_waiters();
            if full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Brings a page back that shall be written to, into memory that `permit` pays for.
    pub(super) async fn fetch_page(&self, page: u64, permit: Permit) -> Result<()> {
        let Some(staged) = self.lock().pages.away(page) else { return Ok(()) };
        let into = self.shared.budget.page(permit, PAGE_BYTES);
        let read = Arc::clone(&staged).read_page(0, staged.len(), into).await.map_err(Error::of_staging)?;
        self.lock().pages.bring_back(page, &staged, read);
        Ok(())
    }

    /// As [`Writer::fetch_page`], whatever memory there is.
    pub(super) async fn fetch_page_anyway(&self, page: u64) -> Result<()> {
        let permit = self.shared.budget.overdraw(Class::Write, PAGE_BYTES as u64);
        self.fetch_page(page, permit).await
    }
}
