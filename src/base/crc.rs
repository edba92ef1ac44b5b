//! CRC64NVME: the checksum that S3 keeps of whole objects, and that parts add up to.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

use super::encode;

/// A CRC64NVME.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crc64(u64);

impl Crc64 {
    /// Of nothing.
    pub const EMPTY: Self = Self(0);

    /// Of bytes that come in pieces.
    pub fn of(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut sum = Running::default();
        pieces.into_iter().for_each(|piece| sum.update(piece.as_ref()));
        sum.value()
    }

    /// Reads base64 of the big-endian value, as `x-amz-checksum-crc64nvme` has it. `None` for anything else: moto 5 says
    /// something shorter there.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        encode::base64_decode(text)?.try_into().ok().map(u64::from_be_bytes).map(Self)
    }

    /// The big-endian value.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Of these bytes, and behind them `len` others that have the sum `next`.
    #[must_use]
    pub fn followed_by(self, next: Self, len: u64) -> Self {
        Self(checksum_combine(CrcAlgorithm::Crc64Nvme, self.0, next.0, len))
    }
}

impl fmt::Display for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode::base64(&self.to_bytes()))
    }
}

impl fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc64({self})")
    }
}

/// A CRC64NVME of bytes that come one after the other.
#[derive(Debug)]
pub struct Running(Digest);

impl Default for Running {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }
}

impl Running {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all bytes so far.
    #[must_use]
    pub fn value(&self) -> Crc64 {
        Crc64(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values_and_their_text() {
        // The check value of CRC-64/NVME.
        let sum = Crc64::of(["1234", "56789"]);
        assert_eq!(sum, Crc64(0xae8b_1486_0a79_9888));
        assert_eq!(Crc64::parse(&sum.to_string()), Some(sum));
        assert_eq!(Crc64::of([""]), Crc64::EMPTY);
        for other in ["tvhs8g==", "", "no base64", "AAAAAAAAAAAA"] {
            assert_eq!(Crc64::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let whole = Crc64::of([pieces.concat()]);
            let sum = pieces.iter().fold(Crc64::EMPTY, |sum, piece| sum.followed_by(Crc64::of([piece]), piece.len() as u64));
            prop_assert_eq!(sum, whole);
        }
    }
}
