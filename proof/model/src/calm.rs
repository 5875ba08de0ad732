//! Once faults stop, everything settles or is visible as unresolved.
//!
//! From every reachable state, every way on is followed in which nothing goes wrong any more: no process dies, no
//! `begin` is dropped, no reply is lost, nobody renews, no operator and no sweep acts, and nobody new begins; calls
//! that were sent before may still be carried out, and time passes while a lease or a claim is open. Checked is
//! that no such way goes on for ever (there is no cycle), and that each ends in a settled state: every attempt is
//! over or has not begun, and the record is free, done, gone, or shown as unresolved.

use std::collections::{HashMap, HashSet, VecDeque};

use onceward_core::Status;
use stateright::Model;

use crate::setup::Setup;
use crate::state::{Attempt, World};

/// What came of looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calm {
    /// The states from which it was looked on.
    pub reachable: usize,
    /// The states on the ways from there.
    pub on_the_way: usize,
    /// A state in which a way ends unsettled, or that a way comes back to.
    pub stuck: Option<String>,
}

/// Looks from every reachable state.
#[must_use]
pub fn calm(setup: &Setup) -> Calm {
    let mut seen = HashSet::new();
    let mut waiting: VecDeque<World> = setup.init_states().into();
    seen.extend(waiting.iter().map(World::digest));
    let mut ways = Ways { setup, colors: HashMap::new() };
    while let Some(world) = waiting.pop_front() {
        if let Err(stuck) = ways.follow(&world) {
            return Calm { reachable: seen.len(), on_the_way: ways.colors.len(), stuck: Some(stuck) };
        }
        let mut actions = Vec::new();
        setup.actions(&world, &mut actions);
        let next = actions.into_iter().filter_map(|it| setup.next_state(&world, it));
        waiting.extend(next.filter(|it| seen.insert(it.digest())));
    }
    Calm { reachable: seen.len(), on_the_way: ways.colors.len(), stuck: None }
}

#[derive(PartialEq, Eq)]
enum Color {
    /// On the way that is being followed.
    Open,
    /// Every way from here settles.
    Settles,
}

struct Ways<'a> {
    setup: &'a Setup,
    colors: HashMap<u64, Color>,
}

impl Ways<'_> {
    /// Follows every way from `world`, depth first; what was followed before is not followed again.
    fn follow(&mut self, world: &World) -> Result<(), String> {
        let mut path: Vec<(u64, Vec<World>)> = Vec::new();
        self.enter(world, &mut path)?;
        while let Some((at, next)) = path.last_mut() {
            match next.pop() {
                Some(next) => self.enter(&next, &mut path)?,
                None => {
                    self.colors.insert(*at, Color::Settles);
                    path.pop();
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, world: &World, path: &mut Vec<(u64, Vec<World>)>) -> Result<(), String> {
        let at = world.digest();
        match self.colors.get(&at) {
            Some(Color::Settles) => return Ok(()),
            Some(Color::Open) => return Err(format!("a way comes back to {world:#?}")),
            None => {}
        }
        let mut actions = Vec::new();
        self.setup.calm_actions(world, &mut actions);
        let next: Vec<_> = actions.into_iter().filter_map(|it| self.setup.next_state(world, it)).collect();
        if next.is_empty() && !settled(world) {
            return Err(format!("a way ends at {world:#?}"));
        }
        self.colors.insert(at, Color::Open);
        path.push((at, next));
        Ok(())
    }
}

/// Whether everybody is done and the record says so.
fn settled(world: &World) -> bool {
    let over = |it: &Attempt| matches!(it, Attempt::Idle | Attempt::Ended(_) | Attempt::Dead(_));
    let status = world.record.map(|it| it.expand().status_at(world.now()));
    world.attempts.iter().all(over) && status != Some(Status::Running)
}
