//! The operations of the model test, done to a mount and to the model.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pailfs::fs::attr::{Ino, Kind, SetAttr};
use pailfs::fs::config::Config;
use pailfs::fs::error::Situation;
use pailfs::fs::handles::{HandleId, OpenMode};
use pailfs::fs::{Full, Looked, Plus, Replace, Stat};
use pailfs::store::memory::Memory;
use pailfs::store::{BucketName, Condition, DeleteObject, HeadObject, Key, ObjectRef, ObjectStore as _, RetryPolicy};

use crate::model::{COMPONENTS, NAMES, Op, SLOTS};
use crate::model_tree::{FOREIGN_MODE, Model, Node, Object, Outcome, answer_of_kernel};
use crate::world::{CALLER, READ, Step, WRITE, World};

/// What this mount makes files with.
const OWN_MODE: u32 = 0o640;

/// A model and what is tested against it.
pub struct Run {
    pub world: World,
    memory: Memory,
    model: Model,
    handles: BTreeMap<usize, HandleId>,
    /// What the kernel was told of and has not forgotten, as often as that.
    told: RefCell<Vec<Ino>>,
    ttl: Duration,
    most_forgotten: usize,
}

fn paths(indexes: &[usize]) -> String {
    indexes.iter().map(|index| NAMES[*index]).collect::<Vec<_>>().join("/")
}

fn key_of(indexes: &[usize], slash: bool) -> String {
    let bare = indexes.iter().map(|index| COMPONENTS[*index]).collect::<Vec<_>>().join("/");
    if slash || bare.is_empty() { bare + "/" } else { bare }
}

fn bytes_of(seed: u8) -> Vec<u8> {
    (0..seed % 50).map(|at| at.wrapping_mul(seed)).collect()
}

fn situation<T>(step: Step<T>) -> Outcome<T> {
    step.map_err(|error| error.situation())
}

impl Run {
    pub fn new(ttl: Duration, most_forgotten: usize) -> Self {
        let memory = Memory::new();
        Self {
            world: Self::mounted(&memory, ttl, most_forgotten),
            memory,
            model: Model::default(),
            handles: BTreeMap::new(),
            told: RefCell::default(),
            ttl,
            most_forgotten,
        }
    }

    fn mounted(memory: &Memory, ttl: Duration, most_forgotten: usize) -> World {
        let config = Config { most_forgotten, ..Config::new(BucketName::new("bucket").unwrap()) };
        World::on(memory.clone(), config, RetryPolicy::once(), ttl)
    }

    async fn find(&self, parent: Ino, name: &str) -> Outcome<Option<Stat>> {
        match situation(self.world.fs.lookup(parent, name.as_bytes()).await)? {
            Looked::Found(stat) => {
                self.told.borrow_mut().push(stat.ino);
                Ok(Some(stat))
            }
            Looked::Absent => Ok(None),
        }
    }

    /// As a kernel that is short of memory.
    pub fn forget_all(&self) {
        for ino in self.told.take() {
            self.world.fs.forget(ino, 1);
        }
    }

    /// The directory that a path is in, as the kernel finds it, and what is there by its name.
    async fn walk(&self, path: &str) -> Outcome<(Ino, Option<Stat>)> {
        let (parent, name) = Model::split(path);
        let mut ino = Ino::ROOT;
        for part in parent.split('/').filter(|part| !part.is_empty()) {
            let stat = self.find(ino, part).await?.ok_or(Situation::NotFound)?;
            if stat.kind != Kind::Directory {
                return Err(Situation::NotDirectory);
            }
            ino = stat.ino;
        }
        Ok((ino, self.find(ino, name).await?))
    }

    async fn there(&self, path: &str) -> Outcome<Stat> {
        self.walk(path).await?.1.ok_or(Situation::NotFound)
    }

