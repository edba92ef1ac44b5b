//! The file in which one mount records the uploads that it has begun and not ended.
//!
//! Each mount that uploads has a file of its own below the state directory ([`records`]). Lines of JSON are appended, each
//! with its line break in front, so that a line that was cut short by a crash or a full disk spoils no other one. Without
//! open uploads the file is emptied; one that has grown long goes on in a new one, which is whole before the old one goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::records::{self, Found};

/// A longer file goes on in a new one, with what is open only.
const MAX_LOG_BYTES: u64 = 1 << 20;

/// What is recorded of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its number in this file.
    pub(super) number: u64,
    /// When it was begun, in seconds since the epoch.
    pub(super) time: u64,
    pub(super) endpoint: String,
    pub(super) bucket: String,
    pub(super) key: String,
    /// Where contents are kept whose parts an upload may have.
    pub(super) kept: Option<PathBuf>,
    /// Its id; none before the store has answered.
    pub(super) id: Option<String>,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// In place of what was recorded under its number before.
    Upload(Entry),
    /// It was completed or aborted.
    Ended(u64),
}

/// The entries that have not ended. A line that is none is passed over: it was cut short.
fn open_entries(text: &str) -> BTreeMap<u64, Entry> {
    let mut open = BTreeMap::new();
    for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match line {
            Line::Upload(entry) => drop(open.insert(entry.number, entry)),
            Line::Ended(number) => drop(open.remove(&number)),
        }
    }
    open
}

/// A locked file of records.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    open: BTreeMap<u64, Entry>,
}

impl Log {
    /// A new, empty file in `directory`, which is made if it is not there.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let (path, file) = records::create(directory)?;
        Ok(Self { path, file, bytes: 0, open: BTreeMap::new() })
    }

    /// The files in `directory` whose mounts are dead, locked, and the ids in those of the living.
    pub(super) fn dead(directory: &Path) -> io::Result<(Vec<Self>, Vec<String>)> {
        let (mut dead, mut living) = (Vec::new(), Vec::new());
        for Found { path, file, text, is_dead } in records::all(directory)? {
            let (bytes, open) = (text.len() as u64, open_entries(&String::from_utf8_lossy(&text)));
            if is_dead {
                dead.push(Self { path, file, bytes, open });
            } else {
                living.extend(open.into_values().filter_map(|entry| entry.id));
            }
        }
        Ok((dead, living))
    }

    /// What is open.
    pub(super) fn open(&self) -> impl Iterator<Item = &Entry> {
        self.open.values()
    }

    /// Records an upload. One whose id is known is on the disk when this returns. A mere intent only survives the process: the
    /// next sync takes it along, and an upload whose id nobody knows has no parts and costs nothing.
    pub(super) fn record(&mut self, entry: Entry) -> io::Result<()> {
        let is_begun = entry.id.is_some();
        let line = Line::Upload(entry.clone());
        self.open.insert(entry.number, entry);
        if self.bytes > MAX_LOG_BYTES {
            return self.renew();
        }
        self.append(&line)?;
        if is_begun { self.file.sync_data() } else { Ok(()) }
    }

    /// An upload has ended. Should this be lost, its abort finds nothing.
    pub(super) fn end(&mut self, number: u64) -> io::Result<()> {
        if self.open.remove(&number).is_none() {
            return Ok(());
        }
        if self.open.is_empty() {
            self.file.set_len(0)?;
            self.bytes = 0;
            return Ok(());
        }
        self.append(&Line::Ended(number))
    }

    /// Takes the file away, if nothing is open.
    pub(super) fn remove_if_empty(&self) -> io::Result<()> {
        if self.open.is_empty() { std::fs::remove_file(&self.path) } else { Ok(()) }
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = b"\n".to_vec();
        serde_json::to_writer(&mut text, line).map_err(io::Error::other)?;
        self.bytes += text.len() as u64;
        self.file.write_all(&text)
    }

    /// Goes on in a new file that has what is open only.
    fn renew(&mut self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let mut renewed = Self::create(directory)?;
        for entry in self.open.values() {
            renewed.append(&Line::Upload(entry.clone()))?;
        }
        renewed.file.sync_data()?;
        renewed.open = std::mem::take(&mut self.open);
        // Both hold the same until here: an upload that is aborted twice is aborted.
        std::fs::remove_file(&self.path)?;
        *self = renewed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng;

    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("pailfs-log-{}", rng::token())))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn entry(number: u64, id: Option<&str>) -> Entry {
        let (bucket, key) = ("bucket".to_owned(), "a\nb".to_owned());
        Entry { number, time: 7, endpoint: "here".to_owned(), bucket, key, kept: None, id: id.map(str::to_owned) }
    }

    #[test]
    fn a_living_file_is_read_and_a_dead_one_taken() {
        let place = Place::new();
        let mut log = Log::create(&place.0).unwrap();
        log.record(entry(1, None)).unwrap();
        log.record(entry(1, Some("one"))).unwrap();
        log.record(entry(2, Some("two"))).unwrap();
        log.record(entry(3, None)).unwrap();
        log.end(2).unwrap();
        let (dead, living) = Log::dead(&place.0).unwrap();
        assert!(dead.is_empty() && living == ["one"], "{dead:?} {living:?}");
        drop(log);
        let (mut dead, living) = Log::dead(&place.0).unwrap();
        assert!(living.is_empty());
        assert_eq!(dead[0].open().cloned().collect::<Vec<_>>(), [entry(1, Some("one")), entry(3, None)]);
        assert!(Log::dead(&place.0).unwrap().0.is_empty(), "who looks has it locked, too");
        for number in [1, 3] {
            dead[0].end(number).unwrap();
        }
        dead[0].remove_if_empty().unwrap();
        assert!(std::fs::read_dir(&place.0).unwrap().next().is_none());
    }

    #[test]
    fn a_line_that_was_cut_short_spoils_no_other() {
        let place = Place::new();
        let mut log = Log::create(&place.0).unwrap();
        log.record(entry(1, Some("one"))).unwrap();
        log.file.write_all(b"\n{\"upload\":{\"number\":2,\"ti").unwrap();
        log.record(entry(3, Some("three"))).unwrap();
        drop(log);
        let (dead, _) = Log::dead(&place.0).unwrap();
        assert_eq!(dead[0].open().map(|entry| entry.number).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn the_file_stays_short() {
        let place = Place::new();
        let mut log = Log::create(&place.0).unwrap();
        let first = log.path.clone();
        log.record(entry(0, Some("stays"))).unwrap();
        for number in 1..20_000 {
            log.record(entry(number, None)).unwrap();
            log.end(number).unwrap();
        }
        assert!(log.path != first && !first.exists() && std::fs::metadata(&log.path).unwrap().len() <= MAX_LOG_BYTES + 4096);
        assert!(Log::dead(&place.0).unwrap().1 == ["stays"], "the new one is locked, and has what is open");
        log.end(0).unwrap();
        assert_eq!(std::fs::metadata(&log.path).unwrap().len(), 0);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error() {
        let place = Place::new();
        std::fs::write(&place.0, "a file in the way").unwrap();
        assert!(Log::create(&place.0).is_err());
        std::fs::remove_file(&place.0).unwrap();
        assert!(Log::dead(&place.0).unwrap().0.is_empty(), "nothing was ever recorded");
    }
}
