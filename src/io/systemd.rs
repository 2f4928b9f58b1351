//! What we tell the service manager. Without one, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the service is up, and what it is doing.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says what the service is doing, in one line.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Says that the configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager cannot be told"),
    }
}

/// Says that the loop has finished a turn.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// Says that the service is going down.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Returns how often the service manager wants to hear of us; `None`: never.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
