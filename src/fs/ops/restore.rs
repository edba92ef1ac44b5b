//! Bringing archived objects back: by attribute, by `pailfs restore`, and by opening one where the mount says so.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{clock, date};
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::config::AutoRestore;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::xattr::{self, Restore};
use crate::fs::tree::inode::Inode;
use crate::store::{BucketService, ObjectInfo, ObjectStore, RestoreObject, RestoreState, RestoreTier};

/// The limit of restores that are asked for by themselves is for so long.
const LIMIT_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// What a restore means for an object that has been restored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It stays longer.
    Extends,
    /// Nothing: it is there.
    IsRefused,
}

/// What was restored by itself in the last period.
#[derive(Debug, Default)]
pub struct AutoRestored(Mutex<Option<(Instant, u64)>>);

impl AutoRestored {
    /// Counts `bytes` in, unless that would pass `limit`.
    fn admit(&self, bytes: u64, limit: u64) -> bool {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::instant();
        let (begun, used) = period.filter(|(begun, _)| now.saturating_duration_since(*begun) < LIMIT_PERIOD).unwrap_or((now, 0));
        let fits = used.saturating_add(bytes) <= limit;
        *period = Some((begun, if fits { used + bytes } else { used }));
        fits
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Asks for a restore.
    pub(super) async fn restore(&self, inode: &Arc<Inode<S>>, asked: Restore, again: Again) -> Result<()> {
        let info = self.fresh_info(inode).await?;
        if !info.archived() {
            return Err(Error::new(
                Situation::Invalid,
                format!("the object is not archived: its class is {}", info.storage_class()),
            ));
        }
        if info.storage_class().as_str() == "DEEP_ARCHIVE" && asked.tier == Some(RestoreTier::Expedited) {
            return Err(Error::new(Situation::Invalid, "DEEP_ARCHIVE has no tier Expedited: use Standard or Bulk"));
        }
        match info.restore {
            Some(RestoreState::Ongoing) if asked.tier.is_none_or(|tier| tier == RestoreTier::Bulk) => {
                return Err(Error::new(
                    Situation::Already,
                    "a restore is under way already: getfattr -n user.s3.restore tells when it is done",
                ));
            }
            Some(RestoreState::Until(until)) if again == Again::IsRefused => {
                return Err(Error::new(Situation::Exists, format!("it can be read until {}", date::http(until))));
            }
            _ => {}
        }
        self.ask_for_restore(inode, &info, asked).await
    }

    async fn ask_for_restore(&self, inode: &Arc<Inode<S>>, info: &ObjectInfo, asked: Restore) -> Result<()> {
        let object = self.locate(inode)?.object()?;
        // INTELLIGENT_TIERING moves the object itself: there is no copy that could expire.
        let days = info.archive_status.is_none().then_some(asked.days);
        self.store.restore(&RestoreObject { object, days, tier: asked.tier }).await?;
        inode.lock().info = None;
        Ok(())
    }

    /// `pailfs restore`: one file by its number, without asking for permissions on it.
    pub(super) async fn restore_by_number(&self, value: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(value);
        let parsed = text.split_once(' ').and_then(|(ino, restore)| Some((ino.parse().ok()?, restore)));
        let (ino, restore) = parsed.ok_or_else(|| Error::new(Situation::Invalid, "use: INODE DAYS[,TIER]"))?;
        let inode = self.inode(Ino(ino))?;
        if inode.is_directory() {
            return Err(Error::new(Situation::IsDirectory, "a directory is not archived"));
        }
        let asked = self.restore(&inode, xattr::parse_restore(restore)?, Again::IsRefused).await;
        // The failure is the daemon's, on the root: it has to name the file.
        asked.map_err(|error| Error::new(error.situation(), format!("'{}': {}", self.path_of(inode.ino), error.words())))
    }

    /// An archived object was opened for reading: asks for its restore where the mount says so. The error for the open either way.
    pub(super) async fn refuse_archived(&self, inode: &Arc<Inode<S>>, refused: Error) -> Error {
        let Some(AutoRestore { asked, limit }) = self.config.auto_restore else { return refused };
        let told = |words: String| Error::new(Situation::Archived, words);
        let info = match self.fresh_info(inode).await {
            Ok(info) => info,
            Err(error) => return told(format!("the object is archived, and cannot be looked at: {}", error.words())),
        };
        if info.restore == Some(RestoreState::Ongoing) {
            return told("the object is archived; its restore is under way: try again later".to_owned());
        }
        if !self.auto_restored.admit(info.size, limit) {
            let words = "the object is archived, and --auto-restore-limit is used up for today";
            return told(format!("{words}: setfattr -n user.s3.restore -v {} FILE restores it all the same", asked.days));
        }
        match self.ask_for_restore(inode, &info, asked).await {
            Ok(()) => told(format!("the object is archived; its restore for {} days was asked for: try again later", asked.days)),
            Err(error) => told(format!("the object is archived, and its restore was refused: {}", error.words())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_limit() {
        let restored = AutoRestored::default();
        assert!(restored.admit(60, 100));
        assert!(!restored.admit(60, 100));
        assert!(restored.admit(40, 100));
        assert!(!restored.admit(1, 100));
    }
}
