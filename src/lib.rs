//! pailfs mounts S3 buckets as directories.

pub mod base;
pub mod store;
