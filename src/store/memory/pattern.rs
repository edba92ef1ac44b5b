//! Bytes that exist without being stored: a fixed block repeated for ever, so that a test can read terabytes and know
//! every one of them. Pure but for the block, which is made once.
//!
//! The byte at offset `o` is byte `o % PATTERN_BYTES` of the block; the block is the output of SplitMix64 with seed 0,
//! each word little-endian. The period is a prime, so that no power of two of blocks or parts looks like another one
//! that was swapped with it.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::base::rng::Rng;

/// The period of the pattern, in bytes: the least prime above 1 MiB.
pub const PATTERN_BYTES: u64 = 1_048_583;
/// The largest object that a name can ask for, in bytes: 10,000 parts of 5 GiB.
const MAX_NAMED_BYTES: u64 = 10_000 * (5 << 30);

fn block() -> &'static Bytes {
    static BLOCK: OnceLock<Bytes> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let mut rng = Rng::seeded(0);
        let mut bytes = Vec::with_capacity(PATTERN_BYTES as usize + 8);
        while (bytes.len() as u64) < PATTERN_BYTES {
            bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
        }
        bytes.truncate(PATTERN_BYTES as usize);
        Bytes::from(bytes)
    })
}

/// At most `limit` bytes of the pattern from `offset` on, without a copy; at least one when `limit` is not 0.
pub(super) fn slice(offset: u64, limit: u64) -> Bytes {
    let start = offset % PATTERN_BYTES;
    let end = PATTERN_BYTES.min(start.saturating_add(limit));
    // Both are below the length of the block, which fits in memory.
    block().slice(start as usize..end as usize)
}

/// The bytes that a synthetic object has at `offset`, for comparing with what was read.
#[must_use]
pub fn pattern_at(offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        bytes.extend_from_slice(&slice(offset + bytes.len() as u64, (len - bytes.len()) as u64));
    }
    bytes
}

/// The size that a key names: its last component begins with a decimal number, perhaps `KiB`, `MiB`, `GiB` or `TiB`, and
/// then ends or goes on with something that is neither letter nor digit (`8GiB`, `1048576`, `64MiB-7.bin`).
#[must_use]
pub fn named_size(key: &str) -> Option<u64> {
    let name = key.rsplit('/').next().unwrap_or(key);
    let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    let number: u64 = name[..digits].parse().ok()?;
    let rest = &name[digits..];
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let (unit, rest) =
        units.into_iter().find_map(|(suffix, unit)| rest.strip_prefix(suffix).map(|rest| (unit, rest))).unwrap_or((1, rest));
    let ends = rest.chars().next().is_none_or(|c| !c.is_alphanumeric());
    number.checked_mul(unit).filter(|size| ends && *size <= MAX_NAMED_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_name_sizes() {
        for (key, size) in [
            ("8GiB", Some(8 << 30)),
            ("a/b/1048576", Some(1 << 20)),
            ("64MiB-7.bin", Some(64 << 20)),
            ("0.txt", Some(0)),
            ("1KiB", Some(1024)),
            ("3x", None),
            ("7KB", None),
            ("file", None),
            ("8GiB/", None),
            ("99999TiB", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(named_size(key), size, "{key}");
        }
    }

    #[test]
    fn any_cut_of_the_pattern_agrees_with_the_whole() {
        let whole = pattern_at(0, 3 * PATTERN_BYTES as usize);
        for (offset, len) in [(0, 10), (PATTERN_BYTES - 3, 10), (PATTERN_BYTES, 5), (2 * PATTERN_BYTES - 1, 2)] {
            assert_eq!(pattern_at(offset, len), &whole[offset as usize..offset as usize + len]);
        }
        assert_eq!(whole[..8], 0xE220_A839_7B1D_CDAF_u64.to_le_bytes());
        assert_eq!(slice(PATTERN_BYTES - 3, 10).len(), 3, "a slice ends with the block");
    }
}
