//! Touches: patterns of the files that a task changes, and whether two of them can mean the same file.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest pattern, in bytes.
pub const TOUCH_BYTES_MAX: usize = 200;

/// A pattern of paths below the root of a repository, e.g. `src/api/**`.
///
/// `*` stands for any characters of one name, `?` for one, `**` as a whole name for any number of folders. A pattern means
/// what it matches and everything below that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Touch(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TouchFault {
    /// The text is longer than [`TOUCH_BYTES_MAX`].
    #[error("a pattern may have at most {TOUCH_BYTES_MAX} bytes")]
    TooLong,
    /// It does not begin at the root of the repository.
    #[error("`{0}` must be relative to the root of the repository")]
    NotRelative(String),
    /// It has an empty name, `.` or `..`.
    #[error("`{0}` has an empty name, `.` or `..` in it")]
    NotPlain(String),
    /// It has a character that other pattern languages give a meaning to.
    #[error("`{text}` has a `{sign}` in it; only `*`, `?` and `**` are known")]
    Sign {
        /// The pattern.
        text: String,
        /// The character.
        sign: char,
    },
    /// `**` is only a part of a name.
    #[error("`{0}` has `**` beside other characters; it must stand alone between two `/`")]
    Stars(String),
}

impl Touch {
    /// Checks the text and takes it as a pattern; one `/` at its end is left out.
    ///
    /// # Errors
    /// Says what the text breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, TouchFault> {
        let text = text.into();
        if text.len() > TOUCH_BYTES_MAX {
            return Err(TouchFault::TooLong);
        }
        if text.starts_with('/') {
            return Err(TouchFault::NotRelative(text));
        }
        if let Some(sign) = text.chars().find(|c| matches!(c, '[' | ']' | '{' | '}' | '!' | '\\')) {
            return Err(TouchFault::Sign { text, sign });
        }
        let plain = text.strip_suffix('/').unwrap_or(&text);
        if plain.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(TouchFault::NotPlain(text));
        }
        if plain.split('/').any(|name| name != DEEP && name.contains(DEEP)) {
            return Err(TouchFault::Stars(text));
        }
        Ok(Self(plain.to_owned()))
    }

    /// Returns the pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether there can be a path that both patterns mean. The answer is exact: the two are run side by side as
    /// automata, name by name and within a name character by character.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // Everything below what is matched is meant as well.
        let names = |touch: &Self| -> Vec<String> {
            touch.0.split('/').chain(std::iter::once(DEEP)).map(str::to_owned).collect()
        };
        meet(&names(self), &names(other), &|name| name == DEEP, &|a, b| {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            meet(&a, &b, &|c| *c == '*', &|a, b| a == b || *a == '?' || *b == '?')
        })
    }
}

/// The name that stands for any number of folders.
const DEEP: &str = "**";

/// Says whether two sequences of signs can stand for the same sequence; `is_many` signs stand for any number of any items.
fn meet<T>(a: &[T], b: &[T], is_many: &impl Fn(&T) -> bool, fits: &impl Fn(&T, &T) -> bool) -> bool {
    let width = b.len() + 1;
    // `can[i * width + j]`: what is left of `a` from i on and of `b` from j on can stand for the same.
    let mut can = vec![false; (a.len() + 1) * width];
    for i in (0..=a.len()).rev() {
        for j in (0..=b.len()).rev() {
            let at = |i: usize, j: usize| i <= a.len() && j <= b.len() && can[i * width + j];
            let value = match (a.get(i), b.get(j)) {
                (None, None) => true,
                (Some(sign), _) if is_many(sign) => at(i + 1, j) || at(i, j + 1),
                (_, Some(sign)) if is_many(sign) => at(i, j + 1) || at(i + 1, j),
                (Some(left), Some(right)) => fits(left, right) && at(i + 1, j + 1),
                (None, Some(_)) | (Some(_), None) => false,
            };
            can[i * width + j] = value;
        }
    }
    can[0]
}

impl fmt::Display for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Touch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn touch(text: &str) -> Touch {
        Touch::new(text).unwrap()
    }

    #[test]
    fn patterns_overlap_when_one_path_fits_both() {
        for (a, b) in [
            ("src/api/**", "src/api/user.rs"),
            ("src/api", "src/api/user.rs"),
            ("src/api/", "src/api"),
            ("**/*.rs", "src/*/main.*"),
            ("**", "README.md"),
            ("*", "docs/guide/start.md"),
            ("src/*.rs", "**/mod.rs"),
            ("a?c", "ab*"),
            ("a/**/z", "a/z"),
            ("カエデ/*", "カエデ/本.md"),
        ] {
            assert!(touch(a).overlaps(&touch(b)), "{a} and {b}");
            assert!(touch(b).overlaps(&touch(a)), "{b} and {a}");
        }
    }

    #[test]
    fn patterns_that_no_path_fits_are_apart() {
        for (a, b) in
            [("src/api/**", "src/web/**"), ("src/api", "src/api2"), ("*.rs", "*.md"), ("a/*/c", "a/b/d"), ("a?", "abc")]
        {
            assert!(!touch(a).overlaps(&touch(b)), "{a} and {b}");
            assert!(!touch(b).overlaps(&touch(a)), "{b} and {a}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "/", "/src", "a//b", "../x", "./x", "src/[ab].rs", "{a,b}", "!x", "a**", "a\\b"] {
            assert!(Touch::new(text).is_err(), "{text}");
        }
        assert_eq!(Touch::new("x".repeat(201)), Err(TouchFault::TooLong));
    }

    /// Another matcher, the simplest there is.
    fn is_meant(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern.split_first(), path.split_first()) {
            (None, _) => true,
            (Some((&DEEP, rest)), None) => is_meant(rest, path),
            (Some((&DEEP, rest)), Some((_, below))) => is_meant(rest, path) || is_meant(pattern, below),
            (Some(_), None) => false,
            (Some((name, rest)), Some((first, below))) => {
                is_name(name.as_bytes(), first.as_bytes()) && is_meant(rest, below)
            }
        }
    }

    fn is_name(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => is_name(rest, text) || (!text.is_empty() && is_name(pattern, &text[1..])),
            (Some((sign, rest)), Some((c, below))) => (*sign == b'?' || sign == c) && is_name(rest, below),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn names() -> Vec<String> {
        let mut names: Vec<String> = vec![String::new()];
        let mut all = Vec::new();
        for _ in 0..4 {
            names = names.iter().flat_map(|name| [format!("{name}a"), format!("{name}b")]).collect();
            all.extend(names.clone());
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn the_answer_is_that_of_trying_every_path(
            a in prop::collection::vec("[ab*?]{1,2}", 1..3),
            b in prop::collection::vec("[ab*?]{1,2}", 1..3),
        ) {
            let (a, b) = (a.join("/"), b.join("/"));
            let names = names();
            let (left, right): (Vec<&str>, Vec<&str>) = (a.split('/').collect(), b.split('/').collect());
            let both = |path: &[&str]| is_meant(&left, path) && is_meant(&right, path);
            let found = names.iter().any(|x| both(&[x])
                || names.iter().any(|y| both(&[x, y])
                || (a.contains(DEEP) || b.contains(DEEP)) && names.iter().any(|z| both(&[x, y, z]))));
            prop_assert_eq!(touch(&a).overlaps(&touch(&b)), found, "{} and {}", a, b);
        }
    }
}
