//! What a new content, an edit, a rename and a self-copy keep beyond what they send by themselves: the access list, which S3
//! resets with each new object, and the tags, which only a copy inside the store keeps.
//!
//! It is asked for before the object is replaced, and travels on the same request, so that no moment is private or untagged.
//! Where a bucket disables access lists, which is asked once a bucket, nothing is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::open::CURRENT;
use crate::base::{clock, date};
use crate::data::write::commit::{Base, OnConflict};
use crate::data::write::settle::look;
use crate::fs::Fs;
use crate::fs::account::Acls;
use crate::fs::config::KeepAcl;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::posix;
use crate::fs::tree::inode::{Content, Inode, Known, State, Writing};
use crate::store::{
    AclChange, BucketName, BucketService, ConfigKind, Document, ErrorKind, MAX_PART_BYTES, Metadata, ObjectInfo, ObjectRef,
    ObjectStore, Properties, Resource, Subresource, Tags,
};

/// The date of a copy does for its source's when it is not later than that: who writes a file under another name first makes
/// nothing unusual.
const SAME_TIME: Duration = Duration::from_secs(2);

/// Whether the store keeps the tags of what a request replaces by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) enum TagsBy {
    /// `CopyObject` takes those of its source.
    Store,
    /// They have to be sent.
    Request,
}

