//! Which operations are under way, and which must wait since a directory above them is on its way to another place.
//!
//! The keys of what is in a directory follow from its place in the tree. While they are copied and deleted, nothing of this
//! mount may change them; and while the tree itself is changed, nothing may be between having asked where something is and
//! asking the store for it. So each operation enters here with what it is about, at the outermost layer only: one that entered
//! twice could wait for itself. Renames and rmdir do not enter: the rename lock keeps them apart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::inode::Inode;
use crate::base::clock;
use crate::fs::attr::Ino;
use crate::fs::error::{Error, Result, Situation};

/// Operations that are under way below a directory are waited for so long before it moves: longer than any request may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// It asks the store for something.
    Look,
    /// It changes names or objects.
    Change,
}

/// The operations of a mount.
#[derive(Debug)]
pub struct Moves<S> {
    state: Mutex<State<S>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<S> {
    next: u64,
    under_way: HashMap<u64, (Arc<Inode<S>>, Access)>,
    moving: Option<Moving>,
    /// How often something has begun to move.
    moves: u64,
}

/// Directories that are being moved, or replaced.
#[derive(Debug, Clone)]
struct Moving {
    roots: Vec<Ino>,
    /// What must wait: changes, or whatever is at least this.
    waits: Access,
}

impl Moving {
    fn keeps_out(&self, chain: &[Ino], access: Access) -> bool {
        access >= self.waits && chain.iter().any(|ino| self.roots.contains(ino))
    }
}

/// An operation is under way as long as this lives.
#[derive(Debug)]
pub struct Entered<'a, S> {
    moves: &'a Moves<S>,
    number: u64,
}

/// Directories are on their way as long as this lives.
#[derive(Debug)]
pub struct Leaving<'a, S>(&'a Moves<S>);

impl<S> Default for Moves<S> {
    fn default() -> Self {
        let state = State { next: 0, under_way: HashMap::new(), moving: None, moves: 0 };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl<S: Clone> Moves<S> {
    /// Begins an operation on `inode`, or on a name in it, as soon as nothing above it is on its way.
    pub async fn enter(&self, inode: &Arc<Inode<S>>, access: Access) -> Entered<'_, S> {
        loop {
            let changed = self.changed.notified();
            if let Some(entered) = self.try_enter(inode, access) {
                return entered;
            }
            changed.await;
        }
    }

    /// As [`Moves::enter`], for what concerns two inodes: neither is held while the other is waited for.
    pub async fn enter_both(&self, one: &Arc<Inode<S>>, other: &Arc<Inode<S>>, access: Access) -> [Entered<'_, S>; 2] {
        loop {
            let Some(first) = self.try_enter(one, access) else {
                drop(self.enter(one, access).await);
                continue;
            };
            if let Some(second) = self.try_enter(other, access) {
                return [first, second];
            }
            drop(first);
            drop(self.enter(other, access).await);
        }
    }

    /// As [`Moves::enter`], unless it had to wait.
    pub fn try_enter(&self, inode: &Arc<Inode<S>>, access: Access) -> Option<Entered<'_, S>> {
        loop {
            let before = {
                let mut state = self.lock();
                if state.moving.as_ref().is_none_or(|moving| access < moving.waits) {
                    return Some(self.begin(&mut state, inode, access));
                }
                state.moves
            };
            // Where it is cannot be asked under the lock: inodes come first.
            let chain = chain(inode);
            let mut state = self.lock();
            if state.moves != before {
                continue;
            }
            if state.moving.as_ref().is_some_and(|moving| moving.keeps_out(&chain, access)) {
                return None;
            }
            return Some(self.begin(&mut state, inode, access));
        }
    }

    /// Keeps changes out of `roots` and waits until none is under way there. The caller holds the rename lock.
    ///
    /// # Errors
    /// [`Situation::Busy`] when one does not end.
    pub async fn leave(&self, roots: &[&Arc<Inode<S>>]) -> Result<Leaving<'_, S>> {
        {
            let mut state = self.lock();
            state.moving = Some(Moving { roots: roots.iter().map(|root| root.ino).collect(), waits: Access::Change });
            state.moves += 1;
        }
        let leaving = Leaving(self);
        self.drained().await?;
        Ok(leaving)
    }

    fn begin(&self, state: &mut State<S>, inode: &Arc<Inode<S>>, access: Access) -> Entered<'_, S> {
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number, (Arc::clone(inode), access));
        Entered { moves: self, number }
    }

    /// Waits until nothing is under way that must be kept out.
    async fn drained(&self) -> Result<()> {
        let busy = || Error::new(Situation::Busy, "something else in the directory does not end: it cannot be moved meanwhile");
        let empty = async {
            loop {
                let changed = self.changed.notified();
                let (moving, under_way) = {
                    let state = self.lock();
                    let Some(moving) = state.moving.clone() else { return };
                    (moving, state.under_way.values().cloned().collect::<Vec<_>>())
                };
                if !under_way.iter().any(|(inode, access)| moving.keeps_out(&chain(inode), *access)) {
                    return;
                }
                changed.await;
            }
        };
        clock::deadline(PATIENCE, empty).await.map_err(|_| busy())
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Clone> Leaving<'_, S> {
    /// Keeps looks out as well and waits until none is under way: nobody is between a place and the store then.
    ///
    /// # Errors
    /// [`Situation::Busy`] when one does not end; looks are let in again.
    pub async fn close(&self) -> Result<()> {
        self.set(Access::Look);
        self.0.drained().await.inspect_err(|_| self.open())
    }

    /// Lets looks in again.
    pub fn open(&self) {
        self.set(Access::Change);
        self.0.changed.notify_waiters();
    }

    fn set(&self, waits: Access) {
        let mut state = self.0.lock();
        state.moves += 1;
        if let Some(moving) = &mut state.moving {
            moving.waits = waits;
        }
    }
}

