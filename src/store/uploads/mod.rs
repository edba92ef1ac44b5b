//! The uploads that a mount has begun, so that each is completed or aborted, also when the mount is killed.
//!
//! Nothing that a store tells of an upload says who has begun it. So the id is written to the state directory before the first
//! part is sent ([`log`]); the next mount with this directory aborts those of dead mounts ([`sweep`]). [`Recorded`] sees
//! every attempt: it lies below the retries, since each attempt to begin one whose answer is lost may have begun one.
//!
//! # Uploads whose beginning was not answered
//!
//! Nobody knows their ids. Another client, even on another machine, may have begun one on the same key at the same time, and
//! nothing tells them apart: aborting it could take another's bytes away. Ours has no parts, for a part cannot be sent without
//! the id, and what has no parts costs nothing. So it is never aborted but named by `status`, as long as one without parts is
//! there that was begun at about that time.

mod log;
mod recorded;
mod sweep;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

pub use self::recorded::Recorded;
pub use self::sweep::Swept;

use self::log::{Entry, Log};
use super::{BucketName, Key, OpenUpload, PartNumber, Report, Stray, UploadId};
use crate::base::{clock, date, tasks};

/// Where uploads are recorded, and with what.
#[derive(Debug, Clone)]
pub struct Place {
    /// The state directory; the files are in its `uploads/`.
    pub directory: PathBuf,
    /// Which store it is: one upload's id means nothing to another store.
    pub endpoint: String,
    /// Where contents are kept whose parts an upload may have.
    pub kept: Option<PathBuf>,
}

/// The uploads of one mount. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Uploads(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    place: Option<Place>,
    table: Mutex<Table>,
    /// Made by the first upload. Locked before the table, never after it.
    log: Mutex<Option<Log>>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    open: BTreeMap<u64, Begun>,
    /// What was found of dead mounts and cannot be told from others'.
    strays: Vec<Stray>,
    unrecorded: Option<String>,
}

#[derive(Debug)]
struct Begun {
    bucket: BucketName,
    key: Key,
    time: SystemTime,
    stage: Stage,
    parts: BTreeMap<PartNumber, u64>,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The store was asked for it.
    Asked,
    /// It did not answer.
    Unanswered,
    /// Parts may be sent.
    Open(UploadId),
    /// It was to be completed, and nobody knows whether it is.
    Doubtful(UploadId),
    /// It was to be aborted, and is not.
    Abandoned(UploadId),
}

impl Stage {
    const fn id(&self) -> Option<&UploadId> {
        match self {
            Self::Asked | Self::Unanswered => None,
            Self::Open(id) | Self::Doubtful(id) | Self::Abandoned(id) => Some(id),
        }
    }
}

impl Uploads {
    /// Uploads that are recorded in `place`.
    #[must_use]
    pub fn recorded_in(place: Place) -> Self {
        Self(Arc::new(Inner { place: Some(place), table: Mutex::default(), log: Mutex::default() }))
    }

    /// An upload will be asked for: recorded before it is.
    async fn ask(&self, bucket: &BucketName, key: &Key) -> u64 {
        let (number, time) = {
            let mut table = self.table();
            table.last += 1;
            let number = table.last;
            let time = clock::now();
            let begun = Begun { bucket: bucket.clone(), key: key.clone(), time, stage: Stage::Asked, parts: BTreeMap::new() };
            table.open.insert(number, begun);
            (number, time)
        };
        self.write(self.entry(number, bucket, key, time, None)).await;
        number
    }

    /// It was begun: recorded before a part is sent.
    async fn begun(&self, number: u64, bucket: &BucketName, key: &Key, id: &UploadId) {
        let time = {
            let mut table = self.table();
            let Some(begun) = table.open.get_mut(&number) else { return };
            begun.stage = Stage::Open(id.clone());
            begun.time
        };
        self.write(self.entry(number, bucket, key, time, Some(id))).await;
    }

    /// It is completed, aborted, or was never begun.
    async fn ended(&self, number: u64) {
        self.table().open.remove(&number);
        if self.0.place.is_some() {
            self.with_log(move |log| log.as_mut().map_or(Ok(()), |log| log.end(number))).await;
        }
    }

