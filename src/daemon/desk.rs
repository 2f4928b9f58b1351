//! The supervisor's desk at the spool: one thread does its file work, in the order in which it was asked.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::{mpsc, oneshot};

use crate::core::effect::Retire;
use crate::core::event::{Event, OrderPlace};
use crate::core::snapshot::QueueView;
use crate::io::clock;
use crate::io::spool::Spool;
use crate::io::spool::limits::Limits;
use crate::io::spool::name::Folder;
use crate::io::spool::retire::Retire as SpoolRetire;
use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::fault::with_causes;
use crate::model::id::{AgentId, EnvelopeId, Incarnation, Mailbox};
use crate::model::layout::Layout;
use crate::model::order::WorkOrder;
use crate::model::plan::SpoolLimits;
use crate::model::report::Report;
use crate::tasks::Tasks;

use super::turn::Input;

/// How many jobs may wait for the desk.
const JOBS_MAX: usize = 4_096;

/// How many reports one look hands over; the next look takes the rest.
const REPORTS_MAX: usize = 1_000;

/// How often a message about a stall may be leased before it is given up.
const NUDGE_LEASES_MAX: u32 = 5;

/// File work for the desk.
#[derive(Debug)]
pub(super) enum Job {
    Deliver(Box<WorkOrder>),
    Inspect {
        agent: AgentId,
        envelope: EnvelopeId,
    },
    Retire {
        agent: AgentId,
        envelope: EnvelopeId,
        how: Retire,
    },
    Nudge {
        agent: AgentId,
        text: String,
    },
    AckReport(EnvelopeId),
    SweepReports,
    SweepRetention,
    /// Nothing of the incarnation is left: hand over its reports, then say where its order lies.
    Cleared {
        agent: AgentId,
        incarnation: Incarnation,
        order: Option<EnvelopeId>,
    },
    ReportsWaiting(oneshot::Sender<Vec<Event>>),
    Places(Vec<(AgentId, EnvelopeId)>, oneshot::Sender<BTreeMap<EnvelopeId, OrderPlace>>),
}

/// Gives jobs to the desk.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    jobs: mpsc::Sender<Job>,
    spool: Spool,
}

impl Desk {
    pub(super) fn start(tasks: &mut Tasks, layout: &Layout, limits: &SpoolLimits, inputs: mpsc::Sender<Input>) -> Self {
        let (jobs, mut waiting) = mpsc::channel(JOBS_MAX);
        let spool = Spool::with_limits(layout.spool(), Limits::from(limits));
        let mut clerk = Clerk { spool: spool.clone(), inputs, handed_over: BTreeSet::new() };
        tasks.start_blocking("spool desk", move || {
            if let Err(error) = clerk.spool.ensure(&Mailbox::supervisor()) {
                tracing::error!(%error, "the supervisor's mailbox cannot be made");
            }
            while let Some(job) = waiting.blocking_recv() {
                clerk.work(job);
            }
        });
        Self { jobs, spool }
    }

    /// Gives a job. The queue has room for every open order many times over, so a full one is a mistake of ours.
    pub(super) fn give(&self, job: Job) {
        if let Err(error) = self.jobs.try_send(job) {
            tracing::error!(%error, "the spool desk cannot take a job; the next sweep repeats it");
        }
    }

    pub(super) async fn reports_waiting(&self) -> Vec<Event> {
        let (sender, receiver) = oneshot::channel();
        self.give(Job::ReportsWaiting(sender));
        receiver.await.unwrap_or_default()
    }

    pub(super) async fn places(&self, orders: Vec<(AgentId, EnvelopeId)>) -> BTreeMap<EnvelopeId, OrderPlace> {
        let (sender, receiver) = oneshot::channel();
        self.give(Job::Places(orders, sender));
        receiver.await.unwrap_or_default()
    }

