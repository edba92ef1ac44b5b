//! Checksums of payloads. Pure.

use md5::{Digest as _, Md5};

use crate::base::encode;
use crate::store::Payload;

/// A CRC64NVME of bytes that come one after the other.
#[derive(Debug)]
pub struct Running(crc_fast::Digest);

impl Default for Running {
    fn default() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme))
    }
}

impl Running {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// As `x-amz-checksum-crc64nvme` has it: base64 of the big-endian value.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
    #[must_use]
    pub fn text(&self) -> String {
        encode::base64(&self.0.finalize().to_be_bytes())
    }
}

/// The CRC64NVME of a payload.
#[must_use]
pub fn crc64nvme(payload: &Payload) -> String {
    let mut sum = Running::default();
    payload.chunks().iter().for_each(|chunk| sum.update(chunk));
    sum.text()
}

/// `Content-MD5`.
#[must_use]
pub fn content_md5(bytes: &[u8]) -> String {
    encode::base64(&Md5::digest(bytes))
}

/// `Content-MD5` of a payload.
#[must_use]
pub fn payload_md5(payload: &Payload) -> String {
    let mut md5 = Md5::new();
    payload.chunks().iter().for_each(|chunk| md5.update(chunk));
    encode::base64(&md5.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The check value of CRC-64/NVME for "123456789" is ae8b14860a799888.
        assert_eq!(crc64nvme(&Payload::from("123456789")), encode::base64(&0xae8b_1486_0a79_9888u64.to_be_bytes()));
        assert_eq!(payload_md5(&Payload::from("abc")), content_md5(b"abc"));
        assert_eq!(content_md5(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
    }
}
