//! Conditions on stores of which it is not known whether they keep them.
//!
//! On an unknown store the first `If-Match` of each operation follows a HEAD and carries a tag that cannot match: 412 proves
//! support, and the request is repeated with the right tag; success was the commit itself, and the store is known to ignore
//! conditions. On a store that ignores them the object is looked at just before each request: a lost-update window of one
//! request remains. A 412 although HEAD shows the wanted tag is a dialect (radosgw wants it without quotes), not a conflict.

use std::time::SystemTime;

use super::S3Store;
use super::client::Answered;
use super::dialect::Known;
use super::request::Request;
use super::response;
use crate::base::date;
use crate::store::{
    BucketName, Condition, DeleteKey, ETag, Error, ErrorKind, HeadObject, ObjectRef, ObjectStore as _, Operation, Result,
};

/// No object has this tag.
const IMPOSSIBLE_ETAG: &str = "00000000000000000000000000000000-pailfs";

/// The answer to a condition that does not hold.
const PRECONDITION_FAILED: u16 = 412;

/// What the conditions on the source of a copy begin with.
const SOURCE_CONDITIONS: &str = "x-amz-copy-source-if";
const UNMODIFIED_SINCE: &str = "x-amz-copy-source-if-unmodified-since";

impl S3Store {
    /// Sends a request under its condition, whatever the store makes of it.
    pub(super) async fn call_conditional(&self, request: Request) -> Result<Answered> {
        let bucket = request.bucket.clone();
        let answered = match request.condition.clone() {
            Condition::None => self.0.call(request).await,
            Condition::IfAbsent => self.call_if_absent(request).await,
            Condition::IfMatch(etag) => self.call_if_match(request, &etag).await,
        }?;
        if let Some(bucket) = bucket.filter(|_| !self.0.endpoint.is_aws()) {
            self.0.dialect.learn_versions(&bucket, response::version(&answered.headers).is_some());
        }
        Ok(answered)
    }

    async fn call_if_absent(&self, request: Request) -> Result<Answered> {
        // A PUT's `If-None-Match: *` needs no test: what else would the store answer? The others are ignored by some stores.
        let trusted = match self.0.dialect.conditions_in(request.bucket.as_ref(), request.operation) {
            _ if !self.0.endpoint.is_aws() && self.0.dialect.doubts_absence(request.bucket.as_ref()) => false,
            Known::Yes => true,
            Known::Unknown => request.operation == Operation::PutObject,
            Known::No => false,
        };
        if !trusted {
            let there = match self.current_etag(&request).await {
                // Who may only write has to believe the store.
                Err(error) if error.kind() == ErrorKind::Denied && request.operation == Operation::PutObject => None,
                there => there?,
            };
            if there.is_some() {
                return Err(conflict(&request, ErrorKind::Exists));
            }
            if let Some(answered) = self.learn_absence(&request).await? {
                return Ok(answered);
            }
        }
        self.0.call(request).await
    }

