//! Files in which a process records what the next one must know, should it be killed.
//!
//! Each process that records something has a file of its own, locked (flock) for as long as it lives: a lock goes with its
//! process, however that ends, so who can take it knows that the process is dead.
//!
//! A new file may be found, locked and removed by a process that looks for dead ones before its maker has locked it. So the
//! maker looks whether it still has its name once it has the lock.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{clock, date, rng};

/// Only the user himself may see what he does.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// So often a new name is tried when others take the file before it is locked.
const MAX_TRIES: u32 = 100;

/// A file that was found.
#[derive(Debug)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Open for reading and appending; locked when its process is dead.
    pub file: File,
    /// What is in it.
    pub text: Vec<u8>,
    /// Whether its process is dead.
    pub is_dead: bool,
}

/// A new, empty file in `directory`, which is made if it is not there; locked.
///
/// # Errors
/// Whatever keeps it from being made.
pub fn create(directory: &Path) -> io::Result<(PathBuf, File)> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    for _ in 0..MAX_TRIES {
        let path = directory.join(format!("{}-{}.log", date::compact(clock::now()), &rng::token()[..8]));
        let file = OpenOptions::new().append(true).read(true).create_new(true).mode(FILE_MODE).open(&path)?;
        if lock(&file)? && file.metadata()?.nlink() > 0 {
            File::open(directory)?.sync_all()?;
            return Ok((path, file));
        }
    }
    Err(io::Error::other("others take each new file of records"))
}

/// The files in `directory`.
///
/// # Errors
/// Whatever keeps them from being read; that there is no directory is no error.
pub fn all(directory: &Path) -> io::Result<Vec<Found>> {
    let mut all = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "log")) {
        // One that is gone meanwhile has ended well.
        let Ok(mut file) = OpenOptions::new().append(true).read(true).open(&path) else { continue };
        let unlocked = lock(&file)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let is_dead = unlocked && file.metadata()?.nlink() > 0;
        all.push(Found { path, file, text, is_dead });
    }
    Ok(all)
}

/// Takes the lock of a file, unless somebody has it.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
