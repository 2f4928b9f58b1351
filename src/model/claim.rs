//! Claims: which of several orchestras works on an issue. Each is a line in a comment, and GitHub's order of comments decides.
//!
//! A claim is born with its comment and lives for its lease after the comment's last edit, both by GitHub's own clock. Nobody's
//! clock is compared with anybody's. Of those that live, the one with the least id counts. Whoever takes an issue over names the claims that had
//! ended: these never live again, however late an edit of them arrives.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::github::Association;
use super::id::{OrchestraId, RunId};
use super::time::Timestamp;

/// How much longer than its lease others leave a claim alone: clocks do not all run at one speed, and a last edit may be on its way.
pub const MARGIN: Duration = Duration::from_secs(60);

/// The longest lease that is believed: a mistaken line must not hold an issue up for ever.
pub const LEASE_MAX: Duration = Duration::from_hours(24 * 7);

/// How many ended claims one line names: the newest.
pub const OVER_MAX: usize = 50;

/// The longest first line of a comment that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 2_000;

const RUN: &str = "<!-- miyabi:run=";
const CLAIM: &str = "<!-- miyabi:claim=";
const ANSWERS: &str = "<!-- miyabi:answers=";
const END: &str = " -->";

/// How long a claim lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// For this long after the last edit.
    For(#[serde(with = "super::span")] Duration),
    /// For good: the work is done.
    Done,
}

/// The line in a comment by which an orchestra claims its issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimLine {
    /// Whose.
    pub orchestra: OrchestraId,
    /// For how long.
    pub hold: Hold,
    /// The claims that had ended when this one was made.
    pub over: BTreeSet<u64>,
}

/// A comment of an orchestra, by somebody whose claims count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimComment {
    /// Its id.
    pub id: u64,
    /// The run that it tells of.
    pub run: RunId,
    /// The claim, as long as there is one.
    pub claim: Option<ClaimLine>,
    /// The comment of somebody that it answers, the newest one.
    pub answers: Option<u64>,
    /// When it was edited last, by GitHub's clock.
    pub updated_at: Timestamp,
}

/// The comments of all orchestras on one issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// When they were looked at, by GitHub's clock.
    pub at: Timestamp,
    /// The comments.
    pub comments: Vec<ClaimComment>,
}

/// Who claims an issue, and for which run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// The orchestra.
    pub orchestra: OrchestraId,
    /// The run.
    pub run: RunId,
}

/// Who works on an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Whoever asks.
    Us {
        /// The comment with the claim.
        comment: u64,
        /// How much longer.
        left: Duration,
    },
    /// Another orchestra.
    Other {
        /// Which.
        orchestra: OrchestraId,
        /// When it may be asked for again; absent: the work is done.
        left: Option<Duration>,
    },
    /// Nobody: a new claim must name these as ended.
    Nobody {
        /// The claims that have ended, and our own of earlier runs.
        over: BTreeSet<u64>,
    },
}

/// Writes the hidden text that says which comment is answered; it follows the marker of a run.
#[must_use]
pub fn answers(comment: u64) -> String {
    format!("{ANSWERS}{comment}{END}")
}

/// Says whether somebody's claims count: our own account, those who may steer the repository, and apps, which only its owners install.
#[must_use]
pub const fn may_claim(is_us: bool, association: Association, is_app: bool) -> bool {
    is_us || is_app || association.collaborates()
}

impl ClaimLine {
    /// Puts the line into a comment, behind the marker that it begins with. `now` makes every edit a change.
    #[must_use]
    pub fn put_into(&self, text: &str, now: Timestamp) -> String {
        let at = text.find(END).map_or(0, |at| at + END.len());
        let (marker, rest) = text.split_at(at);
        format!("{marker}{self} at={}{END}{rest}", now.as_millis())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let orchestra = OrchestraId::new(words.next()?).ok()?;
        let (mut hold, mut over) = (None, BTreeSet::new());
        for word in words {
            if word == "done" {
                hold = Some(Hold::Done);
            } else if let Some(seconds) = word.strip_prefix("lease=") {
                hold = Some(Hold::For(Duration::from_secs(seconds.parse().ok()?).min(LEASE_MAX)));
            } else if let Some(ids) = word.strip_prefix("over=") {
                over = ids.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
            }
        }
        Some(Self { orchestra, hold: hold?, over })
    }
}

