//! "Did you mean": the known name that is nearest to what was written.

/// Finds the candidate that a typing mistake most likely meant.
pub(super) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let written = written.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= tolerance(&written, candidate))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Returns the question "did you mean" for the nearest candidate.
pub(super) fn did_you_mean<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(written, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// A third of the longer name may differ, so that short names are not taken for one another.
fn tolerance(written: &str, candidate: &str) -> usize {
    (written.chars().count().max(candidate.chars().count()) / 3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_understood_and_other_words_are_not() {
        let keys = ["heartbeat", "heartbeat_timeout", "timeout", "id"];
        assert_eq!(nearest("heartbaet", keys), Some("heartbeat"));
        assert_eq!(nearest("Timeout", keys), Some("timeout"));
        assert_eq!(nearest("heartbeat-timeout", keys), Some("heartbeat_timeout"));
        assert_eq!(nearest("colour", keys), None);
    }
}
