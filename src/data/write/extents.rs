//! Where each byte of a file that is written lies. Pure.
//!
//! The extents cover `0..len` without a gap, and neighbours that continue each other are one. An edit touches only the
//! extents it meets, so a file of any size costs what was changed in it.

use std::collections::BTreeMap;

use crate::store::ByteRange;

/// The number of an object that bytes are taken from, among those that a content refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(pub usize);

/// Where bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In an object that the store has, from `at` on.
    Stored {
        /// Which object.
        source: SourceId,
        /// The offset of the first byte in it.
        at: u64,
    },
    /// Here: in memory, or in the staging file.
    Staged,
    /// In a part that was sent: not to be read back before the upload is complete.
    Sent,
    /// Nowhere: they are zero.
    Zero,
}

impl Place {
    /// The place of what comes `bytes` later.
    #[must_use]
    pub const fn after(self, bytes: u64) -> Self {
        match self {
            Self::Stored { source, at } => Self::Stored { source, at: at + bytes },
            other => other,
        }
    }
}

/// Bytes of the file that lie in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Which bytes of the file.
    pub range: ByteRange,
    /// Where they lie.
    pub place: Place,
}

/// All extents of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extents {
    /// By first byte; each ends where the next begins, the last at `len`.
    starts: BTreeMap<u64, Place>,
    len: u64,
}

impl Extents {
    /// A file that is the object `source`, `len` bytes long.
    #[must_use]
    pub fn of_object(source: SourceId, len: u64) -> Self {
        let mut extents = Self::default();
        if let Some(all) = ByteRange::new(0, len) {
            extents.set(all, Place::Stored { source, at: 0 });
        }
        extents
    }

    /// The length of the file in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many extents there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Says where the bytes of `range` are from now on; what lies between the old end and it is zero.
    pub fn set(&mut self, range: ByteRange, place: Place) {
        if range.start() > self.len {
            self.starts.insert(self.len, Place::Zero);
            let hole = self.len;
            self.len = range.start();
            self.join(hole);
        }
        if range.end() < self.len {
            self.split(range.end());
        }
        self.split(range.start());
        // As a rule what is replaced is one extent: then nothing is allocated.
        while let Some((&start, _)) = self.starts.range(range.start()..range.end()).next() {
            self.starts.remove(&start);
        }
        self.len = self.len.max(range.end());
        self.starts.insert(range.start(), place);
        self.join(range.end());
        self.join(range.start());
    }

    /// Cuts the file, or extends it with zeros.
    pub fn truncate(&mut self, len: u64) {
        if let Some(grown) = ByteRange::new(self.len, len) {
            self.set(grown, Place::Zero);
        } else {
            drop(self.starts.split_off(&len));
            self.len = len;
        }
    }

    /// The extents of `from..to` in order, cut to it.
    pub fn within(&self, from: u64, to: u64) -> impl Iterator<Item = Extent> + '_ {
        let to = to.min(self.len);
        let first = self.starts.range(..=from).next_back().map_or(from, |(start, _)| *start);
        let mut starts = self.starts.range(first..).peekable();
        std::iter::from_fn(move || {
            loop {
                let (&start, &place) = starts.next()?;
                let end = starts.peek().map_or(self.len, |(next, _)| **next);
                let cut = start.max(from);
                if start >= to {
                    return None;
                }
                if let Some(range) = ByteRange::new(cut, end.min(to)) {
                    return Some(Extent { range, place: place.after(cut - start) });
                }
            }
        })
    }

    /// All extents in order.
    pub fn all(&self) -> impl Iterator<Item = Extent> + '_ {
        self.within(0, self.len)
    }

    /// Whether any byte of `from..to` lies where `wanted` says.
    #[must_use]
    pub fn any(&self, from: u64, to: u64, wanted: impl Fn(Place) -> bool) -> bool {
        self.within(from, to).any(|extent| wanted(extent.place))
    }

    /// The first byte at or after `offset` that is data, or is none: for `SEEK_DATA` and `SEEK_HOLE`. The end of the file
    /// is a hole.
    #[must_use]
    pub fn seek(&self, offset: u64, wanted: Seek) -> Option<u64> {
        if offset >= self.len {
            return None;
        }
        let found = self.within(offset, self.len).find(|extent| (extent.place == Place::Zero) == (wanted == Seek::Hole));
        match (found, wanted) {
            (Some(extent), _) => Some(extent.range.start()),
            (None, Seek::Hole) => Some(self.len),
            (None, Seek::Data) => None,
        }
    }

    /// Makes `at` the beginning of an extent.
    fn split(&mut self, at: u64) {
        if at >= self.len {
            return;
        }
        let Some((&start, &place)) = self.starts.range(..=at).next_back() else { return };
        if start < at {
            self.starts.insert(at, place.after(at - start));
        }
    }

    /// Makes one of the extents that meet at `at`, when the second continues the first.
    fn join(&mut self, at: u64) {
        let Some(&second) = self.starts.get(&at) else { return };
        let Some((&start, &first)) = self.starts.range(..at).next_back() else { return };
        if first.after(at - start) == second {
            self.starts.remove(&at);
        }
    }
}

