//! User metadata as extended attributes: which name and value each has on the other side. Pure.
//!
//! `user.NAME` is kept under NAME where S3 brings that back as it was; every other byte, and a name that would carry a file's
//! attributes, is percent-encoded in lower-case hex. A name of S3 that is no such form is shown as `user.s3.meta.NAME`, so
//! that each has exactly one attribute. Values are text, and travel as such or as RFC 2047 words;
//! bytes that are no text, as a word of our own charset.

use percent_encoding::percent_decode_str;

use super::posix;
use crate::base::encode;
use crate::store::Metadata;

/// The most user metadata that S3 takes, names and values together, in bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
const MAX_METADATA_BYTES: usize = 2048;
/// The longest name of an extended attribute, in bytes (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME_BYTES: usize = 255;
/// Prefix of the attributes that have S3's own names of metadata.
pub const META_PREFIX: &str = "user.s3.meta.";
/// What is no text is marked by this charset, which is none.
const BINARY: &str = "=?x-binary?B?";
const END: &str = "?=";

/// Why a name or value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// S3 has no room for it.
    #[error("the user metadata would be {0} bytes, and S3 takes 2,048")]
    TooMuch(usize),
}

/// The name in S3 of the attribute `user.{name}`.
#[must_use]
pub fn stored_name(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let mut stored = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if plain(byte) && !(at == 0 && posix::is_reserved(name)) {
            stored.push(char::from(byte));
        } else {
            stored.push('%');
            stored.push_str(&encode::hex(&[byte]));
        }
    }
    stored
}

/// The whole name of the attribute that shows the metadata `stored`; `None` when no attribute can have it.
#[must_use]
pub fn shown_name(stored: &str) -> Option<String> {
    let decoded = percent_decode_str(stored).decode_utf8().ok();
    let ours = |name: &str| name == "s3" || name.starts_with("s3.") || name.starts_with("pailfs.");
    let plain = decoded.filter(|name| !name.is_empty() && !name.contains('\0') && !ours(name) && stored_name(name) == stored);
    let shown = plain.map_or_else(|| format!("{META_PREFIX}{stored}"), |name| format!("user.{name}"));
    (shown.len() <= MAX_XATTR_NAME_BYTES).then_some(shown)
}

/// The text under which S3 keeps a value, as it travels.
#[must_use]
pub fn stored_value(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.starts_with(BINARY) => encode::word(text),
        _ => encode::word(&format!("{BINARY}{}{END}", encode::base64(value))),
    }
}

/// The value that S3 keeps under `text`.
#[must_use]
pub fn shown_value(text: &str) -> Vec<u8> {
    let text = encode::unword(text);
    let binary = text.strip_prefix(BINARY).and_then(|rest| rest.strip_suffix(END)).and_then(encode::base64_decode);
    binary.unwrap_or_else(|| text.into_owned().into_bytes())
}

/// Checks a name that somebody gives metadata in S3's own spelling.
///
/// # Errors
/// [`Refused::Invalid`].
pub fn check_name(name: &str) -> Result<(), Refused> {
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.!#$%&'*+^`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Refused::Invalid(format!(
            "'{name}' cannot be a metadata name: use lower-case letters, digits, '-' and '.' (upper case does not survive S3), or \
             user.NAME, which encodes the rest"
        )));
    }
    Ok(())
}

/// Checks that metadata as a whole fits S3.
///
/// # Errors
/// [`Refused::TooMuch`].
pub fn check_size(metadata: &Metadata) -> Result<(), Refused> {
    let bytes = metadata.iter().map(|(name, value)| name.len() + encode::ascii(value).len()).sum();
    if bytes > MAX_METADATA_BYTES { Err(Refused::TooMuch(bytes)) } else { Ok(()) }
}

/// The user metadata that users see: not what carries attributes.
pub fn visible(metadata: &Metadata) -> impl Iterator<Item = (&str, &str)> {
    metadata.iter().filter(|(name, _)| !posix::is_reserved(name)).map(|(name, value)| (name.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_by_the_table() {
        for (name, stored) in [
            ("colour", "colour"),
            ("a-b.c", "a-b.c"),
            ("Colour", "%43olour"),
            ("a_b", "a%5fb"),
            ("a%b", "a%25b"),
            ("mode", "%6dode"),
            ("file-mode", "%66ile-mode"),
            ("pailfs-x", "%70ailfs-x"),
            ("ü", "%c3%bc"),
        ] {
            assert_eq!(stored_name(name), stored);
            assert_eq!(shown_name(stored), Some(format!("user.{name}")));
            assert!(!posix::is_reserved(stored), "{stored}");
        }
        // What others have made in another way is shown by S3's name.
        for stored in ["a_b", "a%5Fb", "%61", "%zz", "s3.x", "s3", "pailfs.status", "%ff"] {
            assert_eq!(shown_name(stored), Some(format!("user.s3.meta.{stored}")));
        }
        assert_eq!(shown_name(&"x".repeat(251)), None);
    }

    proptest! {
        #[test]
        fn every_name_has_one_attribute(name in "[^\\x00]{1,40}") {
            prop_assume!(name != "s3" && !name.starts_with("s3.") && !name.starts_with("pailfs."));
            let stored = stored_name(&name);
            prop_assert!(stored.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
            let shown = shown_name(&stored);
            prop_assert!(shown.is_none_or(|shown| shown.strip_prefix("user.") == Some(name.as_str())));
        }

        #[test]
        fn every_value_comes_back(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(shown_value(&stored_value(&value)), value);
        }
    }

    #[test]
    fn a_value_that_looks_like_a_binary_one_comes_back() {
        for value in ["=?x-binary?B?AAA=?=", "=?x-binary?B?nonsense", "=?UTF-8?B?AA==?=", " a ", ""] {
            assert_eq!(shown_value(&stored_value(value.as_bytes())), value.as_bytes());
        }
    }

    #[test]
    fn metadata_must_fit() {
        assert_eq!(check_name("a-b_c.d1"), Ok(()));
        for name in ["", "A", "a b", "ä"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        let metadata = Metadata::from([("a".to_owned(), "x".repeat(2047))]);
        assert_eq!(check_size(&metadata), Ok(()));
        assert_eq!(check_size(&Metadata::from([("ab".to_owned(), "x".repeat(2047))])), Err(Refused::TooMuch(2049)));
    }
}
