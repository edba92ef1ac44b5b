//! What object metadata means to a file system.

pub mod location;
pub mod posix;
pub mod xattr;
