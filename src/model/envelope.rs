//! Envelopes: what lies in the spool (`envelope@1`).

use serde::{Deserialize, Serialize};

use super::id::{EnvelopeId, Incarnation, Mailbox};
use super::task::Priority;
use super::time::Timestamp;

/// The version of [`Envelope`]'s JSON form.
pub const ENVELOPE_SCHEMA: &str = "envelope@1";

/// A message or work order with everything that the spool must know of it. Its content never changes after delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Envelope {
    /// Always `envelope@1`.
    pub schema: String,
    /// The id, a ULID: names sort by priority, then by time.
    pub id: EnvelopeId,
    /// What the body is.
    pub kind: EnvelopeKind,
    /// Who sent it: an agent's id, `supervisor` or `operator`, or any name that a program gives itself.
    pub from: String,
    /// Which start of the sender sent it; 0 for senders without incarnations.
    #[serde(default)]
    pub from_incarnation: Incarnation,
    /// The mailbox it was sent to.
    pub to: Mailbox,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// A key under which the same envelope is accepted only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The envelope that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<EnvelopeId>,
    /// The conversation that it belongs to, e.g. a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The order group: of those with the same group and priority, the next is given out only when those before it have
    /// ended. Absent: the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its number among what the same start of the sender sent to this mailbox: it grows with every one, and never
    /// comes twice. Absent when the sender does not number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it is of no use any more to whoever has not leased it by then; messages only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Files that belong to it, by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// How often it may be leased before it is dead; messages only.
    #[serde(default = "attempts_max_default")]
    pub attempts_max: u32,
    /// What is said: any JSON value.
    pub body: serde_json::Value,
}

impl Envelope {
    /// Begins an envelope with nothing but what every one has: it is of the usual priority, and from a sender without
    /// incarnations.
    #[must_use]
    pub fn new(
        id: EnvelopeId,
        kind: EnvelopeKind,
        from: impl Into<String>,
        to: Mailbox,
        sent_at: Timestamp,
        body: serde_json::Value,
    ) -> Self {
        Self {
            schema: ENVELOPE_SCHEMA.to_owned(),
            id,
            kind,
            from: from.into(),
            from_incarnation: Incarnation::default(),
            to,
            priority: Priority::DEFAULT,
            sent_at,
            idempotency_key: None,
            reply_to: None,
            thread: None,
            group: None,
            seq: None,
            expires_at: None,
            attachments: Vec::new(),
            attempts_max: attempts_max_default(),
            body,
        }
    }

    /// Returns the order group that the envelope belongs to.
    #[must_use]
    pub fn order_group(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.from)
    }
}

const fn attempts_max_default() -> u32 {
    5
}

/// A file that belongs to a message. Its bytes stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Attachment {
    /// Its path, absolute.
    pub path: String,
    /// How many bytes it had when it was sent.
    pub bytes: u64,
    /// The SHA-256 of those bytes, in lower-case hexadecimal digits.
    pub sha256: String,
}

/// What the body of an envelope is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EnvelopeKind {
    /// Talk between agents and people; redelivered by the spool when a lease ends.
    Message,
    /// A [`super::order::WorkOrder`]; never redelivered by the spool.
    WorkOrder,
    /// A [`super::report::Report`].
    Report,
}
