//! The bytes of a sent request, those that lie in an object fetched first: and whether what was fetched is what is there.
//!
//! What is fetched to be sent again becomes part of the new object for good, so a byte that changes on its way would. A store
//! tells what an object adds up to as a whole, not what a range of it does. So the fetch takes along what the request
//! replaces: an object that is sent whole is summed up whole. Of one that is changed in parts, the sum of what was fetched and
//! those of the copied parts, which the store tells, must add up to it; else all that was fetched is fetched once more.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Writer;
use super::parts::{PartSlot, Piece, Sending, Work};
use super::plan::PART_BYTES;
use super::settle::Source;
use crate::base::crc::Crc64;
use crate::data::budget::{Class, PAGE_BYTES, Permit};
use crate::data::{Error, Result};
use crate::store::{self, ByteRange, ErrorKind, GetObject, HeadObject, ObjectStore, Operation, Payload};

/// So much more than what is needed is fetched, at most, so that it can be summed up.
const MAX_MORE_BYTES: u64 = PART_BYTES;

/// The bytes of a request.
#[derive(Debug)]
pub(super) struct Fetched {
    /// All of them.
    pub payload: Payload,
    /// What was fetched for them in one piece from one object.
    pub taken: Option<Taken>,
    /// What the memory of fetched bytes was taken with; to be held as long as they are.
    _paid: (Permit, Option<OwnedSemaphorePermit>),
}

/// A range of an object that a part was made of.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    /// The object.
    pub source: Source,
    /// The range, with what the part has replaced of it.
    pub range: ByteRange,
    /// What it adds up to.
    pub sum: Option<Crc64>,
    /// What to do when that is wrong, where it came this way: a copy was made inside the store.
    pub again: Option<Work>,
}

/// How much of an object is fetched with what is needed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    /// No more.
    Nothing,
    /// What the request replaces.
    Replaced,
    /// All that there is.
    All,
}

/// What is fetched at once for all pieces that lie in an object.
struct Hull {
    source: Source,
    range: ByteRange,
}

impl Hull {
    /// That of `pieces`, which lie in one object at the places where they will be, but for one distance.
    fn of(pieces: &[Piece], along: Along) -> Option<Self> {
        let (mut at, mut needed) = (0, 0);
        let mut found: Option<(&Source, u64, ByteRange)> = None;
        for piece in pieces {
            if let Piece::There(source, range) = piece {
                let origin = range.start().checked_sub(at)?;
                let (first, all) = found.map_or((source, *range), |(first, _, all)| (first, all));
                if !first.is_same(source) || found.is_some_and(|found| found.1 != origin) {
                    return None;
                }
                found = Some((first, origin, ByteRange::new(all.start(), range.end())?));
                needed += range.len();
            }
            at += piece.len();
        }
        let (source, origin, needed_range) = found?;
        let range = match along {
            Along::Nothing => return None,
            // Nothing would tell whether it is right.
            Along::Replaced if source.crc64nvme.is_none() => return None,
            Along::Replaced => ByteRange::new(origin, (origin + at).min(source.size))?,
            Along::All => ByteRange::new(0, source.size)?,
        };
        let holds = range.start() <= needed_range.start() && needed_range.end() <= range.end();
        (holds && range.len() - needed <= MAX_MORE_BYTES).then(|| Self { source: source.clone(), range })
    }

    /// Where `range` of the object is in what was fetched.
    fn slice(&self, range: ByteRange) -> Result<Range<usize>> {
        let place = |offset: u64| usize::try_from(offset - self.range.start()).map_err(|_| Error::TooLarge);
        Ok(place(range.start())?..place(range.end())?)
    }
}