impl fmt::Display for ClaimLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CLAIM}{}", self.orchestra)?;
        match self.hold {
            Hold::For(lease) => write!(f, " lease={}", lease.as_secs())?,
            Hold::Done => f.write_str(" done")?,
        }
        if !self.over.is_empty() {
            let ids: Vec<String> = self.over.iter().rev().take(OVER_MAX).rev().map(u64::to_string).collect();
            write!(f, " over={}", ids.join(","))?;
        }
        Ok(())
    }
}

impl ClaimComment {
    /// Reads a comment; nothing if it is not one of an orchestra. Only its very beginning counts: what somebody quotes is no claim.
    #[must_use]
    pub fn parse(id: u64, body: &str, updated_at: Timestamp) -> Option<Self> {
        let line = body.lines().next().filter(|line| line.len() <= LINE_BYTES_MAX)?;
        let (marker, rest) = line.strip_prefix(RUN)?.split_once(END)?;
        let run = marker.split(' ').next()?.parse().ok()?;
        let (claim, rest) = match rest.strip_prefix(CLAIM).and_then(|rest| rest.split_once(END)) {
            Some((claim, rest)) => (ClaimLine::parse(claim), rest),
            None => (None, rest),
        };
        let answers = rest.strip_prefix(ANSWERS).and_then(|rest| rest.split_once(END)?.0.parse().ok());
        Some(Self { id, run, claim, answers, updated_at })
    }

    /// Says how much longer the claim lives, `margin` included; nothing if it does not.
    fn left(&self, at: Timestamp, margin: Duration) -> Option<Option<Duration>> {
        match self.claim.as_ref()?.hold {
            Hold::Done => Some(None),
            Hold::For(lease) => {
                let end = self.updated_at + lease + margin;
                (end > at).then(|| Some(end.since(at)))
            }
        }
    }
}

impl Claims {
    /// Finds who works on the issue. `over` is what our own claim of this run says has ended, if that claim is new: should any of it live
    /// after all, its holder came back in the same moment, and the new claim gives way.
    #[must_use]
    pub fn holder(&self, us: &Claimant, over: Option<&BTreeSet<u64>>) -> Holder {
        let is_over = |id: u64| {
            let later = self.comments.iter().filter(|other| other.id > id);
            later.filter_map(|other| other.claim.as_ref()).any(|claim| claim.over.contains(&id))
        };
        let came_back = |comment: &ClaimComment| over.is_some_and(|over| over.contains(&comment.id));
        let mut living: Vec<(&ClaimComment, &ClaimLine, Option<Duration>)> = Vec::new();
        for comment in &self.comments {
            let Some(claim) = &comment.claim else { continue };
            let is_ours = claim.orchestra == us.orchestra;
            // We believe in our own claim only as long as it has not ended; others leave it alone a little longer.
            let margin = if is_ours { Duration::ZERO } else { MARGIN };
            let counts = !is_over(comment.id) || came_back(comment) && !is_ours;
            if let Some(left) = comment.left(self.at, margin).filter(|_| counts) {
                living.push((comment, claim, left));
            }
        }
        let first = living.iter().min_by_key(|(comment, ..)| comment.id);
        match first {
            Some((comment, claim, left)) if claim.orchestra == us.orchestra && comment.run == us.run => {
                return Holder::Us { comment: comment.id, left: left.unwrap_or(LEASE_MAX) };
            }
            // Of an earlier run: the next one ends it.
            Some((_, claim, _)) if claim.orchestra == us.orchestra => {}
            Some((_, claim, left)) => return Holder::Other { orchestra: claim.orchestra.clone(), left: *left },
            None => {}
        }
        let ended = self.comments.iter().filter(|comment| comment.claim.is_some()).map(|comment| comment.id);
        let ended: BTreeSet<u64> = ended.collect();
        Holder::Nobody { over: ended.into_iter().rev().take(OVER_MAX).collect() }
    }

