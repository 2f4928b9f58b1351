//! Times as people read and write them.

use std::time::Duration;

use chrono::{DateTime, Local};

use super::failure::{Failure, Kind, Result};
use crate::model::span;
use crate::model::time::Timestamp;

/// Writes a duration in at most two units, for tables.
#[must_use]
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m")
    } else {
        format!("{seconds}s")
    }
}

/// Writes how long a piece of work took.
#[must_use]
pub fn precise(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else if duration < Duration::from_secs(60) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        short(duration)
    }
}

/// Writes how long ago something was.
#[must_use]
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", short(now.since(then)))
}

/// Writes a time of the user's own clock.
#[must_use]
pub fn local(time: Timestamp) -> String {
    match DateTime::from_timestamp_millis(time.as_millis()) {
        Some(time) => time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        None => time.to_string(),
    }
}

/// Reads a time: RFC 3339, or how long ago.
///
/// # Errors
/// Shows both forms.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    span::parse(text).map(|span| now - span).map_err(|_| {
        Failure::say(Kind::Invalid, format!("`{text}` is neither a time nor a duration"))
            .hint("write a time such as 2026-11-20T08:20:41Z, or how long ago, such as 10m or 2h")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let text = |seconds| short(Duration::from_secs(seconds));
        assert_eq!([text(5), text(125), text(3_700), text(200_000)], ["5s", "2m", "1h 1m", "2d 7h"]);
        assert_eq!(precise(Duration::from_millis(1_250)), "1.2 s");
    }

    #[test]
    fn a_time_may_be_absolute_or_relative() {
        let now = Timestamp::from_millis(1_000_000);
        assert_eq!(parse("10s", now).unwrap(), Timestamp::from_millis(990_000));
        assert_eq!(parse("1970-01-01T00:00:05Z", now).unwrap(), Timestamp::from_millis(5_000));
        assert_eq!(parse("yesterday", now).unwrap_err().kind, Kind::Invalid);
    }
}
