//! Source text without what is no code, cut into words.

/// A word or a sign of the source, and the line that it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: usize,
}

/// Blanks comments, strings, characters and `#[cfg(test)]` items; line breaks stay, so places stay right.
pub(super) fn without_comments_strings_and_tests(source: &str) -> String {
    without_tests(&without_comments_and_strings(source))
}

fn without_comments_and_strings(source: &str) -> String {
    let letters: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < letters.len() {
        let end = end_of_blank(&letters, at);
        if end > at {
            code.extend(letters[at..end].iter().map(|letter| if *letter == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            code.push(letters[at]);
            at += 1;
        }
    }
    code
}

/// Returns where the comment, string or character that begins here ends; `at` itself when none begins here.
fn end_of_blank(letters: &[char], at: usize) -> usize {
    let next = |offset: usize| letters.get(at + offset).copied();
    match letters[at] {
        '/' if next(1) == Some('/') => position(letters, at, |rest| rest[0] == '\n'),
        '/' if next(1) == Some('*') => end_of_block_comment(letters, at),
        '"' => end_of_quoted(letters, at, '"'),
        '\'' if next(1) == Some('\\') => end_of_quoted(letters, at, '\''),
        // 'x' is a character, 'x alone is a lifetime.
        '\'' if next(2) == Some('\'') => at + 3,
        'r' if !is_inside_word(letters, at) => end_of_raw_string(letters, at),
        _ => at,
    }
}

fn position(letters: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    (from..letters.len()).find(|at| found(&letters[*at..])).unwrap_or(letters.len())
}

fn end_of_block_comment(letters: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at + 1 < letters.len() {
        match (letters[at], letters[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    letters.len()
}

fn end_of_quoted(letters: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while at < letters.len() && letters[at] != quote {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(letters.len())
}

/// Returns the end of `r"..."` or `r#"..."#`; `from` itself when it is a raw word such as `r#type`.
fn end_of_raw_string(letters: &[char], from: usize) -> usize {
    let hashes = letters[from + 1..].iter().take_while(|letter| **letter == '#').count();
    if letters.get(from + 1 + hashes) != Some(&'"') {
        return from;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let start = from + hashes + 2;
    (position(letters, start, |rest| rest.starts_with(&close)) + close.len()).min(letters.len())
}

fn is_inside_word(letters: &[char], at: usize) -> bool {
    // `br"..."` is a raw string as well.
    let before = at.checked_sub(1).map(|before| letters[before]);
    before.is_some_and(|letter| is_word_letter(letter) && letter != 'b')
}

fn is_word_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Blanks each item behind `#[cfg(test)]`, to its closing brace or its semicolon.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        let (before, item) = rest.split_at(start);
        let (inside, after) = item.split_at(end_of_item(item));
        kept.push_str(before);
        kept.extend(inside.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    kept + rest
}

fn end_of_item(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in item.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// Cuts code into names, `::` and single signs.
pub(super) fn words(code: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word_letter(first) {
                rest.find(|letter| !is_word_letter(letter)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            words.push(Word { text: rest[..length].to_owned(), line: number + 1 });
            rest = rest[length..].trim_start();
        }
    }
    words
}

/// Finds a row of words, and returns the line of the first.
pub(super) fn find(words: &[Word], row: &[&str]) -> Option<usize> {
    let found =
        words.windows(row.len()).find(|window| window.iter().map(|word| word.text.as_str()).eq(row.iter().copied()));
    found.map(|window| window[0].line)
}
