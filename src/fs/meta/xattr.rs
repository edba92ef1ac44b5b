//! Extended attributes: their names, and the values that are set. Pure.

use super::metadata::{META_PREFIX, Refused, stored_name};
use crate::base::date;
use crate::store::{ConfigKind, FACT_HEADERS, Headers, RestoreTier};

/// The longest restore that is asked for, in days: S3 names no limit, but a hundred years are a mistake.
const MAX_RESTORE_DAYS: u32 = 36_500;
/// A longer header is none, in bytes.
const MAX_HEADER_BYTES: usize = 1024;

/// What an attribute's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `user.s3`: all that is known.
    All,
    /// What S3 says, and nobody can set.
    Fact(Fact),
    /// `user.s3.storage-class`
    StorageClass,
    /// `user.s3.restore`
    Restore,
    /// A standard header.
    Header(Header),
    /// `user.NAME` or `user.s3.meta.NAME`: user metadata by S3's name.
    Meta(String),
    /// `user.s3.acl`
    Acl,
    /// `user.s3.acl.grant`: adds to the list.
    AclGrant,
    /// `user.s3.tags`
    Tags,
    /// `user.s3.tag.NAME`
    Tag(String),
    /// `user.s3.owner`
    Owner,
    /// `user.s3.location`: where a bucket lies, or where the next one is made.
    Location,
    /// `user.s3.versions`
    Versions,
    /// `user.s3.presigned-url`
    PresignedUrl,
    /// A configuration of a bucket.
    Config(ConfigKind),
    /// `user.s3.uploads`
    Uploads,
    /// `user.s3.error`
    Error,
    /// `user.pailfs.NAME`: the daemon's own, on the root.
    Control(Control),
    /// `user.s3.NAME` or `user.pailfs.NAME`, but nothing that is known.
    Unknown,
    /// Of another namespace: not kept, and not asked for again.
    Foreign,
}

/// What S3 says of an object, and nobody can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// `user.s3.etag`
    ETag,
    /// `user.s3.size`
    Size,
    /// `user.s3.last-modified`
    LastModified,
    /// `user.s3.version-id`
    VersionId,
    /// `user.s3.checksum.NAME`, the name in lower case.
    Checksum(String),
    /// `user.s3.url`
    Url,
    /// Another one that HEAD tells: `user.s3.sse`, `user.s3.lock.mode`, ...
    Other(&'static str),
}

/// The standard headers that S3 keeps with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// `user.s3.content-type`
    ContentType,
    /// `user.s3.cache-control`
    CacheControl,
    /// `user.s3.content-disposition`
    ContentDisposition,
    /// `user.s3.content-encoding`
    ContentEncoding,
    /// `user.s3.content-language`
    ContentLanguage,
    /// `user.s3.expires`
    Expires,
    /// `user.s3.website-redirect`
    WebsiteRedirect,
}

