//! A server and a mount of it for one test; both are gone when the test ends, however it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

use pailfs::devserver::{ACCESS_KEY, SECRET_KEY, Server, ServerConfig};
use pailfs::store::{
    BucketName, Condition, DeleteObject, GetObject, HeadObject, Key, Metadata, ObjectInfo, ObjectRef, ObjectStore as _, Payload,
    Properties, PutObject,
};

pub const BUCKET: &str = "bucket";

/// The object of a key in it.
pub fn object(key: &str) -> ObjectRef {
    ObjectRef::current(BucketName::new(BUCKET).unwrap(), Key::new(key).unwrap())
}

/// The embedded server, with a runtime of its own.
pub struct Site {
    pub server: Server,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    pub fn start() -> Self {
        Self::of(ServerConfig::default())
    }

    /// A server that makes up what is read and drops what is sent: objects whose names are sizes are there, whatever size.
    pub fn synthetic() -> Self {
        Self::of(ServerConfig { data: pailfs::store::memory::Data::Synthetic, ..ServerConfig::default() })
    }

    /// A server whose tags are digests, so that a copy of an object onto itself keeps its tag.
    pub fn with_md5_tags() -> Self {
        Self::of(ServerConfig { tags: pailfs::store::memory::Tags::Md5, ..ServerConfig::default() })
    }

    fn of(config: ServerConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = ServerConfig { buckets: vec![BUCKET.into()], restore_ongoing: Duration::from_millis(500), ..config };
        let server = runtime.block_on(Server::start(config)).unwrap();
        Self { server, runtime }
    }

    pub fn block_on<F: std::future::Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Puts an object as another client would.
    pub fn put(&self, key: &str, body: &str) {
        self.put_with(key, body, Properties::default());
    }

    pub fn put_with(&self, key: &str, body: &str, properties: Properties) {
        let request = PutObject {
            bucket: BucketName::new(BUCKET).unwrap(),
            key: Key::new(key).unwrap(),
            payload: Payload::from(bytes::Bytes::copy_from_slice(body.as_bytes())),
            properties,
            condition: Condition::None,
        };
        self.block_on(self.server.memory().put(&request)).unwrap();
    }

    /// Removes an object as another client would.
    pub fn delete(&self, key: &str) {
        let request = DeleteObject { object: object(key), condition: Condition::None };
        self.block_on(self.server.memory().delete(&request)).unwrap();
    }

    /// What the store says of an object.
    pub fn head(&self, key: &str) -> ObjectInfo {
        self.block_on(self.server.memory().head(&HeadObject { object: object(key) })).unwrap()
    }

    /// Its metadata.
    pub fn metadata(&self, key: &str) -> Metadata {
        self.head(key).properties.metadata
    }

    /// Lets an object be of that time.
    pub fn date(&self, key: &str, time: SystemTime) {
        self.server.memory().set_last_modified(&object(key), time).unwrap();
    }

    /// Puts small objects as another client would.
    pub fn put_all(&self, keys: impl IntoIterator<Item = String>) {
        keys.into_iter().for_each(|key| self.put(&key, "x"));
    }

    /// What the store has under a key.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let request = GetObject { object: object(key), range: None, if_match: None };
        self.block_on(async {
            let download = self.server.memory().get(&request).await.ok()?;
            Some(download.body.collect().await.unwrap().to_vec())
        })
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        use pailfs::store::{Delimiter, ListObjects, ListStart, Prefix};
        let (mut keys, mut next) = (Vec::new(), Some(ListStart::Beginning));
        while let Some(start) = next {
            let request = ListObjects {
                bucket: BucketName::new(BUCKET).unwrap(),
                prefix: Prefix::new(""),
                delimiter: Delimiter::None,
                start,
                max_keys: 1000,
            };
            let page = self.block_on(self.server.memory().list(&request)).unwrap().read().unwrap();
            keys.extend(page.objects.into_iter().map(|object| object.key));
            next = page.next.map(ListStart::Token);
        }
        keys
    }

    /// The keys of the uploads that nobody has completed.
    pub fn uploads(&self) -> Vec<String> {
        let (bucket, prefix) = (BucketName::new(BUCKET).unwrap(), pailfs::store::Prefix::new(""));
        let page = self.block_on(self.server.memory().list_uploads(&bucket, &prefix, None)).unwrap();
        page.uploads.into_iter().map(|(upload, _)| upload.key.as_str().to_owned()).collect()
    }

    /// Begins an upload as another client would, sends one part and leaves it.
    pub fn begin_upload(&self, key: &str, part: &[u8]) {
        use pailfs::store::{CreateUpload, PartNumber, UploadPart};
        let (bucket, key) = (BucketName::new(BUCKET).unwrap(), Key::new(key).unwrap());
        let payload = Payload::from(bytes::Bytes::copy_from_slice(part));
        self.block_on(async {
            let memory = self.server.memory();
            let upload = memory.create_upload(&CreateUpload { bucket, key, properties: Properties::default() }).await.unwrap();
            memory.upload_part(&UploadPart { upload, number: PartNumber::new(1).unwrap(), payload }).await.unwrap();
        });
    }

    /// How often the server was asked for something.
    pub fn count(&self, operation: &str) -> u64 {
        self.server.counters().of(operation)
    }

    pub fn mount(&self, extra: &[&str]) -> Mount {
        self.mount_source(BUCKET, extra)
    }

    pub fn mount_source(&self, source: &str, extra: &[&str]) -> Mount {
        let mount = Mount::place();
        let output = mount.run(&self.server.endpoint(), source, extra, SECRET_KEY);
        assert!(output.status.success(), "mount failed: {}", String::from_utf8_lossy(&output.stderr));
        mount
    }
}

