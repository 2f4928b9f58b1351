//! The room of disk and memory: nothing new is begun while it is short, and the two marks keep that from flickering.

use crate::model::alert::{Alert, AlertKind};
use crate::model::size::{self, Size};

use super::Core;
use super::event::Room;

impl Core {
    pub(super) fn on_room_seen(&mut self, room: Room) {
        self.room = Some(room);
        let limits = self.plan.resources;
        let (disk, memory) = (room.disk, room.memory);
        self.judge_room(AlertKind::LowDisk, disk, limits.disk_low, limits.disk_resume);
        self.judge_room(AlertKind::LowMemory, memory, limits.memory_low, limits.memory_resume);
    }

    /// Says what keeps new work from being begun, for people; nothing when there is room.
    pub(super) fn holding(&self) -> Option<String> {
        let limits = self.plan.resources;
        let low = |kind: AlertKind| self.durable.alerts.get(kind.as_str());
        // Before the first look of this supervisor the alert of an earlier one says what is known.
        let told = |alert: &Alert, what: &str, free: Option<Size>, resume: Size| {
            free.map_or_else(|| alert.text.clone(), |free| shortage(what, free, resume))
        };
        let (disk, memory) = (self.room.map(|room| room.disk), self.room.map(|room| room.memory));
        if let Some(alert) = low(AlertKind::LowDisk) {
            return Some(told(alert, "disk space", disk, limits.disk_resume));
        }
        if let Some(alert) = low(AlertKind::LowMemory) {
            return Some(told(alert, "memory", memory, limits.memory_resume));
        }
        self.held_by_worktrees()
    }

    /// Raises or clears the alert of one thing. The alert itself is what remembers that it ran low, also across a restart.
    fn judge_room(&mut self, kind: AlertKind, free: Size, low: Size, resume: Size) {
        let is_low = self.durable.alerts.contains_key(kind.as_str());
        if !is_low && free < low {
            let what = match kind {
                AlertKind::LowDisk => "disk space",
                AlertKind::LowMemory
                | AlertKind::CrashLoop
                | AlertKind::Stalled
                | AlertKind::OutOfMemory
                | AlertKind::TasksLimit
                | AlertKind::SlaMissed
                | AlertKind::Dead
                | AlertKind::Failures
                | AlertKind::WorktreesFull
                | AlertKind::Circle
                | AlertKind::ClaimLost => "memory",
            };
            let text = shortage(what, free, resume);
            self.raise(Alert { kind, agent: None, task: None, attempt: None, since: self.now, text });
        } else if is_low && free >= resume {
            self.clear_alert(kind.as_str());
        }
    }
}

fn shortage(what: &str, free: Size, resume: Size) -> String {
    format!("new work is held: {} of {what} left, it goes on at {}", size::round(free), size::round(resume))
}
