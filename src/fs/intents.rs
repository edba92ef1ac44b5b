//! The file in which the rename of a directory is recorded while it is under way: from where to where, what was copied, and
//! whether anything may have been deleted. The next mount with the same state directory takes back what was only copied, and
//! finishes what had begun to delete (`ops::resume`).
//!
//! Lines of JSON, each with its line break in front, so that one that was cut short spoils no other one. The intent is on the
//! disk before the first copy, and all copies are before the first delete; that a copy is not recorded yet is no harm: it is
//! known by its token.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::records;
use crate::store::{BucketName, ETag};

use super::locate::Address;

/// Where renames are recorded.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory of the files.
    pub directory: PathBuf,
    /// Which store it is: another one's keys are none of this one's business.
    pub endpoint: String,
}

/// A directory's keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spot {
    bucket: String,
    prefix: String,
}

/// What is to be moved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Begun {
    endpoint: String,
    from: Spot,
    to: Spot,
    /// What the commit tokens of the copies begin with.
    pub(super) token: String,
    /// The tag of the marker that is replaced.
    pub(super) replaced: Option<String>,
}

/// A key that was copied.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CopiedKey {
    /// Below the directory.
    pub(super) key: String,
    /// The tag of what was copied, and when that was made, in seconds since the epoch.
    pub(super) etag: String,
    pub(super) modified: u64,
    /// The tag of the copy.
    pub(super) copy: String,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Begun(Begun),
    Copied(CopiedKey),
    /// From here on what was copied may be gone from the old place.
    Deleting,
    /// Nothing was: the copies go again.
    #[serde(rename = "back")]
    TakingBack,
}

/// The record of one rename.
#[derive(Debug)]
pub(super) struct Intent {
    path: PathBuf,
    file: File,
}

/// What a dead mount has left.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) intent: Intent,
    pub(super) begun: Begun,
    pub(super) copied: Vec<CopiedKey>,
    pub(super) is_deleting: bool,
}

impl Begun {
    pub(super) fn new(place: &Place, from: &Address, to: &Address, token: &str, replaced: Option<&ETag>) -> Self {
        let spot = |address: &Address| Spot { bucket: address.bucket.as_str().to_owned(), prefix: address.key.clone() };
        let replaced = replaced.map(|etag| etag.as_str().to_owned());
        Self { endpoint: place.endpoint.clone(), from: spot(from), to: spot(to), token: token.to_owned(), replaced }
    }

    /// From where to where.
    pub(super) fn addresses(&self) -> Option<(Address, Address)> {
        let address = |spot: &Spot| Some(Address { bucket: BucketName::new(&spot.bucket).ok()?, key: spot.prefix.clone() });
        Some((address(&self.from)?, address(&self.to)?))
    }
}

impl Intent {
    /// Records what is to be done; it is on the disk when this returns.
    pub(super) fn begin(directory: &Path, begun: Begun) -> io::Result<Self> {
        let (path, file) = records::create(directory)?;
        let mut intent = Self { path, file };
        intent.append([Line::Begun(begun)])?;
        intent.file.sync_data()?;
        Ok(intent)
    }

    /// Records what was copied.
    pub(super) fn copied(&mut self, keys: Vec<CopiedKey>) -> io::Result<()> {
        self.append(keys.into_iter().map(Line::Copied))
    }

    /// Records that deleting begins; that and all copies are on the disk when this returns.
    pub(super) fn deleting(&mut self) -> io::Result<()> {
        self.append([Line::Deleting])?;
        self.file.sync_data()
    }

    /// Records that the copies go again.
    pub(super) fn taking_back(&mut self) -> io::Result<()> {
        self.append([Line::TakingBack])?;
        self.file.sync_data()
    }

    /// Nothing is left to be done.
    pub(super) fn end(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    /// What dead mounts have left undone on the same store.
    pub(super) fn left(place: &Place) -> io::Result<Vec<Left>> {
        let dead = records::all(&place.directory)?.into_iter().filter(|found| found.is_dead);
        let left = dead.filter_map(|found| {
            let intent = Self { path: found.path, file: found.file };
            let (mut begun, mut copied, mut is_deleting) = (None, Vec::new(), false);
            let text = String::from_utf8_lossy(&found.text);
            for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
                match line {
                    Line::Begun(what) => begun = Some(what),
                    Line::Copied(key) => copied.push(key),
                    Line::Deleting => is_deleting = true,
                    Line::TakingBack => is_deleting = false,
                }
            }
            let Some(begun) = begun else {
                // It was cut short: nothing had been done.
                let _ = intent.end();
                return None;
            };
            (begun.endpoint == place.endpoint).then_some(Left { intent, begun, copied, is_deleting })
        });
        Ok(left.collect())
    }

    fn append(&mut self, lines: impl IntoIterator<Item = Line>) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            text.push(b'\n');
            serde_json::to_writer(&mut text, &line).map_err(io::Error::other)?;
        }
        self.file.write_all(&text)
    }
}
