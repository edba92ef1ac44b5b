//! Multipart uploads.

use http::StatusCode;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput, Initiator,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Owner, Part,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::convert::{bucket, condition, crc64nvme, invalid, object, refuse, signed, strong, timestamp, upload};
use super::listings::{Encoding, folded};
use super::receive::{self, Delivery};
use super::{Answer, OWNER, properties};
use crate::base::clock;
use crate::store::memory::{Declared, Memory};
use crate::store::{
    CompleteUpload, CreateUpload, ETag, MAX_PAGE_KEYS, MAX_PARTS, ObjectStore as _, PartNumber, Prefix, UploadPart,
};

pub(super) fn part_number(number: i32) -> S3Result<PartNumber> {
    let message = format!("Part number must be an integer between 1 and {MAX_PARTS}, inclusive");
    u16::try_from(number).ok().and_then(PartNumber::new).ok_or_else(|| invalid(message))
}

pub(super) fn create(memory: &Memory, req: &S3Request<CreateMultipartUploadInput>) -> Answer<CreateMultipartUploadOutput> {
    let to = object(&req.input.bucket, &req.input.key, None)?;
    let sums = (req.input.checksum_algorithm.as_ref(), req.input.checksum_type.as_ref());
    if let (Some(algorithm), Some(kind)) = sums
        && (algorithm.as_str(), kind.as_str()) == (ChecksumAlgorithm::CRC64NVME, ChecksumType::COMPOSITE)
    {
        let message = "The COMPOSITE checksum type cannot be used with the crc64nvme checksum algorithm.";
        return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
    }
    let request = CreateUpload { bucket: to.bucket, key: to.key, properties: properties::read(&req.headers)? };
    let begun = memory.create_upload_now(&request).map_err(refuse)?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(req.input.bucket.clone()),
        key: Some(req.input.key.clone()),
        upload_id: Some(begun.id.as_str().to_owned()),
        checksum_algorithm: req.input.checksum_algorithm.clone(),
        checksum_type: req.input.checksum_type.clone(),
        ..CreateMultipartUploadOutput::default()
    }))
}

pub(super) async fn upload_part(memory: &Memory, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
    let input = req.input;
    let upload = upload(&input.bucket, &input.key, &input.upload_id)?;
    let number = part_number(input.part_number)?;
    let delivery = Delivery { body: input.body, headers: &req.headers, trailers: req.trailing_headers };
    let received = delivery.receive(memory.options().data).await?;
    let sums = receive::answer(&received.checksums);
    let request = UploadPart { upload, number, payload: received.payload };
    let part = memory.upload_part_now(&request, received.checksums).map_err(refuse)?;
    Ok(S3Response::new(UploadPartOutput {
        e_tag: Some(strong(&part.etag)),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..UploadPartOutput::default()
    }))
}

pub(super) fn complete(memory: &Memory, input: CompleteMultipartUploadInput) -> Answer<CompleteMultipartUploadOutput> {
    let parts = input.multipart_upload.and_then(|list| list.parts).unwrap_or_default();
    let request = CompleteUpload {
        upload: upload(&input.bucket, &input.key, &input.upload_id)?,
        parts: parts.into_iter().map(completed).collect::<S3Result<_>>()?,
        condition: condition(input.if_match.as_ref(), input.if_none_match.as_ref())?,
    };
    let declared = Declared {
        crc64nvme: input.checksum_crc64nvme.as_deref().map(crc64nvme).transpose()?,
        size: input.mpu_object_size.map(|size| u64::try_from(size).map_err(|_| invalid("A size is negative."))).transpose()?,
    };
    let made = memory.complete_now(&request, declared).map_err(refuse)?;
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(strong(&made.etag)),
        checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        checksum_crc64nvme: made.checksums.get("crc64nvme").cloned(),
        ..CompleteMultipartUploadOutput::default()
    }))
}

fn completed(part: CompletedPart) -> S3Result<crate::store::Part> {
    let missing = || S3Error::from(S3ErrorCode::MalformedXML);
    let tag = part.e_tag.as_ref().ok_or_else(missing)?;
    Ok(crate::store::Part {
        number: part_number(part.part_number.ok_or_else(missing)?)?,
        etag: ETag::new(tag.value()),
        crc64nvme: part.checksum_crc64nvme.as_deref().map(crc64nvme).transpose()?,
        // Not known here and not compared.
        tag_is_md5: false,
        size: 0,
    })
}

