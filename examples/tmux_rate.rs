//! How many tmux commands a second go through the persistent client, and how many when each starts a process.
//!
//! `scripts/bench-tmux` runs it with a server of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::tmux::{Tmux, TmuxError, TmuxSpec};

/// How many commands go through the client, and how many by starting a process.
const COMMANDS: (u32, u32) = (20_000, 500);

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("the first argument is the folder for the socket")?;
    let spec = TmuxSpec {
        program: PathBuf::from("tmux"),
        socket: "rate".to_owned(),
        tmpdir: Some(PathBuf::from(&folder)),
        session: "rate".to_owned(),
        root: PathBuf::from(&folder),
        env: BTreeMap::new(),
        server_is_kept: false,
    };
    let connected = Tmux::new(spec.clone());
    connected.connect().await?;
    // Never connected: every question starts a process.
    let spawning = Tmux::new(spec);
    let through_client = rate(&connected, COMMANDS.0).await?;
    let by_spawning = rate(&spawning, COMMANDS.1).await?;
    println!("{through_client:.0} {by_spawning:.0}");
    connected.end_when_empty().await?;
    Ok(())
}

/// Returns how many commands a second are answered, one after the other.
async fn rate(tmux: &Tmux, commands: u32) -> Result<f64, TmuxError> {
    tmux.list_panes().await?;
    let began = clock::now();
    for _ in 0..commands {
        tmux.list_panes().await?;
    }
    let took: Duration = clock::now().since(began).max(Duration::from_millis(1));
    Ok(f64::from(commands) / took.as_secs_f64())
}