impl<S: ObjectStore> Writer<S> {
    /// All `bytes` of a request, with the permit of those that had to be fetched.
    pub(super) async fn payload(&self, pieces: Vec<Piece>, bytes: u64, along: Along) -> Result<Fetched> {
        let hull = Hull::of(&pieces, along).or_else(|| Hull::of(&pieces, along.less()));
        let apart = pieces.iter().map(|piece| piece.bytes_to_fetch(hull.is_some())).sum::<u64>();
        let to_fetch = apart + hull.as_ref().map_or(0, |hull| hull.range.len());
        let budget = &self.shared.budget;
        let (mut permit, turn) = match budget.try_acquire(Class::Write, to_fetch) {
            Some(permit) => (permit, None),
            None if to_fetch == 0 => (budget.overdraw(Class::Write, 0), None),
            // What is here may lack memory until this has left: so it goes beyond the limit, but one at a time.
            None => {
                let turn = Arc::clone(&self.shared.overdrawn).acquire_owned().await.ok();
                (budget.overdraw(Class::Write, to_fetch), turn)
            }
        };
        let fetched = match &hull {
            Some(hull) => Some(self.fetch_summed(hull).await?),
            None => None,
        };
        let mut chunks = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Here(bytes) => chunks.push(bytes),
                Piece::Away(staged, from, len) => {
                    let page = budget.page(permit.split(len as u64), PAGE_BYTES);
                    chunks.push(staged.read_page(from, len, page).await.map_err(Error::of_staging)?.freeze());
                }
                Piece::There(source, range) => match (&hull, &fetched) {
                    (Some(hull), Some((all, _))) => chunks.push(all.slice(hull.slice(range)?)),
                    _ => chunks.push(self.fetch(&source, range).await?),
                },
            }
        }
        let payload = Payload::new(chunks);
        // Nothing shorter or longer than the file ever leaves, whatever went wrong here.
        if payload.len() != bytes {
            return Err(Error::Incomplete);
        }
        let taken =
            hull.zip(fetched).map(|(Hull { source, range }, (_, sum))| Taken { source, range, sum: Some(sum), again: None });
        Ok(Fetched { payload, taken, _paid: (permit, turn) })
    }

    /// A range of an object, with its sum; a whole one must have the object's.
    async fn fetch_summed(&self, hull: &Hull) -> Result<(Bytes, Crc64)> {
        let Hull { source, range } = hull;
        let whole = range.len() == source.size;
        for last in [false, true] {
            let bytes = match self.fetch(source, *range).await {
                Err(error) if !last && error.kind() == Some(ErrorKind::Corrupt) => continue,
                fetched => fetched?,
            };
            let sum = Crc64::of([&bytes]);
            // What comes whole is compared below, too, with what the answer itself says.
            let right = !whole || source.crc64nvme.is_none_or(|whole| whole == sum);
            if right || !self.is_summed_up(source).await? {
                return Ok((bytes, sum));
            }
        }
        Err(altered(source))
    }

    /// The pieces, with what the object that they come from adds up to: a GET of a range or a listing has not told it.
    pub(super) async fn with_sum(&self, mut pieces: Vec<Piece>) -> Result<Vec<Piece>> {
        let of_unknown = |piece: &Piece| match piece {
            Piece::There(source, _) if source.crc64nvme.is_none() => Some(source.clone()),
            _ => None,
        };
        let Some(source) = pieces.iter().find_map(of_unknown) else { return Ok(pieces) };
        let known = self.lock().sources.iter().find(|stored| stored.pin.is_same(&source)).and_then(|stored| stored.pin.crc64nvme);
        let sum = match known {
            Some(sum) => Some(sum),
            None => {
                let info =
                    self.shared.store.head(&HeadObject { object: source.object.clone() }).await.map_err(Error::of_reading)?;
                info.crc64nvme().filter(|_| info.etag == source.etag)
            }
        };
        if let Some(stored) = self.lock().sources.iter_mut().find(|stored| stored.pin.is_same(&source)) {
            stored.pin.crc64nvme = sum;
        }
        for piece in &mut pieces {
            if let Piece::There(of, _) = piece
                && of.is_same(&source)
            {
                of.crc64nvme = sum;
            }
        }
        Ok(pieces)
    }

    /// Whether the store has the sum beside the object: what it says of a request is about what it has received.
    async fn is_summed_up(&self, source: &Source) -> Result<bool> {
        let request = HeadObject { object: source.object.clone() };
        let info = self.shared.store.head(&request).await.map_err(Error::of_reading)?;
        if info.etag == source.etag { Ok(info.crc64nvme() == source.crc64nvme) } else { Err(Error::Stale) }
    }

    /// Lets the parts fail for which something was fetched that does not add up with the rest of its object; whether some do.
    pub(super) async fn distrust_fetched(&self) -> Result<bool> {
        let suspects = self.lock().sending.suspects();
        let mut believed: Option<(Source, bool)> = None;
        let mut some = false;
        for (number, source, work) in suspects {
            let known = believed.as_ref().filter(|(of, _)| of.is_same(&source)).map(|(_, wrong)| *wrong);
            let wrong = match known {
                Some(wrong) => wrong,
                None => self.is_summed_up(&source).await?,
            };
            if wrong && let Some((_, slot)) = self.lock().sending.parts.get_mut(&number) {
                *slot = PartSlot::Failed(work, altered(&source));
                some = true;
            }
            believed = Some((source, wrong));
        }
        Ok(some)
    }

    async fn fetch(&self, source: &Source, range: ByteRange) -> Result<Bytes> {
        let request = GetObject { object: source.object.clone(), range: Some(range), if_match: Some(source.etag.clone()) };
        let download = self.shared.store.get(&request).await.map_err(Error::of_reading)?;
        let bytes = download.body.collect().await?;
        if bytes.len() as u64 == range.len() { Ok(bytes) } else { Err(Error::Incomplete) }
    }
}

