//! Parts that leave while a file is written: when they are cut, how they are sent, what is kept until they are safe.

use std::sync::Arc;

use super::commit::with_token;
use super::{State, Writer};
use crate::base::tasks;
use crate::data::{Error, Result};
use crate::store::{CreateUpload, MAX_PARTS, MIN_PART_BYTES, ObjectStore, Part, PartNumber, Payload, Upload, UploadPart};

/// The size of the first parts, in bytes: long enough to hide a round trip, short enough that many are in flight.
const PART_BYTES: u64 = 8 << 20;
/// After this many parts the size doubles, and again: small files keep small parts, 10,000 parts reach far.
const PARTS_OF_ONE_SIZE: u16 = 1000;
/// A part may take this fraction of the memory limit.
const MEMORY_DIVISOR: u64 = 8;

/// Where one part is.
#[derive(Debug, Clone)]
pub(super) enum PartSlot {
    /// On its way; its task keeps the bytes for another try.
    InFlight,
    /// The store refused it or did not answer; the bytes are here.
    Failed(Payload, Error),
    /// The store has it.
    Done(Part),
}

/// The size of part `number` in a mount with this memory limit.
fn part_bytes(number: u16, memory_limit: u64) -> u64 {
    let doublings = u32::from((number.saturating_sub(1)) / PARTS_OF_ONE_SIZE).min(10);
    let most = (memory_limit / MEMORY_DIVISOR).max(PART_BYTES) >> 20 << 20;
    (PART_BYTES << doublings).min(most)
}

impl<S: ObjectStore> Writer<S> {
    /// Sends what makes a whole part and has bytes after it: a file of one part's size stays a single PUT.
    pub(super) fn cut_parts(self: &Arc<Self>, state: &mut State) -> Result<()> {
        loop {
            let size = part_bytes(state.next_part()?, self.shared.budget.limit());
            if state.staged.staged() <= size {
                return Ok(());
            }
            self.cut(state, size)?;
        }
    }

    /// Sends what may leave at all, because memory is short.
    pub(super) fn cut_early(self: &Arc<Self>, state: &mut State) -> Result<()> {
        let whole = state.staged.staged() >> 20 << 20;
        if whole >= MIN_PART_BYTES && !state.completed { self.cut(state, whole) } else { Ok(()) }
    }

    /// Sends the first `size` staged bytes as the next part.
    pub(super) fn cut(self: &Arc<Self>, state: &mut State, size: u64) -> Result<()> {
        let number = state.next_part()?;
        let payload = Payload::new(state.staged.take(size));
        self.launch(state, number, payload);
        Ok(())
    }

    /// Sends the parts that have failed again.
    pub(super) fn relaunch_failed(self: &Arc<Self>, state: &mut State) {
        let failed: Vec<(u16, Payload)> = state
            .parts
            .iter()
            .filter_map(|(number, slot)| match slot {
                PartSlot::Failed(payload, _) => Some((*number, payload.clone())),
                _ => None,
            })
            .collect();
        for (number, payload) in failed {
            self.launch(state, number, payload);
        }
    }

    /// Sends `payload` as a part.
    pub(super) fn launch(self: &Arc<Self>, state: &mut State, number: u16, payload: Payload) {
        state.parts.insert(number, PartSlot::InFlight);
        let writer = Arc::clone(self);
        tasks::spawn(async move {
            let slot = match writer.send(number, payload.clone()).await {
                Ok(part) => PartSlot::Done(part),
                Err(error) => PartSlot::Failed(payload, error),
            };
            writer.lock().parts.insert(number, slot);
            writer.part_done.notify_waiters();
        });
    }

    async fn send(&self, number: u16, payload: Payload) -> Result<Part> {
        // The slots are never closed, so there is always one in the end.
        let _slot = self.shared.slots.acquire().await;
        let _sending = self.shared.pressure.sending();
        let upload = self.upload().await?;
        let number = PartNumber::new(number).ok_or(Error::TooLarge)?;
        let request = UploadPart { upload, number, payload };
        Ok(self.shared.store.upload_part(&request).await?)
    }

    /// The upload of this content, begun by whoever comes first.
    async fn upload(&self) -> Result<Upload> {
        let cell = Arc::clone(&self.lock().upload);
        let (upload, _) = cell
            .get_or_try_init(|| async {
                let destination = with_token(&self.lock().destination);
                let request = CreateUpload {
                    bucket: destination.bucket.clone(),
                    key: destination.key.clone(),
                    properties: destination.properties.clone(),
                };
                self.shared.store.create_upload(&request).await.map(|upload| (upload, destination))
            })
            .await?;
        Ok(upload.clone())
    }

    /// Waits until no part is in flight.
    pub(super) async fn wait_for_parts(&self) {
        loop {
            let done = self.part_done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            let in_flight = self.lock().parts.values().any(|slot| matches!(slot, PartSlot::InFlight));
            if !in_flight {
                return;
            }
            done.await;
        }
    }
}

impl State {
    /// The failure of a part, when one has failed.
    pub(super) fn failure(&self) -> Result<()> {
        let failed = self.parts.values().find_map(|slot| match slot {
            PartSlot::Failed(_, error) => Some(error.clone()),
            _ => None,
        });
        failed.map_or(Ok(()), Err)
    }

    /// The number of the next part.
    pub(super) fn next_part(&self) -> Result<u16> {
        let last = self.parts.last_key_value().map_or(0, |(number, _)| *number);
        if last < MAX_PARTS { Ok(last + 1) } else { Err(Error::TooLarge) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_so_that_ten_thousand_reach_far() {
        let total = |limit: u64| (1..=MAX_PARTS).map(|number| part_bytes(number, limit)).sum::<u64>();
        assert_eq!(part_bytes(1, 512 << 20), 8 << 20);
        assert_eq!(part_bytes(10_000, 128 << 20), 16 << 20);
        assert!(total(128 << 20) > 140 << 30);
        assert!(total(512 << 20) > 480 << 30);
        assert!(
            (1..=MAX_PARTS).all(|n| part_bytes(n, 64 << 20) >= MIN_PART_BYTES && part_bytes(n, 1 << 40).is_multiple_of(1 << 20))
        );
    }
}
