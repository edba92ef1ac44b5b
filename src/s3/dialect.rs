//! What is known of a store that not all stores do: learnt by looking at what it answers, never by writing for a test.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::store::{BucketName, Level, Operation, Subresource};

/// Whether a store does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Known {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It does.
    Yes,
    /// It ignores it.
    No,
}

#[derive(Debug, Default)]
struct Facts {
    checksums: Known,
    whole_checksums: Known,
    put: Known,
    complete: Known,
    copy: Known,
    delete: Known,
    delete_many: Known,
    source: Known,
    part_source: Known,
    source_date: Known,
    bare_etags: bool,
    speaks_s3: bool,
    documents: HashSet<(Subresource, Level)>,
    every_document: bool,
    buckets: HashMap<BucketName, InBucket>,
    tags: HashMap<BucketName, HashMap<TagOf, Known>>,
}

/// What is otherwise in one bucket than on the rest of the endpoint.
#[derive(Debug, Default)]
struct InBucket {
    /// It keeps versions. radosgw 16 confuses conditions there: a right tag never matches, and `*` matches nothing.
    versioned: bool,
    /// A condition that was right was kept.
    proven: bool,
    /// Operations whose conditions fail though they are right.
    refused: Vec<Operation>,
}

/// What a tag may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagOf {
    /// The MD5 of the bytes.
    Bytes,
    /// The MD5 of the parts' MD5s; all of them were sent.
    Parts,
    /// As that; some of them were copied inside the store, and their tags are only its word.
    CopiedParts,
}

/// The dialect of one endpoint. Shared by all its clones.
#[derive(Debug, Default)]
pub struct Dialect(Mutex<Facts>);

impl Dialect {
    /// Amazon's own: everything is known.
    #[must_use]
    pub fn aws() -> Self {
        Self(Mutex::new(Facts {
            checksums: Known::Yes,
            whole_checksums: Known::Yes,
            put: Known::Yes,
            complete: Known::Yes,
            copy: Known::Yes,
            delete: Known::Yes,
            delete_many: Known::Yes,
            source: Known::Yes,
            part_source: Known::Yes,
            source_date: Known::Yes,
            bare_etags: false,
            speaks_s3: true,
            documents: HashSet::new(),
            every_document: true,
            buckets: HashMap::new(),
            tags: HashMap::new(),
        }))
    }

    /// Whether the store verifies `x-amz-checksum-*`.
    #[must_use]
    pub fn checksums(&self) -> Known {
        self.with(|facts| facts.checksums)
    }

    /// An answer to a request that carried a checksum did, or did not, report it.
    pub fn learn_checksums(&self, reported: bool) {
        self.with(|facts| facts.checksums = if reported { Known::Yes } else { Known::No });
    }

    /// Whether the completion of an upload may tell what the whole is.
    #[must_use]
    pub fn whole_checksums(&self) -> Known {
        self.with(|facts| facts.whole_checksums)
    }

    /// A completion that told it was, or was not, understood.
    pub fn learn_whole_checksums(&self, understood: bool) {
        self.with(|facts| facts.whole_checksums = if understood { Known::Yes } else { Known::No });
    }

    /// Whether the tags of what is put into a bucket are MD5s.
    #[must_use]
    pub fn md5_tags(&self, bucket: Option<&BucketName>) -> Known {
        let tags = |facts: &mut Facts| facts.tags.get(bucket?)?.get(&TagOf::Bytes).copied();
        self.with(tags).unwrap_or_default()
    }

    /// A tag in a bucket was, or was not, what S3 makes of the bytes that were sent, or of the parts. Whether the store has
    /// gone wrong: the first tag tells only how it makes them (with some encryptions from nothing that is known here).
    pub fn learn_tag(&self, bucket: &BucketName, of: TagOf, expected: bool) -> bool {
        self.with(|facts| {
            let tags = facts.tags.entry(bucket.clone()).or_default();
            let known = tags.entry(of).or_insert(if expected { Known::Yes } else { Known::No });
            *known == Known::Yes && !expected
        })
    }

