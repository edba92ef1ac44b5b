//! `pailfs uploads`: incomplete multipart uploads, which nobody sees and everybody pays for.

use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::args::{Uploads, UploadsAction, UploadsOf};
use super::{Outcome, mounting, settings};
use crate::base::{clock, date, rng::Rng};
use crate::fs::config::Source;
use crate::s3::S3Store;
use crate::store::{BucketName, ErrorKind, ObjectStore, Prefix, Retry, RetryPolicy, Upload};

/// Uploads that are asked about at once.
const PARALLEL: usize = 16;

/// An upload with what it costs.
struct Found {
    upload: Upload,
    begun: SystemTime,
    bytes: u64,
}

/// Lists or aborts.
pub(super) fn uploads(arguments: &Uploads) -> Outcome {
    let (of, abort) = match &arguments.action {
        UploadsAction::List(of) => (of, false),
        UploadsAction::Abort(of) => (of, true),
    };
    mounting::runtime()?.block_on(async {
        let Source::Bucket { bucket, prefix } = settings::source(&of.source)? else {
            return Err("name a bucket: uploads are a bucket's".to_owned());
        };
        let s3 = S3Store::new(settings::store(&of.store).await).await.map_err(|error| error.to_string())?;
        let store = Retry::new(s3, RetryPolicy::default(), Rng::from_os());
        let found = find(&store, &bucket, &Prefix::new(&prefix), of.older_than).await.map_err(|error| error.to_string())?;
        if abort { abort_all(&store, found).await } else { show(&found, of) }
    })
}

async fn find<S: ObjectStore>(
    store: &S,
    bucket: &BucketName,
    prefix: &Prefix,
    older_than: Option<Duration>,
) -> crate::store::Result<Vec<Found>> {
    let now = clock::now();
    let old = |begun: &SystemTime| older_than.is_none_or(|limit| now.duration_since(*begun).unwrap_or_default() >= limit);
    let mut uploads = Vec::new();
    let mut after = None;
    loop {
        let page = store.list_uploads(bucket, prefix, after.clone()).await?;
        uploads.extend(page.uploads.into_iter().filter(|(_, begun)| old(begun)));
        match page.next {
            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
            _ => break,
        }
    }
    let sized = stream::iter(uploads).map(|(upload, begun)| async move {
        let parts = match store.list_parts(&upload).await {
            // One that ends meanwhile keeps nothing.
            Err(error) if error.kind() == ErrorKind::NoUpload => Vec::new(),
            parts => parts?,
        };
        Ok(Found { bytes: parts.iter().map(|part| part.size).sum(), upload, begun })
    });
    sized.buffered(PARALLEL).try_collect().await
}

fn show(found: &[Found], of: &UploadsOf) -> Outcome {
    for Found { upload, begun, bytes } in found {
        let (begun, key, id) = (date::iso8601(*begun), upload.key.as_str(), upload.id.as_str());
        if of.json {
            say!("{}", serde_json::json!({ "begun": begun, "bytes": bytes, "key": key, "id": id }));
        } else {
            // One a line, whatever the key holds.
            say!("{begun}\t{bytes}\t{}\t{id}", key.escape_debug());
        }
    }
    Ok(())
}

async fn abort_all<S: ObjectStore>(store: &S, found: Vec<Found>) -> Outcome {
    let count = found.len();
    let bytes: u64 = found.iter().map(|found| found.bytes).sum();
    let aborts = stream::iter(found).map(|found| async move {
        store.abort_upload(&found.upload).await.map_err(|error| format!("{}: {error}", found.upload.key))
    });
    let failed: Vec<String> = aborts.buffer_unordered(PARALLEL).filter_map(|done| std::future::ready(done.err())).collect().await;
    say!("{} aborted, which kept {bytes} bytes", count - failed.len());
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}
