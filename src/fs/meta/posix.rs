//! POSIX attributes in user metadata: written under s3fs's names, read in the spellings of s3fs, rclone and AWS's own
//! services (`file-*`). Pure.
//!
//! s3fs: <https://github.com/s3fs-fuse/s3fs-fuse/wiki/Extended-Attributes-and-metadata> (`mode` is the decimal `st_mode`);
//! rclone: <https://rclone.org/s3/#metadata> (`mode` is octal); AWS: `file-owner`, `file-group`, `file-permissions`, `file-mtime`.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::base::{date, encode};
use crate::data::write::commit::COMMIT_TOKEN;
use crate::fs::attr::{Attr, Kind};
use crate::fs::config::Config;
use crate::store::{Metadata, ObjectInfo, take_over};

const MODE: &str = "mode";
const UID: &str = "uid";
const GID: &str = "gid";
const MTIME: &str = "mtime";
const ATIME: &str = "atime";
const CTIME: &str = "ctime";
const RDEV: &str = "rdev";
/// The metadata that holds a symlink's target.
pub const SYMLINK_TARGET: &str = "symlink-target";

/// The longest path that Linux takes, in bytes (`PATH_MAX`).
const MAX_TARGET_BODY_BYTES: u64 = 4096;
const TYPE_MASK: u32 = 0o170_000;
const SPECIAL_BITS: u32 = 0o6000;

/// Metadata names that carry attributes: read-only as extended attributes, and never listed.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    matches!(name, MODE | UID | GID | MTIME | ATIME | CTIME | RDEV | SYMLINK_TARGET | COMMIT_TOKEN)
        || name.starts_with("file-")
        || name.starts_with("pailfs-")
}

/// Whether the metadata carries any POSIX attribute: a sign that its directory was written by a file system.
#[must_use]
pub fn is_posix(metadata: &Metadata) -> bool {
    const SIGNS: [&str; 9] = [MODE, UID, GID, MTIME, ATIME, "file-permissions", "file-owner", "file-group", "file-mtime"];
    SIGNS.iter().any(|name| metadata.contains_key(*name))
}

/// Of an object's metadata what its attributes need.
#[must_use]
pub fn attributes_in(metadata: &Metadata) -> Metadata {
    let needed = |name: &str| is_reserved(name) && name != COMMIT_TOKEN;
    metadata.iter().filter(|(name, _)| needed(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Where a symbolic link leads, if its metadata says so.
#[must_use]
pub fn target(metadata: &Metadata) -> Option<Cow<'_, str>> {
    metadata.get(SYMLINK_TARGET).map(|target| encode::unword(target))
}

/// The stored ctime.
#[must_use]
pub fn changed_at(metadata: &Metadata) -> Option<SystemTime> {
    time_in(metadata, [CTIME, "file-ctime"])
}

/// Notes in metadata that stores it when the object was changed: whatever was changed.
pub fn note_change(metadata: &mut Metadata, now: SystemTime) {
    if let Some(ctime) = metadata.get_mut(CTIME) {
        *ctime = format_time(now);
    }
}

/// Lets what is stored anew for another reason keep the date that it shows.
pub fn keep_time(metadata: &mut Metadata, shown: SystemTime) {
    if time_in(metadata, [MTIME, "file-mtime"]).is_none() {
        metadata.insert(MTIME.to_owned(), format_time(shown));
    }
}

/// What attributes are read from.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The metadata, or as much of it as attributes need.
    pub metadata: &'a Metadata,
    /// The object's bytes.
    pub size: u64,
    /// When it was stored.
    pub last_modified: SystemTime,
}

impl<'a> From<&'a ObjectInfo> for Stored<'a> {
    fn from(info: &'a ObjectInfo) -> Self {
        Self { metadata: &info.properties.metadata, size: info.size, last_modified: info.last_modified }
    }
}

/// Which times were set by somebody, rather than following from the last upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExplicitTimes {
    /// `mtime` is in the metadata, or shall be.
    pub mtime: bool,
    /// `atime` likewise.
    pub atime: bool,
}

