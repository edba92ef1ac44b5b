//! Layer 3: bytes, not names. How an object's bytes are fetched ahead, staged, streamed out and committed,
//! under one memory budget.

pub mod budget;
pub mod error;
pub mod guess;
pub mod read;
pub mod write;

pub use error::{Error, Result};
