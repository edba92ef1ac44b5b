//! The tree as this mount knows it: inodes, their places, and what was learnt of directories.

pub mod attributes;
pub mod closing;
pub mod directory;
pub mod facts;
pub mod inode;
pub mod listing;
pub mod moves;
pub mod probe;
pub mod reading;
pub mod since;
pub mod stream;
pub mod table;
pub mod walk;
