//! What attempts have left and nobody clears away any more: their agent has left the team, the order among their files is lost, or
//! it was tried too often. Looked for now and then, by age; whichever runner comes first does it for all.
//!
//! Here and not in the supervisor, because git may run what a repository names as its filters.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::workplace;
use crate::io::git::commit;
use crate::io::{clock, lockfile};
use crate::model::fault::with_causes;
use crate::model::id::{RunId, StageName};
use crate::model::order::WorkOrder;
use crate::model::time::Timestamp;

/// How often strays are looked for.
const LOOK: Duration = Duration::from_hours(1);

/// How many folders one look goes through.
const FOLDERS_MAX: usize = 20_000;

/// How many strays one look clears away; the next one finds the others.
const STRAYS_MAX: usize = 100;

/// What the name of a worktree ends with in which a commit is checked: work is never left there.
const CHECK: &str = "-check";

/// Looks for strays that nobody has touched for some time, as long as the runner lives.
pub(super) async fn sweep(context: Arc<Context>, keep: Duration, stop: CancellationToken) {
    loop {
        look(&context, keep, &stop).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn look(context: &Context, keep: Duration, stop: &CancellationToken) {
    let Ok(_lock) = lockfile::acquire(&context.layout.run().join("strays.lock")) else { return };
    let now = clock::now();
    let old = |stray: &Stray| now.since(stray.touched(context)) >= keep && !stray.is_open(context);
    for stray in find(context).into_iter().filter(old).take(STRAYS_MAX) {
        if stop.is_cancelled() {
            return;
        }
        tracing::info!(name = stray.name, "an attempt that has ended is cleared away: nobody else has done it");
        stray.clear(context).await;
    }
}

/// What one attempt has on the disk.
struct Stray {
    name: String,
    /// The order among its files; absent: lost.
    order: Option<Arc<WorkOrder>>,
}

/// Finds whatever attempts have on the disk.
fn find(context: &Context) -> Vec<Stray> {
    let layout = &context.layout;
    let folders = [layout.worktrees(), layout.attempts()];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let names = entries.take(FOLDERS_MAX).filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.map(|name| name.strip_suffix(CHECK).unwrap_or(&name).to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| Stray::new(context, name)).collect()
}

impl Stray {
    /// Reads the order of an attempt; nothing if the name is not that of an attempt.
    fn new(context: &Context, name: String) -> Option<Self> {
        let (rest, attempt) = name.rsplit_once('-')?;
        let (run, stage) = rest.split_once('-')?;
        let (run, stage): (RunId, StageName) = (run.parse().ok()?, stage.parse().ok()?);
        let attempt: u32 = attempt.parse().ok()?;
        let text = fs::read(context.layout.attempt(run, &stage, attempt).join("order.json")).ok();
        let order = text.and_then(|text| serde_json::from_slice::<WorkOrder>(&text).ok());
        let order = order.filter(|order| order.run == run && order.stage == stage && order.attempt == attempt);
        Some(Self { name, order: order.map(Arc::new) })
    }

    fn worktree(&self, context: &Context) -> PathBuf {
        context.layout.worktrees().join(&self.name)
    }

    fn check_worktree(&self, context: &Context) -> PathBuf {
        context.layout.worktrees().join(format!("{}{CHECK}", self.name))
    }

    fn files(&self, context: &Context) -> PathBuf {
        context.layout.attempts().join(&self.name)
    }

    /// Returns when the attempt's folders, and those of its files that are written last, were changed last.
    fn touched(&self, context: &Context) -> Timestamp {
        let files = self.files(context);
        let places = [
            self.worktree(context),
            self.check_worktree(context),
            files.join("order.json"),
            files.join("report.json"),
            files,
        ];
        let changed = |path: &PathBuf| fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok();
        places.iter().filter_map(changed).max().map_or(clock::now(), clock::timestamp)
    }

    /// Says whether somebody has the order or may still take it. What cannot be seen is taken for that.
    fn is_open(&self, context: &Context) -> bool {
        self.order.as_ref().is_some_and(|order| context.post.is_open(&order.agent, order.id).unwrap_or(true))
    }

    async fn clear(&self, context: &Context) {
        if let Some(order) = &self.order {
            workplace::clear_away(context, order, order.attempt).await;
            return;
        }
        let (path, check) = (self.worktree(context), self.check_worktree(context));
        let message = commit::message("left by an attempt whose order is lost", "", ("Miyabi-Left", &self.name));
        if let Err(error) = workplace::clear_unknown(context, &path, &self.name, &message).await {
            tracing::warn!(path = %path.display(), error = %with_causes(&error), "cannot clear away what an attempt left");
        }
        if let Err(error) = workplace::clear_check(&check).await {
            tracing::warn!(path = %check.display(), error = %with_causes(&error), "cannot remove a checked worktree");
        }
        if is_gone(&path) && is_gone(&check) {
            workplace::warn_unless_removed(&self.files(context)).await;
        }
    }
}

fn is_gone(path: &Path) -> bool {
    path.symlink_metadata().is_err()
}
