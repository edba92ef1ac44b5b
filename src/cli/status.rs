//! `pailfs status`: what goes on in a mount, or in all of them.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::Status;
use super::{control, fail};
use crate::mount::mountinfo;

/// DIR is on no mount.
const NO_MOUNT: u8 = 2;
/// The daemon answers only others; between the processes of this command.
const REFUSED: u8 = 3;
/// A mount that has not answered by then hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// A label and what follows it begin in these columns.
const LABEL_COLUMNS: usize = 10;

/// What a mount has answered.
enum Answer {
    Status(Value),
    /// Only others may ask it.
    Refused(String),
    Failed(String),
}

/// Shows it; 1 when something failed or is kept, or a mount does not answer, 2 when the directory is not on a mount.
pub(super) fn status(arguments: &Status) -> ExitCode {
    if let Some(point) = arguments.directory.as_ref().filter(|_| arguments.of_root) {
        return answer(point);
    }
    let points = match &arguments.directory {
        Some(directory) => control::mount_of(directory).map(|(mount, _)| vec![mount.point]),
        None => all(),
    };
    let points = match points {
        Ok(points) => points,
        Err(why) => {
            fail(&why);
            return ExitCode::from(NO_MOUNT);
        }
    };
    if points.is_empty() && !arguments.json {
        say!("no pailfs mount");
    }
    let mut all_well = true;
    for (point, answer) in points.iter().zip(ask_all(&points)) {
        match answer {
            Answer::Status(mut status) => {
                all_well &= is_well(&status);
                if arguments.json {
                    status["mount"] = point.display().to_string().into();
                    say!("{status}");
                } else {
                    super::print(format_args!("{}", words(point, &status)));
                }
            }
            // Somebody else's mount is no concern of this user's, unless it was asked for.
            Answer::Refused(_) if arguments.directory.is_none() => {}
            Answer::Refused(why) | Answer::Failed(why) => {
                fail(&why);
                all_well = false;
            }
        }
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Asks the mount at `point` itself, for the process that waits for this one.
fn answer(point: &Path) -> ExitCode {
    let refused = control::is_refused(point);
    match control::ask(point, "status") {
        Ok(status) => {
            say!("{status}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            let _ = writeln!(io::stderr(), "{why}");
            if refused { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
        }
    }
}

/// Asks all mounts at once, each in a process of its own: a mount that hangs keeps whoever asks it, with all its threads, until
/// it is gone.
fn ask_all(points: &[PathBuf]) -> Vec<Answer> {
    let last = Instant::now() + PATIENCE;
    let asked: Vec<_> = points.iter().map(|point| ask(point)).collect();
    let answers = asked.into_iter().zip(points).map(|(asked, point)| match asked {
        Ok(answer) => answer
            .recv_timeout(last.saturating_duration_since(Instant::now()))
            .unwrap_or_else(|_| Answer::Failed(format!("no answer from '{}' within {} s", point.display(), PATIENCE.as_secs()))),
        Err(error) => Answer::Failed(format!("cannot ask '{}': {error}", point.display())),
    });
    answers.collect()
}

fn ask(point: &Path) -> io::Result<Receiver<Answer>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["status", "--of-root", "--"]).arg(point);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (tell, answer) = mpsc::channel();
    let point = point.to_owned();
    std::thread::spawn(move || {
        let answer = match child.wait_with_output() {
            Ok(output) if output.status.success() => match serde_json::from_slice(&output.stdout) {
                Ok(status) => Answer::Status(status),
                Err(error) => Answer::Failed(format!("'{}': {error}", point.display())),
            },
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if output.status.code() == Some(i32::from(REFUSED)) { Answer::Refused(why) } else { Answer::Failed(why) }
            }
            Err(error) => Answer::Failed(error.to_string()),
        };
        // Nobody waits any more when it was too late.
        let _ = tell.send(answer);
    });
    Ok(answer)
}

fn all() -> Result<Vec<PathBuf>, String> {
    let mounts = mountinfo::all().map_err(|error| format!("cannot read the mount table: {error}"))?;
    let mut points: Vec<PathBuf> =
        mounts.into_iter().filter(|mount| mount.fs_type == mountinfo::FS_TYPE).map(|mount| mount.point).collect();
    points.sort();
    points.dedup();
    Ok(points)
}

fn list<'a>(status: &'a Value, name: &str) -> &'a [Value] {
    status[name].as_array().map_or(&[], Vec::as_slice)
}

fn is_failed(pending: &Value) -> bool {
    pending["error"].is_string()
}

fn is_well(status: &Value) -> bool {
    list(status, "kept").is_empty() && !list(status, "pending").iter().any(is_failed)
}

