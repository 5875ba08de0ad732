//! Real gateway processes, killed, stopped and starved, and an append-only ledger that judges them.
