//! What goes wrong on purpose, written as text. Pure but for the counts of requests seen.
//!
//! ```text
//! rules  = rule { ";" rule }
//! rule   = operation [ "[" key "]" ] ":" when "=" action
//! ```
//!
//! - `operation` is S3's name (`PutObject`, `UploadPart`, ...) or `*`.
//! - `key` is an object key, percent-encoded where it holds `;`, `]`, `*` or `%`; a `*` at its end makes it a prefix.
//! - `when` counts the requests that the rule's operation and key match, from 1 on: `3`, `2-5`, `4+`, or `*` for all.
//! - `action`, the request being applied or not:
//!
//! | action | applied | answer |
//! |---|---|---|
//! | `503` | no | 503 `SlowDown` |
//! | `500`, `refuse-500` | no | 500 `InternalError` |
//! | `denied` | no | 403 `AccessDenied` |
//! | `expired` | no | 400 `ExpiredToken` |
//! | `missing` | no | 501 `NotImplemented` |
//! | `drop` | no | none, the connection is closed |
//! | `lost` | yes | none, the connection is closed |
//! | `lost-500` | yes | 500 `InternalError` |
//! | `delay@MS` | yes | the answer begins so many milliseconds later |
//! | `stall@MS` | yes | the body pauses so long in its middle (an answer without one: as `delay`) |
//! | `cut@BYTES` | yes | the connection is closed after so many bytes of the body |
//! | `flip@BYTE` | yes | this byte of the body is altered (from 0 on) |
//!
//! Of the rules that are due, the first one counts. Example: `PutObject:3=503; GetObject[a/b.txt]:2=cut@65536`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::base::encode;
use crate::store::Operation;

/// Operations that clients may send and that are not in [`Operation`].
const OTHER_OPERATIONS: [&str; 2] = ["ListObjects", "GetBucketVersioning"];

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Not applied, answered with an error.
    Refuse(Refusal),
    /// Not applied, connection closed.
    Drop,
    /// Applied, connection closed.
    Lose,
    /// Applied, answered 500.
    LoseWithError,
    /// The answer comes later.
    Delay(Duration),
    /// The body pauses in its middle.
    Stall(Duration),
    /// The connection is closed after so many bytes of the body.
    Cut(u64),
    /// This byte of the body is altered.
    Flip(u64),
}

/// An error in place of the request's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 503.
    SlowDown,
    /// 500.
    InternalError,
    /// 403.
    Denied,
    /// 400.
    Expired,
    /// 501.
    NotImplemented,
}

/// Which of the matching requests a rule is about, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct When {
    first: u64,
    last: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyFilter {
    Any,
    Exact(String),
    Prefix(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// `None` for all.
    operation: Option<String>,
    key: KeyFilter,
    when: When,
    action: Action,
    seen: u64,
}

/// A list of rules with the counts of what they have seen. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Rule>);

/// Why a text is not a list of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{rule}' is not a fault rule: {reason}")]
pub struct InvalidFault {
    rule: String,
    reason: &'static str,
}

impl Faults {
    /// Counts a request and tells what shall happen to it.
    pub fn next(&mut self, operation: &str, key: Option<&str>) -> Option<Action> {
        let mut due = None;
        for rule in self.0.iter_mut().filter(|rule| rule.matches(operation, key)) {
            rule.seen += 1;
            if (rule.when.first..=rule.when.last).contains(&rule.seen) {
                due = due.or(Some(rule.action));
            }
        }
        due
    }
}

impl Rule {
    fn matches(&self, operation: &str, key: Option<&str>) -> bool {
        let same = self.operation.as_deref().is_none_or(|name| name == operation);
        same && match (&self.key, key) {
            (KeyFilter::Any, _) => true,
            (_, None) => false,
            (KeyFilter::Exact(wanted), Some(key)) => wanted == key,
            (KeyFilter::Prefix(prefix), Some(key)) => key.starts_with(prefix),
        }
    }
}

impl FromStr for Faults {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, InvalidFault> {
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty());
        rules
            .map(|rule| parse_rule(rule).map_err(|reason| InvalidFault { rule: rule.to_owned(), reason }))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn parse_rule(text: &str) -> Result<Rule, &'static str> {
    let name_end = text.find(['[', ':']).ok_or("there is no ':'")?;
    let (name, rest) = text.split_at(name_end);
    let (key, rest) = match rest.strip_prefix('[') {
        None => (KeyFilter::Any, rest),
        Some(rest) => {
            let (key, rest) = rest.split_once(']').ok_or("there is no ']'")?;
            (parse_key(key)?, rest)
        }
    };
    let (when, action) = rest.strip_prefix(':').and_then(|rest| rest.split_once('=')).ok_or("it wants ':when=action'")?;
    let known = OTHER_OPERATIONS.contains(&name) || Operation::ALL.iter().any(|operation| operation.to_string() == name);
    let operation = match name {
        "*" => None,
        name if known => Some(name.to_owned()),
        _ => return Err("there is no such operation"),
    };
    Ok(Rule { operation, key, when: parse_when(when.trim())?, action: parse_action(action.trim())?, seen: 0 })
}

fn parse_key(text: &str) -> Result<KeyFilter, &'static str> {
    let decode = |text| encode::uri_decode(text).ok_or("the key is not UTF-8");
    match text.strip_suffix('*') {
        Some(prefix) => decode(prefix).map(KeyFilter::Prefix),
        None => decode(text).map(KeyFilter::Exact),
    }
}