pub(super) async fn abort(memory: &Memory, input: AbortMultipartUploadInput) -> Answer<AbortMultipartUploadOutput> {
    let upload = upload(&input.bucket, &input.key, &input.upload_id)?;
    memory.abort_upload(&upload).await.map_err(refuse)?;
    Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), StatusCode::NO_CONTENT))
}

pub(super) async fn list_parts(memory: &Memory, input: ListPartsInput) -> Answer<ListPartsOutput> {
    let upload = upload(&input.bucket, &input.key, &input.upload_id)?;
    let limit = limit(input.max_parts, "max-parts")?;
    let marker = input.part_number_marker.unwrap_or(0);
    let all = memory.list_parts(&upload).await.map_err(refuse)?;
    let mut rest = all.into_iter().filter(|part| i32::from(part.number.get()) > marker);
    let now = timestamp(clock::now());
    let page: Vec<Part> = rest
        .by_ref()
        .take(limit)
        .map(|part| Part {
            part_number: Some(i32::from(part.number.get())),
            e_tag: Some(strong(&part.etag)),
            size: Some(signed(part.size)),
            checksum_crc64nvme: part.crc64nvme.map(|sum| sum.to_string()),
            last_modified: Some(now.clone()),
            ..Part::default()
        })
        .collect();
    let more = rest.next().is_some();
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: i32::try_from(limit).ok(),
        part_number_marker: Some(marker),
        next_part_number_marker: page.last().filter(|_| more).and_then(|last| last.part_number),
        is_truncated: Some(more),
        initiator: Some(Initiator { id: Some(OWNER.to_owned()), display_name: Some(OWNER.to_owned()) }),
        owner: Some(owner()),
        parts: Some(page),
        ..ListPartsOutput::default()
    }))
}

fn owner() -> Owner {
    Owner { id: Some(OWNER.to_owned()), display_name: Some(OWNER.to_owned()) }
}

/// S3 takes more than its largest page, and gives no more than that.
pub(super) fn limit(asked: Option<i32>, name: &str) -> S3Result<usize> {
    let most = usize::from(MAX_PAGE_KEYS);
    let wrong = |_| invalid(format!("Argument {name} must be an integer between 0 and 2147483647"));
    asked.map_or(Ok(most), |asked| usize::try_from(asked).map(|asked| asked.min(most)).map_err(wrong))
}

pub(super) async fn list(memory: &Memory, input: ListMultipartUploadsInput) -> Answer<ListMultipartUploadsOutput> {
    let name = bucket(&input.bucket)?;
    let encoding = Encoding::of(input.encoding_type.as_ref());
    let limit = limit(input.max_uploads, "max-uploads")?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.key_marker.clone().filter(|marker| !marker.is_empty());
    let after = after.map(|marker| (marker, input.upload_id_marker.clone().unwrap_or_default()));
    let page = memory.list_uploads(&name, &Prefix::new(&prefix), after).await.map_err(refuse)?;
    let (mut uploads, mut prefixes, mut more) = (Vec::new(), Vec::new(), page.next.is_some());
    let mut last = None;
    for (upload, begun) in page.uploads {
        let key = upload.key.as_str();
        let fold = folded(key, &prefix, input.delimiter.as_deref()).map(str::to_owned);
        if fold.is_some() && fold.as_ref() == prefixes.last() {
            last = Some((upload.key, upload.id));
            continue;
        }
        if uploads.len() + prefixes.len() == limit {
            more = true;
            break;
        }
        match fold {
            Some(fold) => prefixes.push(fold),
            None => uploads.push(MultipartUpload {
                key: Some(encoding.write(key)),
                upload_id: Some(upload.id.as_str().to_owned()),
                initiated: Some(timestamp(begun)),
                owner: Some(owner()),
                ..MultipartUpload::default()
            }),
        }
        last = Some((upload.key, upload.id));
    }
    let next = last.filter(|_| more);
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix.map(|prefix| encoding.write(&prefix)),
        delimiter: input.delimiter.map(|delimiter| encoding.write(&delimiter)),
        key_marker: input.key_marker.map(|marker| encoding.write(&marker)),
        upload_id_marker: input.upload_id_marker,
        next_key_marker: next.as_ref().map(|(key, _)| encoding.write(key.as_str())),
        next_upload_id_marker: next.as_ref().map(|(_, id)| id.as_str().to_owned()),
        max_uploads: i32::try_from(limit).ok(),
        is_truncated: Some(more),
        encoding_type: input.encoding_type,
        common_prefixes: Some(prefixes.iter().map(|prefix| encoding.prefix(prefix)).collect()),
        uploads: Some(uploads),
        ..ListMultipartUploadsOutput::default()
    }))
}
