//! Contents that can never be stored where they were meant to go (the name went to another client), or not before the mount
//! ends: their bytes go to files of a directory of the user's, so that nothing which was written is lost without a trace.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Writer;
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
    /// Where in the file the kept bytes begin: what lies before had left as parts of an upload.
    offset: u64,
    bytes: u64,
    why: &'a str,
}

impl<S: ObjectStore> Writer<S> {
    /// Writes what is staged to a new file in `directory`, with a note of where it belongs (`path` below the mount, and
    /// `why`) beside it. Both are on the disk when this returns.
    ///
    /// # Errors
    /// Those of the local file system.
    pub async fn keep(&self, directory: &Path, path: &str, why: &str) -> io::Result<PathBuf> {
        let (destination, payload, offset) = {
            let mut state = self.lock();
            (state.destination.clone(), Payload::new(state.staged.share()), state.staged.sent())
        };
        let now = clock::now();
        let name: String = path.rsplit('/').next().unwrap_or_default().chars().take(MAX_NAME_CHARS).collect();
        let place = directory.join(format!("{}-{}-{name}", date::compact(now), &rng::token()[..8]));
        let note = serde_json::to_vec_pretty(&Note {
            time: date::iso8601(now),
            path,
            bucket: destination.bucket.as_str(),
            key: destination.key.as_str(),
            offset,
            bytes: payload.len(),
            why,
        })
        .map_err(io::Error::other)?;
        let directory = directory.to_owned();
        tasks::blocking(move || {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&directory)?;
            let mut beside = place.clone().into_os_string();
            beside.push(".json");
            write_new(&place, payload.chunks().iter().map(|chunk| &chunk[..]))?;
            write_new(Path::new(&beside), [&note[..]])?;
            std::fs::File::open(&directory)?.sync_all()?;
            Ok(place)
        })
        .await
    }
}

fn write_new<'a>(path: &Path, chunks: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    for chunk in chunks {
        file.write_all(chunk)?;
    }
    file.sync_all()
}
