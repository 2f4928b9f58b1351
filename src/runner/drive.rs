//! The runner's loop: takes in events, asks the machine, has its effects done, each slow one in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::attempt::short;
use super::beat;
use super::checks;
use super::context::{Assignment, Context};
use super::ears;
use super::event::{Effect, Event, Pull, Trouble};
use super::hints::{Hints, Topic};
use super::machine::Machine;
use super::pane::Tone;
use super::post::{Hold, PostError};
use super::start::RunnerError;
use super::work;
use super::workplace;
use crate::io::{clock, freeze, resources};
use crate::model::beat::{Activity, Beat, Progress, Step};
use crate::model::envelope::Envelope;
use crate::model::fault::with_causes;
use crate::model::report::{Outcome, Report};
use crate::model::size::Size;
use crate::tasks::Tasks;

/// How many pieces of news may wait for the loop: one step is under way at a time.
const NEWS_MAX: usize = 64;

/// A disk with less room than this counts as full: what failed then failed for that.
const FULL: Size = Size(1024 * 1024);

/// What reaches the loop.
#[derive(Debug)]
pub(super) enum News {
    /// An event for the machine.
    Event(Event),
    /// The answer to [`Effect::Lease`], with what must be given back.
    Leased(Result<Option<Assignment>, PostError>),
    /// A hint.
    Hint(Topic),
}

/// The shell around a machine.
pub(super) struct Shell {
    pub(super) context: Arc<Context>,
    pub(super) machine: Machine,
    pub(super) tasks: Tasks,
    pub(super) sender: mpsc::Sender<News>,
    pub(super) hints: Hints,
    news: mpsc::Receiver<News>,
    assignment: Option<Arc<Assignment>>,
    leash: watch::Sender<Option<Pull>>,
}

impl Shell {
    pub(super) fn new(context: Arc<Context>, machine: Machine) -> Self {
        // Answers wait for room; there is always some, since steps follow each other.
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let (leash, _) = watch::channel(None);
        Self { context, machine, tasks: Tasks::new(), sender, hints: Hints::none(), news, assignment: None, leash }
    }

    /// Runs until the machine wants to exit; then ends every task.
    pub(super) async fn drive(mut self, patience: Duration) -> Result<(), RunnerError> {
        let result = self.turn().await;
        // A program that still runs dies with its leash.
        drop(std::mem::replace(&mut self.leash, watch::channel(None).0));
        self.tasks.shut_down(patience).await;
        result
    }

    async fn turn(&mut self) -> Result<(), RunnerError> {
        // Whoever is started while everything is frozen does not begin.
        self.machine.handle_event(self.freeze(), clock::now())?;
        loop {
            while let Some(effect) = self.machine.poll_effect() {
                if effect == Effect::Exit {
                    return Ok(());
                }
                self.begin(effect);
            }
            let wait = self.machine.poll_timeout().map(|(due, _)| due.since(clock::now()));
            let news = tokio::select! {
                news = self.news.recv() => news,
                topic = self.hints.next() => Some(News::Hint(topic)),
                () = sleep(wait) => None,
            };
            let now = clock::now();
            match news {
                None => {
                    // Hints get lost; a beat without a look at the mark could be the last thing before a step begins.
                    self.machine.handle_event(self.freeze(), now)?;
                    self.machine.handle_timeout(now);
                    self.listen();
                }
                Some(News::Hint(Topic::Leased)) => self.look(),
                Some(News::Hint(Topic::Events)) => self.listen(),
                Some(News::Hint(Topic::Freeze)) => self.machine.handle_event(self.freeze(), now)?,
                Some(news) => {
                    let event = self.event(news)?;
                    tracing::trace!(event = event.name(), "event");
                    if event.is_failure() && self.is_disk_full() {
                        self.machine.handle_event(Event::DiskFull, now)?;
                    }
                    self.machine.handle_event(event, now)?;
                }
            }
        }
    }

    fn event(&mut self, news: News) -> Result<Event, RunnerError> {
        Ok(match news {
            News::Event(event) => event,
            News::Hint(Topic::New | Topic::Leased | Topic::Freeze | Topic::Events) => Event::MailboxChanged,
            News::Leased(Ok(None)) => Event::Leased(Ok(None)),
            News::Leased(Ok(Some(assignment))) => {
                let order = Arc::clone(&assignment.order);
                let line = format!("{}: attempt {} begins", order.task, order.attempt);
                self.context.pane.say(Tone::Step, &line);
                tracing::info!(task = %order.task, attempt = order.attempt, order = %order.id, "leased an order");
                self.assignment = Some(Arc::new(assignment));
                Event::Leased(Ok(Some(order)))
            }
            // A supervisor of another version wrote it: the next start of this runner may understand it.
            News::Leased(Err(error @ PostError::NotAnOrder { .. })) => {
                return Err(RunnerError::Order { source: Box::new(error) });
            }
            News::Leased(Err(PostError::Spool(error))) => {
                tracing::warn!(error = %with_causes(&error), "cannot look into the mailbox");
                Event::Leased(Err(Trouble(with_causes(&error))))
            }
        })
    }

