//! Extended attributes that are documents of their own in S3: access lists, tags, configurations of a bucket.
//!
//! Each is read and set by its own request, and only when it is asked for by name. What changes a part of one reads it, changes
//! it and sets it whole: S3 has no condition for it.

use std::sync::Arc;

use tokio::sync::RwLockWriteGuard;

use super::commit::note_stored;
use super::xattrs::{SetHow, no_attribute, read_only};
use crate::base::{clock, date};
use crate::data::write::commit::Base;
use crate::fs::Fs;
use crate::fs::account::Acls;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::acl::{self, MAX_BUCKET_TAGS, MAX_OBJECT_TAGS, Wanted};
use crate::fs::meta::xattr::Name;
use crate::fs::tree::inode::{Content, Inode, Writing};
use crate::store::{
    Acl, AclChange, BucketService, CannedAcl, ConfigDocument, ConfigKind, Document, Grant, Level, ObjectStore, ObjectVersion,
    Properties, Resource, Subresource, Tags,
};

impl<S: ObjectStore + BucketService> Fs<S> {
    /// What carries the documents of an inode: an object, or the bucket that a directory stands for.
    fn resource_of(&self, inode: &Arc<Inode<S>>) -> Result<Resource> {
        if !inode.is_directory() {
            return Ok(self.locate(inode)?.object()?.into());
        }
        self.bucket_of(inode).map(Resource::from).ok_or_else(no_attribute)
    }

    /// The value of an attribute that is, or is in, a document; `None` for every other.
    pub(super) async fn get_in_document(&self, inode: &Arc<Inode<S>>, name: &Name) -> Result<Option<String>> {
        Ok(Some(match name {
            Name::Acl => self.get_acl(inode).await?,
            Name::Owner => {
                let owner = self.stored_acl(&self.resource_of(inode)?).await?.owner;
                owner.display_name.map_or_else(|| owner.id.clone(), |name| format!("{} ({name})", owner.id))
            }
            Name::Tags => {
                let tags = self.tags_of(inode).await?;
                if tags.is_empty() { return Err(no_attribute()) } else { acl::tags_text(&tags) }
            }
            Name::Tag(name) => self.tags_of(inode).await?.get(name).map(str::to_owned).ok_or_else(no_attribute)?,
            Name::Config(kind) => {
                let resource = self.bucket_resource(inode)?;
                let found = self.store.get_document(&resource, Subresource::Config(*kind)).await?;
                let Some(Document::Config(config)) = found else { return Err(no_attribute()) };
                shown(&config)
            }
            Name::Uploads => self.uploads_below(inode).await?,
            Name::Versions if !inode.is_directory() => {
                let versions = self.store.list_versions(&self.locate(inode)?.object()?).await?;
                if versions.is_empty() { return Err(no_attribute()) } else { versions_text(&versions) }
            }
            Name::PresignedUrl if !inode.is_directory() => {
                self.store.presign(&self.locate(inode)?.object()?, self.config.presign_ttl).await?
            }
            Name::AclGrant => return Err(no_attribute()),
            _ => return Ok(None),
        }))
    }

