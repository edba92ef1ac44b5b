//! Randomness that is not for secrets: retry jitter, commit tokens, names of temporary files.
//! A generator is a value with a seed, so that a test can repeat what it saw.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64 (Steele, Lea, Flood 2014): tiny, seedable, passes `BigCrush`. Not for keys or signatures.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator seeded by the operating system (through the standard library's hash keys).
    #[must_use]
    pub fn from_os() -> Self {
        Self(RandomState::new().hash_one(std::process::id()))
    }

    /// The next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 for a bound of 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// 128 random bits as 32 hex digits: unique among all that will ever be drawn.
    pub fn token(&mut self) -> String {
        format!("{:016x}{:016x}", self.next_u64(), self.next_u64())
    }
}

/// A fresh random token of 32 hex digits from the operating system's seed.
#[must_use]
pub fn token() -> String {
    Rng::from_os().token()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_sequence_and_tokens_differ() {
        assert_eq!(Rng::seeded(0).next_u64(), 0xE220_A839_7B1D_CDAF, "published first output for seed 0");
        assert_ne!(token(), token());
        assert_eq!(token().len(), 32);
        assert!((0..1000).all(|seed| Rng::seeded(seed).below(7) < 7));
    }
}
