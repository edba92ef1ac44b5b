//! t
#[test]
fn a() {}
mod smoke;
