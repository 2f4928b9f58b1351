//! What attempts leave on the disk and could not be cleared away at once, e.g. because the disk was full: a list that is
//! worked off until it is empty.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::workplace;
use crate::model::order::WorkOrder;

/// How many attempts wait for it at most; the next start of the runner finds those that found no room.
const PLACES_MAX: usize = 1_000;

/// How often one attempt is tried.
const TRIES_MAX: u32 = 60;

/// The wait after the first try; each further one is longer by as much, up to [`WAIT_MAX`].
const WAIT: Duration = Duration::from_secs(5);

/// The longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// The attempts whose files are still to be cleared away.
#[derive(Debug, Default)]
pub(super) struct Clearing {
    places: Mutex<Vec<Place>>,
    added: Notify,
    /// Held while an attempt is cleared away: the start and the next attempt may want the same one gone.
    turn: tokio::sync::Mutex<()>,
}

/// One attempt of an order's run and stage.
#[derive(Debug, Clone)]
struct Place {
    order: Arc<WorkOrder>,
    attempt: u32,
}

impl Clearing {
    /// Has an attempt's files cleared away in the background. Nothing works in them any more.
    pub(super) fn add(&self, order: &Arc<WorkOrder>, attempt: u32) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() < PLACES_MAX {
            places.push(Place { order: Arc::clone(order), attempt });
            self.added.notify_one();
        }
    }

    /// Waits until nobody else in this process clears anything away.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn take(&self) -> Vec<Place> {
        std::mem::take(&mut self.places.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Works the list off as long as the runner lives.
pub(super) async fn keep(context: Arc<Context>, stop: CancellationToken) {
    let mut left: Vec<Place> = Vec::new();
    let mut tries = 0;
    loop {
        let fresh = context.clearing.take();
        if !fresh.is_empty() {
            left.extend(fresh);
            tries = 0;
        }
        let mut still = Vec::new();
        for place in left {
            if stop.is_cancelled() {
                return;
            }
            if !workplace::clear_away(&context, &place.order, place.attempt).await {
                still.push(place);
            }
        }
        left = still;
        tries += 1;
        if tries >= TRIES_MAX {
            left.clear();
        }
        let wait = WAIT.saturating_mul(tries).min(WAIT_MAX);
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.clearing.added.notified() => {}
            () = tokio::time::sleep(wait), if !left.is_empty() => {}
        }
    }
}
