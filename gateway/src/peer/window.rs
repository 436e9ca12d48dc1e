//! Each request between gateways is taken once: it carries the number that its sender gave it, and
//! numbers that were seen are remembered, as far back as requests overtake each other.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Tag;

/// How far one request may overtake another.
const SPAN: u64 = 4096;
const WORDS: usize = (SPAN / 64) as usize;
/// Senders that are remembered, far more than there are gateways: only those who know the key come
/// to be.
const MAX_SENDERS: usize = 1024;

/// What was seen of all senders.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<HashMap<Tag, Window>>);

/// What was seen of one sender.
#[derive(Debug)]
struct Window {
    /// When the sender started: it counts anew then.
    epoch: u64,
    /// The highest number.
    top: u64,
    /// The last [`SPAN`] of them, by the remainder.
    seen: Box<[u64; WORDS]>,
}

impl Windows {
    /// Whether a number of a sender is new; it is not from then on.
    pub(super) fn admit(&self, sender: Tag, epoch: u64, number: u64) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_SENDERS && !windows.contains_key(&sender) {
            windows.clear();
        }
        let fresh = || Window { epoch, top: 0, seen: Box::new([0; WORDS]) };
        let window = windows.entry(sender).or_insert_with(fresh);
        if epoch > window.epoch {
            *window = fresh();
        }
        epoch == window.epoch && window.admit(number)
    }
}

impl Window {
    fn admit(&mut self, number: u64) -> bool {
        if number > self.top {
            if number - self.top >= SPAN {
                self.seen.fill(0);
            } else {
                (self.top + 1..number).for_each(|skipped| self.forget(skipped));
            }
            self.top = number;
            self.forget(number);
        } else if self.top - number >= SPAN {
            return false;
        }
        let (word, bit) = place(number);
        let Some(word) = self.seen.get_mut(word) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// The place was that of a number that is [`SPAN`] lower.
    fn forget(&mut self, number: u64) {
        let (word, bit) = place(number);
        if let Some(word) = self.seen.get_mut(word) {
            *word &= !bit;
        }
    }
}

const fn place(number: u64) -> (usize, u64) {
    let at = number % SPAN;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENDER: Tag = Tag::from_bytes([1; 8]);

    #[test]
    fn a_number_is_taken_once() {
        let windows = Windows::default();
        for (epoch, number, new) in [
            (5, 3, true),
            (5, 1, true),
            (5, 3, false),
            (5, 1, false),
            (5, 3 + SPAN, true),
            (5, 3, false),
            (5, 4, true),
            (5, 10 * SPAN, true),
            (5, 9 * SPAN, false),
            (4, 11 * SPAN, false),
            (6, 3, true),
            (5, 12 * SPAN, false),
        ] {
            assert_eq!(windows.admit(SENDER, epoch, number), new, "{epoch} {number}");
        }
        assert!(windows.admit(Tag::from_bytes([2; 8]), 1, 3), "others count by themselves");
    }

    proptest! {
        #[test]
        fn whatever_the_order_none_is_taken_twice(numbers in prop::collection::vec(0..3 * SPAN, 0..300)) {
            let windows = Windows::default();
            let mut taken = std::collections::HashSet::new();
            for number in numbers {
                if windows.admit(SENDER, 1, number) {
                    prop_assert!(taken.insert(number));
                }
            }
        }
    }
}
