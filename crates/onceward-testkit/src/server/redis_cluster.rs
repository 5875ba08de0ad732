//! A Redis Cluster of one test's own.

use std::time::Duration;

use super::{RedisServer, free_port};

/// How many primaries a Cluster has here.
const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

/// Three primaries that share the slots, and three replicas or none.
#[derive(Debug)]
pub struct RedisCluster {
    /// The primaries, then the replica of each in the same order.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three primaries, and a replica of each `with_replicas`. A node with a replica that is
    /// silent for a second is taken for dead.
    ///
    /// # Panics
    /// When they do not form a Cluster within 20 s each.
    #[must_use]
    pub fn start(with_replicas: bool) -> Self {
        let count = if with_replicas { 2 * PRIMARIES } else { PRIMARIES };
        let nodes: Vec<_> = (0..count).map(|_| node(with_replicas)).collect();
        for (number, primary) in nodes.iter().take(PRIMARIES).enumerate() {
            let (first, end) = (number * SLOTS / PRIMARIES, (number + 1) * SLOTS / PRIMARIES);
            let last = end - 1;
            primary.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        for (number, node) in nodes.iter().enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            for other in &nodes[..number] {
                let bus = other.cli(&["CONFIG", "GET", "cluster-port"]);
                let bus = bus.lines().nth(1).unwrap_or_default();
                node.cli(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), bus]);
            }
        }
        for node in &nodes {
            node.until(&["CLUSTER", "INFO"], &format!("cluster_known_nodes:{count}"));
        }
        for (primary, replica) in nodes.iter().zip(nodes.iter().skip(PRIMARIES)) {
            let id = primary.cli(&["CLUSTER", "MYID"]);
            replica.until(&["CLUSTER", "NODES"], &id);
            replica.until(&["CLUSTER", "REPLICATE", &id], "OK");
        }
        for node in &nodes {
            node.until(&["CLUSTER", "INFO"], &format!("cluster_slots_ok:{SLOTS}"));
            node.until(&["CLUSTER", "INFO"], "cluster_state:ok");
        }
        for replica in nodes.iter().skip(PRIMARIES) {
            replica.until(&["INFO", "replication"], "master_link_status:up");
        }
        Self { nodes }
    }

    /// The URL that names all nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|it| format!("127.0.0.1:{}", it.port())).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// Kills the primary of this number, and waits until its replica has taken its place.
    ///
    /// # Panics
    /// When it has not within 20 s.
    pub fn fail_over(&mut self, primary: usize) {
        self.nodes[primary].kill();
        self.nodes[PRIMARIES + primary].until(&["INFO", "replication"], "role:master");
    }

    /// Kills the primary of this pair after its replica was kept behind for about so long, waits until the replica has taken its
    /// place, and starts the killed one again, which follows then. May be done over and over.
    ///
    /// # Panics
    /// When one of these does not happen within 20 s.
    pub fn swap(&mut self, pair: usize, lag: Duration) {
        let is_primary = self.nodes[pair].cli(&["INFO", "replication"]).contains("role:master");
        let [first, second] = [pair, PRIMARIES + pair];
        let (primary, replica) = if is_primary { (first, second) } else { (second, first) };
        if !lag.is_zero() {
            // It cannot connect again, and what is written from here on does not wait for it in its socket.
            self.nodes[replica].pause();
            self.nodes[primary].cli(&["CLIENT", "KILL", "TYPE", "replica"]);
            std::thread::sleep(lag);
        }
        self.nodes[primary].kill();
        if !lag.is_zero() {
            self.nodes[replica].resume();
        }
        self.nodes[replica].until(&["INFO", "replication"], "role:master");
        self.nodes[primary].start_again();
        self.nodes[primary].until(&["INFO", "replication"], "master_link_status:up");
        for node in &self.nodes {
            node.until(&["CLUSTER", "INFO"], "cluster_state:ok");
        }
    }
}

fn node(with_replicas: bool) -> RedisServer {
    let bus = free_port().to_string();
    // Without replicas there is nothing to gain from being quick, and on a busy machine something to lose.
    let timeout_ms = if with_replicas { "1000" } else { "15000" };
    RedisServer::start_with(&[
        ("cluster-enabled", "yes"),
        ("cluster-port", &bus),
        ("cluster-node-timeout", timeout_ms),
        ("cluster-config-file", "nodes.conf"),
        ("cluster-require-full-coverage", "no"),
    ])
}