impl Header {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ContentType,
        Self::CacheControl,
        Self::ContentDisposition,
        Self::ContentEncoding,
        Self::ContentLanguage,
        Self::Expires,
        Self::WebsiteRedirect,
    ];

    /// Its name after `user.s3.`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContentType => "content-type",
            Self::CacheControl => "cache-control",
            Self::ContentDisposition => "content-disposition",
            Self::ContentEncoding => "content-encoding",
            Self::ContentLanguage => "content-language",
            Self::Expires => "expires",
            Self::WebsiteRedirect => "website-redirect",
        }
    }

    /// Its value, when the object has one.
    #[must_use]
    pub fn get(self, headers: &Headers) -> Option<&str> {
        match self {
            Self::ContentType => &headers.content_type,
            Self::CacheControl => &headers.cache_control,
            Self::ContentDisposition => &headers.content_disposition,
            Self::ContentEncoding => &headers.content_encoding,
            Self::ContentLanguage => &headers.content_language,
            Self::Expires => &headers.expires,
            Self::WebsiteRedirect => &headers.website_redirect,
        }
        .as_deref()
    }

    /// Gives it a value, or none.
    pub fn set(self, headers: &mut Headers, value: Option<String>) {
        *match self {
            Self::ContentType => &mut headers.content_type,
            Self::CacheControl => &mut headers.cache_control,
            Self::ContentDisposition => &mut headers.content_disposition,
            Self::ContentEncoding => &mut headers.content_encoding,
            Self::ContentLanguage => &mut headers.content_language,
            Self::Expires => &mut headers.expires,
            Self::WebsiteRedirect => &mut headers.website_redirect,
        } = value;
    }

    /// Checks a value that somebody gives it.
    ///
    /// # Errors
    /// [`Refused::Invalid`] with what it must be.
    pub fn check(self, text: &str) -> Result<(), Refused> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if text.is_empty() || text.len() > MAX_HEADER_BYTES || !printable || text != text.trim() {
            let name = self.as_str();
            return Err(Refused::Invalid(format!(
                "{name} is up to 1,024 bytes of printable ASCII, for example {}",
                self.example()
            )));
        }
        let leads = text.starts_with('/') || text.starts_with("http://") || text.starts_with("https://");
        if self == Self::WebsiteRedirect && !leads {
            return Err(Refused::Invalid("website-redirect begins with /, http:// or https://".to_owned()));
        }
        if self == Self::Expires && date::parse_http(text).is_none() {
            let words = format!("expires is a date as headers have it, for example {}", self.example());
            return Err(Refused::Invalid(words));
        }
        if self == Self::ContentEncoding && text.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("aws-chunked")) {
            return Err(Refused::Invalid("aws-chunked is how a request travels, and no encoding of an object".to_owned()));
        }
        Ok(())
    }

    const fn example(self) -> &'static str {
        match self {
            Self::ContentType => "text/plain",
            Self::CacheControl => "max-age=3600",
            Self::ContentDisposition => "attachment",
            Self::ContentEncoding => "gzip",
            Self::ContentLanguage => "en",
            Self::Expires => "Sat, 21 Dec 2030 00:00:00 GMT",
            Self::WebsiteRedirect => "/other/page",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|header| header.as_str() == name)
    }
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
    /// Set: restores an archived object, by inode number.
    Restore,
}

/// The start of the names that S3's own properties have.
pub const S3_PREFIX: &str = "user.s3.";

/// What is asked of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restore {
    /// How long the copy stays.
    pub days: u32,
    /// How fast; `None` leaves it to the store.
    pub tier: Option<RestoreTier>,
}

/// What `name` stands for.
#[must_use]
pub fn parse(name: &str) -> Name {
    let Some(user) = name.strip_prefix("user.").filter(|user| !user.is_empty()) else { return Name::Foreign };
    if let Some(control) = user.strip_prefix("pailfs.") {
        return match control {
            "failures" => Name::Control(Control::Failures),
            "status" => Name::Control(Control::Status),
            "pending" => Name::Control(Control::Pending),
            "pid" => Name::Control(Control::Pid),
            "sync" => Name::Control(Control::Sync),
            "keep" => Name::Control(Control::Keep),
            "restore" => Name::Control(Control::Restore),
            _ => Name::Unknown,
        };
    }
    if let Some(meta) = name.strip_prefix(META_PREFIX) {
        return Name::Meta(meta.to_owned());
    }
    let Some(ours) = name.strip_prefix(S3_PREFIX) else {
        return if user == "s3" { Name::All } else { Name::Meta(stored_name(user)) };
    };
    match ours {
        "etag" => Name::Fact(Fact::ETag),
        "size" => Name::Fact(Fact::Size),
        "last-modified" => Name::Fact(Fact::LastModified),
        "version-id" => Name::Fact(Fact::VersionId),
        "url" => Name::Fact(Fact::Url),
        "storage-class" => Name::StorageClass,
        "restore" => Name::Restore,
        "error" => Name::Error,
        "acl" => Name::Acl,
        "acl.grant" => Name::AclGrant,
        "tags" => Name::Tags,
        "owner" => Name::Owner,
        "location" => Name::Location,
        "versions" => Name::Versions,
        "presigned-url" => Name::PresignedUrl,
        "uploads" => Name::Uploads,
        "cors" => Name::Config(ConfigKind::Cors),
        "lifecycle" => Name::Config(ConfigKind::Lifecycle),
        "policy" => Name::Config(ConfigKind::Policy),
        "versioning" => Name::Config(ConfigKind::Versioning),
        "object-ownership" => Name::Config(ConfigKind::OwnershipControls),
        "public-access-block" => Name::Config(ConfigKind::PublicAccessBlock),
        _ => parse_more(ours),
    }
}

