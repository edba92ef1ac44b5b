//! What can be told wrong about a configuration before it is sent, with its place. Pure.
//!
//! Only what S3 refuses for certain: what we do not know may be new.

use serde_json::{Map, Value};

use super::config::{ATTRIBUTE, ConfigKind, TEXT};
use crate::base::{date, xml};

type Checked = Result<(), String>;

/// S3's own limit for both kinds of rules. <https://docs.aws.amazon.com/general/latest/gr/s3.html>
const MAX_CORS_RULES: usize = 100;
const MAX_LIFECYCLE_RULES: usize = 1000;
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];
const OWNERSHIPS: [&str; 3] = ["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"];

/// Checks a document.
pub(super) fn check(kind: ConfigKind, value: &Value) -> Checked {
    let Value::Object(map) = value else { return Err("a JSON object is wanted: {...}".to_owned()) };
    if kind != ConfigKind::Policy {
        fits_xml("", value)?;
    }
    match kind {
        ConfigKind::Cors => rules(map, "CORSRules", MAX_CORS_RULES, cors_rule),
        ConfigKind::Lifecycle => rules(map, "Rules", MAX_LIFECYCLE_RULES, lifecycle_rule),
        ConfigKind::Policy => policy(map),
        ConfigKind::Versioning => one_of(map, "", "Status", &["Enabled", "Suspended"]),
        ConfigKind::OwnershipControls => rules(map, "Rules", 1, |rule, at| one_of(rule, at, "ObjectOwnership", &OWNERSHIPS)),
        ConfigKind::PublicAccessBlock => map
            .iter()
            .try_for_each(|(name, value)| if value.is_boolean() { Ok(()) } else { Err(format!("{name} must be true or false")) }),
    }
}

/// Whether XML can hold it, known or not.
fn fits_xml(at: &str, value: &Value) -> Checked {
    match value {
        Value::Null => Err(format!("{at} must not be null: leave it out")),
        Value::String(text) if !xml::can_hold(text) => Err(format!("{at} has a control character in it")),
        Value::Array(values) => {
            values.iter().enumerate().try_for_each(|(index, value)| fits_xml(&format!("{at}[{index}]"), value))
        }
        Value::Object(map) => map.iter().try_for_each(|(name, value)| {
            let at = dotted(at, name);
            if name == TEXT || xml::is_name(name.strip_prefix(ATTRIBUTE).unwrap_or(name)) {
                fits_xml(&at, value)
            } else {
                Err(format!("{at} is no name that S3 could know"))
            }
        }),
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(()),
    }
}

fn rules(map: &Map<String, Value>, name: &str, most: usize, rule: impl Fn(&Map<String, Value>, &str) -> Checked) -> Checked {
    let Some(Value::Array(rules)) = map.get(name) else { return Err(format!("{name} must be there, a list of rules")) };
    if rules.is_empty() || rules.len() > most {
        return Err(format!("{name} must have 1 to {most} rules (removing the attribute deletes them all)"));
    }
    for (index, each) in rules.iter().enumerate() {
        let at = format!("{name}[{index}]");
        let Value::Object(members) = each else { return Err(format!("{at} must be an object")) };
        rule(members, &at)?;
    }
    Ok(())
}

fn dotted(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn one_of(map: &Map<String, Value>, at: &str, name: &str, known: &[&str]) -> Checked {
    match map.get(name).and_then(Value::as_str) {
        Some(value) if known.contains(&value) => Ok(()),
        _ => Err(format!("{} must be one of {}", dotted(at, name), known.join(", "))),
    }
}

/// A list of texts that must not be empty.
fn texts<'a>(map: &'a Map<String, Value>, at: &str, name: &str) -> Result<Vec<&'a str>, String> {
    let wrong = || format!("{} must be a list of texts, and not empty", dotted(at, name));
    let Some(Value::Array(values)) = map.get(name) else { return Err(wrong()) };
    let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
    texts.filter(|texts| !texts.is_empty()).ok_or_else(wrong)
}

fn number(map: &Map<String, Value>, at: &str, name: &str, least: i64) -> Checked {
    match map.get(name) {
        None => Ok(()),
        Some(value) if value.as_i64().is_some_and(|number| number >= least && i32::try_from(number).is_ok()) => Ok(()),
        Some(_) => Err(format!("{} must be a number from {least}", dotted(at, name))),
    }
}

