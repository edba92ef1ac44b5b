//! Contents that can never be stored where they were meant to go (the name went to another client), or not before the mount
//! ends: their bytes go to files of a directory of the user's, so that nothing which was written is lost without a trace.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::extents::{Extent, Place};
use super::fetch::{Along, Fetched};
use super::parts::{PartSlot, Piece, Work};
use super::settle::Source;
use super::{Destination, State, Writer};
use crate::base::{clock, date, rng, tasks};
use crate::store::{ByteRange, ObjectStore};

/// Only the user himself may see what was kept.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Of the file's own name, so many characters go into the kept one's.
const MAX_NAME_CHARS: usize = 64;

/// Of what was not changed so many bytes are fetched, at most: it is somewhere else as a rule.
const MAX_FETCHED_BYTES: u64 = 1 << 30;
/// They are fetched so many at a time.
const FETCH_BYTES: u64 = 8 << 20;

/// First byte, and one past the last.
type Range = (u64, u64);

/// What is noted beside a kept file.
#[derive(Debug, Serialize)]
struct Note<'a> {
    time: String,
    path: &'a str,
    bucket: &'a str,
    key: &'a str,
    /// The length of the whole content.
    bytes: u64,
    /// What was written or copied here, and is in the kept file.
    written: Vec<Range>,
    /// What was not written here, but is the object's as it was before, and is a hole in the kept file, since it could not be read
    /// any more.
    unread: Vec<Range>,
    /// What had left already, or was copied from another object that cannot be read any more, and is a hole in the kept file.
    missing: Vec<Range>,
    /// The upload that has what had left, as parts: it is not aborted.
    upload: Option<String>,
    why: &'a str,
}

/// What was kept of a content.
#[derive(Debug)]
pub struct Kept {
    /// Where.
    pub place: PathBuf,
    /// Bytes that were written or copied and are not in it.
    pub missing_bytes: u64,
}

/// What there is of a content.
struct Holdings {
    destination: Destination,
    bytes: u64,
    /// What was written, with its bytes.
    here: Vec<(u64, Vec<Piece>)>,
    written: Vec<Range>,
    /// What only the file's own object has.
    stored: Vec<(Range, Source, u64)>,
    /// What was copied, and only objects of others have.
    copied: Vec<(Range, Source, u64)>,
    /// What only parts have.
    missing: Vec<Range>,
    upload: Option<String>,
}

impl<S: ObjectStore> State<S> {
    /// All of the content; no part is in flight.
    fn holdings(&mut self) -> Holdings {
        let mut holdings = Holdings {
            destination: self.destination.clone(),
            bytes: self.extents.len(),
            here: Vec::new(),
            written: Vec::new(),
            stored: Vec::new(),
            copied: Vec::new(),
            missing: Vec::new(),
            upload: self.sending.upload.get().map(|(upload, _)| upload.id.as_str().to_owned()),
        };
        let extents: Vec<Extent> = self.extents.all().collect();
        for Extent { range, place } in extents {
            let ends = (range.start(), range.end());
            match place {
                Place::Staged => {
                    holdings.here.push((range.start(), self.pages.share(range).into_iter().map(Piece::from).collect()));
                    holdings.written.push(ends);
                }
                Place::Stored { source, at } => {
                    let own = Some(source) == self.own;
                    let stored = if own { &mut holdings.stored } else { &mut holdings.copied };
                    stored.push((ends, self.sources[source.0].pin.clone(), at));
                }
                Place::Sent => holdings.missing.push(ends),
                Place::Zero => {}
            }
        }
        for (range, slot) in self.sending.parts.values().filter(|(range, _)| range.start() < self.sending.end) {
            let PartSlot::Failed(Work::Send(pieces), _) = slot else { continue };
            // A part that was to be fetched in part stays missing.
            let rest = without(&holdings.missing, (range.start(), range.end()));
            if rest != holdings.missing && !pieces.iter().any(|piece| matches!(piece, Piece::There(..))) {
                holdings.here.push((range.start(), pieces.clone()));
                holdings.written.push((range.start(), range.end()));
                holdings.missing = rest;
            }
        }
        holdings
    }
}

/// `ranges` but for what lies in `taken`.
fn without(ranges: &[Range], taken: Range) -> Vec<Range> {
    let rest = |(start, end): &Range| [(*start, (*end).min(taken.0)), ((*start).max(taken.1), *end)];
    ranges.iter().flat_map(rest).filter(|(start, end)| start < end).collect()
}

