//! What the unit tests of the spool share.

use serde_json::json;
use ulid::Ulid;

use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::id::{EnvelopeId, Incarnation};
use crate::model::time::Timestamp;

/// Builds a message whose id is the `number`-th.
pub(super) fn envelope(to: &str, number: u64) -> Envelope {
    let id = EnvelopeId(Ulid::from_parts(1_795_000_000_000 + number, u128::from(number)));
    let sent_at = Timestamp::from_millis(1_795_000_000_000);
    let body = json!({"text": format!("message {number}")});
    Envelope {
        from_incarnation: Incarnation(3),
        ..Envelope::new(id, EnvelopeKind::Message, "sakura", to.parse().unwrap(), sent_at, body)
    }
}
