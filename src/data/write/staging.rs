//! The staging directory: pages that are written, cannot leave yet and do not fit into memory go to files there.
//!
//! Each content has one file, which has no name from the moment it is made: a crash leaves nothing, and nobody else finds it.
//! It is given back with the content. All files together are bounded; who finds no room commits instead.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{rng, tasks};
use crate::data::budget::{PAGE_BYTES, Page};

/// Only the user himself may see what is staged.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Where pages go, and how many bytes of them.
#[derive(Debug, Clone, Default)]
pub struct Staging(Option<Arc<Area>>);

#[derive(Debug)]
struct Area {
    directory: PathBuf,
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

/// The staging file of one content.
#[derive(Debug)]
pub(super) struct StagingFile {
    area: Arc<Area>,
    file: File,
    slots: Mutex<Slots>,
}

/// Places for a page each, so that the file has no gaps that nothing fits.
#[derive(Debug, Default)]
struct Slots {
    count: u64,
    /// Freed ones, with the bytes that were written there once and still take room.
    free: BTreeMap<u64, u64>,
    bytes: u64,
}

/// Bytes in a staging file. They are there as long as this lives.
#[derive(Debug)]
pub(super) struct Staged {
    file: Arc<StagingFile>,
    slot: u64,
    len: usize,
}

impl Staging {
    /// Up to `limit_bytes` of files in `directory`, which is made when it is needed.
    #[must_use]
    pub fn new(directory: PathBuf, limit_bytes: u64) -> Self {
        Self(Some(Arc::new(Area { directory, limit_bytes, used_bytes: AtomicU64::new(0) })))
    }

    /// Bytes that lie there now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |area| area.used_bytes.load(Ordering::Relaxed))
    }

    /// Whether another page fits.
    pub(super) fn has_room(&self) -> bool {
        self.0.as_ref().is_some_and(|area| area.used_bytes.load(Ordering::Relaxed) + PAGE_BYTES as u64 <= area.limit_bytes)
    }

    /// A new file; blocks.
    ///
    /// # Errors
    /// Those of the local file system.
    pub(super) fn file(&self) -> io::Result<Arc<StagingFile>> {
        let area = self.0.clone().ok_or_else(|| io::Error::other("there is no staging directory"))?;
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&area.directory)?;
        let path = area.directory.join(rng::token());
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Arc::new(StagingFile { area, file, slots: Mutex::default() }))
    }
}

impl StagingFile {
    /// Writes `bytes`, at most a page; blocks. `None` when there is no room.
    ///
    /// # Errors
    /// Those of the local file system.
    pub(super) fn put(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Option<Staged>> {
        let Some(slot) = self.take_slot(bytes.len() as u64) else { return Ok(None) };
        let staged = Staged { file: Arc::clone(self), slot, len: bytes.len() };
        self.file.write_all_at(bytes, staged.offset())?;
        Ok(Some(staged))
    }

    fn take_slot(&self, len: u64) -> Option<u64> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (slot, before) = slots.free.pop_first().unwrap_or((slots.count, 0));
        let more = len.saturating_sub(before);
        let area = &self.area;
        let taken = area
            .used_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| Some(used + more).filter(|used| *used <= area.limit_bytes));
        if taken.is_err() {
            if slot < slots.count {
                slots.free.insert(slot, before);
            }
            return None;
        }
        slots.count = slots.count.max(slot + 1);
        slots.bytes += more;
        Some(slot)
    }
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        let bytes = self.slots.get_mut().unwrap_or_else(PoisonError::into_inner).bytes;
        self.area.used_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Staged {
    /// How many bytes there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds the bytes `from..from + len` of it to `out`; blocks.
    ///
    /// # Errors
    /// Those of the local file system.
    pub(super) fn read(&self, from: usize, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let before = out.len();
        out.resize(before + len, 0);
        self.file.file.read_exact_at(&mut out[before..], self.offset() + from as u64)
    }

    /// As [`Staged::read`], in a page, which is used again afterwards.
    pub(super) async fn read_page(self: Arc<Self>, from: usize, len: usize, mut page: Page) -> io::Result<Page> {
        tasks::blocking(move || self.read(from, len, page.bytes_mut()).map(|()| page)).await
    }

    const fn offset(&self) -> u64 {
        self.slot * PAGE_BYTES as u64
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let mut slots = self.file.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.free.insert(self.slot, self.len as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_can_be_read_until_it_is_dropped_and_the_limit_holds() {
        let directory = std::env::temp_dir().join(format!("pailfs-staging-{}", rng::token()));
        let staging = Staging::new(directory.clone(), 3 * PAGE_BYTES as u64);
        assert!(staging.has_room() && !Staging::default().has_room());
        let file = staging.file().unwrap();
        let page = |byte: u8| vec![byte; PAGE_BYTES];
        let first = file.put(&page(1)).unwrap().unwrap();
        let second = file.put(&page(2)).unwrap().unwrap();
        let short = file.put(&page(3)[..100]).unwrap().unwrap();
        assert!(!staging.has_room());
        assert!(file.put(&page(4)).unwrap().is_none(), "there is no room");
        let read = |staged: &Staged, from, len| {
            let mut out = Vec::new();
            staged.read(from, len, &mut out).unwrap();
            out
        };
        assert_eq!(read(&second, 5, 10), vec![2; 10]);
        drop(first);
        let again = file.put(&page(5)).unwrap().unwrap();
        assert_eq!((read(&short, 0, 100)[99], read(&again, 0, 1)[0]), (3, 5));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "the file has no name");
        drop((second, short, again, file));
        assert_eq!(staging.used_bytes(), 0);
        std::fs::remove_dir(directory).unwrap();
    }
}
