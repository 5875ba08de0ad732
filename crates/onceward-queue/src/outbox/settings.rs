//! The choices of relays.

use std::time::Duration;

use onceward_core::Result;

use super::wrong;
use crate::verdict::Retries;

/// The choices of a relay.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// For how long an effect is a relay's before it must say that it still is; it does so every third of that. Of what a relay had
    /// that died, nothing goes out before. At least 1 s, default 30 s.
    pub lease: Duration,
    /// How often it looks when there was nothing to do. While there is, it looks at once. Default 200 ms.
    pub poll: Duration,
    /// Whether it listens for what an outbox with `notify` says at each commit; for that it holds one connection of its pool.
    /// Default: it does not. It looks every `poll` all the same.
    pub listen: bool,
    /// How many effects it sends at a time, each of another line. Default 64.
    pub parallel: usize,
    /// How many effects it has in hand at a time: so many at most go out twice when it dies. Default 1000.
    pub in_hand_max: usize,
    /// How many of one line it has in hand at a time. Default 100.
    pub line_max: usize,
    /// How many bytes of bodies it takes at a time; one may be longer. Default 16 MiB.
    pub bytes_max: usize,
    /// The longest that a try may take. Default 30 s.
    pub send_max: Duration,
    /// How often an effect is tried, and with which pauses, until it is parked. Default: 30 times within about 5 hours.
    pub retries: Retries,
    /// How long sent effects are kept. Default 24 h. `None` keeps them for ever.
    pub keep: Option<Duration>,
    /// How long what is on its way may take when the relay stops. Default 25 s: less than service managers wait before they kill.
    pub drain: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(200),
            listen: false,
            parallel: 64,
            in_hand_max: 1000,
            line_max: 100,
            bytes_max: 16 << 20,
            send_max: Duration::from_secs(30),
            retries: Retries {
                attempts_max: 30,
                pause: Duration::from_secs(1),
                pause_max: Duration::from_secs(900),
            },
            keep: Some(Duration::from_secs(24 * 3600)),
            drain: Duration::from_secs(25),
        }
    }
}

impl RelaySettings {
    /// Whether a relay with so many senders can run with them.
    pub(super) fn check(&self, senders: usize) -> Result<()> {
        if senders == 0 {
            return Err(wrong("relay: say with `sender` what sends the effects of a kind"));
        }
        if self.lease < Duration::from_secs(1) {
            return Err(wrong("relay: the lease must be at least 1 s"));
        }
        let counts = [self.parallel, self.in_hand_max, self.line_max, self.bytes_max];
        if counts.contains(&0) || self.retries.attempts_max == 0 {
            return Err(wrong("relay: what is a number must be at least 1"));
        }
        if self.poll.is_zero() || self.send_max.is_zero() {
            return Err(wrong("relay: poll and send_max must be longer than nothing"));
        }
        Ok(())
    }
}
