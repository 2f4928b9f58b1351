//! The loop: one input or one deadline, one turn of the core, its facts on the disk, its effects on their way.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::control::answer::Asked;
use crate::core::Core;
use crate::core::effect::Effect;
use crate::core::event::{Branches, Event, FileRead};
use crate::core::fact::Recorded;
use crate::core::state::STATE_VERSION;
use crate::io::journal::Journal;
use crate::io::watch as folders;
use crate::io::{clock, freeze, systemd};
use crate::model::beat::Beat;
use crate::model::layout::Layout;
use crate::model::request::{Answer, Request, RequestId};
use crate::model::time::Timestamp;
use crate::model::watching::WatchFaults;
use crate::tasks::Tasks;

use super::answers::Waiting;
use super::eyes::{self, Eyes, Seen, Topic};
use super::hands::Hands;
use super::start::{self, StartError};
use super::streams::Waiters;
use super::told;

/// How many inputs one turn takes in before its facts are written: they share one commit.
const BATCH_MAX: usize = 64;

/// How often everything that hints should have told is looked at anyway.
const SWEEP: Duration = Duration::from_secs(15);

/// How often old envelopes and logs are cleared away: that looks into every folder of the spool, and at the worktrees in use.
const RETENTION: Duration = Duration::from_secs(120);

/// How often the branches of attempts are looked at.
const BRANCHES_LOOK: Duration = Duration::from_hours(1);

/// How far apart two readings of the heartbeats are, for each agent: what they cost then does not grow with the team.
const BEATS_APART: Duration = Duration::from_millis(1);

/// How often the heartbeats are read while nobody tells that they have changed.
const BEATS_BLIND: Duration = Duration::from_secs(1);

/// How far apart two lines for the service manager are: it is made of everything there is, and read by people.
const STATUS_APART: Duration = Duration::from_secs(1);

/// How often the room of disk and memory is looked at.
const ROOM_LOOK: Duration = Duration::from_secs(5);

/// How long the folder of dependency files must be quiet before it is read: editors write in several steps. A file that one
/// rename brings is complete, and waits for nothing.
const DAG_QUIET: Duration = Duration::from_millis(80);

/// How many facts are written between two snapshots of the state.
const SNAPSHOT_FACTS: u64 = 10_000;

/// How long a snapshot waits: what was asked for in the same turn is done and told first.
const SNAPSHOT_LATER: Duration = Duration::from_secs(1);

/// How many facts stay readable for `events` when older ones are cleared away.
const FACTS_KEPT: u64 = 100_000;

/// How many facts are cleared away at once.
const FACTS_CLEARED_MAX: u64 = 20_000;

/// How many hints may wait.
const HINTS_MAX: usize = 256;

/// What wakes the loop from outside.
#[derive(Debug)]
pub(super) enum Input {
    /// Something happened.
    Event(Event),
    /// A request with the branches that were looked up for it.
    Asked(RequestId, Request, Branches),
    /// agents.toml has faults: nothing changes, and this is the answer.
    Refused(RequestId, Answer),
    /// The dependency files were read, in these versions.
    DagRead { files: Vec<FileRead>, branches: Branches, seen: Seen },
    /// SIGTERM: end, and leave the agents at their work.
    Detach,
    /// Ctrl-C: drain; a second one detaches.
    Interrupt,
}

