//! Characters that look like those of YAML and are others, as Japanese keyboards and word processors write them.

/// Each with what is meant.
const LOOKALIKES: [(char, &str); 17] = [
    ('：', "`:` and a space"),
    ('\u{3000}', "a space"),
    ('\u{a0}', "a space"),
    ('，', "`,`"),
    ('、', "`,`"),
    ('［', "`[`"),
    ('］', "`]`"),
    ('｛', "`{`"),
    ('｝', "`}`"),
    ('“', "`\"`"),
    ('”', "`\"`"),
    ('‘', "`'`"),
    ('’', "`'`"),
    ('＃', "`#`"),
    ('－', "`-` and a space"),
    ('＊', "`*`"),
    ('／', "`/`"),
];

/// Tells whoever wrote such a character what is meant, of the first one in a text.
pub(super) fn help(text: &str) -> Option<String> {
    text.chars().find_map(|found| match found {
        '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' => {
            let narrow = char::from_u32(u32::from(found) - FULL_WIDTH)?;
            Some(format!("`{found}` is a full-width character: write `{narrow}`"))
        }
        _ => {
            let (_, meant) = LOOKALIKES.iter().find(|(lookalike, _)| *lookalike == found)?;
            let shown =
                if found.is_whitespace() { format!("U+{:04X}", u32::from(found)) } else { format!("`{found}`") };
            Some(format!("{shown} is another character than the one of YAML: write {meant}"))
        }
    })
}

/// How far a full-width character is behind its ASCII one.
const FULL_WIDTH: u32 = 0xFEE0;

/// Tells what is wrong with a text that stands where keys and values were to be.
pub(super) fn help_for_lost_key(text: &str) -> Option<String> {
    help(text).or_else(|| {
        let (name, value) = text.split_once(':')?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        let is_close = is_name && value.starts_with(|c: char| !c.is_whitespace());
        is_close.then(|| format!("write a space behind the colon: `{name}: ...`"))
    })
}