impl Along {
    const fn less(self) -> Self {
        match self {
            Self::All => Self::Replaced,
            Self::Replaced | Self::Nothing => Self::Nothing,
        }
    }
}

impl Sending {
    /// The parts for which something was fetched that does not add up with the rest of its object, and how each was made.
    fn suspects(&self) -> Vec<(u16, Source, Work)> {
        let mut all: Vec<(u16, &Taken)> = Vec::new();
        for (number, (_, slot)) in &self.parts {
            if let PartSlot::Done(_, Some(taken)) = slot {
                all.push((*number, taken));
            }
        }
        all.sort_by_key(|(_, taken)| taken.range.start());
        let mut suspects: Vec<(u16, Source, Work)> = Vec::new();
        let mut seen: Vec<(&Source, bool)> = Vec::new();
        for (number, taken) in &all {
            let (source, Some(work)) = (&taken.source, &taken.again) else { continue };
            let wrong = match seen.iter().find(|(of, _)| of.is_same(source)) {
                Some((_, wrong)) => *wrong,
                None => {
                    let of_source = |(_, taken): &&(u16, &Taken)| taken.source.is_same(source);
                    let sum = sum_of(all.iter().filter(of_source).map(|(_, taken)| *taken));
                    // Where a part has replaced all of its range, or the store says nothing of a copy, nothing can be said.
                    let whole = all.iter().filter(of_source).find_map(|(_, taken)| taken.source.crc64nvme);
                    let wrong = sum.is_some_and(|(sum, end)| end == source.size && whole.is_some_and(|whole| whole != sum));
                    seen.push((source, wrong));
                    wrong
                }
            };
            if wrong {
                suspects.push((*number, source.clone(), work.clone()));
            }
        }
        suspects
    }
}

/// What ranges add up to that follow each other from the beginning, and where they end.
fn sum_of<'a>(mut ranges: impl Iterator<Item = &'a Taken>) -> Option<(Crc64, u64)> {
    ranges.try_fold((Crc64::EMPTY, 0), |(sum, end), Taken { range, sum: next, .. }| {
        (range.start() == end).then_some(())?;
        Some((sum.followed_by((*next)?, range.len()), range.end()))
    })
}

fn altered(source: &Source) -> Error {
    let words = "what was read does not add up to what the store says of the object";
    store::Error::new(ErrorKind::Corrupt, Operation::GetObject, &source.object, words).into()
}
