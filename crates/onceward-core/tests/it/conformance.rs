use onceward_testkit::conformance::Memory;

onceward_testkit::store_conformance!(Memory::default());
onceward_testkit::store_reference!(Memory::default(), runs = 500);

mod on_the_machines_clock {
    use super::*;

    onceward_testkit::store_conformance!(Memory::on_the_machines_clock());
    onceward_testkit::store_reference!(Memory::on_the_machines_clock(), runs = 30);
}