    /// Says whether another orchestra has answered somebody's comment, or a later one, and we have not.
    #[must_use]
    pub fn is_answered_for(&self, us: &Claimant, comment: u64) -> bool {
        let by_us = self.comments.iter().any(|seen| seen.run == us.run && seen.answers == Some(comment));
        let others = self.comments.iter().filter(|seen| seen.run != us.run);
        !by_us && others.filter_map(|seen| seen.answers).any(|answered| answered >= comment)
    }

    /// Returns our own comments on a run.
    #[must_use]
    pub fn ours(&self, us: &Claimant) -> BTreeSet<u64> {
        self.comments.iter().filter(|comment| comment.run == us.run).map(|comment| comment.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const RUNS: [&str; 3] = ["01J0000000000000000000000A", "01J0000000000000000000000B", "01J0000000000000000000000C"];

    fn us() -> Claimant {
        Claimant { orchestra: "ours".parse().unwrap(), run: RUNS[0].parse().unwrap() }
    }

    fn at(minutes: u32) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000) + MINUTE * minutes
    }

    /// A comment of orchestra number `whose`, with a lease of ten minutes.
    fn comment(id: u64, whose: usize, edited: u32, over: &[u64]) -> ClaimComment {
        let orchestra = ["ours", "theirs", "others"][whose].parse().unwrap();
        let line = ClaimLine { orchestra, hold: Hold::For(10 * MINUTE), over: over.iter().copied().collect() };
        let body = line.put_into(&format!("<!-- miyabi:run={} kind=report -->\nhello", RUNS[whose]), at(edited));
        ClaimComment::parse(id, &body, at(edited)).unwrap()
    }

    fn claims(now: u32, comments: &[ClaimComment]) -> Claims {
        Claims { at: at(now), comments: comments.to_vec() }
    }

    fn other(left: u32) -> Holder {
        Holder::Other { orchestra: "theirs".parse().unwrap(), left: Some(MINUTE * left) }
    }

