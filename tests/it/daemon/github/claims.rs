//! Two orchestras with one token on one repository: two supervisors, two roots, one emulator.

use serde_json::Value;

use super::super::root::Root;
use super::Hub;

/// How many issues both see.
const ISSUES: usize = 8;

/// Counts how often an issue was begun, here and there.
fn runs(here: &Root, there: &Root, issue: u64) -> [usize; 2] {
    let task = format!("repo/issue-{issue}");
    [here, there].map(|root| root.count_events("attempt-queued", &task))
}

#[test]
fn of_two_orchestras_on_one_repository_one_works_on_each_issue() {
    let Some(mut hub) = Hub::new(2) else { return };
    let mut other = hub.another(2);
    let issues: Vec<u64> = (1..=ISSUES).map(|n| hub.server.issue("alice", &format!("Issue {n}"), "text")).collect();
    hub.root.up();
    other.up();
    for issue in &issues {
        hub.root.until("somebody has published it", || {
            hub.server.comments(*issue).iter().any(|comment| comment.contains("waits to be merged"))
        });
    }
    let names = [&hub.root, &other].map(|root| root.json(&["github", "status"])["orchestra"].clone());
    assert_ne!(names[0], names[1]);
    let mut shares = [0, 0];
    for issue in &issues {
        let counts = runs(&hub.root, &other, *issue);
        assert_eq!(counts[0] + counts[1], 1, "issue {issue} was begun {counts:?} times");
        let at = usize::from(counts[1] == 1);
        shares[at] += 1;
        let loser = if at == 0 { &other } else { &hub.root };
        loser.until("it says who works on it", || {
            let why = loser.ok(&["task", "why", &format!("repo/issue-{issue}")]);
            why.contains(&format!("the orchestra {} works on its issue", names[at].as_str().unwrap()))
        });
    }
    assert!(shares[0] > 0 && shares[1] > 0, "both had free agents: {shares:?}");
    let ours = |view: &Value| view["claims"].as_array().unwrap().iter().filter(|claim| claim["ours"] == true).count();
    let views = [&hub.root, &other].map(|root| root.json(&["github", "status"]));
    assert_eq!([ours(&views[0]), ours(&views[1])], shares, "{views:#?}");

    // One of them is killed and comes back: its claims are its own, and nobody else's work is begun anew.
    other.kill_supervisor();
    other.up();
    for issue in &issues {
        hub.merge(*issue);
        let root = if runs(&hub.root, &other, *issue)[0] == 1 { &hub.root } else { &other };
        root.wait_event("merged", &format!("repo/issue-{issue}"));
    }
    for issue in &issues {
        hub.root.until("the comment says that it is done", || {
            hub.server.comments(*issue).iter().all(|comment| comment.contains("Done, merged as"))
        });
        hub.assert_once(*issue);
        let counts = runs(&hub.root, &other, *issue);
        assert_eq!(counts[0] + counts[1], 1, "issue {issue} was begun {counts:?} times");
    }
    assert_eq!(hub.server.pulls().len(), ISSUES);
}
