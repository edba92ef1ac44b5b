//! The bytes of an object or part: the chunks they came in, never flattened, or the synthetic pattern.
//! Reading gives slices of what is there; nothing is copied. Pure.

use std::sync::Arc;

use bytes::Bytes;
use md5::Digest as _;

use super::pattern;
use crate::base::crc::Crc64;
use crate::store::{ByteRange, Payload};

/// The largest chunk that a reader is given, in bytes: small enough that a slow reader holds little.
const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Immutable bytes, cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Chunks, each with the offset it begins at; none is empty.
    Stored { chunks: Arc<[(u64, Bytes)]>, len: u64 },
    /// The pattern from its beginning.
    Pattern { len: u64 },
}

impl Content {
    /// Keeps the chunks as they are.
    pub(super) fn stored(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        let mut len = 0;
        let chunks = chunks
            .into_iter()
            .filter(|chunk| !chunk.is_empty())
            .map(|chunk| {
                let start = len;
                len += chunk.len() as u64;
                (start, chunk)
            })
            .collect();
        Self::Stored { chunks, len }
    }

    /// Keeps the payload's chunks.
    pub(super) fn of(payload: &Payload) -> Self {
        Self::stored(payload.chunks().iter().cloned())
    }

    /// One content after the other. Where one of them is a pattern, all of it is.
    pub(super) fn concat(parts: &[Self]) -> Self {
        let len = parts.iter().map(Self::len).sum();
        if parts.iter().any(|part| matches!(part, Self::Pattern { .. })) {
            return Self::Pattern { len };
        }
        Self::stored(parts.iter().flat_map(|part| part.read(0, part.len())))
    }

    /// The bytes of `range` as a content of their own.
    pub(super) fn cut(&self, range: ByteRange) -> Self {
        match self {
            Self::Stored { .. } => Self::stored(self.read(range.start(), range.end())),
            Self::Pattern { .. } => Self::Pattern { len: range.len() },
        }
    }

    /// Bytes in all.
    pub(super) const fn len(&self) -> u64 {
        match self {
            Self::Stored { len, .. } | Self::Pattern { len } => *len,
        }
    }

    /// The chunks of `start..end`, as slices. `end` must not be past the end.
    pub(super) fn read(&self, start: u64, end: u64) -> Reader {
        let next = match self {
            Self::Stored { chunks, .. } => chunks.partition_point(|(begin, _)| *begin <= start).saturating_sub(1),
            Self::Pattern { .. } => 0,
        };
        Reader { content: self.clone(), next, at: start, end: end.min(self.len()) }
    }

    /// CRC64NVME; `None` for the pattern, which would take as long to sum as its size asks for.
    pub(super) fn crc64nvme(&self) -> Option<Crc64> {
        let Self::Stored { chunks, .. } = self else { return None };
        Some(Crc64::of(chunks.iter().map(|(_, chunk)| chunk)))
    }

    /// MD5; `None` for the pattern.
    pub(super) fn md5(&self) -> Option<[u8; 16]> {
        let Self::Stored { chunks, .. } = self else { return None };
        let mut digest = md5::Md5::new();
        chunks.iter().for_each(|(_, chunk)| digest.update(chunk));
        Some(digest.finalize().into())
    }
}

/// The bytes of an opened object: slices of at most 1 MiB, without a copy.
#[derive(Debug)]
pub struct Reader {
    content: Content,
    next: usize,
    at: u64,
    end: u64,
}

impl Reader {
    /// Bytes still to come.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// The bytes of `range` of the same object, whatever was read; what is past the end is left out.
    #[must_use]
    pub fn narrow(self, range: ByteRange) -> Self {
        self.content.read(range.start(), range.end())
    }
}

impl Iterator for Reader {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let left = self.remaining().min(MAX_CHUNK_BYTES as u64);
        if left == 0 {
            return None;
        }
        let slice = match &self.content {
            Content::Pattern { .. } => pattern::slice(self.at, left),
            Content::Stored { chunks, .. } => {
                let (begin, chunk) = chunks.get(self.next)?;
                // Offsets inside one chunk fit in memory.
                let from = (self.at - begin) as usize;
                let to = chunk.len().min(from + left as usize);
                if to == chunk.len() {
                    self.next += 1;
                }
                chunk.slice(from..to)
            }
        };
        self.at += slice.len() as u64;
        Some(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_reads_as_the_whole_does() {
        let chunks = ["", "abc", "d", "", "efghij"];
        let content = Content::stored(chunks.map(|text| Bytes::from_static(text.as_bytes())));
        let whole = b"abcdefghij";
        assert_eq!(content.len(), 10);
        for start in 0..=10 {
            for end in start..=10 {
                let read: Vec<u8> = content.read(start, end).flatten().collect();
                assert_eq!(read, &whole[start as usize..end as usize], "{start}..{end}");
            }
        }
        let joined = Content::concat(&[content.clone(), content.cut(ByteRange::new(2, 5).unwrap())]);
        assert_eq!(joined.read(0, 99).flatten().collect::<Vec<u8>>(), b"abcdefghijcde");
    }

    #[test]
    fn large_chunks_are_read_in_pieces_without_a_copy() {
        let bytes = Bytes::from(vec![7; 3 * MAX_CHUNK_BYTES]);
        let content = Content::stored([bytes.clone()]);
        let pieces: Vec<Bytes> = content.read(1, bytes.len() as u64).collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0].as_ptr(), bytes[1..].as_ptr());
    }
}
