//! Receipts: what ack, nack and extend ask for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::id::Mailbox;

use super::name::LeasedName;

/// The right to end or extend one lease: `<mailbox>/<name in leased/>`. It is void as soon as that name is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    /// Where the envelope lies.
    pub mailbox: Mailbox,
    /// Its name in `leased/`.
    pub name: LeasedName,
}

/// The text is not a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a receipt like kaede/3-01JD2V5XQK6M8W0R1T4Y7Z9ABC-a1~kaede.7~1795162841123")]
pub struct ReceiptFault {
    text: String,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mailbox, self.name)
    }
}

impl FromStr for Receipt {
    type Err = ReceiptFault;

    fn from_str(text: &str) -> Result<Self, ReceiptFault> {
        text.split_once('/')
            .and_then(|(mailbox, name)| Some(Self { mailbox: mailbox.parse().ok()?, name: LeasedName::parse(name)? }))
            .ok_or_else(|| ReceiptFault { text: text.to_owned() })
    }
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
