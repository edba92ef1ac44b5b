//! The log: to stderr, as text or JSON, filtered by level or by `RUST_LOG`'s grammar. The level can be changed while it runs.

use std::sync::atomic::{AtomicBool, Ordering};

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

/// What tells most, short of what the libraries tell about each byte.
const VERBOSE: &str = "debug";

/// The level of a log that is installed.
pub struct LogLevel {
    configured: String,
    verbose: AtomicBool,
    set: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
}

impl LogLevel {
    /// Goes over to debug, or back to the filter that it was installed with; the filter from now on. `None` when this log is
    /// not the process's.
    pub fn toggle(&self) -> Option<&str> {
        let verbose = !self.verbose.fetch_xor(true, Ordering::Relaxed);
        let filter = if verbose { VERBOSE } else { self.configured.as_str() };
        let set = parse(filter).is_ok_and(&self.set);
        set.then_some(filter)
    }
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogLevel").field("configured", &self.configured).field("verbose", &self.verbose).finish_non_exhaustive()
    }
}

/// Installs the process's log. Only the first call counts.
///
/// # Errors
/// [`BadFilter`].
pub fn install<W>(filter: &str, format: LogFormat, writer: W) -> Result<LogLevel, BadFilter>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let parsed = parse(filter)?;
    // A terminal that is gone must cost the line and no more: complaining about it on stderr would panic.
    let builder = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).with_target(false).log_internal_errors(false);
    // A second installation is refused by tracing; the first one stays, which is what is wanted.
    let set: Box<dyn Fn(EnvFilter) -> bool + Send + Sync> = match format {
        LogFormat::Text => {
            let builder = builder.with_env_filter(parsed).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |filter| handle.reload(filter).is_ok())
        }
        LogFormat::Json => {
            let builder = builder.json().with_env_filter(parsed).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |filter| handle.reload(filter).is_ok())
        }
    };
    Ok(LogLevel { configured: filter.to_owned(), verbose: AtomicBool::new(false), set })
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    // The FUSE library warns of every operation that is left to the kernel's own fallback.
    EnvFilter::try_new(format!("{filter},fuser=error")).map_err(|_| BadFilter(filter.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_goes_to_debug_and_back() {
        let lines = Lines::default();
        let writer = lines.clone();
        let level = install("warn", LogFormat::Text, move || writer.clone()).unwrap();
        tracing::debug!("toggle-1");
        assert_eq!(level.toggle(), Some("debug"));
        tracing::debug!("toggle-2");
        assert_eq!(level.toggle(), Some("warn"));
        tracing::debug!("toggle-3");
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("toggle-2") && !text.contains("toggle-1") && !text.contains("toggle-3"), "{text}");
        assert!(install("no=such=filter", LogFormat::Text, std::io::stderr).is_err());
    }
}
