//! What is done after a commit whose object does not add up to what was sent for it. The commit fails, what was written stays
//! dirty, and the next one tries again; what is wrong is never taken for done.
//!
//! Where the store has refused to make the object, nothing was made: parts whose bytes are here are sent again, the others are
//! completed again.
//!
//! Where the store has made it all the same, it is under the key, and what it has replaced is gone, as are the upload and its
//! parts. What is here is sent again. What is not here (parts that have left, ranges of the object that was replaced) can be
//! read back from the wrong object only. So the next commit, or a read, reads each such part and sums it up: one that adds up
//! to what was sent or copied is right, and the next object is made of it by a copy inside the store. One that does not is
//! lost, unless the store thinks better of it: every commit fails then until the content is replaced as a whole. The other
//! parts can be read meanwhile.

use std::sync::Arc;

use md5::Digest as _;

use super::extents::{Extent, Place};
use super::settle::{Source, look};
use super::{State, Writer};
use crate::base::crc;
use crate::data::{Error, Result};
use crate::store::{self, ByteRange, ErrorKind, GetObject, ObjectRef, ObjectStore, Operation, Part, Payload};

/// An object that was made wrong.
#[derive(Debug, Clone)]
pub(super) struct Damaged {
    object: ObjectRef,
    /// What it was made of, in order.
    parts: Arc<[Part]>,
}

impl<S: ObjectStore> Writer<S> {
    /// The store has refused to make an object of the parts, since they do not add up.
    pub(super) async fn refused(&self) {
        let upload = {
            let mut state = self.lock();
            if state.sending.end == 0 {
                std::mem::take(&mut state.sending).upload.get().cloned()
            } else {
                state.sending.drop_tail();
                None
            }
        };
        if let Some((upload, _)) = upload {
            self.abort(&upload).await;
        }
    }

    /// The store has made an object of `parts` that is wrong.
    pub(super) fn note_damage(&self, object: ObjectRef, parts: Vec<Part>) {
        let mut state = self.lock();
        let gone: Vec<ByteRange> = state.replaced().map(|extent| extent.range).collect();
        for range in gone {
            state.extents.set(range, Place::Sent);
        }
        state.made = None;
        state.sending = super::Sending::default();
        state.damaged = Some(Damaged { object, parts: parts.into() });
    }

    /// The store has made an object of `payload` that is wrong: what of it was fetched from the one it has replaced stays here.
    pub(super) async fn retain(&self, payload: &Payload) -> Result<()> {
        loop {
            let next = self.lock().replaced().next();
            let Some(Extent { range, .. }) = next else { return Ok(()) };
            let bytes: Vec<u8> = payload.chunks().concat();
            let slice = usize::try_from(range.start()).unwrap_or(0)..usize::try_from(range.end()).unwrap_or(0);
            self.restage(range.start(), bytes.get(slice).ok_or(Error::Incomplete)?).await?;
        }
    }

    /// Before anything is made anew: finds in a wrong object what is not here, and takes it from there if it is right.
    pub(super) async fn salvage(&self) -> Result<()> {
        let Some(Damaged { object, parts }) = self.lock().damaged.clone() else { return Ok(()) };
        let info = look(&self.shared.store, &object).await?;
        // When others have replaced it, nobody has the bytes any more.
        let info = info.filter(|info| self.may_have_made(info)).ok_or(Error::Stale)?;
        let object = ObjectRef { version: info.version, ..object };
        let pin = Source { object, etag: info.etag, size: info.size, crc64nvme: None };
        let (mut start, mut lost) = (0, None);
        for part in parts.iter() {
            let Some(range) = ByteRange::new(start, start + part.size) else { continue };
            start = range.end();
            if !self.lock().extents.any(range.start(), range.end(), |place| place == Place::Sent) {
                continue;
            }
            if self.is_right(&pin, range, part).await? {
                self.lock().take_from(&pin, range);
            } else {
                lost.get_or_insert(range);
            }
        }
        if let Some(range) = lost {
            let words = "what the store has made is wrong where it has the only copy: the bytes from";
            let words = format!("{words} {} to {} are not what was sent", range.start(), range.end());
            return Err(store::Error::new(ErrorKind::Corrupt, Operation::GetObject, &pin.object, words).into());
        }
        self.lock().damaged = None;
        Ok(())
    }

    /// Whether a range of an object adds up to the part that it was made of.
    pub(super) async fn is_right(&self, pin: &Source, range: ByteRange, part: &Part) -> Result<bool> {
        let request = GetObject { object: pin.object.clone(), range: Some(range), if_match: Some(pin.etag.clone()) };
        let mut body = self.shared.store.get(&request).await.map_err(Error::of_reading)?.body;
        let (mut crc, mut md5) = (crc::Running::default(), md5::Md5::new());
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            match part.crc64nvme {
                Some(_) => crc.update(&chunk),
                None => md5.update(&chunk),
            }
        }
        Ok(match part.crc64nvme {
            Some(expected) => crc.value() == expected,
            None => part.tag_is_md5 && part.etag.md5() == Some(md5.finalize().into()),
        })
    }
}

impl<S: ObjectStore> State<S> {
    /// What lies in the object of the file's own name.
    fn replaced(&self) -> impl Iterator<Item = Extent> + '_ {
        self.extents.all().filter(|extent| matches!(extent.place, Place::Stored { source, .. } if Some(source) == self.own))
    }

    /// What is not here of a range is in an object, at the same place.
    fn take_from(&mut self, pin: &Source, range: ByteRange) {
        let source = self.source(pin.clone());
        self.own = Some(source);
        let within = self.extents.within(range.start(), range.end());
        let gone: Vec<Extent> = within.filter(|extent| extent.place == Place::Sent).collect();
        for Extent { range, .. } in gone {
            self.extents.set(range, Place::Stored { source, at: range.start() });
        }
    }
}
