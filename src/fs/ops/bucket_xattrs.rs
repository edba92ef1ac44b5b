//! Extended attributes of buckets and of the account: where a bucket lies, and where the next one is made.
//!
//! A bucket's attributes are those of its directory, or of the root when it is what is mounted.

use std::sync::Arc;

use super::xattrs::SetHow;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::location::{DEFAULT, Location};
use crate::fs::tree::inode::Inode;
use crate::store::{BucketName, BucketService, ObjectStore};

/// Where a bucket lies; of the account: where the next one is made.
const LOCATION: &[u8] = b"user.s3.location";
/// All that is known.
const ALL: &[u8] = b"user.s3";

impl<S: ObjectStore + BucketService> Fs<S> {
    /// The bucket whose attributes a directory carries.
    pub(super) fn bucket_of(&self, inode: &Arc<Inode<S>>) -> Option<BucketName> {
        let address = self.locate(inode).ok().filter(|_| inode.is_directory())?;
        (inode.ino == Ino::ROOT || address.is_bucket()).then_some(address.bucket)
    }

    /// The value of a bucket's or the account's attribute; `None` for every other.
    pub(in crate::fs) async fn get_of_bucket(&self, inode: &Arc<Inode<S>>, name: &[u8]) -> Result<Option<String>> {
        if name != LOCATION && name != ALL {
            return Ok(None);
        }
        let next = || self.account.location().map_or_else(|| DEFAULT.to_owned(), |location| location.to_string());
        let text = match (self.is_account(inode), self.bucket_of(inode)) {
            (true, _) if name == LOCATION => next(),
            (true, _) => format!("source={}\nlocation={}\n{CAN_BE_ASKED}", self.config.source, next()),
            (false, Some(bucket)) if name == LOCATION => self.location_of(&bucket).await?,
            (false, Some(bucket)) if inode.ino != Ino::ROOT => self.all_of_bucket(inode, &bucket).await?,
            _ => return Ok(None),
        };
        Ok(Some(text))
    }

    async fn all_of_bucket(&self, inode: &Arc<Inode<S>>, bucket: &BucketName) -> Result<String> {
        let mut text = format!("bucket={bucket}");
        let place = inode.place();
        if let Some(root) = &place.parent
            && let Some(owned) = self.is_own_bucket(root, &place.component).await
        {
            text.push_str(if owned { "\nownership=own" } else { "\nownership=other" });
        }
        // What cannot be asked for is left out.
        if let Ok(location) = self.location_of(bucket).await {
            text.push_str(&format!("\nlocation={location}"));
        }
        text.push_str(&format!("\n{OF_A_BUCKET}"));
        Ok(text)
    }

    /// Where a bucket lies: asked once.
    async fn location_of(&self, bucket: &BucketName) -> Result<String> {
        if let Some(known) = self.account.location_of(bucket) {
            return Ok(known);
        }
        let location = match self.store.head_bucket(bucket).await?.region {
            Some(region) => region,
            None => self.store.location(bucket).await?,
        };
        self.account.learn(bucket, &location);
        Ok(location)
    }

    /// Sets an attribute of a bucket or of the account; `false` for every other.
    pub(in crate::fs) fn set_of_bucket(&self, inode: &Arc<Inode<S>>, name: &[u8], value: &[u8], how: SetHow) -> Result<bool> {
        if !self.may_change(inode, name)? {
            return Ok(false);
        }
        if how == SetHow::Create {
            return Err(Error::new(Situation::Exists, "the attribute is always there"));
        }
        let location = Location::parse(&String::from_utf8_lossy(value)).map_err(|why| Error::new(Situation::Invalid, why))?;
        self.account.set_location(location);
        Ok(true)
    }

    /// Removes an attribute of the account; `false` for every other.
    pub(in crate::fs) fn remove_of_bucket(&self, inode: &Arc<Inode<S>>, name: &[u8]) -> Result<bool> {
        let ours = self.may_change(inode, name)?;
        if ours {
            self.account.reset_location();
        }
        Ok(ours)
    }

    /// Whether the attribute is one of those here; an error when it cannot be changed.
    fn may_change(&self, inode: &Arc<Inode<S>>, name: &[u8]) -> Result<bool> {
        if name != LOCATION {
            return Ok(false);
        }
        if self.is_account(inode) {
            return self.writable().map(|()| true);
        }
        match self.bucket_of(inode) {
            None => Ok(false),
            Some(_) => Err(Error::new(
                Situation::NotPermitted,
                "a bucket stays where it was made; the next one is made where user.s3.location of the root of an s3:// mount says",
            )),
        }
    }
}

/// What a bucket answers, for people.
pub(super) const OF_A_BUCKET: &str = "\
user.s3.location, .acl, .cors, .lifecycle, .policy, .tags, .versioning, .object-ownership, .public-access-block, .uploads=can be asked for here";

/// What the root of an account answers, for people.
const CAN_BE_ASKED: &str = "\
user.s3.location=where mkdir makes buckets; set it to a region, a tutorial name such as EU, or default
user.s3 and user.s3.location of a bucket's directory=what is known of the bucket, and where it lies
user.s3.acl, .cors, .lifecycle, .policy, .tags, .versioning, .object-ownership, .public-access-block, .uploads of a bucket's directory";