    fn begin(&mut self, effect: Effect) {
        tracing::trace!(?effect, "effect");
        let context = Arc::clone(&self.context);
        match effect {
            Effect::Beat(mut value) => {
                value.progress = self.progress(&value);
                value.watching = self.hints.faults();
                let path = context.layout.beat(&context.agent.id);
                if let Err(error) = beat::write(&path, &value) {
                    tracing::warn!(path = %path.display(), %error, "cannot beat");
                }
            }
            Effect::Lease => {
                self.hints.rearm();
                let sender = self.sender.clone();
                self.tasks.start_blocking("lease", move || {
                    sender.blocking_send(News::Leased(context.post.lease_order(clock::now()))).ok();
                });
            }
            Effect::Look(_) => self.look(),
            Effect::Prepare(order) => {
                let answer = self.answer(Event::Prepared(Err(panicked())));
                self.tasks.start("prepare", |_| async move {
                    answer.give(Event::Prepared(workplace::prepare(&context, &order).await)).await;
                });
            }
            Effect::Run(order) => self.begin_run(context, &order.task.to_string()),
            Effect::Commit { order, base, purpose, summary } => {
                let answer = self.answer(Event::Committed(Err(panicked())));
                self.tasks.start("commit", |_| async move {
                    let made = workplace::commit(&context, &order, &base, purpose, summary.as_deref()).await;
                    if let Ok(Some(commit)) = &made {
                        let line = format!("commit {} on {}", short(&commit.id), commit.branch);
                        context.pane.say(Tone::Step, &line);
                    }
                    answer.give(Event::Committed(made)).await;
                });
            }
            Effect::Check { order, base, commit } => {
                let answer = self.answer(Event::Checked(Err(panicked())));
                let leash = self.tie();
                self.tasks.start("check", |_| async move {
                    let commits = commit.as_deref().map(|commit| (base.as_deref().unwrap_or(commit), commit));
                    answer.give(Event::Checked(checks::run(&context, &order, commits, leash).await)).await;
                });
            }
            Effect::Signal(pull) => {
                self.leash.send_replace(Some(pull));
            }
            Effect::Deliver(report) => self.begin_deliver(context, report),
            Effect::Ack(_) => self.begin_ack(context),
            Effect::Clear(order) => {
                let answer = self.answer(Event::Cleared);
                self.assignment = None;
                self.tasks.start("clear", |_| async move {
                    workplace::clear_away_now_or_later(&context, &order, order.attempt).await;
                    answer.give(Event::Cleared).await;
                });
            }
            Effect::Exit => {}
        }
    }

    fn begin_run(&mut self, context: Arc<Context>, task: &str) {
        let failed = super::attempt::Ran {
            failure: Some(super::attempt::Failure {
                kind: crate::model::report::FailureKind::Infrastructure,
                reason: panicked().0,
            }),
            ..super::attempt::Ran::default()
        };
        let answer = self.answer(Event::Ran(Box::new(failed)));
        let Some(assignment) = self.assignment.clone() else { return };
        let (leash, news) = (self.tie(), self.sender.clone());
        tracing::debug!(task, "the program starts");
        self.tasks.start("run", |_| async move {
            let ran = work::run(&context, &assignment, leash, news).await;
            answer.give(Event::Ran(Box::new(ran))).await;
        });
    }

    fn begin_deliver(&mut self, context: Arc<Context>, report: Arc<Envelope>) {
        let answer = self.answer(Event::Delivered(Err(panicked())));
        if let Some(assignment) = self.assignment.as_ref().filter(|_| is_proven(&report)) {
            assignment.mark_proven();
        }
        self.tasks.start_blocking("deliver", move || {
            let delivered = context.post.deliver(&report, clock::now());
            match &delivered {
                Ok(()) => say_report(&context, &report),
                Err(error) => {
                    tracing::warn!(error = %with_causes(error), "cannot deliver the report; it is tried again");
                    context.pane.say(Tone::Bad, &format!("cannot deliver the report: {}", with_causes(error)));
                }
            }
            answer.give_blocking(Event::Delivered(delivered.map_err(|error| Trouble(with_causes(&error)))));
        });
    }

    fn begin_ack(&mut self, context: Arc<Context>) {
        let answer = self.answer(Event::Acked(Err(panicked())));
        let Some(assignment) = self.assignment.clone() else { return };
        self.tasks.start_blocking("ack", move || {
            let now = clock::now();
            for message in assignment.messages() {
                // A message that is not acknowledged comes again, which its reader must be able to bear.
                if let Err(error) = context.post.ack(&message, now) {
                    tracing::warn!(receipt = %message, error = %with_causes(&error), "cannot acknowledge a message");
                } else if assignment.is_proven() {
                    context.post.note_verified(&message, now);
                }
            }
            let acked = context.post.ack(&assignment.receipt(), now);
            answer.give_blocking(Event::Acked(acked.map_err(|error| Trouble(with_causes(&error)))));
        });
    }

