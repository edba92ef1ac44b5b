//! Configurations of a bucket: JSON in the shape of the AWS CLI on one side, S3's XML on the other. Pure.
//!
//! One table says which elements are lists, numbers and truths. What it does not name is carried as it is: an element that
//! occurs several times is a list, one with elements or attributes in it an object, any other a text.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{NAMESPACE, check};
use crate::base::xml::{self, Node, escaped};
use crate::store::Ownership;

/// An attribute has 64 KiB at most (xattr(7)).
const MAX_PRETTY_BYTES: usize = 60 << 10;

/// Which configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConfigKind {
    /// Cross-origin rules: `?cors`.
    Cors,
    /// Transitions and expiry: `?lifecycle`.
    Lifecycle,
    /// The bucket policy, JSON by itself: `?policy`.
    Policy,
    /// Whether versions are kept: `?versioning`. It is never absent.
    Versioning,
    /// Whether access lists count: `?ownershipControls`.
    OwnershipControls,
    /// What is never public: `?publicAccessBlock`.
    PublicAccessBlock,
}

impl ConfigKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Cors, Self::Lifecycle, Self::Policy, Self::Versioning, Self::OwnershipControls, Self::PublicAccessBlock];

    /// Its name in a request's query.
    #[must_use]
    pub const fn query(self) -> &'static str {
        match self {
            Self::Cors => "cors",
            Self::Lifecycle => "lifecycle",
            Self::Policy => "policy",
            Self::Versioning => "versioning",
            Self::OwnershipControls => "ownershipControls",
            Self::PublicAccessBlock => "publicAccessBlock",
        }
    }

    const fn root(self) -> &'static str {
        match self {
            Self::Cors => "CORSConfiguration",
            Self::Lifecycle => "LifecycleConfiguration",
            Self::Policy => "",
            Self::Versioning => "VersioningConfiguration",
            Self::OwnershipControls => "OwnershipControls",
            Self::PublicAccessBlock => "PublicAccessBlockConfiguration",
        }
    }
}

/// A document that makes no sense, and where: one line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DocumentError(pub String);

/// A configuration, valid as far as we know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDocument {
    kind: ConfigKind,
    value: Value,
    /// A policy as it was written: S3 keeps the text.
    text: Option<String>,
}

