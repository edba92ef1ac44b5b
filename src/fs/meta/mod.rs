//! What object metadata means to a file system.

pub mod facts;
pub mod metadata;
pub mod posix;
pub mod xattr;
