//! What may be written: one table of keys per part of a file, for the parsers, the JSON schemas and the documentation.

pub mod agents;
pub mod dag;
pub mod github;
pub mod workflow;

/// A key that may be written.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// How it is written.
    pub name: &'static str,
    /// Other ways to write it.
    pub aliases: &'static [&'static str],
    /// What its value must be.
    pub shape: Shape,
    /// What holds when it is not written.
    pub absent: Absent,
    /// What it means: one sentence for people.
    pub about: &'static str,
    /// The key with a value, as it stands in a file.
    pub example: &'static str,
}

/// What holds when a key is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It must be written.
    Required,
    /// This value, as it would be written.
    Value(&'static str),
    /// What these words say.
    Otherwise(&'static str),
}

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    Text,
    /// A name of a-z, 0-9 and `-`.
    Slug,
    /// A string or a list of strings.
    Texts,
    /// A duration such as `45s`.
    Duration,
    /// An amount of memory or disk such as `512MiB`.
    Size,
    /// A whole number of a range.
    Count(u32, u32),
    /// A number of a range.
    Factor(f64, f64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// One table.
    Table(&'static Part),
    /// Any number of tables.
    Tables(&'static Part),
    /// Tables under names.
    Named(&'static Part),
    /// Tables under the issues that they are about.
    ByIssue(&'static Part),
    /// Whole numbers of a range under names.
    Counts(u32, u32),
}

/// A part of a file: a heading and its keys.
#[derive(Debug)]
pub struct Part {
    /// How the documentation calls it.
    pub heading: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [Key],
}

/// Finds a key by its name or another way to write it.
pub(super) fn find(keys: &'static [Key], written: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == written || key.aliases.contains(&written))
}

/// Returns a part and all parts inside of it, each once, in the order of the documentation.
#[must_use]
pub fn parts(root: &'static Part) -> Vec<&'static Part> {
    let mut parts = vec![root];
    let mut next = 0;
    while let Some(part) = parts.get(next).copied() {
        next += 1;
        for key in part.keys {
            let inner = match key.shape {
                Shape::Table(inner) | Shape::Tables(inner) | Shape::Named(inner) | Shape::ByIssue(inner) => inner,
                Shape::Text
                | Shape::Slug
                | Shape::Texts
                | Shape::Duration
                | Shape::Size
                | Shape::Count(..)
                | Shape::Factor(..)
                | Shape::Flag
                | Shape::Choice(_)
                | Shape::Choices(_)
                | Shape::Counts(..) => continue,
            };
            if parts.iter().all(|part| part.heading != inner.heading) {
                parts.push(inner);
            }
        }
    }
    parts
}

const fn key(name: &'static str, shape: Shape, absent: Absent, about: &'static str, example: &'static str) -> Key {
    Key { name, aliases: &[], shape, absent, about, example }
}

#[cfg(test)]
mod tests {
    use super::agents::AGENTS;
    use super::*;

    #[test]
    fn every_part_is_found_once() {
        let headings: Vec<_> = parts(&AGENTS).iter().map(|part| part.heading).collect();
        let expected = [
            "agents.toml",
            "[session]",
            "[defaults]",
            "[[agent]]",
            "[[repository]]",
            "[workflow]",
            "[resources]",
            "[scheduler]",
            "[alert]",
            "[spool]",
            "[github]",
            "[log]",
            "[service]",
            "limits",
            "restart",
            "[[github.route]]",
            "[github.webhook]",
        ];
        assert_eq!(headings, expected);
    }
}
