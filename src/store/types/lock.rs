//! Object lock: until when an object must not be deleted. What replaces an object is another version, with a lock of its own.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::base::date;

/// S3 refuses a date that is over when the request comes to it: the last seconds of a retention are not worth a refusal.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// How long an object is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: String,
    /// Until when, in whole seconds.
    pub until: SystemTime,
}

/// What keeps a version of an object from being deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectLock {
    /// For a time.
    pub retention: Option<Retention>,
    /// Until somebody takes it off.
    pub legal_hold: bool,
}

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";

impl ObjectLock {
    /// What is left of it at `now`: a retention that is over cannot be asked for.
    #[must_use]
    pub fn in_force(&self, now: SystemTime) -> Self {
        let retention = self.retention.clone().filter(|retention| retention.until > now + ON_THE_WAY);
        Self { retention, ..*self }
    }

    /// Reads the headers of an answer or a request, which `get` finds by name.
    #[must_use]
    pub fn from_headers(get: impl Fn(&str) -> Option<String>) -> Self {
        let until = get(UNTIL).and_then(|text| date::parse_iso8601(&text)).map(whole_seconds);
        let retention = get(MODE).zip(until).map(|(mode, until)| Retention { mode, until });
        Self { retention, legal_hold: get(HOLD).is_some_and(|hold| hold.eq_ignore_ascii_case("on")) }
    }

    /// As headers of a request or an answer.
    #[must_use]
    pub fn to_headers(&self) -> Vec<(&'static str, String)> {
        let retention = self.retention.iter();
        let mut headers: Vec<_> =
            retention.flat_map(|kept| [(MODE, kept.mode.clone()), (UNTIL, date::iso8601(kept.until))]).collect();
        if self.legal_hold {
            headers.push((HOLD, "ON".to_owned()));
        }
        headers
    }

    /// As facts of an object, by their names here.
    #[must_use]
    pub fn to_facts(&self) -> BTreeMap<&'static str, String> {
        let named = |(header, value)| super::FACT_HEADERS.iter().find(|(of, _)| *of == header).map(|(_, name)| (*name, value));
        self.to_headers().into_iter().filter_map(named).collect()
    }
}

/// So that two answers about the same date are the same.
fn whole_seconds(time: SystemTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(date::unix_seconds(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> ObjectLock {
        ObjectLock::from_headers(|name| headers.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn it_comes_back_from_its_headers() {
        let lock = read(&[(MODE, "COMPLIANCE"), (UNTIL, "2031-02-03T04:05:06.789Z"), (HOLD, "ON")]);
        let headers = lock.to_headers();
        let wanted = [(MODE, "COMPLIANCE"), (UNTIL, "2031-02-03T04:05:06.000Z"), (HOLD, "ON")];
        assert_eq!(headers, wanted.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(lock.to_facts()["lock.mode"], "COMPLIANCE");
        assert_eq!(read(&[(HOLD, "OFF")]), ObjectLock::default());
        assert_eq!(read(&[(MODE, "GOVERNANCE")]), ObjectLock::default(), "without a date it is none");
    }

    #[test]
    fn a_retention_that_is_over_is_not_asked_for() {
        let lock = read(&[(MODE, "GOVERNANCE"), (UNTIL, "2031-01-01T00:00:00Z"), (HOLD, "ON")]);
        let at = |text: &str| lock.in_force(date::parse_iso8601(text).unwrap());
        assert_eq!(at("2030-12-31T23:59:00Z"), lock);
        for late in ["2030-12-31T23:59:56Z", "2031-01-01T00:00:00Z", "2040-01-01T00:00:00Z"] {
            assert_eq!(at(late), ObjectLock { retention: None, legal_hold: true }, "{late}");
        }
    }
}
