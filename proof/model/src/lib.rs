//! An exhaustive model of the engine that runs the very rules of core.
