//! The admin pages as an operator, a scraper and a stranger see them.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod change;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod health;
#[cfg(test)]
mod look;
#[cfg(test)]
mod metered;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod token;
