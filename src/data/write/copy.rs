//! Copies of objects that are larger than one `CopyObject` takes: a multipart upload whose parts are ranges of the source.

use super::Destination;
use super::settle::{Change, Source, settled};
use crate::data::{Error, Result};
use crate::store::{
    ByteRange, Committed, CompleteUpload, Condition, CopyPart, CreateUpload, HeadObject, MAX_PARTS, ObjectStore, Part,
    PartNumber, Upload,
};

/// The size of a copied part, in bytes: large, since nothing travels, yet small enough that several run at once.
const COPY_PART_BYTES: u64 = 1 << 30;
/// Parts copied at once.
const PARALLEL_COPIES: usize = 8;

/// Copies `source` to `target` by parallel `UploadPartCopy`; aborts what it cannot finish.
pub(super) async fn copy_in_parts<S: ObjectStore>(
    store: &S,
    source: Source,
    target: &Destination,
    condition: Condition,
) -> Result<Committed> {
    let create = CreateUpload { bucket: target.bucket.clone(), key: target.key.clone(), properties: target.properties.clone() };
    let upload = store.create_upload(&create).await?;
    let copied = copy_parts(store, &upload, &source).await;
    let done = match copied {
        Ok(parts) => {
            let request = CompleteUpload { upload: upload.clone(), parts, condition: Condition::None };
            settled(store, target, &condition, Change::Complete(request)).await
        }
        Err(error) => Err(error),
    };
    if done.is_err()
        && let Err(error) = store.abort_upload(&upload).await
    {
        tracing::warn!(%error, "an upload could not be aborted; its parts cost money until it is");
    }
    done
}

async fn copy_parts<S: ObjectStore>(store: &S, upload: &Upload, source: &Source) -> Result<Vec<Part>> {
    let Source { object, etag, size, .. } = source;
    let size = *size;
    use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
    let part_bytes = COPY_PART_BYTES.max(size.div_ceil(u64::from(MAX_PARTS)));
    let count = u16::try_from(size.div_ceil(part_bytes)).map_err(|_| Error::TooLarge)?;
    let requests = (1..=count).filter_map(|number| {
        let start = u64::from(number - 1) * part_bytes;
        let range = ByteRange::new(start, (start + part_bytes).min(size))?;
        Some(CopyPart {
            upload: upload.clone(),
            number: PartNumber::new(number)?,
            source: object.clone(),
            source_if_match: Some(etag.clone()),
            range,
        })
    });
    let parts = stream::iter(requests)
        .map(|request| async move { store.copy_part(&request).await })
        .buffered(PARALLEL_COPIES)
        .try_collect()
        .await?;
    // Some stores ignore the condition on a part's source: then a change in between shows only now.
    let info = store.head(&HeadObject { object: object.clone() }).await?;
    if info.etag == *etag { Ok(parts) } else { Err(Error::Stale) }
}
