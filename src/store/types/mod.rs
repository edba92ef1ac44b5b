//! The words of S3 as types that cannot be wrong: names, conditions, ranges, requests and answers.
//! Pure. A value that exists is valid; what can fail is its constructor.

mod lock;
mod names;
mod object;
mod report;
mod request;

pub use lock::*;
pub use names::*;
pub use object::*;
pub use report::*;
pub use request::*;
