//! One simulation from its first to its last step: faults and safety, then healing and liveness.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use onceward_core::store::memory::MemoryStore;
use onceward_core::{State, Store};
use onceward_gateway::{AtWork, Ended};
use tokio::sync::{Notify, mpsc};
use turmoil::Sim;

use crate::breaks::Break;
use crate::clock::SimClock;
use crate::gateway::Host;
use crate::plan::{self, Fault, GATEWAYS, Strike, UPSTREAMS};
use crate::run::Options;
use crate::world::{Violation, World};
use crate::{client, store, upstream};

/// An empty store whose clock runs at this pace.
pub(crate) fn memory(pace: u32, options: Options) -> Arc<dyn Store> {
    let clock = Arc::new(SimClock::new(Duration::from_secs(3600), pace));
    store::shelf(Arc::new(MemoryStore::new(clock)), options.broken)
}

/// A world and its driver.
pub(crate) struct Simulation<'a> {
    world: World,
    sim: Sim<'a>,
    options: Options,
    stops: Vec<Rc<Notify>>,
    /// What goes on, and until when.
    active: Vec<(Duration, Fault)>,
    to_come: Vec<Strike>,
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(world: &World, options: Options) -> Self {
        let plan = world.plan();
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600))
            .tick_duration(plan.tick)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(plan.times.latency)
            .repair_rate(0.2)
            .tcp_capacity(1024)
            .enable_random_order()
            .build();
        let (line, calls) = mpsc::unbounded_channel();
        let served = store::serve(world.clone(), calls);
        sim.client("store", async move {
            served.await;
            Ok(())
        });
        for at in 0..UPSTREAMS {
            let (world, turn) = (world.clone(), Cell::new(0));
            sim.host(plan::upstream(at), move || {
                upstream::serve(plan::upstream(at), world.clone(), turn.replace(turn.get() + 1))
            });
        }
        let upstreams: Vec<IpAddr> = (0..UPSTREAMS).map(|at| sim.lookup(plan::upstream(at))).collect();
        let stops: Vec<Rc<Notify>> = (0..GATEWAYS).map(|_| Rc::default()).collect();
        for (at, stop) in stops.iter().enumerate() {
            let host = Host {
                at,
                world: world.clone(),
                line: line.clone(),
                upstreams: upstreams.clone(),
                broken: options.broken,
                stop: Rc::clone(stop),
            };
            let turn = Cell::new(0);
            sim.host(plan::gateway(at), move || host.clone().run(turn.replace(turn.get() + 1)));
        }
        for at in 0..plan.clients.len() {
            let (world, turn) = (world.clone(), Cell::new(0));
            sim.host(plan::client(at), move || client::run(at, world.clone(), turn.replace(turn.get() + 1)));
        }
        sim.client("auditor", client::audit(world.clone()));
        let to_come = plan.nemesis.iter().rev().cloned().collect();
        Self { world: world.clone(), sim, options, stops, active: Vec::new(), to_come }
    }

    pub(crate) fn run(mut self, simulated: &Cell<Duration>) {
        let plan = self.world.plan().clone();
        let settle = plan.times.settle();
        self.until(plan.safety, |_| false);
        self.heal();
        let healed = self.sim.elapsed();
        let audited = |it: &Self| {
            it.world.is_audited()
                && it.world.clients_at_work() == 0
                && it.sim.elapsed() > healed + upstream::LAST_EFFECT
        };
        if !self.until(healed + settle + Duration::from_secs(20), audited) && !self.world.is_violated() {
            self.world.violated(Violation::Stuck, "a caller has come to no end".into());
        }
        let times = &plan.times;
        // A caller that vanished is noticed by one of these, one after the other at worst.
        let patience = times.header + times.idle + times.body + times.write + 2 * times.response;
        let quiet = self.sim.elapsed() + patience + times.lease + Duration::from_secs(2);
        let idle = AtWork { connections: 0, requests: 0, operations: 0, principals: 0, upstream: 0 };
        if !self.until(quiet, |it| it.world.all_at_work() == [Some(idle); GATEWAYS])
            && !self.world.is_violated()
        {
            self.world.violated(Violation::Leaked, format!("{:?}", self.world.all_at_work()));
        }
        self.world.forget_ends();
        for stop in &self.stops {
            stop.notify_one();
        }
        let stopped = self.sim.elapsed() + Duration::from_secs(10);
        let clean = self.until(stopped, |it| it.world.ends() == [Some(Ended::Clean); GATEWAYS]);
        if !clean && !self.world.is_violated() {
            self.world.violated(Violation::NotStopped, format!("{:?}", self.world.ends()));
        }
        if !self.world.is_violated() {
            self.judge_records();
        }
        simulated.set(self.sim.elapsed());
    }

    /// Steps until `done` or until that time; tells whether it is done.
    fn until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> bool {
        while !self.world.is_violated() && self.sim.elapsed() < end {
            if done(self) {
                return true;
            }
            self.strike();
            if let Err(error) = self.sim.step() {
                self.world.violated(Violation::Panicked, format!("a host ended: {error}"));
            }
            self.world.tick(self.sim.elapsed());
        }
        done(self)
    }

    /// Begins and ends what is due.
    fn strike(&mut self) {
        let now = self.sim.elapsed();
        while let Some(strike) = self.to_come.pop_if(|it| it.at <= now) {
            self.world.count(&format!("fault: {}", strike.fault.word()));
            self.world.note("NEMESIS", || format!("{:?} for {:?}", strike.fault, strike.lasts));
            self.begin(&strike.fault);
            self.active.push((now + strike.lasts, strike.fault));
        }
        let (over, active) = std::mem::take(&mut self.active).into_iter().partition(|it| it.0 <= now);
        self.active = active;
        for (_, fault) in over {
            self.world.note("NEMESIS", || format!("over: {fault:?}"));
            self.end(&fault);
        }
    }

    fn begin(&mut self, fault: &Fault) {
        match fault {
            Fault::Partition(a, b) => self.sim.partition(a.as_str(), b.as_str()),
            Fault::OneWay(a, b) => self.sim.partition_oneway(a.as_str(), b.as_str()),
            Fault::Stall(a, b) => self.sim.hold(a.as_str(), b.as_str()),
            Fault::Loss(rate) => self.sim.set_fail_rate(*rate),
            Fault::Kill(host) => self.kill(host),
            Fault::PowerCut(host) => {
                for other in self.others(host) {
                    self.sim.partition(host.as_str(), other);
                }
                self.kill(host);
            }
            Fault::Restart(at) => self.stops[*at].notify_one(),
            Fault::StoreDown => self.world.set_store_mood(1),
            Fault::StoreSilent => self.world.set_store_mood(2),
        }
    }

    fn end(&mut self, fault: &Fault) {
        match fault {
            Fault::Partition(a, b) | Fault::OneWay(a, b) => self.sim.repair(a.as_str(), b.as_str()),
            Fault::Stall(a, b) => self.sim.release(a.as_str(), b.as_str()),
            Fault::Loss(_) => self.sim.set_fail_rate(0.0),
            Fault::Kill(host) => self.start(host),
            Fault::PowerCut(host) => {
                for other in self.others(host) {
                    self.sim.repair(host.as_str(), other);
                }
                self.start(host);
            }
            Fault::Restart(at) => {
                let host = plan::gateway(*at);
                if self.sim.is_host_running(host.as_str()) {
                    self.kill(&host);
                }
                self.start(&host);
            }
            Fault::StoreDown | Fault::StoreSilent => self.world.set_store_mood(0),
        }
    }

    fn kill(&mut self, host: &str) {
        self.sim.crash(host);
        let gateway = (0..GATEWAYS).find(|it| plan::gateway(*it) == host);
        let Some(gateway) = gateway else { return };
        self.world.at_work(gateway, None);
        if self.options.broken == Some(Break::RecordsDieWithGateway) {
            let (pace, options) = (self.world.plan().store_pace, self.options);
            self.world.set_store(memory(pace, options));
        }
    }

    fn start(&mut self, host: &str) {
        if !self.sim.is_host_running(host) {
            self.sim.bounce(host);
        }
    }

    fn hosts(&self) -> Vec<String> {
        let clients = (0..self.world.plan().clients.len()).map(plan::client);
        let gateways = (0..GATEWAYS).map(plan::gateway);
        (0..UPSTREAMS).map(plan::upstream).chain(gateways).chain(clients).collect()
    }

    fn others(&self, host: &str) -> Vec<String> {
        self.hosts().into_iter().filter(|it| it != host).chain(["auditor".to_owned()]).collect()
    }

    /// Ends every fault.
    fn heal(&mut self) {
        self.to_come.clear();
        for (_, fault) in std::mem::take(&mut self.active) {
            self.end(&fault);
        }
        self.sim.set_fail_rate(0.0);
        self.sim.set_max_message_latency(Duration::from_millis(5));
        for host in self.hosts() {
            for other in self.others(&host) {
                self.sim.release(host.as_str(), other);
            }
        }
        self.world.note("NEMESIS", || "everything is healed".into());
        self.world.heal();
    }

    fn judge_records(&self) {
        let records = self.world.records();
        for (intent, plan) in self.world.plan().intents.iter().enumerate() {
            let record = records.iter().find(|it| it.listing.key == plan.key);
            let free = record.is_none_or(|it| it.state == State::Released);
            if free && self.world.has_effect(intent) {
                let why = format!("key-{intent} is free though it had an effect");
                self.world.violated(Violation::ReleasedWithEffect, why);
            }
        }
    }
}
