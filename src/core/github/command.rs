//! Commands in comments: `/miyabi retry`.

use crate::model::id::AgentId;
use crate::model::task::Priority;

/// What somebody asks for in a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin another run.
    Retry,
    /// Give the task up.
    Cancel,
    /// Change how urgent it is.
    Priority(Priority),
    /// Say why it is not done.
    Why,
    /// Have it done by this agent.
    Agent(AgentId),
    /// Take the issue as it stands now.
    Approve,
    /// Change what the pull request holds: this is wanted.
    Change(String),
}

/// Reads the command of a comment, if its first line that says anything is one.
///
/// # Errors
/// Says what is wrong with a line that begins like a command.
pub fn parse(comment: &str) -> Option<Result<Command, String>> {
    let comment = comment.trim_start();
    let (line, rest) = comment.split_once('\n').unwrap_or((comment, ""));
    let mut words = line.split_whitespace();
    if words.next() != Some("/miyabi") {
        return None;
    }
    let words: Vec<&str> = words.collect();
    Some(match words.as_slice() {
        ["retry"] => Ok(Command::Retry),
        ["cancel"] => Ok(Command::Cancel),
        ["why"] => Ok(Command::Why),
        ["approve"] => Ok(Command::Approve),
        ["change", ..] => {
            let first = line.split_once("change").map(|(_, first)| first.trim()).unwrap_or_default();
            let wanted = format!("{first}\n{}", rest.trim_end());
            Ok(Command::Change(wanted.trim().to_owned()))
        }
        ["priority", number] => match number.parse::<u8>().ok().and_then(|number| Priority::try_from(number).ok()) {
            Some(priority) => Ok(Command::Priority(priority)),
            None => Err("a priority is a number from 1 (highest) to 5".to_owned()),
        },
        ["agent", name] => AgentId::new(*name).map(Command::Agent).map_err(|fault| fault.to_string()),
        [] | [_, ..] => {
            Err("known are: `/miyabi retry`, `cancel`, `priority 1`, `why`, `agent NAME`, `approve`, `change WHAT`"
                .to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_can_be_a_command() {
        assert_eq!(parse("  \n /miyabi retry \nplease"), Some(Ok(Command::Retry)));
        assert_eq!(parse("/miyabi priority 1"), Some(Ok(Command::Priority(Priority::try_from(1).unwrap()))));
        assert_eq!(parse("/miyabi agent sakura"), Some(Ok(Command::Agent(AgentId::new("sakura").unwrap()))));
        let wanted = |text: &str| parse(text).and_then(Result::ok);
        assert_eq!(wanted("/miyabi change\nname it\n\nplease"), Some(Command::Change("name it\n\nplease".to_owned())));
        assert_eq!(wanted("\n/miyabi change a change\n"), Some(Command::Change("a change".to_owned())));
        assert_eq!(wanted("/miyabi change"), Some(Command::Change(String::new())));
        for none in ["", "hello", "> /miyabi retry", "look:\n/miyabi cancel", "/miyabix retry"] {
            assert_eq!(parse(none), None, "{none:?}");
        }
        for wrong in ["/miyabi", "/miyabi retry now", "/miyabi priority 9", "/miyabi agent ../x", "/miyabi explode"] {
            assert!(matches!(parse(wrong), Some(Err(_))), "{wrong:?}");
        }
    }
}
