//! Client, gateway and store over a simulated network: loss, delay, partition, restarts.
