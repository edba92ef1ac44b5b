//! Multipart uploads in progress: parts by number, and how they become an object. Pure.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::Digest as _;

use super::content::Content;
use super::failure::{NO_PARTS, Outcome, PART_ORDER, PART_TOO_SMALL, WRONG_PART};
use super::object::{Checksums, crc_text, crc_value};
use crate::base::encode;
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
    pub(super) checksums: Checksums,
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
        let checksums = full_crc(&parts).map(|crc| ("crc64nvme".to_owned(), crc_text(crc))).into_iter().collect();
        Ok(Whole {
            content: Content::concat(&contents),
            md5: md5_of_md5s(&parts),
            checksums,
            sizes: contents.iter().map(Content::len).collect(),
        })
    }
}

impl StoredPart {
    /// The part as answers tell it.
    pub(super) fn describe(&self, number: PartNumber) -> Part {
        let crc64nvme = self.checksums.get("crc64nvme").cloned();
        Part { number, etag: self.etag.clone(), crc64nvme, size: self.content.len() }
    }

    fn is(&self, part: &Part) -> bool {
        let crc = self.checksums.get("crc64nvme");
        self.etag == part.etag && (part.crc64nvme.is_none() || crc.is_none() || part.crc64nvme.as_ref() == crc)
    }
}

fn full_crc(parts: &[&StoredPart]) -> Option<u64> {
    parts.iter().try_fold(None, |whole, part| {
        let crc = crc_value(part.checksums.get("crc64nvme")?)?;
        Some(Some(match whole {
            None => crc,
            Some(whole) => checksum_combine(CrcAlgorithm::Crc64Nvme, whole, crc, part.content.len()),
        }))
    })?
}

fn md5_of_md5s(parts: &[&StoredPart]) -> Option<[u8; 16]> {
    let mut digest = md5::Md5::new();
    for part in parts {
        digest.update(decode_hex(part.etag.as_str())?);
    }
    Some(digest.finalize().into())
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// The tag of an MD5.
pub(super) fn md5_tag(md5: [u8; 16]) -> String {
    encode::hex(&md5)
}