    /// Learns from a copy to where nothing is, as was just looked, by a tag that cannot match. `Some`: it was carried out.
    async fn learn_absence(&self, request: &Request) -> Result<Option<Answered>> {
        let dialect = &self.0.dialect;
        let is_unknown = dialect.conditions_in(request.bucket.as_ref(), request.operation) == Known::Unknown;
        // Its source was looked at just before, too: one status for both conditions would tell nothing.
        let is_looked_at = dialect.source_conditions(request.operation) != Known::Yes;
        if request.operation != Operation::CopyObject || !is_unknown || !is_looked_at {
            return Ok(None);
        }
        let mut probe = request.clone();
        probe.headers.retain(|(name, _)| !name.starts_with(SOURCE_CONDITIONS));
        match self.learn_condition(&probe).await {
            // Nothing is there that could match. Or there is no source any more: then this says so again.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let answered = self.0.call(request.clone()).await?;
                dialect.learn_conditions(request.operation, true);
                Ok(Some(answered))
            }
            learnt => learnt,
        }
    }

    async fn call_if_match(&self, request: Request, etag: &ETag) -> Result<Answered> {
        match self.0.dialect.conditions_in(request.bucket.as_ref(), request.operation) {
            Known::Yes => self.call_honoured(request, etag).await,
            Known::No => {
                self.must_be(&request, etag).await?;
                self.0.call(Request { condition: Condition::None, ..request }).await
            }
            Known::Unknown => {
                self.must_be(&request, etag).await?;
                match self.learn_condition(&request).await? {
                    Some(answered) => Ok(answered),
                    None => self.call_honoured(request, etag).await,
                }
            }
        }
    }

    /// Sends a request with a tag that cannot match. `Some`: it was carried out all the same.
    async fn learn_condition(&self, request: &Request) -> Result<Option<Answered>> {
        let probe = Request { condition: Condition::IfMatch(ETag::new(IMPOSSIBLE_ETAG)), ..request.clone() };
        match self.0.call(probe).await {
            Ok(answered) => {
                self.0.dialect.learn_conditions(request.operation, false);
                tracing::warn!(operation = %request.operation, "this store ignores conditions: others' changes are looked for just before");
                Ok(Some(answered))
            }
            Err(error) if error.kind() == ErrorKind::Changed => {
                self.0.dialect.learn_conditions(request.operation, true);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`S3Store::learn_condition`], of the tags in a `DeleteObjects`, by one of its keys. `Some`: what became of it, since
    /// the store ignores them.
    pub(super) async fn learn_batch_condition(&self, bucket: &BucketName, one: &DeleteKey) -> Result<Option<Result<()>>> {
        let object = ObjectRef::current(bucket.clone(), one.key.clone());
        let changed = |words: &str| Error::new(ErrorKind::Changed, Operation::DeleteObjects, &object, words);
        match self.head(&HeadObject { object: object.clone() }).await {
            Ok(info) if one.etag.as_ref() == Some(&info.etag) => {}
            Ok(_) => return Ok(Some(Err(changed("the object is another one now")))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(Ok(()))),
            Err(error) => return Err(error),
        }
        let probe = DeleteKey { etag: Some(ETag::new(IMPOSSIBLE_ETAG)), ..one.clone() };
        let refused = self.delete_batch(bucket, &[probe]).await?.remove(one.key.as_str());
        match refused {
            Some(error) if error.kind() == ErrorKind::Changed => {
                self.0.dialect.learn_conditions(Operation::DeleteObjects, true);
                Ok(None)
            }
            Some(error) => Ok(Some(Err(error))),
            None => {
                self.0.dialect.learn_conditions(Operation::DeleteObjects, false);
                tracing::warn!("this store ignores the conditions of DeleteObjects: others' changes are looked for just before");
                Ok(Some(Ok(())))
            }
        }
    }

    /// Sends a condition that the store keeps. A 412 against what HEAD shows is a matter of quotes, or the bucket's: then
    /// looking just before has to do.
    async fn call_honoured(&self, request: Request, etag: &ETag) -> Result<Answered> {
        let dialect = &self.0.dialect;
        let mut error = match self.0.call(request.clone()).await {
            Ok(answered) => {
                dialect.learn_proven(request.bucket.as_ref());
                return Ok(answered);
            }
            Err(error) => error,
        };
        // One status for all conditions: with one on its source, too, nothing can be told.
        let of_source = request.headers.iter().any(|(name, _)| name.starts_with(SOURCE_CONDITIONS));
        // Two tries in both forms: that another client has put the same bytes back meanwhile must not teach anything.
        for bare in [true, dialect.bare_etags()] {
            if of_source && (dialect.bare_etags() || !bare) {
                return Err(error);
            }
            let failed = error.kind() == ErrorKind::Changed && error.story().status == Some(PRECONDITION_FAILED);
            if !failed || self.0.endpoint.is_aws() || self.current_etag(&request).await?.as_ref() != Some(etag) {
                return Err(error);
            }
            let form = if bare { etag.as_str().to_owned() } else { etag.quoted() };
            let again = Request { condition: Condition::None, ..request.clone() }.header("if-match", form);
            match self.0.call(Request { source_etag: Some(etag.clone()), ..again }).await {
                Ok(answered) => {
                    if bare {
                        dialect.learn_bare_etags();
                    }
                    dialect.learn_proven(request.bucket.as_ref());
                    return Ok(answered);
                }
                Err(another) => error = another,
            }
        }
        let Some(bucket) = request.bucket.as_ref().filter(|_| error.story().status == Some(PRECONDITION_FAILED)) else {
            return Err(error);
        };
        self.must_be(&request, etag).await?;
        dialect.learn_refused(bucket, request.operation);
        tracing::warn!(%bucket, operation = %request.operation, "conditions fail in this bucket though they are right: others' changes are looked for just before");
        self.0.call(Request { condition: Condition::None, ..request }).await
    }

    /// The source of a copy, looked at first where the store is not known to do so.
    pub(super) async fn check_source(&self, request: &Request, source: &ObjectRef, etag: Option<&ETag>) -> Result<()> {
        let Some(etag) = etag else { return Ok(()) };
        // A copy onto itself has the same condition on its destination.
        let itself = request.key.as_ref() == Some(&source.key) && request.bucket.as_ref() == Some(&source.bucket);
        if self.0.dialect.source_conditions(request.operation) == Known::Yes || itself && request.condition != Condition::None {
            return Ok(());
        }
        let info = self.head(&HeadObject { object: source.clone() }).await?;
        if info.etag == *etag { Ok(()) } else { Err(conflict(request, ErrorKind::Changed)) }
    }

    /// Learns from a copy whether the store checks the condition on its source: the first one that is otherwise in order
    /// carries a tag that cannot match. `Some`: it was carried out all the same, and was the copy itself.
    pub(super) async fn learn_source_condition(&self, request: &Request) -> Result<Option<Answered>> {
        let dialect = &self.0.dialect;
        // With a destination whose condition is not kept for sure, a copy that succeeds could replace what it must not.
        let in_order = request.condition == Condition::None
            || dialect.conditions_in(request.bucket.as_ref(), request.operation) == Known::Yes;
        if request.source_etag.is_none() || dialect.source_conditions(request.operation) != Known::Unknown || !in_order {
            return Ok(None);
        }
        let mut probe = request.clone();
        for (name, value) in &mut probe.headers {
            if name == "x-amz-copy-source-if-match" {
                *value = ETag::new(IMPOSSIBLE_ETAG).quoted();
            }
        }
        match self.0.call(probe).await {
            Ok(answered) => {
                dialect.learn_source_conditions(request.operation, false);
                Ok(Some(answered))
            }
            Err(error) if error.kind() == ErrorKind::Changed => {
                dialect.learn_source_conditions(request.operation, true);
                Ok(None)
            }
            // One status for both conditions: it was the source's when the destination is free.
            Err(error) if error.kind() == ErrorKind::Exists && self.current_etag(request).await?.is_none() => {
                dialect.learn_source_conditions(request.operation, true);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a copy whose source must not have been written after `since`, whatever the store makes of that.
    pub(super) async fn copy_unchanged(&self, request: Request, source: &ObjectRef, since: SystemTime) -> Result<Answered> {
        let dialect = &self.0.dialect;
        let dated = |time| request.clone().header(UNMODIFIED_SINCE, date::http(time));
        let kept = || {
            request.condition == Condition::None
                || dialect.conditions_in(request.bucket.as_ref(), request.operation) == Known::Yes
        };
        if kept() && dialect.source_dates() == Known::Yes {
            return self.call_conditional(dated(since)).await;
        }
        let info = self.head(&HeadObject { object: source.clone() }).await?;
        let other = matches!(&request.condition, Condition::IfMatch(etag) if *etag != info.etag);
        if other || date::unix_seconds(info.last_modified) > date::unix_seconds(since) {
            return Err(conflict(&request, ErrorKind::Changed));
        }
        if matches!(request.condition, Condition::IfMatch(_))
            && dialect.conditions_in(request.bucket.as_ref(), request.operation) == Known::Unknown
            && let Some(answered) = self.learn_condition(&request).await?
        {
            return Ok(answered);
        }
        if dialect.conditions_in(request.bucket.as_ref(), request.operation) == Known::No {
            // It was looked at just now.
            return self.0.call(Request { condition: Condition::None, ..request }).await;
        }
        if !kept() || dialect.source_dates() == Known::No {
            return self.call_conditional(request).await;
        }
        // As with tags: a date that cannot hold proves what the store does.
        match self.call_conditional(dated(SystemTime::UNIX_EPOCH)).await {
            Ok(answered) => {
                dialect.learn_source_dates(false);
                Ok(answered)
            }
            Err(error) if error.kind() == ErrorKind::Changed => {
                dialect.learn_source_dates(true);
                self.call_conditional(dated(since)).await
            }
            Err(error) => Err(error),
        }
    }

    async fn must_be(&self, request: &Request, etag: &ETag) -> Result<()> {
        if self.current_etag(request).await?.as_ref() == Some(etag) { Ok(()) } else { Err(conflict(request, ErrorKind::Changed)) }
    }

    async fn current_etag(&self, request: &Request) -> Result<Option<ETag>> {
        let (Some(bucket), Some(key)) = (&request.bucket, &request.key) else { return Ok(None) };
        let object = ObjectRef::current(bucket.clone(), key.clone());
        match self.head(&HeadObject { object }).await {
            Ok(info) => Ok(Some(info.etag)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn conflict(request: &Request, kind: ErrorKind) -> Error {
    let words = if kind == ErrorKind::Exists { "there is an object already" } else { "the object is another one now" };
    Error::new(kind, request.operation, request.target(), words)
}
