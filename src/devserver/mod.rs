//! The embedded S3 server: [`Memory`] behind HTTP, for `pailfs demo`, for tests and for measurements.
//!
//! It is separate from the store in memory, since it is about the wire: signatures, headers, XML, checksums, and what goes
//! wrong there. Protocol and signatures are those of the crate `s3s`; what is added here is S3's behaviour, control
//! (see below), and faults ([`faults`]). Bodies are never copied on their way out and kept in the chunks
//! they came in.
//!
//! # Control
//!
//! `GET /_pailfs/counters`, `POST /_pailfs/counters/reset`, `GET` and `PUT /_pailfs/faults`, without a signature.
//!
//! # Example
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use pailfs::devserver::{Server, ServerConfig};
//! let server = Server::start(ServerConfig { buckets: vec!["demo".to_owned()], ..ServerConfig::default() }).await?;
//! assert!(server.endpoint().starts_with("http://127.0.0.1:"));
//! server.stop().await;
//! # Ok(()) }
//! ```

mod api;
mod body;
mod connection;
mod control;
mod counters;
pub mod faults;
mod gate;
mod pace;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use s3s::auth::SecretKey;
use s3s::host::SingleDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use counters::Counts;
pub use faults::{Faults, InvalidFault};
pub use gate::Anonymous;

use connection::Site;
use gate::{Gate, Keys};
use pace::Shape;
use state::State;

use crate::base::{clock, tasks};
use crate::store::BucketName;
use crate::store::memory::{Data, Memory, Options, Tags};

/// The access key of the usual configuration.
pub const ACCESS_KEY: &str = "pailfsdemo";
/// Its secret.
pub const SECRET_KEY: &str = "pailfsdemosecret";
/// How long to wait before accepting again when the system had no descriptor for a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What a server is like.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether bytes are kept.
    pub data: Data,
    /// What tags are.
    pub tags: Tags,
    /// How much later every answer comes.
    pub latency: Duration,
    /// MiB per second of each connection and direction; `None` for no limit.
    pub bandwidth: Option<f64>,
    /// What goes wrong.
    pub faults: Faults,
    /// The key that may sign.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// More keys with their secrets.
    pub more_keys: Vec<(String, String)>,
    /// Whether requests without a signature are served.
    pub anonymous: Anonymous,
    /// How long a restore takes.
    pub restore_ongoing: Duration,
    /// The domain under which buckets are host names, with its port if it has one; path style always works by IP address.
    pub domain: Option<String>,
    /// The region of buckets made without a location.
    pub region: String,
    /// The buckets that are there from the beginning.
    pub buckets: Vec<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let Options { tags, data, restore_ongoing, region, .. } = Options::default();
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data,
            tags,
            latency: Duration::ZERO,
            bandwidth: None,
            faults: Faults::default(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            more_keys: Vec::new(),
            anonymous: Anonymous::default(),
            restore_ongoing,
            domain: None,
            region,
            buckets: Vec::new(),
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets are not printed.
        f.debug_struct("ServerConfig").field("listen", &self.listen).field("buckets", &self.buckets).finish_non_exhaustive()
    }
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    memory: Memory,
    state: Arc<State>,
    /// Dropping the sender ends every connection.
    stop: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts a server on the current runtime.
    ///
    /// # Errors
    /// When it cannot listen there, or a bucket or the domain has no valid name.
    pub async fn start(config: ServerConfig) -> io::Result<Self> {
        let options = Options {
            tags: config.tags,
            data: config.data,
            restore_ongoing: config.restore_ongoing,
            region: config.region.clone(),
            ..Options::default()
        };
        let memory = Memory::with(options);
        for bucket in &config.buckets {
            memory.ensure_bucket(&BucketName::new(bucket).map_err(invalid)?);
        }
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(Shape::new(config.latency, config.bandwidth), config.faults.clone()));
        let service = service(&config, memory.clone(), Arc::clone(&state))?;
        let (stop, stopped) = watch::channel(());
        let site = Site { service, state: Arc::clone(&state), memory: memory.clone() };
        let accepting = tasks::spawn(accept(listener, site, stopped));
        Ok(Self { address, memory, state, stop, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The store behind it.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The counts so far.
    #[must_use]
    pub fn counters(&self) -> Counts {
        self.state.counters.snapshot()
    }

    /// Sets the counts to 0.
    pub fn reset_counters(&self) {
        self.state.counters.reset();
    }

    /// Replaces the faults; counting begins anew.
    pub fn set_faults(&self, faults: Faults) {
        self.state.set_faults(faults);
    }

    /// How much later every answer comes from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.state.shape.set_latency(latency);
    }

    /// MiB per second of each connection and direction from now on.
    pub fn set_bandwidth(&self, bandwidth: Option<f64>) {
        self.state.shape.set_bandwidth(bandwidth);
    }

    /// Stops listening and closes all connections.
    pub async fn stop(mut self) {
        self.stop.send_replace(());
        // It ends by itself or was cancelled: either way it is over.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn service(config: &ServerConfig, memory: Memory, state: Arc<State>) -> io::Result<S3Service> {
    let documents = api::Documents {
        memory: memory.clone(),
        state: Arc::clone(&state),
        anonymous: config.anonymous,
        domain: config.domain.clone(),
    };
    let mut builder = S3ServiceBuilder::new(api::Api::new(memory));
    builder.set_route(documents);
    let mut keys = BTreeMap::from([(config.access_key.clone(), SecretKey::from(config.secret_key.clone()))]);
    keys.extend(config.more_keys.iter().map(|(key, secret)| (key.clone(), SecretKey::from(secret.clone()))));
    builder.set_auth(Keys(keys));
    builder.set_access(Gate { state, anonymous: config.anonymous });
    if let Some(domain) = &config.domain {
        builder.set_host(SingleDomain::new(domain).map_err(invalid)?);
    }
    Ok(builder.build())
}

async fn accept(listener: TcpListener, site: Site, mut stopped: watch::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (site, mut stopped) = (site.clone(), stopped.clone());
                tasks::spawn(async move {
                    tokio::select! {
                        () = connection::serve(site, stream) => {}
                        _ = stopped.changed() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the embedded server could not accept a connection");
                clock::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
