//! The gateway against real sockets, with an upstream that does exactly what a test tells it to.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod listen;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod scripted;
