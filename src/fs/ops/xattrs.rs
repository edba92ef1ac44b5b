//! Extended attributes: what S3 knows of an object, and the metadata of a directory's marker.

use std::sync::Arc;

use super::ahead::Wanted;
use super::put_back::Set;
use super::restore::Again;
use crate::base::clock;
use crate::data::guess;
use crate::fs::Fs;
use crate::fs::attr::{Attr, Caller, Ino, Kind};
use crate::fs::config::ListXattrs;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::metadata::{self, Refused};
use crate::fs::meta::xattr::{self, Fact, Header, Name};
use crate::fs::meta::{facts, posix};
use crate::fs::tree::inode::{Content, Inode};
use crate::fs::tree::moves::Access;
use crate::store::{BucketService, ObjectInfo, ObjectStore, Properties, StorageClass};

/// What must hold of the attribute that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetHow {
    /// Nothing.
    Any,
    /// `XATTR_CREATE`: it is not there.
    Create,
    /// `XATTR_REPLACE`: it is there.
    Replace,
}

impl SetHow {
    pub(super) fn check(self, there: bool) -> Result<()> {
        match self {
            Self::Create if there => Err(Error::new(Situation::Exists, "the attribute is there already")),
            Self::Replace if !there => Err(no_attribute()),
            _ => Ok(()),
        }
    }
}

/// So often an attribute is set anew on what another client has put in the place of a file meanwhile.
const MAX_SUCCESSORS: usize = 8;
/// No value is longer: the kernel's own limit, in bytes.
const MAX_VALUE_BYTES: usize = 64 << 10;

