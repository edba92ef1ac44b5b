//! `BucketService` over HTTP.

use super::S3Store;
use super::{request, response, xml};
use crate::store::*;

impl BucketService for S3Store {
    async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let request = request::list_buckets(token.as_deref());
            let answered = self.0.call(request.clone()).await?;
            let (buckets, next) = xml::buckets(&answered.body).ok_or_else(|| self.0.not_s3(&request))?;
            self.0.dialect.learn_speaks_s3();
            all.extend(buckets);
            match next {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                _ => return Ok(all),
            }
        }
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo> {
        let answered = self.0.call(request::head_bucket(bucket)).await?;
        self.0.dialect.learn_speaks_s3();
        Ok(BucketInfo { region: response::text(&answered.headers, "x-amz-bucket-region") })
    }

    async fn location(&self, bucket: &BucketName) -> Result<String> {
        let request = request::bucket_location(bucket);
        let answered = self.0.call(request.clone()).await?;
        xml::location(&answered.body).ok_or_else(|| self.0.not_s3(&request))
    }

    async fn create_bucket(&self, bucket: &BucketName, location: Option<&str>) -> Result<()> {
        if self.0.endpoint.is_aws() {
            // Each of its endpoints makes buckets in its own region only.
            self.0.remember_region(Some(bucket), location.unwrap_or("us-east-1").to_owned());
        }
        self.0.call(request::create_bucket(bucket, location)).await.map(|_| ())
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        self.0.call(request::delete_bucket(bucket)).await.map(|_| ())
    }

    async fn restore(&self, request: &RestoreObject) -> Result<()> {
        self.0.call(request::restore(request)).await.map(|_| ())
    }
}
