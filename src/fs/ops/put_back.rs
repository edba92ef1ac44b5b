//! What some stores drop of what they were sent, or should have kept, is put back behind the change that lost it.
//!
//! radosgw 16 drops the tags with every copy, SeaweedFS the access list with every upload. Amazon's S3 does not; of any other
//! store it is looked once, after the first object that has some, and remembered. Between the change and what is put back
//! there is a moment without.

use std::fmt;
use std::sync::Arc;

use crate::data::write::commit::MadeBy;
use crate::fs::Fs;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::tree::inode::Inode;
use crate::store::{
    Acl, AclChange, BucketService, Document, ErrorKind, Grant, Grantee, HeadObject, ObjectInfo, ObjectRef, ObjectStore,
    Properties, Resource, Subresource, Tags,
};

/// What may get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Companion {
    /// The tags.
    Tags,
    /// The access list.
    Acl,
    /// Metadata whose name is encoded: moto drops what has a '%'.
    EncodedNames,
    /// Metadata whose name has a '_': radosgw makes it a '-'.
    UnderscoredNames,
    /// The address to which a website redirects: SeaweedFS drops it.
    Redirect,
    /// The metadata of a directory's marker: SeaweedFS drops it.
    OfMarkers,
}

impl fmt::Display for MadeBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "what is put",
            Self::Copy => "what is copied",
            Self::Upload => "what is made of parts",
        })
    }
}

impl fmt::Display for Companion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tags => "the tags",
            Self::Acl => "the access list",
            Self::EncodedNames => "metadata whose name has a '%' (as other characters are encoded)",
            Self::UnderscoredNames => "metadata whose name has a '_'",
            Self::Redirect => "website-redirect",
            Self::OfMarkers => "the metadata of directories",
        })
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// The tags of what is to be copied, where the store is not known to copy them.
    pub(super) async fn tags_to_put_back(
        &self,
        source: &ObjectRef,
        info: &ObjectInfo,
        sent: &Properties,
    ) -> Result<Option<Tags>> {
        let kept = sent.tags.is_some() || info.facts.tag_count == 0 || self.keeps(Companion::Tags, MadeBy::Copy) == Some(true);
        if kept { Ok(None) } else { self.kept_tags(source).await }
    }

    /// Makes sure that `object`, which was just made, has the tags and the access list that it was `sent` with, or the `tags`
    /// that a copy should have kept.
    pub(super) async fn put_back(
        &self,
        object: &ObjectRef,
        sent: &Properties,
        tags: Option<&Tags>,
        making: MadeBy,
    ) -> Result<()> {
        let resource = Resource::from(ObjectRef { version: None, ..object.clone() });
        if let Some(tags) = tags.or(sent.tags.as_ref()).filter(|tags| !tags.is_empty()) {
            self.put_tags_back(&resource, tags, making).await.map_err(|error| lost("tags", &error))?;
        }
        match &sent.acl {
            Some(acl) => self.put_acl_back(&resource, acl, making).await.map_err(|error| lost("access list", &error)),
            None => Ok(()),
        }
    }

    async fn put_tags_back(&self, resource: &Resource, tags: &Tags, making: MadeBy) -> crate::store::Result<()> {
        match self.keeps(Companion::Tags, making) {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => {
                let there = match self.store.get_document(resource, Subresource::Tagging).await {
                    // As of a list, below.
                    Err(error) if error.kind() == ErrorKind::Archived => return Ok(()),
                    there => there?,
                };
                let kept = matches!(&there, Some(Document::Tags(there)) if same_tags(there, tags));
                self.learn_keeps(Companion::Tags, making, kept);
                if kept {
                    return Ok(());
                }
            }
        }
        self.store.put_document(resource, &Document::Tags(tags.clone())).await
    }

    async fn put_acl_back(&self, resource: &Resource, sent: &AclChange, making: MadeBy) -> crate::store::Result<()> {
        let known = self.keeps(Companion::Acl, making);
        if known == Some(true) {
            return Ok(());
        }
        // The owner has to be named, and is not always the same.
        let there = match self.store.get_document(resource, Subresource::Acl).await {
            // moto shows no list of what has just been archived: then it cannot be compared.
            Err(error) if error.kind() == ErrorKind::Archived => return Ok(()),
            there => there?,
        };
        let Some(Document::Acl(there)) = there else { return Ok(()) };
        let grants = match sent {
            AclChange::Canned(canned) => canned.grants(&there.owner),
            AclChange::Grants(grants) => grants.clone(),
        };
        // The store has turned an address into an id: that cannot be compared.
        let comparable = grants.iter().all(|grant| !matches!(grant.grantee, Grantee::Email(_)));
        let kept = !comparable || has_all(&there.grants, &grants);
        if known.is_none() && comparable {
            self.learn_keeps(Companion::Acl, making, kept);
        }
        if kept {
            return Ok(());
        }
        let document = match sent {
            AclChange::Canned(canned) => Document::CannedAcl(*canned),
            AclChange::Grants(_) => Document::Acl(Acl { grants, ..there }),
        };
        self.store.put_document(resource, &document).await
    }

    /// Refuses what the store is known to drop.
    pub(super) fn may_keep(&self, inode: &Inode<S>, set: Set<'_>) -> Result<()> {
        match odd(inode, set).find(|(odd, making)| self.keeps(*odd, *making) == Some(false)) {
            Some((odd, _)) => Err(dropped(&[odd])),
            None => Ok(()),
        }
    }

    /// Looks, the first time on a store that is not known, whether it has kept what was just set.
    pub(super) async fn must_keep(&self, inode: &Arc<Inode<S>>, set: Set<'_>) -> Result<()> {
        let unknown: Vec<_> = odd(inode, set).filter(|(odd, making)| self.keeps(*odd, *making).is_none()).collect();
        if unknown.is_empty() || inode.lock().is_dirty() {
            return Ok(());
        }
        let info = self.store.head(&HeadObject { object: self.locate(inode)?.object()? }).await?;
        let kept = match set {
            Set::Metadata(name) => info.properties.metadata.contains_key(name),
            Set::Redirect => info.properties.headers.website_redirect.is_some(),
        };
        // What is odd in two ways does not tell which of them the store does not keep.
        if let (true, _) | (false, [_]) = (kept, &unknown[..]) {
            for (odd, making) in &unknown {
                self.account.learn_keeps(*odd, *making, kept);
            }
        }
        if kept {
            return Ok(());
        }
        inode.lock().info = Some(Arc::new(info));
        Err(dropped(&unknown.into_iter().map(|(odd, _)| odd).collect::<Vec<_>>()))
    }

    /// Whether the store keeps something by itself, as far as known.
    fn keeps(&self, companion: Companion, making: MadeBy) -> Option<bool> {
        if self.config.trusts_store { Some(true) } else { self.account.keeps(companion, making) }
    }

    /// Whether copies have the tags of their sources: where that is not known yet, the first ones with tags will tell.
    pub(super) fn copies_keep_tags(&self) -> bool {
        self.keeps(Companion::Tags, MadeBy::Copy) != Some(false)
    }

    fn learn_keeps(&self, companion: Companion, making: MadeBy, kept: bool) {
        if !kept {
            tracing::warn!(?companion, ?making, "the store has dropped what an object should have kept: it is put back");
        }
        if making != MadeBy::Upload {
            self.account.learn_keeps(companion, making, kept);
        }
    }
}

