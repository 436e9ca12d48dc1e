//! Which objects of a kind are to be looked at: now, later, or once more. Performs no I/O.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use crate::bell::Id;

/// Objects to be looked at. Each is in it once, and is looked at by one at a time.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Bounded by the number of objects there are, as what follows.
    known: HashMap<Id, State>,
    /// In the order in which they came.
    due: VecDeque<Id>,
    later: BTreeSet<(Instant, Id)>,
}

/// How far an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due,
    Later(Instant),
    /// It is being looked at.
    Looked,
    /// It is being looked at, and something about it changed since that began.
    Again,
}

impl Queue {
    /// Something about an object changed.
    pub(crate) fn ring(&mut self, id: Id) {
        let state = self.known.get(&id).copied();
        let now = match state {
            Some(State::Due | State::Again) => return,
            Some(State::Looked) => State::Again,
            Some(State::Later(at)) => {
                self.later.remove(&(at, id.clone()));
                State::Due
            }
            None => State::Due,
        };
        if now == State::Due {
            self.due.push_back(id.clone());
        }
        self.known.insert(id, now);
    }

    /// The next object to look at. It is not given again before that is done.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Id> {
        while self.later.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, id)) = self.later.pop_first()
        {
            self.known.insert(id.clone(), State::Due);
            self.due.push_back(id);
        }
        let id = self.due.pop_front()?;
        self.known.insert(id.clone(), State::Looked);
        Some(id)
    }

    /// An object was looked at, and is again at that time if nothing changes before.
    pub(crate) fn done(&mut self, id: Id, again: Option<Instant>) {
        let state = self.known.remove(&id);
        if state == Some(State::Again) {
            self.ring(id);
        } else if let Some(at) = again {
            self.later.insert((at, id.clone()));
            self.known.insert(id, State::Later(at));
        }
    }

    /// When time alone makes one of them due.
    pub(crate) fn soonest(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(name: &str) -> Id {
        ("team".to_owned(), name.to_owned())
    }

    #[test]
    fn what_came_first_is_looked_at_first_and_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());

        for name in ["a", "b", "a"] {
            queue.ring(id(name));
        }

        assert_eq!(queue.next(now), Some(id("a")));
        assert_eq!(queue.next(now), Some(id("b")));
        assert_eq!(queue.next(now), None);
    }

    #[test]
    fn what_changes_while_it_is_looked_at_is_looked_at_again_afterwards() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.ring(id("a"));
        queue.next(now);

        queue.ring(id("a"));
        assert_eq!(queue.next(now), None);
        queue.done(id("a"), Some(now + Duration::from_secs(600)));

        assert_eq!(queue.next(now), Some(id("a")));
        queue.done(id("a"), None);
        assert_eq!(queue.next(now), None);
    }

    #[test]
    fn time_alone_makes_it_due_unless_something_changes_before() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        for name in ["a", "b"] {
            queue.ring(id(name));
            let next = queue.next(now).unwrap();
            queue.done(next, Some(later));
        }
        assert_eq!((queue.next(now), queue.soonest()), (None, Some(later)));

        queue.ring(id("b"));
        assert_eq!(queue.next(now), Some(id("b")));
        assert_eq!(queue.next(now), None);
        assert_eq!(queue.next(later), Some(id("a")));
        assert_eq!((queue.next(later), queue.soonest()), (None, None));
    }

    #[test]
    fn nothing_is_kept_of_what_nobody_waits_for() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.ring(id("a"));
        queue.next(now);

        queue.done(id("a"), None);

        assert!(queue.known.is_empty() && queue.due.is_empty() && queue.later.is_empty());
    }
}
