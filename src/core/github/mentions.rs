//! "Depends on #12" in the text of an issue.

use crate::model::id::RepositorySlug;

/// How many issues one text may name.
const MENTIONS_MAX: usize = 100;

/// The words after which issues are named.
const WORDS: [&str; 3] = ["depends on", "blocked by", "depend on"];

/// An issue that a text names: in another repository, if it says so.
pub(super) type Mention = (Option<RepositorySlug>, u64);

/// Finds the issues on which a text says that it depends. Quotes, code and hidden comments say nothing.
pub(super) fn find(body: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut is_code = false;
    let visible = without_comments(body);
    for line in visible.lines() {
        let line = line.trim_start();
        if line.starts_with("```") || line.starts_with("~~~") {
            is_code = !is_code;
            continue;
        }
        if is_code || line.starts_with('>') {
            continue;
        }
        read_line(line, &mut found);
    }
    found.truncate(MENTIONS_MAX);
    found
}

fn without_comments(body: &str) -> String {
    let mut text = String::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once("<!--") {
        text.push_str(before);
        rest = after.split_once("-->").map_or("", |(_, behind)| behind);
    }
    text + rest
}

fn read_line(line: &str, found: &mut Vec<Mention>) {
    // Lower case of ASCII alone keeps every place where it is.
    let lower = line.to_ascii_lowercase();
    let mut at = 0;
    while let Some((start, word)) = next_word(&lower, at) {
        at = start + word.len();
        let is_begun = lower[..start].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        if is_begun {
            at += read_list(&line[at..], found);
        }
    }
}

fn next_word(lower: &str, from: usize) -> Option<(usize, &'static str)> {
    WORDS.iter().filter_map(|word| Some((from + lower.get(from..)?.find(word)?, *word))).min()
}

/// Reads `: #1, owner/name#2 and #3`, and returns how much of the text that was.
fn read_list(text: &str, found: &mut Vec<Mention>) -> usize {
    let mut rest = text.trim_start_matches([':', ' ']);
    loop {
        let end = rest.find(|c: char| c.is_whitespace() || c == ',' || c == ';').unwrap_or(rest.len());
        let Some(mention) = read_mention(rest[..end].trim_end_matches(['.', ')', '!'])) else { break };
        if !found.contains(&mention) {
            found.push(mention);
        }
        rest = rest[end..].trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest).trim_start();
    }
    text.len() - rest.len()
}

fn read_mention(word: &str) -> Option<Mention> {
    let (place, number) = word.rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| is_number && *number > 0)?;
    if place.is_empty() {
        return Some((None, number));
    }
    Some((Some(RepositorySlug::new(place).ok()?), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        let text = |(slug, number): Mention| format!("{}#{number}", slug.map_or(String::new(), |it| it.to_string()));
        find(body).into_iter().map(text).collect()
    }

    #[test]
    fn the_usual_ways_to_say_it_are_understood() {
        assert_eq!(found("Depends on #12"), ["#12"]);
        assert_eq!(found("- depends on: #1, #2 and owner/repo#7.\nBlocked by #3"), ["#1", "#2", "owner/repo#7", "#3"]);
        assert_eq!(found("This (blocked by #5) DEPENDS ON #5, depends on #6"), ["#5", "#6"]);
        assert_eq!(found("これは Depends on #4 です"), ["#4"]);
    }

    #[test]
    fn what_is_quoted_code_or_hidden_says_nothing() {
        for nothing in [
            "",
            "#12",
            "see #12, it depends on nothing",
            "> depends on #1",
            "```\ndepends on #1\n```",
            "<!-- depends on #1 -->",
            "<!-- depends on #1",
            "undepends on #1",
            "depends on #0 or depends on #x or depends on https://example.org/1#2 or depends on a b#3",
            "depends on ../x#1 and depends on #-1",
        ] {
            assert_eq!(found(nothing), Vec::<String>::new(), "{nothing:?}");
        }
    }

    #[test]
    fn a_text_names_a_bounded_number_of_issues() {
        let many: String = (1..500).map(|number| format!("depends on #{number}\n")).collect();
        assert_eq!(found(&many).len(), MENTIONS_MAX);
    }
}
