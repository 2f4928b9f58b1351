//! The supervisor's beginning.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a supervisor is given.
pub struct Options {
    /// The root folder, absolute.
    pub root: PathBuf,
    /// The environment variables of the process.
    pub environment: BTreeMap<String, String>,
}

/// Why a supervisor could not begin, or ended other than by a drain.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is not part of this program yet.
    #[error("this program has no supervisor yet: {root} waits for a later version")]
    Missing {
        /// The root folder.
        root: PathBuf,
    },
}

/// Runs the supervisor of one root until it is drained.
///
/// # Errors
/// Says why it could not begin.
#[expect(clippy::unused_async, reason = "the loop will wait for events")]
pub async fn run(options: Options) -> Result<(), StartError> {
    drop(options.environment);
    Err(StartError::Missing { root: options.root })
}
