//! The keys of agents.toml that are about GitHub.

use super::{Absent, Part, Shape, key};

/// The most writes that `[github]` may allow.
pub(in crate::config) const WRITES_MAX: u32 = 100_000;

/// `[github]`.
pub static GITHUB: Part = Part {
    heading: "[github]",
    keys: &[
        key(
            "api_url",
            Shape::Text,
            Absent::Value("https://api.github.com"),
            "The address of the API; of GitHub Enterprise it is `https://HOST/api/v3`.",
            "api_url = \"https://github.example.org/api/v3\"",
        ),
        key(
            "token_env",
            Shape::Text,
            Absent::Value("GITHUB_TOKEN"),
            "The variable of the supervisor's environment that holds the token. No agent may have it in its `env`. A credential `github_token` of the service manager goes before it.",
            "token_env = \"MIYABI_GITHUB_TOKEN\"",
        ),
        key(
            "app_id",
            Shape::Count(1, u32::MAX),
            Absent::Otherwise("`token_env` counts"),
            "The number of the GitHub App that the supervisor is; with `private_key_file`, and instead of `token_env`.",
            "app_id = 12345",
        ),
        key(
            "private_key_file",
            Shape::Text,
            Absent::Otherwise("`token_env` counts"),
            "The app's private key as GitHub gives it, a file that nobody else may read (mode 0600); a relative path begins at the folder of agents.toml. A credential `github_app_key` of the service manager goes before it.",
            "private_key_file = \"/etc/miyabi-orchestra/github_app_key\"",
        ),
        key(
            "poll",
            Shape::Duration,
            Absent::Value("1m"),
            "How often each repository is asked for what has changed; at least 100ms. A question whose answer has not changed is free.",
            "poll = \"30s\"",
        ),
        key(
            "reconcile",
            Shape::Duration,
            Absent::Value("5m"),
            "How often everything that is open is read anew; not shorter than `poll`.",
            "reconcile = \"10m\"",
        ),
        key(
            "trigger_label",
            Shape::Text,
            Absent::Value("auto-code"),
            "The label that makes an issue work.",
            "trigger_label = \"miyabi\"",
        ),
        key(
            "trust",
            Shape::Choices(&["OWNER", "MEMBER", "COLLABORATOR", "CONTRIBUTOR", "NONE"]),
            Absent::Value("[\"OWNER\", \"MEMBER\", \"COLLABORATOR\"]"),
            "Whose issues are taken, by what the author is to the repository; others wait until a collaborator sets the label or comments `/miyabi approve`.",
            "trust = [\"OWNER\"]",
        ),
        key(
            "body_depends",
            Shape::Flag,
            Absent::Value("false"),
            "Whether `Depends on #12` and `Blocked by owner/name#7` in the text of an issue that is taken are what its task needs.",
            "body_depends = true",
        ),
        key(
            "claim",
            Shape::Choice(&["comment", "none"]),
            Absent::Value("comment"),
            "How other orchestras that watch the same repository are told that an issue is worked on: by a line in the comment of the run, or not at all.",
            "claim = \"none\"",
        ),
        key(
            "claim_lease",
            Shape::Duration,
            Absent::Value("30m"),
            "How long a claim lives without being renewed, which happens at half of it; at least 2m and at most 1d. Another orchestra takes the issue over a minute after that.",
            "claim_lease = \"1h\"",
        ),
        key(
            "claim_label",
            Shape::Text,
            Absent::Otherwise("no label is set"),
            "A label that an issue bears as long as a run works on it, its pull request included: only for people to see, and two more writes for each issue. Not one that makes issues work or routes them.",
            "claim_label = \"in-progress\"",
        ),
        key(
            "write_interval",
            Shape::Duration,
            Absent::Value("1s"),
            "The least time between two writes.",
            "write_interval = \"2s\"",
        ),
        key(
            "writes_per_minute",
            Shape::Count(1, WRITES_MAX),
            Absent::Value("80"),
            "The most writes within any minute.",
            "writes_per_minute = 40",
        ),
        key(
            "writes_per_hour",
            Shape::Count(1, WRITES_MAX),
            Absent::Value("500"),
            "The most writes within any hour.",
            "writes_per_hour = 250",
        ),
        key(
            "route",
            Shape::Tables(&ROUTE),
            Absent::Otherwise("every issue goes to the role of the first stage"),
            "Who does what; write `[[github.route]]` once for each rule, at most 100 times. The first one whose label an issue has decides.",
            "route = [{ label = \"docs\", role = \"review\" }]",
        ),
        key(
            "webhook",
            Shape::Table(&WEBHOOK),
            Absent::Otherwise("GitHub is only asked"),
            "Where GitHub tells what has changed, so that nobody waits for the next `poll`. Holds from the next start on.",
            "webhook = { listen = \"127.0.0.1:8787\" }",
        ),
    ],
};

/// `[github.webhook]`.
pub static WEBHOOK: Part = Part {
    heading: "[github.webhook]",
    keys: &[
        key(
            "listen",
            Shape::Text,
            Absent::Required,
            "The address that is listened at: `127.0.0.1:PORT`, `[::1]:PORT` or `localhost:PORT`. A proxy or tunnel in front of it takes what comes from outside.",
            "listen = \"127.0.0.1:8787\"",
        ),
        key(
            "secret_env",
            Shape::Text,
            Absent::Value("MIYABI_WEBHOOK_SECRET"),
            "The variable of the supervisor's environment that holds the webhook's secret. No agent may have it in its `env`. A credential `webhook_secret` of the service manager goes before it.",
            "listen = \"127.0.0.1:8787\"\nsecret_env = \"HOOK_SECRET\"",
        ),
    ],
};

/// `[[github.route]]`.
pub static ROUTE: Part = Part {
    heading: "[[github.route]]",
    keys: &[
        key("label", Shape::Text, Absent::Required, "The label that an issue must have.", "label = \"docs\""),
        key(
            "role",
            Shape::Slug,
            Absent::Otherwise("the role of the first stage"),
            "The role that does it; not together with `agent`.",
            "label = \"docs\"\nrole = \"review\"",
        ),
        key(
            "agent",
            Shape::Slug,
            Absent::Otherwise("any of the role"),
            "The agent that does it.",
            "label = \"docs\"\nagent = \"sakura\"",
        ),
        key(
            "priority",
            Shape::Count(1, 5),
            Absent::Otherwise("3, or that of a label `priority:N`"),
            "How urgent it is: 1 (highest) to 5.",
            "label = \"docs\"\npriority = 1",
        ),
        key(
            "sla",
            Shape::Duration,
            Absent::Otherwise("no limit"),
            "How long a run may take from its beginning to its end; one that is late raises an alert. It does not fail.",
            "label = \"docs\"\nsla = \"4h\"",
        ),
    ],
};
