//! The operations, by what they work on.

mod adopt;
pub(super) mod ahead;
pub(super) mod attrs;
pub(super) mod begin;
pub(super) mod bucket_xattrs;
pub(super) mod buckets;
pub(super) mod commit;
pub(super) mod control;
pub(super) mod dirs;
pub(super) mod documents;
pub(super) mod files;
pub(super) mod keeping;
pub(super) mod names;
pub(super) mod open;
pub(super) mod put_back;
pub(super) mod ranges;
pub(super) mod remove;
pub(super) mod rename;
pub(super) mod restore;
mod status;
pub(super) mod told;
mod unclaimed;
pub(super) mod xattrs;
