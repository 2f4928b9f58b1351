//! `miyabi status --watch`: the picture in the Conductor's pane.

use std::time::Duration;

use super::board;
use super::context::Context;
use super::failure::{Failure, Result};
use super::output::{Color, Output, Tone, terminal_size};
use super::table::cut;
use crate::control::client::{Client, ClientError};
use crate::control::protocol::{Call, Status};
use crate::io::clock;

/// The time between two looks; nobody reads faster.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The longest time between two looks while the supervisor is away.
const AWAY_INTERVAL_MAX: Duration = Duration::from_secs(8);

/// How long a supervisor may take to answer before the picture says that something is wrong.
const PATIENCE: Duration = Duration::from_secs(5);

/// Moves to the top left corner without clearing, so that nothing flickers.
const HOME: &str = "\x1b[H";

/// Clears the rest of the line.
const CLEAR_LINE: &str = "\x1b[K";

/// Clears everything below.
const CLEAR_BELOW: &str = "\x1b[J";

/// Keeps showing the picture until the process is ended or nobody reads it.
///
/// # Errors
/// When the folder is no root, or nobody reads any more.
pub fn run(context: &Context) -> Result {
    let client = context.client()?.with_patience(PATIENCE);
    let mut interval = LOOK_INTERVAL;
    let mut shown = None;
    loop {
        let size = terminal_size().filter(|_| context.environment.stdout_is_terminal);
        let width = size.map(|(columns, _)| columns);
        let picture = match client.ask::<Status>(Call::Status) {
            Ok(status) => {
                interval = LOOK_INTERVAL;
                board::draw(&status, clock::now(), context.out.color, width)
            }
            Err(error) => {
                interval = (interval * 2).min(AWAY_INTERVAL_MAX);
                away(&client, error, context.out.color, width)
            }
        };
        // A picture that has not changed is not drawn again: at rest there is nothing to do.
        let now = (picture, size);
        if shown.as_ref() != Some(&now) {
            show(context.out, &now.0, size)?;
            shown = Some(now);
        }
        std::thread::sleep(interval);
    }
}

fn away(client: &Client, error: ClientError, color: Color, width: Option<usize>) -> String {
    let absent = matches!(error, ClientError::NotRunning { .. } | ClientError::Interrupted { .. });
    let what =
        if absent { "no supervisor is running; waiting for it".to_owned() } else { Failure::from(error).message() };
    let room = width.unwrap_or(usize::MAX);
    format!(
        "{}\n{}\n",
        color.paint(Tone::Warning, &cut(&what, room)),
        color.paint(Tone::Faint, &cut(&client.path().display().to_string(), room))
    )
}

fn show(out: Output, picture: &str, size: Option<(usize, usize)>) -> Result<()> {
    match size {
        Some((_, rows)) => out.text(&frame(picture, rows)),
        None => out.text(&format!("{picture}\n")),
    }
}

/// Draws a picture over the one before, cut to the terminal's rows.
fn frame(picture: &str, rows: usize) -> String {
    let lines: Vec<&str> = picture.lines().collect();
    let fitting = if lines.len() > rows { rows.saturating_sub(1) } else { lines.len() };
    let mut text = HOME.to_owned();
    for (index, line) in lines.iter().take(fitting).enumerate() {
        if index > 0 {
            text.push_str("\r\n");
        }
        text.push_str(line);
        text.push_str(CLEAR_LINE);
    }
    if fitting < lines.len() {
        text.push_str(&format!("\r\n… {} more lines{CLEAR_LINE}", lines.len() - fitting));
    }
    text.push_str(CLEAR_BELOW);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal_and_says_what_is_missing() {
        let text = frame("a\nb\nc\nd\n", 3);
        assert_eq!(text, "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n… 2 more lines\x1b[K\x1b[J");
        assert!(!frame("a\nb\nc\n", 3).contains("more"));
    }

    #[test]
    fn an_absent_supervisor_is_waited_for_and_named() {
        let client = Client::new("/root/data/run/control.sock".into());
        let error = client.ask::<Status>(Call::Status).unwrap_err();
        let text = away(&client, error, Color::Plain, Some(20));
        assert!(text.starts_with("no supervisor is ru…\n"), "{text}");
    }
}
