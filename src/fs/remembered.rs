//! What is remembered on the local disk from mount to mount: attributes of objects, by what identifies the object, and from
//! when on a directory's objects have some.
//!
//! Of an object only what its attributes need is remembered, and only what is true of every object with that tag and date:
//! what was said more than two seconds after the date. What changes without them (a restore, tags, the access list, locks) is
//! not. Everything may be forgotten; then it is asked for again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use super::locate::Address;
use super::meta::posix;
use super::tree::since::Since;
use crate::base::hoard::Hoard;
use crate::base::{date, tasks};
use crate::store::{ETag, Metadata, ObjectInfo};

/// What is remembered of objects takes so much disk at most.
const OBJECTS_BYTES: u64 = 64 << 20;
/// And of directories.
const DIRECTORIES_BYTES: u64 = 8 << 20;
/// So much waits to be written at most; what does not fit is forgotten.
const MAX_WAITING: usize = 8192;
/// The end of a mount waits no longer for what is being written.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Where it is remembered.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory of the files.
    pub directory: PathBuf,
    /// Which store it is: another one's objects have the same keys.
    pub endpoint: String,
}

/// What identifies an object with its metadata.
#[derive(Debug, Clone)]
pub(super) struct Identity<'a> {
    pub(super) size: u64,
    pub(super) etag: &'a ETag,
    pub(super) last_modified: SystemTime,
}

impl<'a> From<&'a ObjectInfo> for Identity<'a> {
    fn from(info: &'a ObjectInfo) -> Self {
        Self { size: info.size, etag: &info.etag, last_modified: info.last_modified }
    }
}

/// The files, and the way to them.
#[derive(Debug, Default)]
pub(super) struct Remembered(Option<Open>);

#[derive(Debug)]
struct Open {
    endpoint: String,
    objects: Arc<Hoard>,
    directories: Arc<Hoard>,
    waiting: SyncSender<Note>,
}

#[derive(Debug)]
enum Note {
    Object(Vec<u8>, Vec<u8>),
    Directory(Vec<u8>, Vec<u8>),
    /// Everything before it is written.
    Flush(tokio::sync::oneshot::Sender<()>),
}

impl Remembered {
    /// What earlier mounts have remembered. Without a place, or when its files cannot be used, nothing is.
    pub(super) fn open(place: Option<&Place>) -> Self {
        let Some(place) = place else { return Self(None) };
        match Open::new(place) {
            Ok(open) => Self(Some(open)),
            Err(error) => {
                tracing::warn!(directory = %place.directory.display(), %error, "attributes are not remembered on disk");
                Self(None)
            }
        }
    }

    /// Remembers the attributes of an object, if they are certain. It is written later, on another thread.
    pub(super) fn note(&self, address: &Address, info: &ObjectInfo) {
        let Some(open) = &self.0 else { return };
        // What this mount has made may have been changed within the second.
        if info.as_of.is_none() || !info.is_settled() || info.etag.as_str().is_empty() {
            return;
        }
        if let Some(value) = pack(&posix::attributes_in(&info.properties.metadata)) {
            open.send(Note::Object(open.key_of_object(address, &info.into()), value));
        }
    }

