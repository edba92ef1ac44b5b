//! Where a bucket lies, as people and S3 write it. Pure.
//!
//! S3 calls it a location; on AWS it is a region, on Ceph a zone group. The names of boto's tutorial are understood.

use std::fmt;

/// Where S3 puts a bucket when nothing is said. As a constraint S3 refuses it.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucketConfiguration.html>
const UNSAID: &str = "us-east-1";
/// How the absence of a location is written.
pub const DEFAULT: &str = "default";
/// The longest location, in characters: no region or zone group has so long a name.
const MAX_CHARS: usize = 64;

/// The names that boto gave the regions, in lower case.
/// <https://github.com/boto/boto/blob/develop/boto/s3/connection.py> (class Location)
const TUTORIAL_NAMES: [(&str, &str); 11] = [
    ("eu", "eu-west-1"),
    ("eucentral1", "eu-central-1"),
    ("uswest", "us-west-1"),
    ("uswest2", "us-west-2"),
    ("saeast", "sa-east-1"),
    ("apnortheast", "ap-northeast-1"),
    ("apsoutheast", "ap-southeast-1"),
    ("apsoutheast2", "ap-southeast-2"),
    ("cnnorth1", "cn-north-1"),
    ("us", UNSAID),
    ("us-standard", UNSAID),
];

/// A place for buckets, by the store's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(String);

impl Location {
    /// Reads a location as somebody wrote it; `None` for the store's default.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        if lower == DEFAULT {
            return Ok(None);
        }
        if let Some((_, region)) = TUTORIAL_NAMES.iter().find(|(name, _)| *name == lower) {
            return Ok(Some(Self((*region).to_owned())));
        }
        // Ceph: ZONEGROUP, or ZONEGROUP:PLACEMENT.
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        let valid = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':') && text.chars().all(letter);
        if !valid || text.len() > MAX_CHARS {
            return Err(format!(
                "'{text}' is not a location: use a region such as eu-west-1, a name of S3's tutorial such as EU, a zone group, or \
                 {DEFAULT}"
            ));
        }
        Ok(Some(Self(if is_region(&lower) { lower } else { text.to_owned() })))
    }

    /// The name, as the store has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is sent when a bucket is made.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        (self.0 != UNSAID).then_some(&*self.0)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether it is written as AWS writes regions: `eu-west-1`, `us-gov-east-1`.
fn is_region(lower: &str) -> bool {
    let mut parts = lower.rsplit('-');
    let number = parts.next().is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()));
    let words = parts.filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase())).count();
    number && words >= 2 && words == lower.matches('-').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tutorial_names_regions_and_zone_groups() {
        let cases = [
            ("EU", Some("eu-west-1")),
            ("eu", Some("eu-west-1")),
            ("USWest", Some("us-west-1")),
            ("USWest2", Some("us-west-2")),
            ("APNortheast", Some("ap-northeast-1")),
            ("APSoutheast", Some("ap-southeast-1")),
            ("APSoutheast2", Some("ap-southeast-2")),
            ("SAEast", Some("sa-east-1")),
            ("CNNorth1", Some("cn-north-1")),
            ("EUCentral1", Some("eu-central-1")),
            ("DEFAULT", None),
            ("default", None),
            (" us-west-2\n", Some("us-west-2")),
            ("EU-West-3", Some("eu-west-3")),
            ("us-gov-east-1", Some("us-gov-east-1")),
            ("MyZoneGroup", Some("MyZoneGroup")),
            ("zone_1:fast", Some("zone_1:fast")),
            (":fast", Some(":fast")),
        ];
        for (text, expected) in cases {
            let parsed = Location::parse(text).unwrap();
            assert_eq!(parsed.as_ref().map(Location::as_str), expected, "{text}");
        }
        for bad in ["", " ", "eu west", "-x", "a/b", "<x>", "é", &"x".repeat(65)] {
            assert!(Location::parse(bad).unwrap_err().contains("is not a location"), "{bad}");
        }
    }

    #[test]
    fn the_unsaid_location_is_never_sent() {
        let constraint = |text: &str| Location::parse(text).unwrap().and_then(|at| at.constraint().map(str::to_owned));
        assert_eq!(constraint("us-east-1"), None);
        assert_eq!(constraint("US-EAST-1"), None);
        assert_eq!(constraint("US"), None);
        assert_eq!(constraint("EU").as_deref(), Some("eu-west-1"));
    }
}