impl<S: ObjectStore + BucketService> Fs<S> {
    /// The value of an attribute.
    ///
    /// # Errors
    /// [`Situation::NoAttribute`], [`Situation::Unsupported`] for other namespaces, [`Situation::NotPermitted`] for the
    /// daemon's own, and the store's failures.
    pub async fn getxattr(&self, ino: Ino, name: &[u8], caller: Caller) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let _entered = self.moves.enter(&inode, Access::Look).await;
        let found = self.get_attribute(&inode, name, caller).await;
        found.inspect_err(|error| self.forget_if_stale(&inode, error))
    }

    async fn get_attribute(&self, inode: &Arc<Inode<S>>, name: &[u8], caller: Caller) -> Result<Vec<u8>> {
        self.is_current(inode)?;
        let name = parse(name)?;
        if let Some(text) = self.get_of_bucket(inode, &name).await? {
            return Ok(cut(text).into_bytes());
        }
        if let Some(text) = self.get_in_document(inode, &name).await? {
            return Ok(cut(text).into_bytes());
        }
        let text = match name {
            Name::Foreign => return Err(foreign()),
            Name::Unknown | Name::Location => return Err(no_attribute()),
            Name::Control(control) => self.get_control(inode, control, caller)?,
            Name::Error => self.last_failure(inode).ok_or_else(no_attribute)?,
            Name::Meta(meta) => return self.get_meta(inode, &meta).await,
            Name::Fact(Fact::Url) => self.locate(inode)?.to_string(),
            name if inode.is_directory() => self.get_of_directory(inode, &name)?,
            name => self.get_of_object(inode, &name).await?,
        };
        Ok(cut(text).into_bytes())
    }

    async fn get_of_object(&self, inode: &Arc<Inode<S>>, name: &Name) -> Result<String> {
        if *name == Name::StorageClass
            && let Some(class) = self.known_class(inode)
        {
            return Ok(class);
        }
        // A restore goes on without the object changing.
        let fresh = if matches!(name, Name::Restore | Name::All) { Fresh::Yes } else { Fresh::IfUnknown };
        let info = self.shown_info(inode, fresh).await?;
        match name {
            Name::All => Ok(facts::all_text(&info, &self.locate(inode)?.to_string(), self.last_failure(inode).as_deref())),
            Name::Fact(fact) => facts::fact_text(&info, fact).ok_or_else(no_attribute),
            Name::StorageClass => Ok(info.storage_class().as_str().to_owned()),
            Name::Restore => Ok(facts::restore_text(&info)),
            Name::Header(header) => header.get(&info.properties.headers).map(str::to_owned).ok_or_else(no_attribute),
            _ => Err(no_attribute()),
        }
    }

    /// What is known of an object, no older than a second: before it is said that something is not there.
    async fn surely(&self, inode: &Arc<Inode<S>>) -> Result<Arc<ObjectInfo>> {
        if inode.is_directory() {
            return Err(no_attribute());
        }
        if inode.lock().is_dirty() { self.shown_info(inode, Fresh::IfUnknown).await } else { self.current_info(inode).await }
    }

    /// Whether [`Fs::described`] needs no request.
    fn is_described(&self, inode: &Arc<Inode<S>>) -> bool {
        let state = inode.lock();
        state.info.is_some() || state.is_dirty()
    }

    async fn get_meta(&self, inode: &Arc<Inode<S>>, meta: &str) -> Result<Vec<u8>> {
        let info = self.described(inode).await?.ok_or_else(no_attribute)?;
        // What carries attributes can be looked at by S3's name; the commit token is nobody's business.
        if meta.starts_with("pailfs-") {
            return Err(no_attribute());
        }
        info.properties.metadata.get(meta).map(|value| metadata::shown_value(value)).ok_or_else(no_attribute)
    }

    /// What is known of an object or of a directory's marker; `None` without a marker.
    async fn described(&self, inode: &Arc<Inode<S>>) -> Result<Option<Arc<ObjectInfo>>> {
        if !inode.is_directory() {
            return self.shown_info(inode, Fresh::IfUnknown).await.map(Some);
        }
        if !self.has_marker(inode) {
            return Ok(None);
        }
        let known = {
            let state = inode.lock();
            let recent = |at| clock::instant().saturating_duration_since(at) < self.config.ttl;
            state.info.clone().filter(|_| state.looked_at.is_some_and(recent))
        };
        if known.is_some() {
            return Ok(known);
        }
        let info = self.marker_facts(&self.locate(inode)?).await?.and_then(|facts| facts.info);
        let mut state = inode.lock();
        state.info.clone_from(&info);
        state.looked_at = Some(clock::instant());
        Ok(info)
    }

    /// The class as a listing said it: no request.
    fn known_class(&self, inode: &Arc<Inode<S>>) -> Option<String> {
        let state = inode.lock();
        let info = state.info.as_ref().map(|info| info.storage_class());
        let listed = state.listed_class.clone();
        let class = info.or(listed).or_else(|| {
            // A listing names every class: an object that it showed without one is STANDARD.
            let listed = matches!(state.content, Content::Clean(Some(_))) && state.place.parent.is_some();
            listed.then(crate::store::StorageClass::standard)
        });
        class.map(|class| class.as_str().to_owned())
    }

    /// What is known of an object, with what a pending upload will make of it.
    async fn shown_info(&self, inode: &Arc<Inode<S>>, fresh: Fresh) -> Result<Arc<ObjectInfo>> {
        if let Some(writing) = inode.writing()
            && writing.writer.is_dirty()
        {
            let (destination, size) = (writing.writer.destination(), writing.writer.len());
            let nothing = crate::store::Committed { etag: crate::store::ETag::new(""), version: None, at: None, crc64nvme: None };
            return Ok(Arc::new(super::commit::new_info(nothing, size, destination.properties)));
        }
        match fresh {
            Fresh::Yes => self.fresh_info(inode).await,
            Fresh::IfUnknown => self.info_in_walk(inode, Wanted::All).await,
        }
    }

    fn get_of_directory(&self, inode: &Arc<Inode<S>>, name: &Name) -> Result<String> {
        match name {
            Name::All => {
                let address = self.locate(inode)?;
                Ok(format!("bucket={}\nkey={}", address.bucket, address.key))
            }
            _ => Err(no_attribute()),
        }
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// [`Situation::NotPermitted`] for what is read-only, [`Situation::Invalid`] and [`Situation::NoSpace`] for a value that S3
    /// cannot hold, [`Situation::Unsupported`], [`Situation::Already`] for a restore under way, and the store's failures.
    pub async fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], how: SetHow, caller: Caller) -> Result<()> {
        let mut inode = self.inode(ino)?;
        let _entered = self.moves.enter(&inode, Access::Change).await;
        let mut left = MAX_SUCCESSORS;
        loop {
            // In a box: it is large, and the stack of a debug build is not.
            match Box::pin(self.set_attribute(&inode, name, value, how, caller)).await {
                // The kernel looks the name up again, and must not find the old object.
                Err(stale) if stale.situation() == Situation::Stale => match self.successor(&inode, &stale, same_access).await {
                    Some(next) if left > 0 => inode = next,
                    _ => return Err(stale),
                },
                done => return done,
            }
            left -= 1;
        }
    }

    async fn set_attribute(&self, inode: &Arc<Inode<S>>, name: &[u8], value: &[u8], how: SetHow, caller: Caller) -> Result<()> {
        let set = self.set_named(inode, name, value, how, caller).await;
        self.told.forget(inode.ino);
        set
    }

    async fn set_named(&self, inode: &Arc<Inode<S>>, name: &[u8], value: &[u8], how: SetHow, caller: Caller) -> Result<()> {
        let name = parse(name)?;
        if self.set_of_bucket(inode, &name, value, how)? {
            return Ok(());
        }
        if let Name::Control(control) = name {
            return self.set_control(inode, control, value, caller).await;
        }
        self.writable()?;
        if let Name::Meta(meta) = name {
            return self.set_meta(inode, meta, value, how).await;
        }
        let text = std::str::from_utf8(value).map_err(|_| Error::new(Situation::Invalid, "the value is not UTF-8 text"))?;
        if self.set_in_document(inode, &name, text, how).await? {
            return Ok(());
        }
        match name {
            Name::Foreign => Err(foreign()),
            Name::Unknown | Name::Location => Err(no_attribute()),
            Name::Restore if !inode.is_directory() => self.restore(inode, xattr::parse_restore(text)?, Again::Extends).await,
            Name::Header(header) if !inode.is_directory() => self.set_header(inode, header, text, how).await,
            Name::StorageClass if !inode.is_directory() => self.set_class(inode, text).await,
            Name::Restore | Name::Header(_) | Name::StorageClass => Err(of_files()),
            _ => Err(read_only()),
        }
    }

    async fn set_header(&self, inode: &Arc<Inode<S>>, header: Header, text: &str, how: SetHow) -> Result<()> {
        header.check(text)?;
        if how != SetHow::Any {
            let info = self.shown_info(inode, Fresh::IfUnknown).await?;
            how.check(header.get(&info.properties.headers).is_some())?;
        }
        let redirect = (header == Header::WebsiteRedirect).then_some(Set::Redirect);
        if let Some(set) = redirect {
            self.may_keep(inode, set)?;
        }
        self.update(inode, |properties| header.set(&mut properties.headers, Some(text.to_owned()))).await?;
        match redirect {
            Some(set) => self.must_keep(inode, set).await,
            None => Ok(()),
        }
    }

    async fn set_class(&self, inode: &Arc<Inode<S>>, text: &str) -> Result<()> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') {
            let words = "a storage class is a word like STANDARD, STANDARD_IA, INTELLIGENT_TIERING, GLACIER or DEEP_ARCHIVE";
            return Err(Error::new(Situation::Invalid, words));
        }
        let class = StorageClass::new(text);
        let dirty = inode.lock().is_dirty();
        if dirty && !class.is_s3s() {
            // Only the store knows its own classes, and the close could not say what is wrong.
            let words = format!("'{text}' is no class of S3's: a class of the store's own can be set once the file is stored");
            return Err(Error::new(Situation::Invalid, words));
        }
        // No older than a second: what another client has moved meanwhile must not count as done.
        if !dirty && self.current_info(inode).await?.storage_class() == class {
            return Ok(());
        }
        self.update(inode, |properties| properties.storage_class = Some(class.clone())).await
    }

    async fn set_meta(&self, inode: &Arc<Inode<S>>, meta: String, value: &[u8], how: SetHow) -> Result<()> {
        if posix::is_reserved(&meta) {
            return Err(Error::new(
                Situation::NotPermitted,
                "this metadata carries the file's attributes: use chmod, chown, touch",
            ));
        }
        self.may_describe(inode)?;
        metadata::check_name(&meta)?;
        let set = Set::Metadata(&meta);
        self.may_keep(inode, set)?;
        let info = if how == SetHow::Any || inode.is_directory() {
            self.described(inode).await?
        } else {
            Some(self.surely(inode).await?)
        };
        let mut all = info.map(|info| info.properties.metadata.clone()).unwrap_or_default();
        how.check(all.contains_key(&meta))?;
        let text = metadata::stored_value(value);
        all.insert(meta.clone(), text.clone());
        metadata::check_size(&all)?;
        let insert = |properties: &mut Properties| {
            properties.metadata.insert(meta.clone(), text.clone());
        };
        self.update(inode, insert).await?;
        self.must_keep(inode, set).await
    }

    /// The root of a bucket has no object that could carry metadata.
    fn may_describe(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        if inode.is_directory() && !self.has_marker(inode) {
            return Err(Error::new(Situation::Unsupported, "the root of a bucket is no object: it cannot carry metadata"));
        }
        Ok(())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// As [`Fs::setxattr`]; [`Situation::NoAttribute`].
    pub async fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let mut inode = self.inode(ino)?;
        let _entered = self.moves.enter(&inode, Access::Change).await;
        let mut left = MAX_SUCCESSORS;
        loop {
            // In a box: it is large, and the stack of a debug build is not.
            match Box::pin(self.remove_attribute(&inode, name)).await {
                // The kernel looks the name up again, and must not find the old object.
                Err(stale) if stale.situation() == Situation::Stale => match self.successor(&inode, &stale, same_access).await {
                    Some(next) if left > 0 => inode = next,
                    _ => return Err(stale),
                },
                done => return done,
            }
            left -= 1;
        }
    }

    async fn remove_attribute(&self, inode: &Arc<Inode<S>>, name: &[u8]) -> Result<()> {
        let removed = self.remove_named(inode, name).await;
        self.told.forget(inode.ino);
        removed
    }

    async fn remove_named(&self, inode: &Arc<Inode<S>>, name: &[u8]) -> Result<()> {
        let name = parse(name)?;
        if self.remove_of_bucket(inode, &name)? {
            return Ok(());
        }
        if self.remove_in_document(inode, &name).await? {
            return Ok(());
        }
        match name {
            Name::Foreign => Err(foreign()),
            Name::Unknown | Name::Location => Err(no_attribute()),
            Name::Error if self.forget_failures(inode) => Ok(()),
            Name::Error => Err(no_attribute()),
            Name::Meta(meta) if posix::is_reserved(&meta) => Err(read_only()),
            Name::Meta(meta) => {
                self.writable()?;
                let there = |info: &ObjectInfo| info.properties.metadata.contains_key(&meta);
                if !self.described(inode).await?.is_some_and(|info| there(&info)) && !there(&*self.surely(inode).await?) {
                    return Err(no_attribute());
                }
                self.update(inode, |properties: &mut Properties| {
                    properties.metadata.remove(&meta);
                })
                .await
            }
            Name::Header(header) if !inode.is_directory() => {
                self.writable()?;
                let there = |info: &ObjectInfo| header.get(&info.properties.headers).is_some();
                if !there(&*self.shown_info(inode, Fresh::IfUnknown).await?) && !there(&*self.surely(inode).await?) {
                    return Err(no_attribute());
                }
                self.update(inode, |properties| header.set(&mut properties.headers, None)).await
            }
            Name::Header(_) => Err(of_files()),
            _ => Err(read_only()),
        }
    }

    /// The names of what copying tools should carry: user metadata, and the headers that creation would not give.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<String>> {
        let inode = self.inode(ino)?;
        let _entered = self.moves.enter(&inode, Access::Look).await;
        self.is_current(&inode)?;
        if !matches!(inode.kind, Kind::File | Kind::Directory) {
            // The kernel gives none of theirs out: who was told of one would ask for it in vain.
            return Ok(Vec::new());
        }
        if self.config.list_xattrs == ListXattrs::Known && !self.is_described(&inode) {
            return Ok(Vec::new());
        }
        let Some(info) = self.described(&inode).await? else { return Ok(Vec::new()) };
        if self.config.list_xattrs == ListXattrs::All && !inode.is_directory() {
            return Ok(every_name(&info));
        }
        let mut names: Vec<String> =
            metadata::visible(&info.properties.metadata).filter_map(|(name, _)| metadata::shown_name(name)).collect();
        if inode.is_directory() {
            return Ok(names);
        }
        let guessed = guess::content_type(inode.place().component.as_str());
        for header in Header::ALL {
            let Some(value) = header.get(&info.properties.headers) else { continue };
            let usual = header == Header::ContentType && (value == guessed || value == guess::UNKNOWN);
            if !usual {
                names.push(ours(header.as_str()));
            }
        }
        if info.facts.tag_count > 0 {
            names.push(ours("tags"));
        }
        Ok(names)
    }
}

