//! Aborting what dead mounts have left: only uploads whose ids they have recorded, and that no kept content needs.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::log::{Entry, Log};
use super::{Stage, Uploads};
use crate::base::{date, tasks};
use crate::store::{BucketName, ErrorKind, Key, ObjectStore, Prefix, Result, Stray, Upload, UploadId};

/// The store's clock is not more than this away from ours, or it refuses our requests; and no request takes longer.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html> (`RequestTimeTooSkewed`)
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// What became of the uploads of dead mounts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Aborted, or gone already.
    pub ended: usize,
    /// Kept contents need them.
    pub needed: usize,
    /// They could not be aborted.
    pub failed: usize,
    /// Those that cannot be told from others'.
    pub strays: Vec<Stray>,
}

/// What to do about a recorded upload.
enum Fate {
    /// It is gone.
    Ended,
    /// A kept content has parts in it.
    Needed,
    /// It could not be aborted.
    Failed,
    /// It may be one of these.
    Among(Vec<Stray>),
}

impl Uploads {
    /// Aborts the uploads that dead mounts have recorded for the same endpoint, and this mount's that could not be aborted
    /// before. What fails is logged and stays recorded for the next mount.
    pub async fn sweep<S: ObjectStore>(&self, store: &S) -> Swept {
        let mut swept = Swept::default();
        let (Some(place), Some(directory)) = (self.0.place.clone(), self.directory()) else { return swept };
        let found = tasks::blocking(move || Log::dead(&directory)).await;
        let (dead, living) = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the uploads that dead mounts have recorded cannot be read");
                return swept;
            }
        };
        let known: BTreeSet<String> =
            dead.iter().flat_map(Log::open).filter_map(|entry| entry.id.clone()).chain(living).collect();
        for mut log in dead {
            let entries: Vec<Entry> = log.open().filter(|entry| entry.endpoint == place.endpoint).cloned().collect();
            for entry in entries {
                let number = entry.number;
                match fate(store, entry, place.kept.clone(), &known).await {
                    Fate::Needed => swept.needed += 1,
                    Fate::Failed => swept.failed += 1,
                    Fate::Among(strays) => swept.strays.extend(strays),
                    Fate::Ended => {
                        swept.ended += 1;
                        log = tasks::blocking(move || {
                            if let Err(error) = log.end(number) {
                                tracing::warn!(%error, "that an upload has ended cannot be recorded");
                            }
                            log
                        })
                        .await;
                    }
                }
            }
            tasks::blocking(move || {
                if let Err(error) = log.remove_if_empty() {
                    tracing::warn!(%error, "the records of a dead mount cannot be removed");
                }
            })
            .await;
        }
        if swept != Swept::default() {
            tracing::info!(?swept, "uploads of dead mounts");
        }
        self.table().strays.clone_from(&swept.strays);
        swept
    }

    /// Tries again to abort what could not be aborted: before the mount ends.
    pub async fn abort_abandoned<S: ObjectStore>(&self, store: &S) {
        let abandoned: Vec<Upload> = {
            let table = self.table();
            let abandoned = table.open.values().filter_map(|begun| match &begun.stage {
                Stage::Abandoned(id) => Some(upload(&begun.bucket, &begun.key, id)),
                _ => None,
            });
            abandoned.collect()
        };
        for upload in abandoned {
            if let Err(error) = store.abort_upload(&upload).await
                && error.kind() != ErrorKind::NoUpload
            {
                tracing::warn!(%error, "an upload could not be aborted; the next mount tries again");
            }
        }
    }
}

async fn fate<S: ObjectStore>(store: &S, entry: Entry, kept: Option<PathBuf>, known: &BTreeSet<String>) -> Fate {
    let (Ok(bucket), Ok(key)) = (BucketName::new(&entry.bucket), Key::new(&entry.key)) else { return Fate::Ended };
    let Some(id) = entry.id else {
        return match possible(store, &bucket, &key, date_of(entry.time), known).await {
            Ok(strays) if strays.is_empty() => Fate::Ended,
            Ok(strays) => Fate::Among(strays),
            Err(error) if error.kind() == ErrorKind::NoBucket => Fate::Ended,
            Err(error) => {
                tracing::warn!(%error, %key, "cannot look for an upload whose beginning was not answered");
                Fate::Failed
            }
        };
    };
    let wanted = id.clone();
    match tasks::blocking(move || [entry.kept, kept].into_iter().flatten().any(|place| is_noted(&place, &wanted))).await {
        true => Fate::Needed,
        false => match store.abort_upload(&upload(&bucket, &key, &UploadId::new(&id))).await {
            Ok(()) => Fate::Ended,
            Err(error) if matches!(error.kind(), ErrorKind::NoUpload | ErrorKind::NoBucket) => Fate::Ended,
            Err(error) => {
                tracing::warn!(%error, %key, "an upload of a dead mount cannot be aborted; its parts cost money until it is");
                Fate::Failed
            }
        },
    }
}

/// The uploads of a key without parts that were begun at about `time` and are not recorded.
async fn possible<S: ObjectStore>(
    store: &S,
    bucket: &BucketName,
    key: &Key,
    time: SystemTime,
    known: &BTreeSet<String>,
) -> Result<Vec<Stray>> {
    let window = time.checked_sub(MAX_SKEW).unwrap_or(time)..=time + 2 * MAX_SKEW;
    let (mut strays, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_uploads(bucket, &Prefix::new(key.as_str()), after.clone()).await?;
        for (upload, begun) in page.uploads {
            if upload.key != *key || !window.contains(&begun) || known.contains(upload.id.as_str()) {
                continue;
            }
            match store.list_parts(&upload).await {
                // Who has sent a part knew the id.
                Ok(parts) if !parts.is_empty() => {}
                Ok(_) => strays.push(Stray {
                    bucket: bucket.clone(),
                    key: key.clone(),
                    id: Some(upload.id),
                    begun,
                    why: "begun by a mount that died before it was answered, or at the same time by another client".to_owned(),
                }),
                Err(error) if error.kind() == ErrorKind::NoUpload => {}
                Err(error) => return Err(error),
            }
        }
        match page.next {
            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
            _ => return Ok(strays),
        }
    }
}

/// Whether a note beside a kept content names the upload. When that cannot be read, it may: what is kept is never lost by this.
fn is_noted(kept: &Path, id: &str) -> bool {
    let entries = match std::fs::read_dir(kept) {
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
        Ok(entries) => entries,
    };
    let notes = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    let names = |path: PathBuf| match std::fs::read(path) {
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(text) => serde_json::from_slice::<serde_json::Value>(&text).is_ok_and(|note| note["upload"] == id),
    };
    notes.into_iter().any(names)
}

fn upload(bucket: &BucketName, key: &Key, id: &UploadId) -> Upload {
    Upload { bucket: bucket.clone(), key: key.clone(), id: id.clone(), declares_checksums: false }
}

fn date_of(seconds: u64) -> SystemTime {
    i64::try_from(seconds).ok().and_then(|seconds| date::from_unix(seconds, 0)).unwrap_or(SystemTime::UNIX_EPOCH)
}
