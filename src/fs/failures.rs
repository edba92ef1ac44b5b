//! The last failures of a mount with path, time and story: what `pailfs why` reads.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use crate::base::{clock, date};

/// So many failures are remembered.
const MAX_FAILURES: usize = 256;
/// The whole list is an extended attribute, and those have at most 64 KiB.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// One failure.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// When, as ISO 8601.
    pub time: String,
    /// What was called: `open`, `mkdir`, ...
    pub operation: &'static str,
    /// On what, below the mount's root, as it is shown.
    pub path: String,
    /// What the caller was told: `EACCES`, ...
    pub errno: &'static str,
    /// Why, in words, and what to do.
    pub story: String,
}

/// The last failures, newest last.
#[derive(Debug, Default)]
pub struct Failures(Mutex<VecDeque<Failure>>);

impl Failures {
    /// Remembers a failure; the oldest goes when there are too many.
    pub fn record(&self, operation: &'static str, path: String, errno: &'static str, story: String) {
        let time = date::iso8601(now());
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() == MAX_FAILURES {
            failures.pop_front();
        }
        failures.push_back(Failure { time, operation, path, errno, story });
    }

    /// Forgets those on a path; whether there were any.
    pub fn forget(&self, path: &str) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failures.len();
        failures.retain(|failure| failure.path != path);
        failures.len() < before
    }

    /// The last one on a path, in words.
    #[must_use]
    pub fn last(&self, path: &str) -> Option<String> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = failures.iter().rfind(|failure| failure.path == path)?;
        Some(format!("{}: {}: {}", last.operation, last.errno, last.story))
    }

    /// All of them, newest first, one JSON object a line, cut at a line that would pass 64 KiB.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for failure in failures.iter().rev() {
            let line = serde_json::to_string(failure).unwrap_or_default();
            if text.len() + line.len() + 1 > MAX_TEXT_BYTES {
                break;
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

fn now() -> SystemTime {
    clock::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_the_text_fits_an_attribute() {
        let failures = Failures::default();
        for number in 0..1000 {
            failures.record("open", format!("/{number}"), "EIO", "x".repeat(1000));
        }
        failures.record("open", "/other".to_owned(), "EIO", "x".to_owned());
        assert_eq!(failures.last("/other").as_deref(), Some("open: EIO: x"));
        assert!(failures.forget("/other") && !failures.forget("/other") && failures.last("/other").is_none());
        let text = failures.to_lines();
        assert!(text.len() <= MAX_TEXT_BYTES && text.len() > 60_000);
        assert!(text.starts_with('{') && text.lines().next().unwrap().contains("\"/999\""));
    }
}