impl<S: ObjectStore> Writer<S> {
    /// Writes what is here to a new file in `directory`, each byte at its place, with a note of where it belongs (`path` below
    /// the mount, and `why`) beside it, and what was copied or not changed as far as it can be read. Both are on the disk when
    /// this returns, and the content is given up: bytes that had left as parts stay in their upload, whose id is in the note.
    ///
    /// # Errors
    /// Those of the local file system; nothing is given up then.
    pub async fn keep(&self, directory: &Path, path: &str, why: &str) -> io::Result<Kept> {
        self.wait_for_parts().await;
        let mut holdings = self.lock().holdings();
        let name: String = path.rsplit('/').next().unwrap_or_default().chars().take(MAX_NAME_CHARS).collect();
        let now = clock::now();
        let place = directory.join(format!("{}-{}-{name}", date::compact(now), &rng::token()[..8]));
        let (here, bytes) = (std::mem::take(&mut holdings.here), holdings.bytes);
        let (into, in_directory) = (place.clone(), directory.to_owned());
        let file = tasks::blocking(move || {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&in_directory)?;
            let file = create(&into)?;
            file.set_len(bytes)?;
            for (offset, pieces) in here {
                write_pieces(&file, offset, pieces)?;
            }
            file.sync_all()?;
            io::Result::Ok(file)
        })
        .await?;
        let have_left = !holdings.missing.is_empty();
        let (file, unread) = self.add_stored(file, &holdings.copied, u64::MAX).await?;
        let (file, unread_own) = self.add_stored(file, &holdings.stored, MAX_FETCHED_BYTES).await?;
        let copied: Vec<Range> = holdings.copied.iter().map(|(range, _, _)| *range).collect();
        let copied = unread.iter().fold(copied, |copied, unread| without(&copied, *unread));
        let mut written = [holdings.written, copied].concat();
        written.sort_unstable();
        let mut missing = [holdings.missing, unread].concat();
        missing.sort_unstable();
        let missing_bytes = missing.iter().map(|(start, end)| end - start).sum();
        let note = serde_json::to_vec_pretty(&Note {
            time: date::iso8601(now),
            path,
            bucket: holdings.destination.bucket.as_str(),
            key: holdings.destination.key.as_str(),
            bytes,
            written,
            unread: unread_own,
            upload: holdings.upload.filter(|_| have_left),
            missing,
            why,
        })
        .map_err(io::Error::other)?;
        let (into, in_directory) = (place.clone(), directory.to_owned());
        tasks::blocking(move || {
            file.sync_all()?;
            let mut beside = into.into_os_string();
            beside.push(".json");
            let file = create(Path::new(&beside))?;
            file.write_all_at(&note, 0)?;
            file.sync_all()?;
            File::open(&in_directory)?.sync_all()
        })
        .await?;
        if have_left {
            // Forgotten, not aborted: the parts are all there is of these bytes.
            self.lock().sending.upload = Arc::default();
        }
        self.discard().await;
        Ok(Kept { place, missing_bytes })
    }

    /// Adds what can be read of what objects have, at most so many bytes; returns what cannot.
    async fn add_stored(&self, mut file: File, stored: &[(Range, Source, u64)], most: u64) -> io::Result<(File, Vec<Range>)> {
        let mut left = most;
        let mut unread = Vec::new();
        for ((start, end), source, at) in stored {
            let mut next = *start;
            while next < *end && left > 0 {
                let bytes = (end - next).min(FETCH_BYTES).min(left);
                let from = at + (next - start);
                let Some(range) = ByteRange::new(from, from + bytes) else { break };
                let pieces = vec![Piece::There(source.clone(), range)];
                let Ok(Fetched { payload, .. }) = &self.payload(pieces, bytes, Along::Nothing).await else { break };
                let payload = payload.clone();
                let offset = next;
                file = tasks::blocking(move || write_all(&file, offset, payload.chunks()).map(|_| file)).await?;
                left -= bytes;
                next += bytes;
            }
            if next < *end {
                unread.push((next, *end));
            }
        }
        Ok((file, unread))
    }
}

fn write_pieces(file: &File, offset: u64, pieces: Vec<Piece>) -> io::Result<()> {
    let mut at = offset;
    for piece in pieces {
        let bytes = match piece {
            Piece::Here(bytes) => bytes,
            Piece::Away(staged, from, len) => {
                let mut read = Vec::with_capacity(len);
                staged.read(from, len, &mut read)?;
                read.into()
            }
            Piece::There(..) => return Err(io::Error::other("bytes of an object are fetched, not written")),
        };
        at += write_all(file, at, &[bytes])?;
    }
    Ok(())
}

/// Returns how many bytes that were.
fn write_all(file: &File, offset: u64, pieces: &[Bytes]) -> io::Result<u64> {
    let mut at = offset;
    for piece in pieces {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(at - offset)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}
