//! The only errno table: from situations to numbers and their names. Pure.
//!
//! Numbers: errno(3). Section 6 of `pailfs help errors` says the same for users.

use crate::fs::error::Situation;

/// An errno with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno {
    /// The number.
    pub number: i32,
    /// `ENOENT`, ...
    pub name: &'static str,
}

macro_rules! errno {
    ($name:ident) => {
        Errno { number: libc::$name, name: stringify!($name) }
    };
}

/// What a caller is told in a situation.
#[must_use]
pub const fn of(situation: Situation) -> Errno {
    match situation {
        Situation::NotFound => errno!(ENOENT),
        Situation::NoBucket => errno!(ENXIO),
        Situation::BeyondEnd => errno!(ENXIO),
        Situation::Exists => errno!(EEXIST),
        Situation::Stale => errno!(ESTALE),
        Situation::NotDirectory => errno!(ENOTDIR),
        Situation::IsDirectory => errno!(EISDIR),
        Situation::NotEmpty => errno!(ENOTEMPTY),
        Situation::NameTooLong => errno!(ENAMETOOLONG),
        Situation::NameNotUtf8 => errno!(EILSEQ),
        Situation::Invalid => errno!(EINVAL),
        Situation::ReadOnly => errno!(EROFS),
        Situation::Denied => errno!(EACCES),
        Situation::NotPermitted => errno!(EPERM),
        Situation::Expired => errno!(EKEYEXPIRED),
        Situation::Rejected => errno!(EKEYREJECTED),
        Situation::Archived => errno!(EREMOTE),
        Situation::Already => errno!(EALREADY),
        Situation::Busy => errno!(EBUSY),
        Situation::TimedOut => errno!(ETIMEDOUT),
        Situation::Unreachable => errno!(EHOSTUNREACH),
        Situation::OverQuota => errno!(EDQUOT),
        Situation::NoSpace => errno!(ENOSPC),
        Situation::TooLarge => errno!(EFBIG),
        Situation::Corrupt => errno!(EBADMSG),
        Situation::NoAttribute => errno!(ENODATA),
        Situation::Unsupported => errno!(EOPNOTSUPP),
        Situation::CrossDevice => errno!(EXDEV),
        Situation::BadHandle => errno!(EBADF),
        Situation::Io => errno!(EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promised_numbers() {
        for (situation, name, number) in [
            (Situation::NotFound, "ENOENT", 2),
            (Situation::NoBucket, "ENXIO", 6),
            (Situation::Denied, "EACCES", 13),
            (Situation::Expired, "EKEYEXPIRED", 127),
            (Situation::Rejected, "EKEYREJECTED", 129),
            (Situation::Stale, "ESTALE", 116),
            (Situation::Exists, "EEXIST", 17),
            (Situation::Archived, "EREMOTE", 66),
            (Situation::Already, "EALREADY", 114),
            (Situation::OverQuota, "EDQUOT", 122),
            (Situation::NoSpace, "ENOSPC", 28),
            (Situation::TooLarge, "EFBIG", 27),
            (Situation::Busy, "EBUSY", 16),
            (Situation::TimedOut, "ETIMEDOUT", 110),
            (Situation::Unreachable, "EHOSTUNREACH", 113),
            (Situation::Corrupt, "EBADMSG", 74),
            (Situation::Unsupported, "EOPNOTSUPP", 95),
            (Situation::ReadOnly, "EROFS", 30),
            (Situation::NoAttribute, "ENODATA", 61),
            (Situation::NameNotUtf8, "EILSEQ", 84),
            (Situation::Io, "EIO", 5),
        ] {
            assert_eq!(of(situation), Errno { number, name });
        }
    }
}
