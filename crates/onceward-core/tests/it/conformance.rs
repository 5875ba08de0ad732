use onceward_testkit::conformance::Memory;

onceward_testkit::store_conformance!(Memory::default());

mod on_the_machines_clock {
    use super::*;

    onceward_testkit::store_conformance!(Memory::on_the_machines_clock());
}
