//! Parts that leave while a file is written, or at its commit: when they are cut, how they are made, what is kept until they
//! are safe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::commit::with_token;
use super::extents::{Extent, Place};
use super::fetch::{Along, Fetched, Taken};
use super::pages::{Share, zeros};
use super::plan::{How, PlannedPart, Rest, divide, part_bytes};
use super::settle::Source;
use super::staging::Staged;
use super::{Destination, State, Streams, Writer};
use crate::base::tasks;
use crate::data::budget::PAGE_BYTES;
use crate::data::{Error, Result};
use crate::store::{
    ByteRange, CopyPart, CreateUpload, ErrorKind, MAX_PARTS, MIN_PART_BYTES, ObjectStore, Part, PartNumber, Upload, UploadPart,
};

/// Before parts leave that begin with bytes which were not just written, so many parts' worth must follow: who writes here
/// and there shall not find that what he changes has left.
const PARTS_TO_BE_SURE: u64 = 4;
/// A range that the store does not copy is read and sent up to this size, in bytes, when it was to be one part.
const MAX_READ_PART_BYTES: u64 = 256 << 20;

/// What has left.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The upload, begun by the first part that leaves, and the destination it was begun with.
    pub upload: Arc<OnceCell<(Upload, Destination)>>,
    /// How often it could not be begun, and why not the last time.
    pub not_begun: (u32, Option<Error>),
    /// The parts, which are the bytes `0..end`, and those of the tail.
    pub parts: BTreeMap<u16, (ByteRange, PartSlot)>,
    /// Bytes before this one can be changed no more.
    pub end: u64,
    /// The first part of those made by a commit that failed, and the generation they are of.
    pub tail: Option<(u16, u64)>,
    /// The highest number that a part has had. None has it again: a request for the earlier one may still arrive.
    last_number: u16,
}

/// Where one part is.
#[derive(Debug, Clone)]
pub(super) enum PartSlot {
    /// On its way; its task keeps the bytes for another try.
    InFlight,
    /// The store refused it or did not answer.
    Failed(Work, Error),
    /// The store has it; what it was copied from or fetched for it.
    Done(Part, Option<Taken>),
}

/// What a part is made of.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Bytes that are sent.
    Send(Vec<Piece>),
    /// A range of an object, copied inside the store.
    Copy(Source, ByteRange),
}

/// Bytes of a sent part.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// They are here.
    Here(Bytes),
    /// They are in the staging file: so many from that one on.
    Away(Arc<Staged>, usize, usize),
    /// They are in an object.
    There(Source, ByteRange),
}

impl<S: ObjectStore> Writer<S> {
    /// Sends what makes a whole part and has bytes after it: a file of one part's size stays a single PUT.
    pub(super) fn cut_parts(self: &Arc<Self>, state: &mut State<S>) {
        while state.streams == Streams::Yes && state.run.1 == state.extents.len() {
            let Some(number) = state.sending.next_number() else { return };
            let size = part_bytes(number, self.shared.budget.limit());
            let start = state.run.0.max(state.sending.end);
            let enough = if start > state.sending.end { PARTS_TO_BE_SURE * size } else { size };
            let to = (start + size) / PAGE_BYTES as u64 * PAGE_BYTES as u64;
            if state.run.1 - start <= enough || !self.cut(state, to) {
                return;
            }
        }
    }

    /// Sends what may leave at all, because memory is short; whether anything may.
    pub(super) fn cut_early(self: &Arc<Self>, state: &mut State<S>) -> bool {
        let start = state.run.0.max(state.sending.end);
        let to = state.run.1 / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let may = state.streams == Streams::Yes && state.run.1 == state.extents.len() && to >= start + MIN_PART_BYTES;
        may && self.cut(state, to)
    }

    /// Sends the bytes up to `to` as the next parts; whether the parts that there may be suffice.
    fn cut(self: &Arc<Self>, state: &mut State<S>, to: u64) -> bool {
        // What follows takes its place.
        state.sending.drop_tail();
        let from = state.sending.end;
        let Ok(parts) = divide(&state.extents, from, to, Rest::Follows, self.limits(state)) else { return false };
        self.launch_all(state, &parts);
        if state.appended_only {
            // The bytes stay: they may be needed behind what another client makes meanwhile.
            state.sending.end = to;
        } else {
            state.mark_sent(to);
        }
        true
    }

