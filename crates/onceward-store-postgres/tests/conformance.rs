//! The PostgreSQL store keeps every law of a store: with a clock in the hand and on the server's own, and through a
//! pooler that keeps no session; it agrees with the reference, and what it tells concurrent callers has an order.

mod support;

use support::{Injected, Own, Pooled};

mod injected_clock {
    use super::*;
    onceward_testkit::store_conformance!(Injected::new());
    onceward_testkit::store_reference!(Injected::new(), runs = 12);
    onceward_testkit::store_history!(Injected::new(), runs = 4);
}

mod own_clock {
    use super::*;
    onceward_testkit::store_conformance!(Own::new("read committed"));
    onceward_testkit::store_reference!(Own::new("read committed"), runs = 10);
    onceward_testkit::store_history!(Own::new("read committed"), runs = 4);
}

mod serializable {
    use super::*;
    onceward_testkit::store_reference!(Own::new("serializable"), runs = 5);
    onceward_testkit::store_history!(Own::new("serializable"), runs = 2);
}

mod repeatable_read {
    use super::*;
    onceward_testkit::store_reference!(Own::new("repeatable read"), runs = 5);
    onceward_testkit::store_history!(Own::new("repeatable read"), runs = 2);
}

mod pooled_by_statement {
    use super::*;
    onceward_testkit::store_conformance!(Pooled::new());
    onceward_testkit::store_history!(Pooled::new(), runs = 2);
}
