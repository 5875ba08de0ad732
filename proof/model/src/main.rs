//! The long lane.

use std::num::NonZero;

fn main() {
    for setup in onceward_model::setups() {
        println!("{}", setup.name);
        let explored = onceward_model::explore(&setup, NonZero::<usize>::MIN, &[]);
        println!("  {} {} {} {:?} unseen {:?}", explored.states, explored.steps, explored.depth, explored.took, explored.unseen);
        for (name, steps) in &explored.broken {
            println!("  BROKEN {name}");
            for step in steps { println!("    {step}"); }
        }
        if std::env::args().nth(1).is_some() {
        println!("  {:?}", onceward_model::calm::calm(&setup)); }
    }
}
