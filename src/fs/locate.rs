//! Where in S3 an inode is: the one place that knows what is mounted, a bucket (or a prefix of one) or the account.
//!
//! Below the root of an account each directory is a bucket, and everything below that has its key in that bucket. The root
//! itself is no place in S3: what can be done there is in `ops::buckets`.

use std::fmt;
use std::sync::Arc;

use super::Fs;
use super::attr::Ino;
use super::config::Source;
use super::error::{Error, Result, Situation};
use super::name::Component;
use super::tree::inode::{Inode, Role};
use super::tree::table::number_of;
use crate::data::write::Destination;
use crate::store::{BucketName, Key, ObjectRef, ObjectStore, Prefix, Properties};

/// A bucket and a key in it. The key is empty for the bucket itself; a directory's is what its keys begin with, and the key of
/// its marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The bucket.
    pub bucket: BucketName,
    /// The raw key.
    pub key: String,
}

impl Address {
    /// The address of a name in this directory.
    #[must_use]
    pub fn below(&self, component: &Component, role: Role) -> Self {
        let slash = if role == Role::Directory { "/" } else { "" };
        Self { bucket: self.bucket.clone(), key: format!("{}{}{slash}", self.key, component.as_str()) }
    }

    /// Whether it is the bucket itself, which is there without a marker.
    #[must_use]
    pub const fn is_bucket(&self) -> bool {
        self.key.is_empty()
    }

    /// The key, as it is for a listing.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        Prefix::new(&self.key)
    }

    /// The current object there.
    ///
    /// # Errors
    /// [`Situation::Invalid`] and [`Situation::NameTooLong`] for what is no key.
    pub fn object(&self) -> Result<ObjectRef> {
        Ok(ObjectRef::current(self.bucket.clone(), Key::new(&self.key)?))
    }

    /// The object there as what a request makes.
    ///
    /// # Errors
    /// As [`Address::object`].
    pub fn destination(&self, properties: Properties) -> Result<Destination> {
        Ok(Destination { bucket: self.bucket.clone(), key: Key::new(&self.key)?, properties })
    }

    /// The inode number that it gets, if it is free.
    #[must_use]
    pub fn number(&self) -> u64 {
        number_of(self.bucket.as_str(), &self.key)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

impl<S> Fs<S> {
    /// Whether `inode` is the root of an account: its entries are buckets.
    pub(in crate::fs) fn is_account(&self, inode: &Inode<S>) -> bool {
        inode.ino == Ino::ROOT && matches!(self.config.source, Source::Account)
    }
}

impl<S: ObjectStore> Fs<S> {
    /// Where an inode's object is; of a directory: what its keys begin with, and where its marker is.
    ///
    /// # Errors
    /// [`Situation::NotPermitted`] for the root of an account, which is no place in S3.
    pub(in crate::fs) fn locate(&self, inode: &Arc<Inode<S>>) -> Result<Address> {
        let mut components = Vec::new();
        let mut at = Arc::clone(inode);
        loop {
            let place = at.place();
            let Some(parent) = place.parent else { break };
            components.push(place.component);
            at = parent;
        }
        let mut address = match &self.config.source {
            Source::Bucket { bucket, prefix } => Address { bucket: bucket.clone(), key: prefix.clone() },
            Source::Account => {
                let name = components.pop().ok_or_else(only_buckets)?;
                bucket(&name)?
            }
        };
        for component in components.iter().rev() {
            address.key.push_str(component.as_str());
            address.key.push('/');
        }
        if !inode.is_directory() {
            address.key.pop();
        }
        Ok(address)
    }

    /// Whether a directory has a marker, or can get one: all but a bucket, and the account.
    pub(in crate::fs) fn has_marker(&self, directory: &Arc<Inode<S>>) -> bool {
        self.locate(directory).is_ok_and(|address| !address.is_bucket())
    }

    /// Where a name in a directory is, or would be.
    ///
    /// # Errors
    /// At the root of an account: [`Situation::NotPermitted`] for a file, [`Situation::Invalid`] for what is no bucket name.
    pub(in crate::fs) fn locate_in(&self, directory: &Arc<Inode<S>>, component: &Component, role: Role) -> Result<Address> {
        match (self.is_account(directory), role) {
            (true, Role::Object) => Err(only_buckets()),
            (true, Role::Directory) => bucket(component),
            (false, _) => Ok(self.locate(directory)?.below(component, role)),
        }
    }

    /// The inode numbers that names in a directory get, if they are free.
    pub(in crate::fs) fn numbers_in(&self, directory: &Arc<Inode<S>>) -> impl Fn(&Component, Role) -> Ino {
        let here = self.locate(directory).ok();
        move |component, role| {
            let address = match &here {
                Some(here) => Some(here.below(component, role)),
                None => bucket(component).ok(),
            };
            // Only what is no bucket's name has no address, and it is in no directory.
            Ino(address.map_or(0, |address| address.number()))
        }
    }
}

/// A bucket by the name of its directory.
fn bucket(component: &Component) -> Result<Address> {
    Ok(Address { bucket: BucketName::new(component.as_str())?, key: String::new() })
}

fn only_buckets() -> Error {
    Error::new(
        Situation::NotPermitted,
        "only buckets can be here, at the root of an s3:// mount: mkdir makes one, and files go into it; see: pailfs help buckets",
    )
}
