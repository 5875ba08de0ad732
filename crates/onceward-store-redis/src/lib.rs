//! Stores records in Redis or Valkey: many processes, one server or a cluster.