    /// Counts what lies in every mailbox. Blocks on the file system.
    pub(super) fn queues(&self) -> Vec<QueueView> {
        let mailboxes = self.spool.mailboxes().unwrap_or_else(|error| {
            tracing::warn!(%error, "the mailboxes cannot be listed");
            Vec::new()
        });
        mailboxes
            .into_iter()
            .filter_map(|mailbox| match self.spool.counts(&mailbox) {
                Ok(counts) => Some(QueueView {
                    mailbox,
                    new: counts.new,
                    leased: counts.leased,
                    later: counts.later,
                    dead: counts.dead,
                    slowed: counts.slowed,
                }),
                Err(error) => {
                    tracing::warn!(%error, %mailbox, "a mailbox cannot be counted");
                    None
                }
            })
            .collect()
    }
}

/// Sits at the desk.
struct Clerk {
    spool: Spool,
    inputs: mpsc::Sender<Input>,
    /// Reports that are in the loop's hands and not acknowledged yet.
    handed_over: BTreeSet<EnvelopeId>,
}

impl Clerk {
    fn work(&mut self, job: Job) {
        match job {
            Job::Deliver(order) => self.deliver(&order),
            Job::Inspect { agent, envelope } => {
                let place = self.place(&agent, envelope);
                if let Some(place) = place {
                    self.say(Event::OrderInspected { agent, envelope, place });
                }
            }
            Job::Retire { agent, envelope, how } => {
                let how = match how {
                    Retire::Done => SpoolRetire::Done,
                    Retire::Dead { reason } => SpoolRetire::Dead { reason },
                };
                match self.spool.retire(&Mailbox::work(&agent), envelope, &how, clock::now()) {
                    Ok(_) => self.say(Event::OrderRetired { envelope }),
                    // No answer: the core asks again, and begins nothing that could collide with it.
                    Err(error) => {
                        let error = with_causes(&error);
                        tracing::warn!(error, %agent, %envelope, "an order cannot be taken out of its mailbox");
                    }
                }
            }
            Job::Nudge { agent, text } => self.nudge(&agent, &text),
            Job::AckReport(id) => {
                self.handed_over.remove(&id);
                if let Err(error) = self.spool.retire(&Mailbox::supervisor(), id, &SpoolRetire::Done, clock::now()) {
                    tracing::warn!(%error, report = %id, "a report cannot be acknowledged; it will come again");
                }
            }
            Job::SweepReports => {
                for event in self.reports() {
                    self.say(event);
                }
            }
            Job::SweepRetention => {
                if let Err(error) = self.spool.sweep_retention(clock::now()) {
                    tracing::warn!(%error, "the spool's old envelopes cannot be cleared away");
                }
            }
            Job::Cleared { agent, incarnation, order } => {
                for event in self.reports() {
                    self.say(event);
                }
                let order = order.and_then(|envelope| self.place(&agent, envelope));
                self.say(Event::RemainsCleared { agent, incarnation, order });
            }
            // Whoever asked has ended meanwhile if nobody listens.
            Job::ReportsWaiting(answer) => drop(answer.send(self.reports())),
            Job::Places(orders, answer) => {
                let places = orders
                    .into_iter()
                    .filter_map(|(agent, envelope)| Some((envelope, self.place(&agent, envelope)?)))
                    .collect();
                drop(answer.send(places));
            }
        }
    }

    fn say(&self, event: Event) {
        if self.inputs.blocking_send(Input::Event(event)).is_err() {
            tracing::debug!("the loop has ended; an event of the spool is dropped and will be seen at the next start");
        }
    }

    fn deliver(&self, order: &WorkOrder) {
        let mailbox = Mailbox::work(&order.agent);
        let body = match serde_json::to_value(order) {
            Ok(body) => body,
            Err(error) => return self.not_delivered(order, error.to_string()),
        };
        let (kind, from) = (EnvelopeKind::WorkOrder, Mailbox::supervisor().as_str().to_owned());
        let envelope = Envelope {
            priority: order.priority,
            thread: Some(order.run.to_string()),
            attempts_max: 1,
            ..Envelope::new(order.id, kind, from, mailbox, order.queued_at, body)
        };
        if let Err(error) = self.spool.deliver(&envelope, None, clock::now()) {
            self.not_delivered(order, with_causes(&error));
        }
    }

