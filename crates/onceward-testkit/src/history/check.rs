//! The search for an order: Wing and Gong's, with Lowe's memory of what was tried.
//!
//! Calls are taken one after another. Any call may be next that began before the first of the others ended, if the
//! specification can have told what it was told. Where none can be next, one that was told nothing may have had its
//! effect there; where that does not help, the last call is put back and another is tried. The same calls taken, with
//! the same state reached, lead to the same end, so they are tried once. A call that changes nothing and may be next is
//! taken at once: wherever else it could stand, it can also stand here.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::vec;

use fastrand::Rng;

use super::calls::Called;

/// Something that does one thing at a time.
pub trait Sequential {
    /// All that counts for what it tells from now on.
    type State: Clone + Eq + Hash;
    /// What can be asked.
    type Ask: Clone + fmt::Debug;
    /// What can be told.
    type Told: Clone + fmt::Debug;

    /// The state before all calls.
    fn start(&self) -> Self::State;

    /// The states after `ask` was carried out in `state` and told `told`; none where that cannot be. For a call that was
    /// told nothing, the states after it had an effect: having none is always possible.
    fn step(&self, state: &Self::State, ask: &Self::Ask, told: Option<&Self::Told>) -> Vec<Self::State>;

    /// Whether no call that was asked and told this changes any state: it may be left out of a report.
    fn only_looks(&self, ask: &Self::Ask, told: Option<&Self::Told>) -> bool;
}

/// How many calls a report shows, and for how many of them it is tried whether they are needed.
const SHOWN: usize = 40;

/// The shortest part of a history that has no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck<A, T> {
    /// Its calls, in the order in which they began.
    pub calls: Vec<Called<A, T>>,
}

impl<A: fmt::Debug, T: fmt::Debug> fmt::Display for Stuck<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "these {} calls have no order (began–ended):", self.calls.len())?;
        let earlier = self.calls.len().saturating_sub(SHOWN);
        if earlier > 0 {
            writeln!(f, "… {earlier} earlier calls")?;
        }
        self.calls[earlier..].iter().try_for_each(|it| writeln!(f, "{it}"))
    }
}

/// Finds an order of `calls`, which are sorted by their beginnings, in which `spec` tells what was told and no call comes
/// before one that had ended when it began. Gives the places of the calls in that order; calls that were told nothing
/// and need no effect are not in it.
///
/// # Errors
/// There is no such order.
pub fn check<S: Sequential>(
    spec: &S,
    calls: &[Called<S::Ask, S::Told>],
) -> Result<Vec<usize>, Stuck<S::Ask, S::Told>> {
    Search::new(spec, calls).run().ok_or_else(|| shortest(spec, calls))
}

/// What is true at one moment, in the order of time, of the calls that were told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The call began: from here on it can be taken.
    Began(usize),
    /// The call ended: it must have been taken by now.
    Ended(usize),
}

/// A call that was taken, and what else could have been done instead.
struct Taken<St> {
    call: usize,
    before: St,
    /// The latest beginning of the calls before it.
    latest: usize,
    instead: Instead<St>,
}

enum Instead<St> {
    /// Nothing is lost with this one.
    Nothing,
    /// Other states to which the call may have led; then the calls behind it.
    Told(vec::IntoIter<St>),
    /// The same for a call that was told nothing: the nth of those, at this time.
    Untold(usize, usize, vec::IntoIter<St>),
}

/// Where the search goes on.
enum Next {
    At(Option<(usize, Moment)>),
    /// No call that was told something can be next before the first of them ends, at this time: the nth of the others may.
    Untold(usize, usize),
}

struct Search<'a, S: Sequential> {
    spec: &'a S,
    calls: &'a [Called<S::Ask, S::Told>],
    line: Line,
    /// The calls that were told nothing, and whether they are taken.
    untold: Vec<(usize, bool)>,
    state: S::State,
    latest: usize,
    taken: Vec<Taken<S::State>>,
    /// A number for each call, such that those of different sets of calls, put together by exclusive or, are different as
    /// far as anybody will ever see: 128 mixed bits. Remembering the sets themselves would take a thousand times the room.
    names: Vec<u128>,
    /// Stands for the set of the calls that are taken.
    set: u128,
    tried: HashSet<(u128, S::State)>,
}

