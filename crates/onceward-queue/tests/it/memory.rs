//! The broker in memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::SystemClock;
use onceward_queue::source::memory::{MemoryBroker, MemorySettings};
use onceward_queue::{Message, Source};

use crate::fixture::Fixture;

struct Memory {
    broker: MemoryBroker,
}

impl Memory {
    fn new(settings: MemorySettings) -> Self {
        let visible_for = Duration::from_millis(600);
        let settings = MemorySettings { visible_for, ..settings };
        Self { broker: MemoryBroker::new(Arc::new(SystemClock), settings) }
    }
}

#[async_trait]
impl Fixture for Memory {
    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.broker.source(self.topic()))
    }

    async fn publish(&self, messages: &[Message]) {
        for message in messages {
            self.broker.publish(message.clone());
        }
    }

    async fn is_empty(&self) -> bool {
        self.broker.kept(self.topic()).is_empty()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

mod that_waits {
    use super::*;
    crate::fixture::promises!(async { Memory::new(MemorySettings::default()) });
}

mod in_order_that_cannot_wait {
    use super::*;
    crate::fixture::promises!(async {
        Memory::new(MemorySettings { ordered: true, delays: Duration::ZERO, ..MemorySettings::default() })
    });
}

mod that_tells_no_redelivery {
    use super::*;
    crate::fixture::promises!(async {
        Memory::new(MemorySettings { tells_redelivery: false, ..MemorySettings::default() })
    });
}
