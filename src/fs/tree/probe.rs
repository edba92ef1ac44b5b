//! One name asked of the store: is there an object, is there a directory? HEAD beside LIST, in one round trip; two LISTs where
//! listings shall suffice.

use std::sync::Arc;

use super::facts::Facts;
use super::inode::Role;
use super::listing::refuses_head;
use crate::base::date;
use crate::fs::Fs;
use crate::fs::attr::Kind;
use crate::fs::config::AttrsMode;
use crate::fs::error::{Result, Situation};
use crate::fs::locate::Address;
use crate::fs::meta::posix::{self, Stored};
use crate::fs::name::Component;
use crate::store::{
    Delimiter, ErrorKind, HeadObject, ListObjects, ListStart, ListedObject, MAX_KEY_BYTES, ObjectInfo, ObjectStore,
};

/// What the store has under a name.
#[derive(Debug, Default)]
pub struct Probe {
    /// The object.
    pub object: Option<Facts>,
    /// The directory.
    pub directory: Option<Facts>,
}

impl<S: ObjectStore> Fs<S> {
    /// Asks the store for `component` in a directory.
    pub(in crate::fs) async fn probe(&self, directory: &Address, component: &Component) -> Result<Probe> {
        let object = directory.below(component, Role::Object);
        let below = directory.below(component, Role::Directory);
        let (object, directory) = tokio::join!(self.probe_object(&object), self.probe_directory(&below, false));
        match (object, directory) {
            (Ok(object), Ok(directory)) => Ok(Probe { object, directory }),
            // Who may not list can still use the objects whose names he knows, and the other way round.
            (Ok(Some(object)), Err(error)) if error.situation() == Situation::Denied => {
                Ok(Probe { object: Some(object), directory: None })
            }
            (Err(error), Ok(Some(directory))) if error.situation() == Situation::Denied => {
                Ok(Probe { object: None, directory: Some(directory) })
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn probe_object(&self, address: &Address) -> Result<Option<Facts>> {
        let key = address.key.as_str();
        // The empty component of the bucket's root would be the empty key, and too long keys do not exist.
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Ok(None);
        }
        let object = address.object()?;
        if self.config.attrs == AttrsMode::Listing {
            return self.listed_object(address).await;
        }
        match self.store.head(&HeadObject { object }).await {
            // A zero-byte key that ends in a slash is a marker, never an entry.
            Ok(info) if key.ends_with('/') && info.size == 0 => Ok(None),
            Ok(info) => {
                self.remembered.note(address, &info);
                Ok(Some(self.object_facts(Arc::new(info))))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if refuses_head(error.kind()) => self.listed_object(address).await.map_err(|_| error.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// What a listing says about one key: where HEAD is refused, or not wanted.
    async fn listed_object(&self, address: &Address) -> Result<Option<Facts>> {
        let page = self.list_some(address, Delimiter::None, 1).await?;
        let is_marker = |listed: &ListedObject| listed.key.ends_with('/') && listed.size == 0;
        let found = page.into_iter().find(|listed| listed.key == address.key && !is_marker(listed));
        Ok(found.map(|listed| self.listed_facts(&listed)))
    }

    /// Asks the store for a directory; for its marker in the same round trip, if it is expected to have one.
    pub(in crate::fs) async fn probe_directory(&self, below: &Address, has_marker: bool) -> Result<Option<Facts>> {
        if below.key.len() > MAX_KEY_BYTES {
            return Ok(None);
        }
        let asked_at_once = has_marker && self.config.attrs != AttrsMode::Listing;
        let (page, marker) = tokio::join!(self.list_some(below, Delimiter::None, 1), async {
            if asked_at_once { Some(self.marker_facts(below).await) } else { None }
        });
        let page = page?;
        let Some(first) = page.first() else { return Ok(None) };
        // That it has no marker is known as well.
        let mut facts = Facts { exact: true, ..self.directory_facts(None) };
        if first.key == below.key && first.size == 0 {
            let made = date::whole_seconds(first.last_modified);
            (facts.attr.mtime, facts.attr.ctime) = (made, made);
            if self.config.attrs != AttrsMode::Listing {
                let marker = match marker {
                    Some(marker) => marker,
                    None => self.marker_facts(below).await,
                };
                facts = marker?.unwrap_or(facts);
            }
        }
        Ok(Some(facts))
    }

    /// What a directory's marker says, when it has one.
    pub(in crate::fs) async fn marker_facts(&self, below: &Address) -> Result<Option<Facts>> {
        let object = below.object()?;
        match self.store.head(&HeadObject { object }).await {
            Ok(info) if info.size == 0 => Ok(Some(self.directory_facts(Some(Arc::new(info))))),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound || refuses_head(error.kind()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The first keys that begin with that of `address`.
    pub(in crate::fs) async fn list_some(
        &self,
        address: &Address,
        delimiter: Delimiter,
        max_keys: u16,
    ) -> Result<Vec<ListedObject>> {
        let request = ListObjects {
            bucket: address.bucket.clone(),
            prefix: address.prefix(),
            delimiter,
            start: ListStart::Beginning,
            max_keys,
        };
        Ok(self.store.list(&request).await?.read()?.objects)
    }

    /// What an object's metadata says about it as a file.
    pub(in crate::fs) fn object_facts(&self, info: Arc<ObjectInfo>) -> Facts {
        let mut facts = self.stored_facts((&*info).into());
        if self.config.attrs == AttrsMode::Listing && facts.kind != Kind::File {
            // Of a listing it is an empty file, or one with the target of a link.
            let attr = posix::from_listing(&self.config, info.size, info.last_modified);
            facts = Facts { exact: true, modified: facts.modified, ..Facts::plain(Kind::File, attr) };
        }
        Facts { etag: Some(info.etag.clone()), info: Some(info), ..facts }
    }

    /// What the metadata of attributes says about an object as a file.
    pub(in crate::fs) fn stored_facts(&self, stored: Stored<'_>) -> Facts {
        let decoded = posix::decode(&self.config, stored, false);
        Facts {
            explicit: decoded.explicit,
            exact: true,
            target: posix::target(stored.metadata).map(Arc::from),
            modified: Some(date::whole_seconds(stored.last_modified)),
            ..Facts::plain(decoded.kind, decoded.attr)
        }
    }

    /// What a listing says about an object as a file.
    pub(in crate::fs) fn listed_facts(&self, listed: &ListedObject) -> Facts {
        let attr = posix::from_listing(&self.config, listed.size, listed.last_modified);
        Facts {
            listed_class: listed.storage_class.clone(),
            etag: listed.etag.clone(),
            modified: Some(date::whole_seconds(listed.last_modified)),
            ..Facts::plain(Kind::File, attr)
        }
    }

    /// What is known of a directory, by its marker if it has one.
    pub(in crate::fs) fn directory_facts(&self, marker: Option<Arc<ObjectInfo>>) -> Facts {
        match marker {
            None => Facts::plain(Kind::Directory, posix::directory(&self.config, self.mounted_at)),
            Some(info) => {
                let decoded = posix::decode(&self.config, &*info, true);
                Facts {
                    explicit: decoded.explicit,
                    exact: true,
                    etag: Some(info.etag.clone()),
                    info: Some(info),
                    ..Facts::plain(Kind::Directory, decoded.attr)
                }
            }
        }
    }
}