    /// Sends an agent a message; one that cannot be sent is as good as one that is not read.
    fn nudge(&self, agent: &AgentId, text: &str) {
        let now = clock::now();
        let (kind, from) = (EnvelopeKind::Message, Mailbox::supervisor().as_str().to_owned());
        let message = Envelope {
            attempts_max: NUDGE_LEASES_MAX,
            ..Envelope::new(clock::fresh_envelope_id(), kind, from, Mailbox::agent(agent), now, text.into())
        };
        if let Err(error) = self.spool.deliver(&message, None, now) {
            tracing::warn!(error = with_causes(&error), %agent, "an agent cannot be sent a message");
        }
    }

    fn not_delivered(&self, order: &WorkOrder, reason: String) {
        tracing::warn!(task = %order.task, reason, "an order cannot be written");
        self.say(Event::OrderNotDelivered { agent: order.agent.clone(), envelope: order.id, reason });
    }

    /// Finds an order; `None` when the spool cannot be read, which means nothing.
    fn place(&self, agent: &AgentId, envelope: EnvelopeId) -> Option<OrderPlace> {
        match self.spool.locate(&Mailbox::work(agent), envelope) {
            Ok(None) => Some(OrderPlace::Missing),
            Ok(Some(listed)) => Some(match listed.folder {
                Folder::New | Folder::Later => OrderPlace::New,
                Folder::Leased => {
                    OrderPlace::Leased(listed.holder.map_or(Incarnation(0), |holder| holder.incarnation()))
                }
                Folder::Done => OrderPlace::Done,
                Folder::Dead => OrderPlace::Dead,
            }),
            Err(error) => {
                tracing::warn!(%error, %agent, "an order cannot be looked for");
                None
            }
        }
    }

    /// Reads the reports that are waiting. They stay where they are until they are acknowledged: the supervisor is the
    /// mailbox's only reader, so it needs no lease, and a crash leaves nothing to take back.
    fn reports(&mut self) -> Vec<Event> {
        let mailbox = Mailbox::supervisor();
        let waiting = match self.spool.waiting(&mailbox) {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(%error, "the supervisor's mailbox cannot be read");
                return Vec::new();
            }
        };
        let mut events = Vec::new();
        for listed in waiting.into_iter().take(REPORTS_MAX) {
            if !self.handed_over.insert(listed.id) {
                continue;
            }
            match self.read_report(&mailbox, listed.id) {
                Ok(Some(report)) => {
                    events.push(Event::ReportArrived { report: Box::new(report), receipt: listed.id.to_string() });
                }
                Ok(None) => {}
                Err(reason) => {
                    tracing::warn!(envelope = %listed.id, reason, "an envelope to the supervisor is no report");
                    let how = SpoolRetire::Dead { reason };
                    if let Err(error) = self.spool.retire(&mailbox, listed.id, &how, clock::now()) {
                        tracing::warn!(%error, "it cannot be put aside either");
                    }
                }
            }
        }
        events
    }

    fn read_report(&self, mailbox: &Mailbox, id: EnvelopeId) -> Result<Option<Report>, String> {
        let envelope = self.spool.read(mailbox, id).map_err(|error| with_causes(&error))?;
        let Some(envelope) = envelope else { return Ok(None) };
        match envelope.kind {
            EnvelopeKind::Report => {
                serde_json::from_value(envelope.body).map(Some).map_err(|error| format!("it is not a report: {error}"))
            }
            EnvelopeKind::Message | EnvelopeKind::WorkOrder => Err("the supervisor reads reports only".to_owned()),
        }
    }
}
