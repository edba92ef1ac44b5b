//! What an answer of the store says about something, before it has an inode.

use std::sync::Arc;
use std::time::SystemTime;

#[cfg(doc)]
use super::inode::State;
use crate::fs::attr::{Attr, Kind};
use crate::fs::meta::posix::ExplicitTimes;
use crate::store::{ETag, ObjectInfo, StorageClass};

/// What is known about something before it has an inode.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its type.
    pub kind: Kind,
    /// What stat shows.
    pub attr: Attr,
    /// Which times are stored.
    pub explicit: ExplicitTimes,
    /// See [`State::exact`].
    pub exact: bool,
    /// What HEAD said.
    pub info: Option<Arc<ObjectInfo>>,
    /// What LIST said.
    pub listed_class: Option<StorageClass>,
    /// The tag, where known.
    pub etag: Option<ETag>,
    /// See [`State::target`].
    pub target: Option<Arc<str>>,
    /// See [`State::modified`].
    pub modified: Option<SystemTime>,
}

impl Facts {
    /// Nothing but a type and guessed attributes.
    #[must_use]
    pub fn plain(kind: Kind, attr: Attr) -> Self {
        let explicit = ExplicitTimes::default();
        Self { kind, attr, explicit, exact: false, info: None, listed_class: None, etag: None, target: None, modified: None }
    }

    /// Whether they are those of a directory whose marker is the one that is `known`, or that has none, as before: what has
    /// happened in it since no marker tells.
    #[must_use]
    pub fn is_same_marker(&self, known: Option<&ObjectInfo>) -> bool {
        let (Some(known), Some(now)) = (known, self.info.as_deref()) else { return known.is_none() && self.info.is_none() };
        let same_tag_and_date = known.etag == now.etag && known.may_be_of(now.last_modified);
        same_tag_and_date && known.properties.metadata == now.properties.metadata
    }
}
