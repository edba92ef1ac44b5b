//! One test binary: the rules of the tree, the store's contract on every backend, and the file system through the kernel.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what differs on a server of unknown version"
)]

mod appends;
mod attributes;
#[cfg(feature = "demo")]
mod bad_input;
mod buckets;
#[cfg(feature = "demo")]
mod buckets_mounted;
mod capabilities;
mod clients;
#[cfg(feature = "demo")]
mod closing;
#[cfg(feature = "demo")]
mod coherence;
mod companions;
mod conformance;
mod copies;
#[cfg(feature = "demo")]
mod counts;
mod directories;
mod documents;
mod fault_case;
mod fault_copies;
mod fault_loop;
mod fault_moves;
mod fault_names;
mod faults;
mod forgotten;
mod integrity;
#[cfg(feature = "demo")]
mod interop;
#[cfg(feature = "demo")]
mod kept;
mod keys;
#[cfg(feature = "demo")]
mod kill;
#[cfg(feature = "demo")]
mod kill_moves;
mod leftovers;
#[cfg(feature = "demo")]
mod leftovers_mounted;
mod locks;
#[cfg(feature = "demo")]
mod model;
#[cfg(feature = "demo")]
mod model_run;
#[cfg(feature = "demo")]
mod model_tree;
#[cfg(feature = "demo")]
mod mounted;
#[cfg(feature = "demo")]
mod onward;
#[cfg(feature = "demo")]
mod oracle;
mod properties;
mod races;
#[cfg(feature = "demo")]
mod refusals;
#[cfg(feature = "demo")]
mod renames;
#[cfg(feature = "demo")]
mod replaced;
#[cfg(feature = "demo")]
mod requests;
mod servers;
#[cfg(feature = "demo")]
mod servers_buckets;
#[cfg(feature = "demo")]
mod shown;
#[cfg(feature = "demo")]
mod staging;
#[cfg(feature = "demo")]
mod status;
#[cfg(feature = "demo")]
mod support;
mod tidy;
#[cfg(feature = "demo")]
mod together;
#[cfg(feature = "demo")]
mod tools;
#[cfg(feature = "demo")]
mod transfers;
#[cfg(feature = "demo")]
mod tutorial;
#[cfg(feature = "demo")]
mod unsent;
mod wire;
mod world;
#[cfg(feature = "demo")]
mod worst_keys;
#[cfg(feature = "demo")]
mod writers;
mod xattrs;