impl TagsBy {
    /// Who keeps them when an object of `size` bytes is copied: a large one is copied in parts, into a new upload.
    pub(in crate::fs) const fn of_copy(size: u64) -> Self {
        if size > MAX_PART_BYTES { Self::Request } else { Self::Store }
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// `properties` of a request that replaces `object`, or copies it, with what would be lost.
    pub(in crate::fs) async fn kept(
        &self,
        object: &ObjectRef,
        info: &ObjectInfo,
        properties: Properties,
        tags: TagsBy,
    ) -> Result<Properties> {
        let wanted = tags == TagsBy::Request && properties.tags.is_none() && info.facts.tag_count > 0;
        let (tags, acl) =
            tokio::join!(async { if wanted { self.kept_tags(object).await } else { Ok(properties.tags.clone()) } }, async {
                if properties.acl.is_none() { self.kept_acl(object).await } else { Ok(properties.acl.clone()) }
            },);
        Ok(Properties { tags: tags?, acl: acl?, ..properties })
    }

    /// A copy has a date of its own. Lets what is stored anew, or elsewhere, without a change of its bytes go on showing the
    /// modification time that `stored` shows, unless both are about the same.
    pub(super) fn keep_time(&self, inode: Option<&Arc<Inode<S>>>, stored: &ObjectInfo, metadata: &mut Metadata) {
        if !self.has_aged(stored) {
            return;
        }
        let known = inode.and_then(|inode| {
            let state = inode.lock();
            let same =
                state.info.as_ref().is_some_and(|info| info.etag == stored.etag && info.last_modified == stored.last_modified);
            same.then_some(state.attr.mtime)
        });
        posix::keep_time(metadata, known.unwrap_or_else(|| date::whole_seconds(stored.last_modified)));
    }

    /// Whether the date of a copy that is made now would not do for the object's.
    pub(super) fn has_aged(&self, stored: &ObjectInfo) -> bool {
        self.store_clock.now().duration_since(stored.last_modified).is_ok_and(|age| age > SAME_TIME)
    }

    /// What the object that `info` describes has beside its bytes, in a request that replaces it; `asked` when `info` was.
    pub(super) async fn known_of(&self, object: &ObjectRef, info: &ObjectInfo, asked: Instant) -> Result<Arc<Known>> {
        let properties = self.kept(object, info, info.properties.clone(), TagsBy::Request).await?;
        Ok(Arc::new(Known { of: Some(info.etag.clone()), properties, at: asked, modified: info.last_modified }))
    }

    /// Before an object is replaced again: lets the upload carry what other clients have set on it since it was last looked at,
    /// but for what was set here. Within a second nothing is asked.
    pub(super) async fn with_news(&self, inode: &Arc<Inode<S>>, writing: Writing<S>) -> Result<Writing<S>> {
        let asked = clock::instant();
        let known = Arc::clone(&writing.known);
        let recent = asked.saturating_duration_since(known.at) < CURRENT;
        let Base::Object(base) = &writing.base else { return Ok(writing) };
        // A new file that was renamed over another one takes nothing over from that.
        if recent || known.of.as_ref() != Some(base) || writing.writer.is_doubtful() {
            return Ok(writing);
        }
        let object = self.locate(inode)?.object()?;
        let Some(info) = look(&self.store, &object).await? else { return Ok(writing) };
        // What is written whole replaces whatever is there; else it is the commit's conflict.
        let whole = writing.on_conflict == OnConflict::Replace && !writing.writer.refers_to_own();
        if info.etag != *base && !whole {
            return Ok(writing);
        }
        let mut news = Known::clone(&*self.known_of(&object, &info, asked).await?);
        if info.etag == *base && info.last_modified <= known.modified {
            // What was not sent the store itself has chosen.
            let (sent, shown) = (&known.properties, &mut news.properties);
            shown.headers.content_type.take_if(|_| sent.headers.content_type.is_none());
            shown.storage_class.take_if(|_| sent.storage_class.is_none());
            shown.encryption.take_if(|_| sent.encryption.is_none());
        }
        let before = ObjectInfo { properties: known.properties.clone(), ..info.clone() };
        let after = ObjectInfo { properties: news.properties.clone(), ..info.clone() };
        let anew = Writing { base: Base::Object(info.etag), known: Arc::new(news), ..writing };
        let mut state = inode.lock();
        let State { attr, explicit, mode_is_ours, content, .. } = &mut *state;
        posix::follow(&self.config, (&before, &after), (attr, explicit, mode_is_ours));
        *content = Content::Writing(anew.clone());
        drop(state);
        anew.writer.redirect(|destination| destination.properties.follow(&known.properties, &anew.known.properties));
        Ok(anew)
    }

    pub(super) async fn kept_tags(&self, object: &ObjectRef) -> Result<Option<Tags>> {
        match self.store.get_document(&Resource::from(object.clone()), Subresource::Tagging).await {
            Ok(Some(Document::Tags(tags))) => Ok(Some(tags)),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => Ok(None),
            Err(error) => Err(not_kept("tags", &error)),
        }
    }

    async fn kept_acl(&self, object: &ObjectRef) -> Result<Option<AclChange>> {
        if self.config.keep_acl == KeepAcl::No || self.acls_of(&object.bucket).await? != Acls::Count {
            return Ok(None);
        }
        match self.store.get_document(&Resource::from(object.clone()), Subresource::Acl).await {
            Ok(Some(Document::Acl(acl))) => Ok((!acl.is_private()).then_some(AclChange::Grants(acl.grants))),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
                tracing::warn!(%error, "access lists cannot be read, and are not kept");
                self.account.learn_acls(&object.bucket, Acls::Unreadable);
                Ok(None)
            }
            Err(error) => {
                let error = not_kept("access list", &error);
                let words = format!("{}; a mount with --keep-acl no goes on without it", error.words());
                Err(Error::new(error.situation(), words))
            }
        }
    }

    /// Whether access lists count in a bucket: asked once.
    pub(super) async fn acls_of(&self, bucket: &BucketName) -> Result<Acls> {
        if let Some(known) = self.account.acls_of(bucket) {
            return Ok(known);
        }
        let _asking = self.account.asking_acls.lock().await;
        if let Some(known) = self.account.acls_of(bucket) {
            return Ok(known);
        }
        let controls = Subresource::Config(ConfigKind::OwnershipControls);
        let acls = match self.store.get_document(&Resource::from(bucket.clone()), controls).await {
            Ok(Some(Document::Config(config))) if config.disables_acls() => Acls::Disabled,
            Ok(_) => Acls::Count,
            // Who may not ask, or a store that does not know: the list itself will tell.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied | ErrorKind::Invalid) => Acls::Count,
            Err(error) => return Err(not_kept("access list", &error)),
        };
        self.account.learn_acls(bucket, acls);
        Ok(acls)
    }
}

fn not_kept(what: &str, error: &crate::store::Error) -> Error {
    let error = Error::from(error);
    let situation = if error.situation() == Situation::Unsupported { Situation::Io } else { error.situation() };
    Error::new(situation, format!("the {what} of the object could not be read, and would be lost: {}", error.words()))
}
