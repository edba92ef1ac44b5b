//! Extended attributes: names, and the texts of their values. Pure.

use std::fmt::Write as _;

use crate::base::date;
use crate::fs::meta::posix;
use crate::store::{Metadata, ObjectInfo, RestoreState, RestoreTier};

/// The most user metadata that S3 takes, names and values together, in bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
const MAX_METADATA_BYTES: usize = 2048;
/// The longest restore that S3 takes, in days.
const MAX_RESTORE_DAYS: u32 = i32::MAX.unsigned_abs();

/// What an attribute's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `user.s3`: all that is known.
    All,
    /// `user.s3.etag`
    ETag,
    /// `user.s3.size`
    Size,
    /// `user.s3.storage-class`
    StorageClass,
    /// `user.s3.restore`
    Restore,
    /// `user.s3.content-type`
    ContentType,
    /// `user.s3.meta.NAME`
    Meta(String),
    /// `user.s3.error`
    Error,
    /// `user.pailfs.NAME`: the daemon's own, on the root.
    Control(Control),
    /// In the namespace `user`, but nothing that is known.
    Unknown,
    /// Of another namespace: not kept, and not asked for again.
    Foreign,
}

/// What the daemon answers on the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The last failures, one JSON object a line.
    Failures,
    /// What goes on, as JSON.
    Status,
    /// The files that the store does not have, one JSON object a line.
    Pending,
    /// The daemon's process id.
    Pid,
    /// Set: commits what is pending.
    Sync,
    /// Set: keeps what is pending on the local disk, and gives it up.
    Keep,
}

/// Prefix of the names of user metadata.
pub const META_PREFIX: &str = "user.s3.meta.";
/// The name of the content type.
pub const CONTENT_TYPE: &str = "user.s3.content-type";

/// What `name` stands for.
#[must_use]
pub fn parse(name: &str) -> Name {
    let Some(user) = name.strip_prefix("user.") else { return Name::Foreign };
    if let Some(control) = user.strip_prefix("pailfs.") {
        return match control {
            "failures" => Name::Control(Control::Failures),
            "status" => Name::Control(Control::Status),
            "pending" => Name::Control(Control::Pending),
            "pid" => Name::Control(Control::Pid),
            "sync" => Name::Control(Control::Sync),
            "keep" => Name::Control(Control::Keep),
            _ => Name::Unknown,
        };
    }
    match user {
        "s3" => Name::All,
        "s3.etag" => Name::ETag,
        "s3.size" => Name::Size,
        "s3.storage-class" => Name::StorageClass,
        "s3.restore" => Name::Restore,
        "s3.content-type" => Name::ContentType,
        "s3.error" => Name::Error,
        _ => user.strip_prefix("s3.meta.").map_or(Name::Unknown, |meta| Name::Meta(meta.to_owned())),
    }
}

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// S3 has no room for it.
    #[error("the user metadata would be {0} bytes, and S3 takes 2,048")]
    TooMuch(usize),
}

/// The state of a restore, in words.
#[must_use]
pub fn restore_text(info: &ObjectInfo) -> String {
    match info.restore {
        Some(RestoreState::Ongoing) => "ongoing".to_owned(),
        Some(RestoreState::Until(until)) => format!("until {}", date::http(until)),
        None if info.archived() => "none".to_owned(),
        None => "not-archived".to_owned(),
    }
}

/// Reads `DAYS` or `DAYS,TIER`.
///
/// # Errors
/// [`Refused::Invalid`] with what is wrong.
pub fn parse_restore(text: &str) -> Result<(u32, Option<RestoreTier>), Refused> {
    let invalid = |why: String| Refused::Invalid(format!("{why}; use DAYS or DAYS,TIER, for example 5 or 5,Bulk"));
    let (days, tier) = text.trim().split_once(',').map_or((text.trim(), None), |(days, tier)| (days.trim(), Some(tier.trim())));
    let days = days.parse::<u32>().ok().filter(|days| (1..=MAX_RESTORE_DAYS).contains(days));
    let days = days.ok_or_else(|| invalid(format!("'{}' is not a number of days", text.trim())))?;
    let tier = match tier {
        None => None,
        Some(tier) => {
            let known = RestoreTier::parse(tier);
            Some(known.ok_or_else(|| invalid(format!("'{tier}' is not a tier (Standard, Bulk, Expedited)")))?)
        }
    };
    Ok((days, tier))
}

