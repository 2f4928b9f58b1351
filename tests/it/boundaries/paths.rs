//! The paths that source code names, with `use` trees written out.

use super::text::Word;

/// Lists the paths into this crate, without `crate`, each with its line; names of generics, and of what the path's last
/// module holds, come along and do no harm.
pub(super) fn imports(words: &[Word], module: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in 0..words.len() {
        if is_continued(words, at) {
            continue;
        }
        let (base, start) = match words[at].text.as_str() {
            // The binary's sources see the library under its name.
            "crate" | "miyabi" => (String::new(), at + 1),
            "super" => climb(words, at, module),
            _ => continue,
        };
        collect(words, start, &base, &mut found);
    }
    found
}

/// Lists the paths into other crates, such as `std::fs::File`, each with its line.
pub(super) fn outside(words: &[Word]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in 0..words.len() {
        let is_crate = matches!(words[at].text.as_str(), "std" | "tokio" | "rustix");
        if is_crate && !is_continued(words, at) {
            collect(words, at + 1, &words[at].text, &mut found);
        }
    }
    found
}

/// Lists what is used of a module that was imported whole: after `use crate::daemon`, each `daemon::start::run`.
pub(super) fn below(words: &[Word], import: &str) -> Vec<String> {
    let name = import.rsplit("::").next().unwrap_or(import);
    let mut found = Vec::new();
    for at in 0..words.len() {
        let goes_on = words.get(at + 1).is_some_and(|word| word.text == "::");
        if words[at].text == name && goes_on && !is_continued(words, at) {
            collect(words, at + 1, import, &mut found);
        }
    }
    found.into_iter().map(|(_, path)| path).collect()
}

/// Says whether a word is the middle of a path, as the second `super` in `super::super`.
fn is_continued(words: &[Word], at: usize) -> bool {
    at > 0 && words[at - 1].text == "::"
}

/// Follows `super::super::` upwards from a module; returns where it leads and the next word.
fn climb(words: &[Word], at: usize, module: &str) -> (String, usize) {
    let mut names: Vec<&str> = module.split("::").collect();
    let mut next = at;
    while words.get(next).is_some_and(|word| word.text == "super") {
        names.pop();
        next += 1;
        let goes_on = words.get(next + 1).is_some_and(|word| word.text == "super");
        if goes_on && words[next].text == "::" {
            next += 1;
        }
    }
    (names.join("::"), next)
}

/// Collects the path, or the tree of paths, that goes on at a `::`. Returns the first word behind it.
fn collect(words: &[Word], at: usize, base: &str, found: &mut Vec<(usize, String)>) -> usize {
    let line = words[at.saturating_sub(1)].line;
    if words.get(at).is_none_or(|word| word.text != "::") {
        if !base.is_empty() {
            found.push((line, base.to_owned()));
        }
        return at;
    }
    match words.get(at + 1).map(|word| word.text.as_str()) {
        Some("{") => collect_tree(words, at + 2, base, found),
        Some(name) if name.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') => {
            collect(words, at + 2, &joined(base, name), found)
        }
        // A glob, a turbofish: what is before it counts.
        Some(_) | None => {
            if !base.is_empty() {
                found.push((line, base.to_owned()));
            }
            at + 1
        }
    }
}

/// Collects the branches between the braces of a `use` tree.
fn collect_tree(words: &[Word], start: usize, base: &str, found: &mut Vec<(usize, String)>) -> usize {
    let mut at = start;
    while let Some(word) = words.get(at) {
        at = match word.text.as_str() {
            "}" => return at + 1,
            "," | "*" => at + 1,
            "self" => collect(words, at + 1, base, found),
            "as" => at + 2,
            name => collect(words, at + 1, &joined(base, name), found),
        };
    }
    at
}

fn joined(base: &str, name: &str) -> String {
    if base.is_empty() { name.to_owned() } else { format!("{base}::{name}") }
}
