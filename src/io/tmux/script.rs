//! Commands for the tmux server, written so that no argument can become a command.

use std::fmt::Write;

use tmux_interface::TmuxCommand;

/// A sequence of commands that the server runs without anything of another client in between; a command that fails
/// ends it.
#[derive(Debug, Clone)]
pub(super) struct Script {
    line: String,
    verb: String,
    nul: bool,
}

impl Script {
    /// Begins a sequence.
    pub(super) fn new(first: &TmuxCommand<'_>) -> Self {
        let verb = first.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut script = Self { line: String::new(), verb, nul: false };
        script.push(first);
        script
    }

    /// Adds a command.
    pub(super) fn then(mut self, command: &TmuxCommand<'_>) -> Self {
        self.line.push_str(" ; ");
        self.push(command);
        self
    }

    /// Adds all commands of another sequence.
    pub(super) fn then_all(mut self, other: &Self) -> Self {
        self.line.push_str(" ; ");
        self.line.push_str(&other.line);
        self.nul |= other.nul;
        self
    }

    /// Returns the one line that the server reads.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// Returns the first command's name, for errors.
    pub(super) fn verb(&self) -> &str {
        &self.verb
    }

    /// Says whether an argument holds a NUL, which cannot be written.
    pub(super) const fn has_nul(&self) -> bool {
        self.nul
    }

    fn push(&mut self, command: &TmuxCommand<'_>) {
        for (index, word) in command.to_vec().iter().enumerate() {
            if index > 0 {
                self.line.push(' ');
            }
            self.nul |= word.contains('\0');
            quote_into(&mut self.line, word);
        }
    }
}

/// Writes a word so that tmux's own parser gives back exactly this text: nothing is special inside single quotes.
/// Control characters would end the line or be lost, so they are written as octal escapes, which need double quotes.
fn quote_into(line: &mut String, word: &str) {
    line.push('\'');
    for character in word.chars() {
        match character {
            '\'' => line.push_str("'\\''"),
            control if control.is_ascii_control() => {
                write!(line, "'\"\\{:03o}\"'", u32::from(control)).expect("a String takes all that is written");
            }
            other => line.push(other),
        }
    }
    line.push('\'');
}

/// Writes a text so that tmux's formats give it back: some arguments (names, folders) are formats.
pub(super) fn literal(text: &str) -> String {
    text.replace('#', "##")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(word: &str) -> String {
        let mut line = String::new();
        quote_into(&mut line, word);
        line
    }

    #[test]
    fn nothing_leaves_its_quotes() {
        assert_eq!(quoted("a;b $HOME ~ #{pid} {} \\"), "'a;b $HOME ~ #{pid} {} \\'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("a\nkill-server"), "'a'\"\\012\"'kill-server'");
        assert_eq!(quoted(""), "''");
        assert!(!quoted("\r\n\u{7f}\u{1b}").contains(|c: char| c.is_ascii_control()));
    }

    #[test]
    fn commands_are_joined_into_one_line() {
        let mut first = TmuxCommand::with_name("new-window");
        first.push_param("a ; b");
        let second = TmuxCommand::with_name("list-panes");
        let script = Script::new(&first).then(&second);
        assert_eq!(script.line(), "'new-window' 'a ; b' ; 'list-panes'");
        assert_eq!(script.verb(), "new-window");
    }

    #[test]
    fn a_nul_is_noticed() {
        let mut command = TmuxCommand::with_name("new-window");
        command.push_param("a\0b");
        assert!(Script::new(&command).has_nul());
    }
}
