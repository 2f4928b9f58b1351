//! Tasks that wait for one another.

use std::collections::{BTreeSet, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::{Graph, need_place};
use crate::model::fault::Fault;
use crate::model::fault_code::{Code, Family, Mistake};

/// How many tasks of a cycle are named, half of them from its beginning and half from its end.
const SHOWN_MAX: usize = 40;

/// How many edges the searches for shorter cycles may look at, all together. When they are used up, the best cycles
/// found so far are told: they are cycles all the same.
const SEARCH_EDGES_MAX: usize = 2_000_000;

/// Finds one shortest cycle for every group of tasks that wait for one another, in the order of the files.
pub(super) fn find(graph: &Graph<'_>) -> Vec<Fault> {
    shortest_cycles(graph).iter().map(|cycle| fault(graph, cycle)).collect()
}

/// Finds one shortest cycle for every strongly connected component of a graph.
#[must_use]
pub fn shortest_cycles<N, E>(graph: &DiGraph<N, E>) -> Vec<Vec<NodeIndex>> {
    // Tarjan's algorithm would do it in one pass, but petgraph's is recursive: a long chain overflows the stack.
    let mut components: Vec<Vec<NodeIndex>> = kosaraju_scc(graph)
        .into_iter()
        .filter(|component| match component.as_slice() {
            [only] => graph.contains_edge(*only, *only),
            [] | [_, _, ..] => true,
        })
        .collect();
    for component in &mut components {
        component.sort_unstable();
    }
    components.sort();
    let mut search = Search::new(graph, &components);
    components.iter().filter_map(|component| search.shortest(component)).collect()
}

/// A breadth-first search that is begun many times on the same graph.
struct Search<'g, N, E> {
    graph: &'g DiGraph<N, E>,
    /// For every task: which component it is in, if any.
    component: Vec<Option<usize>>,
    /// For every task: in which search it was last reached, and from where.
    reached: Vec<(usize, NodeIndex)>,
    searches: usize,
    edges_left: usize,
}

impl<'g, N, E> Search<'g, N, E> {
    fn new(graph: &'g DiGraph<N, E>, components: &[Vec<NodeIndex>]) -> Self {
        let mut component = vec![None; graph.node_count()];
        for (number, tasks) in components.iter().enumerate() {
            for task in tasks {
                component[task.index()] = Some(number);
            }
        }
        let reached = vec![(0, NodeIndex::default()); graph.node_count()];
        Self { graph, component, reached, searches: 0, edges_left: SEARCH_EDGES_MAX }
    }

    /// Returns the shortest cycle of a component, beginning with its first task; among equals the earliest.
    fn shortest(&mut self, tasks: &[NodeIndex]) -> Option<Vec<NodeIndex>> {
        let mut best: Option<Vec<NodeIndex>> = None;
        for start in tasks {
            // Without a cycle so far the search goes on at any cost: the first task of a component always has one.
            if best.is_some() && self.edges_left == 0 {
                break;
            }
            let shorter_than = best.as_ref().map_or(usize::MAX, Vec::len);
            best = self.shortest_through(*start, shorter_than).or(best);
        }
        best
    }

    /// Searches from a task back to itself, among later tasks only: a cycle through an earlier one has been found when
    /// the search began there.
    fn shortest_through(&mut self, start: NodeIndex, shorter_than: usize) -> Option<Vec<NodeIndex>> {
        self.searches += 1;
        let mut queue = VecDeque::from([(start, 1)]);
        while let Some((at, length)) = queue.pop_front() {
            if length >= shorter_than {
                return None;
            }
            for edge in self.graph.edges(at) {
                self.edges_left = self.edges_left.saturating_sub(1);
                let next = edge.target();
                if next == start {
                    return Some(self.path(start, at));
                }
                let is_inside = self.component[next.index()] == self.component[start.index()];
                if next > start && is_inside && self.reached[next.index()].0 != self.searches {
                    self.reached[next.index()] = (self.searches, at);
                    queue.push_back((next, length + 1));
                }
            }
            if self.edges_left == 0 && shorter_than < usize::MAX {
                return None;
            }
        }
        None
    }

    fn path(&self, start: NodeIndex, end: NodeIndex) -> Vec<NodeIndex> {
        let mut path = vec![end];
        let mut at = end;
        while at != start {
            at = self.reached[at.index()].1;
            path.push(at);
        }
        path.reverse();
        path
    }
}

/// Tells a cycle: the whole path, and where each of its needs is written.
fn fault(graph: &Graph<'_>, cycle: &[NodeIndex]) -> Fault {
    let files: BTreeSet<&str> = cycle.iter().map(|task| graph[*task].place.file.as_str()).collect();
    let one_file = files.len() == 1;
    let stems: BTreeSet<&str> = cycle.iter().map(|task| super::stem(graph[*task].id)).collect();
    let shown = |task: NodeIndex| {
        let id = graph[task].id;
        if stems.len() == 1 { super::name(id) } else { id.as_str() }
    };
    let closed: Vec<NodeIndex> = cycle.iter().copied().chain(cycle.first().copied()).collect();
    let hidden = cycle.len().saturating_sub(SHOWN_MAX);
    let is_shown = |position: usize| hidden == 0 || position < SHOWN_MAX / 2 || position >= SHOWN_MAX / 2 + hidden;
    let mut names: Vec<String> = Vec::new();
    let mut related = Vec::new();
    for (position, pair) in closed.windows(2).enumerate() {
        let [task, needed] = pair else { continue };
        if !is_shown(position) {
            if position == SHOWN_MAX / 2 {
                names.push(format!("({hidden} more)"));
            }
            continue;
        }
        names.push(shown(*task).to_owned());
        let entry = graph.find_edge(*task, *needed).map_or(0, |edge| graph[edge].need);
        related.push((need_place(graph[*task], entry), format!("`{}` needs `{}`", shown(*task), shown(*needed))));
    }
    names.extend(closed.last().map(|first| shown(*first).to_owned()));
    let across = if one_file {
        String::new()
    } else {
        format!(" across {}", files.into_iter().collect::<Vec<_>>().join(" and "))
    };
    Fault {
        place: graph[cycle[0]].place.clone(),
        code: Code { family: Family::Dag, mistake: Mistake::Cycle },
        message: format!("tasks wait for one another{across}: `{}`", names.join(" -> ")),
        help: Some("take one of these needs away".to_owned()),
        related,
    }
}
