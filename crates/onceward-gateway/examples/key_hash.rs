//! Which upstream keys belong to, and what happens to them when one upstream leaves.
//!
//! `cargo run -p onceward-gateway --example key_hash`

use onceward_gateway::rendezvous;

const KEYS: u32 = 100_000;
const UPSTREAMS: [&str; 3] = ["http://a.internal:8080", "http://b.internal:8080", "http://c.internal:8080"];

fn main() {
    println!("{KEYS} keys, 3 upstreams; then {} leaves\n", UPSTREAMS[2]);
    println!("{:24}  {:>7}  {:>9}  {:>7}", "upstream", "keys", "off even", "moved");
    let (mut keys, mut moved) = ([0_u32; 3], [0_u32; 3]);
    for key in 0..KEYS {
        let record = *blake3::hash(&key.to_be_bytes()).as_bytes();
        let owner = rendezvous(UPSTREAMS, &record)[0];
        let owner_after = rendezvous([UPSTREAMS[0], UPSTREAMS[1]], &record)[0];
        keys[owner] += 1;
        moved[owner] += u32::from(owner != owner_after);
    }
    let even = f64::from(KEYS) / 3.0;
    for (it, url) in UPSTREAMS.iter().enumerate() {
        let off = (f64::from(keys[it]) / even - 1.0) * 100.0;
        println!("{url:24}  {:>7}  {off:>+8.2}%  {:>7}", keys[it], moved[it]);
    }
}