/// What an object is and shows, by its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// The type. Only a zero-byte object is anything but a file (s3fs's symlinks have their target as the body).
    pub kind: Kind,
    /// The attributes.
    pub attr: Attr,
    /// Which times are stored.
    pub explicit: ExplicitTimes,
}

/// Attributes of an object of which only the listing is known.
#[must_use]
pub fn from_listing(config: &Config, size: u64, last_modified: SystemTime) -> Attr {
    let mode = config.file_mode & 0o7777;
    // Of some stores a listing tells the fraction and HEAD does not: what was asked for in one way would seem older than what was
    // made before it and asked for in the other way.
    let last_modified = date::whole_seconds(last_modified);
    Attr {
        size,
        mode,
        uid: config.uid,
        gid: config.gid,
        atime: last_modified,
        mtime: last_modified,
        ctime: last_modified,
        rdev: 0,
        nlink: 1,
    }
}

/// Attributes of a directory of which nothing is known but that it is there.
#[must_use]
pub fn directory(config: &Config, mtime: SystemTime) -> Attr {
    let mode = config.dir_mode & 0o7777;
    Attr { mode, nlink: 2, atime: mtime, mtime, ctime: mtime, ..from_listing(config, 0, mtime) }
}

/// What an object that is no marker is, as its metadata says.
#[must_use]
pub fn kind<'a>(stored: impl Into<Stored<'a>>) -> Kind {
    let stored = stored.into();
    kind_of(stored, mode(stored.metadata, false))
}

/// Reads an object's metadata. A stranger's device node is a file, but with `--trust-special`; the special bits of a mode are kept,
/// and hidden when it is [`shown`].
#[must_use]
pub fn decode<'a>(config: &Config, stored: impl Into<Stored<'a>>, directory_marker: bool) -> Decoded {
    let stored = stored.into();
    let mode = mode(stored.metadata, directory_marker);
    let kind = match kind_of(stored, mode) {
        _ if directory_marker => Kind::Directory,
        device if device.is_device() && !config.trust_special => Kind::File,
        kind => kind,
    };
    let Stored { metadata, size, last_modified } = stored;
    let base = if directory_marker {
        directory(config, date::whole_seconds(last_modified))
    } else {
        from_listing(config, size, last_modified)
    };
    let permissions = mode.or_else(|| metadata.get("file-permissions").and_then(|text| u32::from_str_radix(text, 8).ok()));
    let mut attr = base;
    if let Some(permissions) = permissions {
        attr.mode = permissions & 0o7777;
    }
    let number = |names: [&str; 2]| names.iter().find_map(|name| metadata.get(*name)).and_then(|text| text.parse().ok());
    attr.uid = number([UID, "file-owner"]).unwrap_or(attr.uid);
    attr.gid = number([GID, "file-group"]).unwrap_or(attr.gid);
    let (mtime, atime) = (time_in(metadata, [MTIME, "file-mtime"]), time_in(metadata, [ATIME, "file-atime"]));
    attr.mtime = mtime.unwrap_or(attr.mtime);
    attr.atime = atime.unwrap_or(attr.mtime);
    attr.ctime = changed_at(metadata).unwrap_or(attr.ctime);
    attr.rdev = metadata.get(RDEV).and_then(|text| text.parse().ok()).unwrap_or(0);
    if kind == Kind::Symlink {
        attr.mode = 0o777;
        attr.size = target(metadata).map_or(size, |target| target.len() as u64);
    }
    Decoded { kind, attr, explicit: ExplicitTimes { mtime: mtime.is_some(), atime: atime.is_some() } }
}

