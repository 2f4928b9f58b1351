//! What every code of a fault means, in the words of `docs/faults.md`.

use crate::model::fault_code::{Code, Family, Mistake};

const PAGE: &str = include_str!("../../docs/faults.md");

/// Returns the sections of the page, in the order of the numbers: each without its `## `.
#[must_use]
pub fn sections() -> Vec<&'static str> {
    PAGE.split("\n## ").skip(1).collect()
}

/// Explains a code: a line with its title, then what is wrong and an example of how to do it right, as Markdown.
#[must_use]
pub fn explain(code: Code) -> String {
    let heading = format!("{:03} ", code.mistake.number());
    let section = sections().into_iter().find_map(|section| section.strip_prefix(heading.as_str()));
    format!("{code}: {}\n", section.unwrap_or_else(|| code.mistake.title()).trim_end())
}

/// Lists all codes of the kind of file that a code is for.
#[must_use]
pub fn list(family: Family) -> Vec<Code> {
    Mistake::ALL.into_iter().map(|mistake| Code { family, mistake }).collect()
}
