//! What the unit tests of the spool share.

use serde_json::json;
use ulid::Ulid;

use crate::model::envelope::{ENVELOPE_SCHEMA, Envelope, EnvelopeKind};
use crate::model::id::{EnvelopeId, Incarnation};
use crate::model::task::Priority;
use crate::model::time::Timestamp;

/// Builds a message whose id is the `number`-th.
pub(super) fn envelope(to: &str, number: u64) -> Envelope {
    Envelope {
        schema: ENVELOPE_SCHEMA.to_owned(),
        id: EnvelopeId(Ulid::from_parts(1_795_000_000_000 + number, u128::from(number))),
        kind: EnvelopeKind::Message,
        from: "sakura".to_owned(),
        from_incarnation: Incarnation(3),
        to: to.parse().unwrap(),
        priority: Priority::DEFAULT,
        sent_at: Timestamp::from_millis(1_795_000_000_000),
        idempotency_key: None,
        reply_to: None,
        thread: None,
        group: None,
        seq: None,
        expires_at: None,
        attachments: Vec::new(),
        attempts_max: 5,
        body: json!({"text": format!("message {number}")}),
    }
}