/// The supervisor, running.
pub(super) struct Supervisor {
    pub(super) core: Core,
    journal: Journal,
    pub(super) layout: Layout,
    pub(super) hands: Hands,
    pub(super) tasks: Tasks,
    pub(super) since: Timestamp,
    pub(super) waiters: Waiters,
    pub(super) waiting: Waiting,
    pub(super) last_fact: watch::Sender<i64>,
    pub(super) eyes: Eyes,
    /// How often something went wrong with the hints of changed files.
    pub(super) hint_faults: WatchFaults,
    /// Whether the dependency files are being read: readings never overtake each other.
    reading: bool,
    /// When the dependency files are read next.
    dag_due: Option<Instant>,
    /// When the branches of attempts are looked at next.
    branches_due: Instant,
    /// When the heartbeats are read next, and when they were read last.
    beats_due: Option<Instant>,
    beats_read_at: Instant,
    unsaved: u64,
    /// When a snapshot of the state is written.
    save_due: Option<Instant>,
    ready: bool,
    status: String,
    /// When the service manager is told next; nothing has changed since it was told last, unless this is set.
    status_due: Option<Instant>,
    status_told_at: Instant,
    interrupted: bool,
    /// The readings of agents.toml that were asked for and not answered yet.
    pub(super) reloads: BTreeSet<RequestId>,
    /// Why the newest reading of agents.toml was refused.
    refused: Option<String>,
}

/// How a turn of the loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Detach,
    Drained,
}

impl Supervisor {
    /// Begins with a core of whose facts so many are in no snapshot.
    pub(super) fn new(core: Core, unsaved: u64, journal: Journal, layout: Layout, hands: Hands, tasks: Tasks) -> Self {
        let (last_fact, _) = watch::channel(journal.last_seq());
        let eyes = Eyes::new();
        Self {
            core,
            journal,
            layout,
            hands,
            tasks,
            since: clock::now(),
            waiters: Waiters::default(),
            waiting: Waiting::default(),
            last_fact,
            eyes,
            hint_faults: WatchFaults::default(),
            reading: false,
            dag_due: None,
            branches_due: Instant::now(),
            beats_due: None,
            beats_read_at: Instant::now(),
            unsaved,
            save_due: save_due(None, unsaved),
            ready: false,
            status: String::new(),
            status_due: None,
            status_told_at: Instant::now(),
            interrupted: false,
            reloads: BTreeSet::new(),
            refused: None,
        }
    }