/// Checks a name and a value of user metadata.
///
/// # Errors
/// [`Refused::Invalid`].
pub fn check_meta(name: &str, value: &str) -> Result<(), Refused> {
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.!#$%&'*+^`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Refused::Invalid(format!(
            "'{name}' cannot be a metadata name: use lower-case letters, digits, '-' and '.' (upper case does not survive S3)"
        )));
    }
    if value.chars().any(char::is_control) {
        return Err(Refused::Invalid("a metadata value cannot hold control characters".to_owned()));
    }
    if value != value.trim() {
        return Err(Refused::Invalid("a metadata value cannot begin or end with a space: HTTP drops it".to_owned()));
    }
    Ok(())
}

/// Checks that metadata as a whole fits S3.
///
/// # Errors
/// [`Refused::TooMuch`].
pub fn check_size(metadata: &Metadata) -> Result<(), Refused> {
    // What is not ASCII travels as base64 in an encoded word of 12 characters.
    let travels = |value: &str| if value.is_ascii() { value.len() } else { value.len().div_ceil(3) * 4 + 12 };
    let bytes = metadata.iter().map(|(name, value)| name.len() + travels(value)).sum();
    if bytes > MAX_METADATA_BYTES { Err(Refused::TooMuch(bytes)) } else { Ok(()) }
}

/// Everything that is known of an object, one `name=value` a line.
#[must_use]
pub fn all_text(info: &ObjectInfo, error: Option<&str>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}={value}");
    };
    line("etag", info.etag.as_str());
    line("size", &info.size.to_string());
    line("last-modified", &date::http(info.last_modified));
    line("storage-class", info.storage_class().as_str());
    if info.archived() || info.restore.is_some() {
        line("restore", &restore_text(info));
    }
    let headers = &info.properties.headers;
    for (name, value) in [
        ("content-type", &headers.content_type),
        ("cache-control", &headers.cache_control),
        ("content-disposition", &headers.content_disposition),
        ("content-encoding", &headers.content_encoding),
        ("content-language", &headers.content_language),
        ("expires", &headers.expires),
        ("website-redirect", &headers.website_redirect),
    ] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    if let Some(version) = &info.version {
        line("version-id", version.as_str());
    }
    for (algorithm, checksum) in &info.checksums {
        line(&format!("checksum.{algorithm}"), checksum);
    }
    for (name, value) in visible(&info.properties.metadata) {
        line(&format!("meta.{name}"), value);
    }
    if let Some(error) = error {
        line("error", error);
    }
    text.truncate(text.trim_end().len());
    text
}

/// The user metadata that users see: not what carries attributes.
pub fn visible(metadata: &Metadata) -> impl Iterator<Item = (&str, &str)> {
    metadata.iter().filter(|(name, _)| !posix::is_reserved(name)).map(|(name, value)| (name.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_the_table() {
        assert_eq!(parse("user.s3"), Name::All);
        assert_eq!(parse("user.s3.etag"), Name::ETag);
        assert_eq!(parse("user.s3.meta.a-b"), Name::Meta("a-b".into()));
        assert_eq!(parse("user.s3.nothing"), Name::Unknown);
        assert_eq!(parse("user.other"), Name::Unknown);
        assert_eq!(parse("user.pailfs.failures"), Name::Control(Control::Failures));
        for foreign in ["security.selinux", "system.posix_acl_access", "trusted.x", "users.x"] {
            assert_eq!(parse(foreign), Name::Foreign);
        }
    }

    #[test]
    fn restores_are_read_strictly() {
        assert_eq!(parse_restore("5"), Ok((5, None)));
        assert_eq!(parse_restore(" 7 , bulk\n"), Ok((7, Some(RestoreTier::Bulk))));
        for bad in ["", "0", "-1", "5,Fast", "5,", "x", "1e9", "99999999999", "5;Bulk", "2147483648"] {
            assert!(matches!(parse_restore(bad), Err(Refused::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn metadata_must_survive_the_way() {
        assert_eq!(check_meta("a-b_c.d1", "wörld"), Ok(()));
        for (name, value) in [("", "x"), ("A", "x"), ("a b", "x"), ("a", "x\ny"), ("a", " x"), ("ä", "x")] {
            assert!(check_meta(name, value).is_err(), "{name}={value}");
        }
        let metadata = Metadata::from([("a".to_owned(), "x".repeat(2047))]);
        assert_eq!(check_size(&metadata), Ok(()));
        assert_eq!(check_size(&Metadata::from([("ab".to_owned(), "x".repeat(2047))])), Err(Refused::TooMuch(2049)));
    }
}
