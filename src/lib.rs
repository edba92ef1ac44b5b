//! pailfs mounts S3 buckets as directories.

pub mod base;
pub mod cli;
pub mod data;
#[cfg(feature = "demo")]
pub mod devserver;
pub mod fs;
pub mod mount;
pub mod s3;
pub mod store;
pub mod telemetry;