    /// Looks around, then turns until it is told to end.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Input>,
        mut asked: mpsc::Receiver<Asked>,
    ) -> Result<(), StartError> {
        let (hints, mut hinted) = mpsc::channel(HINTS_MAX);
        let mut watch = folders::start_judging(self.eyes.folders(&self.layout), hints, eyes::judge);
        self.eyes.follow_beats(&self.layout);
        self.look_around().await?;
        self.read_dag();

        let watchdog = systemd::watchdog_interval().map(|interval| interval / 2);
        let mut next_ping = watchdog.map(|every| Instant::now() + every);
        let mut next_sweep = Instant::now() + SWEEP;
        let mut next_room = Instant::now() + ROOM_LOOK;
        let mut next_retention = Instant::now();
        loop {
            let due = self.core.poll_timeout().map(|(at, _)| instant_of(at));
            let status_due = self.status_due.filter(|_| self.ready);
            let own = [next_ping, Some(next_room), self.dag_due, self.beats_due, status_due, self.save_due];
            let wake = own.into_iter().chain([due]).flatten().fold(next_sweep, Instant::min);
            let mut next = Next::GoOn;
            tokio::select! {
                input = inbox.recv() => if let Some(input) = input {
                    next = self.take(input, &mut inbox);
                },
                topic = hinted.recv() => if let Some(topic) = topic {
                    self.take_hints(topic, &mut hinted);
                },
                question = asked.recv() => if let Some(question) = question {
                    self.answer(question);
                },
                // While a reading is due nobody needs to hear of more: beats that come together are read together.
                () = self.eyes.stirred(), if self.beats_due.is_none() => {
                    let agents = u32::try_from(self.core.plan().agents.len()).unwrap_or(u32::MAX);
                    self.beats_due = Some(self.beats_read_at + BEATS_APART.saturating_mul(agents));
                }
                () = sleep_until(wake) => {}
            }
            let now = Instant::now();
            self.read_what_is_due(now);
            if next_room <= now {
                next_room = now + ROOM_LOOK;
                self.hands.look_at_room(&mut self.tasks);
            }
            if next_retention <= now {
                next_retention = now + RETENTION;
                self.clear_old_away(now);
            }
            if next_sweep <= now {
                next_sweep = now + SWEEP;
                self.sweep(&mut watch);
            }
            self.hint_faults = watch.faults();
            let time = clock::now();
            if self.core.poll_timeout().is_some_and(|(at, _)| at <= time) {
                self.core.handle_timeout(time);
            }
            let done = self.finish_turn().await?;
            if self.save_due.take_if(|at| *at <= now).is_some() {
                self.save().await?;
            }
            if next_ping.is_some_and(|at| at <= now) {
                systemd::watchdog();
                next_ping = watchdog.map(|every| now + every);
            }
            match (done, next) {
                (Next::Drained, _) => return self.end(Next::Drained).await,
                (_, Next::Detach) => return self.end(Next::Detach).await,
                (Next::GoOn | Next::Detach, Next::GoOn | Next::Drained) => {}
            }
        }
    }

    /// Reads heartbeats and dependency files when their time has come.
    fn read_what_is_due(&mut self, now: Instant) {
        if self.beats_due.is_some_and(|at| at <= now) {
            let fresh = self.eyes.fresh_beats(&self.layout);
            self.take_beats(fresh);
        }
        if self.dag_due.take_if(|at| *at <= now).is_some() {
            self.read_dag();
        }
    }

    /// Has what is old looked at and cleared away.
    fn clear_old_away(&mut self, now: Instant) {
        self.hands.sweep_retention(&mut self.tasks, &self.core);
        if self.branches_due <= now {
            self.branches_due = now + BRANCHES_LOOK;
            self.hands.look_at_branches(&mut self.tasks, self.core.plan());
        }
    }

    /// Looks at everything that hints should have told.
    fn sweep(&mut self, watch: &mut folders::Watch<Topic>) {
        watch.rearm();
        self.read_freeze();
        self.eyes.follow_beats(&self.layout);
        let fresh = self.eyes.all_beats(&self.layout);
        self.take_beats(fresh);
        self.status_due.get_or_insert_with(Instant::now);
        self.hands.sweep_reports();
        self.hands.sweep_webhooks();
        self.hands.look_at_panes(&mut self.tasks, &self.core);
        self.read_dag();
    }

    /// Follows the hints that wait, each kind once.
    fn take_hints(&mut self, first: Topic, hinted: &mut mpsc::Receiver<Topic>) {
        let mut topics = vec![first];
        while topics.len() <= HINTS_MAX
            && let Ok(topic) = hinted.try_recv()
        {
            topics.push(topic);
        }
        // A full channel has dropped hints, and nobody knows of which kind.
        let overflow = topics.len() >= HINTS_MAX;
        if overflow || topics.contains(&Topic::Freeze) {
            self.read_freeze();
        }
        if overflow || topics.contains(&Topic::Reports) {
            self.hands.sweep_reports();
        }
        if overflow || topics.contains(&Topic::Dag) || topics.contains(&Topic::DagWhole) {
            let is_quiet = !overflow && !topics.contains(&Topic::Dag);
            self.dag_due = Some(reading_due(self.dag_due, is_quiet, Instant::now()));
        }
    }

    /// Takes in one input and those that wait behind it.
    fn take(&mut self, first: Input, inbox: &mut mpsc::Receiver<Input>) -> Next {
        let mut input = first;
        for _ in 0..BATCH_MAX {
            let now = clock::now();
            match input {
                Input::Event(event) => self.core.handle_event(event, now),
                Input::Asked(id, request, branches) => {
                    if request == Request::FreezeChanged {
                        self.read_freeze();
                    }
                    self.core.handle_event(Event::Asked { id, request, branches }, now);
                }
                Input::DagRead { files, branches, seen } => {
                    self.reading = false;
                    // Whatever came while the files were read is looked at once more; so are files that changed meanwhile.
                    self.dag_due = Some(Instant::now() + DAG_QUIET);
                    self.eyes.dag_was_read(seen, now);
                    self.core.handle_event(Event::DagRead { files, branches }, now);
                }
                Input::Refused(id, answer) => self.tell(id, &answer),
                Input::Detach => return Next::Detach,
                Input::Interrupt if self.interrupted => return Next::Detach,
                Input::Interrupt => {
                    self.interrupted = true;
                    systemd::stopping();
                    let (id, request) = (self.waiting.nobody(), Request::Drain);
                    self.core.handle_event(Event::Asked { id, request, branches: Branches::new() }, now);
                }
            }
            match inbox.try_recv() {
                Ok(another) => input = another,
                Err(_) => break,
            }
        }
        Next::GoOn
    }

    /// Writes the facts of the turn in one commit, then starts its effects in their order.
    async fn finish_turn(&mut self) -> Result<Next, StartError> {
        let mut next = Next::GoOn;
        let (mut effects, mut answers) = (Vec::new(), Vec::new());
        let mut facts: Vec<Recorded> = Vec::new();
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Record(recorded) => facts.push(recorded),
                Effect::Exit => next = Next::Drained,
                Effect::Answer { id, answer } => answers.push((id, answer)),
                other @ (Effect::SpawnPane { .. }
                | Effect::AdoptPane { .. }
                | Effect::StopPane { .. }
                | Effect::ClearRemains { .. }
                | Effect::Probe { .. }
                | Effect::DeliverOrder(_)
                | Effect::InspectOrder { .. }
                | Effect::RetireOrder { .. }
                | Effect::AckReport { .. }
                | Effect::Nudge { .. }
                | Effect::ForgetLogs(_)
                | Effect::ForgetBranches { .. }
                | Effect::ObeyFreeze
                | Effect::Alert(_)
                | Effect::FindResult(_)
                | Effect::Github(_)
                | Effect::Merge(_)) => effects.push(other),
            }
        }
        if let Some(illegal) = self.core.broken() {
            return Err(StartError::Broken(illegal.clone()));
        }
        let mut changed = BTreeSet::new();
        if !facts.is_empty() {
            let seq = start::append(&mut self.journal, &facts).await?;
            changed = told::log(&self.core, &facts);
            self.last_fact.send_replace(seq);
            self.status_due.get_or_insert(self.status_told_at + STATUS_APART);
            self.unsaved += u64::try_from(facts.len()).unwrap_or(u64::MAX);
            self.save_due = save_due(self.save_due, self.unsaved);
        }
        for effect in effects {
            self.hands.run(effect, &mut self.tasks, &self.core);
        }
        for (id, answer) in answers {
            self.tell(id, &answer);
        }
        self.waiters.tell(&self.core, &changed);
        self.tell_systemd();
        Ok(next)
    }

    /// Answers a request, and tells the service manager how a reading of agents.toml went.
    fn tell(&mut self, id: RequestId, answer: &Answer) {
        if self.reloads.remove(&id) {
            self.refused = match answer {
                Answer::Accepted { .. } | Answer::Submitted { .. } => None,
                Answer::Refused { reason, .. } => {
                    tracing::warn!(reason, "agents.toml was read again and is not in force");
                    Some(reason.clone())
                }
            };
            if self.ready {
                let text = self.status_text();
                systemd::ready(&text);
                self.status = text;
            }
        }
        if let Some(answerer) = self.waiting.take(id) {
            answerer.value(answer);
        }
    }

    fn status_text(&self) -> String {
        let text = super::answers::status_line(&self.core);
        match &self.refused {
            None => text,
            Some(reason) => format!("{text}; not reloaded: {reason}"),
        }
    }

    /// Keeps the journal short: a snapshot now and then, and old facts go.
    async fn save(&mut self) -> Result<(), StartError> {
        self.unsaved = 0;
        let seq = self.journal.last_seq();
        let body = serde_json::to_string(self.core.durable()).expect("the state is a plain value with a JSON form");
        self.journal.write_snapshot(seq, STATE_VERSION, &body).await?;
        let cleared = self.journal.compact(FACTS_KEPT, FACTS_CLEARED_MAX).await?;
        tracing::info!(seq, cleared, "a snapshot of the state is in the journal");
        Ok(())
    }

    /// Looks at the world once before the first turn.
    async fn look_around(&mut self) -> Result<(), StartError> {
        for report in self.hands.reports_waiting().await {
            self.core.handle_event(report, clock::now());
        }
        // What is frozen is known before anything is started.
        self.read_freeze();
        if let Some(room) = Hands::room(&self.layout) {
            self.core.handle_event(Event::RoomSeen(room), clock::now());
        }
        let orders = self.hands.places(self.core.open_orders()).await;
        let panes = self.hands.panes_found().await?;
        self.core.handle_event(Event::Started { panes, orders }, clock::now());
        let beats = self.eyes.all_beats(&self.layout);
        self.core.handle_event(Event::BeatsSeen(beats), clock::now());
        self.finish_turn().await?;
        Ok(())
    }

    /// Looks for the operator's mark.
    fn read_freeze(&mut self) {
        let since = freeze::read(&self.layout);
        self.core.handle_event(Event::FreezeSeen { since }, clock::now());
    }

    /// Takes in what the heartbeats say that were just read.
    fn take_beats(&mut self, fresh: Vec<Beat>) {
        self.beats_read_at = Instant::now();
        self.beats_due = (!self.eyes.follows_beats()).then(|| self.beats_read_at + BEATS_BLIND);
        if fresh.is_empty() {
            return;
        }
        let tasks = fresh.iter().filter_map(|beat| beat.activity.task().cloned()).collect();
        self.core.handle_event(Event::BeatsSeen(fresh), clock::now());
        self.waiters.tell(&self.core, &tasks);
    }

    fn read_dag(&mut self) {
        if !self.reading && self.eyes.dag_is_due(&self.layout, clock::now()) {
            self.reading = true;
            self.hands.read_dag(&mut self.tasks, self.core.plan());
        }
    }

    fn tell_systemd(&mut self) {
        if self.ready {
            let now = Instant::now();
            if self.status_due.is_none_or(|at| at > now) {
                return;
            }
            (self.status_due, self.status_told_at) = (None, now);
        } else if !self.core.is_settled() {
            return;
        }
        let text = self.status_text();
        if self.ready && text == self.status {
            return;
        }
        if self.ready {
            systemd::status(&text);
        } else {
            systemd::ready(&text);
            tracing::info!(status = text, "ready");
        }
        self.ready = true;
        self.status = text;
    }

    async fn end(self, how: Next) -> Result<(), StartError> {
        systemd::stopping();
        tracing::info!(drained = how == Next::Drained, "the supervisor ends");
        if how == Next::Drained {
            self.hands.leave_tmux().await;
        }
        drop(self.hands);
        start::end(self.tasks).await;
        self.journal.close().await?;
        Ok(())
    }
}

