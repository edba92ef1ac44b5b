//! From where the bytes lie to the cheapest requests that make the object of them. Pure.
//!
//! S3's limits: a part but the last has at least 5 MiB, none more than 5 GiB, and there are at most 10,000. So a short change
//! in the middle borrows from what is beside it, and a file of any size is a few copied ranges and what was changed.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>

use super::extents::{Extents, Place, SourceId};
use crate::data::{Error, Result};
use crate::store::{ByteRange, MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES};

/// The size of the first parts that are sent, in bytes: long enough to hide a round trip, short enough that many are in
/// flight.
pub const PART_BYTES: u64 = 8 << 20;
/// After this many parts the size doubles, and again: small files keep small parts, 10,000 parts reach far.
const PARTS_OF_ONE_SIZE: u16 = 1000;
/// A part may take this fraction of the memory limit.
const MEMORY_DIVISOR: u64 = 8;
/// What is sent in one PUT has at most this many bytes: more goes faster in parts.
const MAX_PUT_BYTES: u64 = 2 * PART_BYTES;
/// A request costs as much as sending so many bytes: at 20 ms and 80 MiB/s, what one round trip takes.
const REQUEST_COST_BYTES: u64 = 1600 << 10;
/// The size of a copied part, in bytes: large, since nothing travels, yet small enough that several run at once.
const COPY_PART_BYTES: u64 = 1 << 30;
/// Copied parts grow so that they use up no more than this many numbers, as long as they can.
const COPIED_PARTS: u64 = 1000;

/// How an object is made of what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// One PUT of all bytes; those that only the store has are fetched.
    Put,
    /// It is another object, or itself, as a whole.
    Copy(SourceId),
    /// A multipart upload.
    Parts(Vec<PlannedPart>),
}

/// One part that is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedPart {
    /// The bytes of the file.
    pub range: ByteRange,
    /// Where they come from.
    pub how: How,
}

/// How a part is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `UploadPart`; what lies in the store only is fetched first.
    Send,
    /// `UploadPartCopy` of the bytes of an object from an offset on.
    Copy(SourceId, u64),
}

/// What a plan must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The mount's memory limit in bytes.
    pub memory_bytes: u64,
    /// Parts that may still be made.
    pub parts: u16,
    /// Whether the store can make a part of a range of an object.
    pub copies: bool,
}

/// Whether the parts that are planned are followed by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// The last one of them is the upload's last, and may be short.
    Nothing,
    /// More will come.
    Follows,
}

/// The size of sent part `number` in a mount with this memory limit.
#[must_use]
pub fn part_bytes(number: u16, memory_bytes: u64) -> u64 {
    let doublings = u32::from((number.saturating_sub(1)) / PARTS_OF_ONE_SIZE).min(10);
    (PART_BYTES << doublings).min(largest_part(memory_bytes))
}

fn largest_part(memory_bytes: u64) -> u64 {
    (memory_bytes / MEMORY_DIVISOR).max(PART_BYTES) >> 20 << 20
}

/// The cheapest legal way to make an object of a whole content. `size_of` tells how long an object is.
///
/// # Errors
/// [`Error::TooLarge`] when the parts do not suffice.
pub fn plan(extents: &Extents, size_of: impl Fn(SourceId) -> u64, limits: Limits) -> Result<Plan> {
    let len = extents.len();
    let mut all = extents.all();
    if let (Some(first), None) = (all.next(), all.next())
        && let Place::Stored { source, at: 0 } = first.place
        && len == size_of(source)
        && len <= MAX_PART_BYTES
    {
        return Ok(Plan::Copy(source));
    }
    if len == 0 {
        return Ok(Plan::Put);
    }
    let parts = divide(extents, 0, len, Rest::Nothing, limits)?;
    if len > MAX_PUT_BYTES {
        return Ok(Plan::Parts(parts));
    }
    let stored = |from, to| {
        let stored = extents.within(from, to).filter(|extent| matches!(extent.place, Place::Stored { .. }));
        stored.map(|extent| extent.range.len()).sum::<u64>()
    };
    let fetched = stored(0, len);
    let put_cost = len + fetched + REQUEST_COST_BYTES * if fetched > 0 { 2 } else { 1 };
    let parts_cost: u64 = parts
        .iter()
        .map(|part| match part.how {
            How::Send => part.range.len() + stored(part.range.start(), part.range.end()) + REQUEST_COST_BYTES,
            How::Copy(..) => REQUEST_COST_BYTES,
        })
        .sum();
    // One request begins an upload, one ends it, and one makes sure that what was copied has not changed.
    let parts_cost = parts_cost + 3 * REQUEST_COST_BYTES;
    Ok(if put_cost <= parts_cost { Plan::Put } else { Plan::Parts(parts) })
}

/// The parts for the bytes `from..to`.
///
/// # Errors
/// [`Error::TooLarge`] when `limits.parts` do not suffice.
pub fn divide(extents: &Extents, from: u64, to: u64, rest: Rest, limits: Limits) -> Result<Vec<PlannedPart>> {
    let largest_sent = largest_part(limits.memory_bytes);
    let mut sizes = Sizes {
        shortest_copy: if limits.copies { MIN_PART_BYTES } else { u64::MAX },
        copy: ((to - from) / COPIED_PARTS).clamp(COPY_PART_BYTES, MAX_PART_BYTES),
        sent: part_bytes(MAX_PARTS - limits.parts + 1, limits.memory_bytes),
        zeros: PART_BYTES,
    };
    loop {
        let parts = parts_of(extents, blocks(extents, from, to, rest, sizes.shortest_copy), sizes);
        if parts.len() <= usize::from(limits.parts) {
            return Ok(parts);
        }
        let before = sizes;
        sizes.copy = (sizes.copy * 2).min(MAX_PART_BYTES);
        sizes.sent = (sizes.sent * 2).min(largest_sent);
        sizes.zeros = (sizes.zeros * 2).min(MAX_PART_BYTES);
        if limits.copies {
            sizes.shortest_copy = (sizes.shortest_copy * 2).min(MAX_PART_BYTES);
        }
        if before == sizes {
            return Err(Error::TooLarge);
        }
    }
}