/// The names of all that has a value, but for what costs a request of its own.
fn every_name(info: &ObjectInfo) -> Vec<String> {
    let mut names: Vec<String> = ["etag", "size", "last-modified", "storage-class", "restore", "url"].map(ours).into();
    let headers = Header::ALL.into_iter().filter(|header| header.get(&info.properties.headers).is_some());
    names.extend(headers.map(|header| ours(header.as_str())));
    names.extend(info.version.iter().map(|_| ours("version-id")));
    names.extend(info.facts.others.keys().map(|name| ours(name)));
    names.extend(info.checksums.keys().map(|algorithm| ours(&format!("checksum.{algorithm}"))));
    if info.facts.tag_count > 0 {
        names.push(ours("tags"));
    }
    names.extend(metadata::visible(&info.properties.metadata).filter_map(|(name, _)| metadata::shown_name(name)));
    names
}

fn ours(name: &str) -> String {
    format!("{}{name}", xattr::S3_PREFIX)
}

/// What a name stands for; the kernel passes any bytes.
fn parse(name: &[u8]) -> Result<Name> {
    let name = std::str::from_utf8(name).map_err(|_| Error::new(Situation::NameNotUtf8, "the attribute's name is not UTF-8"))?;
    Ok(xattr::parse(name))
}

