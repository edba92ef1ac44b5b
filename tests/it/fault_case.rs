//! One run of a scenario of the fault loop: what the mount must show and what the store may have by now, and what must hold
//! after each failure.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pailfs::fs::attr::{Ino, Kind, SetAttr};
use pailfs::fs::error::Situation;
use pailfs::fs::handles::{HandleId, OpenMode};
use pailfs::fs::{Looked, Replace, SetHow, Spot};
use pailfs::store::fault::Toxic;
use pailfs::store::*;

use crate::world::{CALLER, Step, WRITE, World};

pub const BOTH: OpenMode = OpenMode { read: true, ..WRITE };
pub const WHOLE: OpenMode = OpenMode { truncate: true, ..WRITE };
pub const APPEND: OpenMode = OpenMode { append: true, ..WRITE };
pub const EXCLUSIVE: OpenMode = OpenMode { exclusive: true, ..WRITE };

pub const MIB: usize = 1 << 20;

/// What is done between a failed call and its repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Nothing: as `fsync` again.
    Nothing,
    /// Everything is read through the mount; a file that was not closed well is closed and opened again.
    Reading,
}

pub type Name = &'static str;

/// One run of a scenario, and what must be there by now.
pub struct Case {
    pub world: World,
    pub context: String,
    situation: Situation,
    pub between: Between,
    /// What the mount shows.
    pub shown: BTreeMap<Name, Bytes>,
    /// What the store may have: what was acknowledged last, and what was written since.
    pub stored: BTreeMap<Name, Vec<Option<Bytes>>>,
    /// What the call that is under way would make.
    pub aim: Vec<(Name, Option<Bytes>)>,
}

impl Case {
    pub fn new(policy: RetryPolicy, situation: Situation, between: Between, context: String) -> Self {
        let world = World::new(policy);
        let (shown, stored) = (BTreeMap::new(), BTreeMap::new());
        Self { world, context, situation, between, shown, stored, aim: Vec::new() }
    }

    /// Another client's object, that was there before.
    pub async fn given(&mut self, name: Name, bytes: &Bytes) {
        self.world.put(name, bytes).await;
        self.shown.insert(name, bytes.clone());
        self.stored.insert(name, vec![Some(bytes.clone())]);
    }

