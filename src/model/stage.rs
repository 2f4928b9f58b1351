//! The stages of a workflow: what a run goes through between its first attempt and its end.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::{NameFault, Role, StageName};

/// What a stage is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// The work itself; it leaves a commit.
    #[default]
    Code,
    /// Somebody looks at the commit, and lets it pass or asks for changes.
    Review,
    /// Somebody writes the title and the text of the pull request.
    PullRequest,
    /// The merged commit is deployed.
    Deploy,
    /// The commit is checked again where it would be merged; never part of a workflow, see `merge = "queue"`.
    Recheck,
}

impl StageKind {
    /// All of which workflows are made, in their order.
    pub const ALL: [Self; 4] = [Self::Code, Self::Review, Self::PullRequest, Self::Deploy];

    /// All at which a run can be. A place in this list is what a journal holds, so new ones come last.
    pub const PLACES: [Self; 5] = [Self::Code, Self::Review, Self::PullRequest, Self::Deploy, Self::Recheck];

    /// Returns the stage's name as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Review => "review",
            Self::PullRequest => "pull-request",
            Self::Deploy => "deploy",
            Self::Recheck => "recheck",
        }
    }

    /// Returns the stage's name.
    #[must_use]
    pub fn name(self) -> StageName {
        StageName::new(self.as_str()).expect("the word is a valid stage name")
    }

    /// Returns the role that does it.
    #[must_use]
    pub fn role(self) -> Role {
        let role = match self {
            Self::Code | Self::Recheck => "codegen",
            Self::Review | Self::PullRequest | Self::Deploy => self.as_str(),
        };
        Role::new(role).expect("the word is a valid role")
    }

    /// Returns the stage with its usual role.
    #[must_use]
    pub fn stage(self) -> Stage {
        Stage { kind: self, role: self.role() }
    }
}

impl FromStr for StageKind {
    type Err = NameFault;

    fn from_str(text: &str) -> Result<Self, NameFault> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| NameFault::Shape {
            kind: "stage",
            text: text.to_owned(),
            rule: "known: code, review, pull-request, deploy",
        })
    }
}

/// One stage of the workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What it is for.
    pub kind: StageKind,
    /// The role that does it when a task names nobody.
    pub role: Role,
}
