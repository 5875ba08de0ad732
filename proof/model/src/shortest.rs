//! The shortest way to a broken promise, in words.
//!
//! The checker's own way is not the shortest: it keeps the last that it finds within a block of states.

use std::collections::{HashMap, VecDeque};

use stateright::Model;

use crate::action::Action;
use crate::promise::Promise;
use crate::setup::Setup;
use crate::state::World;

/// The steps of a shortest way to a state in which `promise` is broken; `None` when there is none.
#[must_use]
pub fn shortest(setup: &Setup, promise: Promise) -> Option<Vec<String>> {
    let mut came_by: HashMap<u64, Option<(u64, Action)>> = HashMap::new();
    let mut waiting: VecDeque<World> = setup.init_states().into();
    came_by.extend(waiting.iter().map(|it| (it.digest(), None)));
    while let Some(world) = waiting.pop_front() {
        let mut at = world.digest();
        if !world.keeps(promise) {
            let mut steps = Vec::new();
            while let Some(Some((before, action))) = came_by.get(&at) {
                steps.push(action.to_string());
                at = *before;
            }
            steps.reverse();
            return Some(steps);
        }
        let mut actions = Vec::new();
        setup.actions(&world, &mut actions);
        for action in actions {
            let Some(next) = setup.next_state(&world, action) else { continue };
            came_by.entry(next.digest()).or_insert_with(|| {
                waiting.push_back(next);
                Some((at, action))
            });
        }
    }
    None
}