    /// As [`Case::given`], made of two parts: its tag is not that of its bytes.
    pub async fn given_in_parts(&mut self, name: Name, bytes: &Bytes) {
        let (bucket, key) = (BucketName::new("bucket").unwrap(), Key::new(name).unwrap());
        let memory = &self.world.memory;
        let upload = memory.create_upload(&CreateUpload { bucket, key, properties: Properties::default() }).await.unwrap();
        let mut parts = Vec::new();
        for (number, half) in (1..).zip([bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..)]) {
            let number = PartNumber::new(number).unwrap();
            let request = UploadPart { upload: upload.clone(), number, payload: Payload::from(half) };
            parts.push(memory.upload_part(&request).await.unwrap());
        }
        memory.complete_upload(&CompleteUpload { upload, parts, condition: Condition::None }).await.unwrap();
        self.shown.insert(name, bytes.clone());
        self.stored.insert(name, vec![Some(bytes.clone())]);
    }

    pub fn bytes(&self, name: Name) -> Bytes {
        self.shown.get(name).cloned().unwrap_or_default()
    }

    /// Does something, once more when it fails.
    pub async fn attempt<T>(&mut self, what: &str, mut call: impl AsyncFnMut(&World) -> Step<T>) -> T {
        let error = match call(&self.world).await {
            Ok(done) => return done,
            Err(error) => error,
        };
        let context = self.failed(what, &error).await;
        match call(&self.world).await {
            Ok(done) => done,
            Err(again) => panic!("{context}: again, though the store is well: {again}"),
        }
    }

    /// What must hold after a failure; the store is well again from then on.
    pub async fn failed(&mut self, what: &str, error: &pailfs::fs::error::Error) -> String {
        let context = format!("{}: {what} fails with '{error}'", self.context);
        assert_eq!(error.situation(), self.situation, "{context}");
        self.world.fault.heal();
        // The clock of these tests stands still: what is asked for now is asked for later than what was done before.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.is_whole(&context).await;
        // A paused clock stands still: that a repetition is later than what failed must be told.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if self.between == Between::Reading || ["read", "unlink"].contains(&what) {
            // Who reads hears of a failure for a while, and what is removed while it is open is read first.
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
        if self.between == Between::Reading {
            // Reading may have to store what has left already.
            for (name, bytes) in self.shown.clone() {
                self.may_be_stored(name, bytes);
            }
            for (name, bytes) in &self.shown {
                let aims = self.aim.iter().filter(|(aim, _)| aim == name).map(|(_, aim)| aim.clone());
                let allowed: Vec<Option<Bytes>> = aims.chain([Some(bytes.clone())]).collect();
                let read = self.read(name, &context).await;
                assert!(allowed.contains(&read), "{context}: '{name}' reads otherwise: {:?} bytes", read.map(|read| read.len()));
            }
            self.is_whole(&context).await;
        }
        context
    }

    /// What the mount shows of a name; of a directory, whose marker's name ends in '/', and of a link, that it is there.
    pub async fn read(&self, name: Name, context: &str) -> Option<Bytes> {
        let looked = self.world.fs.lookup(Ino::ROOT, name.trim_end_matches('/').as_bytes()).await;
        let stat = match looked.unwrap_or_else(|error| panic!("{context}: '{name}' cannot be looked up: {error}")) {
            Looked::Absent => return None,
            Looked::Found(stat) => stat,
        };
        self.world.fs.forget(stat.ino, 1);
        if stat.kind != Kind::File {
            return Some(Bytes::new());
        }
        let read = self.world.read(name).await;
        Some(read.unwrap_or_else(|error| panic!("{context}: '{name}' cannot be read: {error}")))
    }

    pub fn may_be_stored(&mut self, name: Name, bytes: Bytes) {
        let may = self.stored.entry(name).or_insert_with(|| vec![None]);
        if may.last() != Some(&Some(bytes.clone())) {
            may.push(Some(bytes));
        }
    }

    /// Every object is one of those that it may be, whole.
    async fn is_whole(&self, context: &str) {
        for (name, may) in &self.stored {
            let there = self.world.stored(name).await;
            let aimed = self.aim.iter().any(|(aim, bytes)| aim == name && *bytes == there);
            let length = there.as_ref().map(Bytes::len);
            assert!(aimed || may.contains(&there), "{context}: '{name}' is neither old nor new: {length:?} bytes");
        }
    }

    /// The store must have what the mount shows.
    pub async fn acknowledged(&mut self, what: &str, name: Name) {
        let bytes = self.bytes(name);
        let there = self.world.stored(name).await;
        let length = there.as_ref().map(Bytes::len);
        assert!(there.as_ref() == Some(&bytes), "{}: {what} has acknowledged '{name}': {length:?} bytes", self.context);
        self.stored.insert(name, vec![Some(bytes)]);
    }

    pub async fn open(&mut self, name: Name, mode: OpenMode) -> HandleId {
        let handle = self.attempt("open", async |world| world.open(name, mode).await).await;
        if mode.truncate || !self.shown.contains_key(name) {
            self.stored.entry(name).or_insert_with(|| vec![None]);
            self.shown.insert(name, Bytes::new());
        }
        handle
    }

    pub async fn write(&mut self, name: Name, handle: HandleId, offset: usize, bytes: &Bytes) {
        // What has left is stored before it changes.
        self.may_be_stored(name, self.bytes(name));
        let mut all = self.bytes(name).to_vec();
        for (index, chunk) in bytes.chunks(MIB).enumerate() {
            let (at, chunk) = (offset + index * MIB, bytes.slice_ref(chunk));
            if let Err(error) = self.world.fs.write(handle, at as u64, chunk.clone(), CALLER).await {
                self.shown.insert(name, all.clone().into());
                let context = self.failed("write", &error).await;
                let again = self.world.fs.write(handle, at as u64, chunk.clone(), CALLER).await;
                again.unwrap_or_else(|again| panic!("{context}: again: {again}"));
            }
            all.resize(all.len().max(at + chunk.len()), 0);
            all[at..at + chunk.len()].copy_from_slice(&chunk);
        }
        self.shown.insert(name, all.into());
    }

    pub async fn append(&mut self, name: Name, handle: HandleId, bytes: &Bytes) {
        let end = self.bytes(name).len();
        self.write(name, handle, end, bytes).await;
    }

    pub async fn fsync(&mut self, name: Name, handle: HandleId) {
        self.may_be_stored(name, self.bytes(name));
        self.attempt("fsync", async |world| world.fs.fsync(handle).await).await;
        self.acknowledged("fsync", name).await;
    }

    /// The close of the only descriptor; what it says counts.
    pub async fn close(&mut self, name: Name, mut handle: HandleId) {
        self.may_be_stored(name, self.bytes(name));
        if let Err(error) = self.world.fs.flush(handle, |_| false).await {
            let context = self.failed("close", &error).await;
            if self.between == Between::Reading {
                let _ = self.world.fs.release(handle).await;
                self.is_whole(&context).await;
                handle = self.world.open(name, WRITE).await.unwrap();
            }
            self.world.fs.flush(handle, |_| false).await.unwrap_or_else(|again| panic!("{context}: again: {again}"));
        }
        self.acknowledged("close", name).await;
        self.world.fs.release(handle).await.unwrap_or_else(|error| panic!("{}: release: {error}", self.context));
        self.acknowledged("release", name).await;
    }

    /// As truncate(2).
    pub async fn truncate(&mut self, name: Name, length: usize) {
        let mut all = self.bytes(name).to_vec();
        all.resize(length, 0);
        let all = Bytes::from(all);
        self.aim = vec![(name, Some(all.clone()))];
        let change = SetAttr { size: Some(length as u64), ..SetAttr::default() };
        self.attempt("truncate", async |world| world.change(name, change).await).await;
        self.aim.clear();
        self.shown.insert(name, all);
    }

    /// Makes or takes names, as `aim` says; none of what had them before is lost meanwhile. Whoever has looked after a failure
    /// may know already that it was done all the same: then a repetition may be told `known`.
    async fn names(
        &mut self,
        what: &str,
        aim: Vec<(Name, Option<Bytes>)>,
        known: Option<Situation>,
        mut call: impl AsyncFnMut(&World) -> Step<()>,
    ) {
        for (name, _) in &aim {
            let bytes = self.shown.get(name).cloned();
            self.stored.entry(name).or_insert_with(|| vec![None]);
            if let Some(bytes) = bytes {
                self.may_be_stored(name, bytes);
            }
        }
        self.aim = aim;
        if let Err(error) = call(&self.world).await {
            let context = self.failed(what, &error).await;
            let mut is_done = true;
            for (name, bytes) in &self.aim {
                is_done &= self.world.stored(name).await == *bytes;
            }
            match call(&self.world).await {
                Err(again) if is_done && Some(again.situation()) == known => {}
                again => again.unwrap_or_else(|again| panic!("{context}: again, though the store is well: {again}")),
            }
        }
        for (name, bytes) in std::mem::take(&mut self.aim) {
            match bytes {
                Some(bytes) => self.shown.insert(name, bytes),
                None => self.shown.remove(name),
            };
        }
    }

    /// What was told of nothing but looking.
    fn if_looked(&self, situation: Situation) -> Option<Situation> {
        (self.between == Between::Reading).then_some(situation)
    }

    /// Moves a file, over another one if there is one. What the store had of it is always under one of the names.
    pub async fn rename(&mut self, from: Name, to: Name) {
        let bytes = self.bytes(from);
        let had = self.world.stored(from).await.is_some();
        let aim = vec![(from, None), (to, Some(bytes.clone()))];
        let (known, context) = (self.if_looked(Situation::NotFound), self.context.clone());
        self.names("rename", aim, known, async |world| {
            let moved = world.fs.rename((Ino::ROOT, from.as_bytes()), (Ino::ROOT, to.as_bytes()), Replace::Allowed).await;
            let there = [world.stored(from).await, world.stored(to).await];
            assert!(!had || there.iter().flatten().next().is_some(), "{context}: rename has lost '{from}'");
            moved
        })
        .await;
        assert_eq!(self.world.stored(from).await, None, "{}: the old name is gone", self.context);
        self.stored.insert(from, vec![None]);
        self.may_be_stored(to, bytes);
    }

    /// Removes a file.
    pub async fn unlink(&mut self, name: Name) {
        let known = self.if_looked(Situation::NotFound);
        self.names("unlink", vec![(name, None)], known, async |world| world.fs.unlink(Ino::ROOT, name.as_bytes()).await).await;
        assert_eq!(self.world.stored(name).await, None, "{}: unlink has removed it", self.context);
        self.stored.insert(name, vec![None]);
    }

    /// Makes a directory; `marker` is its name with a '/'.
    pub async fn mkdir(&mut self, marker: Name) {
        let name = marker.trim_end_matches('/').as_bytes();
        self.names("mkdir", vec![(marker, Some(Bytes::new()))], Some(Situation::Exists), async |world| {
            let made = world.fs.mkdir(Ino::ROOT, name, 0o755, CALLER).await?;
            world.fs.forget(made.ino, 1);
            Ok(())
        })
        .await;
        self.acknowledged("mkdir", marker).await;
    }

    /// Removes a directory.
    pub async fn rmdir(&mut self, marker: Name) {
        let name = marker.trim_end_matches('/').as_bytes();
        let known = self.if_looked(Situation::NotFound);
        self.names("rmdir", vec![(marker, None)], known, async |world| world.fs.rmdir(Ino::ROOT, name).await).await;
        assert_eq!(self.world.stored(marker).await, None, "{}: rmdir has removed it", self.context);
        self.stored.insert(marker, vec![None]);
    }

    /// Makes a symbolic link.
    pub async fn symlink(&mut self, name: Name, target: &str) {
        self.names("symlink", vec![(name, Some(Bytes::new()))], Some(Situation::Exists), async |world| {
            let made = world.fs.symlink(Ino::ROOT, name.as_bytes(), target.as_bytes(), CALLER).await?;
            world.fs.forget(made.ino, 1);
            Ok(())
        })
        .await;
        self.acknowledged("symlink", name).await;
        assert_eq!(self.metadata(name).await.get("symlink-target").map(String::as_str), Some(target), "{}", self.context);
    }

    /// chmod, and an attribute: the bytes stay.
    pub async fn describe(&mut self, name: Name, mode: u32, value: &str) {
        self.may_be_stored(name, self.bytes(name));
        let change = SetAttr { mode: Some(mode), ..SetAttr::default() };
        self.attempt("chmod", async |world| world.change(name, change).await).await;
        self.attempt("setxattr", async |world| {
            let Looked::Found(stat) = world.fs.lookup(Ino::ROOT, name.as_bytes()).await? else { panic!("'{name}' is not there") };
            let set = world.fs.setxattr(stat.ino, b"user.told", value.as_bytes(), SetHow::Any, CALLER).await;
            world.fs.forget(stat.ino, 1);
            set
        })
        .await;
    }

    /// The object carries what was told of it.
    pub async fn is_described(&self, name: Name, mode: u32, value: &str) {
        let metadata = self.metadata(name).await;
        let stored = metadata.get("mode").map(|mode| mode.parse::<u32>().unwrap() & 0o7777);
        assert_eq!(stored, Some(mode), "{}: the mode of '{name}'", self.context);
        assert_eq!(metadata.get("told").map(String::as_str), Some(value), "{}: the attribute of '{name}'", self.context);
    }

    /// What the store has, past all faults.
    async fn metadata(&self, name: Name) -> Metadata {
        let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new(name).unwrap());
        self.world.memory.head(&HeadObject { object }).await.unwrap().properties.metadata
    }

    /// Copies a range of one file to the beginning of another, inside the store.
    pub async fn copy_range(&mut self, from: (Name, HandleId), to: (Name, HandleId), range: std::ops::Range<usize>) {
        let (bytes, len) = (self.bytes(from.0).slice(range.clone()), range.len() as u64);
        // The source is stored first, and what was written to the target may be.
        for name in [from.0, to.0] {
            self.may_be_stored(name, self.bytes(name));
        }
        let (source, target) = (Spot { handle: from.1, offset: range.start as u64 }, Spot { handle: to.1, offset: 0 });
        let copied = self.attempt("copy", async |world| world.fs.copy_range(source, target, len, CALLER).await).await;
        assert_eq!(copied, len, "{}", self.context);
        let mut all = self.bytes(to.0).to_vec();
        all.resize(all.len().max(bytes.len()), 0);
        all[..bytes.len()].copy_from_slice(&bytes);
        self.may_be_stored(to.0, all.clone().into());
        self.shown.insert(to.0, all.into());
    }

    /// An open handle shows the bytes, whatever name they have by now.
    pub async fn reads(&mut self, handle: HandleId, bytes: &Bytes) {
        let mut all = Vec::new();
        while all.len() < bytes.len() {
            let offset = all.len() as u64;
            let read = self.attempt("read", async |world| world.fs.read(handle, offset, 128 << 10).await).await;
            if read.is_empty() {
                break;
            }
            all.extend_from_slice(&read);
        }
        assert!(all == *bytes, "{}: an open file reads otherwise: {} bytes", self.context, all.len());
    }

    /// Everything is closed: the store has exactly what the mount shows, and nothing is left over.
    pub async fn end(mut self, fault: Option<(usize, Toxic, usize)>) -> Vec<Operation> {
        let calls = self.world.fault.calls();
        self.world.fault.heal();
        // What is late arrives.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let context = std::mem::take(&mut self.context);
        assert_eq!(self.world.fs.commit_all().await, [], "{context}: nothing is dirty");
        for name in self.stored.keys() {
            let (there, shown) = (self.world.stored(name).await, self.shown.get(name));
            // What makes an object and arrives when that was removed makes it anew: no condition of S3's is against it.
            let late = fault.is_some_and(|(_, toxic, _)| toxic == Toxic::Late) && shown.is_none();
            assert!(late || there.as_ref() == shown, "{context}: '{name}' is in the end as it is shown");
        }
        for (name, bytes) in &self.shown {
            assert!(self.read(name, &context).await.as_ref() == Some(bytes), "{context}: '{name}' reads so");
        }
        // The id of an upload whose beginning was not answered is known to nobody.
        let hit = |operation: Operation| {
            let hit = fault.iter().flat_map(|(nth, _, burst)| calls.iter().skip(*nth).take(*burst));
            hit.filter(|call| **call == operation).count()
        };
        let lost = fault.is_some_and(|(_, toxic, _)| toxic == Toxic::Lost);
        let unknown = if lost { hit(Operation::CreateMultipartUpload) } else { 0 };
        let left = self.world.uploads().await;
        assert!(left <= unknown, "{context}: {left} uploads are left");
        assert_eq!(self.world.fs.open_handles(), (0, 0), "{context}: no handle is left");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.world.fs.memory_used(), 0, "{context}: no memory is left");
        assert!(self.world.take_kept().is_empty(), "{context}: nothing had to be kept");
        calls
    }
}

impl World {
    pub async fn change(&self, name: &str, change: SetAttr) -> Step<()> {
        let Looked::Found(stat) = self.fs.lookup(Ino::ROOT, name.as_bytes()).await? else { panic!("'{name}' is not there") };
        let changed = self.fs.setattr(stat.ino, change, CALLER).await;
        self.fs.forget(stat.ino, 1);
        changed.map(drop)
    }
}
