//! One test binary: the rules of the tree, the store's contract on every backend, and the file system through the kernel.

mod conformance;
#[cfg(feature = "demo")]
mod mounted;
#[cfg(feature = "demo")]
mod refusals;
mod servers;
#[cfg(feature = "demo")]
mod support;
mod tidy;
