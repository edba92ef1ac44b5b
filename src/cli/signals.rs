//! What signals mean: SIGINT and SIGTERM stop, SIGHUP looks at everything afresh, SIGUSR1 changes how much is logged.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::mounting::FullStore;
use crate::fs::Fs;
use crate::s3::S3Store;
use crate::telemetry::subscriber::LogLevel;

fn listen(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("cannot wait for signals: {error}"))
}

/// What ends a command.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// SIGINT and SIGTERM.
    pub(super) fn new() -> Result<Self, String> {
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup: None })
    }

    /// These, and the end of the terminal.
    #[cfg(feature = "demo")]
    pub(super) fn with_hangup() -> Result<Self, String> {
        Ok(Self { hangup: Some(listen(SignalKind::hangup())?), ..Self::new()? })
    }

    /// Waits for the next one of any.
    pub(super) async fn next(&mut self) {
        let hangup = self.hangup.as_mut();
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hung_up => {}
        }
    }
}

/// What a daemon heeds while it serves. From the moment that this exists, neither signal ends the process.
pub(super) struct Notices {
    hangup: Signal,
    user1: Signal,
}

impl Notices {
    /// SIGHUP and SIGUSR1.
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self { hangup: listen(SignalKind::hangup())?, user1: listen(SignalKind::user_defined1())? })
    }

    /// Does what they ask for, until it is dropped.
    pub(super) async fn heed(mut self, fs: Arc<Fs<FullStore>>, store: S3Store, level: LogLevel) {
        loop {
            tokio::select! {
                Some(()) = self.hangup.recv() => refresh(&fs, &store).await,
                Some(()) = self.user1.recv() => {
                    if let Some(filter) = level.toggle() {
                        tracing::info!(filter, "SIGUSR1: the log's filter was changed");
                    }
                }
                else => return,
            }
        }
    }
}

async fn refresh(fs: &Fs<FullStore>, store: &S3Store) {
    fs.look_afresh();
    match store.refresh_credentials().await {
        Ok(()) => tracing::info!("SIGHUP: all is looked at afresh, credentials are read"),
        Err(error) => tracing::warn!(%error, "SIGHUP: the credentials stay as they were"),
    }
}