    /// Opens a file, or makes it.
    async fn handle(&self, path: &str, mode: OpenMode) -> Outcome<HandleId> {
        let fs = &self.world.fs;
        let (parent, there) = self.walk(path).await?;
        match there {
            Some(stat) if stat.kind == Kind::Directory => Err(Situation::IsDirectory),
            Some(stat) => situation(fs.open(stat.ino, mode, CALLER).await),
            None => {
                let name = Model::split(path).1.as_bytes();
                let (stat, handle) = situation(fs.create(parent, name, OWN_MODE, mode, CALLER).await)?;
                self.told.borrow_mut().push(stat.ino);
                Ok(handle)
            }
        }
    }

    async fn store(&self, path: &str, mode: OpenMode, bytes: Vec<u8>) -> Outcome {
        let handle = self.handle(path, mode).await?;
        let stored = self.write(handle, bytes).await;
        situation(self.world.fs.release(handle).await).and(stored)
    }

    async fn write(&self, handle: HandleId, bytes: Vec<u8>) -> Outcome {
        if !bytes.is_empty() {
            situation(self.world.fs.write(handle, 0, Bytes::from(bytes), CALLER).await)?;
        }
        situation(self.world.fs.flush(handle, |_| false).await)
    }

    async fn change(&self, path: &str, change: SetAttr) -> Outcome {
        let stat = self.there(path).await?;
        if stat.kind == Kind::Directory {
            return Err(Situation::IsDirectory);
        }
        situation(self.world.fs.setattr(stat.ino, change, CALLER).await).map(|_| ())
    }

