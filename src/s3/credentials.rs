//! Where keys come from: the AWS chain (aws-config), a file, or nobody.
//!
//! The chain is given the region (its own region provider would ask the instance's metadata service, which stalls off AWS)
//! and an instance-metadata client that gives up within a second. Temporary credentials are renewed before they expire.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider, error::CredentialsError};

use super::config::CredentialsSource;
use super::sign::Credentials;
use crate::base::clock;

/// Credentials are renewed this long before they expire.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Off AWS nobody answers at the instance's metadata address.
const IMDS_TIMEOUT: Duration = Duration::from_millis(400);
/// The whole chain, which may run a program or ask a server.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there are no credentials: one line for people.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NoCredentials(pub String);

/// A source of credentials that remembers them while they are good.
#[derive(Debug, Clone)]
pub struct CredentialsProvider(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Anonymous,
    Fixed(Credentials),
    Chain { provider: SharedCredentialsProvider, cached: tokio::sync::Mutex<Option<(Credentials, Option<SystemTime>)>> },
}

impl CredentialsProvider {
    /// Sets the source up; no request is made yet.
    ///
    /// # Errors
    /// [`NoCredentials`] when a credentials file cannot be used.
    pub async fn new(source: &CredentialsSource, region: &str) -> Result<Self, NoCredentials> {
        let inner = match source {
            CredentialsSource::Anonymous => Inner::Anonymous,
            CredentialsSource::File(path) => Inner::Fixed(read_file(path)?),
            CredentialsSource::Chain => chain(region, None).await,
            CredentialsSource::Profile(name) => chain(region, Some(name)).await,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Fixed credentials, for tests.
    #[must_use]
    pub fn fixed(credentials: Credentials) -> Self {
        Self(Arc::new(Inner::Fixed(credentials)))
    }

    /// The credentials to sign with now; `None` signs nothing.
    ///
    /// # Errors
    /// [`NoCredentials`] when nobody has any.
    pub async fn get(&self) -> Result<Option<Credentials>, NoCredentials> {
        match &*self.0 {
            Inner::Anonymous => Ok(None),
            Inner::Fixed(credentials) => Ok(Some(credentials.clone())),
            Inner::Chain { provider, cached } => {
                let mut cached = cached.lock().await;
                if let Some((credentials, expiry)) = &*cached
                    && expiry.is_none_or(|expiry| expiry > clock::now() + RENEW_BEFORE)
                {
                    return Ok(Some(credentials.clone()));
                }
                let asked = clock::deadline(CHAIN_TIMEOUT, provider.provide_credentials()).await;
                let found = asked.map_err(|late| NoCredentials(format!("the credential chain did not answer: {late}")))?;
                let found = found.map_err(|error| explain(&error))?;
                let credentials = Credentials {
                    access_key: found.access_key_id().to_owned(),
                    secret_key: found.secret_access_key().to_owned(),
                    session_token: found.session_token().map(str::to_owned),
                };
                *cached = Some((credentials.clone(), found.expiry()));
                Ok(Some(credentials))
            }
        }
    }

    /// Forgets what was remembered: the next request asks again.
    pub async fn refresh(&self) {
        if let Inner::Chain { cached, .. } = &*self.0 {
            *cached.lock().await = None;
        }
    }
}

async fn chain(region: &str, profile: Option<&str>) -> Inner {
    let imds = aws_config::imds::Client::builder()
        .connect_timeout(IMDS_TIMEOUT)
        .read_timeout(IMDS_TIMEOUT)
        .operation_timeout(2 * IMDS_TIMEOUT)
        .max_attempts(1)
        .build();
    let builder = aws_config::default_provider::credentials::DefaultCredentialsChain::builder()
        .region(aws_types::region::Region::new(region.to_owned()))
        .imds_client(imds);
    let builder = match profile {
        Some(profile) => builder.profile_name(profile),
        None => builder,
    };
    let provider = SharedCredentialsProvider::new(builder.build().await);
    Inner::Chain { provider, cached: tokio::sync::Mutex::new(None) }
}

const HINT: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --profile, --credentials-file or --anonymous";

fn explain(error: &CredentialsError) -> NoCredentials {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => NoCredentials(format!("no credentials found: {HINT}")),
        error => NoCredentials(format!("no credentials could be loaded: {HINT} ({})", deepest(error))),
    }
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Reads `KEY:SECRET`, or the lines of a profile, from a file that nobody else may read.
fn read_file(path: &Path) -> Result<Credentials, NoCredentials> {
    let refuse = |why: String| NoCredentials(format!("credentials file '{}': {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(refuse(format!("others may read it (mode {:04o}); chmod 600 it", metadata.mode() & 0o7777)));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    parse_file(&text).ok_or_else(|| refuse("it holds neither KEY:SECRET nor aws_access_key_id and aws_secret_access_key".into()))
}

fn parse_file(text: &str) -> Option<Credentials> {
    let field = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    if let (Some(access_key), Some(secret_key)) = (field("aws_access_key_id"), field("aws_secret_access_key")) {
        return Some(Credentials { access_key, secret_key, session_token: field("aws_session_token") });
    }
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let (access_key, secret_key) = line.split_once(':')?;
    let valid = !access_key.is_empty() && !secret_key.is_empty() && !line.contains(char::is_whitespace);
    valid.then(|| Credentials { access_key: access_key.to_owned(), secret_key: secret_key.to_owned(), session_token: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_file() {
        let short = parse_file("# comment\n AK:se/cr+et \n").unwrap();
        assert_eq!((short.access_key.as_str(), short.secret_key.as_str()), ("AK", "se/cr+et"));
        let long = parse_file("[default]\naws_access_key_id = AK\naws_secret_access_key=S\naws_session_token = T\n").unwrap();
        assert_eq!((long.secret_key.as_str(), long.session_token.as_deref()), ("S", Some("T")));
        for bad in ["", "AK", ":S", "AK:", "AK : S"] {
            assert!(parse_file(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("pailfs-credentials-{}", std::process::id()));
        std::fs::write(&path, "AK:S\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = read_file(&path).unwrap_err().to_string();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let read = read_file(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(refused.contains("chmod 600"), "{refused}");
        assert_eq!(read.unwrap().access_key, "AK");
    }
}
