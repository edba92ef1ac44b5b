//! What is known of an object, as text for people. Pure.

use std::fmt::Write as _;

use super::metadata::{shown_name, visible};
use super::xattr::{Fact, Header};
use crate::base::{date, encode};
use crate::store::{ObjectInfo, RestoreState};

/// What S3 says under one name; `None` when it says nothing.
#[must_use]
pub fn fact_text(info: &ObjectInfo, fact: &Fact) -> Option<String> {
    match fact {
        Fact::ETag => Some(info.etag.as_str().to_owned()).filter(|etag| !etag.is_empty()),
        Fact::Size => Some(info.size.to_string()),
        Fact::LastModified => Some(date::http(info.last_modified)),
        Fact::VersionId => info.version.as_ref().map(|version| version.as_str().to_owned()),
        Fact::Checksum(algorithm) => info.checksums.get(algorithm).cloned(),
        Fact::Other(name) => info.facts.others.get(name).cloned(),
        // Known without asking.
        Fact::Url => None,
    }
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

/// Everything that is known of an object, one `name=value` a line.
#[must_use]
pub fn all_text(info: &ObjectInfo, url: &str, error: Option<&str>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}={value}");
    };
    line("url", url);
    // What is being written has none yet.
    if !info.etag.as_str().is_empty() {
        line("etag", info.etag.as_str());
    }
    line("size", &info.size.to_string());
    line("last-modified", &date::http(info.last_modified));
    line("storage-class", info.storage_class().as_str());
    if info.archived() || info.restore.is_some() {
        line("restore", &restore_text(info));
    }
    for header in Header::ALL {
        if let Some(value) = header.get(&info.properties.headers) {
            line(header.as_str(), value);
        }
    }
    if let Some(version) = &info.version {
        line("version-id", version.as_str());
    }
    for (name, value) in &info.facts.others {
        line(name, value);
    }
    if info.facts.tag_count > 0 {
        line("tags", &format!("{} (getfattr -n user.s3.tags)", info.facts.tag_count));
    }
    for (algorithm, checksum) in &info.checksums {
        line(&format!("checksum.{algorithm}"), checksum);
    }
    for (name, value) in visible(&info.properties.metadata) {
        let value = encode::unword(value);
        // Values may hold line ends: then they are shown as Rust would.
        let value = if value.contains(char::is_control) { format!("{value:?}") } else { value.into_owned() };
        match shown_name(name).as_deref().and_then(|shown| shown.strip_prefix("user.s3.").or(shown.strip_prefix("user."))) {
            Some(shown) if shown.starts_with("meta.") || shown == name => line(&format!("meta.{name}"), &value),
            Some(shown) => line(&format!("meta.{name} ({shown})"), &value),
            None => line(&format!("meta.{name}"), &value),
        }
    }
    if let Some(error) = error {
        line("error", error);
    }
    text.truncate(text.trim_end().len());
    text
}