/// Names by their beginning, and those that a table has.
fn parse_more(ours: &str) -> Name {
    if let Some(name) = ours.strip_prefix("tag.").filter(|name| !name.is_empty()) {
        return Name::Tag(name.to_owned());
    }
    match FACT_HEADERS.iter().find(|(_, name)| *name == ours) {
        Some((_, name)) => Name::Fact(Fact::Other(name)),
        None => match (Header::parse(ours), ours.strip_prefix("checksum.")) {
            (Some(header), _) => Name::Header(header),
            (None, Some(algorithm)) => Name::Fact(Fact::Checksum(algorithm.to_owned())),
            (None, None) => Name::Unknown,
        },
    }
}

/// Reads `DAYS` or `DAYS,TIER`.
///
/// # Errors
/// [`Refused::Invalid`] with what is wrong.
pub fn parse_restore(text: &str) -> Result<Restore, Refused> {
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
    Ok(Restore { days, tier })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_the_table() {
        assert_eq!(parse("user.s3"), Name::All);
        assert_eq!(parse("user.s3.etag"), Name::Fact(Fact::ETag));
        assert_eq!(parse("user.s3.expires"), Name::Header(Header::Expires));
        assert_eq!(parse("user.s3.checksum.crc64nvme"), Name::Fact(Fact::Checksum("crc64nvme".into())));
        assert_eq!(parse("user.s3.meta.a-b"), Name::Meta("a-b".into()));
        assert_eq!(parse("user.s3.nothing"), Name::Unknown);
        assert_eq!(parse("user.other"), Name::Meta("other".into()));
        assert_eq!(parse("user.mode"), Name::Meta("%6dode".into()));
        assert_eq!(parse("user.s3x"), Name::Meta("s3x".into()));
        assert_eq!(parse("user.pailfs.failures"), Name::Control(Control::Failures));
        assert_eq!(parse("user.pailfs.other"), Name::Unknown);
        for foreign in ["security.selinux", "system.posix_acl_access", "trusted.x", "users.x", "user."] {
            assert_eq!(parse(foreign), Name::Foreign);
        }
    }

    #[test]
    fn headers_are_checked() {
        assert_eq!(Header::ContentType.check("text/plain; charset=utf-8"), Ok(()));
        assert_eq!(Header::WebsiteRedirect.check("/a"), Ok(()));
        for date in ["Sat, 21 Dec 2030 00:00:00 GMT", "Saturday, 21-Dec-30 00:00:00 GMT", "Sat Dec 21 00:00:00 2030"] {
            assert_eq!(Header::Expires.check(date), Ok(()));
        }
        for (header, bad) in [
            (Header::ContentType, ""),
            (Header::CacheControl, "a\nb"),
            (Header::ContentLanguage, "grün"),
            (Header::Expires, " x"),
            (Header::Expires, "tomorrow"),
            (Header::Expires, "2030-12-21T00:00:00Z"),
            (Header::WebsiteRedirect, "a"),
            (Header::ContentEncoding, "gzip, aws-chunked"),
        ] {
            assert!(header.check(bad).is_err(), "{header:?} {bad}");
        }
    }

    #[test]
    fn restores_are_read_strictly() {
        assert_eq!(parse_restore("5"), Ok(Restore { days: 5, tier: None }));
        assert_eq!(parse_restore(" 7 , bulk\n"), Ok(Restore { days: 7, tier: Some(RestoreTier::Bulk) }));
        for bad in ["", "0", "-1", "5,Fast", "5,", "x", "1e9", "99999999999", "5;Bulk", "2147483648"] {
            assert!(matches!(parse_restore(bad), Err(Refused::Invalid(_))), "{bad}");
        }
    }
}
