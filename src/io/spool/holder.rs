//! Who holds an envelope.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::id::{AgentId, Incarnation};

use super::name::{NOBODY, canonical};

/// The longest name of a holder, in bytes.
pub const HOLDER_BYTES_MAX: usize = 64;

/// Who holds an envelope: a name and which start of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    agent: String,
    incarnation: Incarnation,
}

/// The text cannot be a holder's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("holder `{text}` is not valid: use letters, digits, `-` and `_`, at most {HOLDER_BYTES_MAX} characters")]
pub struct HolderFault {
    text: String,
}

impl Holder {
    /// Checks a name and takes it as a holder's.
    ///
    /// # Errors
    /// Refuses a name that cannot be part of a file name.
    pub fn new(agent: impl Into<String>, incarnation: Incarnation) -> Result<Self, HolderFault> {
        let agent = agent.into();
        let valid = !agent.is_empty()
            && agent.len() <= HOLDER_BYTES_MAX
            && agent != NOBODY
            && agent.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if valid { Ok(Self { agent, incarnation }) } else { Err(HolderFault { text: agent }) }
    }

    /// Returns one start of an agent as a holder.
    #[must_use]
    pub fn of(agent: &AgentId, incarnation: Incarnation) -> Self {
        Self { agent: agent.to_string(), incarnation }
    }

    /// Returns the human at the command line as a holder.
    #[must_use]
    pub fn operator() -> Self {
        Self { agent: "operator".to_owned(), incarnation: Incarnation(0) }
    }

    /// Returns the holder's name.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Returns which start of it holds the envelope.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (agent, incarnation) = text.rsplit_once('.')?;
        Self::new(agent, Incarnation(incarnation.parse().ok()?)).ok()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.agent, self.incarnation)
    }
}

impl FromStr for Holder {
    type Err = HolderFault;

    fn from_str(text: &str) -> Result<Self, HolderFault> {
        canonical(text, Self::parse).ok_or_else(|| HolderFault { text: text.to_owned() })
    }
}

impl Serialize for Holder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Holder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
