//! What an answer of the store says about something, before it has an inode.

use std::sync::Arc;
use std::time::SystemTime;

use super::inode::{Content, State};
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

impl<S> State<S> {
    /// Whether `facts` are about the object that this inode is: the same tag, or nothing that says otherwise.
    #[must_use]
    pub fn is_same_object(&self, facts: &Facts) -> bool {
        match &self.content {
            Content::Directory => true,
            Content::Clean(own) => match (own, &facts.etag) {
                (Some(own), Some(other)) => own == other,
                _ => facts.attr.size == self.attr.size,
            },
            // What is being written is what is there, for this mount.
            Content::Writing(_) => true,
            Content::Orphan(_) => false,
        }
    }

    /// Takes over newer facts about the same object.
    pub fn learn(&mut self, facts: &Facts) {
        if let Some(moving) = &mut self.moving {
            // It is there after all.
            moving.made = None;
        }
        if matches!(self.content, Content::Writing(_)) {
            return;
        }
        if let (Content::Clean(own @ None), Some(_)) = (&mut self.content, &facts.etag) {
            own.clone_from(&facts.etag);
        }
        let changed = self.is_changed(facts);
        let known = match facts.kind {
            Kind::Directory => self.exact && facts.exact && facts.is_same_marker(self.info.as_deref()),
            _ => self.is_as_written(facts),
        };
        if (facts.exact || !self.exact || changed) && !known {
            let nlink = self.attr.nlink;
            self.attr = facts.attr;
            self.attr.nlink = nlink.max(facts.attr.nlink);
            self.explicit = facts.explicit;
            self.exact = facts.exact;
            self.mode_is_ours = false;
        }
        if changed {
            (self.info, self.target, self.ours) = (None, None, false);
        }
        self.modified = facts.modified.or(self.modified);
        if facts.target.is_some() {
            self.target.clone_from(&facts.target);
        }
        if let Some(info) = &facts.info {
            // The answer to a GET of a range says nothing of what the whole adds up to.
            let own = self.info.take().filter(|own| own.etag == info.etag && info.checksums.is_empty());
            self.info = Some(match own.filter(|own| !own.checksums.is_empty()) {
                Some(own) => Arc::new(ObjectInfo { checksums: own.checksums.clone(), ..ObjectInfo::clone(info) }),
                None => Arc::clone(info),
            });
        }
        if facts.kind == Kind::Directory && facts.exact && facts.info.is_none() {
            // Its marker was looked for.
            self.info = None;
        }
        if facts.listed_class.is_some() {
            self.listed_class.clone_from(&facts.listed_class);
        }
    }

    /// Whether `facts` are about an object that is as this mount wrote it: it knows that better than a stranger's reading of the
    /// metadata. Another client's self-copy keeps the tag and changes the metadata.
    #[must_use]
    pub fn is_as_written(&self, facts: &Facts) -> bool {
        let same_metadata = match (&self.info, &facts.info) {
            (Some(own), Some(other)) => own.properties.metadata == other.properties.metadata,
            _ => true,
        };
        self.ours && self.exact && facts.etag == self.etag() && same_metadata && !self.is_changed(facts)
    }

    /// Whether a listing shows another date than that of the object which is known: then its metadata was changed, though the
    /// tag is the same. (What this mount has made itself is not younger than it believes.)
    fn is_changed(&self, facts: &Facts) -> bool {
        let (Some(own), Some(other)) = (self.modified, facts.modified) else { return false };
        facts.info.is_none() && if self.ours { other > own } else { other != own }
    }
}
