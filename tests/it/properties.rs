//! Random changes of one object's properties, by this mount and by another client in between: what was acknowledged and not
//! overwritten is there at the end.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use pailfs::base::rng::{self, Rng};
use pailfs::fs::attr::{Ino, SetAttr};
use pailfs::fs::config::Config;
use pailfs::fs::error::Situation;
use pailfs::fs::{Looked, SetHow};
use pailfs::store::memory::{self, Memory};
use pailfs::store::*;

use crate::world::{CALLER, World, content};

/// What must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    metadata: BTreeMap<String, String>,
    cache_control: Option<String>,
    class: Option<String>,
    mode: u32,
    tags: BTreeMap<String, String>,
    public: bool,
    /// Their number, and a sum that tells them apart.
    bytes: (usize, u64),
}

fn digest(bytes: &[u8]) -> (usize, u64) {
    (bytes.len(), bytes.iter().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte)))
}

struct Run {
    world: World,
    model: Model,
    rng: Rng,
    /// Another client's changes are at least 2 s apart from everything else.
    later: Duration,
    story: Vec<String>,
}

const MODES: [u32; 3] = [0o600, 0o640, 0o755];

impl Run {
    fn object() -> ObjectRef {
        ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new("f").unwrap())
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below
    }

    async fn ino(&self) -> Ino {
        match self.world.fs.lookup(Ino::ROOT, b"f").await.unwrap() {
            Looked::Found(stat) => stat.ino,
            Looked::Absent => panic!("it is there"),
        }
    }

    /// As the kernel does, which looks a name up again when it was stale.
    async fn set(&self, name: &str, value: &str) {
        for _ in 0..3 {
            let ino = self.ino().await;
            match self.world.fs.setxattr(ino, name.as_bytes(), value.as_bytes(), SetHow::Any, CALLER).await {
                Err(error) if error.situation() == Situation::Stale => {}
                done => return done.unwrap(),
            }
        }
        panic!("{name} stays stale");
    }

    async fn remove(&self, name: &str) {
        for _ in 0..3 {
            let ino = self.ino().await;
            match self.world.fs.removexattr(ino, name.as_bytes()).await {
                Err(error) if error.situation() == Situation::Stale => {}
                done => return done.unwrap(),
            }
        }
        panic!("{name} stays stale");
    }

    async fn step(&mut self) {
        let (key, value) = (format!("k{}", self.pick(4)), format!("v{}", self.pick(1000)));
        match self.pick(10) {
            0 | 1 => {
                self.story.push(format!("set {key}={value}"));
                self.set(&format!("user.{key}"), &value).await;
                self.model.metadata.insert(key, value);
            }
            2 if self.model.metadata.contains_key(&key) => {
                self.story.push(format!("remove {key}"));
                self.remove(&format!("user.{key}")).await;
                self.model.metadata.remove(&key);
            }
            3 => {
                self.story.push(format!("cache-control {value}"));
                self.set("user.s3.cache-control", &value).await;
                self.model.cache_control = Some(value);
            }
            4 => {
                let mode = MODES[self.pick(3) as usize];
                self.story.push(format!("chmod {mode:o}"));
                for _ in 0..3 {
                    let ino = self.ino().await;
                    let change = SetAttr { mode: Some(mode), ..SetAttr::default() };
                    match self.world.fs.setattr(ino, change, CALLER).await {
                        Err(error) if error.situation() == Situation::Stale => {}
                        done => {
                            done.unwrap();
                            break;
                        }
                    }
                }
                self.model.mode = mode;
            }
            5 => {
                let bytes = content(self.pick(250) as u8, 1 + self.pick(5000) as usize);
                self.story.push(format!("write {} bytes", bytes.len()));
                for _ in 0..3 {
                    match self.world.write("f", &bytes).await {
                        Err(error) if error.situation() == Situation::Stale => {}
                        done => {
                            done.unwrap();
                            break;
                        }
                    }
                }
                self.model.bytes = digest(&bytes);
            }
            6 => {
                let class = if self.pick(2) == 0 { "STANDARD" } else { "STANDARD_IA" };
                self.story.push(format!("class {class}"));
                self.set("user.s3.storage-class", class).await;
                self.model.class = (class != "STANDARD").then(|| class.to_owned());
            }
            7 => {
                self.story.push(format!("tag {key}={value}"));
                self.set(&format!("user.s3.tag.{key}"), &value).await;
                self.model.tags.insert(key, value);
            }
            8 => {
                self.model.public = self.pick(2) == 0;
                self.story.push(format!("public {}", self.model.public));
                self.set("user.s3.acl", if self.model.public { "public-read" } else { "private" }).await;
            }
            _ => self.other(key, value).await,
        }
    }

    /// Another client changes the metadata alone, or replaces the object.
    async fn other(&mut self, key: String, value: String) {
        let memory = &self.world.memory;
        let info = memory.head(&HeadObject { object: Self::object() }).await.unwrap();
        let mut properties = info.properties.clone();
        let acl = if self.model.public { CannedAcl::PublicRead } else { CannedAcl::Private };
        properties.acl = Some(AclChange::Canned(acl));
        let object = Self::object();
        if self.rng.next_u64().is_multiple_of(2) {
            self.story.push(format!("another sets {key}={value}"));
            properties.metadata.insert(key.clone(), value.clone());
            let copy = CopyObject {
                source: object.clone(),
                source_if_match: None,
                source_unchanged_since: None,
                bucket: object.bucket.clone(),
                key: object.key.clone(),
                replace: Some(properties),
                condition: Condition::None,
            };
            memory.copy(&copy).await.unwrap();
            self.model.metadata.insert(key, value);
        } else {
            self.story.push("another replaces it".to_owned());
            let payload = Payload::from(bytes::Bytes::from(value.clone().into_bytes()));
            let metadata = BTreeMap::from([(key.clone(), value.clone())]);
            let properties = Properties { metadata: metadata.clone(), ..Properties::default() };
            let (bucket, name) = (object.bucket.clone(), object.key.clone());
            memory.put(&PutObject { bucket, key: name, payload, properties, condition: Condition::None }).await.unwrap();
            self.model = Model { metadata, mode: 0o644, bytes: digest(value.as_bytes()), ..Model::default() };
        }
        self.later += Duration::from_secs(2);
        memory.set_last_modified(&object, SystemTime::now() + self.later).unwrap();
    }

    async fn stored(&self) -> Model {
        let memory = &self.world.memory;
        let info = memory.head(&HeadObject { object: Self::object() }).await.unwrap();
        let document = async |subresource| memory.get_document(&Self::object().into(), subresource).await.unwrap();
        let tags = match document(Subresource::Tagging).await {
            Some(Document::Tags(tags)) => tags.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            _ => BTreeMap::new(),
        };
        let public = matches!(document(Subresource::Acl).await, Some(Document::Acl(acl)) if !acl.is_private());
        let mode = info.properties.metadata.get("mode").map_or(0o644, |mode| mode.parse::<u32>().unwrap() & 0o7777);
        Model {
            metadata: info.properties.metadata.into_iter().filter(|(name, _)| name.starts_with('k')).collect(),
            cache_control: info.properties.headers.cache_control,
            class: info.properties.storage_class.map(|class| class.as_str().to_owned()),
            mode,
            tags,
            public,
            bytes: digest(&self.world.stored("f").await.unwrap()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_and_not_overwritten_is_there() {
    let first = rng::token();
    let first =
        std::env::var("PAILFS_SEED").map_or_else(|_| u64::from_str_radix(&first[..8], 16).unwrap(), |seed| seed.parse().unwrap());
    for seed in first..first + 60 {
        // Tags as S3 makes them: a change of the metadata alone does not show in them.
        let memory = Memory::with(memory::Options { tags: memory::Tags::Md5, ..memory::Options::default() });
        let world =
            World::on(memory, Config::new(BucketName::new("bucket").unwrap()), RetryPolicy::once(), Duration::from_secs(3600));
        world.write("f", &content(1, 100)).await.unwrap();
        let model = Model { mode: 0o644, bytes: digest(&content(1, 100)), ..Model::default() };
        let mut run = Run { world, model, rng: Rng::seeded(seed), later: Duration::ZERO, story: Vec::new() };
        for _ in 0..40 {
            run.step().await;
            tokio::time::advance(Duration::from_secs(2)).await;
            assert_eq!(run.stored().await, run.model, "seed {seed}:\n{}", run.story.join("\n"));
        }
    }
}
