//! Breaks that are made on purpose: a proof that cannot see one of them proves nothing.
//!
//! Each is a line in the code, `mutant::is(…)`. Without the feature `mutants` that is the constant `false`, so a
//! release contains nothing of it; with the feature nothing is broken either until one is selected.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` is for builds that are tested, never for one that serves anybody");

/// A break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A holder that was overruled may finish the record all the same.
    NoFenceCheck,
    /// A claim looks whether there is a record, and then writes its own whatever is there by now.
    GetThenSet,
    /// The caller is told before the answer is stored.
    ToldBeforeStored,
    /// A permit does not renew its lease, and a record whose lease is over is taken for free.
    LeaseWithoutRenewal,
    /// Whoever holds any permit of a record may release it.
    ReleaseByAnyone,
    /// Retention is counted from the claim.
    RetentionFromClaim,
    /// All callers share one space of keys.
    ScopeWithoutPrincipal,
    /// The work ends when its caller leaves.
    CancelOnDisconnect,
    /// A write is told once it is with the system, not with the disk.
    ToldBeforeSynced,
    /// A relay notes that effects are sent, and then sends them.
    NotedBeforeSent,
    /// A relay remembers how far it has come, and passes what becomes visible behind that.
    PassesLateNumbers,
    /// A relay sends what an answer carries without claiming it before.
    SentUnclaimed,
}

impl Mutant {
    /// All of them, in the order in which they are shown.
    pub const ALL: [(&'static str, Self); 12] = [
        ("no-fence-check", Self::NoFenceCheck),
        ("get-then-set", Self::GetThenSet),
        ("told-before-stored", Self::ToldBeforeStored),
        ("lease-without-renewal", Self::LeaseWithoutRenewal),
        ("release-by-anyone", Self::ReleaseByAnyone),
        ("retention-from-claim", Self::RetentionFromClaim),
        ("scope-without-principal", Self::ScopeWithoutPrincipal),
        ("cancel-on-disconnect", Self::CancelOnDisconnect),
        ("told-before-synced", Self::ToldBeforeSynced),
        ("noted-before-sent", Self::NotedBeforeSent),
        ("passes-late-numbers", Self::PassesLateNumbers),
        ("sent-unclaimed", Self::SentUnclaimed),
    ];
}

/// Whether this process is broken in this way.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn is(_: Mutant) -> bool {
    false
}

/// Whether this process is broken in this way.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    SELECTED.get() == Some(&mutant)
}

/// Breaks this process for good; says whether it knows that name. Of several calls the first counts.
#[cfg(feature = "mutants")]
#[must_use]
pub fn select(name: &str) -> bool {
    let found = Mutant::ALL.iter().find(|it| it.0 == name);
    found.is_some_and(|it| SELECTED.get_or_init(|| it.1) == &it.1)
}

#[cfg(feature = "mutants")]
static SELECTED: std::sync::OnceLock<Mutant> = std::sync::OnceLock::new();
