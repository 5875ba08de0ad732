//! The long lane: every setup, every mutant, with figures.

use std::num::NonZero;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use onceward_model::setups::Broken;
use onceward_model::{Setup, calm, explore, limits, mutants, never_settles, setups, shortest};

/// Explores every state that the engine's protocol can reach within small bounds.
#[derive(Debug, Parser)]
struct Options {
    /// Only setups and mutants whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// How many threads explore.
    #[arg(long, default_value = "2")]
    threads: NonZero<usize>,
    /// Do not look whether everything settles once faults stop.
    #[arg(long)]
    no_calm: bool,
    /// Print the names and end.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let wanted = |it: &Setup| it.name.contains(&options.only);
    let broken = mutants().into_iter().chain(limits()).map(|it| it.setup);
    if !setups().into_iter().chain(broken).chain([never_settles()]).any(|it| wanted(&it)) {
        println!("no name contains {:?}", options.only);
        return ExitCode::FAILURE;
    }
    let mut surprises = 0;

    println!("What must hold");
    for setup in setups().iter().filter(|it| wanted(it)) {
        surprises += if options.list { name(setup) } else { run_setup(setup, &options) };
    }
    println!("\nRules broken on purpose");
    for broken in mutants().iter().filter(|it| wanted(&it.setup)) {
        surprises += if options.list { name(&broken.setup) } else { run_broken(broken) };
    }
    let setup = never_settles();
    if wanted(&setup) {
        surprises += if options.list { name(&setup) } else { run_never_settles(&setup) };
    }
    println!("\nKnown limits");
    for broken in limits().iter().filter(|it| wanted(&it.setup)) {
        surprises += if options.list { name(&broken.setup) } else { run_broken(broken) };
    }
    if options.list {
        return ExitCode::SUCCESS;
    }
    println!("\n{surprises} surprises");
    if surprises == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn name(setup: &Setup) -> u32 {
    println!("  {}", setup.name);
    0
}

/// Every promise must hold, and everything that should be seen must be.
fn run_setup(setup: &Setup, options: &Options) -> u32 {
    let mut surprises = 0;
    let explored = explore(setup, options.threads, &[]);
    println!(
        "  {}: {} states, {} steps tried, depth {}, {:.1} s",
        setup.name,
        explored.states,
        explored.steps,
        explored.depth,
        explored.took.as_secs_f64()
    );
    for promise in &explored.broken {
        surprises += 1;
        println!("    BROKEN: {}", promise.name());
        for step in shortest(setup, *promise).into_iter().flatten() {
            println!("      {step}");
        }
    }
    for sight in &explored.unseen {
        surprises += 1;
        println!("    NEVER SEEN: {}", sight.name());
    }
    if setup.settles && !options.no_calm {
        #[expect(clippy::disallowed_methods, reason = "how long it took is printed and decides nothing")]
        let started = Instant::now();
        let calm = calm(setup);
        println!(
            "    settles from all {} states, {} on the way, {:.1} s",
            calm.reachable,
            calm.on_the_way,
            started.elapsed().as_secs_f64()
        );
        if let Some(stuck) = calm.stuck {
            surprises += 1;
            println!("    STUCK: {stuck}");
        }
    }
    surprises
}

/// The promises must be broken that are named, and the shortest way to each is told.
fn run_broken(broken: &Broken) -> u32 {
    let mut surprises = 0;
    let explored = explore(&broken.setup, NonZero::<usize>::MIN, &broken.breaks);
    println!("  {}: {} states, {:.1} s", broken.setup.name, explored.states, explored.took.as_secs_f64());
    for promise in &broken.breaks {
        match shortest(&broken.setup, *promise) {
            Some(steps) => {
                println!("    breaks \"{}\" in {} steps: {}", promise.name(), steps.len(), steps.join("; "));
            }
            None => {
                surprises += 1;
                println!("    NOT CAUGHT: {}", promise.name());
            }
        }
    }
    surprises
}

fn run_never_settles(setup: &Setup) -> u32 {
    let caught = calm(setup).stuck.is_some();
    let word =
        if caught { "a way ends with a record that runs and a lease that never ends" } else { "NOT CAUGHT" };
    println!("  {}: {word}", setup.name);
    u32::from(!caught)
}