/// A mounted directory.
pub struct Mount {
    pub path: PathBuf,
}

impl Mount {
    /// A fresh directory, nothing mounted yet.
    pub fn place() -> Self {
        let path = std::env::temp_dir().join(format!("pailfs-it-{}", pailfs::base::rng::token()));
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }

    /// The mount's cache directory, beside it.
    pub fn cache(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".cache");
        path.into()
    }

    pub fn run(&self, endpoint: &str, bucket: &str, extra: &[&str], secret: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pailfs"))
            .env("XDG_CACHE_HOME", self.cache())
            .env("XDG_STATE_HOME", self.cache())
            .args(["mount", bucket])
            .arg(&self.path)
            .args(["--endpoint-url", endpoint, "--region", "us-east-1"])
            .args(extra)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env_remove("AWS_PROFILE")
            .output()
            .unwrap()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Runs a shell command in the mount; its output, when it succeeds.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        let output = self.try_sh(command);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "'{command}' failed: {out}{err}{}", self.failures());
        out.into_owned()
    }

    /// What a shell command that must fail says.
    #[track_caller]
    pub fn sh_fails(&self, command: &str) -> String {
        let output = self.try_sh(command);
        assert!(!output.status.success(), "'{command}' succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub fn try_sh(&self, command: &str) -> Output {
        Command::new("timeout").args(["120", "sh", "-c", command]).current_dir(&self.path).env("LC_ALL", "C").output().unwrap()
    }

    pub fn pailfs(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pailfs")).args(arguments).output().unwrap()
    }

    /// What `pailfs why` says about a name.
    pub fn why(&self, name: &str) -> String {
        let output = self.pailfs(&["why", self.at(name).to_str().unwrap()]);
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn daemon(&self) -> String {
        self.control("pid")
    }

    /// The last failures, everywhere.
    pub fn failures(&self) -> String {
        self.control("failures")
    }

    fn control(&self, name: &str) -> String {
        let mut value = vec![0; 65536];
        match rustix::fs::getxattr(&self.path, format!("user.pailfs.{name}"), &mut value[..]) {
            Ok(length) => String::from_utf8_lossy(&value[..length]).into_owned(),
            Err(errno) => errno.to_string(),
        }
    }

    #[track_caller]
    pub fn unmount(&self) {
        // What another test's child has inherited is open until its execve.
        let mut said = String::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let output = self.pailfs(&["umount", self.path.to_str().unwrap()]);
            if output.status.success() {
                return;
            }
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("is busy"), "umount failed: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("umount failed: {said}");
    }

    pub fn is_mounted(&self) -> bool {
        is_mounted(&self.path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        while is_mounted(&self.path) {
            let output = self.pailfs(&["umount", "--force", self.path.to_str().unwrap()]);
            if !output.status.success() {
                let _ = Command::new("umount").arg("-l").arg(&self.path).output();
            }
        }
        let _ = std::fs::remove_dir(&self.path);
        let _ = std::fs::remove_dir_all(self.cache());
    }
}

fn is_mounted(path: &Path) -> bool {
    pailfs::mount::mountinfo::on(path).unwrap().is_some()
}

/// Waits until something holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        std::thread::yield_now();
    }
}
