//! What the arguments mean: validated and complete.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{args, options};
use crate::data::write::staging::Staging;
use crate::fs::config::{AttrsMode, AutoRestore, Config, KeepAcl, ListXattrs, MOST_FORGOTTEN, Source};
use crate::fs::meta::location::Location;
use crate::fs::{intents, remembered};
use crate::mount::MountSettings;
use crate::s3::config::{Addressing, CredentialsSource, PayloadSigning, S3Config, Timeouts};
use crate::s3::endpoint::Endpoint;
use crate::s3::shared;
use crate::store::{BucketName, Ownership, Place, Uploads};

/// Of the free disk space, one part in so many may be used for staging, but no more than the constant below unless told.
const STAGED_SHARE_OF_FREE: u64 = 4;
/// See there.
const MAX_STAGING_BYTES: u64 = 4 << 30;

/// The region when nobody names one: S3's own default.
const DEFAULT_REGION: &str = "us-east-1";

/// What is mounted, where, and how; `directory` is the checked mount point.
pub(super) fn resolve(arguments: &args::Mount, directory: PathBuf) -> Result<MountSettings, String> {
    let source = source(&arguments.source)?;
    let location = match (&arguments.location, &source) {
        (None, _) => None,
        (Some(text), Source::Account) => Location::parse(text).map_err(|why| format!("--location: {why}"))?,
        (Some(_), Source::Bucket { .. }) => {
            return Err("--location is where mkdir makes buckets: it is for the mount of all buckets, s3://".to_owned());
        }
    };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    // Without --allow-other nobody else can look, so everything is the user's own; root sees what is stored.
    let own = uid != 0 && !arguments.allow_other;
    let cache = CACHE.directory(arguments.cache_dir.as_deref(), uid)?;
    let mut config = Config {
        most_forgotten: MOST_FORGOTTEN,
        source,
        location,
        uid: arguments.uid.unwrap_or(uid),
        gid: arguments.gid.unwrap_or(gid),
        file_mode: arguments.file_mode,
        dir_mode: arguments.dir_mode,
        force_uid: arguments.uid.or_else(|| own.then_some(uid)),
        force_gid: arguments.gid.or_else(|| own.then_some(gid)),
        umask: arguments.umask,
        trust_special: arguments.trust_special,
        ttl: arguments.ttl,
        strict_excl: arguments.strict_excl,
        commit_after: Some(arguments.commit_after).filter(|after| !after.is_zero()),
        read_only: arguments.read_only,
        attrs: match arguments.attrs {
            args::Attrs::Listing => AttrsMode::Listing,
            args::Attrs::Posix => AttrsMode::Posix,
            args::Attrs::Auto => AttrsMode::Auto,
        },
        memory_limit: arguments.memory_limit,
        kept_directory: Some(cache.join("kept")),
        // Known when the store is.
        renames: None,
        remembered: None,
        staging: staging(&cache, arguments.staging_limit),
        ownership: arguments.object_ownership.map(|ownership| match ownership {
            args::ObjectOwnership::BucketOwnerEnforced => Ownership::BucketOwnerEnforced,
            args::ObjectOwnership::BucketOwnerPreferred => Ownership::BucketOwnerPreferred,
            args::ObjectOwnership::ObjectWriter => Ownership::ObjectWriter,
        }),
        presign_ttl: presign_ttl(arguments.presign_ttl)?,
        list_xattrs: match arguments.list_xattrs {
            args::ListXattrs::Portable => ListXattrs::Portable,
            args::ListXattrs::None => ListXattrs::Known,
            args::ListXattrs::All => ListXattrs::All,
        },
        keep_acl: match arguments.keep_acl {
            args::YesNo::Yes => KeepAcl::Yes,
            args::YesNo::No => KeepAcl::No,
        },
        auto_restore: arguments.auto_restore.map(|asked| AutoRestore { asked, limit: arguments.auto_restore_limit }),
        // Known when the store is.
        trusts_store: false,
        owner_uid: uid,
    };
    if arguments.memory_limit < crate::data::budget::MIN_LIMIT_BYTES {
        return Err("--memory-limit must be at least 64MiB".to_owned());
    }
    let generic = arguments.options.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty());
    let generic = options::parse(generic)?;
    config.read_only |= generic.read_only;
    Ok(MountSettings {
        directory,
        source: arguments.source.clone(),
        config,
        allow_other: arguments.allow_other,
        kernel_options: generic.for_the_kernel,
    })
}

/// S3 takes one second to seven days.
fn presign_ttl(told: Duration) -> Result<Duration, String> {
    let good = (1..=7 * 86_400).contains(&told.as_secs());
    good.then_some(told).ok_or_else(|| "--presign-ttl must be between 1s and 7d".to_owned())
}

/// A directory of this program's: as told, or by the custom of the system.
struct Custom {
    option: &'static str,
    variable: &'static str,
    of_root: &'static str,
    at_home: &'static str,
}

/// What must outlive a mount for its user.
const CACHE: Custom =
    Custom { option: "--cache-dir", variable: "XDG_CACHE_HOME", of_root: "/var/cache/pailfs", at_home: ".cache/pailfs" };
