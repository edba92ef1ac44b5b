//! Extended attributes: what S3 knows of an object, and the daemon's own on the root.

use std::sync::Arc;

use crate::data::guess;
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::posix;
use crate::fs::meta::xattr::{self, Control, Name, Refused};
use crate::fs::tree::inode::{Content, Inode};
use crate::store::{BucketService, ObjectInfo, ObjectStore, Operation, Properties, RestoreObject, RestoreState, RestoreTier};

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

/// A longer content type is none, in bytes.
const MAX_CONTENT_TYPE_BYTES: usize = 1024;
/// No user name is longer: the kernel's own limit on a value.
const MAX_VALUE_BYTES: usize = 64 << 10;

impl<S: ObjectStore + BucketService> Fs<S> {
    /// The value of an attribute.
    ///
    /// # Errors
    /// [`Situation::NoAttribute`], [`Situation::Unsupported`] for other namespaces, [`Situation::NotPermitted`] for the
    /// daemon's own, and the store's failures.
    pub async fn getxattr(&self, ino: Ino, name: &[u8], caller: Caller) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        if let Some(text) = self.get_of_bucket(&inode, name).await? {
            return Ok(cut(text).into_bytes());
        }
        let name = xattr::parse(&String::from_utf8_lossy(name));
        let text = match name {
            Name::Foreign => return Err(foreign()),
            Name::Unknown => return Err(no_attribute()),
            Name::Control(control) => self.get_control(&inode, control, caller)?,
            Name::Error => inode.lock().last_error.as_deref().map(str::to_owned).ok_or_else(no_attribute)?,
            name if inode.is_directory() => self.get_of_directory(&inode, &name)?,
            name => self.get_of_object(&inode, &name).await?,
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
        let info = match name {
            Name::Restore | Name::All => self.shown_info(inode, Fresh::Yes).await?,
            _ => self.shown_info(inode, Fresh::IfUnknown).await?,
        };
        let headers = &info.properties.headers;
        match name {
            Name::All => Ok(xattr::all_text(&info, inode.lock().last_error.as_deref())),
            Name::ETag => Some(info.etag.as_str().to_owned()).filter(|etag| !etag.is_empty()).ok_or_else(no_attribute),
            Name::Size => Ok(info.size.to_string()),
            Name::StorageClass => Ok(info.storage_class().as_str().to_owned()),
            Name::Restore => Ok(xattr::restore_text(&info)),
            Name::ContentType => headers.content_type.clone().ok_or_else(no_attribute),
            Name::Meta(meta) if posix::is_reserved(meta) && !meta.starts_with("pailfs-") => {
                info.properties.metadata.get(meta).cloned().ok_or_else(no_attribute)
            }
            Name::Meta(meta) => {
                let visible = xattr::visible(&info.properties.metadata).find(|(name, _)| name == meta);
                visible.map(|(_, value)| value.to_owned()).ok_or_else(no_attribute)
            }
            Name::Error | Name::Control(_) | Name::Unknown | Name::Foreign => Err(no_attribute()),
        }
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
            let nothing = crate::store::Committed { etag: crate::store::ETag::new(""), version: None };
            return Ok(Arc::new(super::names::new_info(nothing, size, destination.properties)));
        }
        match fresh {
            Fresh::Yes => self.fresh_info(inode).await,
            Fresh::IfUnknown => self.known_info(inode).await,
        }
    }

    fn get_of_directory(&self, inode: &Arc<Inode<S>>, name: &Name) -> Result<String> {
        match name {
            Name::All => {
                let address = self.locate(inode)?;
                let what = if inode.ino == Ino::ROOT { "prefix" } else { "key" };
                Ok(format!("bucket={}\n{what}={}", address.bucket, address.key))
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
        let inode = self.inode(ino)?;
        if self.set_of_bucket(&inode, name, value, how)? {
            return Ok(());
        }
        let name_is_ours = name.starts_with(b"user.s3.");
        let name = xattr::parse(&String::from_utf8_lossy(name));
        if let Name::Control(control) = name {
            return self.set_control(&inode, control, caller).await;
        }
        self.writable()?;
        let text = std::str::from_utf8(value).map_err(|_| Error::new(Situation::Invalid, "the value is not UTF-8 text"))?;
        match name {
            Name::Foreign => Err(foreign()),
            Name::Unknown if name_is_ours => Err(no_attribute()),
            Name::Unknown => Err(Error::new(Situation::Unsupported, "no such attribute can be set; see: pailfs help xattrs")),
            Name::Restore if !inode.is_directory() => self.set_restore(&inode, text).await,
            Name::ContentType if !inode.is_directory() => self.set_content_type(&inode, text, how).await,
            Name::Meta(meta) if !inode.is_directory() => self.set_meta(&inode, meta, text, how).await,
            _ => Err(read_only()),
        }
    }

    async fn set_content_type(&self, inode: &Arc<Inode<S>>, text: &str, how: SetHow) -> Result<()> {
        if how == SetHow::Create {
            return Err(Error::new(Situation::Exists, "every object has a content type"));
        }
        let printable = text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_control());
        if text.is_empty() || text.len() > MAX_CONTENT_TYPE_BYTES || !printable {
            return Err(Error::new(
                Situation::Invalid,
                "a content type is up to 1,024 bytes of printable ASCII, for example text/plain",
            ));
        }
        self.update(inode, |properties| properties.headers.content_type = Some(text.to_owned())).await
    }

    async fn set_meta(&self, inode: &Arc<Inode<S>>, meta: String, text: &str, how: SetHow) -> Result<()> {
        if posix::is_reserved(&meta) {
            return Err(Error::new(
                Situation::NotPermitted,
                "this metadata carries the file's attributes: use chmod, chown, touch",
            ));
        }
        xattr::check_meta(&meta, text)?;
        let info = self.shown_info(inode, Fresh::IfUnknown).await?;
        let there = info.properties.metadata.contains_key(&meta);
        match how {
            SetHow::Create if there => return Err(Error::new(Situation::Exists, "the attribute is there already")),
            SetHow::Replace if !there => return Err(no_attribute()),
            _ => {}
        }
        let mut metadata = info.properties.metadata.clone();
        metadata.insert(meta.clone(), text.to_owned());
        xattr::check_size(&metadata)?;
        self.update(inode, move |properties| {
            properties.metadata.insert(meta.clone(), text.to_owned());
        })
        .await
    }

    async fn set_restore(&self, inode: &Arc<Inode<S>>, text: &str) -> Result<()> {
        let (days, tier) = xattr::parse_restore(text)?;
        let info = self.fresh_info(inode).await?;
        if !info.archived() {
            return Err(Error::new(
                Situation::Invalid,
                format!("the object is not archived: its class is {}", info.storage_class()),
            ));
        }
        if info.storage_class().as_str() == "DEEP_ARCHIVE" && tier == Some(RestoreTier::Expedited) {
            return Err(Error::new(Situation::Invalid, "DEEP_ARCHIVE has no tier Expedited: use Standard or Bulk"));
        }
        if info.restore == Some(RestoreState::Ongoing) && tier.is_none_or(|tier| tier == RestoreTier::Bulk) {
            return Err(Error::new(
                Situation::Already,
                "a restore is under way already: getfattr -n user.s3.restore tells when it is done",
            ));
        }
        let object = self.locate(inode)?.object()?;
        // INTELLIGENT_TIERING moves the object itself: there is no copy that could expire.
        let days = info.archive_status.is_none().then_some(days);
        self.store.restore(&RestoreObject { object, days, tier }).await?;
        inode.lock().info = None;
        Ok(())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// As [`Fs::setxattr`]; [`Situation::NoAttribute`].
    pub async fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let inode = self.inode(ino)?;
        if self.remove_of_bucket(&inode, name)? {
            return Ok(());
        }
        match xattr::parse(&String::from_utf8_lossy(name)) {
            Name::Foreign => Err(foreign()),
            Name::Unknown => Err(no_attribute()),
            Name::Error => inode.lock().last_error.take().map(|_| ()).ok_or_else(no_attribute),
            Name::Meta(meta) if posix::is_reserved(&meta) => Err(read_only()),
            Name::Meta(meta) if !inode.is_directory() => {
                self.writable()?;
                let info = self.shown_info(&inode, Fresh::IfUnknown).await?;
                if !info.properties.metadata.contains_key(&meta) {
                    return Err(no_attribute());
                }
                self.update(&inode, |properties: &mut Properties| {
                    properties.metadata.remove(&meta);
                })
                .await
            }
            _ => Err(read_only()),
        }
    }

    /// The names of what copying tools should carry: user metadata, and a content type that the name would not give.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<String>> {
        let inode = self.inode(ino)?;
        if inode.is_directory() {
            return Ok(Vec::new());
        }
        let info = self.shown_info(&inode, Fresh::IfUnknown).await?;
        let mut names: Vec<String> =
            xattr::visible(&info.properties.metadata).map(|(name, _)| format!("{}{name}", xattr::META_PREFIX)).collect();
        let guessed = guess::content_type(inode.place().component.as_str());
        let usual =
            info.properties.headers.content_type.as_ref().is_none_or(|stored| *stored == guessed || stored == guess::UNKNOWN);
        if !usual {
            names.push(xattr::CONTENT_TYPE.to_owned());
        }
        Ok(names)
    }

    fn may_control(&self, inode: &Arc<Inode<S>>, caller: Caller) -> Result<()> {
        if caller.uid != 0 && caller.uid != self.config.owner_uid {
            return Err(Error::new(Situation::NotPermitted, "only root and the user who mounted may ask the daemon"));
        }
        if inode.ino == Ino::ROOT { Ok(()) } else { Err(no_attribute()) }
    }

    fn get_control(&self, inode: &Arc<Inode<S>>, control: Control, caller: Caller) -> Result<String> {
        self.may_control(inode, caller)?;
        match control {
            Control::Failures => Ok(self.failures.to_lines()),
            Control::Status => Ok(self.status_text()),
            Control::Pending => {
                let lines = self.pending().into_iter().map(|pending| serde_json::to_string(&pending).unwrap_or_default());
                Ok(lines.collect::<Vec<_>>().join("\n"))
            }
            Control::Pid => Ok(std::process::id().to_string()),
            Control::Sync | Control::Keep => Err(no_attribute()),
        }
    }

    async fn set_control(&self, inode: &Arc<Inode<S>>, control: Control, caller: Caller) -> Result<()> {
        self.may_control(inode, caller)?;
        let left = match control {
            Control::Sync => self.commit_all().await,
            Control::Keep => self.keep_all().await,
            _ => return Err(read_only()),
        };
        match left.first() {
            None => Ok(()),
            Some(pending) => {
                let why = pending.error.clone().unwrap_or_else(|| "it is still being written".to_owned());
                Err(Error::new(Situation::Io, format!("'{}' could not be uploaded: {why}", pending.path)))
            }
        }
    }

    /// The files of contents that could not be stored.
    fn kept(&self) -> Vec<String> {
        let entries = self.config.kept_directory.as_ref().and_then(|directory| std::fs::read_dir(directory).ok());
        let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        let mut kept: Vec<String> = paths
            .filter(|path| path.extension().is_none_or(|kind| kind != "json"))
            .map(|path| path.display().to_string())
            .collect();
        kept.sort();
        kept
    }

    /// Requests by kind, memory and what is pending, as one JSON object.
    fn status_text(&self) -> String {
        let names: Vec<String> = Operation::ALL.iter().map(ToString::to_string).collect();
        let (files, directories) = self.handles.count();
        let status = serde_json::json!({
            "source": self.config.source.to_string(),
            "memory": { "limit": self.budget.limit(), "used": self.budget.used() },
            "open": { "files": files, "directories": directories },
            "pending": self.pending(),
            "kept": self.kept(),
            "counters": self.counters.snapshot(&names),
        });
        status.to_string()
    }
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

fn no_attribute() -> Error {
    Error::new(Situation::NoAttribute, "there is no such attribute")
}

fn read_only() -> Error {
    Error::new(Situation::NotPermitted, "this attribute is read-only")
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