/// What is looked for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// Bytes.
    Data,
    /// Zeros that nobody wrote.
    Hole,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBJECT: SourceId = SourceId(0);

    /// The oracle: the place of every single byte.
    fn bytes_of(extents: &Extents) -> Vec<Place> {
        extents.all().flat_map(|extent| (0..extent.range.len()).map(move |n| extent.place.after(n))).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(u64, u64, Place),
        Truncate(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = prop_oneof![
            Just(Place::Staged),
            Just(Place::Sent),
            Just(Place::Zero),
            (0..2usize, 0..200u64).prop_map(|(source, at)| Place::Stored { source: SourceId(source), at }),
        ];
        prop_oneof![
            4 => (0..120u64, 1..60u64, place).prop_map(|(at, len, place)| Step::Set(at, len, place)),
            1 => (0..150u64).prop_map(Step::Truncate),
        ]
    }

    proptest! {
        #[test]
        fn extents_say_of_every_byte_what_a_vector_would(base in 0..150u64, steps in proptest::collection::vec(step(), 0..30)) {
            let mut extents = Extents::of_object(OBJECT, base);
            let mut oracle: Vec<Place> = (0..base).map(|at| Place::Stored { source: OBJECT, at }).collect();
            for step in steps {
                match step {
                    Step::Set(at, len, place) => {
                        extents.set(ByteRange::new(at, at + len).unwrap(), place);
                        oracle.resize(oracle.len().max((at + len) as usize), Place::Zero);
                        for n in 0..len {
                            oracle[(at + n) as usize] = place.after(n);
                        }
                    }
                    Step::Truncate(len) => {
                        extents.truncate(len);
                        oracle.resize(len as usize, Place::Zero);
                    }
                }
                prop_assert_eq!(&bytes_of(&extents), &oracle);
                prop_assert_eq!(extents.len(), oracle.len() as u64);
                let all: Vec<Extent> = extents.all().collect();
                for pair in all.windows(2) {
                    prop_assert_eq!(pair[0].range.end(), pair[1].range.start());
                    prop_assert_ne!(pair[0].place.after(pair[0].range.len()), pair[1].place, "neighbours that could be one");
                }
                for from in [0, 1, 40, 99] {
                    let some: u64 = extents.within(from, from + 30).map(|extent| extent.range.len()).sum();
                    prop_assert_eq!(some, (from + 30).min(extents.len()).saturating_sub(from));
                    let hole = (from..extents.len()).find(|at| oracle[*at as usize] == Place::Zero);
                    let data = (from..extents.len()).find(|at| oracle[*at as usize] != Place::Zero);
                    let inside = from < extents.len();
                    prop_assert_eq!(extents.seek(from, Seek::Hole), inside.then(|| hole.unwrap_or(extents.len())));
                    prop_assert_eq!(extents.seek(from, Seek::Data), data);
                }
            }
        }
    }
}
