//! What work has cost, as far as the programs that did it say so. Nothing is ever computed from prices.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Millionths of a US dollar in one.
const MICRO: u64 = 1_000_000;

/// What was used. What a program does not tell is absent, which is not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spent {
    /// Tokens that were read, also those that the service had kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_in: Option<u64>,
    /// Tokens that were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_out: Option<u64>,
    /// Money, in millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_usd: Option<u64>,
}

impl Spent {
    /// Returns it, unless it says nothing.
    #[must_use]
    pub fn if_any(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// Adds what was used besides.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        let sum = |one: Option<u64>, two: Option<u64>| match (one, two) {
            (Some(one), Some(two)) => Some(one.saturating_add(two)),
            (one, two) => one.or(two),
        };
        Self {
            tokens_in: sum(self.tokens_in, more.tokens_in),
            tokens_out: sum(self.tokens_out, more.tokens_out),
            micro_usd: sum(self.micro_usd, more.micro_usd),
        }
    }

    /// Turns dollars as a program writes them into whole millionths; nothing if that is no amount.
    #[must_use]
    pub fn micro_usd(dollars: f64) -> Option<u64> {
        let micro = (dollars * 1_000_000.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was just seen to be a whole number of the range"
        )]
        (micro.is_finite() && (0.0..1e15).contains(&micro)).then_some(micro as u64)
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let money = self.micro_usd.map(|micro| {
            // As many digits as a cent needs, and two more where it is less than one.
            let (dollars, rest) = (micro / MICRO, micro % MICRO);
            if micro > 0 && micro < MICRO / 100 {
                format!("${dollars}.{:04}", rest / 100)
            } else {
                format!("${dollars}.{:02}", rest / 10_000)
            }
        });
        let parts = [
            self.tokens_in.map(|count| format!("{} tokens in", short(count))),
            self.tokens_out.map(|count| format!("{} tokens out", short(count))),
            money,
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// Writes a number of tokens as people read it.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}.{}k", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_stays_absent_and_what_is_told_adds_up() {
        let one = Spent { tokens_in: Some(1_500), tokens_out: None, micro_usd: Some(20_000) };
        let two = Spent { tokens_in: Some(500), tokens_out: Some(34), micro_usd: None };
        let both = Spent { tokens_in: Some(2_000), tokens_out: Some(34), micro_usd: Some(20_000) };
        assert_eq!(one.plus(two), both);
        assert_eq!(both.to_string(), "2.0k tokens in, 34 tokens out, $0.02");
        assert_eq!(Spent::default().if_any(), None);
        assert_eq!(serde_json::to_string(&Spent::default()).unwrap(), "{}");
    }

    #[test]
    fn money_is_whole_millionths_and_nothing_else_is_money() {
        assert_eq!(Spent::micro_usd(0.0123), Some(12_300));
        assert_eq!([f64::NAN, f64::INFINITY, -0.1, 1e300].map(Spent::micro_usd), [None; 4]);
        let shown = |micro| Spent { micro_usd: Some(micro), ..Spent::default() }.to_string();
        assert_eq!([0, 1_234, 10_000, 12_345_678].map(shown), ["$0.00", "$0.0012", "$0.01", "$12.34"]);
    }
}