/// Puts `attr` into `metadata`. What the mount would show anyway is left out, unless it was stored before: so a plain new
/// file carries nothing, and what somebody set is kept exactly.
pub fn encode(config: &Config, kind: Kind, attr: &Attr, explicit: ExplicitTimes, metadata: &mut Metadata) {
    let base = match kind {
        Kind::Directory => directory(config, attr.mtime),
        _ => from_listing(config, attr.size, attr.mtime),
    };
    let mut put = |name: &str, value: String, unusual: bool| {
        if unusual || metadata.contains_key(name) {
            metadata.insert(name.to_owned(), value);
        }
    };
    let special = !matches!(kind, Kind::File | Kind::Directory);
    put(MODE, (type_bits(kind) | attr.mode).to_string(), special || attr.mode != base.mode);
    put(UID, attr.uid.to_string(), attr.uid != base.uid);
    put(GID, attr.gid.to_string(), attr.gid != base.gid);
    put(RDEV, attr.rdev.to_string(), kind.is_device());
    for (name, time, set) in [(MTIME, attr.mtime, explicit.mtime), (ATIME, attr.atime, explicit.atime)] {
        metadata.remove(name);
        if set {
            metadata.insert(name.to_owned(), format_time(time));
        }
    }
    for foreign in ["file-permissions", "file-owner", "file-group", "file-mtime", "file-atime", "file-ctime"] {
        metadata.remove(foreign);
    }
    // Of what stores nothing else, the last-modified date is the ctime, and mostly the mtime.
    metadata.remove(CTIME);
    if is_posix(metadata) {
        metadata.entry(MTIME.to_owned()).or_insert_with(|| format_time(attr.mtime));
        metadata.insert(CTIME.to_owned(), format_time(attr.ctime));
    }
}

/// Takes over what another client has changed in an object's attributes, but for what is not as it was `before` here either.
/// `mode_is_ours`: this mount has set the mode that there is.
pub fn follow(
    config: &Config,
    (before, after): (&ObjectInfo, &ObjectInfo),
    (attr, explicit, mode_is_ours): (&mut Attr, &mut ExplicitTimes, &mut bool),
) {
    let was = decode(config, before, false);
    let is = decode(config, after, false);
    if attr.mode == was.attr.mode && is.attr.mode != was.attr.mode {
        (attr.mode, *mode_is_ours) = (is.attr.mode, false);
    }
    take_over(&mut attr.uid, &was.attr.uid, &is.attr.uid);
    take_over(&mut attr.gid, &was.attr.gid, &is.attr.gid);
    if is.explicit.atime && !explicit.atime {
        (attr.atime, explicit.atime) = (is.attr.atime, true);
    }
}

/// What is shown in place of attributes: the mount's owner, group and umask, where it has some for all, and no special bits of a
/// file that only a stranger's word says. Kept and stored is what there is.
#[must_use]
pub fn shown(config: &Config, kind: Kind, attr: Attr, mode_is_ours: bool) -> Attr {
    let believed = mode_is_ours || config.trust_special || kind == Kind::Directory;
    let hidden = if believed { 0 } else { SPECIAL_BITS };
    // Nobody judges by the mode of a link.
    let umask = config.umask.filter(|_| kind != Kind::Symlink).unwrap_or(0);
    let (uid, gid) = (config.force_uid.unwrap_or(attr.uid), config.force_gid.unwrap_or(attr.gid));
    Attr { mode: attr.mode & !umask & !hidden, uid, gid, ..attr }
}

fn mode(metadata: &Metadata, directory_marker: bool) -> Option<u32> {
    metadata.get(MODE).and_then(|text| parse_mode(text, directory_marker))
}

fn kind_of(Stored { metadata, size, .. }: Stored<'_>, mode: Option<u32>) -> Kind {
    match mode.map(|mode| mode & TYPE_MASK) {
        // s3fs's links have their target as the body, and no path is longer.
        Some(0o120_000) if size <= MAX_TARGET_BODY_BYTES || metadata.contains_key(SYMLINK_TARGET) => Kind::Symlink,
        Some(0o010_000) if size == 0 => Kind::Fifo,
        Some(0o140_000) if size == 0 => Kind::Socket,
        Some(0o020_000) if size == 0 => Kind::CharDevice,
        Some(0o060_000) if size == 0 => Kind::BlockDevice,
        _ => Kind::File,
    }
}

