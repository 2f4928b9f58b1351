//! A tree of values with their places: what both formats are turned into first, so that every fault can be found.

use std::rc::Rc;

use super::source::Span;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The value; shared where a YAML alias repeats it.
    pub(super) value: Rc<Value>,
    /// Where it stands; of an alias: where it is used.
    pub(super) span: Span,
}

/// A value of either format.
#[derive(Debug)]
pub(super) enum Value {
    /// A string of TOML, a quoted or block scalar of YAML.
    Text(String),
    /// An unquoted scalar of YAML: what it means depends on where it stands, so `run: true` is a command.
    Plain(String),
    /// An integer of TOML.
    Integer(i64),
    /// A floating-point number of TOML.
    Float(f64),
    /// A boolean of TOML.
    Bool(bool),
    /// Another scalar of TOML, by the name of its type.
    Other(&'static str),
    /// Nothing where a value could be.
    Null,
    /// Values in order.
    List(Vec<Node>),
    /// Keys and values in the order of the file; every key once.
    Map(Vec<Entry>),
    /// Something whose fault has been told already.
    Broken,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key's text.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) key_span: Span,
    /// The value.
    pub(super) node: Node,
}

impl Value {
    /// Returns the text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Plain(text) => Some(text),
            Self::Integer(_)
            | Self::Float(_)
            | Self::Bool(_)
            | Self::Other(_)
            | Self::Null
            | Self::List(_)
            | Self::Map(_)
            | Self::Broken => None,
        }
    }

    /// Names the type for people, with its article.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Plain(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::Other(kind) => kind,
            Self::Null => "nothing",
            Self::List(_) => "a list",
            Self::Map(_) => "a table",
            Self::Broken => "something broken",
        }
    }
}