/// Elements that are lists in JSON: the element, the list's name, and the element they are in (any, when empty).
const LISTS: [(&str, &str, &str); 9] = [
    ("CORSRule", "CORSRules", ""),
    ("AllowedMethod", "AllowedMethods", ""),
    ("AllowedOrigin", "AllowedOrigins", ""),
    ("AllowedHeader", "AllowedHeaders", ""),
    ("ExposeHeader", "ExposeHeaders", ""),
    ("Rule", "Rules", ""),
    ("Transition", "Transitions", ""),
    ("NoncurrentVersionTransition", "NoncurrentVersionTransitions", ""),
    ("Tag", "Tags", "And"),
];
const NUMBERS: [&str; 7] = [
    "MaxAgeSeconds",
    "Days",
    "NoncurrentDays",
    "NewerNoncurrentVersions",
    "DaysAfterInitiation",
    "ObjectSizeGreaterThan",
    "ObjectSizeLessThan",
];
const TRUTHS: [&str; 5] =
    ["ExpiredObjectDeleteMarker", "BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];

/// In JSON the name of an attribute begins so; no element that is known has one.
pub(super) const ATTRIBUTE: char = '@';
/// In JSON the text of an element that has attributes or elements, too.
pub(super) const TEXT: &str = "#text";

/// Which small objects transitions leave alone: beside the rules in JSON, a header on the way.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>
const MINIMUM: &str = "TransitionDefaultMinimumObjectSize";
const MINIMUM_HEADER: &str = "x-amz-transition-default-minimum-object-size";

impl ConfigDocument {
    /// Reads what a person wrote: JSON, or S3's XML.
    ///
    /// # Errors
    /// [`DocumentError`] with what is wrong and where.
    pub fn parse(kind: ConfigKind, text: &str) -> Result<Self, DocumentError> {
        let text = text.trim();
        let value = if text.starts_with('<') && kind != ConfigKind::Policy {
            let malformed = |error| DocumentError(format!("the XML is not well-formed: {error}"));
            let root = xml::read(text.as_bytes()).map_err(malformed)?;
            if root.name != kind.root() {
                return Err(DocumentError(format!("the XML is a {}, where a {} is wanted", root.name, kind.root())));
            }
            to_json(&root)
        } else {
            serde_json::from_str(text).map_err(|error| DocumentError(format!("the JSON cannot be read: {error}")))?
        };
        let mut value = unwrapped(kind, value)?;
        check::check(kind, &value).map_err(DocumentError)?;
        if kind == ConfigKind::Lifecycle {
            spell_days_out(&mut value);
        }
        let text = (kind == ConfigKind::Policy).then(|| policy_text(text)).flatten();
        Ok(Self { kind, value, text })
    }

    /// What S3 would refuse it for.
    ///
    /// # Errors
    /// [`DocumentError`] with what is wrong and where.
    pub fn check(&self) -> Result<(), DocumentError> {
        check::check(self.kind, &self.value).map_err(DocumentError)
    }

    /// Which configuration it is.
    #[must_use]
    pub const fn kind(&self) -> ConfigKind {
        self.kind
    }

    /// The document.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// Whether it is the ownership that disables access lists.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
    #[must_use]
    pub fn disables_acls(&self) -> bool {
        self.kind == ConfigKind::OwnershipControls
            && self.value["Rules"][0]["ObjectOwnership"] == Ownership::BucketOwnerEnforced.as_str()
    }

    /// As JSON for people; without spaces where it would not fit an attribute with them.
    #[must_use]
    pub fn to_json(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        // A value that was parsed can be printed.
        let pretty = serde_json::to_string_pretty(&self.value).unwrap_or_default();
        if pretty.len() > MAX_PRETTY_BYTES { self.value.to_string() } else { pretty }
    }

    /// The body of a request that sets it.
    #[must_use]
    pub fn to_body(&self) -> String {
        if self.kind == ConfigKind::Policy {
            return self.text.clone().unwrap_or_else(|| self.value.to_string());
        }
        let mut inner = String::new();
        if let Value::Object(map) = &self.value {
            let members = map.iter().filter(|(name, _)| self.kind != ConfigKind::Lifecycle || *name != MINIMUM);
            members.for_each(|(name, value)| write_member(&mut inner, self.kind.root(), name, value));
        }
        let root = self.kind.root();
        format!("<{root} xmlns=\"{NAMESPACE}\">{inner}</{root}>")
    }

    /// What of it travels as a header, in requests and answers: its name, and the value.
    #[must_use]
    pub fn header(&self) -> Option<(&'static str, &str)> {
        let minimum = self.value.get(MINIMUM).filter(|_| self.kind == ConfigKind::Lifecycle)?;
        minimum.as_str().map(|minimum| (MINIMUM_HEADER, minimum))
    }

    /// Takes in what came as a header; `header` gives the value of one.
    #[must_use]
    pub fn with_header(mut self, header: impl FnOnce(&str) -> Option<String>) -> Self {
        if let (ConfigKind::Lifecycle, Value::Object(map)) = (self.kind, &mut self.value)
            && let Some(minimum) = header(MINIMUM_HEADER)
        {
            map.insert(MINIMUM.to_owned(), minimum.into());
        }
        self
    }

    /// Reads the answer to a request for it, however odd; `None` when it is something else.
    #[must_use]
    pub fn from_body(kind: ConfigKind, body: &[u8]) -> Option<Self> {
        if kind == ConfigKind::Policy {
            let text = std::str::from_utf8(body).ok()?;
            return serde_json::from_str(text).ok().map(|value| Self { kind, value, text: Some(text.trim().to_owned()) });
        }
        let root = xml::parse(body)?;
        // Other names of the same: an older one, radosgw's, moto's.
        let other = match kind {
            ConfigKind::Lifecycle => "BucketLifecycleConfiguration",
            ConfigKind::PublicAccessBlock => "BlockPublicAccessBlockConfiguration",
            ConfigKind::Versioning => "GetBucketVersioningResponse",
            _ => "",
        };
        (root.name == kind.root() || root.name == other).then(|| Self { kind, value: to_json(&root), text: None })
    }
}

/// A policy as it was written, or as it is a text in what `aws s3api` prints.
fn policy_text(text: &str) -> Option<String> {
    match serde_json::from_str(text).ok()? {
        Value::Object(map) if map.len() == 1 && map.contains_key("Policy") => map["Policy"].as_str().map(str::to_owned),
        _ => Some(text.to_owned()),
    }
}

/// Takes off what `aws s3api` prints around some of them; a policy is a text in it.
fn unwrapped(kind: ConfigKind, value: Value) -> Result<Value, DocumentError> {
    let wrapper = if kind == ConfigKind::Policy { "Policy" } else { kind.root() };
    match value {
        Value::Object(mut map) if map.len() == 1 && map.contains_key(wrapper) => match map.remove(wrapper).unwrap_or_default() {
            Value::String(text) if kind == ConfigKind::Policy => {
                serde_json::from_str(&text).map_err(|error| DocumentError(format!("the JSON in Policy cannot be read: {error}")))
            }
            inner => Ok(inner),
        },
        value => Ok(value),
    }
}

/// S3 wants an instant where the CLI takes a day, too.
fn spell_days_out(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                match value {
                    Value::String(date) if name == "Date" && date.len() == "2030-01-01".len() => date.push_str("T00:00:00Z"),
                    value => spell_days_out(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(spell_days_out),
        _ => {}
    }
}

fn list_name(element: &str, within: &str) -> Option<&'static str> {
    LISTS.iter().find(|(name, _, parent)| *name == element && (parent.is_empty() || *parent == within)).map(|(_, list, _)| *list)
}

/// The JSON of what is in an element.
fn to_json(node: &Node) -> Value {
    let mut map = Map::new();
    let mut repeated = HashSet::new();
    for child in &node.children {
        let attributes: Vec<_> = child.attributes.iter().filter(|(name, _)| name != "xmlns").collect();
        let value = if child.children.is_empty() && attributes.is_empty() {
            scalar(&child.name, &child.text)
        } else {
            let mut inner = Map::new();
            inner.extend(attributes.into_iter().map(|(name, value)| (format!("{ATTRIBUTE}{name}"), value.as_str().into())));
            if !child.text.trim().is_empty() {
                inner.insert(TEXT.to_owned(), child.text.as_str().into());
            }
            if let Value::Object(members) = to_json(child) {
                inner.extend(members);
            }
            Value::Object(inner)
        };
        let name = list_name(&child.name, &node.name);
        match (name, map.get_mut(name.unwrap_or(&child.name))) {
            (Some(list), None) => {
                map.insert(list.to_owned(), Value::Array(vec![value]));
            }
            (Some(_), Some(Value::Array(values))) => values.push(value),
            (None, None) => {
                map.insert(child.name.clone(), value);
            }
            (None, Some(Value::Array(values))) if repeated.contains(&child.name) => values.push(value),
            (_, Some(first)) => {
                repeated.insert(child.name.clone());
                *first = Value::Array(vec![first.take(), value]);
            }
        }
    }
    Value::Object(map)
}

fn scalar(name: &str, text: &str) -> Value {
    let trimmed = text.trim();
    if NUMBERS.contains(&name)
        && let Ok(number) = trimmed.parse::<i64>()
    {
        return number.into();
    }
    match trimmed {
        "true" if TRUTHS.contains(&name) => true.into(),
        "false" if TRUTHS.contains(&name) => false.into(),
        // A rule for everything: `<Filter></Filter>`.
        "" if name == "Filter" => Value::Object(Map::new()),
        _ => text.into(),
    }
}

fn write_member(out: &mut String, within: &str, name: &str, value: &Value) {
    let element = LISTS.iter().find(|(_, list, parent)| *list == name && (parent.is_empty() || *parent == within));
    let name = element.map_or(name, |(element, _, _)| element);
    match value {
        // Written with the element they are of.
        _ if name.starts_with(ATTRIBUTE) => {}
        Value::String(text) if name == TEXT => out.push_str(&escaped(text)),
        Value::Array(values) => values.iter().for_each(|value| write_element(out, name, value)),
        value => write_element(out, name, value),
    }
}

fn write_element(out: &mut String, name: &str, value: &Value) {
    let members = value.as_object().into_iter().flatten();
    let attribute = |(name, value): (&String, &Value)| {
        let (name, value) = (name.strip_prefix(ATTRIBUTE)?, value.as_str()?);
        Some(format!(" {name}=\"{}\"", escaped(value)))
    };
    let attributes: String = members.filter_map(attribute).collect();
    out.push_str(&format!("<{name}{attributes}>"));
    match value {
        Value::Object(map) => map.iter().for_each(|(member, value)| write_member(out, name, member, value)),
        Value::Array(values) => values.iter().for_each(|value| write_element(out, name, value)),
        Value::String(text) => out.push_str(&escaped(text)),
        Value::Null => {}
        value => out.push_str(&value.to_string()),
    }
    out.push_str(&format!("</{name}>"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORS: &str = r#"{"CORSRules":[{"ID":"r","AllowedMethods":["PUT","GET"],"AllowedOrigins":["https://*.example.com"],
        "AllowedHeaders":["*"],"ExposeHeaders":["etag"],"MaxAgeSeconds":3000},{"AllowedMethods":["GET"],"AllowedOrigins":["*"]}]}"#;
    const LIFECYCLE: &str = r#"{"Rules":[{"ID":"logs & more","Filter":{"Prefix":"logs/"},"Status":"Enabled",
        "Transitions":[{"Days":30,"StorageClass":"GLACIER"}],"Expiration":{"Days":365}},
        {"Filter":{"And":{"Prefix":"a","Tags":[{"Key":"k","Value":"v"}]}},"Status":"Disabled",
        "AbortIncompleteMultipartUpload":{"DaysAfterInitiation":7}},
        {"Filter":{"Tag":{"Key":"k","Value":"v"}},"Status":"Enabled","Expiration":{"ExpiredObjectDeleteMarker":true}}]}"#;

    fn round(kind: ConfigKind, text: &str) -> ConfigDocument {
        let document = ConfigDocument::parse(kind, text).unwrap();
        assert_eq!(ConfigDocument::from_body(kind, document.to_body().as_bytes()).as_ref(), Some(&document));
        assert_eq!(ConfigDocument::parse(kind, &document.to_json()).as_ref(), Ok(&document));
        if kind != ConfigKind::Policy {
            assert_eq!(ConfigDocument::parse(kind, &document.to_body()).as_ref(), Ok(&document), "as XML");
        }
        document
    }

    #[test]
    fn documents_survive_both_ways() {
        let cors = round(ConfigKind::Cors, CORS);
        assert!(cors.to_body().contains("<AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod>"));
        assert!(cors.to_body().contains("<MaxAgeSeconds>3000</MaxAgeSeconds>"));
        let lifecycle = round(ConfigKind::Lifecycle, LIFECYCLE);
        assert!(lifecycle.to_body().contains("<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>"));
        assert!(lifecycle.to_body().contains("<And><Prefix>a</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And>"));
        round(ConfigKind::Policy, r#"{"Version":"2012-10-17","Statement":[]}"#);
        round(ConfigKind::Versioning, r#"{"Status":"Enabled"}"#);
        round(ConfigKind::OwnershipControls, r#"{"Rules":[{"ObjectOwnership":"BucketOwnerEnforced"}]}"#);
        round(ConfigKind::PublicAccessBlock, r#"{"BlockPublicAcls":true,"IgnorePublicAcls":false}"#);
    }

    #[test]
    fn a_policy_stays_the_text_that_was_set() {
        let text = "{ \"Version\":\"2012-10-17\",\n\t\"Statement\": [] }";
        let policy = round(ConfigKind::Policy, text);
        assert_eq!((policy.to_body().as_str(), policy.to_json().as_str()), (text, text));
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let text = r#"{"Rules":[{"Status":"Enabled","Filter":{},"Expiration":{"Days":1},"Novelty":{"Depth":"3","Kinds":["a","b"]}}],"Extra":"x"}"#;
        round(ConfigKind::Lifecycle, text);
    }

    #[test]
    fn attributes_are_kept() {
        let xml = "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><Status>Enabled</Status>\
            <Filter></Filter><Melt mode=\"slow &amp; low\">ice<To>water</To></Melt><Note x=\"1\"></Note></Rule>\
            <Mood>calm</Mood></LifecycleConfiguration>";
        let document = round(ConfigKind::Lifecycle, xml);
        assert_eq!(document.to_body(), xml);
        let melt = serde_json::json!({"@mode": "slow & low", "#text": "ice", "To": "water"});
        assert_eq!(document.value()["Rules"][0]["Melt"], melt);
    }

    #[test]
    fn what_the_cli_prints_is_taken() {
        let text = r#"{"TransitionDefaultMinimumObjectSize":"varies_by_storage_class","Rules":[{"Status":"Enabled","Filter":{},
            "Transitions":[{"Date":"2030-01-01","StorageClass":"GLACIER"}]}]}"#;
        let document = ConfigDocument::parse(ConfigKind::Lifecycle, text).unwrap();
        let header = document.header().map(|(name, value)| (name, value.to_owned()));
        assert_eq!(header, Some((MINIMUM_HEADER, "varies_by_storage_class".to_owned())));
        let body = document.to_body();
        assert!(!body.contains(MINIMUM) && body.contains("<Date>2030-01-01T00:00:00Z</Date>"), "{body}");
        let read = ConfigDocument::from_body(ConfigKind::Lifecycle, body.as_bytes()).unwrap();
        let read = read.with_header(|name| (name == MINIMUM_HEADER).then(|| "varies_by_storage_class".to_owned()));
        assert_eq!(ConfigDocument::parse(ConfigKind::Lifecycle, &read.to_json()).unwrap().value(), document.value());
        let policy = round(ConfigKind::Policy, r#"{"Version":"2012-10-17","Statement":[]}"#);
        let printed = serde_json::json!({ "Policy": policy.to_body() }).to_string();
        assert_eq!(ConfigDocument::parse(ConfigKind::Policy, &printed), Ok(policy));
    }

    #[test]
    fn the_first_shape_of_lifecycle_rules_is_taken() {
        let document = round(
            ConfigKind::Lifecycle,
            "<LifecycleConfiguration><Rule><Prefix>logs/</Prefix><Status>Enabled</Status><Transition><Date>2030-01-01T00:00:00Z</Date>\
             <StorageClass>GLACIER</StorageClass></Transition></Rule></LifecycleConfiguration>",
        );
        assert_eq!(document.value()["Rules"][0]["Prefix"], "logs/");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (kind, text, told) in [
            (ConfigKind::Cors, "{", "line 1"),
            (ConfigKind::Cors, "<CORS", "well-formed"),
            (ConfigKind::Cors, "<CORSConfiguration>\n<CORSRule></CORSConfiguration>", "line 2"),
            (ConfigKind::Policy, r#"{"Policy":"{"}"#, "in Policy"),
            (ConfigKind::Cors, "<Other></Other>", "CORSConfiguration"),
            (ConfigKind::Lifecycle, CORS, "Rules"),
            (ConfigKind::Cors, "[]", "object"),
        ] {
            let error = ConfigDocument::parse(kind, text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
