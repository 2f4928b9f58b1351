//! Running the effects on GitHub: one client for the token, commits through the publisher's own clone.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::core::event::Event;
use crate::core::github::{GithubEffect, GithubEvent};
use crate::io::git::publish::{self, CaughtUp, Push, Pushed, Remote};
use crate::io::github::client::Client;
use crate::model::fault::with_causes;
use crate::model::github::{API_URL, Publish, Trouble, Write, Written};
use crate::model::github_view::WebhookView;
use crate::model::id::{RepositoryName, RepositorySlug};
use crate::model::layout::Layout;
use crate::model::plan::{MergeMode, Plan};
use crate::model::secret::Secret;
use crate::tasks::Tasks;

use super::hands::send;
use super::turn::Input;
use super::webhooks::Inbox;

/// The way to GitHub.
#[derive(Debug)]
pub(super) struct Github {
    token: Option<Secret>,
    layout: Layout,
    inputs: mpsc::Sender<Input>,
    /// The client for the address that was asked last.
    client: Mutex<Option<(String, Arc<Client>)>>,
    /// Where webhooks are received.
    inbox: Option<Inbox>,
}

/// Where a repository's commits are.
struct Place {
    clone: PathBuf,
    repository: PathBuf,
    remote: Remote,
}

impl Github {
    pub(super) fn new(
        token: Option<Secret>,
        layout: &Layout,
        inputs: mpsc::Sender<Input>,
        inbox: Option<Inbox>,
    ) -> Self {
        Self { token, layout: layout.clone(), inputs, client: Mutex::default(), inbox }
    }

    /// Tells the loop once more of the webhooks that wait.
    pub(super) fn sweep(&self) {
        if let Some(inbox) = &self.inbox {
            inbox.sweep();
        }
    }

    /// Shows the receiving side of webhooks.
    pub(super) fn webhook_view(&self) -> Option<WebhookView> {
        self.inbox.as_ref().map(Inbox::view)
    }

    /// Starts one effect.
    pub(super) fn run(&self, effect: GithubEffect, tasks: &mut Tasks, plan: &Plan) {
        let (client, inputs) = (self.client(plan), self.inputs.clone());
        match effect {
            GithubEffect::Discover { repository, what } => tasks.start("github", move |_| async move {
                let found = match &client {
                    Ok(client) => client.discover(&what).await.map(Box::new),
                    Err(trouble) => Err(trouble.clone()),
                };
                let (asked, quota) = (what.asked, client.ok().and_then(|client| client.quota()));
                let event = GithubEvent::Discovered { repository, asked, found, quota };
                send(&inputs, Event::Github(Box::new(event))).await;
            }),
            GithubEffect::LookAt { repository, what } => tasks.start("github", move |_| async move {
                let found = match &client {
                    Ok(client) => client.discover(&what).await.map(Box::new),
                    Err(trouble) => Err(trouble.clone()),
                };
                let (asked, quota) = (what.asked, client.ok().and_then(|client| client.quota()));
                let event = GithubEvent::LookedAt { repository, asked, found, quota };
                send(&inputs, Event::Github(Box::new(event))).await;
            }),
            GithubEffect::Settle { ids } => {
                if let Some(inbox) = &self.inbox {
                    inbox.settle(ids);
                }
            }
            GithubEffect::Write { task, repository, slug, issue, write } => {
                let place = self.place(plan, &repository);
                tasks.start("github", move |_| async move {
                    let kind = write.kind();
                    let written = match (&client, place) {
                        (Ok(client), Some(place)) => perform(client, &place, &slug, issue, write).await,
                        (Err(trouble), _) => Err(trouble.clone()),
                        (Ok(_), None) => Err(missing(&repository)),
                    };
                    let quota = client.ok().and_then(|client| client.quota());
                    send(&inputs, Event::Github(Box::new(GithubEvent::Written { task, kind, written, quota }))).await;
                });
            }
            GithubEffect::CatchUp { task, repository, target } => {
                let place = self.place(plan, &repository);
                tasks.start("github", move |_| async move {
                    let result = match place {
                        Some(place) => {
                            let caught =
                                publish::catch_up(&place.clone, &place.remote, &place.repository, &target).await;
                            match caught {
                                Ok(CaughtUp::Yes { commit }) => Ok(commit),
                                Ok(CaughtUp::Parked { reason }) => Err(reason),
                                Err(error) => Err(place.hide(&with_causes(&error))),
                            }
                        }
                        None => Err(missing(&repository).to_string()),
                    };
                    send(&inputs, Event::Github(Box::new(GithubEvent::CaughtUp { task, result }))).await;
                });
            }
        }
    }

