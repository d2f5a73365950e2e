//! How long each wait may take, and how large each buffer may become.

use std::time::Duration;

/// The limits of a connection. Change them before connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one attempt at one address, from name resolution to "ready" (`connect_timeout` sets it).
    pub connect: Duration,
    /// For a command or query from its sending to the last row.
    pub query: Duration,
    /// For the first answer to `BASE_BACKUP`: the server makes a checkpoint before it, a spread one in its own time.
    pub checkpoint: Duration,
    /// For the silence between two messages of a stream.
    pub idle: Duration,
    /// The longest message that is accepted, in bytes. A longer one ends the connection.
    pub message_bytes: usize,
    /// The most rows that a query's result may have.
    pub rows: usize,
    /// The most bytes that a query's values may have together.
    pub result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(30),
            query: Duration::from_secs(60),
            checkpoint: Duration::from_secs(3600),
            idle: Duration::from_secs(300),
            message_bytes: 16 << 20,
            rows: 100_000,
            result_bytes: 32 << 20,
        }
    }
}
