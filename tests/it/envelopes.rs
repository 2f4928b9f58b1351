//! Envelopes of earlier versions: they lie in spools that are in use, and are taken as they were written.
//!
//! `data/envelopes-1` holds what version 1 of envelopes, orders and reports had at its beginning, without the fields that
//! came later. Whoever changes one of these forms adds a folder, and changes none.

use std::fs;
use std::path::Path;
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::holder::Holder;
use miyabi::model::envelope::{Envelope, EnvelopeKind};
use miyabi::model::id::{AgentId, Incarnation, Mailbox};
use miyabi::model::order::WorkOrder;
use miyabi::model::report::{FailureKind, Outcome, Report};
use miyabi::model::task::Work;

/// Puts the envelopes of a version into a new spool, by renames as a program of that time did, and leases the one of a mailbox.
fn leased(mailbox: &str) -> Envelope {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path().to_owned());
    let mailbox = Mailbox::new(mailbox).unwrap();
    spool.ensure(&mailbox).unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/envelopes-1").join(mailbox.as_str());
    let file = fs::read_dir(data).unwrap().next().unwrap().unwrap();
    let inside = folder.path().join(mailbox.as_str());
    fs::copy(file.path(), inside.join("tmp/draft")).unwrap();
    fs::rename(inside.join("tmp/draft"), inside.join("new").join(file.file_name())).unwrap();
    let holder = Holder::new("kaede", Incarnation(7)).unwrap();
    spool.lease(&mailbox, &holder, Duration::from_secs(60), clock::now()).unwrap().expect("it can be leased").envelope
}

#[test]
fn a_message_of_version_1_is_taken_as_it_was_written() {
    let message = leased("kaede");
    assert_eq!((message.kind, message.from.as_str()), (EnvelopeKind::Message, "sakura"));
    assert_eq!(message.body, "カエデへ: look at docs/");
    assert_eq!((message.attempts_max, message.seq, message.order_group()), (5, None, "sakura"));
}

#[test]
fn a_work_order_of_version_1_is_taken_as_it_was_written() {
    let order: WorkOrder = serde_json::from_value(leased("kaede.work").body).unwrap();
    assert_eq!((order.agent, order.attempt), (AgentId::new("kaede").unwrap(), 2));
    assert_eq!(order.work, Work::Run("make".to_owned()));
    assert_eq!(order.workplace.unwrap().target, "main");
    assert_eq!(order.previous.unwrap().reason, "exit code 1");
}

#[test]
fn a_report_of_version_1_is_taken_as_it_was_written() {
    let report: Report = serde_json::from_value(leased("supervisor").body).unwrap();
    assert_eq!((report.outcome, report.failure), (Outcome::Failed, Some(FailureKind::CheckFailed)));
    assert_eq!((report.checks[0].exit_code, report.commit, report.diff.as_str()), (Some(2), None, ""));
}
