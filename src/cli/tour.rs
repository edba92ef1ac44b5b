//! The tour of `pailfs demo`: real commands on the real mount, each with what came back, each checked.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Outcome;
use super::demo::ARCHIVED;
use crate::base::clock;

/// The restore of the demonstration's object takes seconds; more is a failure.
const RESTORE_LIMIT: Duration = Duration::from_secs(60);

/// What a command must do.
enum Expect {
    /// Succeed, and print something with this text.
    Prints(&'static str),
    /// Fail, and say something with this text.
    FailsWith(&'static str),
}

/// Takes the tour in the mounted directory.
pub(super) fn take(directory: &Path) -> Outcome {
    say!("A bucket of an embedded S3 server is mounted on {}.\n", directory.display());
    let archived = ARCHIVED.0;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let why = format!("{} why {archived}", program.display());
    let steps: [(&str, String, Expect); 11] = [
        ("A file is an object, a close is a PUT.", "echo 'hello from a bucket' > hello.txt".into(), Expect::Prints("")),
        ("Listing.", "ls -l".into(), Expect::Prints("hello.txt")),
        ("Copying.", "cp hello.txt copy.txt && cmp hello.txt copy.txt".into(), Expect::Prints("")),
        ("Reading it back.", "cat copy.txt".into(), Expect::Prints("hello from a bucket")),
        ("Metadata is an extended attribute.", "setfattr -n user.s3.meta.colour -v blue hello.txt".into(), Expect::Prints("")),
        (
            "All that S3 knows of an object.",
            "getfattr -n user.s3 --only-values hello.txt".into(),
            Expect::Prints("meta.colour=blue"),
        ),
        (
            "This one lies in an archive,",
            format!("getfattr -n user.s3.storage-class --only-values {archived}"),
            Expect::Prints("GLACIER"),
        ),
        ("and refuses to be read.", format!("cat {archived}"), Expect::FailsWith("remote")),
        ("Why?", why, Expect::Prints("restore it first")),
        ("So it is restored, for 5 days.", format!("setfattr -n user.s3.restore -v 5 {archived}"), Expect::Prints("")),
        ("That takes a while,", format!("getfattr -n user.s3.restore --only-values {archived}"), Expect::Prints("ongoing")),
    ];
    for (title, command, expect) in steps {
        step(directory, title, &command, &expect)?;
    }
    wait_for_restore(directory)?;
    let until = format!("getfattr -n user.s3.restore --only-values {archived}");
    step(directory, "hours on AWS, seconds here.", &until, &Expect::Prints("until"))?;
    step(directory, "And it can be read.", &format!("cat {archived}"), &Expect::Prints(ARCHIVED.1.trim()))
}

fn step(directory: &Path, title: &str, command: &str, expect: &Expect) -> Outcome {
    say!("# {title}\n$ {command}");
    let output = Command::new("sh").args(["-c", command]).current_dir(directory).env("LC_ALL", "C").output();
    let output = output.map_err(|error| format!("cannot run sh: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for text in [&out, &err] {
        if !text.is_empty() {
            say!("{}", text.trim_end());
        }
    }
    say!("");
    let right = match expect {
        Expect::Prints(text) => output.status.success() && out.contains(text),
        Expect::FailsWith(text) => !output.status.success() && err.contains(text),
    };
    if right { Ok(()) } else { Err(format!("the demonstration went wrong at '{command}' ({})", output.status)) }
}

fn wait_for_restore(directory: &Path) -> Outcome {
    let begun = Instant::now();
    let mut value = [0u8; 256];
    loop {
        let length = rustix::fs::getxattr(directory.join(ARCHIVED.0), "user.s3.restore", &mut value)
            .map_err(|error| format!("cannot ask for the restore: {error}"))?;
        if value[..length].starts_with(b"until") {
            return Ok(());
        }
        if begun.elapsed() > RESTORE_LIMIT {
            return Err("the restore did not end".to_owned());
        }
        clock::block(Duration::from_millis(100));
    }
}
