//! What is printed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One row: messages per second in each round.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) raw: Vec<f64>,
    pub(super) ours: Vec<f64>,
    pub(super) peers: BTreeMap<&'static str, Vec<f64>>,
}

/// From the call that sends to the envelope in the hands of a lessee in another process, which waited for it.
#[derive(Debug)]
pub(super) struct Latency {
    pub(super) messages: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// How long the sender was told to wait.
    pub(super) send_p50_ms: f64,
    pub(super) send_p99_ms: f64,
}

/// A large mailbox.
#[derive(Debug)]
pub(super) struct Many {
    pub(super) envelopes: usize,
    /// From nothing to the first lease.
    pub(super) scan_ms: f64,
    pub(super) lease_p50_ms: f64,
    pub(super) lease_p99_ms: f64,
    pub(super) memory_mib: f64,
    /// `miyabi lease`, the whole process.
    pub(super) verb_ms: f64,
}

/// A lessee that waits in vain.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) seconds: f64,
    pub(super) wakeups: u64,
    /// System calls; absent without strace.
    pub(super) calls: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) latency: Option<Latency>,
    pub(super) many: Option<Many>,
    pub(super) rest: Option<Rest>,
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl Report {
    pub(super) fn print_table(&self) {
        let names = ["Redis", "beanstalkd", "NATS"];
        println!("| messages a second | raw calls | miyabi | of raw | Redis | beanstalkd | NATS |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        for row in &self.rows {
            let peers =
                names.map(|name| row.peers.get(name).map_or("-".to_owned(), |rates| format!("{:.0}", median(rates))));
            let (raw, ours) = (median(&row.raw), median(&row.ours));
            let share = 100.0 * ours / raw;
            println!("| {} | {raw:.0} | {ours:.0} | {share:.0} % | {} |", row.name, peers.join(" | "));
        }
        if let Some(Latency { messages, p50_ms, p99_ms, send_p50_ms, send_p99_ms }) = &self.latency {
            println!(
                "\nsend to leased by a waiting process, {messages} messages: p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms"
            );
            println!("(the send itself: p50 {send_p50_ms:.2} ms, p99 {send_p99_ms:.2} ms)");
        }
        if let Some(Many { envelopes, scan_ms, lease_p50_ms, lease_p99_ms, memory_mib, verb_ms }) = &self.many {
            println!(
                "{envelopes} waiting: first lease after {scan_ms:.0} ms, then p50 {lease_p50_ms:.3} ms, p99 {lease_p99_ms:.3} ms; \
                 {memory_mib:.0} MiB at most; the verb `lease` {verb_ms:.0} ms"
            );
        }
        if let Some(Rest { seconds, wakeups, calls }) = &self.rest {
            let calls = calls.map_or("not counted (no strace)".to_owned(), |calls| calls.to_string());
            println!("at rest for {seconds:.0} s: {wakeups} wake-ups, system calls: {calls}");
        }
    }

    pub(super) fn print_json(&self) {
        let row = |row: &Row| {
            let peers: BTreeMap<_, _> = row.peers.iter().map(|(name, rates)| (*name, median(rates))).collect();
            json!({"case": row.name, "raw": median(&row.raw), "miyabi": median(&row.ours), "peers": peers})
        };
        let latency = self.latency.as_ref().map(|found| {
            json!({
                "messages": found.messages, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms,
                "send_p50_ms": found.send_p50_ms, "send_p99_ms": found.send_p99_ms,
            })
        });
        let many = self.many.as_ref().map(|found| {
            json!({
                "envelopes": found.envelopes, "scan_ms": found.scan_ms, "lease_p50_ms": found.lease_p50_ms,
                "lease_p99_ms": found.lease_p99_ms, "memory_mib": found.memory_mib, "verb_ms": found.verb_ms,
            })
        });
        let rest = self
            .rest
            .as_ref()
            .map(|found| json!({"seconds": found.seconds, "wakeups": found.wakeups, "system_calls": found.calls}));
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        println!("{:#}", json!({"messages_per_second": rows, "latency": latency, "many": many, "rest": rest}));
    }
}
