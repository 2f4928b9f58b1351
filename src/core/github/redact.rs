//! Secrets that look like secrets never go into a comment.

/// How known kinds of secrets begin.
const BEGINNINGS: [&str; 13] =
    ["ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "sk-", "AKIA", "xoxb-", "xoxp-", "xapp-", "AIza"];

/// How many letters must follow.
const LETTERS_MIN: usize = 16;

/// Replaces what looks like a token or key.
pub(super) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(index) = rest.char_indices().find_map(|(index, _)| begins(rest, index).then_some(index)) {
        let (before, secret) = rest.split_at(index);
        let end = secret.find(|c: char| !is_part(c)).unwrap_or(secret.len());
        out.push_str(before);
        out.push_str("***");
        rest = &secret[end..];
    }
    out.push_str(rest);
    out
}

fn begins(text: &str, index: usize) -> bool {
    let before = text[..index].chars().next_back();
    let here = &text[index..];
    !before.is_some_and(|c| c.is_ascii_alphanumeric())
        && BEGINNINGS.iter().any(|beginning| {
            here.strip_prefix(beginning)
                .is_some_and(|rest| rest.chars().take_while(|c| is_part(*c)).count() >= LETTERS_MIN)
        })
}

const fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn tokens_are_taken_out_and_words_stay() {
        let text = "token=ghp_0123456789abcdefGHIJ, key sk-ant-api03-0123456789abcdef; あAKIA0123456789ABCDEF";
        assert_eq!(redact(text), "token=***, key ***; あ***");
        for plain in ["sk-short", "task-0123456789abcdef0123", "日本語", ""] {
            assert_eq!(redact(plain), plain);
        }
    }
}
