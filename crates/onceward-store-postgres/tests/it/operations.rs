//! Key, effect and answer in one transaction: they are there together, once, or not at all.

mod alike;
mod apart;
mod lost;
mod place;
mod python;
mod racing;
mod simple;
mod waiting;
