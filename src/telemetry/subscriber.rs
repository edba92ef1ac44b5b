//! The log: to stderr, as text or JSON, filtered by level or by `RUST_LOG`'s grammar.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter was not understood.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a log filter: use error, warn, info, debug, trace or a RUST_LOG expression")]
pub struct BadFilter(String);

/// Installs the process's log. Only the first call counts.
///
/// # Errors
/// [`BadFilter`].
pub fn install<W>(filter: &str, format: LogFormat, writer: W) -> Result<(), BadFilter>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // The FUSE library warns of every operation that is left to the kernel's own fallback.
    let filter = EnvFilter::try_new(format!("{filter},fuser=error")).map_err(|_| BadFilter(filter.to_owned()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).with_target(false);
    // A second installation is refused by tracing; the first one stays, which is what is wanted.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}
