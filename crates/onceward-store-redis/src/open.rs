//! Why a store cannot be opened, or a server not be used any more.

/// Why a Redis store cannot be opened. No record was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nobody answers there.
    #[error("the Redis server {address} cannot be reached: {cause}")]
    Unreachable {
        /// The host and the port.
        address: String,
        /// What was met.
        cause: String,
    },
    /// The certificates cannot be read.
    #[error("the certificates to trust cannot be read: {cause}")]
    Certificates {
        /// What was met.
        cause: String,
    },
    /// The server does not let this user in.
    #[error("the Redis server {address} refuses the user or the password: {cause}")]
    Login {
        /// The host and the port.
        address: String,
        /// What the server said.
        cause: String,
    },
    /// The server does not say what it is.
    #[error("the Redis server does not say what it is: {cause}; allow the user INFO")]
    Unknowable {
        /// What the server said.
        cause: String,
    },
    /// The server is too old.
    #[error("the Redis server is of version `{version}`; use 6.2 or later")]
    Old {
        /// What it says.
        version: String,
    },
    /// The URL says another kind of server.
    #[error("the Redis server is {said}; write `{scheme}://`")]
    Scheme {
        /// What it is.
        said: &'static str,
        /// The scheme for that.
        scheme: &'static str,
    },
    /// The server is a replica.
    #[error("the Redis server is a replica; name its primary")]
    Replica,
    /// The server reads its files.
    #[error("the Redis server is loading its data; try again when it has")]
    Loading,
    /// The server may drop records that must stay.
    #[error(
        "the Redis server's maxmemory-policy is `{policy}`: it may drop answers and claims that must stay; set \
         `maxmemory-policy noeviction`, or use a server of Onceward's own"
    )]
    Evicts {
        /// The policy.
        policy: String,
    },
    /// The server is not durable, and the URL asks for it.
    #[error("the Redis server is not durable: {costs}; set `appendonly yes` and `appendfsync always`")]
    NotDurable {
        /// What a crash can cost.
        costs: &'static str,
    },
    /// The store has another number of buckets.
    #[error("the store was made with {found} buckets, not {wanted}; write `buckets={found}` or leave it out")]
    Buckets {
        /// As it was made.
        found: u16,
        /// As the URL says.
        wanted: u16,
    },
    /// A later version made this store.
    #[error("the store under this prefix has a layout that this build does not know: `{found}`")]
    Layout {
        /// What it says of itself.
        found: String,
    },
    /// The Sentinels do not say where the primary is.
    #[error("the Redis Sentinels do not say where the primary is: {cause}")]
    Sentinel {
        /// What was met.
        cause: String,
    },
    /// The nodes do not form a Cluster that can be used.
    #[error("the Redis Cluster cannot be used: {cause}")]
    Cluster {
        /// What was met.
        cause: String,
    },
}

impl OpenError {
    /// Whether no waiting cures it: somebody has to change the URL or the server's settings.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Certificates { .. }
            | Self::Login { .. }
            | Self::Old { .. }
            | Self::Evicts { .. }
            | Self::NotDurable { .. }
            | Self::Buckets { .. }
            | Self::Layout { .. }
            | Self::Scheme { .. } => true,
            // A replica may become the primary.
            Self::Unreachable { .. }
            | Self::Unknowable { .. }
            | Self::Replica
            | Self::Loading
            | Self::Sentinel { .. }
            | Self::Cluster { .. } => false,
        }
    }
}