/// What somebody sets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Set<'a> {
    /// Metadata of that name.
    Metadata(&'a str),
    /// `website-redirect`
    Redirect,
}

/// What is odd about what is set, and who sends it.
fn odd<S>(inode: &Inode<S>, set: Set<'_>) -> impl Iterator<Item = (Companion, MadeBy)> {
    let (redirect, name) = match set {
        Set::Metadata(name) => (false, name),
        Set::Redirect => (true, ""),
    };
    let odd = if inode.is_directory() {
        vec![(Companion::OfMarkers, true)]
    } else {
        vec![
            (Companion::EncodedNames, name.contains('%')),
            (Companion::UnderscoredNames, name.contains('_')),
            (Companion::Redirect, redirect),
        ]
    };
    let making = if inode.is_directory() { MadeBy::Put } else { MadeBy::Copy };
    odd.into_iter().filter(|(_, is)| *is).map(move |(odd, _)| (odd, making))
}

fn dropped(odd: &[Companion]) -> Error {
    let what: Vec<String> = odd.iter().map(Companion::to_string).collect();
    Error::new(Situation::Unsupported, format!("this store does not keep {}, and says nothing", what.join(", or ")))
}

/// In whatever order.
fn same_tags(left: &Tags, right: &Tags) -> bool {
    left.len() == right.len() && left.iter().all(|(name, value)| right.get(name) == Some(value))
}

fn has_all(there: &[Grant], wanted: &[Grant]) -> bool {
    let has = |grant: &Grant| there.iter().any(|have| have.permission == grant.permission && have.grantee.is(&grant.grantee));
    wanted.iter().all(has)
}

fn lost(what: &str, error: &crate::store::Error) -> Error {
    let error = Error::from(error);
    Error::new(
        error.situation(),
        format!("the object was changed, but its {what}, which the store has dropped, could not be put back: {}", error.words()),
    )
}
