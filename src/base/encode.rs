//! Text encodings that several layers need: hex, base64, the percent-encoding of S3.

use std::borrow::Cow;

use base64::Engine as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// RFC 3986 unreserved characters stay, everything else is encoded: S3's `UriEncode`.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// As above, for a whole path: `/` separates and stays.
const PATH: AsciiSet = UNRESERVED.remove(b'/');

/// `UriEncode` of one query name or value: `/` is encoded.
#[must_use]
pub fn uri(text: &str) -> String {
    utf8_percent_encode(text, &UNRESERVED).to_string()
}

/// `UriEncode` of an object key in a path: `/` stays.
#[must_use]
pub fn uri_path(text: &str) -> String {
    utf8_percent_encode(text, &PATH).to_string()
}

/// Decodes percent-encoding to bytes that must be UTF-8; `None` otherwise.
#[must_use]
pub fn uri_decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The inverse of [`hex`], in any case; `None` when it is none.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// Standard base64 with padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Decodes standard base64 with padding; `None` when it is not.
#[must_use]
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// A header value in ASCII: text that a header cannot carry as it is becomes an RFC 2047 encoded word, as S3's own clients
/// send it.
#[must_use]
pub fn word(value: &str) -> String {
    // HTTP drops spaces at the ends, and what looks like an encoded word would be decoded.
    let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !value.contains("=?") && value == value.trim();
    if plain { value.to_owned() } else { format!("=?UTF-8?B?{}?=", base64(value.as_bytes())) }
}

/// A header value in ASCII: what was never text of ours goes as it is, but for what no header can carry.
#[must_use]
pub fn ascii(value: &str) -> Cow<'_, str> {
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~')) { Cow::Borrowed(value) } else { Cow::Owned(word(value)) }
}

/// The text of a header value with RFC 2047 encoded words, wherever they stand; what is none stays as it is.
#[must_use]
pub fn unword(value: &str) -> Cow<'_, str> {
    if !value.contains("=?") {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut gap = String::new();
    let mut after_word = false;
    for (at, piece) in value.split(' ').enumerate() {
        if at > 0 {
            gap.push(' ');
        }
        if piece.is_empty() {
            continue;
        }
        let word = decode_word(piece);
        // Spaces between two words only separate them.
        if !(after_word && word.is_some()) {
            text.push_str(&gap);
        }
        gap.clear();
        after_word = word.is_some();
        text.push_str(word.as_deref().unwrap_or(piece));
    }
    text.push_str(&gap);
    Cow::Owned(text)
}

fn decode_word(word: &str) -> Option<String> {
    let inner = word.strip_prefix("=?")?.strip_suffix("?=")?;
    let mut fields = inner.splitn(3, '?');
    let (charset, encoding, text) = (fields.next()?, fields.next()?, fields.next()?);
    let bytes = match encoding {
        "B" | "b" => base64_decode(text)?,
        "Q" | "q" => {
            let percent = text.replace('%', "%25").replace('_', " ").replace('=', "%");
            percent_decode_str(&percent).collect()
        }
        _ => return None,
    };
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" | "us-ascii" => String::from_utf8(bytes).ok(),
        "iso-8859-1" => Some(bytes.into_iter().map(char::from).collect()),
        "windows-1252" => Some(bytes.into_iter().map(windows_1252).collect()),
        _ => None,
    }
}

/// Latin-1, with other characters in the place of half of its controls.
fn windows_1252(byte: u8) -> char {
    const HIGH: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";
    let special = byte.checked_sub(0x80).and_then(|at| HIGH.chars().nth(usize::from(at)));
    special.unwrap_or(char::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_decoded_wherever_they_stand() {
        for (value, text) in [
            ("=?utf-8?Q?gr=C3=BC=C3=9F_x?=", "grüß x"),
            ("=?UTF-8?B?Z3LDvMOf?= =?UTF-8?B?Z3LDvMOf?=", "grüßgrüß"),
            ("abc =?UTF-8?B?w7xu?=  def", "abc ün  def"),
            ("=?ISO-8859-1?Q?gr=FC=DF?=", "grüß"),
            ("=?windows-1252?Q?=80=FC?=", "€ü"),
            ("a =?b", "a =?b"),
            ("=?UTF-8?B?w7x?= =?KOI8-R?B?w7xu?=", "=?UTF-8?B?w7x?= =?KOI8-R?B?w7xu?="),
        ] {
            assert_eq!(unword(value), text);
            assert_eq!(ascii(value), value);
        }
    }

    proptest! {
        #[test]
        fn any_value_survives_the_header(value in "\\PC{0,40}") {
            let travelling = word(&value);
            prop_assert_eq!(ascii(&travelling), travelling.as_str());
            prop_assert_eq!(unword(&travelling), value);
        }
    }

    #[test]
    fn what_a_header_cannot_carry_travels_encoded() {
        assert_eq!(word("plain text"), "plain text");
        assert_eq!(word("grüß"), "=?UTF-8?B?Z3LDvMOf?=");
        for odd in ["=?x", "a =?b", " a", "a ", "a\nb", "\0"] {
            assert!(word(odd).starts_with("=?UTF-8?B?"), "{odd:?}");
        }
    }

    #[test]
    fn encodes_as_s3_signs() {
        assert_eq!(uri("a b/c+~é"), "a%20b%2Fc%2B~%C3%A9");
        assert_eq!(uri_path("a b/c+~é"), "a%20b/c%2B~%C3%A9");
        assert_eq!(uri_decode("a%20b%2Fc%2B").as_deref(), Some("a b/c+"));
        assert_eq!(uri_decode("%FF"), None);
        assert_eq!(hex(&[0, 0xab]), "00ab");
        assert_eq!(unhex("00aB"), Some(vec![0, 0xab]));
        assert_eq!((unhex("abc"), unhex("0g"), unhex("é")), (None, None, None));
        assert_eq!(base64_decode(&base64(b"x\0y")).as_deref(), Some(&b"x\0y"[..]));
    }
}