/// The type bits of `st_mode`.
#[must_use]
pub const fn type_bits(kind: Kind) -> u32 {
    match kind {
        Kind::Directory => 0o040_000,
        Kind::File => 0o100_000,
        Kind::Symlink => 0o120_000,
        Kind::Fifo => 0o010_000,
        Kind::Socket => 0o140_000,
        Kind::CharDevice => 0o020_000,
        Kind::BlockDevice => 0o060_000,
    }
}

/// The type that the type bits of `st_mode` name; `None` for none of them.
#[must_use]
pub fn kind_by_type_bits(mode: u32) -> Option<Kind> {
    [Kind::Directory, Kind::File, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice]
        .into_iter()
        .find(|kind| type_bits(*kind) == mode & TYPE_MASK)
}

/// s3fs writes decimal (`33188`), rclone octal, with a leading zero (`0100644`) or without (`100644`). Where both would do, it is
/// the one that tells a type, that of a directory for its marker; no `st_mode` has more than 16 bits.
fn parse_mode(text: &str, directory_marker: bool) -> Option<u32> {
    let text = text.trim();
    if let Some(octal) = text.strip_prefix('0').filter(|octal| !octal.is_empty()) {
        return u32::from_str_radix(octal.trim_start_matches('o'), 8).ok();
    }
    let fits = |mode: &u32| match kind_by_type_bits(*mode) {
        Some(kind) => *mode <= 0o177_777 && directory_marker == (kind == Kind::Directory),
        None => false,
    };
    let (decimal, octal) = (text.parse().ok(), u32::from_str_radix(text, 8).ok());
    decimal.filter(fits).or(octal.filter(fits)).or(decimal)
}

/// The time under the first of these names that is there.
fn time_in(metadata: &Metadata, names: [&str; 2]) -> Option<SystemTime> {
    names.iter().find_map(|name| metadata.get(*name)).and_then(|text| parse_time(text))
}

