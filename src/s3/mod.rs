//! Layer 3: the store's traits over HTTP: SigV4, requests, answers and XML of our own; reqwest carries them.
//!
//! What a particular store does not do is in [`dialect`]; how conditions are kept on stores that ignore them is in
//! `conditions`.

mod client;
mod conditions;
pub mod config;
pub mod credentials;
pub mod dialect;
pub mod digest;
pub mod endpoint;
pub mod error;
pub mod listing;
mod objects;
mod received;
pub mod request;
pub mod response;
mod service;
pub mod shared;
pub mod sign;
pub mod transport;
pub mod xml;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use self::client::Client;
use self::config::S3Config;
use self::credentials::CredentialsProvider;
use self::dialect::Dialect;
use self::endpoint::Endpoint;
use self::transport::Transport;

/// An S3 store. Cheap to clone; all clones share connections and what was learnt.
#[derive(Debug, Clone)]
pub struct S3Store(Arc<Client>);

/// A store cannot be set up as configured: one line for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(String);

impl S3Store {
    /// Sets a client up; no request is made.
    ///
    /// # Errors
    /// [`SetupError`] for an endpoint, a CA bundle or a credentials file that cannot be used.
    pub async fn new(config: S3Config) -> Result<Self, SetupError> {
        let setup = |error: &dyn std::fmt::Display| SetupError(error.to_string());
        let endpoint = Endpoint::new(&config).map_err(|error| setup(&error))?;
        let transport = Transport::new(&config).map_err(|error| setup(&error))?;
        let credentials = CredentialsProvider::new(&config.credentials, &config.region).await.map_err(|error| setup(&error))?;
        let dialect = if endpoint.is_aws() { Dialect::aws() } else { Dialect::default() };
        Ok(Self(Arc::new(Client { config, endpoint, transport, credentials, dialect, regions: Mutex::new(HashMap::new()) })))
    }

    /// Asks for credentials now, so that a mount without any fails at once and not at its first request.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn check_credentials(&self) -> Result<(), SetupError> {
        self.0.credentials.get().await.map(|_| ()).map_err(|error| SetupError(error.to_string()))
    }

    /// Reads the credentials afresh from where they come from; those known stay in use when that fails.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn refresh_credentials(&self) -> Result<(), SetupError> {
        self.0.credentials.refresh().await.map_err(|error| SetupError(error.to_string()))
    }
}