fn cors_rule(rule: &Map<String, Value>, at: &str) -> Checked {
    for (index, method) in texts(rule, at, "AllowedMethods")?.into_iter().enumerate() {
        if !METHODS.contains(&method) {
            return Err(format!("{at}.AllowedMethods[{index}] is '{method}', and must be one of {}", METHODS.join(", ")));
        }
    }
    for (index, origin) in texts(rule, at, "AllowedOrigins")?.into_iter().enumerate() {
        if origin.matches('*').count() > 1 {
            return Err(format!("{at}.AllowedOrigins[{index}] may have one '*' at most"));
        }
    }
    for list in ["AllowedHeaders", "ExposeHeaders"] {
        if rule.contains_key(list) {
            texts(rule, at, list)?;
        }
    }
    number(rule, at, "MaxAgeSeconds", 0)
}

/// What a lifecycle rule can do.
const ACTIONS: [&str; 5] = [
    "Transitions",
    "Expiration",
    "NoncurrentVersionTransitions",
    "NoncurrentVersionExpiration",
    "AbortIncompleteMultipartUpload",
];

/// What a filter asks for; of several at once only in And.
const CONDITIONS: [&str; 5] = ["Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan", "And"];

fn lifecycle_rule(rule: &Map<String, Value>, at: &str) -> Checked {
    one_of(rule, at, "Status", &["Enabled", "Disabled"])?;
    // One that we do not know may be what it does.
    let known = |name: &&String| matches!(name.as_str(), "ID" | "Prefix" | "Filter" | "Status");
    if rule.keys().all(|name| known(&name)) {
        return Err(format!("{at} does nothing: it needs one of {}", ACTIONS.join(", ")));
    }
    if rule.contains_key("Prefix") && rule.contains_key("Filter") {
        return Err(format!("{at} has both Prefix and Filter: the prefix belongs into the filter"));
    }
    if let Some(Value::Object(filter)) = rule.get("Filter")
        && filter.len() > 1
        && filter.keys().all(|name| CONDITIONS.contains(&name.as_str()))
    {
        return Err(format!("{at}.Filter has {} conditions: put them into And", filter.len()));
    }
    for list in ["Transitions", "NoncurrentVersionTransitions"] {
        let Some(value) = rule.get(list) else { continue };
        let Value::Array(transitions) = value else { return Err(format!("{at}.{list} must be a list")) };
        for (index, each) in transitions.iter().enumerate() {
            let at = format!("{at}.{list}[{index}]");
            let Value::Object(transition) = each else { return Err(format!("{at} must be an object")) };
            when(transition, &at, (list == "Transitions").then_some(0))?;
            match transition.get("StorageClass").and_then(Value::as_str) {
                None | Some("") => return Err(format!("{at}.StorageClass must be there, for example GLACIER")),
                // A store may have more of them, but none is written otherwise.
                Some(class) if !class.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')) => {
                    return Err(format!("{at}.StorageClass is '{class}', and no class is called so; GLACIER, for example, is"));
                }
                Some(_) => {}
            }
        }
    }
    for (name, dated) in [("Expiration", Some(1)), ("NoncurrentVersionExpiration", None)] {
        if let Some(value) = rule.get(name) {
            let at = format!("{at}.{name}");
            let Value::Object(expiration) = value else { return Err(format!("{at} must be an object")) };
            let marker = expiration.contains_key("ExpiredObjectDeleteMarker");
            if marker { number(expiration, &at, "Days", 1)? } else { when(expiration, &at, dated)? }
        }
    }
    if let Some(Value::Object(abort)) = rule.get("AbortIncompleteMultipartUpload") {
        number(abort, &format!("{at}.AbortIncompleteMultipartUpload"), "DaysAfterInitiation", 1)?;
    }
    if !rule.contains_key("Prefix") && !rule.contains_key("Filter") {
        return Err(format!("{at}.Filter must be there: {{\"Prefix\":\"\"}} is every object of the bucket"));
    }
    Ok(())
}

/// Days from `least`, or a date, one of them; without, the days since it is not the current version any more.
fn when(map: &Map<String, Value>, at: &str, least: Option<i64>) -> Checked {
    let Some(least) = least else { return number(map, at, "NoncurrentDays", 1) };
    let is_date = |date: &str| {
        let instant = date::parse_iso8601(date).or_else(|| date::parse_iso8601(&format!("{date}T00:00:00Z")));
        instant.is_some()
    };
    match (map.get("Days"), map.get("Date")) {
        (Some(_), None) => number(map, at, "Days", least),
        (None, Some(Value::String(date))) if is_date(date) => Ok(()),
        (None, Some(_)) => Err(format!("{at}.Date must be a date like 2030-01-01T00:00:00Z")),
        _ => Err(format!("{at} must have either Days or Date")),
    }
}