/// Seconds with an optional fraction (s3fs, rclone), or a number with `ms` or `ns` (AWS), or an RFC 3339 date (rclone).
fn parse_time(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let scaled = |digits: &str, per_second: i64| {
        let total: i64 = digits.parse().ok()?;
        let nanoseconds = total.rem_euclid(per_second) * (1_000_000_000 / per_second);
        date::from_unix(total.div_euclid(per_second), u32::try_from(nanoseconds).ok()?)
    };
    if let Some(digits) = text.strip_suffix("ms") {
        return scaled(digits, 1000);
    }
    if let Some(digits) = text.strip_suffix("ns") {
        return scaled(digits, 1_000_000_000);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let Ok(seconds) = whole.parse::<i64>() else { return date::parse_iso8601(text) };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    // "-1.5" is a second and a half before the epoch.
    if whole.starts_with('-') && nanoseconds > 0 {
        return date::from_unix(seconds - 1, 1_000_000_000 - nanoseconds);
    }
    date::from_unix(seconds, nanoseconds)
}

fn format_time(time: SystemTime) -> String {
    let (seconds, nanoseconds) = date::to_unix(time);
    match (seconds, nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds, nanoseconds) if seconds >= 0 => format!("{seconds}.{nanoseconds:09}"),
        (seconds, nanoseconds) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::{BucketName, ETag, Properties};

    fn config() -> Config {
        Config { uid: 1000, gid: 1000, ..Config::new(BucketName::new("bucket").unwrap()) }
    }

    fn info(size: u64, metadata: &[(&str, &str)]) -> ObjectInfo {
        ObjectInfo {
            size,
            etag: ETag::new("x"),
            last_modified: UNIX_EPOCH + Duration::from_secs(1_000_000),
            as_of: None,
            version: None,
            properties: Properties {
                metadata: metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                ..Properties::default()
            },
            archive_status: None,
            facts: crate::store::Facts::default(),
            restore: None,
            checksums: BTreeMap::new(),
        }
    }

    #[test]
    fn reads_the_spellings_of_others() {
        let s3fs =
            decode(&config(), &info(5, &[("mode", "33256"), ("uid", "7"), ("gid", "8"), ("mtime", "1500000000.25")]), false);
        assert_eq!((s3fs.kind, s3fs.attr.mode, s3fs.attr.uid, s3fs.attr.gid), (Kind::File, 0o750, 7, 8));
        assert_eq!(s3fs.attr.mtime, UNIX_EPOCH + Duration::from_millis(1_500_000_000_250));
        let rclone = decode(&config(), &info(5, &[("mode", "0100600"), ("mtime", "2020-01-01T00:00:00.5Z")]), false);
        assert_eq!(rclone.attr.mode, 0o600);
        for (mode, expected) in [("100640", 0o640), ("100755", 0o755), ("33188", 0o644), ("0100444", 0o444), ("33152", 0o600)] {
            assert_eq!(decode(&config(), &info(5, &[("mode", mode)]), false).attr.mode, expected, "{mode}");
        }
        for (mode, expected) in [("40755", 0o755), ("41777", 0o1777), ("16877", 0o755), ("17407", 0o1777), ("040700", 0o700)] {
            assert_eq!(decode(&config(), &info(0, &[("mode", mode)]), true).attr.mode, expected, "{mode}");
        }
        assert_eq!(decode(&config(), &info(0, &[("mode", "120777")]), false).kind, Kind::Symlink);
        assert_eq!(rclone.attr.mtime, UNIX_EPOCH + Duration::from_millis(1_577_836_800_500));
        let aws =
            decode(&config(), &info(5, &[("file-permissions", "0640"), ("file-owner", "9"), ("file-mtime", "1500ms")]), false);
        assert_eq!((aws.attr.mode, aws.attr.uid, aws.attr.mtime), (0o640, 9, UNIX_EPOCH + Duration::from_millis(1500)));
        let link = decode(&config(), &info(0, &[("mode", "41471"), ("symlink-target", "a/b")]), false);
        assert_eq!((link.kind, link.attr.size), (Kind::Symlink, 3));
    }

    #[test]
    fn a_date_with_a_fraction_is_the_time_that_it_is_without() {
        let whole = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for date in [whole, whole + Duration::from_millis(981)] {
            let attr = from_listing(&config(), 5, date);
            assert_eq!((attr.mtime, attr.atime, attr.ctime), (whole, whole, whole));
            let attr = decode(&config(), &ObjectInfo { last_modified: date, ..info(5, &[]) }, false).attr;
            assert_eq!((attr.mtime, attr.atime, attr.ctime), (whole, whole, whole));
        }
    }

    #[test]
    fn strangers_get_no_setuid_and_no_devices() {
        let setuid = info(5, &[("mode", "35309")]);
        let attr = decode(&config(), &setuid, false).attr;
        assert_eq!(shown(&config(), Kind::File, attr, false).mode, 0o755);
        assert_eq!(shown(&config(), Kind::File, attr, true).mode, 0o4755);
        let device = info(0, &[("mode", &(0o020_644u32).to_string()), ("rdev", "5")]);
        assert_eq!(decode(&config(), &device, false).kind, Kind::File);
        assert_eq!(kind(&device), Kind::CharDevice);
    }

    #[test]
    fn what_is_plain_is_not_written_and_what_is_not_comes_back() {
        let plain = from_listing(&config(), 10, UNIX_EPOCH);
        let mut metadata = Metadata::new();
        encode(&config(), Kind::File, &plain, ExplicitTimes::default(), &mut metadata);
        assert_eq!(metadata, Metadata::new());
        for (seconds, nanos) in [(0, 0), (1, 1), (-1, 500_000_000), (-7, 0), (1_700_000_000, 123_456_789)] {
            let mtime = date::from_unix(seconds, nanos).unwrap();
            let attr = Attr { mode: 0o751, uid: 3, gid: 4, mtime, atime: mtime, ..plain };
            let mut metadata = Metadata::new();
            encode(&config(), Kind::File, &attr, ExplicitTimes { mtime: true, atime: true }, &mut metadata);
            let mut object = info(10, &[]);
            object.properties.metadata = metadata;
            let back = decode(&config(), &object, false);
            assert_eq!(back.attr, attr);
            assert!(back.explicit.mtime && back.explicit.atime);
        }
    }
}
