//! Layer 4: the file system without FUSE: one method for each operation.
//!
//! An operation checks, locks, calls the store, and updates what is known. What it knows is in [`tree`], what is open in
//! [`handles`], what metadata means in [`meta`].
//!
//! Lock order: rename lock, file gate, inode state, table, leaves; see the crate's head. State locks are never held across
//! an await, and never two of them at once.

mod account;
pub mod attr;
pub mod config;
pub mod error;
pub mod failures;
pub mod handles;
pub mod intents;
pub mod kernel;
mod locate;
pub mod meta;
pub mod name;
mod ops;
pub mod remembered;
pub mod tree;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use self::account::Account;
use self::attr::{Attr, Ino, Kind};
use self::config::Config;
use self::error::{Error, Result, Situation};
use self::failures::Failures;
use self::handles::Handles;
use self::name::Component;
use self::remembered::Remembered;
use self::tree::facts::Facts;
use self::tree::inode::{Inode, Place};
use self::tree::moves::Moves;
use self::tree::since::{Setter, StoreClock};
use self::tree::table::Table;
use crate::base::clock;
use crate::data::budget::Budget;
use crate::data::write::WriteShared;
use crate::store::{BucketService, ObjectStore};
use crate::telemetry::counters::Counters;

pub use ops::attrs::SpaceInfo;
pub use ops::commit::Pending;
pub use ops::dirs::{Emitted, Full, Plus};
pub use ops::files::{From, ReadNow, WriteNow};
use ops::haul::Haul;
pub use ops::names::Looked;
pub use ops::ranges::{Allocate, Spot};
pub use ops::rename::Replace;
use ops::restore::AutoRestored;
pub use ops::xattrs::SetHow;

/// What stat needs: number, type, attributes.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// The inode number.
    pub ino: Ino,
    /// The type.
    pub kind: Kind,
    /// The rest.
    pub attr: Attr,
}

/// One mounted bucket or prefix, or all buckets of an account.
#[derive(Debug)]
pub struct Fs<S> {
    store: S,
    config: Config,
    table: Table<S>,
    handles: Handles<S>,
    budget: Budget,
    writes: WriteShared<S>,
    rename_lock: tokio::sync::Mutex<()>,
    moves: Moves<S>,
    hauls: Mutex<Vec<Arc<Haul>>>,
    failed_hauls: Mutex<Vec<Arc<Haul>>>,
    copies: ops::ranges::Copies<S>,
    unsent: ops::unsent::Unsent<S>,
    failures: Failures,
    auto_restored: AutoRestored,
    told: ops::told::Told,
    account: Account,
    counters: Arc<Counters>,
    remembered: Arc<Remembered>,
    /// Who writes a directory's marker: one at a time.
    markers: tokio::sync::Mutex<()>,
    store_clock: StoreClock,
    setter: Setter,
    kernel: kernel::Kernel,
    mounted_at: SystemTime,
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// A file system over `store`; no request is made.
    pub fn new(store: S, config: Config, counters: Arc<Counters>) -> Arc<Self> {
        let mounted_at = clock::now();
        let attr = meta::posix::directory(&config, mounted_at);
        let facts = Facts { exact: true, ..Facts::plain(Kind::Directory, attr) };
        let nowhere = Place { parent: None, component: Component::new("").expect("the empty component is valid") };
        let budget = Budget::new(config.memory_limit);
        let writes = WriteShared::new(store.clone(), budget.clone(), config.staging.clone());
        Arc::new(Self {
            table: Table::new(Inode::new(Ino::ROOT, nowhere, facts), config.most_forgotten),
            handles: Handles::default(),
            rename_lock: tokio::sync::Mutex::new(()),
            moves: Moves::default(),
            hauls: Mutex::default(),
            failed_hauls: Mutex::default(),
            copies: ops::ranges::Copies::default(),
            unsent: ops::unsent::Unsent::default(),
            failures: Failures::default(),
            auto_restored: AutoRestored::default(),
            told: ops::told::Told::default(),
            account: Account::new(config.location.clone()),
            remembered: Arc::new(Remembered::open(config.remembered.as_ref())),
            markers: tokio::sync::Mutex::default(),
            store_clock: StoreClock::default(),
            setter: Setter::default(),
            kernel: kernel::Kernel::default(),
            store,
            config,
            budget,
            writes,
            counters,
            mounted_at,
        })
    }
}

impl<S> Fs<S> {
    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The last failures.
    #[must_use]
    pub const fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Bytes of the memory budget in use.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        self.budget.used()
    }

    /// Open files and directories.
    #[must_use]
    pub fn open_handles(&self) -> (usize, usize) {
        self.handles.count()
    }

    /// The kernel has forgotten an inode so often.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        self.table.forget(ino, lookups);
    }

    /// The renames of directories that are under way.
    fn hauls(&self) -> MutexGuard<'_, Vec<Arc<Haul>>> {
        self.hauls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses changes of a read-only mount.
    fn writable(&self) -> Result<()> {
        if self.config.read_only { Err(Error::new(Situation::ReadOnly, "the mount is read-only")) } else { Ok(()) }
    }

    fn inode(&self, ino: Ino) -> Result<Arc<Inode<S>>> {
        self.table.get(ino).ok_or_else(|| Error::new(Situation::Stale, "the kernel asked for an inode that it had forgotten"))
    }
}

impl<S: ObjectStore> Fs<S> {
    /// The end of the mount: waits until what was learnt of attributes is on the disk.
    pub async fn remember(&self) {
        self.remembered.flush().await;
    }

    /// Where an inode is or was, below the mount's root, for people.
    #[must_use]
    pub fn path_of(&self, ino: Ino) -> String {
        let Some(mut at) = self.table.get(ino) else { return format!("(inode {ino})") };
        let mut names = Vec::new();
        loop {
            let place = at.place();
            let Some(parent) = place.parent else { break };
            names.push(name::show(&place.component, false).unwrap_or_else(|| place.component.as_str().to_owned()));
            at = parent;
        }
        names.iter().rev().fold(String::new(), |path, name| format!("{path}/{name}"))
    }

    /// Remembers a failure: in the list, at the inode, in the log.
    pub fn record_failure(&self, operation: &'static str, path: String, ino: Option<Ino>, errno: &'static str, error: &Error) {
        if error.situation() == Situation::NoBucket {
            // Whoever looks for the bucket next shall not find it in the list.
            self.forget_buckets();
        }
        tracing::warn!(operation, path, errno, story = error.words(), "failed");
        if let Some(inode) = ino.and_then(|ino| self.table.get(ino)) {
            inode.lock().last_error = Some(format!("{operation}: {errno}: {}", error.words()).into());
        }
        self.failures.record(operation, if path.is_empty() { "/".to_owned() } else { path }, errno, error.words().to_owned());
    }

    /// The last failure of an inode, or of what had its path before.
    fn last_failure(&self, inode: &Inode<S>) -> Option<String> {
        let of_inode = inode.lock().last_error.as_deref().map(str::to_owned);
        of_inode.or_else(|| self.failures.last(&self.failed_path(inode)))
    }

    /// Forgets the failures of an inode and of its path; whether there was one.
    fn forget_failures(&self, inode: &Inode<S>) -> bool {
        let of_inode = inode.lock().last_error.take().is_some();
        self.failures.forget(&self.failed_path(inode)) || of_inode
    }

    /// The path under which failures are remembered.
    fn failed_path(&self, inode: &Inode<S>) -> String {
        let path = self.path_of(inode.ino);
        if path.is_empty() { "/".to_owned() } else { path }
    }
}
