//! Multipart uploads in progress: parts by number, and how they become an object. Pure.

use std::collections::BTreeMap;
use std::time::SystemTime;

use md5::Digest as _;

use super::content::Content;
use super::failure::{NO_PARTS, Outcome, PART_ORDER, PART_TOO_SMALL, WRONG_PART};
use super::object::Checksums;
use crate::base::{crc::Crc64, encode};
use crate::store::{ETag, MIN_PART_BYTES, Part, PartNumber, Properties};

/// A part that was sent.
#[derive(Debug, Clone)]
pub(super) struct StoredPart {
    pub(super) content: Content,
    pub(super) etag: ETag,
    pub(super) checksums: Checksums,
}

/// An upload that was begun.
#[derive(Debug)]
pub(super) struct StoredUpload {
    pub(super) properties: Properties,
    pub(super) begun: SystemTime,
    pub(super) parts: BTreeMap<PartNumber, StoredPart>,
}

/// What the parts make together.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) content: Content,
    /// MD5 of the parts' MD5s, where they are MD5s.
    pub(super) md5: Option<[u8; 16]>,
    /// What they add up to, where that of each is known.
    pub(super) crc64nvme: Option<Crc64>,
    pub(super) sizes: Vec<u64>,
}

impl StoredUpload {
    /// The parts as `ListParts` tells them.
    pub(super) fn list(&self) -> Vec<Part> {
        self.parts.iter().map(|(number, part)| part.describe(*number)).collect()
    }

    /// Checks the list of parts as S3 does and puts their bytes together.
    pub(super) fn assemble(&self, wanted: &[Part]) -> Outcome<Whole> {
        if wanted.is_empty() {
            return Err(NO_PARTS);
        }
        if !wanted.is_sorted_by(|one, other| one.number < other.number) {
            return Err(PART_ORDER);
        }
        let found = |part: &Part| self.parts.get(&part.number).filter(|stored| stored.is(part)).ok_or(WRONG_PART);
        let parts = wanted.iter().map(found).collect::<Outcome<Vec<&StoredPart>>>()?;
        if parts.iter().rev().skip(1).any(|part| part.content.len() < MIN_PART_BYTES) {
            return Err(PART_TOO_SMALL);
        }
        let contents: Vec<Content> = parts.iter().map(|part| part.content.clone()).collect();
        let crc64nvme = full_crc(&parts);
        Ok(Whole {
            content: Content::concat(&contents),
            md5: md5_of_md5s(&parts),
            crc64nvme,
            sizes: contents.iter().map(Content::len).collect(),
        })
    }
}

impl StoredPart {
    /// The part as answers tell it.
    pub(super) fn describe(&self, number: PartNumber) -> Part {
        Part { number, etag: self.etag.clone(), crc64nvme: self.crc64nvme(), tag_is_md5: false, size: self.content.len() }
    }

    fn crc64nvme(&self) -> Option<Crc64> {
        Crc64::parse(self.checksums.get("crc64nvme")?)
    }

    fn is(&self, part: &Part) -> bool {
        let crc = self.crc64nvme();
        self.etag == part.etag && (part.crc64nvme.is_none() || crc.is_none() || part.crc64nvme == crc)
    }
}

fn full_crc(parts: &[&StoredPart]) -> Option<Crc64> {
    let add = |sum: Crc64, part: &&StoredPart| Some(sum.followed_by(part.crc64nvme()?, part.content.len()));
    parts.iter().try_fold(Crc64::EMPTY, add)
}

fn md5_of_md5s(parts: &[&StoredPart]) -> Option<[u8; 16]> {
    let mut digest = md5::Md5::new();
    for part in parts {
        digest.update(part.etag.md5()?);
    }
    Some(digest.finalize().into())
}

/// The tag of an MD5.
pub(super) fn md5_tag(md5: [u8; 16]) -> String {
    encode::hex(&md5)
}
