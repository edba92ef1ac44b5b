//! Names as users see them and key components as S3 has them: the grammar, both ways. Pure.
//!
//! A component is shown as it is, with three exceptions:
//! 1. the empty component, `.` and `..` are shown as `%2F`, `%2E`, `%2E%2E`;
//! 2. a component that looks like an escape (`%`, any number of `25`, then `2F`, `2E` or `2E%2E`), or that ends in
//!    `%`, any number of `25`, then `00`, is shown with one more `25` after that `%`;
//! 3. an object that has the name of a directory beside it is shown with `%00` appended.
//!
//! Every key is reached by exactly one path, and a name that is not the shown form of anything reaches nothing.

use std::fmt;
use std::sync::Arc;

/// The longest shown name, in bytes: the kernel's limit for an entry of a directory (`FUSE_NAME_MAX`).
pub const MAX_SHOWN_BYTES: usize = 1024;
/// The longest name that can be created, in bytes: what statfs says.
pub const MAX_NEW_BYTES: usize = 255;

/// One part of a key between slashes, exactly as S3 has it. It holds no `/` and no NUL; it may be empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component(Arc<str>);

impl Component {
    /// `None` for text with a slash or a NUL.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.contains(['/', '\0'])).then(|| Self(text.into()))
    }

    /// The text as it is in the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What a shown name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The component.
    pub component: Component,
    /// The name has `%00` appended: it is the object beside a directory of the same name, never the directory.
    pub beside_directory: bool,
}

/// How `component` is shown; `None` when the name would be too long to show.
#[must_use]
pub fn show(component: &Component, beside_directory: bool) -> Option<String> {
    let text = component.as_str();
    let mut shown = match text {
        "" => "%2F".to_owned(),
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        text => match escape_place(text) {
            Some(percent) => format!("{}25{}", &text[..=percent], &text[percent + 1..]),
            None => text.to_owned(),
        },
    };
    if beside_directory {
        shown.push_str("%00");
    }
    (shown.len() <= MAX_SHOWN_BYTES).then_some(shown)
}

/// What the shown `name` stands for; `None` when it is not the shown form of anything.
#[must_use]
pub fn parse(name: &str) -> Option<Shown> {
    if let Some(bare) = name.strip_suffix("%00") {
        let component = parse_plain(bare)?;
        return Some(Shown { component, beside_directory: true });
    }
    Some(Shown { component: parse_plain(name)?, beside_directory: false })
}

fn parse_plain(name: &str) -> Option<Component> {
    match name {
        "" | "." | ".." => None,
        "%2F" => Component::new(""),
        "%2E" => Component::new("."),
        "%2E%2E" => Component::new(".."),
        name => match escape_place(name) {
            // An escaped form has at least one 25; without, the name is an escape of nothing (`x%00`).
            Some(percent) => {
                let rest = name[percent + 1..].strip_prefix("25")?;
                Component::new(&format!("{}{rest}", &name[..=percent]))
            }
            None => Component::new(name),
        },
    }
}

/// Where the `%` is after which a `25` goes in (or comes out), for a text of the second exception.
fn escape_place(text: &str) -> Option<usize> {
    if let Some(rest) = text.strip_prefix('%') {
        let bare = rest.trim_start_matches("25");
        if matches!(bare, "2F" | "2E" | "2E%2E") {
            return Some(0);
        }
    }
    let mut bare = text.strip_suffix("00")?;
    while let Some(shorter) = bare.strip_suffix("25") {
        bare = shorter;
    }
    bare.ends_with('%').then(|| bare.len() - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        show(&Component::new(text).unwrap(), false).unwrap()
    }

    #[test]
    fn the_table_of_the_grammar() {
        for (component, name) in [
            ("a", "a"),
            ("", "%2F"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("%2F", "%252F"),
            ("%252F", "%25252F"),
            ("%2E", "%252E"),
            ("%2E%2E", "%252E%2E"),
            ("%00", "%2500"),
            ("a%00", "a%2500"),
            ("a%2500", "a%252500"),
            ("%20", "%20"),
            ("50%", "50%"),
            ("x%2Fy", "x%2Fy"),
            ("x%2F", "x%2F"),
            ("...", "..."),
            ("%25", "%25"),
            ("a\nb", "a\nb"),
            ("00", "00"),
            ("%2e", "%2e"),
        ] {
            assert_eq!(shown(component), name, "{component}");
            let back = parse(name).unwrap();
            assert_eq!((back.component.as_str(), back.beside_directory), (component, false), "{name}");
        }
        assert_eq!(show(&Component::new("a").unwrap(), true).as_deref(), Some("a%00"));
        assert_eq!(show(&Component::new("a%00").unwrap(), true).as_deref(), Some("a%2500%00"));
        for nothing in ["", ".", "..", "%00", ".%00", "..%00", "a%00%00"] {
            assert_eq!(parse(nothing), None, "{nothing}");
        }
        assert_eq!(parse("%2F%00").map(|shown| shown.component.as_str().to_owned()).as_deref(), Some(""));
    }

    /// Text made of the pieces that the grammar cares about.
    fn tricky() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("%".to_owned()),
            Just("25".to_owned()),
            Just("00".to_owned()),
            Just("2F".to_owned()),
            Just("2E".to_owned()),
            Just(".".to_owned()),
            "[a%0-9]{0,2}",
            "\\PC{0,2}",
        ];
        proptest::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat().replace(['/', '\0'], ""))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn every_component_is_reached_by_exactly_its_shown_name(text in tricky(), beside in any::<bool>()) {
            let component = Component::new(&text).unwrap();
            let name = show(&component, beside).unwrap();
            prop_assert!(!matches!(name.as_str(), "" | "." | "..") && !name.contains('/'));
            prop_assert_eq!(parse(&name), Some(Shown { component, beside_directory: beside }));
        }

        #[test]
        fn every_name_that_parses_is_the_shown_form_of_what_it_parses_to(name in tricky()) {
            if let Some(Shown { component, beside_directory }) = parse(&name) {
                prop_assert_eq!(show(&component, beside_directory), Some(name));
            }
        }
    }
}
