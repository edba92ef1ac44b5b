//! The arguments as they are typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::fs::meta::xattr::{self, Restore};
use crate::store::RestoreTier;

/// What the program calls itself, in the version of every sub-command too.
const NAME: &str = "pailfs";

/// Mount S3 buckets as directories.
#[derive(Debug, Parser)]
#[command(name = NAME, version, disable_help_subcommand = true, propagate_version = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

const FSTAB_HELP: &str = "\
For /etc/fstab and mount -t pailfs:  ln -s $(command -v pailfs) /sbin/mount.pailfs
Every long option can be written after -o, with '_' for '-'. More: pailfs help mount";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mount a bucket, a prefix of one, or all buckets, on a directory
    #[command(display_name = NAME, after_help = FSTAB_HELP)]
    Mount(Box<Mount>),
    /// Upload what is left, then unmount
    #[command(display_name = NAME)]
    Umount(Umount),
    /// Tell what goes on in a mount, or in all of them: exit code 1 when something failed or is kept
    #[command(display_name = NAME)]
    Status(Status),
    /// Tell the last failure on a path in words
    #[command(display_name = NAME)]
    Why(Why),
    /// Ask for the restore of archived files, recursively
    #[command(display_name = NAME)]
    Restore(RestoreFiles),
    /// List or abort incomplete multipart uploads
    #[command(display_name = NAME)]
    Uploads(Uploads),
    /// An embedded S3 server with a mount of it: no account needed
    #[cfg(feature = "demo")]
    #[command(display_name = NAME)]
    Demo(Demo),
    /// The manual, by topic
    #[command(display_name = NAME)]
    Help(Help),
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Mount {
    /// BUCKET, s3://BUCKET or s3://BUCKET/PREFIX; s3:// for every bucket of the account, one directory each
    pub(super) source: String,
    /// The directory to mount on
    pub(super) directory: PathBuf,
    /// Stay in the foreground, log to stderr
    #[arg(long, short = 'f')]
    pub(super) foreground: bool,
    /// Mount without asking the store first
    #[arg(long)]
    pub(super) no_check: bool,
    #[command(flatten)]
    pub(super) store: Store,
    /// Nothing may be changed
    #[arg(long)]
    pub(super) read_only: bool,
    /// Let other users use the mount; permissions are checked by the kernel
    #[arg(long)]
    pub(super) allow_other: bool,
    /// Memory for data on its way, for example 128MiB
    #[arg(long, default_value = "512MiB", value_parser = parse_bytes, value_name = "SIZE")]
    pub(super) memory_limit: u64,
    /// Where contents are kept that could not be stored (in its kept/) [default: $XDG_CACHE_HOME/pailfs, /var/cache/pailfs for
    /// root, else ~/.cache/pailfs]
    #[arg(long, value_name = "DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    /// Disk space (in the cache directory's staging/) for changes that do not fit into memory [default: the smaller of 4GiB and a
    /// quarter of what is free]
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
    pub(super) staging_limit: Option<u64>,
    /// Where uploads are recorded, so that those of a killed mount are found [default: $XDG_STATE_HOME/pailfs, /var/lib/pailfs
    /// for root, else ~/.local/state/pailfs]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// How long names and attributes of others are believed, for example 5s or 500ms
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub(super) ttl: Duration,
    /// What is written to a file that stays open, and not fsynced, is stored so long after the last write; 0: only at close
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub(super) commit_after: Duration,
    /// Where mkdir makes buckets on an s3:// mount: a region, a zone group, or EU, USWest, ... [default: the region on AWS,
    /// elsewhere what the store says]
    #[arg(long)]
    pub(super) location: Option<String>,
    /// Send an empty object when a file is created with O_EXCL, so that open tells who was first
    #[arg(long)]
    pub(super) strict_excl: bool,
    /// How much a listing is believed about attributes
    #[arg(long, default_value = "auto", value_enum)]
    pub(super) attrs: Attrs,
    /// Show every file as this user's
    #[arg(long)]
    pub(super) uid: Option<u32>,
    /// Show every file as this group's
    #[arg(long)]
    pub(super) gid: Option<u32>,
    /// Permission bits taken off every mode, octal
    #[arg(long, value_parser = parse_octal)]
    pub(super) umask: Option<u32>,
    /// Mode of files that have none, octal
    #[arg(long, default_value = "0644", value_parser = parse_octal)]
    pub(super) file_mode: u32,
    /// Mode of directories that have none, octal
    #[arg(long, default_value = "0755", value_parser = parse_octal)]
    pub(super) dir_mode: u32,
    /// Believe setuid bits and device nodes in objects' metadata
    #[arg(long)]
    pub(super) trust_special: bool,
    /// Whose the objects of the buckets are that mkdir makes, and with that whether access lists count
    #[arg(long, value_enum, value_name = "OWNERSHIP")]
    pub(super) object_ownership: Option<ObjectOwnership>,
    /// How long user.s3.presigned-url is good, up to 7d
    #[arg(long, default_value = "1h", value_parser = parse_duration, value_name = "TIME")]
    pub(super) presign_ttl: Duration,
    /// What listing attributes names: portable (what cp -a carries), none (the same, but without asking the store), all
    #[arg(long, default_value = "portable", value_enum)]
    pub(super) list_xattrs: ListXattrs,
    /// Whether what replaces an object keeps its access list
    #[arg(long, default_value = "yes", value_enum)]
    pub(super) keep_acl: YesNo,
    /// Opening an archived object asks for its restore, for example 5 or 5,Bulk
    #[arg(long, value_parser = parse_restore, value_name = "DAYS[,TIER]")]
    pub(super) auto_restore: Option<Restore>,
    /// So much is restored by itself in a day
    #[arg(long, default_value = "100GiB", value_parser = parse_bytes, value_name = "SIZE")]
    pub(super) auto_restore_limit: u64,
    /// More mount options, as in fstab, comma-separated
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub(super) options: Vec<String>,
    /// Log filter: error, warn, info, debug, or an expression as in RUST_LOG
    #[arg(long, env = "PAILFS_LOG", default_value = "warn", value_name = "FILTER")]
    pub(super) log: String,
    /// Log as JSON
    #[arg(long)]
    pub(super) log_json: bool,
    /// Log to this file (the default in the background is no log; `pailfs why` works without)
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
    /// Tell the parent on stdout when the mount is usable
    #[arg(long, hide = true)]
    pub(super) report_to_parent: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Store {
    /// Address of the store, for example http://127.0.0.1:9000; AWS without
    #[arg(long, value_name = "URL")]
    pub(super) endpoint_url: Option<String>,
    /// Region
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Profile of the AWS files
    #[arg(long)]
    pub(super) profile: Option<String>,
    /// File with KEY:SECRET, of mode 0600
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    pub(super) credentials_file: Option<PathBuf>,
    /// Do not sign requests
    #[arg(long, conflicts_with_all = ["profile", "credentials_file"])]
    pub(super) anonymous: bool,
    /// How buckets are named in requests
    #[arg(long, default_value = "auto", value_enum)]
    pub(super) addressing: Style,
    /// Sign every byte, also where the store verifies checksums
    #[arg(long)]
    pub(super) sign_payloads: bool,
    /// Pay for requests to others' buckets
    #[arg(long)]
    pub(super) requester_pays: bool,
    /// Refuse a bucket that is not this account's
    #[arg(long, value_name = "ACCOUNT")]
    pub(super) expected_bucket_owner: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Attrs {
    Listing,
    Posix,
    Auto,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(super) enum ObjectOwnership {
    BucketOwnerEnforced,
    BucketOwnerPreferred,
    ObjectWriter,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ListXattrs {
    Portable,
    None,
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum YesNo {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Style {
    Auto,
    Path,
    VirtualHost,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Umount {
    /// The mounted directory
    pub(super) directory: PathBuf,
    /// Detach also when it is busy; keep what could not be uploaded in the cache directory
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Status {
    /// A mounted directory; without: all mounts
    pub(super) directory: Option<PathBuf>,
    /// As JSON, one object for each mount, a line each
    #[arg(long)]
    pub(super) json: bool,
    /// Asks the root of a mount itself, however long that takes
    #[arg(long, hide = true, requires = "directory")]
    pub(super) of_root: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Why {
    /// A path on a mount; it need not exist
    pub(super) path: PathBuf,
    /// All remembered failures on it, one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct RestoreFiles {
    /// Files and directories on a mount
    #[arg(required = true)]
    pub(super) paths: Vec<PathBuf>,
    /// How long the restored copies stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(super) days: u32,
    /// How fast: Standard, Bulk or Expedited
    #[arg(long, value_parser = parse_tier)]
    pub(super) tier: Option<RestoreTier>,
    /// Wait until all of them can be read
    #[arg(long)]
    pub(super) wait: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Uploads {
    #[command(subcommand)]
    pub(super) action: UploadsAction,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum UploadsAction {
    /// One a line: when it was begun, the bytes it keeps, key and id
    List(UploadsOf),
    /// Give them up, also those that somebody still works on
    Abort(UploadsOf),
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct UploadsOf {
    /// BUCKET, s3://BUCKET or s3://BUCKET/PREFIX
    pub(super) source: String,
    /// Only those begun so long ago, for example 2d
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(super) older_than: Option<Duration>,
    /// As JSON, one object a line
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) store: Store,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Help {
    /// A topic; without: the list of them
    pub(super) topic: Option<String>,
}

#[cfg(feature = "demo")]
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Demo {
    /// Where to mount; without: a temporary directory
    pub(super) directory: Option<PathBuf>,
    /// Only the S3 server, for tests and measurements
    #[arg(long)]
    pub(super) server_only: bool,
    /// Where the server listens
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub(super) listen: std::net::SocketAddr,
    /// Whether bytes are kept, or made up by the object's name
    #[arg(long, default_value = "memory", value_enum)]
    pub(super) data: Data,
    /// Milliseconds before every answer
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(super) latency: u64,
    /// MiB per second of each connection
    #[arg(long, value_name = "MIB")]
    pub(super) bandwidth: Option<f64>,
    /// What goes wrong, for example 'PutObject:3=503;GetObject:1=cut@65536'
    #[arg(long, default_value = "", value_name = "RULES")]
    pub(super) fault: String,
    /// How long a restore takes, for example 2s
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    pub(super) restore_time: Duration,
    /// Buckets to begin with
    #[arg(long, value_name = "NAME", default_value = "demo")]
    pub(super) bucket: Vec<String>,
}

#[cfg(feature = "demo")]
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Data {
    Memory,
    Synthetic,
}

fn parse_restore(text: &str) -> Result<Restore, String> {
    xattr::parse_restore(text).map_err(|refused| refused.to_string())
}

fn parse_tier(text: &str) -> Result<RestoreTier, String> {
    RestoreTier::parse(text).ok_or_else(|| format!("'{text}' is not a tier: Standard, Bulk or Expedited"))
}

/// `128MiB`, `1GiB`, `65536`
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is not a size such as 128MiB"))?;
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        unit => return Err(format!("'{unit}' is not a unit: KiB, MiB, GiB or TiB")),
    };
    number.checked_mul(unit).ok_or_else(|| format!("'{text}' is too much"))
}

/// `5s`, `500ms`, `2m`, `3`
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| format!("'{text}' is not a time such as 5s or 500ms"))?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86400.0,
        unit => return Err(format!("'{unit}' is not a unit: ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("'{text}': {error}"))
}

fn parse_octal(text: &str) -> Result<u32, String> {
    let bits = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or_else(|| format!("'{text}' is not an octal mode such as 0644"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(parse_bytes("128MiB"), Ok(128 << 20));
        assert_eq!(parse_bytes("7"), Ok(7));
        assert!(parse_bytes("x").is_err() && parse_bytes("1TB").is_err() && parse_bytes("99999999999GiB").is_err());
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("-1s").is_err() && parse_duration("s").is_err());
        assert_eq!(parse_octal("0644"), Ok(0o644));
        assert!(parse_octal("8").is_err() && parse_octal("77777").is_err());
    }

    #[test]
    fn every_version_is_the_programs() {
        for line in [&["pailfs", "--version"][..], &["pailfs", "mount", "--version"], &["pailfs", "why", "-V"]] {
            let said = Args::try_parse_from(line).unwrap_err().to_string();
            assert_eq!(said.trim_end(), format!("pailfs {}", env!("CARGO_PKG_VERSION")));
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
