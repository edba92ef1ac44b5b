//! pailfs mounts S3 buckets as directories.

pub mod base;
pub mod data;
pub mod fs;
pub mod store;
pub mod telemetry;
