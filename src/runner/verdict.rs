//! What a review says in its output, for programs that write no report.

use crate::model::report::{AgentReport, Outcome, SUMMARY_CHARS_MAX};

/// What a line of its own begins with that names the outcome.
const MARK: &str = "miyabi-outcome:";

/// Takes the outcome from the last line that names one; what was printed before it is then what the review says.
pub(super) fn read(output: &str, claim: &mut AgentReport) {
    let found = output.lines().rev().find_map(|line| {
        let word = line.trim().strip_prefix(MARK)?.trim();
        [Outcome::Done, Outcome::ChangesRequested].into_iter().find(|outcome| outcome.as_str() == word)
    });
    let Some(outcome) = found else { return };
    claim.outcome = Some(outcome);
    if claim.summary.is_none() {
        let mut said: Vec<&str> = output.lines().filter(|line| !line.trim().starts_with(MARK)).collect();
        while said.last().is_some_and(|line| line.trim().is_empty()) {
            said.pop();
        }
        let said = said.join("\n");
        let surplus = said.chars().count().saturating_sub(SUMMARY_CHARS_MAX);
        // The end is where a review comes to its point.
        claim.summary = Some(said.chars().skip(surplus).collect()).filter(|said: &String| !said.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(output: &str) -> AgentReport {
        let mut claim = AgentReport::default();
        read(output, &mut claim);
        claim
    }

    #[test]
    fn the_last_line_that_names_an_outcome_counts() {
        let claim =
            read_all("miyabi-outcome: done\nno, wait: the test is missing\n miyabi-outcome: changes_requested \n");
        assert_eq!(claim.outcome, Some(Outcome::ChangesRequested));
        assert_eq!(claim.summary.as_deref(), Some("no, wait: the test is missing"));
    }

    #[test]
    fn what_only_speaks_of_an_outcome_names_none() {
        for output in ["", "end with `miyabi-outcome: done`", "miyabi-outcome: fine", "done"] {
            assert_eq!(read_all(output), AgentReport::default(), "{output}");
        }
    }
}
