//! What an answer of the store makes of a place: the inode that is there, a new one, or none.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::RwLockWriteGuard;

use crate::fs::Fs;
use crate::fs::attr::Kind;
use crate::fs::name::Component;
use crate::fs::tree::facts::Facts;
use crate::fs::tree::inode::{Inode, Place, Role};
use crate::store::{BucketService, ObjectStore};

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Lays what this mount did itself over an answer that was asked for at `asked`.
    pub(in crate::fs) fn settle(
        &self,
        directory: &Arc<Inode<S>>,
        component: &Component,
        role: Role,
        facts: Option<Facts>,
        asked: Instant,
    ) -> Option<Arc<Inode<S>>> {
        let own = directory.lock().directory.own_knowledge(role, component, asked);
        let there = self.table.at(directory.ino, role, component);
        match (own, facts) {
            (Some(false), _) => None,
            (Some(true), None) => there,
            (_, Some(facts)) => Some(self.adopt(directory, component, facts, asked)),
            (None, None) => {
                let there = there?;
                let mut state = there.lock();
                // Being written, committed or seen since, or kept though empty: it is there for this mount.
                if state.is_newer_than(asked) || state.directory.is_kept() {
                    drop(state);
                    return Some(there);
                }
                state.unlink();
                drop(state);
                self.table.unlink(directory.ino, role, component, &there);
                None
            }
        }
    }

    /// The inode for what the store has at a place: the one that is there if it is the same object, else a new one.
    fn adopt(&self, directory: &Arc<Inode<S>>, component: &Component, facts: Facts, asked: Instant) -> Arc<Inode<S>> {
        let role = if facts.kind == Kind::Directory { Role::Directory } else { Role::Object };
        let there = self.table.at(directory.ino, role, component);
        let looked_at = facts.info.is_some().then_some(asked);
        if let Some(inode) = &there {
            let alone = alone_if_open(inode);
            let mut state = inode.lock();
            if alone.is_some() {
                state.give_way(facts.etag.as_ref(), asked);
            }
            let newer_here = state.is_newer_than(asked);
            // A listing does not tell that an object with a body is a link, and a stranger's device is shown as a file.
            let unlisted = !facts.exact && facts.etag.is_some() && facts.etag == state.etag();
            let same_kind = inode.kind == facts.kind || unlisted || inode.kind.is_device() && state.is_as_written(&facts);
            if newer_here || same_kind && state.is_same_object(&facts) {
                if !newer_here {
                    state.learn(&facts);
                    state.looked_at = state.looked_at.max(looked_at);
                }
                drop(state);
                return Arc::clone(inode);
            }
            state.unlink();
        }
        let inode = self.insert(directory, component, facts, there.as_ref());
        let mut state = inode.lock();
        state.looked_at = state.looked_at.max(looked_at);
        drop(state);
        inode
    }

    /// Puts a new inode at a place.
    pub(in crate::fs) fn insert(
        &self,
        directory: &Arc<Inode<S>>,
        component: &Component,
        facts: Facts,
        expected: Option<&Arc<Inode<S>>>,
    ) -> Arc<Inode<S>> {
        let role = if facts.kind == Kind::Directory { Role::Directory } else { Role::Object };
        let number = self.numbers_in(directory)(component, role).0;
        let place = Place { parent: Some(Arc::clone(directory)), component: component.clone() };
        let inode =
            self.table.insert((directory.ino, role, component.clone()), number, expected, |ino| Inode::new(ino, place, facts));
        if self.is_account(directory) {
            // Nothing changes what is shown of a bucket but what happens here.
            inode.lock().ours = true;
        }
        inode
    }
}

/// The gate of a file that is open for writing, when nobody else has it now: nothing is written until it is given back.
fn alone_if_open<S>(inode: &Inode<S>) -> Option<RwLockWriteGuard<'_, ()>> {
    let open = inode.lock().writers > 0;
    open.then(|| inode.gate.try_write().ok()).flatten()
}
