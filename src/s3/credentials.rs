//! Where keys come from: the AWS chain (aws-config), one profile of the AWS files, a file, or nobody.
//!
//! The chain is given the region (its own region provider would ask the instance's metadata service, which stalls off AWS)
//! and an instance-metadata client that gives up within a second. Temporary credentials are renewed before they expire.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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
    File { path: PathBuf, known: Mutex<Credentials> },
    Aws { source: AwsSource, known: tokio::sync::Mutex<Known> },
}

/// What the AWS libraries are asked with.
#[derive(Debug)]
struct AwsSource {
    region: String,
    profile: Option<String>,
}

/// A provider, which remembers the files that it has read, and what it said last.
#[derive(Debug)]
struct Known {
    provider: SharedCredentialsProvider,
    last: Option<(Credentials, Option<SystemTime>)>,
}

impl CredentialsProvider {
    /// Sets the source up; no request is made yet.
    ///
    /// # Errors
    /// [`NoCredentials`] when a credentials file cannot be used.
    pub async fn new(source: &CredentialsSource, region: &str) -> Result<Self, NoCredentials> {
        let aws = async |profile: Option<&String>| {
            let source = AwsSource { region: region.to_owned(), profile: profile.cloned() };
            let known = Known { provider: source.provider().await, last: None };
            Inner::Aws { source, known: tokio::sync::Mutex::new(known) }
        };
        let inner = match source {
            CredentialsSource::Anonymous => Inner::Anonymous,
            CredentialsSource::File(path) => Inner::File { path: path.clone(), known: Mutex::new(read_file(path)?) },
            CredentialsSource::Chain => aws(None).await,
            CredentialsSource::Profile(name) => aws(Some(name)).await,
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
            Inner::File { known, .. } => Ok(Some(known.lock().unwrap_or_else(PoisonError::into_inner).clone())),
            Inner::Aws { source, known } => {
                let mut known = known.lock().await;
                if let Some((credentials, expiry)) = &known.last
                    && expiry.is_none_or(|expiry| expiry > clock::now() + RENEW_BEFORE)
                {
                    return Ok(Some(credentials.clone()));
                }
                let (credentials, expiry) = source.ask(&known.provider).await?;
                known.last = Some((credentials.clone(), expiry));
                Ok(Some(credentials))
            }
        }
    }

    /// Reads files anew and asks everybody again. Those known stay in use meanwhile, and when there are no others.
    ///
    /// # Errors
    /// [`NoCredentials`].
    pub async fn refresh(&self) -> Result<(), NoCredentials> {
        match &*self.0 {
            Inner::Anonymous | Inner::Fixed(_) => {}
            Inner::File { path, known } => {
                let read = read_file(path)?;
                *known.lock().unwrap_or_else(PoisonError::into_inner) = read;
            }
            Inner::Aws { source, known } => {
                let provider = source.provider().await;
                let last = Some(source.ask(&provider).await?);
                *known.lock().await = Known { provider, last };
            }
        }
        Ok(())
    }
}

impl AwsSource {
    async fn provider(&self) -> SharedCredentialsProvider {
        let imds = aws_config::imds::Client::builder()
            .connect_timeout(IMDS_TIMEOUT)
            .read_timeout(IMDS_TIMEOUT)
            .operation_timeout(2 * IMDS_TIMEOUT)
            .max_attempts(1)
            .build();
        let region = aws_types::region::Region::new(self.region.clone());
        let Some(profile) = &self.profile else {
            let builder = aws_config::default_provider::credentials::DefaultCredentialsChain::builder();
            return SharedCredentialsProvider::new(builder.region(region).imds_client(imds).build().await);
        };
        // Not through the chain, which asks the environment first and would go on to others after a profile that is not there.
        let instance = aws_config::imds::credentials::ImdsCredentialsProvider::builder().imds_client(imds).build();
        let config = aws_config::provider_config::ProviderConfig::without_region().with_region(Some(region));
        let builder = aws_config::profile::ProfileFileCredentialsProvider::builder()
            .configure(&config)
            .with_custom_provider("Ec2InstanceMetadata", instance)
            .profile_name(profile);
        SharedCredentialsProvider::new(builder.build())
    }

    async fn ask(&self, provider: &SharedCredentialsProvider) -> Result<(Credentials, Option<SystemTime>), NoCredentials> {
        let asked = clock::deadline(CHAIN_TIMEOUT, provider.provide_credentials()).await;
        let found = asked.map_err(|late| NoCredentials(format!("the credential chain did not answer: {late}")))?;
        let found = found.map_err(|error| match &self.profile {
            Some(profile) => explain_profile(profile, &error),
            None => explain(&error),
        })?;
        let credentials = Credentials {
            access_key: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            session_token: found.session_token().map(str::to_owned),
        };
        Ok((credentials, found.expiry()))
    }
}

const HINT: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --profile, --credentials-file or --anonymous";

fn explain(error: &CredentialsError) -> NoCredentials {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => NoCredentials(format!("no credentials found: {HINT}")),
        error => NoCredentials(format!("no credentials could be loaded: {HINT} ({})", deepest(error))),
    }
}

fn explain_profile(profile: &str, error: &CredentialsError) -> NoCredentials {
    // Without an error below it, the provider only says that it does not apply.
    let why = if std::error::Error::source(error).is_some() { deepest(error) } else { "it has none".to_owned() };
    NoCredentials(format!(
        "profile '{profile}' gives no credentials: check its name, and ~/.aws/config and ~/.aws/credentials ({why})"
    ))
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

    #[tokio::test]
    async fn a_file_is_read_anew_and_a_bad_one_changes_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("pailfs-rotated-{}", std::process::id()));
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("OLD:S\n");
        let provider = CredentialsProvider::new(&CredentialsSource::File(path.clone()), "r").await.unwrap();
        write("NEW:S\n");
        assert_eq!(provider.get().await.unwrap().unwrap().access_key, "OLD");
        provider.refresh().await.unwrap();
        assert_eq!(provider.get().await.unwrap().unwrap().access_key, "NEW");
        write("nonsense");
        let refused = provider.refresh().await;
        std::fs::remove_file(&path).unwrap();
        assert!(refused.is_err());
        assert_eq!(provider.get().await.unwrap().unwrap().access_key, "NEW");
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
