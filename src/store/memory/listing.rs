//! One page of a listing out of an ordered map: prefix, delimiter, paging. Pure.
//!
//! Keys are ordered by their UTF-8 bytes, which is also how `String`s compare. A folded prefix counts as one entry, and the
//! keys below it are skipped by one look into the map, however many they are.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::failure::{Outcome, WRONG_TOKEN};
use crate::base::encode;
use crate::store::PageToken;

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a str,
    /// Keys are folded behind the next occurrence of this.
    pub delimiter: Option<&'a str>,
    /// Only what comes after this key or folded prefix.
    pub after: Option<&'a str>,
    /// Keys and prefixes together.
    pub limit: usize,
}

/// One entry of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry<'a, T> {
    Key(&'a str, &'a T),
    Prefix(&'a str),
}

impl<T> Entry<'_, T> {
    /// Where the page that follows this entry begins.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Key(text, _) | Self::Prefix(text) => text,
        }
    }
}

/// The entries of one page, and whether there are more.
pub(super) fn page<'a, T>(map: &'a BTreeMap<String, T>, query: Query<'_>) -> (Vec<Entry<'a, T>>, bool) {
    let mut entries = Vec::new();
    let mut from = match query.after {
        Some(after) if after >= query.prefix => Bound::Excluded(after.to_owned()),
        _ => Bound::Included(query.prefix.to_owned()),
    };
    'jump: loop {
        for (key, value) in map.range::<String, _>((from.as_ref(), Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(query.prefix) else { break };
            let fold = query.delimiter.filter(|text| !text.is_empty()).and_then(|text| Some(rest.find(text)? + text.len()));
            let folded = fold.map(|end| &key[..query.prefix.len() + end]);
            // The page before ended with this very prefix.
            let seen = folded.is_some() && folded == query.after;
            if !seen && entries.len() == query.limit {
                return (entries, query.limit > 0);
            }
            match folded {
                None => entries.push(Entry::Key(key, value)),
                Some(folded) => {
                    if !seen {
                        entries.push(Entry::Prefix(folded));
                    }
                    match successor(folded) {
                        Some(next) => from = Bound::Included(next),
                        None => break,
                    }
                    continue 'jump;
                }
            }
        }
        return (entries, false);
    }
}

/// The least text that is greater than every text beginning with `text`.
fn successor(text: &str) -> Option<String> {
    let mut chars = text.chars();
    while let Some(last) = chars.next_back() {
        // Code points are ordered as their UTF-8 is; the surrogates between are no characters.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            return Some(format!("{}{next}", chars.as_str()));
        }
    }
    None
}

/// The token of the page after the one that ended with `text`.
pub(super) fn token(text: &str) -> PageToken {
    PageToken::new(&encode::base64(text.as_bytes()))
}

/// Reads a token.
pub(super) fn token_text(token: &PageToken) -> Outcome<String> {
    encode::base64_decode(token.as_str()).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(WRONG_TOKEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(keys: &BTreeMap<String, ()>, mut query: Query<'_>) -> Vec<String> {
        let (mut found, mut after) = (Vec::new(), query.after.map(str::to_owned));
        loop {
            query.after = None;
            let (entries, more) = page(keys, Query { after: after.as_deref(), ..query });
            assert!(entries.len() <= query.limit);
            found.extend(entries.iter().map(|entry| entry.text().to_owned()));
            if !more {
                return found;
            }
            after = found.last().cloned();
        }
    }

    proptest! {
        #[test]
        fn pages_of_any_size_make_the_folded_whole(
            keys in proptest::collection::btree_set("[ab/é\u{10FFFF}]{1,5}", 0..40),
            prefix in "[ab/]{0,2}",
            fold in any::<bool>(),
            limit in 1..5_usize,
        ) {
            let map: BTreeMap<String, ()> = keys.iter().map(|key| (key.clone(), ())).collect();
            let mut expected: Vec<String> = keys.iter().filter(|key| key.starts_with(&prefix)).map(|key| {
                match key[prefix.len()..].find('/').filter(|_| fold) {
                    Some(at) => key[..=prefix.len() + at].to_owned(),
                    None => key.clone(),
                }
            }).collect();
            // A key and a prefix of one text are two entries only when the text is the prefix itself.
            expected.dedup();
            let query = Query { prefix: &prefix, delimiter: fold.then_some("/"), after: None, limit };
            prop_assert_eq!(all(&map, query), expected);
        }
    }

    #[test]
    fn start_after_a_prefix_skips_it_and_inside_it_does_not() {
        let map: BTreeMap<String, ()> = ["a", "b/1", "b/2", "c"].map(|key| (key.to_owned(), ())).into();
        let query = |after| Query { prefix: "", delimiter: Some("/"), after: Some(after), limit: 10 };
        assert_eq!(all(&map, query("b/")), ["c"]);
        assert_eq!(all(&map, query("b/1")), ["b/", "c"]);
        assert_eq!(all(&map, query("b/2")), ["c"]);
        assert_eq!(page(&map, Query { limit: 0, ..query("") }), (vec![], false));
        assert_eq!(token_text(&token("ä/")).unwrap(), "ä/");
        assert!(token_text(&PageToken::new("\u{1}")).is_err());
    }
}
