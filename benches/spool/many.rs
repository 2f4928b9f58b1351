//! What is no rate: how long a message is on its way to a lessee that waits, what a mailbox with very many envelopes costs,
//! and what a lessee does while nothing happens.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::lessee::Lessee;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::Incarnation;
use serde_json::json;

use super::actors::{Copy, now};
use super::ours::{Sender, mailbox, spool};
use super::report::{Latency, Many, Rest};
use super::{Role, Work};

const LEASE: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(60);

/// How many envelopes the large mailbox is filled with at a time.
const FILL: usize = 1_000;

/// How many leases are measured in it.
const LEASES: usize = 2_000;

/// How many senders filled it.
const SENDERS: usize = 64;

/// How long a process that is to rest is left alone first.
const ATTACH: Duration = Duration::from_millis(500);

/// How often a verb that leases one is started.
const VERBS: usize = 5;

fn holder() -> Holder {
    Holder::new("kaede", Incarnation(1)).unwrap()
}

/// Nanoseconds since 1970: two processes read the same clock.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn nanos() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the value below which a share of the sorted values lies.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at]
}

/// Sends messages to another process that waits for them, each after the one before was taken.
pub(super) fn latency(folder: &Path, messages: usize) -> Latency {
    let folder = folder.join("latency");
    let mut lessee = Copy::start(Role::Lessee, Work::Cycle, 0, &folder, PATIENCE);
    assert_eq!(lessee.line(), "ready");
    let (spool, sender) = (spool(&folder), Sender::new(0));
    let (mut delays, mut sends) = (Vec::new(), Vec::new());
    for _ in 0..messages {
        // The lessee sleeps by then.
        std::thread::sleep(Duration::from_millis(2));
        let began = nanos();
        let envelope =
            Envelope { body: json!({"at": began, "text": sender.message().body["text"]}), ..sender.message() };
        spool.deliver_fresh(&envelope, None, clock::now()).unwrap();
        sends.push(millis(Duration::from_nanos(nanos() - began)));
        delays.push(lessee.line().parse::<f64>().unwrap());
    }
    lessee.end();
    delays.sort_by(f64::total_cmp);
    sends.sort_by(f64::total_cmp);
    Latency {
        messages,
        p50_ms: percentile(&delays, 0.5),
        p99_ms: percentile(&delays, 0.99),
        send_p50_ms: percentile(&sends, 0.5),
        send_p99_ms: percentile(&sends, 0.99),
    }
}

/// Is the process that waits for messages, until nobody sends any more.
pub(super) fn be_lessee(folder: &Path) {
    let spool = spool(folder);
    let mut lessee = Lessee::new(spool.clone(), mailbox()).unwrap();
    assert!(lessee.lease(&holder(), 1, LEASE, clock::now()).unwrap().is_empty());
    println!("ready");
    let nobody = std::thread::spawn(|| std::io::stdin().read_line(&mut String::new()));
    while !nobody.is_finished() {
        let Some(leased) = lessee.next(&holder(), LEASE, Duration::from_millis(200)).unwrap() else { continue };
        let sent = leased.envelope.body["at"].as_u64().unwrap();
        let delay = millis(Duration::from_nanos(nanos() - sent));
        spool.ack(&leased.receipt, None, clock::now()).unwrap();
        println!("{delay}");
    }
}

/// Fills a mailbox and lets a new process work in it.
pub(super) fn many(folder: &Path, envelopes: usize) -> Many {
    let folder = folder.join("many");
    let sender_spool = spool(&folder);
    let senders: Vec<Sender> = (0..SENDERS).map(Sender::new).collect();
    let mut sent = 0;
    while sent < envelopes {
        let batch: Vec<_> = (sent..envelopes.min(sent + FILL)).map(|at| senders[at % SENDERS].message()).collect();
        sent += batch.len();
        sender_spool.deliver_batch(&batch, clock::now()).unwrap();
    }
    let mut reader = Copy::start(Role::Many, Work::Cycle, envelopes, &folder, PATIENCE);
    let found: Vec<f64> = reader.line().split(' ').map(|word| word.parse().unwrap()).collect();
    reader.end();
    let [scan_ms, lease_p50_ms, lease_p99_ms, memory_mib] = found.try_into().unwrap();
    let mut verbs: Vec<f64> = (0..VERBS).map(|_| verb(&folder)).collect();
    verbs.sort_by(f64::total_cmp);
    Many { envelopes, scan_ms, lease_p50_ms, lease_p99_ms, memory_mib, verb_ms: percentile(&verbs, 0.5) }
}

