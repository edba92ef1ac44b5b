//! A mounted store without a kernel, with a store in memory below that goes wrong as told.

use std::sync::Arc;

use bytes::Bytes;
use pailfs::base::rng::Rng;
use pailfs::fs::attr::{Caller, Ino};
use pailfs::fs::config::Config;
use pailfs::fs::error::{Error, Situation};
use pailfs::fs::handles::{HandleId, OpenMode};
use pailfs::fs::{Fs, Looked};
use pailfs::store::fault::{Fault, Toxic};
use pailfs::store::memory::Memory;
use pailfs::store::*;
use pailfs::telemetry::counters::Counters;

pub const CALLER: Caller = Caller { uid: 0, gid: 0, tid: 0 };
pub const READ: OpenMode = OpenMode { read: true, write: false, append: false, truncate: false, exclusive: false };
pub const WRITE: OpenMode = OpenMode { read: false, write: true, append: false, truncate: false, exclusive: false };

pub type Stack = Retry<Limit<Fault<Memory>>>;
pub type Step<T> = std::result::Result<T, pailfs::fs::error::Error>;

/// A mounted store without a kernel.
pub struct World {
    pub memory: Memory,
    pub fault: Fault<Memory>,
    pub fs: Arc<Fs<Stack>>,
}

impl World {
    pub fn new(policy: RetryPolicy) -> Self {
        Self::of(Config::new(BucketName::new("bucket").unwrap()), policy)
    }

    /// What `config` says, on a store that has the bucket `bucket`.
    pub fn of(config: Config, policy: RetryPolicy) -> Self {
        Self::of_ttl(config, policy, std::time::Duration::ZERO)
    }

    /// As [`World::of`], believing for `ttl`.
    pub fn of_ttl(config: Config, policy: RetryPolicy, ttl: std::time::Duration) -> Self {
        Self::on(Memory::new(), config, policy, ttl)
    }

    /// As [`World::of_ttl`], on a store of its own kind.
    pub fn on(memory: Memory, config: Config, policy: RetryPolicy, ttl: std::time::Duration) -> Self {
        memory.ensure_bucket(&BucketName::new("bucket").unwrap());
        let fault = Fault::new(memory.clone());
        let store = Retry::new(Limit::new(fault.clone()), policy, Rng::from_os());
        let kept = std::env::temp_dir().join(format!("pailfs-kept-{}", pailfs::base::rng::token()));
        let config = Config { ttl, memory_limit: 64 << 20, kept_directory: Some(kept), ..config };
        Self { memory, fault, fs: Fs::new(store, config, Arc::new(Counters::default())) }
    }

    /// What was kept on the local disk; it is gone afterwards.
    pub fn take_kept(&self) -> Vec<Vec<u8>> {
        let directory = self.fs.config().kept_directory.clone().unwrap();
        let Ok(entries) = std::fs::read_dir(&directory) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        let kept =
            paths.filter(|path| path.extension().is_none_or(|kind| kind != "json")).map(|path| std::fs::read(path).unwrap());
        let kept = kept.collect();
        std::fs::remove_dir_all(directory).unwrap();
        kept
    }

    /// What the store has, past all faults.
    pub async fn stored(&self, key: &str) -> Option<Bytes> {
        let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new(key).unwrap());
        let download = self.memory.get(&GetObject { object, range: None, if_match: None }).await.ok()?;
        Some(download.body.collect().await.unwrap())
    }

    /// Puts an object as another client would.
    pub async fn put(&self, key: &str, bytes: &Bytes) {
        let (bucket, key) = (BucketName::new("bucket").unwrap(), Key::new(key).unwrap());
        let (payload, properties) = (Payload::from(bytes.clone()), Properties::default());
        self.memory.put(&PutObject { bucket, key, payload, properties, condition: Condition::None }).await.unwrap();
    }

    /// The keys that the store has.
    pub async fn keys(&self) -> Vec<String> {
        let request = ListObjects {
            bucket: BucketName::new("bucket").unwrap(),
            prefix: Prefix::new(""),
            delimiter: Delimiter::None,
            start: ListStart::Beginning,
            max_keys: 1000,
        };
        let page = self.memory.list(&request).await.unwrap().read().unwrap();
        page.objects.into_iter().map(|listed| listed.key).collect()
    }

    pub async fn uploads(&self) -> usize {
        self.memory.list_uploads(&BucketName::new("bucket").unwrap(), &Prefix::new(""), None).await.unwrap().uploads.len()
    }

    pub async fn open(&self, name: &str, mode: OpenMode) -> Step<HandleId> {
        match self.fs.lookup(Ino::ROOT, name.as_bytes()).await? {
            Looked::Found(stat) => {
                let opened = self.fs.open(stat.ino, mode, CALLER).await;
                self.fs.forget(stat.ino, 1);
                opened
            }
            Looked::Absent if !mode.write => Err(Error::new(Situation::NotFound, "there is nothing to read")),
            Looked::Absent => {
                let (stat, handle) = self.fs.create(Ino::ROOT, name.as_bytes(), 0o644, mode, CALLER).await?;
                self.fs.forget(stat.ino, 1);
                Ok(handle)
            }
        }
    }

    /// As `cp` does: open with O_TRUNC or create, write, close. What close says is what counts.
    pub async fn write(&self, name: &str, content: &Bytes) -> Step<()> {
        let handle = self.open(name, OpenMode { truncate: true, ..WRITE }).await?;
        let mut outcome = Ok(());
        for (index, chunk) in content.chunks(1 << 20).enumerate() {
            if outcome.is_ok() {
                let chunk = content.slice_ref(chunk);
                outcome = self.fs.write(handle, (index as u64) << 20, chunk, CALLER).await;
            }
        }
        let flushed = self.fs.flush(handle, |_| false).await;
        // Nobody hears what release says.
        let _ = self.fs.release(handle).await;
        outcome.and(flushed)
    }

    pub async fn read(&self, name: &str) -> Step<Bytes> {
        let handle = self.open(name, READ).await?;
        let mut all = Vec::new();
        let outcome = loop {
            match self.fs.read(handle, all.len() as u64, 128 << 10).await {
                Ok(bytes) if bytes.is_empty() => break Ok(()),
                Ok(bytes) => all.extend_from_slice(&bytes),
                Err(error) => break Err(error),
            }
        };
        let _ = self.fs.release(handle).await;
        outcome.map(|()| all.into())
    }

    /// After the faults: everything can be committed, and nothing is left over.
    pub async fn settle(&self, context: &str, toxic: Option<(usize, Toxic)>) {
        assert_eq!(self.fs.commit_all().await, [], "{context}: everything can be committed afterwards");
        // The id of an upload whose beginning was not answered is known to nobody, and its like may be another client's.
        let unknown = toxic.is_some_and(|(nth, toxic)| {
            toxic == Toxic::Lost && self.fault.calls().get(nth) == Some(&Operation::CreateMultipartUpload)
        });
        assert_eq!(self.uploads().await, usize::from(unknown), "{context}: no upload is left");
        assert_eq!(self.fs.open_handles(), (0, 0), "{context}: no handle is left");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.fs.memory_used(), 0, "{context}: no memory is left");
    }
}

pub fn content(seed: u8, len: usize) -> Bytes {
    (0..len).map(|at| (at / 4096) as u8 ^ (at as u8).wrapping_mul(31) ^ seed).collect()
}
