//! What object metadata means to a file system.

pub mod acl;
pub mod facts;
pub mod location;
pub mod metadata;
pub mod posix;
pub mod xattr;