/// Starts `miyabi lease` and returns how long it took, in milliseconds.
fn verb(folder: &Path) -> f64 {
    std::fs::write(folder.join("agents.toml"), "[[agent]]\nid = \"kaede\"\nrole = \"codegen\"\ndriver = \"echo\"\n")
        .unwrap();
    let began = now();
    let status = Command::new(env!("CARGO_BIN_EXE_miyabi"))
        .arg("-C")
        .arg(folder)
        .args(["lease", "kaede"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    let took = millis(began.elapsed());
    assert!(status.success(), "miyabi lease ended with {status}");
    took
}

/// Is the process that works in a large mailbox.
pub(super) fn be_reader(folder: &Path, envelopes: usize) {
    let began = now();
    let spool = spool(folder);
    let mut lessee = Lessee::new(spool.clone(), mailbox()).unwrap();
    let first = lessee.lease(&holder(), 1, LEASE, clock::now()).unwrap().pop().unwrap();
    let scan = millis(began.elapsed());
    spool.ack(&first.receipt, None, clock::now()).unwrap();
    let mut leases = Vec::new();
    for _ in 0..LEASES.min(envelopes / 2) {
        let began = now();
        let Some(leased) = lessee.lease(&holder(), 1, LEASE, clock::now()).unwrap().pop() else { break };
        leases.push(millis(began.elapsed()));
        // Its sender's next one waits for this.
        spool.ack(&leased.receipt, None, clock::now()).unwrap();
    }
    leases.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: f64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    println!("{scan} {} {} {}", percentile(&leases, 0.5), percentile(&leases, 0.99), kibibytes / 1024.0);
}

/// Watches a process that waits in an empty mailbox: how often it woke, and what it asked of the system.
pub(super) fn rest(folder: &Path, time: Duration) -> Rest {
    let folder = folder.join("rest");
    let mut idle = Copy::start(Role::Rest, Work::Cycle, 0, &folder, 2 * (time + ATTACH));
    assert_eq!(idle.line(), "ready");
    std::thread::sleep(ATTACH);
    let before = wakeups(idle.pid());
    std::thread::sleep(time);
    let wakeups = wakeups(idle.pid()) - before;
    // Afterwards: whoever is traced is stopped at every call, which counts as a wake-up.
    let trace = folder.join("trace");
    let tracer = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .args(["-p", &idle.pid().to_string()])
        .stderr(Stdio::null())
        .spawn();
    std::thread::sleep(time);
    let calls = tracer.ok().map(|mut tracer| {
        let lines = std::fs::read_to_string(&trace).unwrap_or_default();
        tracer.kill().unwrap();
        tracer.wait().unwrap();
        lines.lines().filter(|line| !line.contains("resumed>")).count()
    });
    idle.end();
    Rest { seconds: time.as_secs_f64(), wakeups, calls }
}

/// How often a process went to sleep by itself.
fn wakeups(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap().trim().parse().unwrap()
}

/// Is the process that waits in vain.
pub(super) fn be_at_rest(folder: &Path, time: Duration) {
    let spool: Spool = spool(folder);
    let mut lessee = Lessee::new(spool, mailbox()).unwrap();
    assert!(lessee.lease(&holder(), 1, LEASE, clock::now()).unwrap().is_empty());
    println!("ready");
    assert!(lessee.next(&holder(), LEASE, time).unwrap().is_none());
}