    /// Looks for the operator's mark; a dashboard goes on, and shows the freeze.
    fn freeze(&self) -> Event {
        match freeze::read(&self.context.layout) {
            Some(since) if self.context.agent.takes_work() => Event::Frozen(since),
            Some(_) | None => Event::Thawed(freeze::past(&self.context.layout)),
        }
    }

    /// Says whether hardly anything can be written any more.
    fn is_disk_full(&self) -> bool {
        resources::disk_free(&self.context.layout.data()).is_ok_and(|free| free < FULL)
    }

    /// Looks at how far the programs of the order in hand have come.
    fn progress(&self, beat: &Beat) -> Option<Progress> {
        match beat.activity {
            Activity::Busy { step: Step::Running | Step::Checking, .. } => {
                let order = &self.assignment.as_ref()?.order;
                Some(self.context.progress.look(&self.context.worktree(order)))
            }
            Activity::Busy { step: Step::Preparing | Step::Committing | Step::Reporting, .. }
            | Activity::Starting
            | Activity::Idle
            | Activity::WaitingForHuman { .. }
            | Activity::Limited { .. }
            | Activity::Stopped => None,
        }
    }

    /// Hears what the agent's program has put into the folder of events. A hint may get lost, so every beat listens too.
    fn listen(&mut self) {
        if self.assignment.is_none() {
            return;
        }
        let (context, sender) = (Arc::clone(&self.context), self.sender.clone());
        self.tasks.start_blocking("listen", move || {
            for signal in ears::take_events(&context.layout.events(&context.agent.id)) {
                if context.progress.heard(&signal) {
                    sender.blocking_send(News::Event(Event::Heard(signal))).ok();
                }
            }
        });
    }

    /// Sees whether the order is still ours.
    fn look(&mut self) {
        let Some(assignment) = self.assignment.clone() else { return };
        let (context, sender) = (Arc::clone(&self.context), self.sender.clone());
        self.tasks.start_blocking("look", move || match context.post.hold(&assignment, clock::now()) {
            Ok(Hold::Ours) => {}
            Ok(Hold::Gone) => {
                sender.blocking_send(News::Event(Event::OrderGone(assignment.order.id))).ok();
            }
            Err(error) => tracing::warn!(error = %with_causes(&error), "cannot see whether the order is still ours"),
        });
    }

    /// Returns the hold on the program of the step that begins.
    fn tie(&mut self) -> watch::Receiver<Option<Pull>> {
        let (sender, receiver) = watch::channel(None);
        self.leash = sender;
        receiver
    }

    fn answer(&self, fallback: Event) -> Answer {
        Answer { sender: self.sender.clone(), fallback: Some(fallback) }
    }
}

fn panicked() -> Trouble {
    Trouble("the runner made a mistake in this step; its log says more".to_owned())
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// The one answer that a step owes to the machine; given even if the step panics, so that nothing waits for ever.
struct Answer {
    sender: mpsc::Sender<News>,
    fallback: Option<Event>,
}

impl Answer {
    async fn give(mut self, event: Event) {
        self.fallback = None;
        // When the loop is gone, nobody waits for it.
        self.sender.send(News::Event(event)).await.ok();
    }

    fn give_blocking(mut self, event: Event) {
        self.fallback = None;
        self.sender.blocking_send(News::Event(event)).ok();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(event) = self.fallback.take() {
            self.sender.try_send(News::Event(event)).ok();
        }
    }
}

/// Says whether a report tells of work that passed its checks.
fn is_proven(envelope: &Envelope) -> bool {
    serde_json::from_value::<Report>(envelope.body.clone())
        .is_ok_and(|report| report.outcome == Outcome::Done && !report.checks.is_empty())
}

fn say_report(context: &Context, envelope: &Envelope) {
    let Ok(report) = serde_json::from_value::<Report>(envelope.body.clone()) else { return };
    let took = report.ended_at.since(report.started_at);
    let took = crate::model::span::format(Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    let (tone, word) = match report.outcome {
        Outcome::Done => (Tone::Good, "done"),
        Outcome::NoChange => (Tone::Good, "no change"),
        Outcome::ChangesRequested => (Tone::Step, "changes requested"),
        Outcome::Failed => (Tone::Bad, "failed"),
    };
    let first = report.summary.lines().next().unwrap_or_default();
    context.pane.say(tone, &format!("{}: attempt {} {word} after {took}: {first}", report.task, report.attempt));
    tracing::info!(task = %report.task, attempt = report.attempt, outcome = word, "reported");
}
