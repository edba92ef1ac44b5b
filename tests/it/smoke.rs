//! tmp
use pailfs::fs::config::*;
use pailfs::mount::*;
use pailfs::store::*;
use pailfs::telemetry::counters::Counters;
use std::sync::Arc;

#[test]
fn memory_mount_for_hand_tests() {
    let dir = match std::env::var("SMOKE_DIR") {
        Ok(d) => d,
        Err(_) => return,
    };
    pailfs::telemetry::subscriber::install(
        &std::env::var("SMOKE_LOG").unwrap_or("warn".into()),
        Default::default(),
        std::io::stderr,
    )
    .unwrap();
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let memory = Memory::new();
    let bucket = BucketName::new("bucket").unwrap();
    rt.block_on(memory.create_bucket(&bucket, None)).unwrap();
    let config = Config {
        bucket,
        prefix: String::new(),
        uid: 0,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
        force_uid: None,
        force_gid: None,
        umask: None,
        trust_special: false,
        ttl: std::time::Duration::from_secs(5),
        read_only: false,
        attrs: AttrsMode::Auto,
        memory_limit: 128 << 20,
        owner_uid: 0,
    };
    let counters = Arc::new(Counters::default());
    let store =
        Retry::new(Limit::new(Traced::new(memory, counters.clone())), RetryPolicy::default(), pailfs::base::rng::Rng::from_os());
    let directory = prepare_directory(std::path::Path::new(&dir)).unwrap();
    let m = Mounted::start(
        store,
        MountSettings { directory, source: "bucket".into(), config, allow_other: false, kernel_options: vec![] },
        counters,
        rt.handle(),
    )
    .unwrap();
    rt.block_on(m.serve(async || {
        tokio::signal::ctrl_c().await.unwrap();
    }))
    .unwrap();
}
