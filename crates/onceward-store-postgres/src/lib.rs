//! Stores records in PostgreSQL: many processes, one database.
