//! A file in which values are remembered by key, within a bound, by several processes at once. It may forget anything at any
//! time, the oldest first, and never says anything that was not put there.
//!
//! The file is a row of pages. A key belongs to one of them; there its entries lie one behind the other, oldest first, under a
//! checksum. When a page is full, its oldest entries go. One that is torn, by a crash or by two processes that write it at the
//! same time, fails its checksum and counts as empty. So there is no lock, nothing is read at the start, and nothing is synced:
//! what it costs is a page of the kernel's cache.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::crc::Crc64;

/// A page of the disk.
const PAGE_BYTES: usize = 4096;
/// Checksum of the rest, and how many bytes of entries there are.
const HEAD_BYTES: usize = 8 + 2;
/// Length of key and of value.
const ENTRY_HEAD_BYTES: usize = 2 + 2;
/// A longer entry would push out too many others.
const MAX_ENTRY_BYTES: usize = (PAGE_BYTES - HEAD_BYTES) / 2;
/// Only the user himself may see what he has looked at.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The file.
#[derive(Debug)]
pub struct Hoard {
    file: File,
    pages: u64,
}

impl Hoard {
    /// The file at `path`, of `bytes` at most; it is made, with its directory, if it is not there.
    ///
    /// # Errors
    /// Whatever keeps it from being opened.
    pub fn open(path: &Path, bytes: u64) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        Ok(Self { file, pages: (bytes / PAGE_BYTES as u64).max(1) })
    }

    /// What was last put under a key, unless it is forgotten.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let page = self.read(self.page_of(key));
        entries(&page).find(|(of, _)| *of == key).map(|(_, value)| value.to_vec())
    }

    /// Remembers a value. One process must not do this twice at the same time; several may.
    ///
    /// # Errors
    /// Whatever keeps the page from being written: then nothing is lost but this.
    pub fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let length = ENTRY_HEAD_BYTES + key.len() + value.len();
        if length > MAX_ENTRY_BYTES {
            return Ok(());
        }
        let number = self.page_of(key);
        let old = self.read(number);
        if entries(&old).any(|entry| entry == (key, value)) {
            return Ok(());
        }
        let mut kept: Vec<(&[u8], &[u8])> = entries(&old).filter(|(of, _)| *of != key).collect();
        kept.push((key, value));
        let size = |(key, value): &(&[u8], &[u8])| ENTRY_HEAD_BYTES + key.len() + value.len();
        let mut total: usize = kept.iter().map(size).sum();
        let mut page = vec![0; HEAD_BYTES];
        for entry in &kept {
            if total > PAGE_BYTES - HEAD_BYTES {
                total -= size(entry);
                continue;
            }
            for part in [entry.0, entry.1] {
                page.extend_from_slice(&length_of(part));
            }
            page.extend_from_slice(entry.0);
            page.extend_from_slice(entry.1);
        }
        let length = length_of(&page[HEAD_BYTES..]);
        page[8..HEAD_BYTES].copy_from_slice(&length);
        let sum = Crc64::of([&page[8..]]).to_bytes();
        page[..8].copy_from_slice(&sum);
        self.file.write_all_at(&page, number * PAGE_BYTES as u64)
    }

    fn page_of(&self, key: &[u8]) -> u64 {
        u64::from_be_bytes(Crc64::of([key]).to_bytes()) % self.pages
    }

    /// The entries of a page, as they lie there; none of a page that was never written, or is torn.
    fn read(&self, number: u64) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        let mut filled = 0;
        while filled < PAGE_BYTES {
            match self.file.read_at(&mut page[filled..], number * PAGE_BYTES as u64 + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Vec::new(),
            }
        }
        let end = HEAD_BYTES + usize::from(u16::from_be_bytes([page[8], page[9]]));
        if end > filled || Crc64::of([&page[8..end]]).to_bytes() != page[..8] {
            return Vec::new();
        }
        page.truncate(end);
        page.split_off(HEAD_BYTES)
    }
}

/// The entries that lie one behind the other.
fn entries(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<ENTRY_HEAD_BYTES>()?;
        let key_bytes = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let value_bytes = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (key, behind) = behind.split_at_checked(key_bytes)?;
        let (value, behind) = behind.split_at_checked(value_bytes)?;
        rest = behind;
        Some((key, value))
    })
}

/// A length that is known to be short.
fn length_of(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in a directory of its own, gone with this.
    struct Place(std::path::PathBuf);

    impl Place {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("pailfs-hoard-{}", crate::base::rng::token())))
        }

        fn open(&self, bytes: u64) -> Hoard {
            Hoard::open(&self.0.join("file"), bytes).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_put_is_there_for_the_next_process_and_for_others_at_once() {
        let place = Place::new();
        let (one, other) = (place.open(1 << 20), place.open(1 << 20));
        one.put(b"a", b"1").unwrap();
        other.put(b"a", b"2").unwrap();
        one.put(b"", b"").unwrap();
        assert_eq!((one.get(b"a"), one.get(b"b"), other.get(b"")), (Some(b"2".to_vec()), None, Some(Vec::new())));
        assert_eq!(place.open(1 << 20).get(b"a"), Some(b"2".to_vec()));
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room_and_the_file_stays_small() {
        let place = Place::new();
        let hoard = place.open(64 << 10);
        let name = |number: u32| number.to_be_bytes();
        for number in 0..10_000 {
            hoard.put(&name(number), &[7; 100]).unwrap();
        }
        let found = |range: std::ops::Range<u32>| range.filter(|number| hoard.get(&name(*number)).is_some()).count();
        assert_eq!(found(9_900..10_000), 100);
        assert_eq!(found(0..9_000), 0);
        assert!(std::fs::metadata(place.0.join("file")).unwrap().len() <= 64 << 10);
        hoard.put(&name(0), &[0; PAGE_BYTES]).unwrap();
        assert!(hoard.get(&name(0)).is_none() && hoard.get(&name(9_999)).is_some(), "one that is too long pushes nothing out");
    }

    #[test]
    fn what_is_torn_is_forgotten_and_never_believed() {
        let place = Place::new();
        let hoard = place.open(4096);
        for number in 0..20_u8 {
            hoard.put(&[number], &[number; 50]).unwrap();
        }
        let whole = std::fs::read(place.0.join("file")).unwrap();
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(place.0.join("file"), &torn).unwrap();
            assert!((0..20).all(|number| hoard.get(&[number]).is_none()), "a flipped bit at {at} is believed");
            std::fs::write(place.0.join("file"), &whole[..at]).unwrap();
            assert!((0..20).all(|number| hoard.get(&[number]).is_none()), "{at} bytes are believed");
        }
        hoard.put(b"new", b"1").unwrap();
        assert_eq!(hoard.get(b"new"), Some(b"1".to_vec()));
    }
}