    fn client(&self, plan: &Plan) -> Result<Arc<Client>, Trouble> {
        let refused = |reason: String| Trouble::Refused { status: 401, reason };
        let token = self.token.clone().ok_or_else(|| {
            refused(format!("there is no token; set {} for the supervisor and start it again", plan.github.token_env))
        })?;
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((api, client)) = held.as_ref()
            && *api == plan.github.api_url
        {
            return Ok(Arc::clone(client));
        }
        let client = Client::new(token, &plan.github.api_url).map_err(|error| refused(with_causes(&error)))?;
        let client = Arc::new(client);
        *held = Some((plan.github.api_url.clone(), Arc::clone(&client)));
        Ok(client)
    }

    fn place(&self, plan: &Plan, name: &RepositoryName) -> Option<Place> {
        let repository = plan.repository(name)?;
        let slug = &repository.github.as_ref()?.slug;
        let home = web(&plan.github.api_url);
        let address = repository.remote.clone().unwrap_or_else(|| format!("{home}{slug}.git"));
        Some(Place {
            clone: self.layout.publisher(name),
            repository: repository.path.clone(),
            remote: self.remote(plan, address),
        })
    }

    /// Returns the remote repository whose branch a merge queue is about, and the publisher's clone for it; nothing if the local
    /// branch is.
    pub(super) fn queue_remote(&self, plan: &Plan, name: &RepositoryName) -> Option<(PathBuf, Remote)> {
        let repository = plan.repository(name).filter(|repository| repository.merge == MergeMode::Queue)?;
        let address = repository.remote.clone()?;
        Some((self.layout.publisher(name), self.remote(plan, address)))
    }

    fn remote(&self, plan: &Plan, address: String) -> Remote {
        let home = web(&plan.github.api_url);
        // The token is for GitHub alone, whatever `remote` says.
        let token = self.token.clone().filter(|_| address.starts_with(&home));
        Remote { address, token }
    }
}

impl Place {
    fn hide(&self, text: &str) -> String {
        self.remote.token.as_ref().map_or_else(|| text.to_owned(), |token| token.hide_in(text))
    }
}

/// Returns the address below which an API's repositories can be cloned.
fn web(api: &str) -> String {
    if api == API_URL {
        return "https://github.com/".to_owned();
    }
    format!("{}/", api.strip_suffix("/api/v3").unwrap_or(api))
}

fn missing(repository: &RepositoryName) -> Trouble {
    Trouble::Stopped { reason: format!("repository {repository} is not in agents.toml, or not on GitHub") }
}

async fn perform(
    client: &Client,
    place: &Place,
    slug: &RepositorySlug,
    issue: Option<u64>,
    write: Write,
) -> Result<Written, Trouble> {
    match write {
        Write::Publish(publish) => {
            push(place, &publish).await?;
            client.open_pull(slug, &publish).await.map(Written::Published)
        }
        Write::Comment { known, marker, body } => {
            let issue = issue.ok_or_else(|| Trouble::Stopped { reason: "the task has no issue".to_owned() })?;
            client.comment(slug, issue, known, &marker, &body).await.map(Written::Commented)
        }
        Write::Status { commit, description } => {
            client.status(slug, &commit, &description).await.map(|()| Written::StatusSet)
        }
    }
}

async fn push(place: &Place, publish: &Publish) -> Result<(), Trouble> {
    let push = Push {
        repository: &place.repository,
        from: &publish.from,
        commit: &publish.commit,
        branch: &publish.branch,
        ours: &publish.ours,
    };
    match publish::push(&place.clone, &place.remote, push).await {
        Ok(Pushed::Done) => Ok(()),
        Ok(Pushed::Foreign { commit }) => Err(Trouble::Stopped {
            reason: format!(
                "the branch {} holds {}, which we have not pushed; delete the branch or merge it",
                publish.branch,
                commit.get(..10).unwrap_or(&commit)
            ),
        }),
        Err(error) => Err(Trouble::Unsure { reason: place.hide(&with_causes(&error)) }),
    }
}

#[cfg(test)]
mod tests {
    use super::web;

    #[test]
    fn clones_come_from_where_the_api_is() {
        assert_eq!(web("https://api.github.com"), "https://github.com/");
        assert_eq!(web("https://ghe.example.org/api/v3"), "https://ghe.example.org/");
        assert_eq!(web("http://127.0.0.1:4000"), "http://127.0.0.1:4000/");
    }
}