fn parse_when(text: &str) -> Result<When, &'static str> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0).ok_or("the count is not a number from 1 on");
    if text == "*" {
        return Ok(When { first: 1, last: u64::MAX });
    }
    if let Some(first) = text.strip_suffix('+') {
        return Ok(When { first: number(first)?, last: u64::MAX });
    }
    match text.split_once('-') {
        Some((first, last)) => Ok(When { first: number(first)?, last: number(last)? }),
        None => number(text).map(|only| When { first: only, last: only }),
    }
}

fn parse_action(text: &str) -> Result<Action, &'static str> {
    let (name, number) = match text.split_once('@') {
        Some((name, number)) => (name, Some(number.parse::<u64>().map_err(|_| "what follows '@' is not a number")?)),
        None => (text, None),
    };
    Ok(match (name, number) {
        ("503", None) => Action::Refuse(Refusal::SlowDown),
        ("500" | "refuse-500", None) => Action::Refuse(Refusal::InternalError),
        ("denied", None) => Action::Refuse(Refusal::Denied),
        ("expired", None) => Action::Refuse(Refusal::Expired),
        ("missing", None) => Action::Refuse(Refusal::NotImplemented),
        ("drop", None) => Action::Drop,
        ("lost", None) => Action::Lose,
        ("lost-500", None) => Action::LoseWithError,
        ("delay", Some(ms)) => Action::Delay(Duration::from_millis(ms)),
        ("stall", Some(ms)) => Action::Stall(Duration::from_millis(ms)),
        ("cut", Some(bytes)) => Action::Cut(bytes),
        ("flip", Some(byte)) => Action::Flip(byte),
        ("delay" | "stall" | "cut" | "flip", None) => return Err("this action wants '@' and a number"),
        _ => return Err("there is no such action"),
    })
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{rule}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation.as_deref().unwrap_or("*"))?;
        match &self.key {
            KeyFilter::Any => {}
            KeyFilter::Exact(key) => write!(f, "[{}]", encode::uri_path(key))?,
            KeyFilter::Prefix(key) => write!(f, "[{}*]", encode::uri_path(key))?,
        }
        match self.when {
            When { first: 1, last: u64::MAX } => f.write_str(":*=")?,
            When { first, last: u64::MAX } => write!(f, ":{first}+=")?,
            When { first, last } if first == last => write!(f, ":{first}=")?,
            When { first, last } => write!(f, ":{first}-{last}=")?,
        }
        match self.action {
            Action::Refuse(Refusal::SlowDown) => f.write_str("503"),
            Action::Refuse(Refusal::InternalError) => f.write_str("500"),
            Action::Refuse(Refusal::Denied) => f.write_str("denied"),
            Action::Refuse(Refusal::Expired) => f.write_str("expired"),
            Action::Refuse(Refusal::NotImplemented) => f.write_str("missing"),
            Action::Drop => f.write_str("drop"),
            Action::Lose => f.write_str("lost"),
            Action::LoseWithError => f.write_str("lost-500"),
            Action::Delay(time) => write!(f, "delay@{}", time.as_millis()),
            Action::Stall(time) => write!(f, "stall@{}", time.as_millis()),
            Action::Cut(bytes) => write!(f, "cut@{bytes}"),
            Action::Flip(byte) => write!(f, "flip@{byte}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_round_trip_through_their_text() {
        let text =
            "PutObject:3=503; GetObject[a/b.txt]:2-4=cut@65536; *:*=delay@5; UploadPart[d/%3B*]:2+=lost; GetObject:1=flip@0";
        let faults: Faults = text.parse().unwrap();
        assert_eq!(faults.to_string(), text);
        assert_eq!(Faults::default().to_string().parse(), Ok(Faults::default()));
        for bad in ["PutObject", "PutObjekt:1=503", "PutObject:0=503", "PutObject:1=507", "GetObject:1=cut", "GetObject[a:1=503"]
        {
            assert!(bad.parse::<Faults>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rule_counts_what_it_matches_and_the_first_due_one_wins() {
        let mut faults: Faults = "PutObject:2=503; PutObject[k*]:1+=lost".parse().unwrap();
        assert_eq!(faults.next("PutObject", Some("a")), None);
        assert_eq!(faults.next("GetObject", Some("k1")), None);
        assert_eq!(faults.next("PutObject", Some("k1")), Some(Action::Refuse(Refusal::SlowDown)));
        assert_eq!(faults.next("PutObject", Some("k2")), Some(Action::Lose));
        assert_eq!(faults.next("PutObject", None), None);
    }
}
