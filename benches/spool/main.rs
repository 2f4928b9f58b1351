//! Measures the spool beside the raw system calls that give the same guarantee, and beside other queues.
//!
//! `cargo bench --bench spool` measures the disk and the spool; `scripts/bench-spool` installs and starts the peers as well.
//! What each case does is said in `docs/performance.md`. All ratios are of one run on one disk: the cases of one row are
//! measured in turn, in several rounds, and the median of each is shown.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are what this program is for")]
#![expect(clippy::unwrap_used, reason = "a measurement that goes wrong is worth nothing")]

mod actors;
mod many;
mod ours;
mod peers;
mod raw;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use peers::Peer;
use report::{Report, Row};

/// How large an envelope's file, or a peer's message, is.
const MESSAGE_BYTES: usize = 1_024;

/// How many actors work side by side where it is not one.
const ACTORS: usize = 64;

/// How many messages a batch has.
const BATCH: usize = 64;

/// What an actor does over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// One message is sent.
    Send,
    /// One message is sent under an idempotency key.
    Keyed,
    /// As many as a batch has are sent with one call.
    Batch,
    /// One message is sent, one is leased, and acknowledged.
    Cycle,
}

/// What this process is when it is one of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Does the raw system calls.
    Raw,
    /// Works with the spool.
    Ours,
    /// Waits for messages and says how old they were.
    Lessee,
    /// Looks at a mailbox with very many envelopes.
    Many,
    /// Waits for a message that never comes.
    Rest,
}

#[derive(Debug, Clone, Parser)]
#[command(about = "Measures the spool beside the raw system calls and other queues")]
struct Args {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Does a little of everything, to see that it works; the figures mean nothing.
    #[arg(long)]
    tiny: bool,
    /// How long each case runs in each round.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// How many rounds there are.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many envelopes wait in the large mailbox.
    #[arg(long, default_value_t = 100_000)]
    many: usize,
    /// How long the lessee at rest is watched; 0 leaves it out.
    #[arg(long, default_value_t = 0.0)]
    rest_seconds: f64,
    /// Only rows whose name contains this, and none of the other figures.
    #[arg(long)]
    only: Option<String>,
    /// A folder on the disk to measure; a new one in it is made, and removed at the end.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    folder: PathBuf,
    /// A Redis server with `appendfsync always`, as HOST:PORT.
    #[arg(long)]
    redis: Option<String>,
    /// A beanstalkd started with `-f0`.
    #[arg(long)]
    beanstalkd: Option<String>,
    /// A NATS server with JetStream and `sync_interval: always`.
    #[arg(long)]
    nats: Option<String>,
    /// Makes this process one of many.
    #[arg(long, hide = true, num_args = 2)]
    actor: Option<Vec<String>>,
    #[arg(long, hide = true, default_value_t = 0)]
    number: usize,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn peers(&self) -> Vec<(Peer, String)> {
        let all = [(Peer::Redis, &self.redis), (Peer::Beanstalkd, &self.beanstalkd), (Peer::Nats, &self.nats)];
        all.into_iter().filter_map(|(peer, address)| Some((peer, address.clone()?))).collect()
    }
}

/// One row of the table: what is done, and by how many threads or processes.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    work: Work,
    actors: usize,
    is_processes: bool,
    with_peers: bool,
}

const CASES: [Case; 7] = [
    Case { name: "one actor: send", work: Work::Send, actors: 1, is_processes: false, with_peers: false },
    Case { name: "one actor: send with a key", work: Work::Keyed, actors: 1, is_processes: false, with_peers: false },
    Case { name: "one actor: batch of 64", work: Work::Batch, actors: 1, is_processes: false, with_peers: false },
    Case { name: "one actor: cycle", work: Work::Cycle, actors: 1, is_processes: false, with_peers: true },
    Case { name: "64 threads: send", work: Work::Send, actors: ACTORS, is_processes: false, with_peers: false },
    Case { name: "64 threads: cycle", work: Work::Cycle, actors: ACTORS, is_processes: false, with_peers: true },
    Case { name: "64 processes: cycle", work: Work::Cycle, actors: ACTORS, is_processes: true, with_peers: false },
];