    /// Whether the store honours `If-Match` of an operation.
    #[must_use]
    pub fn conditions(&self, operation: Operation) -> Known {
        self.with(|facts| *slot(facts, operation))
    }

    /// As [`Dialect::conditions`], in one bucket.
    #[must_use]
    pub fn conditions_in(&self, bucket: Option<&BucketName>, operation: Operation) -> Known {
        self.with(|facts| {
            let refused = in_bucket(facts, bucket).is_some_and(|there| there.refused.contains(&operation));
            if refused { Known::No } else { *slot(facts, operation) }
        })
    }

    /// A condition that was right has failed in a bucket: it is of no use there.
    pub fn learn_refused(&self, bucket: &BucketName, operation: Operation) {
        self.with(|facts| facts.buckets.entry(bucket.clone()).or_default().refused.push(operation));
    }

    /// A condition that was right was kept in a bucket.
    pub fn learn_proven(&self, bucket: Option<&BucketName>) {
        self.with(|facts| {
            if let Some(there) = bucket.and_then(|bucket| facts.buckets.get_mut(bucket)) {
                there.proven = true;
            }
        });
    }

    /// The answer to a change in a bucket has named a version, or none.
    pub fn learn_versions(&self, bucket: &BucketName, named: bool) {
        self.with(|facts| {
            // Not for each request anew.
            if !facts.buckets.contains_key(bucket) {
                facts.buckets.insert(bucket.clone(), InBucket::default());
            }
            if let Some(there) = facts.buckets.get_mut(bucket).filter(|_| named) {
                there.versioned = true;
            }
        });
    }

    /// Whether a store's word that nothing was there must not be taken for it: in a bucket that nothing was changed in yet, or
    /// that keeps versions and has kept no condition.
    #[must_use]
    pub fn doubts_absence(&self, bucket: Option<&BucketName>) -> bool {
        self.with(|facts| {
            in_bucket(facts, bucket).is_none_or(|there| !there.refused.is_empty() || there.versioned && !there.proven)
        })
    }

    /// What a request with a tag that could not match has shown.
    pub fn learn_conditions(&self, operation: Operation, honoured: bool) {
        self.with(|facts| *slot(facts, operation) = if honoured { Known::Yes } else { Known::No });
    }

    /// Whether the store checks the condition on the source of a copy, or of a copied part.
    #[must_use]
    pub fn source_conditions(&self, operation: Operation) -> Known {
        self.with(|facts| *source_slot(facts, operation))
    }

    /// What one whose source could not match has shown.
    pub fn learn_source_conditions(&self, operation: Operation, honoured: bool) {
        self.with(|facts| *source_slot(facts, operation) = if honoured { Known::Yes } else { Known::No });
    }

    /// Whether the store checks the date of a copy's source.
    #[must_use]
    pub fn source_dates(&self) -> Known {
        self.with(|facts| facts.source_date)
    }

    /// What a copy whose source was too new has shown.
    pub fn learn_source_dates(&self, honoured: bool) {
        self.with(|facts| facts.source_date = if honoured { Known::Yes } else { Known::No });
    }

    /// Whether `If-Match` wants the tag without its quotes (radosgw 16).
    #[must_use]
    pub fn bare_etags(&self) -> bool {
        self.with(|facts| facts.bare_etags)
    }

    /// The bare form was right where the quoted one was not.
    pub fn learn_bare_etags(&self) {
        self.with(|facts| facts.bare_etags = true);
    }

    /// Whether the store is known to have a sub-resource.
    #[must_use]
    pub fn knows_document(&self, subresource: Subresource, level: Level) -> bool {
        self.with(|facts| facts.every_document || facts.documents.contains(&(subresource, level)))
    }

    /// It has answered a request for one as S3 would.
    pub fn learn_document(&self, subresource: Subresource, level: Level) {
        self.with(|facts| facts.documents.insert((subresource, level)));
    }

    /// Whether this endpoint has answered as an S3 store would.
    #[must_use]
    pub fn speaks_s3(&self) -> bool {
        self.with(|facts| facts.speaks_s3)
    }

