//! Leaving: a session and a server that were only there for our panes need not stay.

use tmux_interface::{KillWindow, SetOption};

use super::script::Script;
use super::{Tmux, TmuxError, oneshot};

impl Tmux {
    /// Lets our session end as soon as no window of an agent or of a person is left in it, which may be now, and the
    /// server as soon as it has no session left. Sessions of others keep it. [`Tmux::connect`] takes this back.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn end_when_empty(&self) -> Result<(), TmuxError> {
        let _alone = self.slots.lock().await;
        // The end is wanted: nobody needs to hear of it.
        *self.client.lock().await = None;
        let go = SetOption::new().server().option("exit-empty").value("on").build();
        let mut script = Script::new(&go);
        match self.keeper().await {
            Ok(Some(keeper)) => script = script.then(&KillWindow::new().target_window(keeper).build()),
            Ok(None) => {}
            Err(TmuxError::NoServer { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        match self.ask(&script).await {
            Ok(_) => Ok(()),
            // It may end before it has answered.
            Err(_) if !oneshot::server_listens(&self.spec).await => Ok(()),
            Err(error) => Err(error),
        }
    }
}
