//! GitHub's webhooks: kept by a clerk on the disk, answered, and told to the loop.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::core::event::Event;
use crate::core::github::GithubEvent;
use crate::http::serve;
use crate::http::webhook::{Deliveries, Kept, Webhook};
use crate::io::clock;
use crate::io::webhooks::{self as kept, Webhooks};
use crate::model::fault::with_causes;
use crate::model::github::{Delivery, WebhookSpec};
use crate::model::github_view::WebhookView;
use crate::model::layout::Layout;
use crate::model::secret::Secret;
use crate::tasks::Tasks;

use super::turn::Input;

/// How many jobs may wait for the clerk; whoever comes when it is full is told so.
const JOBS_MAX: usize = 64;

/// How long to wait until an address that could not be had is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(10);

enum Job {
    Keep(Delivery, oneshot::Sender<Kept>),
    Settle(Vec<String>),
    /// Tell the loop of everything that waits.
    Tell,
}

/// The receiving side, as far as the loop knows it.
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    jobs: mpsc::Sender<Job>,
    view: Arc<Mutex<WebhookView>>,
}

impl Inbox {
    /// Starts to listen, and tells the loop of what an earlier supervisor has kept and not handled.
    pub(super) fn start(
        tasks: &mut Tasks,
        layout: &Layout,
        spec: &WebhookSpec,
        secret: Secret,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let view = WebhookView { listen: spec.listen.clone(), ..WebhookView::default() };
        let inbox = Self { jobs, view: Arc::new(Mutex::new(view)) };
        let folder = layout.webhooks();
        tasks.start_blocking("webhook clerk", move || work(&folder, waiting, &inputs));
        inbox.give(Job::Tell);
        let (here, listen) = (inbox.clone(), spec.listen.clone());
        tasks.start("webhooks", move |stop| async move {
            let router = Webhook::new(secret, here.clone()).router();
            loop {
                match serve::bind(&listen).await {
                    Ok(listener) => {
                        here.note(|view| view.trouble = None);
                        tracing::info!(listen, "GitHub's webhooks are awaited");
                        return serve::serve(listener, router, stop).await;
                    }
                    Err(error) => {
                        tracing::warn!(listen, error = with_causes(&error), "GitHub's webhooks cannot be received");
                        here.note(|view| view.trouble = Some(with_causes(&error)));
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(BIND_AGAIN) => {}
                }
            }
        });
        inbox
    }

    /// Notes that deliveries were handled.
    pub(super) fn settle(&self, ids: Vec<String>) {
        self.give(Job::Settle(ids));
    }

    /// Tells the loop once more of everything that waits: it may have had no room before.
    pub(super) fn sweep(&self) {
        self.give(Job::Tell);
    }

    /// Shows how it stands.
    pub(super) fn view(&self) -> WebhookView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn give(&self, job: Job) {
        if self.jobs.try_send(job).is_err() {
            tracing::debug!("the clerk of the webhooks has no room; the next sweep repeats it");
        }
    }

    fn note(&self, change: impl FnOnce(&mut WebhookView)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Deliveries for Inbox {
    async fn keep(&self, delivery: Delivery) -> Kept {
        let (sender, receiver) = oneshot::channel();
        let kept = match self.jobs.try_send(Job::Keep(delivery, sender)) {
            Ok(()) => receiver.await.unwrap_or(Kept::Failed),
            Err(_) => Kept::Full,
        };
        self.note(|view| match kept {
            Kept::New => {
                view.received += 1;
                view.last = Some(clock::now());
            }
            Kept::Known => view.repeated += 1,
            Kept::Full | Kept::Failed => view.refused += 1,
        });
        kept
    }
}

/// Keeps and settles until nobody gives jobs any more.
fn work(folder: &Path, mut waiting: mpsc::Receiver<Job>, inputs: &mpsc::Sender<Input>) {
    let mut webhooks = Webhooks::open(folder)
        .inspect_err(|error| tracing::error!(error = with_causes(error), "deliveries of webhooks cannot be kept"))
        .ok();
    while let Some(job) = waiting.blocking_recv() {
        match (job, &mut webhooks) {
            (Job::Keep(delivery, answer), Some(webhooks)) => {
                let kept = keep(webhooks, &delivery);
                // Whoever has asked may be gone.
                answer.send(kept).ok();
                if kept == Kept::New {
                    tell(inputs, delivery);
                }
            }
            (Job::Keep(_, answer), None) => drop(answer.send(Kept::Failed)),
            (Job::Settle(ids), Some(webhooks)) => {
                for id in ids {
                    if let Err(error) = webhooks.settle(&id) {
                        tracing::warn!(id, error = with_causes(&error), "a delivery will be handled once more");
                    }
                }
            }
            (Job::Tell, Some(webhooks)) => webhooks.waiting().cloned().for_each(|delivery| tell(inputs, delivery)),
            (Job::Settle(_) | Job::Tell, None) => {
                webhooks = Webhooks::open(folder).ok();
            }
        }
    }
}

fn keep(webhooks: &mut Webhooks, delivery: &Delivery) -> Kept {
    match webhooks.keep(delivery) {
        Ok(kept::Kept::New) => Kept::New,
        Ok(kept::Kept::Known) => Kept::Known,
        Ok(kept::Kept::Full) => Kept::Full,
        Err(error) => {
            tracing::warn!(error = with_causes(&error), "a delivery cannot be kept");
            Kept::Failed
        }
    }
}

fn tell(inputs: &mpsc::Sender<Input>, delivery: Delivery) {
    let event = Event::Github(Box::new(GithubEvent::Hinted(delivery)));
    if inputs.try_send(Input::Event(event)).is_err() {
        tracing::debug!("the loop has no room for a delivery; the next sweep repeats it");
    }
}