fn main() {
    let mut args = Args::parse();
    if args.tiny {
        (args.seconds, args.rounds, args.many) = (0.05, 1, 200);
        args.rest_seconds = args.rest_seconds.min(0.2);
    }
    if let Some(actor) = &args.actor {
        be_actor(&args, actor);
        return;
    }
    std::fs::create_dir_all(&args.folder).unwrap();
    let folder = tempfile::Builder::new().prefix("spool-").tempdir_in(&args.folder).unwrap();
    let mut report = Report::default();
    for case in CASES {
        if args.only.as_ref().is_none_or(|only| case.name.contains(only.as_str())) {
            let case = if args.tiny { Case { actors: case.actors.min(4), ..case } } else { case };
            eprintln!("{} ...", case.name);
            report.rows.push(measure(&args, case, folder.path()));
        }
    }
    if args.only.is_none() {
        eprintln!("from send to lease ...");
        report.latency = Some(many::latency(folder.path(), if args.tiny { 5 } else { 1_000 }));
        eprintln!("{} waiting envelopes ...", args.many);
        report.many = Some(many::many(folder.path(), args.many));
        if args.rest_seconds > 0.0 {
            eprintln!("at rest ...");
            report.rest = Some(many::rest(folder.path(), Duration::from_secs_f64(args.rest_seconds)));
        }
    }
    if args.json { report.print_json() } else { report.print_table() }
}

/// Measures one row: everybody in turn, round by round.
fn measure(args: &Args, case: Case, folder: &Path) -> Row {
    let mut row = Row { name: case.name, ..Row::default() };
    for round in 0..args.rounds {
        let folder = |what: &str| {
            let folder = folder.join(format!("{what}-{}-{round}", case.name.replace([' ', ':'], "-")));
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        let one = |role: Role| {
            let folder = folder(if role == Role::Raw { "raw" } else { "ours" });
            let rate = if case.is_processes {
                actors::processes(case.actors, role, case.work, &folder, args.time())
            } else if role == Role::Raw {
                raw::threads(case.actors, case.work, &folder, args.time())
            } else {
                ours::threads(case.actors, case.work, &folder, args.time())
            };
            // What one has dirtied must not be written out while another is measured. Nothing is removed before the end: on a
            // disk that is told of every freed block, that would go on long after.
            rustix::fs::sync();
            rate
        };
        // In turns first and second: what the one before left to the disk slows the other down.
        if round % 2 == 0 {
            row.raw.push(one(Role::Raw));
            row.ours.push(one(Role::Ours));
        } else {
            row.ours.push(one(Role::Ours));
            row.raw.push(one(Role::Raw));
        }
        if case.with_peers {
            for (peer, address) in args.peers() {
                row.peers.entry(peer.name()).or_default().push(peers::threads(
                    case.actors,
                    peer,
                    &address,
                    args.time(),
                ));
            }
        }
    }
    row
}

/// Is one of many processes.
fn be_actor(args: &Args, actor: &[String]) {
    let role = Role::from_str(&actor[0], false).unwrap();
    match role {
        Role::Raw | Role::Ours => {
            let work = Work::from_str(&actor[1], false).unwrap();
            let work = match role {
                Role::Raw => raw::actor(&args.folder, work, args.number, &raw::Commits::alone()),
                Role::Ours | Role::Lessee | Role::Many | Role::Rest => {
                    ours::actor(&ours::spool(&args.folder), work, args.number)
                }
            };
            actors::be_one(work, args.time());
        }
        Role::Lessee => many::be_lessee(&args.folder),
        Role::Many => many::be_reader(&args.folder, args.number),
        Role::Rest => many::be_at_rest(&args.folder, args.time()),
    }
}
