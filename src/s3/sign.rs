//! AWS Signature Version 4 in headers. Pure.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use std::fmt;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::base::{date, encode};

/// The payload is covered by a checksum or by TLS, not by the signature.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// An access key with its secret. The secret cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key id.
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
    /// The session token of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).field("secret_key", &"***").finish_non_exhaustive()
    }
}

/// What is signed.
#[derive(Debug)]
pub struct ToSign<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, percent-encoded.
    pub path: &'a str,
    /// Names and values of the query, not encoded.
    pub query: &'a [(String, String)],
    /// All headers that are signed, lower-case names; `host`, `x-amz-date` and `x-amz-content-sha256` among them.
    pub headers: &'a [(String, String)],
    /// The value of `x-amz-content-sha256`.
    pub payload_hash: &'a str,
}

/// Lower-case hex SHA-256.
#[must_use]
pub fn sha256_hex<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for chunk in chunks {
        hash.update(chunk);
    }
    encode::hex(&hash.finalize())
}

/// The canonical, and sent, form of a query.
#[must_use]
pub fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{}={}", encode::uri(name), encode::uri(value))).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

/// The `Authorization` header of a request.
#[must_use]
pub fn authorization(request: &ToSign<'_>, credentials: &Credentials, region: &str, time: SystemTime) -> String {
    let stamp = date::compact(time);
    let day = &stamp[..8];
    let scope = format!("{day}/{region}/s3/aws4_request");
    let mut headers: Vec<(&str, String)> = request.headers.iter().map(|(name, value)| (name.as_str(), squeeze(value))).collect();
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method,
        request.path,
        canonical_query(request.query),
        request.payload_hash
    );
    let signature = signature(&canonical, credentials, region, &stamp);
    format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", credentials.access_key)
}

/// The query of a GET that anybody may send for a while: `X-Amz-*`, canonical, with its signature.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
#[must_use]
pub fn presigned_query(get: &Presigned<'_>, credentials: &Credentials, region: &str, time: SystemTime) -> String {
    let stamp = date::compact(time);
    let mut query = get.query.to_vec();
    let mut add = |name: &str, value: String| query.push((name.to_owned(), value));
    add("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned());
    add("X-Amz-Credential", format!("{}/{}/{region}/s3/aws4_request", credentials.access_key, &stamp[..8]));
    add("X-Amz-Date", stamp.clone());
    add("X-Amz-Expires", get.valid.as_secs().to_string());
    add("X-Amz-SignedHeaders", "host".to_owned());
    if let Some(token) = &credentials.session_token {
        add("X-Amz-Security-Token", token.clone());
    }
    let query = canonical_query(&query);
    let canonical = format!("GET\n{}\n{query}\nhost:{}\n\nhost\n{UNSIGNED_PAYLOAD}", get.path, get.host);
    format!("{query}&X-Amz-Signature={}", signature(&canonical, credentials, region, &stamp))
}

/// A GET to be signed in its query.
#[derive(Debug)]
pub struct Presigned<'a> {
    /// The host, with its port where that is not the usual one.
    pub host: &'a str,
    /// The path, percent-encoded.
    pub path: &'a str,
    /// Names and values of the query, not encoded.
    pub query: &'a [(String, String)],
    /// How long it is good.
    pub valid: Duration,
}

fn signature(canonical: &str, credentials: &Credentials, region: &str, stamp: &str) -> String {
    let day = &stamp[..8];
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{day}/{region}/s3/aws4_request\n{}", sha256_hex([canonical.as_bytes()]));
    let key = [region, "s3", "aws4_request"]
        .iter()
        .fold(hmac(format!("AWS4{}", credentials.secret_key).as_bytes(), day.as_bytes()), |key, part| {
            hmac(&key, part.as_bytes())
        });
    encode::hex(&hmac(&key, to_sign.as_bytes()))
}

/// Trimmed, inner runs of spaces as one.
fn squeeze(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn signature(method: &str, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)], payload: &str) -> String {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        let mut headers = own(headers);
        headers.extend(own(&[
            ("host", "examplebucket.s3.amazonaws.com"),
            ("x-amz-content-sha256", payload),
            ("x-amz-date", "20130524T000000Z"),
        ]));
        let time = date::parse_iso8601("2013-05-24T00:00:00Z").unwrap();
        let request = ToSign { method, path, query: &own(query), headers: &headers, payload_hash: payload };
        let text = authorization(&request, &credentials, "us-east-1", time);
        text.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn aws_example_presigned_get() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let get = Presigned {
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: &[],
            valid: Duration::from_secs(86400),
        };
        let time = date::parse_iso8601("2013-05-24T00:00:00Z").unwrap();
        let query = presigned_query(&get, &credentials, "us-east-1", time);
        assert_eq!(
            query,
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn aws_example_get_object() {
        let expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(signature("GET", "/test.txt", &[], &[("range", "bytes=0-9")], EMPTY), expected);
    }

    #[test]
    fn aws_example_put_object() {
        let payload = sha256_hex([&b"Welcome to "[..], &b"Amazon S3."[..]]);
        let headers = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let expected = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
        assert_eq!(signature("PUT", "/test%24file.text", &[], &headers, &payload), expected);
    }

    #[test]
    fn aws_example_get_bucket_lifecycle() {
        let expected = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
        assert_eq!(signature("GET", "/", &[("lifecycle", "")], &[], EMPTY), expected);
    }

    #[test]
    fn aws_example_list_objects() {
        let expected = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
        assert_eq!(signature("GET", "/", &[("max-keys", "2"), ("prefix", "J")], &[], EMPTY), expected);
    }

    #[test]
    fn a_secret_is_never_printed() {
        let credentials =
            Credentials { access_key: "AK".into(), secret_key: "very-secret".into(), session_token: Some("token-secret".into()) };
        let text = format!("{credentials:?}");
        assert!(text.contains("AK") && !text.contains("secret-") && !text.contains("very") && !text.contains("token-"), "{text}");
    }
}
