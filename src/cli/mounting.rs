//! `pailfs mount`: checks, goes to the background once the mount is usable, serves.
//!
//! The background process is this program again, started by the first one, which waits for one line on a pipe: `ready`, or
//! why not. So the failure is the parent's exit code and one clear line, and nothing is forked with threads running.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::Outcome;
use super::args::Mount;
use super::settings;
use super::signals::{Notices, Signals};
use crate::base::{clock, rng::Rng, tasks};
use crate::fs::config::{Config, Source};
use crate::fs::meta::location::Location;
use crate::mount::{self, Detach, Mounted};
use crate::s3::S3Store;
use crate::s3::config::S3Config;
use crate::store::{
    BucketService as _, Delimiter, Error, ErrorKind, Limit, ListObjects, ListStart, ObjectStore as _, Prefix, Recorded, Retry,
    RetryPolicy, Traced, UnreadPage, Uploads,
};
use crate::telemetry::counters::Counters;
use crate::telemetry::subscriber::{self, LogFormat, LogLevel};

/// The check of the source may take this long in all.
const CHECK_LIMIT: Duration = Duration::from_secs(4);
/// How long the end of a mount may take to abort uploads that could not be aborted before.
const ABORT_LIMIT: Duration = Duration::from_secs(5);
/// Threads of the runtime: signing, copying and waiting; the FUSE threads are beside them.
const RUNTIME_THREADS: usize = 2;
/// The stack of a thread, in bytes: an operation's futures nest through all layers down to the HTTP client, deeply where they
/// are not optimised. Only what is used is taken.
const WORKER_STACK_BYTES: usize = 16 << 20;

/// The store as the file system sees it.
pub(super) type FullStore = Retry<Limit<Recorded<Traced<S3Store>>>>;

/// Mounts, in the background unless told otherwise.
pub(super) fn mount(arguments: Box<Mount>, argv: &[OsString]) -> Outcome {
    if arguments.foreground || arguments.report_to_parent {
        let told = serve(&arguments);
        if arguments.report_to_parent
            && let Err(why) = &told
        {
            // The parent may be gone: then nobody is told, and the log has it.
            let _ = writeln!(std::io::stdout(), "error {}", why.replace('\n', " "));
            tracing::error!(why, "ended");
        }
        return told;
    }
    // What can be refused at once is, without a process.
    settings::resolve(&arguments, arguments.directory.clone())?;
    start_daemon(argv)
}

fn start_daemon(argv: &[OsString]) -> Outcome {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut child = Command::new(program)
        // The file may be called mount.pailfs, and the arguments are no helper's any more.
        .arg0("pailfs")
        .args(&argv[1..])
        .arg("--report-to-parent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start the background process: {error}"))?;
    let stdout = child.stdout.take().ok_or("the background process has no output")?;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if line == "ready" {
            return Ok(());
        }
        if let Some(why) = line.strip_prefix("error ") {
            let _ = child.wait();
            return Err(why.to_owned());
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    Err(format!("the background process ended before the mount was usable ({status})"))
}

/// Mounts and serves until the end.
fn serve(arguments: &Mount) -> Outcome {
    let level = install_log(arguments)?;
    mount::check_device().map_err(|error| error.to_string())?;
    let directory = mount::prepare_directory(&arguments.directory).map_err(|error| error.to_string())?;
    let mut settings = settings::resolve(arguments, directory)?;
    let runtime = runtime()?;
    let counters = Arc::new(Counters::default());
    let (store, s3, uploads) = runtime.block_on(async {
        let store = settings::store(&arguments.store).await;
        settings.config.trusts_store = settings::is_aws(&store);
        if settings::is_aws(&store) && settings.config.source == Source::Account && arguments.location.is_none() {
            // AWS takes an unsaid location from its endpoint in us-east-1 only.
            settings.config.location = Location::parse(&store.region)?;
        }
        let uploads = settings::records(arguments, &mut settings.config, &store)?;
        let check = (!arguments.no_check).then_some(&settings.config);
        let (store, s3) = open_store(store, check, Arc::clone(&counters), uploads.clone()).await?;
        Ok::<_, String>((store, s3, uploads))
    })?;
    // Before there is a mount: a signal that ended the process from then on would leave it dead.
    let (mut signals, notices) = runtime.block_on(async { Ok::<_, String>((Signals::new()?, Notices::new()?)) })?;
    let place = settings.directory.clone();
    let may_abort = !settings.config.read_only;
    let mounted = Mounted::start(store.clone(), settings, counters, runtime.handle()).map_err(|error| error.to_string())?;
    if arguments.report_to_parent
        && let Err(why) = detach()
    {
        // A mount that nobody serves must not stay.
        return match mount::unmount(&place, Detach::Yes) {
            Ok(()) => Err(why),
            Err(error) => Err(format!("{why}; cannot unmount '{}': {error}", place.display())),
        };
    }
    let served = runtime.block_on(async {
        let _heeding = tasks::Scoped::new(tasks::spawn(notices.heed(mounted.fs(), s3, level)));
        let (below, of_dead) = (store.clone(), uploads.clone());
        // Behind the mount: nobody waits for what others have left.
        let _sweeping = may_abort.then(|| tasks::Scoped::new(tasks::spawn(async move { of_dead.sweep(&below).await })));
        let fs = mounted.fs();
        let _finishing = may_abort.then(|| tasks::Scoped::new(tasks::spawn(async move { fs.finish_renames().await })));
        let served = mounted.serve(async move || signals.next().await).await.map_err(|error| error.to_string());
        // What is not aborted in time is by the next mount.
        let _ = clock::deadline(ABORT_LIMIT, uploads.abort_abandoned(&store)).await;
        served
    });
    // A request that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

fn install_log(arguments: &Mount) -> Result<LogLevel, String> {
    let format = if arguments.log_json { LogFormat::Json } else { LogFormat::Text };
    let installed = match &arguments.log_file {
        Some(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|error| format!("cannot log to '{}': {error}", path.display()))?;
            subscriber::install(&arguments.log, format, Arc::new(file))
        }
        None => subscriber::install(&arguments.log, format, std::io::stderr),
    };
    installed.map_err(|error| error.to_string())
}