impl<S> Drop for Entered<'_, S> {
    fn drop(&mut self) {
        let mut state = self.moves.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.under_way.remove(&self.number);
        let awaited = state.moving.is_some();
        drop(state);
        if awaited {
            self.moves.changed.notify_waiters();
        }
    }
}

impl<S> Drop for Leaving<'_, S> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).moving = None;
        self.0.changed.notify_waiters();
    }
}

/// The numbers of an inode and of all directories above it.
pub fn chain<S: Clone>(inode: &Arc<Inode<S>>) -> Vec<Ino> {
    let (mut chain, mut at) = (vec![inode.ino], Arc::clone(inode));
    while let Some(parent) = at.place().parent {
        chain.push(parent.ino);
        at = parent;
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::attr::Kind;
    use crate::fs::config::Config;
    use crate::fs::meta::posix;
    use crate::fs::name::Component;
    use crate::fs::tree::facts::Facts;
    use crate::fs::tree::inode::Place;
    use crate::store::{BucketName, Memory};

    type Node = Arc<Inode<Memory>>;

    fn directory(ino: u64, parent: Option<&Node>) -> Node {
        let config = Config::new(BucketName::new("bucket").unwrap());
        let attr = posix::directory(&config, clock::now());
        let facts = Facts { exact: true, ..Facts::plain(Kind::Directory, attr) };
        let place = Place { parent: parent.cloned(), component: Component::new("x").unwrap() };
        Inode::new(Ino(ino), place, facts)
    }

    #[tokio::test(start_paused = true)]
    async fn changes_below_wait_until_the_move_is_over_and_others_do_not() {
        let moves = Moves::default();
        let root = directory(1, None);
        let (moved, other) = (directory(2, Some(&root)), directory(3, Some(&root)));
        let below = directory(4, Some(&moved));
        let roots = [&moved];
        let leaving = moves.leave(&roots).await.unwrap();
        for free in [&root, &other] {
            assert!(moves.try_enter(free, Access::Change).is_some());
        }
        for kept_out in [&moved, &below] {
            assert!(moves.try_enter(kept_out, Access::Change).is_none());
            assert!(moves.try_enter(kept_out, Access::Look).is_some());
        }
        assert!(clock::deadline(Duration::from_secs(1), moves.enter_both(&other, &below, Access::Change)).await.is_err());
        leaving.close().await.unwrap();
        assert!(moves.try_enter(&below, Access::Look).is_none() && moves.try_enter(&other, Access::Look).is_some());
        let (entered, ()) = tokio::join!(moves.enter(&below, Access::Look), async { leaving.open() });
        drop(entered);
        let (entered, ()) = tokio::join!(moves.enter(&below, Access::Change), async { drop(leaving) });
        drop(entered);
        assert!(moves.lock().under_way.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_waits_for_what_is_under_way_below_wherever_that_was_before() {
        let moves = Moves::default();
        let root = directory(1, None);
        let (moved, other) = (directory(2, Some(&root)), directory(3, Some(&root)));
        let went = directory(4, Some(&other));
        let entered = moves.enter(&went, Access::Change).await;
        went.lock().place.parent = Some(Arc::clone(&moved));
        let roots = [&moved];
        let limit = Duration::from_secs(1);
        assert!(clock::deadline(limit, moves.leave(&roots)).await.is_err());
        assert!(moves.try_enter(&moved, Access::Change).is_some(), "it was given up");
        let (leaving, ()) = tokio::join!(moves.leave(&roots), async { drop(entered) });
        let looking = moves.enter(&went, Access::Look).await;
        let leaving = leaving.unwrap();
        assert!(clock::deadline(limit, leaving.close()).await.is_err());
        drop(looking);
        leaving.close().await.unwrap();
    }
}