fn policy(map: &Map<String, Value>) -> Checked {
    let statements = match map.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(statement @ Value::Object(_)) => vec![statement],
        _ => return Err("Statement must be there, a list".to_owned()),
    };
    for (index, each) in statements.into_iter().enumerate() {
        let at = format!("Statement[{index}]");
        let Value::Object(statement) = each else { return Err(format!("{at} must be an object")) };
        one_of(statement, &at, "Effect", &["Allow", "Deny"])?;
        for (either, or) in [("Principal", "NotPrincipal"), ("Action", "NotAction"), ("Resource", "NotResource")] {
            if !statement.contains_key(either) && !statement.contains_key(or) {
                return Err(format!("{at}.{either} must be there"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_with_their_place() {
        for (kind, text, told) in [
            (ConfigKind::Cors, r#"{"CORSRules":[]}"#, "1 to 100"),
            (ConfigKind::Cors, r#"{"CORSRules":[{"AllowedOrigins":["*"]}]}"#, "CORSRules[0].AllowedMethods"),
            (
                ConfigKind::Cors,
                r#"{"CORSRules":[{"AllowedMethods":["GET","FETCH"],"AllowedOrigins":["*"]}]}"#,
                "AllowedMethods[1] is 'FETCH'",
            ),
            (ConfigKind::Cors, r#"{"CORSRules":[{"AllowedMethods":["GET"],"AllowedOrigins":["*.*"]}]}"#, "AllowedOrigins[0]"),
            (ConfigKind::Lifecycle, r#"{"Rules":[{"Status":"On","Expiration":{"Days":1}}]}"#, "Rules[0].Status"),
            (ConfigKind::Lifecycle, r#"{"Rules":[{"Status":"Enabled"}]}"#, "does nothing"),
            (
                ConfigKind::Lifecycle,
                r#"{"Rules":[{"Status":"Enabled","Expiration":{"Days":1}}]}"#,
                "Rules[0].Filter must be there",
            ),
            (
                ConfigKind::Lifecycle,
                r#"{"Rules":[{"Status":"Enabled","Transitions":[{"Days":1}]}]}"#,
                "Transitions[0].StorageClass",
            ),
            (
                ConfigKind::Lifecycle,
                r#"{"Rules":[{"Status":"Enabled","Transitions":[{"StorageClass":"GLACIER"}]}]}"#,
                "either Days or Date",
            ),
            (
                ConfigKind::Lifecycle,
                r#"{"Rules":[{"Status":"Enabled","Transitions":[{"Days":1,"StorageClass":"glacier"}]}]}"#,
                "Transitions[0].StorageClass is 'glacier'",
            ),
            (
                ConfigKind::Lifecycle,
                r#"{"Rules":[{"Status":"Enabled","Expiration":{"Days":1},"Filter":{"Prefix":"a","ObjectSizeGreaterThan":1}}]}"#,
                "Rules[0].Filter has 2 conditions",
            ),
            (ConfigKind::Lifecycle, r#"{"Rules":[{"Status":"Enabled","Expiration":{"Days":"5"}}]}"#, "Expiration.Days"),
            (
                ConfigKind::Lifecycle,
                r#"{"Rules":[{"Status":"Enabled","Expiration":{"Days":0}}]}"#,
                "Days must be a number from 1",
            ),
            (ConfigKind::Lifecycle, r#"{"Rules":[{"Status":"Enabled","Expiration":{"Date":"xxxx-xx-xx"}}]}"#, "Expiration.Date"),
            (ConfigKind::Lifecycle, r#"{"Rules":[{"Status":"Enabled","ID":"a\u0001"}]}"#, "Rules[0].ID has a control character"),
            (ConfigKind::Lifecycle, r#"{"Rules":[{"a><b":1}]}"#, "Rules[0].a><b is no name"),
            (ConfigKind::Cors, r#"{"CORSRules":[{"ID":null}]}"#, "CORSRules[0].ID must not be null"),
            (ConfigKind::Policy, r#"{"Statement":[{"Effect":"Maybe"}]}"#, "Statement[0].Effect"),
            (
                ConfigKind::Policy,
                r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*"}]}"#,
                "Statement[0].Resource",
            ),
            (ConfigKind::Versioning, r#"{"Status":"On"}"#, "Enabled, Suspended"),
            (ConfigKind::OwnershipControls, r#"{"Rules":[{"ObjectOwnership":"Mine"}]}"#, "Rules[0].ObjectOwnership"),
            (ConfigKind::PublicAccessBlock, r#"{"BlockPublicAcls":"yes"}"#, "BlockPublicAcls"),
        ] {
            let error = check(kind, &serde_json::from_str(text).unwrap()).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
