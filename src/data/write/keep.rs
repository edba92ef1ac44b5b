//! Contents that can never be stored where they were meant to go (the name went to another client), or not before the mount
//! ends: their bytes go to files of a directory of the user's, so that nothing which was written is lost without a trace.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::parts::PartSlot;
use super::{State, Writer};
use crate::base::{clock, date, rng, tasks};
use crate::store::{ObjectStore, Payload};

/// Only the user himself may see what was kept.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Of the file's own name, so many characters go into the kept one's.
const MAX_NAME_CHARS: usize = 64;

/// What is noted beside a kept file.
#[derive(Debug, Serialize)]
struct Note<'a> {
    time: String,
    path: &'a str,
    bucket: &'a str,
    key: &'a str,
    /// The length of the whole content.
    bytes: u64,
    /// First byte and one past the last of what had left already, and is a hole in the kept file.
    missing: Vec<(u64, u64)>,
    /// The upload that has what is missing, as parts: it is not aborted.
    upload: Option<String>,
    why: &'a str,
}

/// What was kept of a content.
#[derive(Debug)]
pub struct Kept {
    /// Where.
    pub place: PathBuf,
    /// Bytes of it that are parts of an upload only.
    pub missing_bytes: u64,
}

/// The bytes that are here, each payload with its offset, and what is not.
struct Holdings {
    here: Vec<(u64, Payload)>,
    missing: Vec<(u64, u64)>,
    bytes: u64,
}

impl State {
    /// All of the content, part by part; no part is in flight.
    fn holdings(&mut self) -> Holdings {
        let (mut here, mut missing, mut at) = (Vec::new(), Vec::new(), 0);
        for slot in self.parts.values() {
            let bytes = match slot {
                PartSlot::Failed(payload, _) => {
                    here.push((at, payload.clone()));
                    payload.len()
                }
                PartSlot::Done(part) => {
                    missing.push((at, at + part.size));
                    part.size
                }
                PartSlot::InFlight => 0,
            };
            at += bytes;
        }
        let staged = Payload::new(self.staged.share());
        let bytes = at + staged.len();
        here.push((at, staged));
        Holdings { here, missing, bytes }
    }
}

impl<S: ObjectStore> Writer<S> {
    /// Writes what is here to a new file in `directory`, each byte at its place, with a note of where it belongs (`path` below
    /// the mount, and `why`) beside it. Both are on the disk when this returns, and the content is given up: bytes that had
    /// left as parts stay in their upload, whose id is in the note.
    ///
    /// # Errors
    /// Those of the local file system; nothing is given up then.
    pub async fn keep(&self, directory: &Path, path: &str, why: &str) -> io::Result<Kept> {
        self.wait_for_parts().await;
        let (destination, Holdings { here, missing, bytes }, upload) = {
            let mut state = self.lock();
            let upload = state.upload.get().map(|(upload, _)| upload.id.as_str().to_owned());
            (state.destination.clone(), state.holdings(), upload)
        };
        let missing_bytes = missing.iter().map(|(start, end)| end - start).sum();
        let now = clock::now();
        let name: String = path.rsplit('/').next().unwrap_or_default().chars().take(MAX_NAME_CHARS).collect();
        let place = directory.join(format!("{}-{}-{name}", date::compact(now), &rng::token()[..8]));
        let note = serde_json::to_vec_pretty(&Note {
            time: date::iso8601(now),
            path,
            bucket: destination.bucket.as_str(),
            key: destination.key.as_str(),
            bytes,
            upload: upload.filter(|_| missing_bytes > 0),
            missing,
            why,
        })
        .map_err(io::Error::other)?;
        let directory = directory.to_owned();
        let place = tasks::blocking(move || {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&directory)?;
            let mut beside = place.clone().into_os_string();
            beside.push(".json");
            let file = create(&place)?;
            for (offset, payload) in &here {
                let mut at = *offset;
                for chunk in payload.chunks() {
                    file.write_all_at(chunk, at)?;
                    at += chunk.len() as u64;
                }
            }
            file.set_len(bytes)?;
            file.sync_all()?;
            let file = create(Path::new(&beside))?;
            file.write_all_at(&note, 0)?;
            file.sync_all()?;
            File::open(&directory)?.sync_all()?;
            io::Result::Ok(place)
        })
        .await?;
        if missing_bytes > 0 {
            // Forgotten, not aborted: the parts are all there is of these bytes.
            self.lock().upload = Arc::default();
        }
        self.discard().await;
        Ok(Kept { place, missing_bytes })
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}
