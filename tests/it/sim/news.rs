//! How the supervisor hears of heartbeats, reports and files: by hints, and by the sweep that finds what they missed.

use miyabi::core::event::{Branches, Event, Room};
use miyabi::model::id::AgentId;
use miyabi::model::size::Size;

use super::supervisor::Input;
use super::world::{Happening, SECOND, World};

/// How often the supervisor looks for what it has not heard of.
const SWEEP: i64 = 5 * SECOND;

impl World {
    pub(super) fn sweep(&mut self, life: u64, turn: u64) {
        if life != self.life || !self.started {
            return;
        }
        self.soon(SWEEP, Happening::Sweep { life, turn: turn + 1 });
        let agents: Vec<AgentId> = self.beats.keys().cloned().collect();
        self.read_beats(life, &agents);
        self.look_at_room_and_mark(life);
        self.read_reports(life);
        if turn.is_multiple_of(12) {
            self.read_dag(life);
        }
    }

    /// The supervisor sees the operator's mark, and the room of disk and memory.
    pub(super) fn look_at_room_and_mark(&mut self, life: u64) {
        if life != self.life || !self.started {
            return;
        }
        let since = self.mark;
        self.turn(Input::Event(Event::FreezeSeen { since }));
        let disk = if self.disk_full { 0 } else { self.disk_free };
        if self.rng.chance(500_000) {
            let room = Room { disk: Size(disk), memory: Size(8 << 30), load: Some(self.load) };
            self.load_seen = Some(self.load);
            self.turn(Input::Event(Event::RoomSeen(room)));
        }
    }

    pub(super) fn read_beats(&mut self, life: u64, agents: &[AgentId]) {
        if life != self.life || !self.started {
            return;
        }
        let mut fresh = Vec::new();
        for agent in agents {
            let Some(beat) = self.beats.get(agent).cloned() else { continue };
            let again = self.rng.chance(self.odds.doubled);
            if self.beats_read.get(agent) != Some(&beat) || again {
                self.beats_read.insert(agent.clone(), beat.clone());
                fresh.push(beat);
            }
        }
        if !fresh.is_empty() {
            self.turn(Input::Event(Event::BeatsSeen(fresh)));
        }
    }

    pub(super) fn read_reports(&mut self, life: u64) {
        if life != self.life || !self.started {
            return;
        }
        for (id, report) in self.spool.take_reports(life, self.t) {
            self.news(life, Event::ReportArrived { report: Box::new(report), receipt: id.to_string() });
        }
    }

    pub(super) fn read_dag(&mut self, life: u64) {
        if life != self.life || !self.started {
            return;
        }
        let branches = self.branches();
        if self.dag.read_by(life, &branches) {
            let files = self.dag.files();
            self.turn(Input::Event(Event::DagRead { files, branches }));
        }
    }

    pub(super) fn branches(&mut self) -> Branches {
        let names: Vec<_> = self.plan.repositories.iter().map(|repository| repository.name.clone()).collect();
        names
            .into_iter()
            .map(|name| {
                let detached = self.git.repository(&name).detached;
                let branch = if detached { Err("no branch is checked out".to_owned()) } else { Ok("main".to_owned()) };
                (name, branch)
            })
            .collect()
    }
}
