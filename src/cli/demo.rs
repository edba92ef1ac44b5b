//! `pailfs demo`: the embedded server with a mount of it and a tour; or the server alone.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Outcome;
use super::args::{Data, Demo};
use super::mounting::runtime;
use super::signals::Signals;
use super::tour;
use crate::base::rng::{self, Rng};
use crate::base::tasks;
use crate::devserver::{Server, ServerConfig};
use crate::fs::config::Config;
use crate::mount::{self, MountSettings, Mounted};
use crate::s3::S3Store;
use crate::s3::config::{CredentialsSource, S3Config};
use crate::store::{
    BucketName, Condition, Key, Limit, ObjectStore as _, Payload, Properties, PutObject, Retry, RetryPolicy, StorageClass, Traced,
};
use crate::telemetry::counters::Counters;
use crate::telemetry::subscriber::{self, LogFormat};

/// The tour's archived object.
pub(super) const ARCHIVED: (&str, &str) = ("archive/report-2012.txt", "The bucket list of 2012, back from the ice.\n");

/// Runs the demonstration.
pub(super) fn demo(arguments: Demo) -> Outcome {
    subscriber::install("error", LogFormat::Text, std::io::stderr).map_err(|error| error.to_string())?;
    let runtime = runtime()?;
    let config = server_config(&arguments)?;
    let server = runtime
        .block_on(Server::start(config))
        .map_err(|error| format!("the server cannot listen on {}: {error}", arguments.listen))?;
    let outcome =
        if arguments.server_only { runtime.block_on(serve_alone(&server)) } else { with_mount(&arguments, &server, &runtime) };
    runtime.block_on(server.stop());
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn server_config(arguments: &Demo) -> Result<ServerConfig, String> {
    Ok(ServerConfig {
        listen: arguments.listen,
        data: match arguments.data {
            Data::Memory => crate::store::memory::Data::Stored,
            Data::Synthetic => crate::store::memory::Data::Synthetic,
        },
        latency: Duration::from_millis(arguments.latency),
        bandwidth: arguments.bandwidth,
        faults: arguments.fault.parse().map_err(|error| format!("--fault: {error}"))?,
        restore_ongoing: arguments.restore_time,
        buckets: arguments.bucket.clone(),
        ..ServerConfig::default()
    })
}

async fn serve_alone(server: &Server) -> Outcome {
    say!("endpoint {}", server.endpoint());
    say!("export AWS_ACCESS_KEY_ID={}", crate::devserver::ACCESS_KEY);
    say!("export AWS_SECRET_ACCESS_KEY={}", crate::devserver::SECRET_KEY);
    say!("export AWS_ENDPOINT_URL={}", server.endpoint());
    Signals::with_hangup()?.next().await;
    Ok(())
}

fn with_mount(arguments: &Demo, server: &Server, runtime: &tokio::runtime::Runtime) -> Outcome {
    mount::check_device().map_err(|error| error.to_string())?;
    let made = match &arguments.directory {
        Some(_) => None,
        None => Some(temporary_directory()?),
    };
    let directory = arguments.directory.clone().or_else(|| made.clone()).ok_or("no directory")?;
    let outcome = mount_and_tour(arguments, server, runtime, directory);
    if let Some(made) = made {
        // Empty once it is unmounted; should that have failed, it must stay.
        let _ = std::fs::remove_dir(made);
    }
    outcome
}

fn mount_and_tour(arguments: &Demo, server: &Server, runtime: &tokio::runtime::Runtime, directory: PathBuf) -> Outcome {
    let directory = mount::prepare_directory(&directory).map_err(|error| error.to_string())?;
    let bucket = arguments.bucket.first().cloned().ok_or("a bucket is needed")?;
    let bucket = BucketName::new(&bucket).map_err(|error| error.to_string())?;
    let counters = Arc::new(Counters::default());
    let s3 = runtime.block_on(async {
        put_archived(server, &bucket).await?;
        client(server).await
    })?;
    let store = Retry::new(Limit::new(Traced::new(s3, Arc::clone(&counters))), RetryPolicy::default(), Rng::from_os());
    let settings = mount_settings(directory.clone(), bucket);
    let mounted = Mounted::start(store, settings, counters, runtime.handle()).map_err(|error| error.to_string())?;
    runtime.block_on(async move {
        let mut signals = Signals::with_hangup()?;
        let (done, toured) = tokio::sync::oneshot::channel();
        tasks::spawn(async move {
            let place = directory.clone();
            let outcome = tasks::blocking(move || tour::take(&place)).await;
            let stay = outcome.is_ok() && std::io::stdin().is_terminal();
            if stay {
                say!(
                    "\nThe bucket is mounted on {}: try it from another terminal. Ctrl-C ends the demonstration.",
                    directory.display()
                );
            }
            // Nobody listens when a signal came first.
            let _ = done.send((outcome, stay));
        });
        let mut toured = Some(toured);
        let mut outcome = Ok(());
        let served = mounted
            .serve(async || {
                if let Some(toured) = toured.take() {
                    tokio::select! {
                        tour = toured => match tour {
                            Ok((Ok(()), true)) => {}
                            Ok((tour, _)) => { outcome = tour; return }
                            Err(_) => return,
                        },
                        () = signals.next() => return,
                    }
                }
                signals.next().await;
            })
            .await;
        outcome.and(served.map_err(|error| error.to_string()))
    })
}

/// An object that lies in the archive, as after a lifecycle rule.
async fn put_archived(server: &Server, bucket: &BucketName) -> Outcome {
    let (key, text) = ARCHIVED;
    let request = PutObject {
        bucket: bucket.clone(),
        key: Key::new(key).map_err(|error| error.to_string())?,
        payload: Payload::from(text),
        properties: Properties { storage_class: Some(StorageClass::new("GLACIER")), ..Properties::default() },
        condition: Condition::None,
    };
    server.memory().put(&request).await.map(|_| ()).map_err(|error| error.to_string())
}

async fn client(server: &Server) -> Result<S3Store, String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    // The client takes its keys from a file, as a user's would.
    let path = std::env::temp_dir().join(format!("pailfs-demo-{}", rng::token()));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| writeln!(file, "{}:{}", crate::devserver::ACCESS_KEY, crate::devserver::SECRET_KEY));
    let config = S3Config {
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
        credentials: CredentialsSource::File(path.clone()),
        ..S3Config::default()
    };
    let store = S3Store::new(config).await.map_err(|error| error.to_string());
    let _ = std::fs::remove_file(path);
    written.map_err(|error| error.to_string()).and(store)
}

fn mount_settings(directory: PathBuf, bucket: BucketName) -> MountSettings {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let config = Config { uid, gid, owner_uid: uid, ..Config::new(bucket.clone()) };
    MountSettings { directory, source: bucket.to_string(), config, allow_other: false, kernel_options: Vec::new() }
}

fn temporary_directory() -> Result<PathBuf, String> {
    let path = std::env::temp_dir().join(format!("pailfs-demo-{}", rng::token()));
    std::fs::create_dir(&path).map_err(|error| format!("cannot make '{}': {error}", path.display()))?;
    Ok(path)
}
