//! The operations, by what they work on.

pub mod attrs;
pub mod commit;
pub mod dirs;
pub mod files;
pub mod names;
pub mod open;
pub mod remove;
pub mod rename;
pub mod xattrs;
