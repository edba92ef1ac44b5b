//! Whether the store has received what was sent, and has made of the parts what they make: the checksums and tags in its
//! answers, compared with what is known here.
//!
//! A checksum that the store reports is compared always. A tag is compared where no checksum is reported, and only after the
//! store has shown in the same bucket that it makes them as S3 does without encryption: from the MD5 of the bytes, or of the
//! parts' MD5s. Otherwise nothing can be said, and nothing is: a wrong alarm would cost as much as a missed one.

use super::S3Store;
use super::client::Answered;
use super::dialect::{Known, TagOf};
use super::request::{self, Request};
use super::{digest, response};
use crate::base::encode;
use crate::store::{CompleteUpload, ETag, Error, ErrorKind, Operation, Outcome, Result};

const ENCRYPTION: &str = "x-amz-server-side-encryption";

impl S3Store {
    /// Compares what the answer to a PUT or part tells with what was sent; whether the tag is the MD5 of that.
    pub(super) fn check_received(&self, request: &Request, etag: &ETag, answered: &Answered) -> Result<bool> {
        let Some(digests) = request.digests.get() else { return Ok(false) };
        // A part can be sent again: the last one counts. An object is there now, and is wrong.
        let outcome = if request.operation == Operation::UploadPart { Outcome::NotApplied } else { Outcome::Damaged };
        let damaged = |words| Err(wrong(request, outcome, words));
        let reported = response::crc64nvme(&answered.headers);
        if reported.is_some() && digests.crc64nvme.is_some() && reported != digests.crc64nvme {
            return damaged("the store has received other bytes than were sent: their checksum is another");
        }
        let (Some(md5), Some(bucket)) = (digests.md5, &request.bucket) else { return Ok(false) };
        let is_md5 = etag.md5() == Some(md5);
        // With a key of the key service the tag is no MD5, nor has it the form of one where a store compresses. That of no bytes
        // may be an MD5 all the same.
        let encrypted = response::text(&answered.headers, ENCRYPTION).is_some_and(|algorithm| algorithm != "AES256");
        let may_be_md5 = etag.md5().is_some() && !encrypted && !request.payload.is_empty();
        if reported.is_none() && may_be_md5 && self.0.dialect.learn_tag(bucket, TagOf::Bytes, is_md5) {
            return damaged("the store has received other bytes than were sent: its tag is not their MD5");
        }
        Ok(is_md5)
    }

    /// Compares the tag of what was made of parts with theirs, where no checksum tells more.
    pub(super) fn check_composed(&self, request: &CompleteUpload, sent: &Request, etag: &ETag) -> Result<()> {
        let count = u16::try_from(request.parts.len()).ok();
        if request.crc64nvme().is_some() || etag.parts().is_none() || etag.parts() != count {
            return Ok(());
        }
        let all_sent = request.parts.iter().all(|part| part.tag_is_md5);
        let md5s: Option<Vec<[u8; 16]>> = request.parts.iter().map(|part| part.etag.md5()).collect();
        let Some(md5s) = md5s.filter(|_| request.parts.iter().any(|part| part.tag_is_md5)) else { return Ok(()) };
        let expected = format!("{}-{}", encode::hex(&digest::md5_of_md5s(&md5s)), md5s.len());
        let of = if all_sent { TagOf::Parts } else { TagOf::CopiedParts };
        if self.0.dialect.learn_tag(&request.upload.bucket, of, expected == etag.as_str()) {
            let words = "the store has made something else of the parts: its tag is not made of theirs";
            return Err(wrong(sent, Outcome::Damaged, words));
        }
        Ok(())
    }

    /// Completes an upload, telling what the whole is: then a store that verifies it refuses before it makes anything else. One
    /// that does not know the words is told no more.
    pub(super) async fn complete(&self, request: &CompleteUpload) -> Result<(Request, Answered)> {
        let declared = request.upload.declares_checksums;
        let checked = declared && request.parts.iter().all(|part| part.crc64nvme.is_some());
        let known = self.0.dialect.whole_checksums();
        let whole = request.crc64nvme().filter(|_| declared && known != Known::No);
        if whole.is_some() {
            let sent = request::complete(request, checked, whole);
            match self.call_conditional(sent.clone()).await {
                Ok(answered) => {
                    self.0.dialect.learn_whole_checksums(true);
                    return Ok((sent, answered));
                }
                Err(error) if known == Known::Unknown && matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported) => {}
                Err(error) => return Err(error),
            }
        }
        let sent = request::complete(request, checked, None);
        let answered = self.call_conditional(sent.clone()).await?;
        if whole.is_some() {
            self.0.dialect.learn_whole_checksums(false);
        }
        Ok((sent, answered))
    }
}

/// The store has something else than it was sent.
pub(super) fn wrong(request: &Request, outcome: Outcome, words: &str) -> Error {
    Error::new(ErrorKind::Corrupt, request.operation, request.target(), words).with(|story| story.outcome = outcome)
}
