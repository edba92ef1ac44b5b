//! Which tree a bucket is, by the rules of `pailfs help names`, and what each operation makes of it.

use std::collections::{BTreeMap, BTreeSet};

use pailfs::fs::error::Situation;
use pailfs::fs::name::{Component, parse, show};

/// What an object shows that has no attributes of its own.
pub const FOREIGN_MODE: u32 = 0o644;

pub type Outcome<T = ()> = Result<T, Situation>;

/// An object, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bytes: Vec<u8>,
    pub link: Option<Vec<u8>>,
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Directory,
    /// Of this key.
    Object(String, Object),
}

/// A content that no close and no fsync has acknowledged.
#[derive(Debug, Clone, Default)]
struct Unsaved {
    /// What the bucket has instead.
    old: Option<Object>,
    /// Which handles have changed it, and whether somebody else has.
    by: BTreeSet<usize>,
    by_any: bool,
}

/// What is in the bucket, and what this mount alone knows.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// What is shown: the objects of the bucket, but for what is not saved.
    pub keys: BTreeMap<String, Object>,
    unsaved: BTreeMap<String, Unsaved>,
    /// The open handles, and the keys of their files, if these have names.
    pub handles: BTreeMap<usize, Option<String>>,
    /// Directories (as prefixes of keys) that something was removed from here: they stay.
    pub kept: BTreeSet<String>,
}

/// The prefixes of the directories that a key is in.
fn directories_of(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(|(at, _)| &key[..=at])
}

/// What the kernel itself says to a rename, whoever is asked for it; `taken`: the new name is, and may not be.
pub fn answer_of_kernel(from: &str, to: &str, taken: bool) -> Option<Outcome> {
    let below = |path: &str, directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
    match () {
        () if taken => Some(Err(Situation::Exists)),
        () if from == to => Some(Ok(())),
        () if below(to, from) => Some(Err(Situation::Invalid)),
        () if below(from, to) => Some(Err(Situation::NotEmpty)),
        () => None,
    }
}

impl Model {
    fn is_marker(key: &str, object: &Object) -> bool {
        key.ends_with('/') && object.bytes.is_empty() && object.link.is_none()
    }

    fn directories(&self) -> BTreeSet<&str> {
        let kept = self.kept.iter().flat_map(|prefix| directories_of(prefix));
        kept.chain(self.keys.keys().flat_map(|key| directories_of(key))).collect()
    }

    /// Whether there is a directory whose keys begin so.
    pub fn has_directory(&self, prefix: &str) -> bool {
        self.directories().contains(prefix)
    }

    /// The tree that the bucket is, by paths.
    pub fn tree(&self) -> BTreeMap<String, Node> {
        let directories = self.directories();
        let path_of = |prefix: &str| -> String {
            let parts = prefix.strip_suffix('/').map_or(Vec::new(), |bare| bare.split('/').collect());
            parts.iter().map(|part| show(&Component::new(part).unwrap(), false).unwrap() + "/").collect()
        };
        let mut tree = BTreeMap::new();
        for directory in &directories {
            let path = path_of(directory);
            tree.insert(path.trim_end_matches('/').to_owned(), Node::Directory);
        }
        for (key, object) in self.keys.iter().filter(|(key, object)| !Self::is_marker(key, object)) {
            let (prefix, last) = key.rfind('/').map_or(("", &**key), |at| key.split_at(at + 1));
            let beside = directories.contains(&*format!("{key}/"));
            let name = show(&Component::new(last).unwrap(), beside).unwrap();
            tree.insert(path_of(prefix) + &name, Node::Object(key.clone(), object.clone()));
        }
        tree
    }

    /// The prefix of keys below a directory of the tree.
    fn prefix(path: &str) -> String {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.map(|part| parse(part).unwrap().component.as_str().to_owned() + "/").collect()
    }

