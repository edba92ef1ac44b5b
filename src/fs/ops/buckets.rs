//! Buckets as the directories below the root of an account: look up, list, make, remove.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::names::utf8;
use crate::base::clock;
use crate::fs::attr::{Ino, Kind};
use crate::fs::config::Source;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::fs::meta::location::{DEFAULT, Location};
use crate::fs::meta::posix;
use crate::fs::name::{Component, Shown};
use crate::fs::tree::directory::{Child, Listing};
use crate::fs::tree::facts::Facts;
use crate::fs::tree::inode::{Inode, Role};
use crate::fs::{Fs, Stat};
use crate::store::{self, BucketName, BucketService, Delimiter, ErrorKind, NewBucket, ObjectStore, Outcome};

/// That a name is free is believed for so long when a bucket is made: the kernel looks just before.
const LOOKED: Duration = Duration::from_secs(1);

/// Whose a bucket is, as far as a request for it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) enum Access {
    /// These credentials may use it.
    Granted,
    /// They may not: it is somebody else's, or closed to them.
    Denied,
}

impl<S> Fs<S> {
    /// Forgets the list of buckets, where there is one.
    pub(in crate::fs) fn forget_buckets(&self) {
        if matches!(self.config.source, Source::Account)
            && let Some(root) = self.table.get(Ino::ROOT)
        {
            root.lock().directory.forget_listing();
        }
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// The directory of a bucket: by a fresh list when that has it, else by asking for the one.
    pub(in crate::fs) async fn find_bucket(&self, root: &Arc<Inode<S>>, shown: &Shown) -> Result<Option<Arc<Inode<S>>>> {
        let component = &shown.component;
        // What is no bucket's name is none.
        let Ok(address) = self.locate_in(root, component, Role::Directory) else { return Ok(None) };
        if shown.beside_directory {
            return Ok(None);
        }
        let asked = clock::instant();
        let (fresh, absent) = {
            let directory = &root.lock().directory;
            (directory.fresh_listing(asked, self.config.ttl), directory.is_absent(component, asked, self.config.ttl))
        };
        if let Some(listing) = fresh
            && let Some(child) = listing.children.get(component)
            && let Some(inode) = self.settle_bucket(root, component, Some(child.made), listing.began)
        {
            return Ok(Some(inode));
        }
        if absent {
            return Ok(None);
        }
        let made = match self.look_at_bucket(&address).await? {
            None => None,
            Some(_) => Some(self.made_at(root, component).await),
        };
        if made.is_none() {
            root.lock().directory.note_absent(component.clone(), asked, self.config.ttl);
        }
        Ok(self.settle_bucket(root, component, made, asked))
    }

    /// Lays what this mount did itself over an answer about a bucket: none, or one that was made then.
    fn settle_bucket(
        &self,
        root: &Arc<Inode<S>>,
        component: &Component,
        made: Option<Option<SystemTime>>,
        asked: std::time::Instant,
    ) -> Option<Arc<Inode<S>>> {
        let facts = made.map(|made| self.bucket_facts(made));
        self.settle(root, component, Role::Directory, facts, asked)
    }

    /// When a bucket was made. Only the list tells, and only of the account's own.
    async fn made_at(&self, root: &Arc<Inode<S>>, component: &Component) -> Option<SystemTime> {
        if self.table.at(root.ino, Role::Directory, component).is_some() {
            // It has its attributes.
            return None;
        }
        let listed = |listing: &Listing| listing.children.get(component).and_then(|child| child.made);
        let known = root.lock().directory.last_listing().as_deref().and_then(listed);
        match known {
            Some(made) => Some(made),
            // Who may not list can still use the buckets whose names he knows.
            None => self.account_listing(root).await.ok().as_deref().and_then(listed),
        }
    }

    /// Whether there is a bucket, anybody's.
    async fn look_at_bucket(&self, address: &Address) -> Result<Option<Access>> {
        match self.store.head_bucket(&address.bucket).await {
            Ok(info) => {
                if let Some(region) = &info.region {
                    self.account.learn(&address.bucket, region);
                }
                return Ok(Some(Access::Granted));
            }
            Err(error) if error.kind() == ErrorKind::NoBucket => return Ok(None),
            // A name that is no bucket's may be answered with 400, whose reason a HEAD does not tell.
            Err(error) if error.kind() == ErrorKind::Invalid && address.bucket.check_new().is_err() => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotS3) => {}
            Err(error) => return Err(error.into()),
        }
        // The answer to HEAD has no body, so it does not tell whether the bucket is closed to these credentials or they are good
        // for nothing (any more), and of some stores not even that it is S3's.
        match self.list_some(address, Delimiter::None, 1).await {
            Ok(_) => Ok(Some(Access::Granted)),
            Err(error) => match error.situation() {
                Situation::Denied => Ok(Some(Access::Denied)),
                Situation::NoBucket => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// All buckets of the account, as the listing of its root.
    pub(in crate::fs) async fn list_account(&self) -> Result<Listing> {
        let mut listing = self.empty_listing();
        for bucket in self.store.list_buckets().await? {
            let name = BucketName::new(&bucket.name).ok().and_then(|name| Component::new(name.as_str()));
            match name {
                Some(name) => {
                    listing.children.insert(name, Child { directory: true, made: bucket.created, object: None });
                }
                // From the time before today's rules.
                None => listing.unshowable += 1,
            }
        }
        Ok(listing)
    }

    /// What a listing says about a directory.
    pub(in crate::fs) fn child_directory_facts(&self, directory: &Inode<S>, child: &Child) -> Facts {
        if self.is_account(directory) { self.bucket_facts(child.made) } else { self.directory_facts(None) }
    }

    /// What is shown of a bucket. S3 keeps no mode or owner for it.
    fn bucket_facts(&self, made: Option<SystemTime>) -> Facts {
        let attr = posix::directory(&self.config, made.unwrap_or(self.mounted_at));
        Facts { exact: true, ..Facts::plain(Kind::Directory, attr) }
    }

    /// Makes a bucket, after having looked that there is none: some stores answer its owner as if they had made it anew.
    pub(in crate::fs) async fn make_bucket(&self, root: &Arc<Inode<S>>, name: &[u8]) -> Result<Stat> {
        self.writable()?;
        let bucket = BucketName::new(utf8(name)?)?;
        bucket.check_new()?;
        let shown = Component::new(bucket.as_str());
        let component = shown.ok_or_else(|| Error::new(Situation::Invalid, "a bucket's name has no slash"))?;
        let address = self.locate_in(root, &component, Role::Directory)?;
        let looked = root.lock().directory.is_absent(&component, clock::instant(), LOOKED.min(self.config.ttl));
        if !looked && let Some(access) = self.look_at_bucket(&address).await? {
            return Err(self.taken(root, &component, access).await);
        }
        let location = self.account.location();
        self.create_bucket(&bucket, location.as_ref()).await?;
        self.account.forget(&bucket);
        let made = self.bucket_facts(Some(clock::now()));
        let there = self.table.at(root.ino, Role::Directory, &component);
        let inode = self.insert(root, &component, made, there.as_ref());
        inode.lock().committed_at = Some(clock::instant());
        self.note_made(root, &inode, &component, false);
        Ok(self.told(&inode))
    }

    async fn create_bucket(&self, bucket: &BucketName, location: Option<&Location>) -> Result<()> {
        let new = NewBucket { location: location.and_then(Location::constraint), ownership: self.config.ownership };
        let Err(error) = self.store.create_bucket(bucket, new).await else { return Ok(()) };
        if error.outcome() == Outcome::Unknown && self.store.head_bucket(bucket).await.is_ok() {
            // There was none just before, and somebody else's would be closed to this account: the answer got lost.
            return Ok(());
        }
        Err(match error.kind() {
            ErrorKind::Exists => taken_words(bucket.as_str(), of_code(&error)),
            ErrorKind::Invalid => {
                let location = location.map_or(DEFAULT, Location::as_str);
                let told = Error::from(&error);
                let words =
                    format!("{}; buckets are made in '{location}': see user.s3.location of the mount's root", told.words());
                Error::new(told.situation(), words)
            }
            _ => error.into(),
        })
    }

    /// Why a bucket cannot be made: it is there.
    async fn taken(&self, root: &Arc<Inode<S>>, component: &Component, access: Access) -> Error {
        let owned = match access {
            Access::Denied => Some(false),
            Access::Granted => self.is_own_bucket(root, component).await,
        };
        taken_words(component.as_str(), owned)
    }

    /// Whether a bucket is the account's own; `None` when that cannot be found out.
    pub(in crate::fs) async fn is_own_bucket(&self, root: &Arc<Inode<S>>, component: &Component) -> Option<bool> {
        let listing = self.account_listing(root).await.ok()?;
        let since = root.lock().directory.own_knowledge(Role::Directory, component, listing.began);
        Some(since.unwrap_or_else(|| listing.children.contains_key(component)))
    }

    /// Deletes a bucket in which nothing is.
    pub(in crate::fs) async fn delete_bucket(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let address = self.locate(inode)?;
        let not_empty = |what: &str| Error::new(Situation::NotEmpty, format!("the bucket is not empty: {what}"));
        let dirty = |inode: &Arc<Inode<S>>| {
            let dirty = {
                let state = inode.lock();
                state.linked && state.is_dirty()
            };
            dirty && self.locate(inode).is_ok_and(|at| at.bucket == address.bucket)
        };
        if self.table.all().iter().any(dirty) {
            return Err(not_empty("it holds what is not uploaded yet"));
        }
        // Some stores delete a bucket with all that is in it.
        match self.list_some(&address, Delimiter::None, 1).await {
            Ok(keys) => match keys.first() {
                None => {}
                Some(first) => return Err(not_empty(&format!("it holds '{}'", first.key))),
            },
            // What is not there any more is removed, by whomever.
            Err(gone) if gone.situation() == Situation::NoBucket => return Ok(()),
            Err(error) => return Err(error),
        }
        let deleted = match self.store.delete_bucket(&address.bucket).await {
            Err(error) if error.kind() == ErrorKind::NoBucket => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotEmpty => Err(not_empty(&format!(
                "it has no keys, but there may be old versions, delete markers or incomplete uploads in it ({error})"
            ))),
            Err(error) if error.outcome() == Outcome::Unknown => match self.store.head_bucket(&address.bucket).await {
                Err(gone) if gone.kind() == ErrorKind::NoBucket => Ok(()),
                _ => Err(error.into()),
            },
            deleted => deleted.map_err(Error::from),
        };
        if deleted.is_ok() {
            self.account.forget(&address.bucket);
        }
        deleted
    }
}

/// Why a bucket's name is taken, and by whom.
fn taken_words(bucket: &str, owned: Option<bool>) -> Error {
    Error::new(Situation::Exists, ownership_words(bucket, owned))
}

/// Whose a bucket is, in words.
fn ownership_words(bucket: &str, owned: Option<bool>) -> String {
    match owned {
        Some(true) => format!("the bucket '{bucket}' exists already, and it is this account's own"),
        Some(false) => {
            format!(
                "the bucket '{bucket}' exists already, and it is another account's: all accounts share the names, choose another"
            )
        }
        None => format!("the bucket '{bucket}' exists already"),
    }
}

/// Whose a bucket is by the code of a refusal to make it.
fn of_code(error: &store::Error) -> Option<bool> {
    match error.story().code.as_deref() {
        Some("BucketAlreadyOwnedByYou") => Some(true),
        Some("BucketAlreadyExists") => Some(false),
        _ => None,
    }
}

/// Why a bucket gets no other name. By copying, as for a directory, it would lose what is set on it, unseen.
pub(in crate::fs) fn not_renamed() -> Error {
    Error::new(
        Situation::NotPermitted,
        "S3 cannot rename a bucket, and a copy has none of its settings: mkdir NEW && cp -a OLD/. NEW/ && rm -r OLD moves the files",
    )
}