impl<'a, S: Sequential> Search<'a, S> {
    fn new(spec: &'a S, calls: &'a [Called<S::Ask, S::Told>]) -> Self {
        let untold = calls.iter().enumerate().filter(|(_, it)| it.told.is_none());
        Self {
            spec,
            calls,
            line: Line::of(calls),
            untold: untold.map(|(call, _)| (call, false)).collect(),
            state: spec.start(),
            latest: 0,
            taken: Vec::new(),
            names: names(calls.len()),
            set: 0,
            tried: HashSet::new(),
        }
    }

    /// The order, if there is one.
    fn run(mut self) -> Option<Vec<usize>> {
        let mut next = Next::At(self.line.first());
        loop {
            next = match next {
                // Only calls that were told nothing are left: they had no effect.
                Next::At(None) => return Some(self.taken.into_iter().map(|it| it.call).collect()),
                Next::At(Some((place, Moment::Began(call)))) => {
                    if self.take(call, self.ways(call), Instead::Told) {
                        Next::At(self.line.first())
                    } else {
                        Next::At(self.line.after(place))
                    }
                }
                Next::At(Some((place, Moment::Ended(_)))) => Next::Untold(0, self.line.time(place)),
                Next::Untold(nth, _) if nth == self.untold.len() => self.back()?,
                Next::Untold(nth, now) => {
                    let call = self.untold[nth].0;
                    let may = self.may_act(nth, now);
                    if may && self.take(call, self.ways(call), |it| Instead::Untold(nth, now, it)) {
                        self.untold[nth].1 = true;
                        Next::At(self.line.first())
                    } else {
                        Next::Untold(nth + 1, now)
                    }
                }
            };
        }
    }

    fn ways(&self, call: usize) -> vec::IntoIter<S::State> {
        let Called { ask, told, .. } = &self.calls[call];
        self.spec.step(&self.state, ask, told.as_ref()).into_iter()
    }

    /// Whether a call that was told nothing may have its effect before `now`: it began by then, and no call is taken that
    /// began after its own end.
    fn may_act(&self, nth: usize, now: usize) -> bool {
        let (call, taken) = self.untold[nth];
        let Called { began, ended, .. } = &self.calls[call];
        !taken && *began <= now && ended.is_none_or(|it| self.latest <= it)
    }

    /// Takes the call in the first of the ways that was not tried, if any.
    fn take(
        &mut self,
        call: usize,
        mut ways: vec::IntoIter<S::State>,
        instead: impl FnOnce(vec::IntoIter<S::State>) -> Instead<S::State>,
    ) -> bool {
        let set = self.set ^ self.names[call];
        for next in ways.by_ref() {
            if self.tried.insert((set, next.clone())) {
                let looked = next == self.state && self.is_free(call);
                let before = std::mem::replace(&mut self.state, next);
                let instead = if looked { Instead::Nothing } else { instead(ways) };
                self.taken.push(Taken { call, before, latest: self.latest, instead });
                self.set = set;
                self.latest = self.latest.max(self.calls[call].began);
                self.line.remove(call);
                return true;
            }
        }
        false
    }

    /// Whether nothing has to come before this call that is not taken: no call that was told nothing ended before.
    fn is_free(&self, call: usize) -> bool {
        let began = self.calls[call].began;
        let mut dead = self.untold.iter().filter(|it| !it.1).filter_map(|it| self.calls[it.0].ended);
        self.calls[call].told.is_some() && dead.all(|ended| ended >= began)
    }

    /// Puts the last calls back until there is something else to try; `None` when there is nothing left.
    fn back(&mut self) -> Option<Next> {
        loop {
            let Taken { call, before, latest, instead } = self.taken.pop()?;
            (self.state, self.latest) = (before, latest);
            self.set ^= self.names[call];
            let place = self.line.put_back(call);
            match instead {
                Instead::Nothing => {}
                Instead::Told(ways) => {
                    let again = self.take(call, ways, Instead::Told);
                    return Some(Next::At(if again { self.line.first() } else { self.line.after(place) }));
                }
                Instead::Untold(nth, now, ways) => {
                    let again = self.take(call, ways, |it| Instead::Untold(nth, now, it));
                    self.untold[nth].1 = again;
                    return Some(if again {
                        Next::At(self.line.first())
                    } else {
                        Next::Untold(nth + 1, now)
                    });
                }
            }
        }
    }
}