/// For people: only what matters, a line each.
fn words(point: &Path, status: &Value) -> String {
    let text = |value: &Value| control::harmless(value.as_str().unwrap_or("?"));
    let mut lines = vec![format!("{} on {} (process {})", text(&status["source"]), point.display(), status["pid"])];
    let mut say = |label: &str, what: String| lines.push(format!("  {label:<LABEL_COLUMNS$}{what}"));
    let (memory, open) = (&status["memory"], &status["open"]);
    say("memory", format!("{} of {}", size(&memory["used"]), size(&memory["limit"])));
    say("open", format!("{} files, {} directories", open["files"], open["directories"]));
    for pending in list(status, "pending") {
        let (label, why) = match pending["error"].as_str() {
            Some(_) => ("failed", format!(": {}", text(&pending["error"]))),
            None => ("dirty", pending["idle_s"].as_u64().map_or_else(String::new, |idle| format!(", last used {idle} s ago"))),
        };
        say(label, format!("{} ({}){why}", text(&pending["path"]), size(&pending["bytes"])));
    }
    for kept in list(status, "kept") {
        let of =
            if kept["path"].is_string() { format!(" of {}: {}", text(&kept["path"]), text(&kept["why"])) } else { String::new() };
        say("kept", format!("{} ({}){of}", text(&kept["file"]), size(&kept["bytes"])));
    }
    if list(status, "pending").is_empty() && list(status, "kept").is_empty() {
        say("files", "nothing dirty, failed or kept".to_owned());
    }
    for upload in list(status, "uploads") {
        let sent = format!("{} parts, {}, begun {} s ago", upload["parts"], size(&upload["bytes"]), upload["age_s"]);
        say("upload", format!("s3://{}/{} ({sent})", text(&upload["bucket"]), text(&upload["key"])));
    }
    for rename in list(status, "renames") {
        let progress = format!("{} of {} copied, {} deleted", rename["copied"], rename["keys"], rename["deleted"]);
        say("rename", format!("{} to {} ({progress})", text(&rename["from"]), text(&rename["to"])));
    }
    for stray in list(status, "strays") {
        let id = stray["id"].as_str().map_or_else(String::new, |id| format!(" {}", control::harmless(id)));
        say("leftover?", format!("s3://{}/{}{id}: {}", text(&stray["bucket"]), text(&stray["key"]), text(&stray["why"])));
    }
    for (name, more) in status["more"].as_object().into_iter().flatten() {
        if more.as_u64().is_some_and(|more| more > 0) {
            say("more", format!("{more} of {name}, not shown"));
        }
    }
    for differs in list(&status["store"], "differs") {
        say("store", text(differs));
    }
    if status["store"]["unrecorded"].is_string() {
        say("state", format!("uploads cannot be recorded: {}", text(&status["store"]["unrecorded"])));
    }
    let counter = |name: &str| status["counters"][name].as_u64().unwrap_or(0);
    let of = |kind: &str| -> u64 {
        let counters = status["counters"].as_object().into_iter().flatten();
        counters.filter(|(name, _)| name.starts_with(kind)).filter_map(|(_, count)| count.as_u64()).sum()
    };
    let (requests, failures) = (of("requests."), of("failures."));
    let bytes = |name: &str| size(&counter(name).into());
    let (received, sent) = (bytes("bytes.received"), bytes("bytes.sent"));
    say("requests", format!("{requests}, {failures} of them failed; {received} received, {sent} sent"));
    lines.join("\n") + "\n"
}

/// Bytes for people.
fn size(bytes: &Value) -> String {
    let bytes = bytes.as_u64().unwrap_or(0);
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_said() {
        let quiet = serde_json::json!({ "source": "s3://b", "pid": 7, "memory": { "used": 1536, "limit": 536_870_912 },
            "open": { "files": 1, "directories": 0 }, "counters": { "requests.GetObject": 3, "failures.GetObject": 1 } });
        let said = words(Path::new("/mnt"), &quiet);
        assert!(said.starts_with("s3://b on /mnt (process 7)\n  memory    1.5 KiB of 512.0 MiB\n"), "{said}");
        assert!(said.contains("  files     nothing dirty") && said.contains("3, 1 of them failed"), "{said}");
        assert!(is_well(&quiet) && said.lines().count() == 5, "{said}");
        let mut bad = quiet.clone();
        bad["pending"] = serde_json::json!([{ "path": "/a\u{1b}", "bytes": 5, "error": "denied" }, { "path": "/b", "bytes": 6 }]);
        let said = words(Path::new("/mnt"), &bad);
        assert!(said.contains("  failed    /a\\u{1b} (5 B): denied\n  dirty     /b (6 B)\n"), "{said}");
        assert!(!is_well(&bad) && !said.contains("nothing dirty"));
    }
}