/// What the next mount must know of this one.
const STATE: Custom =
    Custom { option: "--state-dir", variable: "XDG_STATE_HOME", of_root: "/var/lib/pailfs", at_home: ".local/state/pailfs" };

impl Custom {
    fn directory(&self, told: Option<&Path>, uid: u32) -> Result<PathBuf, String> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let found = match told {
            // The daemon leaves the directory it was started in.
            Some(told) => {
                Some(std::path::absolute(told).map_err(|error| format!("{} '{}': {error}", self.option, told.display()))?)
            }
            None => variable(self.variable).map(|base| base.join("pailfs")),
        };
        let custom = || if uid == 0 { Some(self.of_root.into()) } else { variable("HOME").map(|home| home.join(self.at_home)) };
        found.or_else(custom).ok_or_else(|| format!("HOME is not set: name a directory with {}", self.option))
    }
}

/// Where the uploads of a mount are recorded, its renames, and attributes.
pub(super) fn records(arguments: &args::Mount, config: &mut Config, store: &S3Config) -> Result<Uploads, String> {
    let directory = STATE.directory(arguments.state_dir.as_deref(), rustix::process::getuid().as_raw())?;
    let endpoint = Endpoint::new(store).map_err(|error| error.to_string())?.name();
    let cache = CACHE.directory(arguments.cache_dir.as_deref(), rustix::process::getuid().as_raw())?;
    config.remembered = Some(remembered::Place { directory: cache.join("attributes"), endpoint: endpoint.clone() });
    config.renames = Some(intents::Place { directory: directory.join("renames"), endpoint: endpoint.clone() });
    Ok(Uploads::recorded_in(Place { directory, endpoint, kept: config.kept_directory.clone() }))
}

/// The staging directory, and how much may lie there.
fn staging(cache: &Path, told: Option<u64>) -> Staging {
    let directory = cache.join("staging");
    let free = || {
        // It is made when it is needed: until then the file system of what is there counts.
        let there = directory.ancestors().find_map(|place| rustix::fs::statvfs(place).ok());
        there.map_or(0, |there| there.f_bavail.saturating_mul(there.f_frsize))
    };
    let limit_bytes = told.unwrap_or_else(|| (free() / STAGED_SHARE_OF_FREE).min(MAX_STAGING_BYTES));
    Staging::new(directory, limit_bytes)
}

/// The client's settings: options first, then the standard variables and the profile.
pub(super) async fn store(arguments: &args::Store) -> S3Config {
    let shared = shared::lookup(arguments.profile.as_deref()).await;
    S3Config {
        endpoint: arguments.endpoint_url.clone().or(shared.endpoint),
        region: arguments.region.clone().or(shared.region).unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        addressing: match arguments.addressing {
            args::Style::Auto => Addressing::Auto,
            args::Style::Path => Addressing::Path,
            args::Style::VirtualHost => Addressing::VirtualHost,
        },
        credentials: match (&arguments.credentials_file, &arguments.profile) {
            (Some(path), _) => CredentialsSource::File(path.clone()),
            (None, Some(profile)) => CredentialsSource::Profile(profile.clone()),
            (None, None) if arguments.anonymous => CredentialsSource::Anonymous,
            (None, None) => CredentialsSource::Chain,
        },
        payload_signing: if arguments.sign_payloads { PayloadSigning::Always } else { PayloadSigning::Auto },
        requester_pays: arguments.requester_pays,
        expected_bucket_owner: arguments.expected_bucket_owner.clone(),
        ca_bundle: std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from),
        timeouts: Timeouts::default(),
    }
}

/// Whether the store is Amazon's own S3.
pub(super) fn is_aws(config: &S3Config) -> bool {
    Endpoint::new(config).is_ok_and(|endpoint| endpoint.is_aws())
}

/// `s3://`, `BUCKET`, `s3://BUCKET` or `s3://BUCKET/PREFIX`; the prefix is raw key bytes and gets its slash.
pub(super) fn source(text: &str) -> Result<Source, String> {
    if text == "s3://" {
        return Ok(Source::Account);
    }
    let bare = text.strip_prefix("s3://").unwrap_or(text);
    let (bucket, prefix) = bare.split_once('/').unwrap_or((bare, ""));
    let bucket = BucketName::new(bucket).map_err(|error| error.to_string())?;
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    Ok(Source::Bucket { bucket, prefix: format!("{prefix}{slash}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let parsed = |text: &str| source(text).map(|source| source.to_string());
        assert_eq!(parsed("bucket"), Ok("s3://bucket".into()));
        assert_eq!(parsed("s3://bucket/a/b"), Ok("s3://bucket/a/b/".into()));
        assert_eq!(parsed("s3://bucket/a//"), Ok("s3://bucket/a//".into()));
        assert_eq!(source("s3://"), Ok(Source::Account));
        assert!(parsed("").is_err() && parsed("Bad_Name").is_err() && parsed("s3:///a").is_err());
    }
}