    /// Makes the planned parts, with the next numbers.
    pub(super) fn launch_all(self: &Arc<Self>, state: &mut State<S>, parts: &[PlannedPart]) {
        for part in parts {
            let Some(number) = state.sending.next_number() else { return };
            let work = state.work(part);
            self.launch(state, number, part.range, work);
        }
    }

    /// Makes the parts that have failed again.
    pub(super) fn relaunch_failed(self: &Arc<Self>, state: &mut State<S>) {
        let failed: Vec<(u16, ByteRange, Work)> = state
            .sending
            .parts
            .iter()
            .filter_map(|(number, (range, slot))| match slot {
                PartSlot::Failed(work, _) => Some((*number, *range, work.clone())),
                _ => None,
            })
            .collect();
        for (number, range, work) in failed {
            self.launch(state, number, range, work);
        }
    }

    fn launch(self: &Arc<Self>, state: &mut State<S>, number: u16, range: ByteRange, work: Work) {
        state.sending.parts.insert(number, (range, PartSlot::InFlight));
        state.sending.last_number = state.sending.last_number.max(number);
        let (writer, upload) = (Arc::clone(self), Arc::clone(&state.sending.upload));
        tasks::spawn(async move {
            let slot = match writer.make(number, range.len(), &work).await {
                Ok((part, taken)) => PartSlot::Done(part, taken),
                Err(error) => PartSlot::Failed(work, error),
            };
            {
                let sending = &mut writer.lock().sending;
                // It may have been given up, with its upload or as part of a tail.
                if let Some((_, waiting @ PartSlot::InFlight)) = sending.parts.get_mut(&number)
                    && Arc::ptr_eq(&sending.upload, &upload)
                {
                    *waiting = slot;
                }
            }
            writer.part_done.notify_waiters();
        });
    }

    async fn make(&self, number: u16, bytes: u64, work: &Work) -> Result<(Part, Option<Taken>)> {
        // The slots are never closed, so there is always one in the end.
        let _slot = self.shared.slots.acquire().await;
        let _sending = self.shared.pressure.sending();
        let upload = self.upload().await?;
        let number = PartNumber::new(number).ok_or(Error::TooLarge)?;
        let pieces = match work {
            Work::Send(pieces) => pieces.clone(),
            Work::Copy(source, range) => {
                let request = CopyPart {
                    upload: upload.clone(),
                    number,
                    source: source.object.clone(),
                    source_if_match: Some(source.etag.clone()),
                    range: *range,
                };
                match self.shared.store.copy_part(&request).await {
                    Err(error) if error.kind() == ErrorKind::Unsupported && range.len() <= MAX_READ_PART_BYTES => {
                        self.shared.copies.store(false, Ordering::Relaxed);
                        vec![Piece::There(source.clone(), *range)]
                    }
                    copied => {
                        let part = copied.map_err(Error::of_reading)?;
                        let taken = Taken { source: source.clone(), range: *range, sum: part.crc64nvme, again: None };
                        return Ok((part, Some(taken)));
                    }
                }
            }
        };
        // Without sums of the parts that of the whole helps nobody.
        let pieces = if upload.declares_checksums { self.with_sum(pieces).await? } else { pieces };
        let Fetched { payload, taken, .. } = &self.payload(pieces, bytes, Along::Replaced).await?;
        let part = self.shared.store.upload_part(&UploadPart { upload, number, payload: payload.clone() }).await?;
        Ok((part, taken.clone().map(|taken| Taken { again: Some(work.clone()), ..taken })))
    }

    /// The upload of this content, begun by whoever comes first. When that fails it has failed for all who have waited: each
    /// request that is not answered may leave an upload behind.
    async fn upload(&self) -> Result<Upload> {
        let (cell, failures) = {
            let sending = &self.lock().sending;
            (Arc::clone(&sending.upload), sending.not_begun.0)
        };
        let (upload, _) = cell
            .get_or_try_init(|| async {
                let destination = {
                    let state = self.lock();
                    match &state.sending.not_begun {
                        (count, Some(error)) if *count > failures => return Err(error.clone()),
                        _ => with_token(&state.destination),
                    }
                };
                let request = CreateUpload {
                    bucket: destination.bucket.clone(),
                    key: destination.key.clone(),
                    properties: destination.properties.clone(),
                };
                let begun = self.shared.store.create_upload(&request).await.map_err(Error::from);
                if let Err(error) = &begun {
                    self.lock().sending.not_begun = (failures + 1, Some(error.clone()));
                }
                Ok((begun?, destination))
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
            let in_flight = self.lock().sending.parts.values().any(|(_, slot)| matches!(slot, PartSlot::InFlight));
            if !in_flight {
                return;
            }
            done.await;
        }
    }
}

impl Piece {
    pub(super) const fn len(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Away(_, _, len) => *len as u64,
            Self::There(_, range) => range.len(),
        }
    }

