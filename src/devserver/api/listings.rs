//! `ListObjects` and `ListObjectsV2`: one page of the store, and the encoding of keys that XML cannot hold.

use s3s::S3Response;
use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput, ListObjectsOutput,
    ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass, ObjectVersion, Owner,
};

use super::convert::{bucket, refuse, signed, strong, timestamp};
use super::uploads::limit;
use super::{Answer, OWNER};
use crate::base::encode;
use crate::store::memory::{Memory, Query};
use crate::store::{ListPage, ListedObject, PageToken};

/// How keys are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Url,
}

impl Encoding {
    pub(super) fn of(asked: Option<&EncodingType>) -> Self {
        if asked.is_some_and(|kind| kind.as_str() == EncodingType::URL) { Self::Url } else { Self::Raw }
    }

    pub(super) fn write(self, text: &str) -> String {
        match self {
            Self::Raw => text.to_owned(),
            Self::Url => encode::uri_path(text),
        }
    }

    pub(super) fn prefix(self, text: &str) -> CommonPrefix {
        CommonPrefix { prefix: Some(self.write(text)) }
    }

    fn object(self, listed: &ListedObject, owner: Option<&Owner>) -> Object {
        let class = listed.storage_class.as_ref().map_or(ObjectStorageClass::STANDARD, |class| class.as_str());
        Object {
            key: Some(self.write(&listed.key)),
            size: Some(signed(listed.size)),
            e_tag: listed.etag.as_ref().map(strong),
            last_modified: Some(timestamp(listed.last_modified)),
            storage_class: Some(ObjectStorageClass::from(class.to_owned())),
            owner: owner.cloned(),
            ..Object::default()
        }
    }

    fn entries(self, page: &ListPage, owner: Option<&Owner>) -> (Vec<Object>, Vec<CommonPrefix>) {
        let objects = page.objects.iter().map(|listed| self.object(listed, owner)).collect();
        (objects, page.prefixes.iter().map(|prefix| self.prefix(prefix)).collect())
    }
}

/// The last entry of a page, where a marker of the next one lies.
fn last_of(page: &ListPage) -> Option<&str> {
    page.objects.last().map(|object| object.key.as_str()).max(page.prefixes.last().map(String::as_str))
}

/// The common prefix that a key is folded into.
pub(super) fn folded<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Option<&'a str> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let end = prefix.len() + key.strip_prefix(prefix)?.find(delimiter)? + delimiter.len();
    key.get(..end)
}

pub(super) fn second(memory: &Memory, input: ListObjectsV2Input) -> Answer<ListObjectsV2Output> {
    let name = bucket(&input.bucket)?;
    let encoding = Encoding::of(input.encoding_type.as_ref());
    let limit = limit(input.max_keys, "maxKeys")?;
    let resumed = input.continuation_token.as_deref().map(|token| memory.token_text(&name, &PageToken::new(token)));
    let resumed = resumed.transpose().map_err(refuse)?;
    let query = Query {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref(),
        after: resumed.as_deref().or(input.start_after.as_deref()).filter(|after| !after.is_empty()),
        limit,
    };
    let page = memory.list_now(&name, query).map_err(refuse)?;
    let owner = Owner { id: Some(OWNER.to_owned()), display_name: None };
    let (contents, prefixes) = encoding.entries(&page, input.fetch_owner.unwrap_or(false).then_some(&owner));
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoding.write(query.prefix)),
        delimiter: input.delimiter.as_deref().map(|delimiter| encoding.write(delimiter)),
        max_keys: i32::try_from(limit).ok(),
        key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.as_ref().map(|token| token.as_str().to_owned()),
        continuation_token: input.continuation_token,
        start_after: input.start_after.as_deref().map(|after| encoding.write(after)),
        encoding_type: input.encoding_type,
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        ..ListObjectsV2Output::default()
    }))
}

pub(super) fn first(memory: &Memory, input: ListObjectsInput) -> Answer<ListObjectsOutput> {
    let name = bucket(&input.bucket)?;
    let encoding = Encoding::of(input.encoding_type.as_ref());
    let limit = limit(input.max_keys, "maxKeys")?;
    let query = Query {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref(),
        after: input.marker.as_deref().filter(|marker| !marker.is_empty()),
        limit,
    };
    let page = memory.list_now(&name, query).map_err(refuse)?;
    let owner = Owner { id: Some(OWNER.to_owned()), display_name: None };
    let (contents, prefixes) = encoding.entries(&page, Some(&owner));
    let last = last_of(&page);
    // S3 names the next marker only where prefixes are folded; without, it is the last key.
    let next = last.filter(|_| page.next.is_some() && input.delimiter.is_some());
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.write(query.prefix)),
        marker: Some(encoding.write(input.marker.as_deref().unwrap_or_default())),
        delimiter: input.delimiter.as_deref().map(|delimiter| encoding.write(delimiter)),
        max_keys: i32::try_from(limit).ok(),
        is_truncated: Some(page.next.is_some()),
        next_marker: next.map(|next| encoding.write(next)),
        encoding_type: input.encoding_type,
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        ..ListObjectsOutput::default()
    }))
}

/// One page of versions. No bucket keeps any: each object is its only one.
pub(super) fn versions(memory: &Memory, input: ListObjectVersionsInput) -> Answer<ListObjectVersionsOutput> {
    let name = bucket(&input.bucket)?;
    let encoding = Encoding::of(input.encoding_type.as_ref());
    let limit = limit(input.max_keys, "maxKeys")?;
    let query = Query {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref(),
        after: input.key_marker.as_deref().filter(|marker| !marker.is_empty()),
        limit,
    };
    let page = memory.list_now(&name, query).map_err(refuse)?;
    let version = |listed: &ListedObject| ObjectVersion {
        key: Some(encoding.write(&listed.key)),
        version_id: Some("null".to_owned()),
        is_latest: Some(true),
        size: Some(signed(listed.size)),
        e_tag: listed.etag.as_ref().map(strong),
        last_modified: Some(timestamp(listed.last_modified)),
        ..ObjectVersion::default()
    };
    let last = last_of(&page);
    Ok(S3Response::new(ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.write(query.prefix)),
        max_keys: i32::try_from(limit).ok(),
        is_truncated: Some(page.next.is_some()),
        next_key_marker: last.filter(|_| page.next.is_some()).map(|last| encoding.write(last)),
        encoding_type: input.encoding_type,
        versions: Some(page.objects.iter().map(version).collect()),
        common_prefixes: Some(page.prefixes.iter().map(|prefix| encoding.prefix(prefix)).collect()),
        ..ListObjectVersionsOutput::default()
    }))
}