/// What decides how a file is divided, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    /// A shorter range of an object is fetched and sent.
    shortest_copy: u64,
    /// The longest copied part.
    copy: u64,
    /// The most bytes of memory that a sent part takes, but for what it borrows.
    sent: u64,
    /// The longest sent part: zeros take no memory.
    zeros: u64,
}

/// A run of bytes that is sent, or copied from one object.
#[derive(Debug, Clone, Copy)]
struct Block {
    start: u64,
    end: u64,
    how: How,
}

impl Block {
    const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Takes `bytes` away from its beginning.
    const fn shorten(&mut self, bytes: u64) {
        self.start += bytes;
        if let How::Copy(_, at) = &mut self.how {
            *at += bytes;
        }
    }
}

/// The runs of `from..to`, none of which is too short for a part.
fn blocks(extents: &Extents, from: u64, to: u64, rest: Rest, shortest_copy: u64) -> Vec<Block> {
    let mut raw: Vec<Block> = Vec::new();
    for extent in extents.within(from, to) {
        let (start, end) = (extent.range.start(), extent.range.end());
        // The last part may be short.
        let last = rest == Rest::Nothing && end == to && shortest_copy <= MAX_PART_BYTES;
        match (extent.place, raw.last_mut()) {
            (Place::Stored { source, at }, _) if end - start >= shortest_copy || last => {
                raw.push(Block { start, end, how: How::Copy(source, at) });
            }
            (_, Some(Block { end: before, how: How::Send, .. })) => *before = end,
            _ => raw.push(Block { start, end, how: How::Send }),
        }
    }
    let mut made: Vec<Block> = Vec::with_capacity(raw.len());
    let mut coming = raw.into_iter().peekable();
    while let Some(mut block) = coming.next() {
        if matches!(block.how, How::Send) {
            lengthen(&mut block, &mut made, &mut coming, rest);
        }
        match made.last_mut() {
            Some(last) if matches!((last.how, block.how), (How::Send, How::Send)) => last.end = block.end,
            _ => made.push(block),
        }
    }
    made
}

/// Makes a sent run long enough for a part: of the copied one behind it, or before it, or of all of the former.
fn lengthen(block: &mut Block, made: &mut Vec<Block>, coming: &mut std::iter::Peekable<impl Iterator<Item = Block>>, rest: Rest) {
    while block.len() < MIN_PART_BYTES {
        let missing = MIN_PART_BYTES - block.len();
        let Some(next) = coming.peek_mut() else {
            // The last part may be short, but not when more follows: then it takes of the one before, or all of it.
            if rest == Rest::Nothing {
                return;
            }
            match made.last_mut() {
                Some(before) if before.len() >= missing + MIN_PART_BYTES => {
                    before.end -= missing;
                    block.start -= missing;
                }
                Some(before) => {
                    block.start = before.start;
                    made.pop();
                }
                None => {}
            }
            return;
        };
        let behind = next.len();
        if matches!(next.how, How::Copy(..)) && behind >= missing + MIN_PART_BYTES {
            next.shorten(missing);
            block.end += missing;
            return;
        }
        if let Some(before) = made.last_mut().filter(|before| before.len() >= missing + MIN_PART_BYTES) {
            before.end -= missing;
            block.start -= missing;
            return;
        }
        if let Some(next) = coming.next() {
            block.end = next.end;
        }
    }
}

/// Cuts runs into parts.
fn parts_of(extents: &Extents, blocks: Vec<Block>, sizes: Sizes) -> Vec<PlannedPart> {
    let mut parts = Vec::new();
    for block in blocks {
        match block.how {
            How::Copy(source, at) => {
                let count = block.len().div_ceil(sizes.copy);
                // Of one size, so that none is too short.
                let bytes = block.len().div_ceil(count);
                for start in (block.start..block.end).step_by(usize::try_from(bytes).unwrap_or(usize::MAX)) {
                    let how = How::Copy(source, at + (start - block.start));
                    parts.extend(ByteRange::new(start, (start + bytes).min(block.end)).map(|range| PlannedPart { range, how }));
                }
            }
            How::Send => {
                let mut start = block.start;
                while start < block.end {
                    let end = end_of_sent(extents, start, block.end, sizes);
                    parts.extend(ByteRange::new(start, end).map(|range| PlannedPart { range, how: How::Send }));
                    start = end;
                }
            }
        }
    }
    parts
}

/// Where a sent part that begins at `start` ends; what it would leave of its run is enough for a part, or nothing.
fn end_of_sent(extents: &Extents, start: u64, end: u64, sizes: Sizes) -> u64 {
    let mut taken = 0;
    let mut cut = end.min(start + sizes.zeros.max(sizes.sent));
    for extent in extents.within(start, cut) {
        if extent.place == Place::Zero {
            continue;
        }
        taken += extent.range.len();
        if taken >= sizes.sent {
            cut = extent.range.end() - (taken - sizes.sent);
            break;
        }
    }
    let cut = cut.max(start + MIN_PART_BYTES);
    if cut + MIN_PART_BYTES > end { end } else { cut }
}

#[cfg(test)]
mod tests;