    /// The metadata of attributes of these objects, each if it is remembered.
    pub(super) async fn recall(&self, wanted: Vec<(Address, Identity<'_>)>) -> Vec<Option<Arc<Metadata>>> {
        let Some(open) = self.0.as_ref().filter(|_| !wanted.is_empty()) else { return vec![None; wanted.len()] };
        let keys: Vec<_> = wanted.iter().map(|(address, identity)| open.key_of_object(address, identity)).collect();
        let objects = Arc::clone(&open.objects);
        tasks::blocking(move || keys.iter().map(|key| unpack(&objects.get(key)?).map(Arc::new)).collect()).await
    }

    /// Remembers from when on the objects of a directory have attributes that no listing shows.
    pub(super) fn note_since(&self, directory: &Address, since: Since) {
        if let (Some(open), Some(time)) = (&self.0, since.time()) {
            let seconds = date::unix_seconds(time).to_be_bytes();
            open.send(Note::Directory(open.key_of(directory), seconds.to_vec()));
        }
    }

    /// What is remembered of a directory.
    pub(super) async fn recall_since(&self, directory: &Address) -> Since {
        let Some(open) = &self.0 else { return Since::NEVER };
        let (directories, key) = (Arc::clone(&open.directories), open.key_of(directory));
        let value = tasks::blocking(move || directories.get(&key)).await;
        let seconds = value.and_then(|value| value.try_into().ok()).map(u64::from_be_bytes);
        seconds.and_then(|seconds| date::from_unix(i64::try_from(seconds).ok()?, 0)).map_or(Since::NEVER, Since::at)
    }

    /// Waits until what was noted is written, but not for long.
    pub(super) async fn flush(&self) {
        let Some(open) = &self.0 else { return };
        let (done, wait) = tokio::sync::oneshot::channel();
        if open.waiting.try_send(Note::Flush(done)).is_ok() {
            // What is not written by then is asked for again.
            let _ = crate::base::clock::deadline(FLUSH_LIMIT, wait).await;
        }
    }
}

impl Open {
    fn new(place: &Place) -> std::io::Result<Self> {
        let open = |name: &str, bytes| Hoard::open(&Path::join(&place.directory, name), bytes).map(Arc::new);
        let (objects, directories) = (open("objects", OBJECTS_BYTES)?, open("directories", DIRECTORIES_BYTES)?);
        let (waiting, notes) = sync_channel(MAX_WAITING);
        let (to_objects, to_directories) = (Arc::clone(&objects), Arc::clone(&directories));
        std::thread::Builder::new().name("attributes".to_owned()).spawn(move || write(&notes, &to_objects, &to_directories))?;
        Ok(Self { endpoint: place.endpoint.clone(), objects, directories, waiting })
    }

    fn send(&self, note: Note) {
        if let Err(TrySendError::Full(_)) = self.waiting.try_send(note) {
            tracing::debug!("the disk is slow: attributes are not remembered");
        }
    }

    /// No part has a NUL in it but the last one, so that no two are the same.
    fn key_of(&self, address: &Address) -> Vec<u8> {
        [self.endpoint.as_str(), address.bucket.as_str(), address.key.as_str()].join("\0").into_bytes()
    }

    fn key_of_object(&self, address: &Address, identity: &Identity<'_>) -> Vec<u8> {
        let mut key = date::unix_seconds(identity.last_modified).to_be_bytes().to_vec();
        key.extend_from_slice(&identity.size.to_be_bytes());
        key.extend_from_slice(identity.etag.as_str().as_bytes());
        key.push(0);
        key.extend(self.key_of(address));
        key
    }
}

/// Writes what is noted, until the mount is gone.
fn write(notes: &Receiver<Note>, objects: &Hoard, directories: &Hoard) {
    for note in notes {
        let written = match note {
            Note::Object(key, value) => objects.put(&key, &value),
            Note::Directory(key, value) => directories.put(&key, &value),
            Note::Flush(done) => {
                // Who waited may have given up.
                let _ = done.send(());
                Ok(())
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, "attributes are not remembered");
        }
    }
}

/// Metadata as bytes; `None` of what has a NUL in it, which no header can bring.
fn pack(metadata: &Metadata) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    for text in metadata.iter().flat_map(|(name, value)| [name, value]) {
        if text.contains('\0') {
            return None;
        }
        packed.extend_from_slice(text.as_bytes());
        packed.push(0);
    }
    Some(packed)
}

fn unpack(packed: &[u8]) -> Option<Metadata> {
    let text = std::str::from_utf8(packed).ok()?;
    let mut metadata = BTreeMap::new();
    let mut parts = text.split_terminator('\0');
    while let Some(name) = parts.next() {
        metadata.insert(name.to_owned(), parts.next()?.to_owned());
    }
    Some(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_as_it_was() {
        let metadata = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Metadata>()
        };
        for metadata in [metadata(&[]), metadata(&[("mode", "33188")]), metadata(&[("a", ""), ("mtime", "1.5\n"), ("ü", "é")])]
        {
            assert_eq!(unpack(&pack(&metadata).unwrap()), Some(metadata));
        }
        assert_eq!(pack(&metadata(&[("a", "b\0c")])), None);
        assert_eq!((unpack(b"mode"), unpack(b"\xff\0a\0")), (None, None));
    }
}
