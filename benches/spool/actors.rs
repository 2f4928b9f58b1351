//! Actors that work side by side for a while, as threads or as processes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::{Role, Work};

/// Does some work and says how many messages it was.
pub(super) type Actor = Box<dyn FnMut() -> usize + Send>;

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Lets actors work in threads of this process. Returns messages per second.
pub(super) fn threads(actors: Vec<Actor>, time: Duration) -> f64 {
    let start = Barrier::new(actors.len() + 1);
    std::thread::scope(|scope| {
        let actors: Vec<_> = actors
            .into_iter()
            .map(|mut actor| {
                let start = &start;
                scope.spawn(move || {
                    // What is made once is not what is measured.
                    actor();
                    start.wait();
                    work(&mut actor, time)
                })
            })
            .collect();
        start.wait();
        let began = now();
        let count: usize = actors.into_iter().map(|actor| actor.join().unwrap()).sum();
        rate(count, began.elapsed())
    })
}

fn work(actor: &mut Actor, time: Duration) -> usize {
    let began = now();
    let mut count = 0;
    while began.elapsed() < time {
        count += actor();
    }
    count
}

#[expect(clippy::cast_precision_loss, reason = "a count of some seconds is small")]
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// A copy of this program that was told what it is.
pub(super) struct Copy {
    child: Child,
    pub(super) input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Copy {
    pub(super) fn start(role: Role, work: Work, number: usize, folder: &Path, time: Duration) -> Self {
        let name = |value: clap::builder::PossibleValue| value.get_name().to_owned();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--actor", &name(role.to_possible_value().unwrap()), &name(work.to_possible_value().unwrap())])
            .args(["--number", &number.to_string(), "--seconds", &time.as_secs_f64().to_string(), "--folder"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads what it says next.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "a copy of this program ended too early");
        line.trim_end().to_owned()
    }

    /// Says something to it.
    pub(super) fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub(super) fn end(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success(), "a copy of this program failed");
    }
}

/// Lets actors work as processes of their own. Returns messages per second.
pub(super) fn processes(count: usize, role: Role, work: Work, folder: &Path, time: Duration) -> f64 {
    let mut copies: Vec<Copy> = (0..count).map(|number| Copy::start(role, work, number, folder, time)).collect();
    for copy in &mut copies {
        assert_eq!(copy.line(), "ready");
    }
    let began = now();
    for copy in &mut copies {
        copy.say("go");
    }
    let done: usize = copies.iter_mut().map(|copy| copy.line().parse::<usize>().unwrap()).sum();
    let rate = rate(done, began.elapsed());
    copies.into_iter().for_each(Copy::end);
    rate
}

/// Is one of the processes.
pub(super) fn be_one(mut actor: Actor, time: Duration) {
    actor();
    println!("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    println!("{}", work(&mut actor, time));
}
