//! XML as a tree of elements: read and escaped. What a document means is for others to say.

use quick_xml::escape::{escape, resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};

/// Deeper documents are nobody's.
const MAX_DEPTH: usize = 16;

/// An element with what is in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, without a namespace.
    pub name: String,
    /// Its attributes by their full names, in order.
    pub attributes: Vec<(String, String)>,
    /// The text directly in it.
    pub text: String,
    /// The elements in it.
    pub children: Vec<Node>,
}

impl Node {
    /// The first element of a name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first element of a name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// All elements of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The number in the first element of a name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok()
    }
}

/// Why a text is no XML, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line} column {column}")]
pub struct Malformed {
    reason: String,
    line: usize,
    column: usize,
}

/// The root element of a document; `None` when it is not well-formed.
#[must_use]
pub fn parse(document: &[u8]) -> Option<Node> {
    read(document).ok()
}

/// The root element of a document that a person wrote.
///
/// # Errors
/// [`Malformed`], also for a text without any element.
pub fn read(document: &[u8]) -> Result<Node, Malformed> {
    let mut tree = Tree(vec![Node::default()]);
    visit(document, &mut tree)?;
    let root = tree.0.pop().and_then(|nothing| nothing.children.into_iter().next());
    root.ok_or_else(|| malformed(document, document.len() as u64, "there is no element".to_owned()))
}

/// An element that opens.
#[derive(Debug)]
pub struct Opening<'a>(&'a BytesStart<'a>);

impl Opening<'_> {
    /// Its name, without a namespace.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.local_name().into_inner()
    }

    fn node(&self) -> Option<Node> {
        let mut node = Node { name: String::from_utf8(self.name().to_vec()).ok()?, ..Node::default() };
        // An attribute that is not understood says nothing that matters here.
        for attribute in self.0.attributes().flatten() {
            let name = String::from_utf8(attribute.key.as_ref().to_vec()).ok()?;
            let value = unescape(std::str::from_utf8(&attribute.value).ok()?).ok()?.into_owned();
            node.attributes.push((name, value));
        }
        Some(node)
    }
}

/// Who is told of a document piece by piece: for those that are too long to be made a tree of.
pub trait Visitor {
    /// An element opens; `None` ends the reading: it is not UTF-8, or enough is known.
    fn open(&mut self, element: &Opening<'_>) -> Option<()>;
    /// A piece of the text in the element that was opened last and is not closed.
    fn text(&mut self, text: &str);
    /// That element is closed.
    fn close(&mut self);
}

/// What was opened and is not closed, in what was not opened.
struct Tree(Vec<Node>);

impl Visitor for Tree {
    fn open(&mut self, element: &Opening<'_>) -> Option<()> {
        self.0.push(element.node()?);
        Some(())
    }

    fn text(&mut self, text: &str) {
        if let Some(top) = self.0.last_mut() {
            top.text.push_str(text);
        }
    }

    fn close(&mut self) {
        let done = self.0.pop();
        if let Some(top) = self.0.last_mut() {
            top.children.extend(done);
        }
    }
}

/// Reads a document piece by piece.
///
/// # Errors
/// [`Malformed`]; what was told before may be the beginning of nothing.
pub fn visit(document: &[u8], visitor: &mut impl Visitor) -> Result<(), Malformed> {
    let (mut reader, mut depth) = (quick_xml::Reader::from_reader(document), 0);
    loop {
        let before = reader.buffer_position();
        let event = reader.read_event().map_err(|error| malformed(document, reader.error_position(), error.to_string()))?;
        if event == Event::Eof {
            break;
        }
        tell(event, &mut depth, visitor).map_err(|reason| malformed(document, before, reason.to_owned()))?;
    }
    if depth > 0 { Err(malformed(document, document.len() as u64, "an element is not closed".to_owned())) } else { Ok(()) }
}

fn tell(event: Event<'_>, depth: &mut usize, visitor: &mut impl Visitor) -> Result<(), &'static str> {
    const NOT_UTF8: &str = "the text is not UTF-8";
    match event {
        Event::Start(_) if *depth >= MAX_DEPTH => return Err("elements are nested too deep"),
        Event::Start(start) => {
            visitor.open(&Opening(&start)).ok_or(NOT_UTF8)?;
            *depth += 1;
        }
        Event::Empty(empty) => {
            visitor.open(&Opening(&empty)).ok_or(NOT_UTF8)?;
            visitor.close();
        }
        Event::End(_) => {
            *depth = depth.checked_sub(1).ok_or("an element is closed that was not opened")?;
            visitor.close();
        }
        Event::Text(text) => visitor.text(&text.decode().map_err(|_| NOT_UTF8)?),
        Event::CData(text) => visitor.text(&text.decode().map_err(|_| NOT_UTF8)?),
        Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(|_| "a character reference is wrong")? {
            Some(character) => visitor.text(character.encode_utf8(&mut [0; 4])),
            None => {
                let name = reference.decode().map_err(|_| NOT_UTF8)?;
                visitor.text(resolve_predefined_entity(&name).ok_or("an entity is unknown")?);
            }
        },
        Event::Eof | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
    }
    Ok(())
}

fn malformed(document: &[u8], at: u64, reason: String) -> Malformed {
    let before = &document[..usize::try_from(at).unwrap_or(usize::MAX).min(document.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    Malformed { reason, line, column }
}

/// Whether an element or an attribute can have this name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
}

/// Whether XML 1.0 can hold the text at all. <https://www.w3.org/TR/xml/#charsets>
#[must_use]
pub fn can_hold(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\t' | '\n' | '\r') || c >= ' ' && !matches!(c, '\u{FFFE}' | '\u{FFFF}'))
}

/// Escapes text so that it comes back as it is: a parser would normalise a bare carriage return.
#[must_use]
pub fn escaped(text: &str) -> String {
    escape(text).replace('\r', "&#13;").replace('\n', "&#10;").replace('\t', "&#9;")
}

/// An element with text in it.
#[must_use]
pub fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escaped(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            ("<a>\n <b></c>\n</a>", "line 2"),
            ("<a>", "an element is not closed at line 1 column 4"),
            ("hello", "there is no element"),
            ("<a>&nope;</a>", "an entity is unknown at line 1 column 4"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn names_attributes_and_texts_are_read() {
        let root = read(b"<x:a b=\"1 &lt; 2\" xmlns:c='d'>t<e/></x:a>").unwrap();
        assert_eq!((root.name.as_str(), root.text.as_str(), root.children.len()), ("a", "t", 1));
        assert_eq!(root.attributes, [("b".to_owned(), "1 < 2".to_owned()), ("xmlns:c".to_owned(), "d".to_owned())]);
        assert!(is_name("CORSRules") && is_name("xsi:type"));
        assert!(!["", "a b", "a><b", "1a", "@a"].into_iter().any(is_name));
    }

    proptest! {
        #[test]
        fn any_text_survives(text in "(\\PC|[\\r\\n\\t<>&\"' ]){0,12}") {
            prop_assume!(can_hold(&text));
            prop_assert_eq!(parse(element("a", &text).as_bytes()).map(|root| root.text), Some(text));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
