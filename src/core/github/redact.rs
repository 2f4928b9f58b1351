//! Secrets that look like secrets never go into a comment.

/// How known kinds of secrets begin.
const BEGINNINGS: [&str; 14] = [
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "sk-",
    "AKIA",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AIza",
    "eyJ",
];

/// How many letters must follow.
const LETTERS_MIN: usize = 16;

/// Replaces what looks like a token or key.
pub(super) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(index) = rest.char_indices().find_map(|(index, _)| begins(rest, index).then_some(index)) {
        let (before, secret) = rest.split_at(index);
        let end = length(secret);
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
        && BEGINNINGS
            .iter()
            .any(|beginning| here.strip_prefix(beginning).is_some_and(|rest| length(rest) >= LETTERS_MIN))
}

/// Returns how many bytes at the beginning of a text belong together. A dot does inside a token, as a signed one has them, and not
/// at the end of a sentence.
fn length(text: &str) -> usize {
    let mut end = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((index, c)) = chars.next() {
        let is_inner = c == '.' && index > 0 && chars.peek().is_some_and(|(_, next)| is_part(*next));
        if !is_part(c) && !is_inner {
            break;
        }
        end = index + c.len_utf8();
    }
    end
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
        let signed = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NSJ9.c2lnbmF0dXJl-_x";
        let text = format!("Bearer {signed}. And ghs_12345_{signed}, or ghs_0123456789abcdef..xyz.0123\n{signed}");
        assert_eq!(redact(&text), "Bearer ***. And ***, or ***..xyz.0123\n***");
        for plain in ["eyJ.md", "see eyJa.b.", "sk-short", "sk-.", "task-0123456789abcdef0123", "日本語", ""] {
            assert_eq!(redact(plain), plain);
        }
    }
}
