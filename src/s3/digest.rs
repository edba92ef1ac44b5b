//! Checksums of payloads. Pure.

use md5::{Digest as _, Md5};

use crate::base::encode;
use crate::store::Payload;

/// `Content-MD5`.
#[must_use]
pub fn content_md5(bytes: &[u8]) -> String {
    encode::base64(&Md5::digest(bytes))
}

/// The MD5 of a payload.
#[must_use]
pub fn payload_md5(payload: &Payload) -> [u8; 16] {
    let mut md5 = Md5::new();
    payload.chunks().iter().for_each(|chunk| md5.update(chunk));
    md5.finalize().into()
}

/// The MD5 of the parts' MD5s, which S3 makes the tag of what they make.
#[must_use]
pub fn md5_of_md5s<'a>(md5s: impl IntoIterator<Item = &'a [u8; 16]>) -> [u8; 16] {
    let mut md5 = Md5::new();
    md5s.into_iter().for_each(|one| md5.update(one));
    md5.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(encode::base64(&payload_md5(&Payload::from("abc"))), content_md5(b"abc"));
        assert_eq!(content_md5(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
    }
}
