//! Where a request goes: scheme, host and path, by style. Pure.

use super::config::{Addressing, S3Config};
use crate::base::encode;
use crate::store::{BucketName, Key};

/// The store's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: String,
    authority: String,
    addressing: Addressing,
    aws: bool,
}

/// The endpoint is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an endpoint: use http://HOST[:PORT] or https://HOST[:PORT]")]
pub struct InvalidEndpoint(String);

/// Host and path of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `http` or `https`.
    pub scheme: String,
    /// The `Host` header.
    pub authority: String,
    /// The path, percent-encoded as it is signed.
    pub path: String,
}

impl Endpoint {
    /// The endpoint of a configuration.
    ///
    /// # Errors
    /// [`InvalidEndpoint`].
    pub fn new(config: &S3Config) -> Result<Self, InvalidEndpoint> {
        let Some(url) = &config.endpoint else {
            let authority = format!("s3.{}.amazonaws.com", config.region);
            return Ok(Self { scheme: "https".to_owned(), authority, addressing: config.addressing, aws: true });
        };
        let invalid = || InvalidEndpoint(url.clone());
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        let authority = rest.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if !matches!(scheme, "http" | "https") || authority.is_empty() || !authority.chars().all(plain) {
            return Err(invalid());
        }
        let aws = authority.ends_with(".amazonaws.com") || authority.ends_with(".amazonaws.com.cn");
        Ok(Self { scheme: scheme.to_owned(), authority: authority.to_ascii_lowercase(), addressing: config.addressing, aws })
    }

    /// Whether this is Amazon's own S3.
    #[must_use]
    pub const fn is_aws(&self) -> bool {
        self.aws
    }

    /// The store by name: the same for all regions of Amazon's own S3.
    #[must_use]
    pub fn name(&self) -> String {
        if self.aws { "aws".to_owned() } else { format!("{}://{}", self.scheme, self.authority) }
    }

    /// Where a request for `bucket` and `key` goes, in a bucket that lies in `region` (as far as known).
    #[must_use]
    pub fn place(&self, bucket: Option<&BucketName>, key: Option<&Key>, region: Option<&str>) -> Place {
        let authority = match region {
            // AWS has one host for each region; elsewhere there is one host.
            Some(region) if self.aws && self.authority.matches('.').count() <= 3 => format!("s3.{region}.amazonaws.com"),
            _ => self.authority.clone(),
        };
        let key = key.map(|key| encode::uri_path(key.as_str())).unwrap_or_default();
        let scheme = self.scheme.clone();
        match bucket {
            None => Place { scheme, authority, path: "/".to_owned() },
            Some(bucket) if self.in_host(bucket) => {
                Place { scheme, authority: format!("{bucket}.{authority}"), path: format!("/{key}") }
            }
            Some(bucket) if key.is_empty() => Place { scheme, authority, path: format!("/{bucket}") },
            Some(bucket) => Place { scheme, authority, path: format!("/{bucket}/{key}") },
        }
    }

    fn in_host(&self, bucket: &BucketName) -> bool {
        match self.addressing {
            Addressing::Path => false,
            Addressing::VirtualHost => true,
            // A dot would not match the certificate.
            Addressing::Auto => self.aws && !bucket.as_str().contains('.'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: Option<&str>, addressing: Addressing) -> Endpoint {
        let config = S3Config { endpoint: url.map(str::to_owned), region: "eu-west-1".into(), addressing, ..S3Config::default() };
        Endpoint::new(&config).unwrap()
    }

    #[test]
    fn styles() {
        let (bucket, key) = (BucketName::new("my-bucket").unwrap(), Key::new("a b/../c+").unwrap());
        let at = |endpoint: &Endpoint, region| {
            let place = endpoint.place(Some(&bucket), Some(&key), region);
            format!("{}://{}{}", place.scheme, place.authority, place.path)
        };
        let local = endpoint(Some("http://127.0.0.1:9000/"), Addressing::Auto);
        assert_eq!(at(&local, None), "http://127.0.0.1:9000/my-bucket/a%20b/../c%2B");
        let hosted = endpoint(Some("http://s3.test:9000"), Addressing::VirtualHost);
        assert_eq!(at(&hosted, None), "http://my-bucket.s3.test:9000/a%20b/../c%2B");
        let aws = endpoint(None, Addressing::Auto);
        assert_eq!(at(&aws, None), "https://my-bucket.s3.eu-west-1.amazonaws.com/a%20b/../c%2B");
        assert_eq!(at(&aws, Some("us-east-2")), "https://my-bucket.s3.us-east-2.amazonaws.com/a%20b/../c%2B");
        let dotted = BucketName::new("my.bucket").unwrap();
        assert_eq!(aws.place(Some(&dotted), None, None).path, "/my.bucket");
        assert_eq!((local.name().as_str(), aws.name().as_str()), ("http://127.0.0.1:9000", "aws"));
        for bad in ["localhost", "ftp://x", "http://", "http://a b", "http://h/path"] {
            let config = S3Config { endpoint: Some(bad.into()), ..S3Config::default() };
            assert!(Endpoint::new(&config).is_err(), "{bad}");
        }
    }
}
