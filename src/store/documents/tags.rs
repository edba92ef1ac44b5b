//! Tags of objects and buckets. Pure.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>

use super::NAMESPACE;
use crate::base::encode;
use crate::base::xml::{self, element};

/// Tags, in the store's order; each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// The pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// Gives one a value.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(have, _)| have == name) {
            Some((_, have)) => value.clone_into(have),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Drops one; `false` when it was not there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(have, _)| have != name);
        self.0.len() < before
    }

    /// The body of `PutObjectTagging` and `PutBucketTagging`.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let tag = |(name, value)| format!("<Tag>{}{}</Tag>", element("Key", name), element("Value", value));
        let tags: String = self.iter().map(tag).collect();
        format!("<Tagging xmlns=\"{NAMESPACE}\"><TagSet>{tags}</TagSet></Tagging>")
    }

    /// Reads the answer of `GetObjectTagging` and `GetBucketTagging`.
    #[must_use]
    pub fn from_xml(body: &[u8]) -> Option<Self> {
        let root = xml::parse(body).filter(|root| root.name == "Tagging")?;
        let mut tags = Self::default();
        for tag in root.child("TagSet")?.all("Tag") {
            tags.set(tag.text("Key")?, tag.text("Value").unwrap_or_default());
        }
        Some(tags)
    }

    /// The value of `x-amz-tagging`: query parameters.
    #[must_use]
    pub fn to_header(&self) -> String {
        let pairs = self.iter().map(|(name, value)| format!("{}={}", encode::uri(name), encode::uri(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// Reads `x-amz-tagging`.
    #[must_use]
    pub fn from_header(text: &str) -> Option<Self> {
        let mut tags = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| encode::uri_decode(&text.replace('+', " "));
            tags.set(&decoded(name)?, &decoded(value)?);
        }
        Some(tags)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tags_survive_both_ways(pairs in proptest::collection::btree_map("[ -~äß]{1,12}", "[ -~äß]{0,12}", 0..5)) {
            let mut tags = Tags::default();
            for (name, value) in &pairs {
                tags.set(name, value);
            }
            prop_assert_eq!(Tags::from_xml(tags.to_xml().as_bytes()), Some(tags.clone()));
            prop_assert_eq!(Tags::from_header(&tags.to_header()), Some(tags));
        }
    }
}