    #[test]
    fn an_answer_is_read_behind_the_marker_and_the_claim_and_nowhere_else() {
        let marker = format!("{RUN}{} kind=report -->", RUNS[1]);
        let read = |body: String| ClaimComment::parse(1, &body, Timestamp::EPOCH).unwrap();
        let line = ClaimLine { orchestra: "o1".parse().unwrap(), hold: Hold::Done, over: BTreeSet::new() };
        let plain = format!("{marker}{}\ntext", answers(12));
        assert_eq!(read(plain.clone()).answers, Some(12));
        let claimed = read(line.put_into(&plain, Timestamp::EPOCH));
        assert_eq!((claimed.answers, claimed.claim), (Some(12), Some(line)));
        assert_eq!(read(format!("{marker}\n{}", answers(12))).answers, None);
        assert_eq!(read(format!("{marker}<!-- miyabi:answers=x -->")).answers, None);

        let seen = |comments: Vec<ClaimComment>| Claims { at: Timestamp::EPOCH, comments };
        let theirs = read(plain);
        assert!(seen(vec![theirs.clone()]).is_answered_for(&us(), 12));
        assert!(seen(vec![theirs.clone()]).is_answered_for(&us(), 11));
        assert!(!seen(vec![theirs.clone()]).is_answered_for(&us(), 13));
        let ours = ClaimComment { run: RUNS[0].parse().unwrap(), ..theirs.clone() };
        assert!(!seen(vec![theirs, ours]).is_answered_for(&us(), 12), "or both would fall silent");
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_only_at_the_beginning_of_a_comment() {
        let line = ClaimLine {
            orchestra: "o-1".parse().unwrap(),
            hold: Hold::For(Duration::from_secs(1_800)),
            over: [3, 77].into(),
        };
        let text = format!("<!-- miyabi:run={} kind=report -->\n**miyabi**", RUNS[0]);
        let body = line.put_into(&text, at(0));
        assert_eq!(
            body,
            format!(
                "<!-- miyabi:run={} kind=report --><!-- miyabi:claim=o-1 lease=1800 over=3,77 at=1800000000000 -->\n**miyabi**",
                RUNS[0]
            )
        );
        assert_eq!(ClaimComment::parse(9, &body, at(0)).unwrap().claim, Some(line));
        assert_eq!(ClaimComment::parse(9, &text, at(0)).unwrap().claim, None);
        assert_eq!(ClaimComment::parse(9, &format!("> {body}"), at(0)), None, "a quoted claim is none");
        assert_eq!(ClaimComment::parse(9, &format!("so he wrote {body}"), at(0)), None);
        let long = body.replace("1800 ", "99999999 ");
        let hold = ClaimComment::parse(9, &long, at(0)).unwrap().claim.unwrap().hold;
        assert_eq!(hold, Hold::For(LEASE_MAX), "no line holds an issue for ever");
        for broken in ["lease=x", "lease=-1", "over=1", "lease=5 over=a"] {
            let body = body.replace("lease=1800 over=3,77", broken);
            assert_eq!(ClaimComment::parse(9, &body, at(0)).unwrap().claim, None, "{broken}");
        }
    }

    #[test]
    fn of_two_that_claim_at_once_the_earlier_comment_counts_for_both() {
        let both = [comment(2, 1, 0, &[]), comment(1, 0, 0, &[])];
        assert_eq!(claims(1, &both).holder(&us(), Some(&BTreeSet::new())), Holder::Us { comment: 1, left: 9 * MINUTE });
        let both = [comment(1, 1, 0, &[]), comment(2, 0, 0, &[])];
        assert_eq!(claims(1, &both).holder(&us(), Some(&BTreeSet::new())), other(10));
        assert_eq!(claims(1, &both).ours(&us()), [2].into());
    }

    #[test]
    fn a_claim_is_left_alone_until_its_lease_and_the_margin_are_over_and_believed_in_only_for_its_lease() {
        let theirs = [comment(1, 1, 0, &[])];
        assert_eq!(claims(10, &theirs).holder(&us(), None), other(1));
        assert_eq!(claims(11, &theirs).holder(&us(), None), Holder::Nobody { over: [1].into() });
        let ours = [comment(1, 0, 0, &[])];
        assert_eq!(claims(9, &ours).holder(&us(), None), Holder::Us { comment: 1, left: MINUTE });
        assert_eq!(claims(10, &ours).holder(&us(), None), Holder::Nobody { over: [1].into() });
        let mut done = comment(1, 1, 0, &[]);
        done.claim.as_mut().unwrap().hold = Hold::Done;
        let done = claims(100_000, &[done]).holder(&us(), None);
        assert_eq!(done, Holder::Other { orchestra: "theirs".parse().unwrap(), left: None });
    }

    #[test]
    fn a_claim_that_was_taken_over_never_lives_again_however_late_it_is_edited() {
        // Ours had ended and was edited later all the same; theirs names it as ended.
        let late = [comment(1, 0, 20, &[]), comment(2, 1, 12, &[1])];
        assert_eq!(claims(21, &late).holder(&us(), None), other(2));
        // The other way round, ours is new: theirs came back in the same moment, and we give way.
        let back = [comment(1, 1, 20, &[]), comment(2, 0, 20, &[1])];
        assert_eq!(claims(20, &back).holder(&us(), Some(&[1].into())), other(11));
        // Once ours was seen to count, their late edit changes nothing.
        assert_eq!(claims(20, &back).holder(&us(), None), Holder::Us { comment: 2, left: 10 * MINUTE });
    }

    #[test]
    fn our_claim_for_an_earlier_run_is_named_as_ended_by_the_next() {
        let mut earlier = comment(1, 0, 0, &[]);
        earlier.run = RUNS[2].parse().unwrap();
        assert_eq!(claims(1, &[earlier]).holder(&us(), None), Holder::Nobody { over: [1].into() });
    }
}
