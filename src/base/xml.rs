//! XML as a tree of elements: read and escaped. What a document means is for others to say.

use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::Event;

/// Deeper documents are nobody's.
const MAX_DEPTH: usize = 16;

/// An element with what is in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, without a namespace.
    pub name: String,
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

/// The root element of a document; `None` when it is not well-formed.
#[must_use]
pub fn parse(document: &[u8]) -> Option<Node> {
    let mut reader = quick_xml::Reader::from_reader(document);
    let mut stack = vec![Node::default()];
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                if stack.len() > MAX_DEPTH {
                    return None;
                }
                let name = String::from_utf8(start.local_name().as_ref().to_vec()).ok()?;
                stack.push(Node { name, ..Node::default() });
            }
            Event::Empty(empty) => {
                let name = String::from_utf8(empty.local_name().as_ref().to_vec()).ok()?;
                stack.last_mut()?.children.push(Node { name, ..Node::default() });
            }
            Event::End(_) => {
                let done = stack.pop()?;
                stack.last_mut()?.children.push(done);
            }
            Event::Text(text) => stack.last_mut()?.text.push_str(&text.decode().ok()?),
            Event::CData(text) => stack.last_mut()?.text.push_str(&text.decode().ok()?),
            Event::GeneralRef(reference) => {
                let text = &mut stack.last_mut()?.text;
                match reference.resolve_char_ref().ok()? {
                    Some(character) => text.push(character),
                    None => text.push_str(resolve_predefined_entity(&reference.decode().ok()?)?),
                }
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let root = stack.pop().filter(|_| stack.is_empty())?;
    root.children.into_iter().next()
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
