//! Objects of a directory that are asked about one after the other, in the order of its listing: what `getfattr -R -d`,
//! `rsync -X` and `ls -l` do. Which come next, and what was fetched for them ahead. Pure but for the instants it is told.
//!
//! Nothing is fetched ahead before two came in order, and no more once the order is broken. What was fetched and not asked for
//! stays, so that no object is asked for twice, but is believed for no longer than any answer is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::fs::name::Component;

/// So many are fetched ahead when a walk begins: not many are lost when it is none.
const FIRST_AHEAD: usize = 2;
/// So many at most: at 20 ms a request this is 2,400 objects a second.
const MAX_AHEAD: usize = 48;
/// So many answers wait to be asked for at most.
const MAX_FETCHED: usize = 4 * MAX_AHEAD;

/// What was fetched for one object.
#[derive(Debug, Clone)]
pub struct Fetched<T> {
    /// When it was asked for.
    pub asked: Instant,
    /// The answer, or the way to it.
    pub answer: T,
}

/// A walk over a directory.
#[derive(Debug)]
pub struct Walk<T> {
    /// The next object that nothing was fetched for: a walk gets there when it goes on.
    next: Option<Component>,
    depth: usize,
    fetched: BTreeMap<Component, Fetched<T>>,
}

impl<T> Default for Walk<T> {
    fn default() -> Self {
        Self { next: None, depth: 0, fetched: BTreeMap::new() }
    }
}

impl<T: Clone> Walk<T> {
    /// An object that nothing is known of is asked about: how many after it are worth fetching.
    pub fn step(&mut self, component: &Component) -> usize {
        // Where a page ended nothing was known of the next one.
        let at_end = self.depth > 0 && self.next.is_none() && self.fetched.is_empty();
        let goes_on = at_end || self.fetched.contains_key(component) || self.next.as_ref() == Some(component);
        self.depth = if goes_on { (self.depth * 2).clamp(FIRST_AHEAD, MAX_AHEAD) } else { 0 };
        self.depth
    }

    /// The next object after those that are fetched.
    pub fn expect(&mut self, next: Option<Component>) {
        self.next = next;
    }

    /// What was fetched for an object less than `ttl` before `now`.
    #[must_use]
    pub fn fetched(&self, component: &Component, now: Instant, ttl: Duration) -> Option<Fetched<T>> {
        self.fetched.get(component).filter(|fetched| now.saturating_duration_since(fetched.asked) < ttl).cloned()
    }

    /// Keeps what is fetched for an object; `false` when there is no room for it.
    pub fn keep(&mut self, component: Component, fetched: Fetched<T>, ttl: Duration) -> bool {
        if self.fetched.len() >= MAX_FETCHED {
            let now = fetched.asked;
            self.fetched.retain(|_, old| now.saturating_duration_since(old.asked) < ttl);
        }
        let room = self.fetched.len() < MAX_FETCHED;
        if room {
            self.fetched.insert(component, fetched);
        }
        room
    }

    /// What was fetched for an object was taken over, or is of no use.
    pub fn done(&mut self, component: &Component) {
        self.fetched.remove(component);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn name(number: usize) -> Component {
        Component::new(&format!("{number:03}")).unwrap()
    }

    /// A step as the caller makes it, in a directory of numbers.
    fn step(walk: &mut Walk<usize>, number: usize, now: Instant) -> usize {
        let depth = walk.step(&name(number));
        for ahead in number..=number + depth {
            if walk.fetched(&name(ahead), now, TTL).is_none() {
                walk.keep(name(ahead), Fetched { asked: now, answer: ahead }, TTL);
            }
        }
        walk.expect(Some(name(number + depth + 1)));
        walk.done(&name(number));
        depth
    }

    #[test]
    fn it_looks_ahead_farther_while_the_order_holds_and_not_at_all_when_it_breaks() {
        let (mut walk, now) = (Walk::default(), Instant::now());
        let depths: Vec<usize> = (0..8).map(|number| step(&mut walk, number, now)).collect();
        assert_eq!(depths, [0, 2, 4, 8, 16, 32, 48, 48]);
        assert_eq!(step(&mut walk, 500, now), 0);
        assert_eq!(step(&mut walk, 300, now), 0, "backwards is no order");
        assert_eq!(step(&mut walk, 302, now), 0, "nor is every second one");
    }

    #[test]
    fn what_was_fetched_serves_in_any_order_while_it_is_young() {
        let (mut walk, now) = (Walk::default(), Instant::now());
        for number in 0..7 {
            step(&mut walk, number, now);
        }
        assert_eq!(walk.fetched(&name(9), now, TTL).map(|fetched| fetched.answer), Some(9));
        assert!(walk.fetched(&name(9), now + TTL, TTL).is_none(), "it is old");
        assert!(walk.fetched(&name(4), now, TTL).is_none(), "it was taken over");
        assert_eq!(step(&mut walk, 9, now), MAX_AHEAD, "another sort order than the listing's");
    }

    #[test]
    fn it_holds_few_answers_and_makes_room_by_dropping_old_ones() {
        let (mut walk, now) = (Walk::default(), Instant::now());
        let fetched = |asked| Fetched { asked, answer: 0 };
        assert!((0..MAX_FETCHED).all(|number| walk.keep(name(number), fetched(now), TTL)));
        assert!(!walk.keep(name(999), fetched(now), TTL));
        assert!(walk.keep(name(999), fetched(now + TTL), TTL));
    }
}
