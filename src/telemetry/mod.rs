//! Layer 1: what the program says about itself: counters and the log.

pub mod counters;
pub mod subscriber;
