//! How well changes of files are followed, as figures.

use serde::{Deserialize, Serialize};

/// How often something went wrong with following folders, since the process began to. Each costs a look that a sweep makes:
/// later, never lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchFaults {
    /// Changes were lost: more than the kernel's queue holds, or a folder was replaced.
    pub lost: u64,
    /// A folder could not be followed when it was tried: no instances or watches left, or it is missing.
    pub blind: u64,
    /// Files that a sweep found and no change had told of.
    pub missed: u64,
}

impl WatchFaults {
    /// Says whether nothing went wrong.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds up what went wrong in two places.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { lost: self.lost + other.lost, blind: self.blind + other.blind, missed: self.missed + other.missed }
    }
}