    /// Does one thing in the mount, and what it should do in the model: both answers.
    pub async fn apply(&mut self, op: &Op) -> (Outcome, Outcome) {
        let fs = Arc::clone(&self.world.fs);
        let mut next = self.model.clone();
        // An object is reached for a while by the name that it had beside a directory which was removed here.
        if self.ttl > Duration::from_secs(1) && op.paths().iter().any(|at| next.is_beside_nothing(&paths(at))) {
            return (Ok(()), Ok(()));
        }
        if let Op::Write(at, _) | Op::Append(at, _) | Op::Truncate(at, _) | Op::Chmod(at, _) = op
            && matches!(next.look(&paths(at)), Ok(Node::Object(_, Object { link: Some(_), .. })))
        {
            // The kernel follows it.
            return (Ok(()), Ok(()));
        }
        let (real, expected) = match op {
            Op::Write(at, seed) | Op::Append(at, seed) => {
                let path = paths(at);
                let append = matches!(op, Op::Append(..));
                let mode = OpenMode { truncate: !append, append, ..WRITE };
                let real = self.store(&path, mode, bytes_of(*seed)).await;
                (real, self.expect_write(&mut next, &path, append, &bytes_of(*seed)))
            }
            Op::Truncate(at, len) => {
                let (path, len) = (paths(at), *len % 40);
                let real = self.change(&path, SetAttr { size: Some(len.into()), ..SetAttr::default() }).await;
                let expected = next.file(&path).and_then(|(key, mut object)| {
                    object.bytes.resize(len.into(), 0);
                    if key.ends_with('/') && len == 0 {
                        return Err(Situation::Invalid);
                    }
                    let unsaved = next.is_unsaved(&key);
                    next.change(&key, object, None);
                    if !next.is_open(&key) || !unsaved {
                        next.save(&key);
                    }
                    Ok(())
                });
                (real, expected)
            }
            Op::Chmod(at, mode) => {
                let path = paths(at);
                let real = self.change(&path, SetAttr { mode: Some(*mode), ..SetAttr::default() }).await;
                let expected = next.file(&path).map(|(key, object)| {
                    next.keys.insert(key, Object { mode: *mode, ..object });
                });
                (real, expected)
            }
            Op::Symlink(at, seed) => {
                let (path, target) = (paths(at), format!("to/{seed}").into_bytes());
                let real = match self.walk(&path).await {
                    Ok((_, Some(_))) => Err(Situation::Exists),
                    Ok((parent, None)) => {
                        let name = Model::split(&path).1.as_bytes();
                        let made = situation(fs.symlink(parent, name, &target, CALLER).await);
                        made.map(|stat| self.told.borrow_mut().push(stat.ino))
                    }
                    Err(error) => Err(error),
                };
                let expected = match next.look(&path) {
                    Ok(_) => Err(Situation::Exists),
                    Err(Situation::NotFound) => next.new_key(&path, false).map(|key| {
                        next.keys.insert(key, Object { bytes: Vec::new(), link: Some(target), mode: 0o777 });
                    }),
                    Err(other) => Err(other),
                };
                (real, expected)
            }
            Op::Mkdir(at) => {
                let path = paths(at);
                let real = match self.walk(&path).await {
                    Ok((_, Some(_))) => Err(Situation::Exists),
                    Ok((parent, None)) => {
                        let made = situation(fs.mkdir(parent, Model::split(&path).1.as_bytes(), 0o755, CALLER).await);
                        made.map(|stat| self.told.borrow_mut().push(stat.ino))
                    }
                    Err(error) => Err(error),
                };
                (real, next.mkdir(&path))
            }
            Op::Unlink(at) => {
                let path = paths(at);
                let real = match self.walk(&path).await {
                    Ok((parent, Some(_))) => situation(fs.unlink(parent, Model::split(&path).1.as_bytes()).await),
                    Ok((_, None)) => Err(Situation::NotFound),
                    Err(error) => Err(error),
                };
                (real, next.unlink(&path))
            }
            Op::Rmdir(at) => {
                let path = paths(at);
                let real = match self.walk(&path).await {
                    Ok((parent, Some(_))) => situation(fs.rmdir(parent, Model::split(&path).1.as_bytes()).await),
                    Ok((_, None)) => Err(Situation::NotFound),
                    Err(error) => Err(error),
                };
                (real, next.rmdir(&path))
            }
            Op::Rename(from, to, replace) => {
                let (from, to) = (paths(from), paths(to));
                let real = self.rename(&from, &to, *replace).await;
                (real, next.rename(&from, &to, *replace))
            }
            Op::Put(at, slash, seed) => {
                let (key, bytes) = (key_of(at, *slash), bytes_of(*seed));
                self.world.put(&key, &Bytes::from(bytes.clone())).await;
                next.keys.insert(key, Object { bytes, link: None, mode: FOREIGN_MODE });
                (Ok(()), Ok(()))
            }
            Op::Delete(at, slash) => {
                let key = key_of(at, *slash);
                if next.kept.contains(&key) {
                    // Emptied here, and removed elsewhere: it stays unless its marker was known.
                    return (Ok(()), Ok(()));
                }
                let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new(&key).unwrap());
                self.memory.delete(&DeleteObject { object, condition: Condition::None }).await.unwrap();
                next.keys.remove(&key);
                (Ok(()), Ok(()))
            }
            Op::Look => (Ok(()), Ok(())),
            Op::Forget => {
                self.forget_all();
                (Ok(()), Ok(()))
            }
            Op::Remount | Op::Crash => {
                if matches!(op, Op::Remount) {
                    assert_eq!(fs.finish().await, []);
                    let open: Vec<String> = next.handles.values().flatten().cloned().collect();
                    open.iter().for_each(|key| next.save(key));
                }
                self.world = Self::mounted(&self.memory, self.ttl, self.most_forgotten);
                self.handles.clear();
                self.told.take();
                next.crash();
                (Ok(()), Ok(()))
            }
            Op::Open(slot, at, truncate) => self.open(&mut next, *slot, &paths(at), *truncate).await,
            Op::WriteAt(slot, offset, seed) => {
                let Some(handle) = self.handles.get(slot) else { return (Ok(()), Ok(())) };
                let (offset, bytes) = (usize::from(*offset % 60), bytes_of(*seed));
                let real = situation(fs.write(*handle, offset as u64, Bytes::from(bytes.clone()), CALLER).await);
                if let Some(Some(key)) = next.handles.get(slot).cloned().filter(|_| !bytes.is_empty()) {
                    let mut object = next.keys[&key].clone();
                    object.bytes.resize(object.bytes.len().max(offset + bytes.len()), 0);
                    object.bytes[offset..offset + bytes.len()].copy_from_slice(&bytes);
                    next.change(&key, object, Some(*slot));
                }
                (real, Ok(()))
            }
            Op::Fsync(slot) => {
                let Some(handle) = self.handles.get(slot) else { return (Ok(()), Ok(())) };
                let real = situation(fs.fsync(*handle).await);
                if let Some(Some(key)) = next.handles.get(slot).cloned() {
                    next.save(&key);
                }
                (real, Ok(()))
            }
            Op::Close(slot) => {
                let Some(handle) = self.handles.remove(slot) else { return (Ok(()), Ok(())) };
                let flushed = situation(fs.flush(handle, |_| false).await);
                next.close(*slot);
                (situation(fs.release(handle).await).and(flushed), Ok(()))
            }
        };
        if expected.is_ok() {
            self.model = next;
        }
        self.take_announced().await;
        (real, expected)
    }

    /// Opens a file and keeps it open.
    async fn open(&mut self, next: &mut Model, slot: usize, path: &str, truncate: bool) -> (Outcome, Outcome) {
        if self.handles.contains_key(&slot) {
            return (Ok(()), Ok(()));
        }
        let there = next.look(path);
        if let Ok(Node::Object(key, object)) = &there
            && (key.ends_with('/') || object.link.is_some())
        {
            return (Ok(()), Ok(()));
        }
        let opened = self.handle(path, OpenMode { read: true, truncate, ..WRITE }).await;
        let expected = match there {
            Ok(Node::Directory) => Err(Situation::IsDirectory),
            Ok(Node::Object(key, object)) => {
                if truncate {
                    next.change(&key, Object { bytes: Vec::new(), ..object }, Some(slot));
                }
                Ok(key)
            }
            Err(Situation::NotFound) => next.new_key(path, false).inspect(|key| {
                next.change(key, Object { bytes: Vec::new(), link: None, mode: OWN_MODE }, Some(slot));
            }),
            Err(other) => Err(other),
        };
        if let Ok(key) = &expected {
            next.handles.insert(slot, Some(key.clone()));
        }
        (opened.map(|handle| _ = self.handles.insert(slot, handle)), expected.map(|_| ()))
    }

    /// Before a file with a mode of its own is stored its directory's marker says so, also where there was none.
    async fn take_announced(&mut self) {
        for key in self.world.keys().await.into_iter().filter(|key| key.ends_with('/')) {
            let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new(&key).unwrap());
            let info = self.memory.head(&HeadObject { object }).await.unwrap();
            let announced = info.size == 0 && info.properties.metadata.contains_key("pailfs-attrs");
            if announced && self.model.has_directory(&key) {
                self.model.keys.entry(key).or_insert(Object { bytes: Vec::new(), link: None, mode: FOREIGN_MODE });
            }
        }
    }

    fn expect_write(&self, next: &mut Model, path: &str, append: bool, bytes: &[u8]) -> Outcome {
        let (key, object, changed) = match next.look(path) {
            Ok(Node::Directory) => return Err(Situation::IsDirectory),
            Ok(Node::Object(key, object)) => {
                let old = if append { object.bytes.clone() } else { Vec::new() };
                (key, Object { bytes: [&old, bytes].concat(), ..object }, !append || !bytes.is_empty())
            }
            Err(Situation::NotFound) => {
                (next.new_key(path, false)?, Object { bytes: bytes.to_vec(), link: None, mode: OWN_MODE }, true)
            }
            Err(other) => return Err(other),
        };
        if key.ends_with('/') && object.bytes.is_empty() {
            return Err(Situation::Invalid);
        }
        next.handles.insert(SLOTS, Some(key.clone()));
        if changed {
            next.change(&key, object, Some(SLOTS));
        }
        next.close(SLOTS);
        Ok(())
    }

    /// As rename(2): the kernel itself refuses what has no sense.
    async fn rename(&self, from: &str, to: &str, replace: bool) -> Outcome {
        let (old, there) = self.walk(from).await?;
        let moved = there.ok_or(Situation::NotFound)?;
        let (new, there) = self.walk(to).await?;
        if let Some(answer) = answer_of_kernel(from, to, there.is_some() && !replace) {
            return answer;
        }
        match there {
            Some(there) if moved.kind != Kind::Directory && there.kind == Kind::Directory => return Err(Situation::IsDirectory),
            Some(there) if moved.kind == Kind::Directory && there.kind != Kind::Directory => return Err(Situation::NotDirectory),
            _ => {}
        }
        let replace = if replace { Replace::Allowed } else { Replace::Forbidden };
        let (from, to) = (Model::split(from).1.as_bytes(), Model::split(to).1.as_bytes());
        situation(self.world.fs.rename((old, from), (new, to), replace).await)
    }

    /// The tree as it is listed, looked up and read.
    async fn tree(&self) -> BTreeMap<String, Node> {
        let mut tree = BTreeMap::new();
        let mut waiting = vec![(String::new(), Ino::ROOT)];
        while let Some((path, ino)) = waiting.pop() {
            for (name, listed) in self.names(ino).await {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                let stat = self.find(ino, &name).await.unwrap().unwrap_or_else(|| panic!("{path} is listed and not found"));
                if let Some(listed) = listed {
                    let shown = |stat: Stat| (stat.kind, stat.attr.size, stat.attr.mode);
                    assert_eq!(shown(listed), shown(stat), "{path} as it is listed, and as it is looked up");
                }
                let node = match stat.kind {
                    Kind::Directory => {
                        waiting.push((path.clone(), stat.ino));
                        Node::Directory
                    }
                    Kind::Symlink => {
                        let target = self.world.fs.readlink(stat.ino).await.unwrap();
                        let object = Object { bytes: Vec::new(), link: Some(target), mode: 0o777 };
                        Node::Object(String::new(), object)
                    }
                    _ => {
                        let handle = self.world.fs.open(stat.ino, READ, CALLER).await.unwrap();
                        let bytes = self.world.fs.read(handle, 0, 1000).await.unwrap().to_vec();
                        assert_eq!(stat.attr.size, bytes.len() as u64, "{path}");
                        self.world.fs.release(handle).await.unwrap();
                        Node::Object(String::new(), Object { bytes, link: None, mode: stat.attr.mode })
                    }
                };
                assert!(tree.insert(path.clone(), node).is_none(), "{path} is listed twice");
            }
        }
        tree
    }

    /// What is listed, with what is certain of it: with attributes, as a kernel that reads ahead, and without.
    async fn names(&self, ino: Ino) -> Vec<(String, Option<Stat>)> {
        let with = self.entries(ino, Plus::Yes).await;
        let sorted = |entries: &[(String, Option<Stat>)]| {
            let mut names: Vec<String> = entries.iter().map(|(name, _)| name.clone()).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&with), sorted(&self.entries(ino, Plus::No).await));
        with
    }

    async fn entries(&self, ino: Ino, plus: Plus) -> Vec<(String, Option<Stat>)> {
        let fs = &self.world.fs;
        let (handle, mut entries, mut offset) = (fs.opendir(ino).unwrap(), Vec::new(), 0);
        loop {
            let before = offset;
            fs.readdir(handle, offset, plus, |entry| {
                offset = entry.offset;
                if !entry.is_dot {
                    entries.push((entry.name.to_owned(), entry.certain.then_some(entry.stat)));
                    if plus == Plus::Yes {
                        self.told.borrow_mut().push(entry.stat.ino);
                    }
                }
                Full::No
            })
            .await
            .unwrap();
            if offset == before {
                break;
            }
        }
        fs.releasedir(handle);
        entries
    }

    /// The mount shows the model's tree, and the bucket has the model's keys.
    pub async fn check(&self, context: &str) {
        let unkeyed = |node: Node| if let Node::Object(_, object) = node { Node::Object(String::new(), object) } else { node };
        let expected: BTreeMap<String, Node> = self.model.tree().into_iter().map(|(path, node)| (path, unkeyed(node))).collect();
        assert_eq!(self.tree().await, expected, "{context}: the tree");
        let keys: BTreeSet<String> = self.world.keys().await.into_iter().collect();
        let bucket = self.model.bucket();
        assert_eq!(keys, bucket.keys().cloned().collect::<BTreeSet<_>>(), "{context}: the keys");
        for (key, object) in &bucket {
            assert_eq!(self.world.stored(key).await.unwrap(), object.bytes, "{context}: the bytes of '{key}'");
        }
    }
}