fn names(count: usize) -> Vec<u128> {
    let mut random = Rng::with_seed(0);
    std::iter::repeat_with(|| random.u128(..)).take(count).collect()
}

/// All moments of the calls that were told something and are not taken, as a list from which a call goes and to which it
/// comes back in no time.
struct Line {
    moments: Vec<(usize, Moment)>,
    /// The places of the neighbours; the place behind the last moment stands for both ends.
    before: Vec<usize>,
    after: Vec<usize>,
    /// Where each call began and ended.
    places: Vec<Option<(usize, usize)>>,
}

impl Line {
    fn of<A, T>(calls: &[Called<A, T>]) -> Self {
        let mut moments = Vec::new();
        for (call, it) in calls.iter().enumerate().filter(|(_, it)| it.told.is_some()) {
            moments.push((it.began, Moment::Began(call)));
            moments.push((it.ended.unwrap_or(usize::MAX), Moment::Ended(call)));
        }
        // Where both are at the same time, the calls overlap.
        moments.sort_by_key(|(time, moment)| (*time, matches!(moment, Moment::Ended(_))));
        let mut places = vec![None; calls.len()];
        for (place, (_, moment)) in moments.iter().enumerate() {
            match *moment {
                Moment::Began(call) => places[call] = Some((place, place)),
                Moment::Ended(call) => places[call] = places[call].map(|(began, _)| (began, place)),
            }
        }
        let ends = moments.len();
        let before = (0..=ends).map(|it| it.checked_sub(1).unwrap_or(ends)).collect();
        let after = (0..=ends).map(|it| if it == ends { 0 } else { it + 1 }).collect();
        Self { moments, before, after, places }
    }

    fn first(&self) -> Option<(usize, Moment)> {
        self.after(self.moments.len())
    }

    fn after(&self, place: usize) -> Option<(usize, Moment)> {
        let next = self.after[place];
        self.moments.get(next).map(|it| (next, it.1))
    }

    fn time(&self, place: usize) -> usize {
        self.moments[place].0
    }

    fn remove(&mut self, call: usize) {
        let Some((began, ended)) = self.places[call] else { return };
        for place in [began, ended] {
            let (before, after) = (self.before[place], self.after[place]);
            (self.after[before], self.before[after]) = (after, before);
        }
    }

    /// Undoes [`remove`](Self::remove); calls come back in the opposite order. Gives the place where the call began.
    fn put_back(&mut self, call: usize) -> usize {
        let Some((began, ended)) = self.places[call] else { return self.moments.len() };
        for place in [ended, began] {
            let (before, after) = (self.before[place], self.after[place]);
            (self.after[before], self.before[after]) = (place, place);
        }
        began
    }
}

/// The shortest beginning of the history that has no order, without the looks that it does not need for that.
fn shortest<S: Sequential>(spec: &S, calls: &[Called<S::Ask, S::Told>]) -> Stuck<S::Ask, S::Told> {
    let fails = |calls: &[_]| Search::new(spec, calls).run().is_none();
    // A beginning of a history with an order has an order. So the shortest one without is found by halving.
    let mut ends: Vec<usize> = calls.iter().filter_map(|it| it.ended).collect();
    ends.sort_unstable();
    let at = ends.partition_point(|end| !fails(&until(calls, *end)));
    let mut part = ends.get(at).map_or_else(|| calls.to_vec(), |end| until(calls, *end));
    // From the back, so that what stands before what failed goes only when it is not needed.
    for nth in (0..part.len()).rev().take(SHOWN) {
        if spec.only_looks(&part[nth].ask, part[nth].told.as_ref()) {
            let left_out = part.remove(nth);
            if !fails(&part) {
                part.insert(nth, left_out);
            }
        }
    }
    Stuck { calls: part }
}

/// The history as it was known at `end`: later calls are not there, and later replies are not heard.
fn until<A: Clone, T: Clone>(calls: &[Called<A, T>], end: usize) -> Vec<Called<A, T>> {
    let begun = calls.iter().filter(|it| it.began <= end);
    let known = begun.map(|it| match it.ended {
        Some(ended) if ended <= end => it.clone(),
        _ => Called { ended: None, told: None, ..it.clone() },
    });
    known.collect()
}
