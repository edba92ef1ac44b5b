//! pailfs mounts S3 buckets as directories.

pub mod base;
#[cfg(feature = "demo")]
pub mod devserver;
pub mod store;
