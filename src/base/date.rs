//! Dates as S3 writes them: ISO 8601 in XML, RFC 9110 in headers, the compact form in signatures.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since the epoch, 0 for anything before it.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// `20130524T000000Z`: `X-Amz-Date`.
#[must_use]
pub fn compact(time: SystemTime) -> String {
    format_utc(time, "%Y%m%dT%H%M%SZ")
}

/// `2013-05-24T00:00:00.000Z`: dates inside XML documents.
#[must_use]
pub fn iso8601(time: SystemTime) -> String {
    format_utc(time, "%Y-%m-%dT%H:%M:%S.%3fZ")
}

/// Reads an ISO 8601 instant with any fraction and offset; `None` when it is not one.
#[must_use]
pub fn parse_iso8601(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().and_then(|stamp| SystemTime::try_from(stamp).ok())
}

/// `Fri, 24 May 2013 00:00:00 GMT`: dates in headers.
#[must_use]
pub fn http(time: SystemTime) -> String {
    httpdate::fmt_http_date(time.max(UNIX_EPOCH))
}

/// Reads a header date; `None` when it is not one.
#[must_use]
pub fn parse_http(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// Seconds and nanoseconds since the epoch, negative before it, as `timespec` and metadata have them.
#[must_use]
pub fn to_unix(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            if before.subsec_nanos() == 0 { (seconds, 0) } else { (seconds - 1, 1_000_000_000 - before.subsec_nanos()) }
        }
    }
}

/// The inverse of [`to_unix`]; `None` when the clock cannot hold it.
#[must_use]
pub fn from_unix(seconds: i64, nanoseconds: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base?.checked_add(Duration::from_nanos(u64::from(nanoseconds)))
}

/// The time as a header has it: without the fraction that a listing may tell.
#[must_use]
pub fn whole_seconds(time: SystemTime) -> SystemTime {
    from_unix(to_unix(time).0, 0).unwrap_or(time)
}

fn format_utc(time: SystemTime, format: &str) -> String {
    let stamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    stamp.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_agree_on_one_instant() {
        let time = parse_http("Fri, 24 May 2013 00:00:00 GMT").unwrap();
        assert_eq!(compact(time), "20130524T000000Z");
        assert_eq!(iso8601(time), "2013-05-24T00:00:00.000Z");
        assert_eq!(parse_iso8601("2013-05-24T00:00:00Z"), Some(time));
        assert_eq!(parse_iso8601("2013-05-24T02:00:00.000+02:00"), Some(time));
        assert_eq!(http(time), "Fri, 24 May 2013 00:00:00 GMT");
        assert_eq!(unix_seconds(time), 1_369_353_600);
    }

    #[test]
    fn times_before_the_epoch_round_trip() {
        for (seconds, nanos) in [(0, 0), (-1, 0), (-1, 1), (-5, 999_999_999), (7, 5)] {
            assert_eq!(to_unix(from_unix(seconds, nanos).unwrap()), (seconds, nanos));
        }
    }
}
