//! From when on the objects of a directory may have attributes that no listing shows. Pure but for the clock.
//!
//! It is kept in the metadata of the directory's marker, so that every mount knows of it; what a mount finds out beside that it
//! remembers for itself. The earliest of all counts: it is never taken back.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::{clock, date};
use crate::store::Metadata;

/// The metadata of a directory's marker that says it.
const SINCE: &str = "pailfs-attrs";
/// It is written so much earlier than it is: by so much clocks may differ, and requests take.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// A clock that is wrong by less than this does no harm.
const MAX_ERROR: Duration = Duration::from_secs(60);

/// Who has set attributes goes on with that for so long.
const SETTING: Duration = Duration::from_secs(10);

/// From when on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since(Option<SystemTime>);

impl Since {
    /// None has any.
    pub const NEVER: Self = Self(None);
    /// All may have some.
    pub const ALWAYS: Self = Self(Some(UNIX_EPOCH));

    /// Those that were last modified then or later.
    #[must_use]
    pub const fn at(time: SystemTime) -> Self {
        Self(Some(time))
    }

    /// Those that are made from now on, by the store's clock, or were begun so long ago.
    #[must_use]
    pub fn now(clock: SystemTime, begun_ago: Duration) -> Self {
        let time = clock.checked_sub(MARGIN + begun_ago).unwrap_or(UNIX_EPOCH);
        Self(Some(UNIX_EPOCH + Duration::from_secs(date::unix_seconds(time))))
    }

    /// What a marker says.
    #[must_use]
    pub fn of(marker: &Metadata) -> Self {
        Self(marker.get(SINCE).and_then(|text| date::parse_iso8601(text)))
    }

    /// Says it in a marker.
    pub fn put(self, marker: &mut Metadata) {
        if let Some(time) = self.0 {
            marker.insert(SINCE.to_owned(), date::iso8601(time));
        }
    }

    /// When, if ever.
    #[must_use]
    pub const fn time(self) -> Option<SystemTime> {
        self.0
    }

    /// The earlier one.
    #[must_use]
    pub fn or_earlier(self, other: Self) -> Self {
        Self(match (self.0, other.0) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        })
    }

    /// Whether an object that was last modified then may have some.
    #[must_use]
    pub fn covers(self, last_modified: SystemTime) -> bool {
        self.0.is_some_and(|since| last_modified >= since)
    }

    /// Whether two are not the same for practical purposes: a clock was wrong.
    #[must_use]
    pub fn is_off(self, right: Self) -> bool {
        let (Some(one), Some(other)) = (self.0, right.0) else { return false };
        let apart = one.duration_since(other).unwrap_or_else(|error| error.duration());
        apart > MAX_ERROR
    }
}

/// The store's clock, as far as it has told the time: dates of objects are by it.
#[derive(Debug, Default)]
pub struct StoreClock {
    /// Seconds by which it is before ours.
    ahead: AtomicI64,
}

impl StoreClock {
    /// The store has just told the time.
    pub fn note(&self, time: SystemTime) {
        self.ahead.store(date::to_unix(time).0 - date::to_unix(clock::now()).0, Ordering::Relaxed);
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let (seconds, nanoseconds) = date::to_unix(clock::now());
        date::from_unix(seconds + self.ahead.load(Ordering::Relaxed), nanoseconds).unwrap_or(UNIX_EPOCH)
    }
}

/// Who has just set attributes of files one after the other (tar, cp -a): the directories that he makes next get the like.
#[derive(Debug, Default)]
pub struct Setter(Mutex<Option<(u32, Instant)>>);

impl Setter {
    /// The thread has set attributes of a file.
    pub fn note(&self, tid: u32) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((tid, clock::instant())).filter(|_| tid != 0);
    }

    /// Whether it was this thread, and not long ago.
    #[must_use]
    pub fn is(&self, tid: u32) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|(setter, at)| setter == tid && clock::instant().saturating_duration_since(at) < SETTING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_store_s_clock_goes_on_from_where_it_was() {
        let store = StoreClock::default();
        store.note(clock::now() - Duration::from_secs(3600));
        let behind = clock::now().duration_since(store.now()).unwrap();
        assert!((3598..3602).contains(&behind.as_secs()), "{behind:?}");
    }

    #[test]
    fn the_earliest_counts_and_comes_back_from_the_marker() {
        let since = Since::now(at(1000) + Duration::from_millis(700), Duration::from_secs(10));
        assert_eq!(since, Since::at(at(690)));
        assert!(since.covers(at(690)) && !since.covers(at(689)) && !Since::NEVER.covers(at(690)));
        let mut marker = Metadata::new();
        Since::NEVER.put(&mut marker);
        assert_eq!((marker.len(), Since::of(&marker)), (0, Since::NEVER));
        since.put(&mut marker);
        assert_eq!(Since::of(&marker), since);
        assert_eq!(Since::of(&[(SINCE.to_owned(), "soon".to_owned())].into()), Since::NEVER);
        for other in [Since::NEVER, Since::at(at(700))] {
            assert_eq!((since.or_earlier(other), other.or_earlier(since)), (since, since));
        }
        assert!(Since::ALWAYS.or_earlier(since).covers(UNIX_EPOCH));
        assert!(!since.is_off(Since::at(at(740))) && since.is_off(Since::at(at(760))) && !since.is_off(Since::NEVER));
    }
}
