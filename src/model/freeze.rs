//! A freeze that is over.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The last freeze that was ended by a thaw. Whoever missed it, because hints get lost, can still make up for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastFreeze {
    /// When it began.
    pub since: Timestamp,
    /// When it ended.
    pub until: Timestamp,
}