    /// It has.
    pub fn learn_speaks_s3(&self) {
        self.with(|facts| facts.speaks_s3 = true);
    }

    /// What was found to be otherwise than on S3, in words.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        self.with(|facts| {
            let ignores = |what: &str| format!("{what}: looked at just before, so a window of one request remains");
            let mut said = Vec::new();
            for operation in [
                Operation::PutObject,
                Operation::CompleteMultipartUpload,
                Operation::CopyObject,
                Operation::DeleteObject,
                Operation::DeleteObjects,
            ] {
                if *slot(facts, operation) == Known::No {
                    said.push(ignores(&format!("ignores the condition of {operation}")));
                }
            }
            if facts.source == Known::No || facts.source_date == Known::No {
                said.push(ignores("ignores conditions on the source of a copy"));
            }
            if facts.checksums == Known::No {
                said.push("verifies no CRC64NVME checksum".to_owned());
            }
            if facts.bare_etags {
                said.push("wants tags without quotes in conditions".to_owned());
            }
            let mut refused: Vec<String> = facts
                .buckets
                .iter()
                .flat_map(|(bucket, there)| there.refused.iter().map(move |operation| (bucket, operation)))
                .map(|(bucket, operation)| ignores(&format!("refuses right conditions of {operation} in {bucket}")))
                .collect();
            refused.sort();
            said.extend(refused);
            said
        })
    }

    fn with<T>(&self, use_facts: impl FnOnce(&mut Facts) -> T) -> T {
        use_facts(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn in_bucket<'a>(facts: &'a Facts, bucket: Option<&BucketName>) -> Option<&'a InBucket> {
    facts.buckets.get(bucket?)
}

const fn source_slot(facts: &mut Facts, operation: Operation) -> &mut Known {
    match operation {
        Operation::UploadPartCopy => &mut facts.part_source,
        _ => &mut facts.source,
    }
}

fn slot(facts: &mut Facts, operation: Operation) -> &mut Known {
    match operation {
        Operation::CompleteMultipartUpload => &mut facts.complete,
        Operation::CopyObject => &mut facts.copy,
        Operation::DeleteObject => &mut facts.delete,
        Operation::DeleteObjects => &mut facts.delete_many,
        _ => &mut facts.put,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_learnt_by_itself() {
        let dialect = Dialect::default();
        dialect.learn_conditions(Operation::PutObject, true);
        dialect.learn_conditions(Operation::DeleteObject, false);
        assert_eq!(dialect.conditions(Operation::PutObject), Known::Yes);
        assert_eq!(dialect.conditions(Operation::DeleteObject), Known::No);
        assert_eq!(dialect.conditions(Operation::CopyObject), Known::Unknown);
        assert_eq!(Dialect::aws().conditions(Operation::CopyObject), Known::Yes);
        let said = dialect.differences();
        assert!(said.len() == 1 && said[0].starts_with("ignores the condition of DeleteObject"), "{said:?}");
        assert!(Dialect::aws().differences().is_empty());
    }

    #[test]
    fn a_bucket_with_versions_is_doubted_until_it_has_kept_a_condition() {
        let (dialect, odd, good) = (Dialect::default(), BucketName::new("odd").unwrap(), BucketName::new("good").unwrap());
        dialect.learn_conditions(Operation::PutObject, true);
        for bucket in [&odd, &good] {
            assert!(dialect.doubts_absence(Some(bucket)));
            dialect.learn_versions(bucket, false);
            assert!(!dialect.doubts_absence(Some(bucket)));
            dialect.learn_versions(bucket, true);
            assert!(dialect.doubts_absence(Some(bucket)));
        }
        dialect.learn_refused(&odd, Operation::PutObject);
        dialect.learn_proven(Some(&good));
        assert!(dialect.doubts_absence(Some(&odd)) && !dialect.doubts_absence(Some(&good)));
        assert_eq!(dialect.conditions_in(Some(&odd), Operation::PutObject), Known::No);
        assert_eq!(dialect.conditions_in(Some(&good), Operation::PutObject), Known::Yes);
    }
}
