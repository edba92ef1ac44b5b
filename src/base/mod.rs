//! Layer 0: clock, randomness, codecs, task spawning. No domain knowledge.

pub mod clock;
pub mod crc;
pub mod date;
pub mod encode;
pub mod hoard;
pub mod records;
pub mod rng;
pub mod tasks;
pub mod xml;
