//! What a store whose client costs nothing would reach here: how much of the way to nginx is the server's.

use onceward_bench::cell::Cell;

/// Says it of the cell `name`. All processes share the cores: what the gateway over memory, the API and the load
/// generator take of a request is taken in any case, and what the store's server takes of it as well. Only the server
/// is thought to run beside them.
pub(crate) fn says(name: &str, cell: &Cell, memory: &Cell, nginx: &Cell, cores: f64) -> Option<String> {
    if [cell, memory, nginx].iter().any(|it| it.failed.is_some() || it.samples.is_empty()) {
        return None;
    }
    let server = cell.median(|it| it.others * cores * it.seen.took_us as f64 / it.seen.requests as f64);
    let rest = memory.median(|it| it.cpu_us + it.upstream_us + it.generator_us);
    let ratio = cores * 1e6 / (server + rest) / nginx.median(|it| it.seen.rate());
    Some(format!(
        "`{name}`: {ratio:.2} × nginx at best. Others, which is the store's server, take {server:.0} µs of each request; \
         gateway, API and wrk take {rest:.0} µs over memory.\n"
    ))
}

#[cfg(test)]
mod tests {
    use onceward_bench::cell::Sample;
    use onceward_bench::load::Seen;

    use super::*;

    fn cell(requests: u64, cpu_us: f64, others: f64) -> Cell {
        let seen = Seen { requests, took_us: 1_000_000, refused: 0, broken: 0, p50_us: 1.0, p99_us: 1.0 };
        let sample = Sample { seen, cpu_us, upstream_us: 10.0, generator_us: 10.0, others };
        Cell { samples: vec![sample], failed: None }
    }

    #[test]
    fn a_client_that_costs_nothing_leaves_the_cores_to_the_server_and_the_gateway_over_memory() {
        // Of two cores, a fifth for 8000 requests: 50 µs each. With 40 + 10 + 10 there is time for 18,182 a second.
        let (store, memory, nginx) =
            (cell(8000, 90.0, 0.2), cell(32_000, 40.0, 0.0), cell(36_364, 20.0, 0.0));
        let said = says("first redis", &store, &memory, &nginx, 2.0).unwrap();
        assert!(said.starts_with("`first redis`: 0.50 × nginx at best."), "{said}");
        assert!(said.contains("take 50 µs") && said.contains("take 60 µs over memory"), "{said}");
        let failed = Cell { failed: Some("no".into()), ..memory };
        assert_eq!(says("first redis", &store, &failed, &nginx, 2.0), None);
    }
}
