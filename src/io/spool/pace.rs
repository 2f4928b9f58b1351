//! Slowing down whoever floods a mailbox that fills up, so that its reader and everybody else can keep up.
//!
//! Only messages are slowed, only in a mailbox that is at least half full, and only those of a sender that sent more than
//! [`SENDS_MAX`] to it in ten seconds. The wait grows with the mailbox up to [`DELAY_MAX`]; it is the sender's to keep.

use std::io;
use std::time::Duration;

use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::id::Mailbox;
use crate::model::time::Timestamp;

use super::disk::{Content, Wait};
use super::fault::SpoolError;
use super::{Room, Spool};

/// How many messages in ten seconds are no flood.
pub const SENDS_MAX: u64 = 100;

/// The longest wait before one message.
pub const DELAY_MAX: Duration = Duration::from_secs(1);

/// The shortest wait that is worth it.
const DELAY_MIN: Duration = Duration::from_millis(10);

/// How long the text of a count may be, in bytes.
const COUNT_BYTES_MAX: usize = 32;

/// Why a sender should wait before it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long.
    pub delay: Duration,
    /// How many messages the sender sent to the mailbox in about ten seconds.
    pub sent: u64,
    /// How many envelopes wait or are leased in it, about.
    pub waiting: usize,
    /// How many may.
    pub max: usize,
}

impl Spool {
    /// Says how long the sender of a message should wait before it delivers it; `None`: not at all.
    ///
    /// # Errors
    /// Fails if the mailbox cannot be read.
    pub fn pace(&self, envelope: &Envelope, now: Timestamp) -> Result<Option<Pace>, SpoolError> {
        match envelope.kind {
            EnvelopeKind::Message => {}
            EnvelopeKind::WorkOrder | EnvelopeKind::Report => return Ok(None),
        }
        let sent = self.sent_lately(envelope, now);
        if sent <= SENDS_MAX {
            return Ok(None);
        }
        self.ensure(&envelope.to)?;
        let (waiting, max) = (self.waiting_about(&self.room(&envelope.to), now)?, self.limits().mailbox_envelopes_max);
        Ok(delay(waiting, max).map(|delay| Pace { delay, sent, waiting, max }))
    }

    /// Notes, for `status`, that a message was slowed. Not synced; a failure is logged and changes nothing.
    pub fn note_slowed(&self, mailbox: &Mailbox) {
        let room = self.room(mailbox);
        let path = room.slowed();
        let note = || -> io::Result<()> {
            let Some(file) = room.disk.lock(&path, Wait::Forever)? else { return Ok(()) };
            let count = parse(&room.disk.read_locked(&path, &file, COUNT_BYTES_MAX)?).saturating_add(1);
            room.disk.overwrite(&path, &file, format!("{count}\n").as_bytes())
        };
        if let Err(fault) = note() {
            self.complain(&path, &fault);
        }
    }
}

/// Reads how many messages were slowed in a mailbox, ever.
pub(super) fn slowed(room: &Room) -> u64 {
    match room.disk.read(&room.slowed(), COUNT_BYTES_MAX) {
        Ok(Content::Whole(bytes)) => parse(&bytes),
        Ok(Content::Cut(_) | Content::NotAFile) | Err(_) => 0,
    }
}

fn parse(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).ok().and_then(|text| text.trim_end().parse().ok()).unwrap_or(0)
}

/// From half full on the wait grows evenly; a full mailbox refuses by itself.
fn delay(waiting: usize, max: usize) -> Option<Duration> {
    let over = waiting.checked_sub(max / 2)?;
    let rest = (max - max / 2).max(1);
    let share = u32::try_from((over.min(rest)).saturating_mul(1_000) / rest).unwrap_or(1_000);
    Some((DELAY_MAX * share / 1_000).max(DELAY_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_from_half_full_on_and_is_bounded() {
        let millis = |waiting| delay(waiting, 1_000).map(|delay| delay.as_millis());
        assert_eq!([millis(0), millis(499), millis(500), millis(750)], [None, None, Some(10), Some(500)]);
        assert_eq!([millis(1_000), millis(usize::MAX)], [Some(1_000); 2]);
        assert_eq!(delay(1, 1), Some(DELAY_MAX));
    }
}