/// The runtime that everything but FUSE's own threads runs on.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(WORKER_STACK_BYTES)
        .worker_threads(RUNTIME_THREADS)
        .thread_name("pailfs")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}

/// Sets the store up and looks whether the source `check` is there, with one request. The client below it is returned too.
async fn open_store(
    settings: S3Config,
    check: Option<&Config>,
    counters: Arc<Counters>,
    uploads: Uploads,
) -> Result<(FullStore, S3Store), String> {
    let endpoint = settings.endpoint.clone().unwrap_or_else(|| format!("AWS in {}", settings.region));
    let s3 = S3Store::new(settings).await.map_err(|error| error.to_string())?;
    s3.check_credentials().await.map_err(|error| error.to_string())?;
    if let Some(config) = check {
        match clock::deadline(CHECK_LIMIT, look(&s3, &config.source)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refusal(&error, &config.source, &endpoint)),
            Err(_) => return Err(format!("{endpoint} does not answer: check the endpoint and the network")),
        }
    }
    let recorded = Recorded::new(Traced::new(s3.clone(), counters), uploads);
    let store = Retry::new(Limit::new(recorded), RetryPolicy::default(), Rng::from_os());
    Ok((store, s3))
}

/// Asks for the first key, or for the buckets.
async fn look(store: &S3Store, source: &Source) -> crate::store::Result<()> {
    match source {
        Source::Account => store.list_buckets().await.map(|_| ()),
        Source::Bucket { bucket, prefix } => {
            let request = ListObjects {
                bucket: bucket.clone(),
                prefix: Prefix::new(prefix),
                delimiter: Delimiter::None,
                start: ListStart::Beginning,
                max_keys: 1,
            };
            store.list(&request).await.and_then(UnreadPage::read).map(|_| ())
        }
    }
}

/// Why the source cannot be mounted, and what to do.
fn refusal(error: &Error, source: &Source, endpoint: &str) -> String {
    let bucket = match source {
        Source::Bucket { bucket, .. } => bucket.as_str(),
        Source::Account => "s3://",
    };
    match error.kind() {
        ErrorKind::NoBucket => format!("there is no bucket '{bucket}' at {endpoint}: check its name and the region"),
        ErrorKind::Rejected => {
            format!("{endpoint} refuses the credentials: check access key and secret, and the clock ({error})")
        }
        ErrorKind::Expired => format!("the credentials have expired: renew them ({error})"),
        ErrorKind::Denied if *source == Source::Account => format!(
            "the credentials may not list the account's buckets: ask for s3:ListAllMyBuckets, or use --no-check and go to buckets \
             by their names ({error})"
        ),
        ErrorKind::Denied => {
            format!("the credentials may not list '{bucket}': ask for s3:ListBucket, or use --no-check ({error})")
        }
        ErrorKind::Unreachable => {
            format!("cannot reach {endpoint}: check the address, http or https, and whether the store is running ({error})")
        }
        // Without a status there was no answer: what listens there speaks something else, or broke.
        ErrorKind::Unavailable if error.story().status.is_none() => {
            format!("{endpoint} answers nothing that is HTTP: check --endpoint-url, http or https, and the store ({error})")
        }
        ErrorKind::NotS3 => format!("what answers at {endpoint} is not an S3 store: check --endpoint-url"),
        _ => format!("cannot use '{bucket}' at {endpoint}: {error}"),
    }
}

/// Tells the parent, and lets go of its terminal and directory.
fn detach() -> Outcome {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready").and_then(|()| stdout.flush()).map_err(|error| format!("the parent is gone: {error}"))?;
    // Fails only for a process group's leader, which a child that was just started is not.
    let _ = rustix::process::setsid();
    std::env::set_current_dir(Path::new("/")).map_err(|error| error.to_string())
}