/// Says when a snapshot is written, if so many facts are in none.
fn save_due(due: Option<Instant>, unsaved: u64) -> Option<Instant> {
    due.or_else(|| (unsaved >= SNAPSHOT_FACTS).then(|| Instant::now() + SNAPSHOT_LATER))
}

/// Says when the dependency files are read after something was told of them. A file that came whole is read at once, unless
/// somebody is in the middle of changing others.
fn reading_due(due: Option<Instant>, is_quiet: bool, now: Instant) -> Instant {
    if is_quiet { due.unwrap_or(now) } else { now + DAG_QUIET }
}

/// Turns a wall-clock time into a timer's time; a time in the past is now.
fn instant_of(at: Timestamp) -> Instant {
    Instant::now() + at.since(clock::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_came_whole_is_read_at_once_and_never_in_the_middle_of_somebody_elses_changes() {
        let now = Instant::now();
        assert_eq!(reading_due(None, true, now), now);
        let written = reading_due(None, false, now);
        assert_eq!(written, now + DAG_QUIET);
        let later = now + Duration::from_millis(1);
        assert_eq!(
            reading_due(Some(written), true, later),
            written,
            "a whole file does not end the quiet time of another"
        );
        assert_eq!(reading_due(Some(written), false, later), later + DAG_QUIET, "whoever writes on is waited for");
    }
}