    /// Sets an attribute that is, or is in, a document; `false` for every other.
    pub(super) async fn set_in_document(&self, inode: &Arc<Inode<S>>, name: &Name, text: &str, how: SetHow) -> Result<bool> {
        let _alone = self.alone(inode, name).await?;
        match name {
            Name::StorageClass if !inode.is_directory() => {
                // It is always there.
                how.check(true)?;
                return Ok(false);
            }
            Name::Acl if how == SetHow::Create => {
                self.resource_of(inode)?;
                how.check(true)?;
            }
            Name::Acl => self.set_acl(inode, acl::parse(text)?).await?,
            Name::AclGrant => self.add_grant(inode, acl::parse_grant(text)?).await?,
            Name::Tags => {
                how.check(how != SetHow::Any && !self.tags_of(inode).await?.is_empty())?;
                self.set_tags(inode, acl::parse_tags(text)?).await?;
            }
            Name::Tag(name) => {
                let mut tags = self.tags_of(inode).await?;
                how.check(tags.get(name).is_some())?;
                tags.set(name, text);
                self.set_tags(inode, tags).await?;
            }
            Name::Config(kind) => {
                let resource = self.bucket_resource(inode)?;
                let config = ConfigDocument::parse(*kind, &spelled_out(*kind, text));
                let config = config.map_err(|wrong| Error::new(Situation::Invalid, wrong.to_string()))?;
                self.store.put_document(&resource, &Document::Config(config)).await?;
                self.account.forget_acls(&resource.bucket);
            }
            Name::Owner | Name::Uploads | Name::Versions | Name::PresignedUrl => return Err(read_only()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Removes an attribute that is, or is in, a document; `false` for every other.
    pub(super) async fn remove_in_document(&self, inode: &Arc<Inode<S>>, name: &Name) -> Result<bool> {
        if matches!(name, Name::Acl | Name::Tags | Name::Tag(_) | Name::Config(_)) {
            self.writable()?;
        }
        let _alone = self.alone(inode, name).await?;
        match name {
            Name::Acl => self.set_acl(inode, Wanted::Canned(CannedAcl::Private)).await?,
            Name::Tags => {
                if self.tags_of(inode).await?.is_empty() {
                    return Err(no_attribute());
                }
                self.set_tags(inode, Tags::default()).await?;
            }
            Name::Tag(name) => {
                let mut tags = self.tags_of(inode).await?;
                if !tags.remove(name) {
                    return Err(no_attribute());
                }
                self.set_tags(inode, tags).await?;
            }
            Name::Config(ConfigKind::Versioning) => {
                return Err(Error::new(Situation::NotPermitted, "versioning cannot be removed: set it to Suspended"));
            }
            Name::Config(kind) => {
                let resource = self.bucket_resource(inode)?;
                let subresource = Subresource::Config(*kind);
                if self.store.get_document(&resource, subresource).await?.is_none() {
                    return Err(no_attribute());
                }
                self.store.delete_document(&resource, subresource).await?;
                self.account.forget_acls(&resource.bucket);
            }
            Name::AclGrant | Name::Owner | Name::Uploads => return Err(read_only()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The bucket that a directory stands for: only those have configurations.
    fn bucket_resource(&self, inode: &Arc<Inode<S>>) -> Result<Resource> {
        let resource = self.resource_of(inode)?;
        if resource.level() == Level::Bucket {
            return Ok(resource);
        }
        let words = "only a bucket has this attribute: ask its directory, or the root of a mount of it";
        Err(Error::new(Situation::NoAttribute, words))
    }

    async fn stored_acl(&self, resource: &Resource) -> Result<Acl> {
        match self.store.get_document(resource, Subresource::Acl).await? {
            Some(Document::Acl(acl)) => Ok(acl),
            _ => Err(Error::new(Situation::Unsupported, "the store has no access list of this")),
        }
    }

    async fn get_acl(&self, inode: &Arc<Inode<S>>) -> Result<String> {
        match self.pending_properties(inode).and_then(|properties| properties.acl) {
            Some(AclChange::Canned(canned)) => Ok(canned.as_str().to_owned()),
            Some(AclChange::Grants(grants)) => Ok(acl::text(&Acl { grants, ..Acl::default() })),
            None => Ok(acl::text(&self.stored_acl(&self.resource_of(inode)?).await?)),
        }
    }

    /// The gate of an inode whose list or tags are changed, held alone: between what is read and what is set nothing may replace
    /// the object, nor may a commit carry what was read before.
    async fn alone<'a>(&self, inode: &'a Arc<Inode<S>>, name: &Name) -> Result<Option<RwLockWriteGuard<'a, ()>>> {
        if !matches!(name, Name::Acl | Name::AclGrant | Name::Tags | Name::Tag(_)) {
            return Ok(None);
        }
        let alone = inode.gate.write().await;
        let state = inode.lock();
        if !state.linked || state.lost.is_some() || matches!(state.content, Content::Orphan(_)) {
            // The name is another object's now.
            return Err(Error::new(Situation::Stale, "the file has no name any more"));
        }
        drop(state);
        Ok(Some(alone))
    }

    /// Whether the store has an object that carries the documents of an inode.
    fn has_object(&self, inode: &Arc<Inode<S>>) -> bool {
        inode.is_directory() || !inode.writing().is_some_and(|writing| writing.base == Base::Absent)
    }

    /// What the upload of a file that the store does not have yet will set. (What is set on an object is set at once.)
    fn pending_properties(&self, inode: &Arc<Inode<S>>) -> Option<Properties> {
        let writing = inode.writing().filter(|_| !self.has_object(inode))?;
        Some(writing.writer.destination().properties)
    }

    /// What was set on an object goes into what replaces it, too, when that has begun: it was asked for the old ones then.
    fn note_in_upload(&self, inode: &Arc<Inode<S>>, apply: impl Fn(&mut Properties)) {
        if let Some(writing) = inode.writing() {
            writing.writer.redirect(|destination| apply(&mut destination.properties));
        }
        let mut state = inode.lock();
        if let Content::Writing(Writing { base: Base::Object(_), known, .. }) = &mut state.content {
            apply(&mut Arc::make_mut(known).properties);
        }
        if !inode.is_directory() {
            // Who has asked the store before knows less.
            state.committed_at = Some(clock::instant());
        }
    }

    /// Refuses to set a list that does not count and that the next change would drop, whatever the store answers.
    async fn must_have_acls(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let bucket = self.locate(inode)?.bucket;
        if self.acls_of(&bucket).await? != Acls::Disabled {
            return Ok(());
        }
        // Another client may have let them count meanwhile.
        self.account.forget_acls(&bucket);
        if self.acls_of(&bucket).await? != Acls::Disabled {
            return Ok(());
        }
        let words = format!(
            "the bucket '{bucket}' has access lists disabled: setfattr -n user.s3.object-ownership -v ObjectWriter BUCKET lets them count"
        );
        Err(Error::new(Situation::Unsupported, words))
    }

    /// The gate is held alone.
    async fn set_acl(&self, inode: &Arc<Inode<S>>, wanted: Wanted) -> Result<()> {
        self.must_have_acls(inode).await?;
        let change = match wanted {
            Wanted::Canned(canned) => AclChange::Canned(canned),
            Wanted::Grants(grants) => AclChange::Grants(grants),
        };
        if self.has_object(inode) {
            let resource = self.resource_of(inode)?;
            let document = match &change {
                AclChange::Canned(canned) => Document::CannedAcl(*canned),
                // The owner must be named, and stays who he is.
                AclChange::Grants(grants) => Document::Acl(Acl { grants: grants.clone(), ..self.stored_acl(&resource).await? }),
            };
            self.store.put_document(&resource, &document).await?;
        }
        self.note_in_upload(inode, |properties| properties.acl = Some(change.clone()));
        Ok(())
    }

    /// The gate is held alone.
    async fn add_grant(&self, inode: &Arc<Inode<S>>, grant: Grant) -> Result<()> {
        self.must_have_acls(inode).await?;
        if self.has_object(inode) {
            let resource = self.resource_of(inode)?;
            let mut acl = self.stored_acl(&resource).await?;
            acl.add(grant);
            let document = Document::Acl(acl);
            self.store.put_document(&resource, &document).await?;
            // An address has become an id there.
            let Document::Acl(acl) = document else { return Ok(()) };
            self.note_in_upload(inode, |properties| properties.acl = Some(AclChange::Grants(acl.grants.clone())));
            return Ok(());
        }
        // What the upload will have, and the grant; a new object is the bucket owner's.
        let bucket = Resource::from(self.locate(inode)?.bucket);
        let owner = self.stored_acl(&bucket).await?.owner;
        let pending = inode.writing().and_then(|writing| writing.writer.destination().properties.acl);
        let grants = match pending {
            Some(AclChange::Grants(grants)) => grants,
            Some(AclChange::Canned(canned)) => canned.grants(&owner),
            None => CannedAcl::Private.grants(&owner),
        };
        let mut acl = Acl { owner, grants };
        acl.add(grant);
        self.note_in_upload(inode, |properties| properties.acl = Some(AclChange::Grants(acl.grants.clone())));
        Ok(())
    }

    async fn tags_of(&self, inode: &Arc<Inode<S>>) -> Result<Tags> {
        if let Some(pending) = self.pending_properties(inode) {
            return Ok(pending.tags.unwrap_or_default());
        }
        let resource = self.resource_of(inode)?;
        match self.store.get_document(&resource, Subresource::Tagging).await? {
            Some(Document::Tags(tags)) => Ok(tags),
            _ => Ok(Tags::default()),
        }
    }

    /// The gate is held alone.
    async fn set_tags(&self, inode: &Arc<Inode<S>>, tags: Tags) -> Result<()> {
        acl::check_tags(&tags, if inode.is_directory() { MAX_BUCKET_TAGS } else { MAX_OBJECT_TAGS })?;
        if self.has_object(inode) {
            let resource = self.resource_of(inode)?;
            if tags.is_empty() {
                self.store.delete_document(&resource, Subresource::Tagging).await?;
            } else {
                self.store.put_document(&resource, &Document::Tags(tags.clone())).await?;
            }
        }
        let count = u32::try_from(tags.len()).unwrap_or(u32::MAX);
        self.note_in_upload(inode, |properties| properties.tags = Some(tags.clone()));
        if inode.is_directory() {
            return Ok(());
        }
        let stored = {
            let mut state = inode.lock();
            if let Some(info) = &mut state.info {
                Arc::make_mut(info).facts.tag_count = count;
            }
            // Answers that were asked for before are older.
            state.committed_at = Some(clock::instant());
            state.linked && !state.is_dirty()
        };
        if stored {
            note_stored(inode);
        }
        Ok(())
    }

    /// The incomplete uploads below a directory, one a line: when, key, id.
    async fn uploads_below(&self, inode: &Arc<Inode<S>>) -> Result<String> {
        if !inode.is_directory() || self.is_account(inode) {
            return Err(no_attribute());
        }
        let address = self.locate(inode)?;
        // All of them: what does not fit the attribute is counted.
        let mut lines = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.list_uploads(&address.bucket, &address.prefix(), after.clone()).await?;
            for (upload, begun) in page.uploads {
                lines.push(format!("{} {} {}", date::iso8601(begun), upload.id.as_str(), upload.key));
            }
            match page.next {
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => break,
            }
        }
        if lines.is_empty() { Err(no_attribute()) } else { Ok(lines.join("\n")) }
    }
}

/// One version a line: id, date, bytes, and whether it is the current one or the mark of a deletion.
fn versions_text(versions: &[ObjectVersion]) -> String {
    let line = |version: &ObjectVersion| {
        let size = version.size.map_or_else(|| "deleted".to_owned(), |size| size.to_string());
        let latest = if version.is_latest { " latest" } else { "" };
        format!("{} {} {size}{latest}", version.id.as_str(), date::iso8601(version.last_modified))
    };
    versions.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A configuration for people: a word where it is one.
fn shown(config: &ConfigDocument) -> String {
    let word = match config.kind() {
        ConfigKind::Versioning => Some(config.value()["Status"].as_str().unwrap_or("Unversioned")),
        ConfigKind::OwnershipControls => config.value()["Rules"][0]["ObjectOwnership"].as_str(),
        _ => None,
    };
    word.map_or_else(|| config.to_json(), str::to_owned)
}

/// The document that a word stands for.
fn spelled_out(kind: ConfigKind, text: &str) -> String {
    let text = text.trim();
    let word = !text.starts_with('{') && !text.starts_with('<');
    match kind {
        ConfigKind::Versioning if word => serde_json::json!({ "Status": text }).to_string(),
        ConfigKind::OwnershipControls if word => serde_json::json!({ "Rules": [{ "ObjectOwnership": text }] }).to_string(),
        _ => text.to_owned(),
    }
}
