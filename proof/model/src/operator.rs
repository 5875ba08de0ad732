//! An operator, who is shown a record and later says what became of it.

use onceward_core::decide::{Verdicts, judge_verdict};
use onceward_core::transition::resolved;

use crate::action::Says;
use crate::compact::CompactPut;
use crate::setup::{Mutant, Setup};
use crate::state::{Call, From, World};

impl Setup {
    /// An operator is shown the record.
    pub(crate) fn show(&self, world: &mut World) -> Option<()> {
        world.shown = Some(world.record?.revision);
        world.left.verdicts -= 1;
        Some(())
    }

    /// The verdict is judged by the record as it is now, and swaps on the revision that was shown.
    pub(crate) fn resolve(&self, world: &mut World, says: Says) -> Option<()> {
        let shown = world.shown.take()?;
        let found = world.record?.expand();
        let verdict = says.verdict();
        let seen = if self.has(Mutant::OperatorWithoutRevision) { found.revision } else { shown };
        if judge_verdict(&found, &verdict, self.forced, world.now()) == Verdicts::Allowed {
            let put = resolved(&found, &verdict, self.cache_life, self.limit(world));
            let put = CompactPut::fold(&put);
            world.calls.insert(Call { from: From::Operator(shown), seen: Some(seen), put });
        }
        Some(())
    }
}