    /// What a path leads to, as a kernel walks it.
    pub fn look(&self, path: &str) -> Outcome<Node> {
        let tree = self.tree();
        let mut walked = String::new();
        let mut node = Node::Directory;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if node != Node::Directory {
                return Err(Situation::NotDirectory);
            }
            walked = if walked.is_empty() { part.to_owned() } else { format!("{walked}/{part}") };
            node = tree.get(&walked).cloned().ok_or(Situation::NotFound)?;
        }
        Ok(node)
    }

    pub fn split(path: &str) -> (&str, &str) {
        path.rsplit_once('/').unwrap_or(("", path))
    }

    /// Whether a path has the name of an object beside a directory that is not there.
    pub fn is_beside_nothing(&self, path: &str) -> bool {
        let directories = self.directories();
        let mut prefix = String::new();
        path.split('/').any(|part| {
            let Some(shown) = parse(part) else { return false };
            prefix += shown.component.as_str();
            prefix += "/";
            shown.beside_directory && !directories.contains(&*prefix)
        })
    }

    /// The directory that a path is in.
    fn parent(&self, path: &str) -> Outcome<String> {
        let (parent, _) = Self::split(path);
        match self.look(parent)? {
            Node::Directory => Ok(Self::prefix(parent)),
            Node::Object(..) => Err(Situation::NotDirectory),
        }
    }

    /// The key of something new at a path where nothing is.
    pub fn new_key(&self, path: &str, directory: bool) -> Outcome<String> {
        let prefix = self.parent(path)?;
        let shown = parse(Self::split(path).1).ok_or(Situation::Invalid)?;
        let key = prefix + shown.component.as_str();
        let is_beside = self.directories().contains(&*format!("{key}/"));
        // `x%00` is the object beside a directory; `%2F` as an object would be the marker.
        let bad = shown.beside_directory != is_beside || !directory && shown.component.as_str().is_empty();
        if bad || directory && shown.beside_directory { Err(Situation::Invalid) } else { Ok(key) }
    }

    pub fn file(&self, path: &str) -> Outcome<(String, Object)> {
        match self.look(path)? {
            Node::Object(key, object) => Ok((key, object)),
            Node::Directory => Err(Situation::IsDirectory),
        }
    }

    /// A name has gone from the directory that the object of this key was in: that stays.
    fn keep_parent(&mut self, key: &str) {
        if let Some(at) = key.rfind('/') {
            self.kept.insert(key[..=at].to_owned());
        }
    }

    pub fn unlink(&mut self, path: &str) -> Outcome {
        let (key, _) = self.file(path)?;
        self.remove(&key);
        self.keep_parent(&key);
        Ok(())
    }

    /// An object is gone; who has it open has it still.
    fn remove(&mut self, key: &str) {
        self.keys.remove(key);
        self.unsaved.remove(key);
        for at in self.handles.values_mut().filter(|at| at.as_deref() == Some(key)) {
            *at = None;
        }
    }

    /// What the bucket has: what was acknowledged.
    pub fn bucket(&self) -> BTreeMap<String, Object> {
        let mut bucket = self.keys.clone();
        for (key, Unsaved { old, .. }) in &self.unsaved {
            match old {
                Some(old) => bucket.insert(key.clone(), old.clone()),
                None => bucket.remove(key),
            };
        }
        bucket
    }

    /// A content is changed by a handle, or nobody knows by which.
    pub fn change(&mut self, key: &str, object: Object, by: Option<usize>) {
        let old = self.keys.insert(key.to_owned(), object);
        let unsaved = self.unsaved.entry(key.to_owned()).or_insert_with(|| Unsaved { old, ..Unsaved::default() });
        match by {
            Some(by) => _ = unsaved.by.insert(by),
            None => unsaved.by_any = true,
        }
    }

    pub fn save(&mut self, key: &str) {
        self.unsaved.remove(key);
    }

    pub fn is_unsaved(&self, key: &str) -> bool {
        self.unsaved.contains_key(key)
    }

    pub fn is_open(&self, key: &str) -> bool {
        self.handles.values().any(|at| at.as_deref() == Some(key))
    }

    /// A handle is closed: what was changed through it is saved, and anything when it was the last.
    pub fn close(&mut self, slot: usize) {
        let Some(Some(key)) = self.handles.remove(&slot) else { return };
        let anothers = self.unsaved.get_mut(&key).is_some_and(|unsaved| {
            let may_be_his = unsaved.by.remove(&slot) || unsaved.by_any;
            !may_be_his && !unsaved.by.is_empty()
        });
        if !anothers || !self.is_open(&key) {
            self.save(&key);
        }
    }

    /// The mount is gone, and begins again.
    pub fn crash(&mut self) {
        *self = Self { keys: self.bucket(), ..Self::default() };
    }

    fn is_empty(&self, path: &str) -> bool {
        let below = format!("{path}/");
        !self.tree().keys().any(|other| other.starts_with(&below))
    }

    pub fn mkdir(&mut self, path: &str) -> Outcome {
        match self.look(path) {
            Ok(_) => return Err(Situation::Exists),
            Err(Situation::NotFound) => {}
            Err(other) => return Err(other),
        }
        let prefix = self.new_key(path, true)? + "/";
        self.keys.insert(prefix, Object { bytes: Vec::new(), link: None, mode: FOREIGN_MODE });
        Ok(())
    }

    pub fn rmdir(&mut self, path: &str) -> Outcome {
        match self.look(path)? {
            Node::Object(..) => return Err(Situation::NotDirectory),
            Node::Directory if !self.is_empty(path) => return Err(Situation::NotEmpty),
            Node::Directory => {}
        }
        let prefix = Self::prefix(path);
        self.keys.remove(&prefix);
        self.kept.remove(&prefix);
        self.keep_parent(prefix.strip_suffix('/').unwrap());
        Ok(())
    }

    pub fn rename(&mut self, from: &str, to: &str, replace: bool) -> Outcome {
        let moved = self.look(from)?;
        self.parent(to)?;
        let there = match self.look(to) {
            Ok(there) => Some(there),
            Err(Situation::NotFound) => None,
            Err(other) => return Err(other),
        };
        if let Some(answer) = answer_of_kernel(from, to, there.is_some() && !replace) {
            return answer;
        }
        let to_key = match (&moved, &there) {
            (Node::Object(..), Some(Node::Directory)) => return Err(Situation::IsDirectory),
            (Node::Directory, Some(Node::Object(..))) => return Err(Situation::NotDirectory),
            (Node::Directory, Some(Node::Directory)) if !self.is_empty(to) => return Err(Situation::NotEmpty),
            (Node::Directory, Some(Node::Directory)) => Self::prefix(to).strip_suffix('/').unwrap_or_default().to_owned(),
            // `%2F`: emptied, it would be the marker.
            (Node::Object(..), Some(Node::Object(key, _))) if key.ends_with('/') => return Err(Situation::Invalid),
            (Node::Object(..), Some(Node::Object(key, _))) => key.clone(),
            (moved, None) => self.new_key(to, *moved == Node::Directory)?,
        };
        match moved {
            Node::Object(key, object) => {
                let there = self.bucket().remove(&to_key);
                self.remove(&to_key);
                self.keys.remove(&key);
                // What the bucket has something of is stored on the way; what was never stored replaces at its commit.
                if let Some(unsaved) = self.unsaved.remove(&key).filter(|unsaved| unsaved.old.is_none()) {
                    self.unsaved.insert(to_key.clone(), Unsaved { old: there, ..unsaved });
                }
                for at in self.handles.values_mut().filter(|at| at.as_deref() == Some(&*key)) {
                    *at = Some(to_key.clone());
                }
                self.keep_parent(&key);
                self.keys.insert(to_key, object);
            }
            Node::Directory => {
                let (old, new) = (Self::prefix(from), to_key + "/");
                self.keys.remove(&new);
                let moves = |key: &str| key.strip_prefix(&*old).map(|rest| format!("{new}{rest}"));
                let keys = std::mem::take(&mut self.keys);
                self.keys = keys.into_iter().map(|(key, object)| (moves(&key).unwrap_or(key), object)).collect();
                let unsaved = std::mem::take(&mut self.unsaved);
                self.unsaved = unsaved.into_iter().map(|(key, what)| (moves(&key).unwrap_or(key), what)).collect();
                for at in self.handles.values_mut().flatten() {
                    *at = moves(at).unwrap_or_else(|| at.clone());
                }
                let kept = std::mem::take(&mut self.kept);
                self.kept = kept.into_iter().map(|prefix| moves(&prefix).unwrap_or(prefix)).collect();
                self.keep_parent(old.strip_suffix('/').unwrap());
            }
        }
        Ok(())
    }
}