    /// What is fetched for it alone, when what lies in objects is fetched `at_once` for all, or not.
    pub(super) const fn bytes_to_fetch(&self, at_once: bool) -> u64 {
        match self {
            Self::Here(_) => 0,
            Self::There(..) if at_once => 0,
            Self::Away(..) | Self::There(..) => self.len(),
        }
    }
}

impl From<Share> for Piece {
    fn from(share: Share) -> Self {
        match share {
            Share::Bytes(bytes) => Self::Here(bytes),
            Share::Away(staged, from, len) => Self::Away(staged, from, len),
        }
    }
}

impl<S: ObjectStore> State<S> {
    /// What a planned part is made of.
    fn work(&mut self, part: &PlannedPart) -> Work {
        match part.how {
            How::Send => Work::Send(self.pieces(part.range)),
            How::Copy(source, at) => {
                let range = ByteRange::new(at, at + part.range.len()).unwrap_or(part.range);
                Work::Copy(self.sources[source.0].pin.clone(), range)
            }
        }
    }

    /// The bytes of `range`, where they are.
    pub(super) fn pieces(&mut self, range: ByteRange) -> Vec<Piece> {
        let extents: Vec<Extent> = self.extents.within(range.start(), range.end()).collect();
        let mut pieces = Vec::new();
        for Extent { range, place } in extents {
            match place {
                Place::Staged | Place::Sent => pieces.extend(self.pages.share(range).into_iter().map(Piece::from)),
                Place::Zero => pieces.extend(zeros(range.len()).into_iter().map(Piece::Here)),
                Place::Stored { source, at } => {
                    let source = self.sources[source.0].pin.clone();
                    pieces.extend(ByteRange::new(at, at + range.len()).map(|range| Piece::There(source, range)));
                }
            }
        }
        pieces
    }

    /// What was staged before `to` has left.
    pub(super) fn mark_sent(&mut self, to: u64) {
        let staged: Vec<Extent> = self.extents.within(0, to).filter(|extent| extent.place == Place::Staged).collect();
        for extent in staged {
            self.extents.set(extent.range, Place::Sent);
        }
        self.pages.forget(0, to);
        self.sending.end = to;
    }
}

impl Sending {
    /// The parts in order, and the objects that some of them were copied from.
    pub(super) fn finished(&self) -> Result<(Vec<Part>, Vec<Source>)> {
        let mut end = 0;
        let parts = self.parts.values().map(|(range, slot)| match slot {
            // In order, and without a gap: the sizes alone do not tell.
            _ if std::mem::replace(&mut end, range.end()) != range.start() => Err(Error::Incomplete),
            PartSlot::Done(part, _) => Ok(part.clone()),
            PartSlot::Failed(_, error) => Err(error.clone()),
            PartSlot::InFlight => unreachable!("waited for, and the gate keeps writers out"),
        });
        let parts = parts.collect::<Result<Vec<Part>>>()?;
        let mut sources: Vec<Source> = Vec::new();
        for (_, slot) in self.parts.values() {
            if let PartSlot::Done(_, Some(Taken { source, again: None, .. })) = slot
                && !sources.contains(source)
            {
                sources.push(source.clone());
            }
        }
        Ok((parts, sources))
    }

    /// The failure of a part, when one has failed.
    pub(super) fn failure(&self) -> Result<()> {
        let failed = self.parts.values().find_map(|(_, slot)| match slot {
            PartSlot::Failed(_, error) => Some(error.clone()),
            _ => None,
        });
        failed.map_or(Ok(()), Err)
    }

    /// The number of the last part that was begun.
    pub(super) const fn last_number(&self) -> u16 {
        self.last_number
    }

    /// Gives up the parts that a commit which failed has made of the content's end.
    pub(super) fn drop_tail(&mut self) {
        if let Some((first, _)) = self.tail.take() {
            drop(self.parts.split_off(&first));
        }
    }

    fn next_number(&self) -> Option<u16> {
        Some(self.last_number() + 1).filter(|next| *next <= MAX_PARTS)
    }
}
