//! One run of a scenario of the fault loop: what the mount must show and what the store may have by now, and what must hold
//! after each failure.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pailfs::fs::Looked;
use pailfs::fs::attr::{Ino, SetAttr};
use pailfs::fs::error::Situation;
use pailfs::fs::handles::{HandleId, OpenMode};
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
        self.is_whole(&context).await;
        if self.between == Between::Reading {
            // Reading may have to store what has left already.
            for (name, bytes) in self.shown.clone() {
                self.may_be_stored(name, bytes);
            }
            for (name, bytes) in &self.shown {
                let aims = self.aim.iter().filter(|(aim, _)| aim == name).map(|(_, aim)| aim.clone());
                let allowed: Vec<Option<Bytes>> = aims.chain([Some(bytes.clone())]).collect();
                let read = match self.world.read(name).await {
                    Ok(read) => Some(read),
                    Err(error) if error.situation() == Situation::NotFound => None,
                    Err(error) => panic!("{context}: '{name}' cannot be read: {error}"),
                };
                assert!(allowed.contains(&read), "{context}: '{name}' reads otherwise: {:?} bytes", read.map(|read| read.len()));
            }
            self.is_whole(&context).await;
        }
        context
    }

    fn may_be_stored(&mut self, name: Name, bytes: Bytes) {
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
            assert!(there.as_ref() == shown, "{context}: '{name}' is in the end as it is shown");
        }
        for (name, bytes) in &self.shown {
            assert!(self.world.read(name).await.unwrap() == *bytes, "{context}: '{name}' reads so");
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
