//! `pailfs why PATH`: the last failure on a path in words, also of what never came to be.

use serde::Deserialize;

use super::args::Why;
use super::{Outcome, control};

#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    time: String,
    operation: String,
    path: String,
    errno: String,
    pub(super) story: String,
}

/// Prints the last failure on a path.
pub(super) fn why(arguments: &Why) -> Outcome {
    let (mount, below) = control::mount_of(&arguments.path)?;
    let text = control::ask(&mount.point, "failures")?;
    let wanted = format!("/{}", below.display());
    let wanted = wanted.trim_end_matches('/');
    let about = |failure: &Failure| failure.path.trim_end_matches('/') == wanted;
    let mut found = 0;
    for line in text.lines() {
        let Ok(failure) = serde_json::from_str::<Failure>(line) else { continue };
        if !about(&failure) {
            continue;
        }
        found += 1;
        if arguments.json {
            println!("{line}");
        } else {
            println!("{} ({} failed with {}, {})", failure.story, failure.operation, failure.errno, failure.time);
            return Ok(());
        }
    }
    if found > 0 { Ok(()) } else { Err(format!("no failure on '{}' is remembered", arguments.path.display())) }
}
