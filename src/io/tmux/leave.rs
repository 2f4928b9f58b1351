//! Leaving: a server that was only there for our panes need not stay.

use tmux_interface::SetOption;

use super::script::Script;
use super::{Tmux, TmuxError};

impl Tmux {
    /// Lets the server end as soon as it has no session left. Sessions of others keep it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn end_when_empty(&self) -> Result<(), TmuxError> {
        let go = SetOption::new().server().option("exit-empty").value("on").build();
        self.ask(&Script::new(&go)).await.map(drop)
    }
}