/// Whether what is known suffices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fresh {
    Yes,
    IfUnknown,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let situation = match refused {
            Refused::Invalid(_) => Situation::Invalid,
            Refused::TooMuch(_) => Situation::NoSpace,
        };
        Self::new(situation, refused.to_string())
    }
}

fn foreign() -> Error {
    Error::new(Situation::Unsupported, "only attributes of the namespace 'user' are kept")
}

pub(super) fn no_attribute() -> Error {
    Error::new(Situation::NoAttribute, "there is no such attribute")
}

fn of_files() -> Error {
    Error::new(Situation::NotPermitted, "only a file has this attribute: set it on the files in the directory")
}

pub(super) fn read_only() -> Error {
    Error::new(Situation::NotPermitted, "this attribute is read-only")
}

/// Whether whoever may write to the one may write to the other.
fn same_access(old: &Attr, new: &Attr) -> bool {
    (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid)
}

/// A value that would pass 64 KiB is cut at a line.
fn cut(text: String) -> String {
    if text.len() <= MAX_VALUE_BYTES {
        return text;
    }
    let room = MAX_VALUE_BYTES - 32;
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let end = text[..end].rfind('\n').unwrap_or(end);
    let more = text[end..].lines().filter(|line| !line.is_empty()).count();
    format!("{}\n... {more} more", &text[..end])
}
