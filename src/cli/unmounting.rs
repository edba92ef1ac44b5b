//! `pailfs umount`: uploads what is left, unmounts, and waits until the daemon is gone.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::args::Umount;
use super::{Outcome, control};
use crate::base::clock;
use crate::mount::{self, Detach, mountinfo};

/// How long the daemon may take to end after the unmount.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether it has ended.
const POLL: Duration = Duration::from_millis(20);
/// Of the processes that keep a mount busy, so many are named.
const MAX_NAMED: usize = 5;

/// Unmounts a directory.
pub(super) fn umount(arguments: &Umount) -> Outcome {
    let directory = &arguments.directory;
    if mount::is_dead(directory) {
        // Its daemon is dead already: nothing can be uploaded, and nothing is in use.
        return mount::unmount(directory, Detach::Yes).map_err(|error| explain(directory, &error));
    }
    let directory = match std::fs::canonicalize(directory) {
        // Somebody else's mount may not even be looked at, but is in the table.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            control::mount_of(directory).map(|(mount, _)| mount.point)?
        }
        found => found.map_err(|error| format!("'{}': {error}", directory.display()))?,
    };
    let there = mountinfo::on(&directory).map_err(|error| error.to_string())?;
    if there.is_none_or(|mount| mount.fs_type != mountinfo::FS_TYPE) {
        return Err(format!("'{}' is not a pailfs mount", directory.display()));
    }
    if control::is_refused(&directory) {
        return Err(only_the_owner(&directory));
    }
    let pid = control::ask(&directory, "pid").ok();
    let kept = match upload(&directory) {
        Err(_) if arguments.force => Some(keep(&directory)),
        uploaded => uploaded.map(|()| None)?,
    };
    match mount::unmount(&directory, Detach::No) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) && arguments.force => {
            mount::unmount(&directory, Detach::Yes).map_err(|error| error.to_string())?;
        }
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            return Err(format!("'{}' is busy{}; --force detaches it all the same", directory.display(), users_of(&directory)));
        }
        Err(error) => return Err(explain(&directory, &error)),
    }
    match (kept, pid) {
        (Some(what_became), _) => Err(what_became),
        (None, Some(pid)) if !arguments.force => wait_for_end(&pid),
        (None, _) => Ok(()),
    }
}

/// Has the daemon keep what could not be uploaded; says where it is, or what is lost.
fn keep(directory: &Path) -> String {
    let before = kept_files(directory);
    let told = control::tell(directory, "keep");
    let now: Vec<String> = kept_files(directory).into_iter().filter(|path| !before.contains(path)).collect();
    let mut said = "not everything could be uploaded".to_owned();
    if !now.is_empty() {
        said.push_str(&format!("; what was written is kept in\n{}", now.join("\n")));
    }
    if told.is_err() {
        let lost = pending_lines(directory);
        said.push_str(&format!("\nLost, since it could not be kept either:\n{lost}"));
    }
    said
}

/// What the store does not have, for people.
fn pending_lines(directory: &Path) -> String {
    let pending = control::ask(directory, "pending").unwrap_or_default();
    let line = |line: &str| {
        let Ok(pending) = serde_json::from_str::<serde_json::Value>(line) else { return line.to_owned() };
        let why = pending["error"].as_str().unwrap_or("it is still being written");
        format!("  {} ({} bytes): {why}", pending["path"].as_str().unwrap_or("?"), pending["bytes"])
    };
    pending.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The files of contents that were kept.
fn kept_files(directory: &Path) -> Vec<String> {
    let status = control::ask(directory, "status").ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let kept = status.as_ref().and_then(|status| status["kept"].as_array());
    kept.into_iter().flatten().filter_map(|kept| kept["file"].as_str().map(str::to_owned)).collect()
}

/// Why an unmount failed.
fn explain(directory: &Path, error: &io::Error) -> String {
    let ordinary = !rustix::process::geteuid().is_root();
    // An error without a number is fusermount3's.
    let by_helper = ordinary && error.raw_os_error().is_none();
    let foreign = || std::fs::metadata(directory).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    if by_helper && foreign() {
        // Its words for others' mounts lead astray: "entry not found in /etc/mtab".
        return only_the_owner(directory);
    }
    let denied = ordinary && error.kind() == io::ErrorKind::PermissionDenied;
    let who = if by_helper || denied { "; only root and the user who mounted it may" } else { "" };
    format!("cannot unmount '{}': {error}{who}", directory.display())
}

fn only_the_owner(directory: &Path) -> String {
    format!("cannot unmount '{}': only root and the user who mounted it may", directory.display())
}

/// Has the daemon upload what is left, and shows how far it is.
fn upload(directory: &Path) -> Outcome {
    let pending = control::ask(directory, "pending").unwrap_or_default();
    let count = pending.lines().count();
    if count == 0 {
        return Ok(());
    }
    let bar = indicatif::ProgressBar::new(count as u64).with_message("uploading");
    let worker = std::thread::spawn({
        let directory = directory.to_owned();
        move || control::tell(&directory, "sync")
    });
    while !worker.is_finished() {
        let left = control::ask(directory, "pending").map_or(0, |text| text.lines().count());
        bar.set_position(count.saturating_sub(left) as u64);
        clock::block(POLL);
    }
    bar.finish_and_clear();
    let told = worker.join().unwrap_or_else(|_| Err("the upload could not be watched".to_owned()));
    told.map_err(|_| {
        let left = pending_lines(directory);
        format!("not everything could be uploaded; it stays mounted. Not uploaded:\n{left}")
    })
}

/// The processes that use a mount, as far as they can be seen.
fn users_of(directory: &Path) -> String {
    let mut users = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() {
            continue;
        }
        let links = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut places = links.chain(["cwd", "root"].map(|link| process.path().join(link)));
        if places.any(|link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(directory))) {
            let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            users.push(format!("{} ({name})", command.trim()));
        }
    }
    if users.is_empty() {
        return String::new();
    }
    let more = if users.len() > MAX_NAMED { format!(" and {} more", users.len() - MAX_NAMED) } else { String::new() };
    users.truncate(MAX_NAMED);
    format!(": used by {}{more}", users.join(", "))
}

fn wait_for_end(pid: &str) -> Outcome {
    let begun = Instant::now();
    let process = Path::new("/proc").join(pid);
    // A process that was started in the foreground by another one stays as a zombie until that one looks.
    let alive = || {
        std::fs::read_to_string(process.join("stat"))
            .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
    };
    while alive() {
        if begun.elapsed() > END_LIMIT {
            return Err(format!("unmounted, but the daemon (process {pid}) has not ended"));
        }
        clock::block(POLL);
    }
    Ok(())
}
