//! `pailfs why PATH`: the last failure on a path in words, also of what never came to be.

use std::path::Path;

use serde::Deserialize;

use super::args::Why;
use super::control::harmless;
use super::{Outcome, control};
use crate::mount::mountinfo::Mount;

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
            say!("{line}");
        } else {
            say!("{} ({} failed with {}, {})", harmless(&failure.story), failure.operation, failure.errno, failure.time);
            break;
        }
    }
    // The kernel itself says that a name is taken, so that an older failure may be another matter's.
    let bucket = if arguments.json { None } else { bucket_words(&mount, &below) };
    match (found, bucket) {
        (0, Some(words)) => say!("no failure is remembered; {words}"),
        (_, Some(words)) => say!("{words}"),
        (0, None) => return Err(format!("no failure on '{}' is remembered", arguments.path.display())),
        _ => {}
    }
    Ok(())
}

/// Whose a bucket is, on a mount of all buckets: that it is there keeps mkdir from making it, and the kernel says so by itself.
fn bucket_words(mount: &Mount, below: &Path) -> Option<String> {
    if mount.source != "s3://" || below.components().count() != 1 {
        return None;
    }
    let known = control::attribute(&mount.point.join(below), "user.s3").ok()?;
    let ownership = known.lines().find_map(|line| line.strip_prefix("ownership="))?;
    let whose = match ownership {
        "own" => "this account's own: mkdir fails with EEXIST, mkdir -p is content",
        _ => "another account's: all accounts share the names, so mkdir fails with EEXIST; choose another",
    };
    Some(format!("the bucket '{}' exists, and it is {whose}", below.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_a_key() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
    }
}