    fn unanswered(&self, number: u64) {
        self.set(number, |_| Stage::Unanswered);
    }

    /// The number of an upload of this mount's.
    fn number_of(&self, id: &UploadId) -> Option<u64> {
        self.table().open.iter().find(|(_, begun)| begun.stage.id() == Some(id)).map(|(number, _)| *number)
    }

    fn set(&self, number: u64, stage: impl FnOnce(&Stage) -> Stage) {
        if let Some(begun) = self.table().open.get_mut(&number) {
            begun.stage = stage(&begun.stage);
        }
    }

    /// The store has a part.
    fn has_part(&self, id: &UploadId, number: PartNumber, bytes: u64) {
        let mut table = self.table();
        if let Some(begun) = table.open.values_mut().find(|begun| begun.stage.id() == Some(id)) {
            begun.parts.insert(number, bytes);
        }
    }

    /// Adds what is under way, and what may be left, to what is known of the store.
    fn report(&self, report: Report) -> Report {
        let mut report = report;
        let table = self.table();
        for Begun { bucket, key, time, stage, parts } in table.open.values() {
            let (bucket, key, begun) = (bucket.clone(), key.clone(), *time);
            let stray = |id: Option<&UploadId>, why: &str| Stray {
                bucket: bucket.clone(),
                key: key.clone(),
                id: id.cloned(),
                begun,
                why: why.to_owned(),
            };
            match stage {
                // The one is not there yet, the other is told by the file's commit.
                Stage::Asked | Stage::Doubtful(_) => {}
                Stage::Unanswered => {
                    report.strays.push(stray(None, "the store did not answer whether it was begun; it has no parts"))
                }
                Stage::Abandoned(id) => {
                    report.strays.push(stray(Some(id), "it could not be aborted: the next mount tries again"))
                }
                Stage::Open(id) => {
                    let (id, parts, bytes) = (id.clone(), parts.len(), parts.values().sum());
                    report.uploads.push(OpenUpload { bucket, key, id, begun, parts, bytes });
                }
            }
        }
        report.strays.extend(table.strays.iter().cloned());
        report.unrecorded.clone_from(&table.unrecorded);
        report
    }

    fn entry(&self, number: u64, bucket: &BucketName, key: &Key, time: SystemTime, id: Option<&UploadId>) -> Option<Entry> {
        let place = self.0.place.as_ref()?;
        Some(Entry {
            number,
            time: date::unix_seconds(time),
            endpoint: place.endpoint.clone(),
            bucket: bucket.as_str().to_owned(),
            key: key.as_str().to_owned(),
            kept: place.kept.clone(),
            id: id.map(|id| id.as_str().to_owned()),
        })
    }

    /// Records an entry. That it cannot be is no reason not to upload: the bytes are worth more than what may be left over.
    async fn write(&self, entry: Option<Entry>) {
        let (Some(entry), Some(directory)) = (entry, self.directory()) else { return };
        self.with_log(move |log| {
            if log.is_none() {
                *log = Some(Log::create(&directory)?);
            }
            log.as_mut().map_or(Ok(()), |log| log.record(entry))
        })
        .await;
    }

    fn directory(&self) -> Option<PathBuf> {
        self.0.place.as_ref().map(|place| place.directory.join("uploads"))
    }

    async fn with_log(&self, work: impl FnOnce(&mut Option<Log>) -> io::Result<()> + Send + 'static) {
        let inner = Arc::clone(&self.0);
        let written = tasks::blocking(move || work(&mut inner.log.lock().unwrap_or_else(PoisonError::into_inner))).await;
        let unrecorded = written.err().map(|error| error.to_string());
        let mut table = self.table();
        if let Some(error) = unrecorded.as_ref().filter(|_| table.unrecorded.is_none()) {
            tracing::warn!(error, "uploads cannot be recorded in the state directory: those of a killed mount would stay");
        }
        table.unrecorded = unrecorded;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(Some(log)) = self.log.get_mut()
            && let Err(error) = log.remove_if_empty()
        {
            tracing::debug!(%error, "an empty file of records stays");
        }
    }
}
