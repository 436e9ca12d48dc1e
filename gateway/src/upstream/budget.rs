//! How many calls of one server are sent again: some of a hundred, and one a second in any case.
//!
//! [`Balance`] is the arithmetic: pure, with the time as an argument. [`Budget`] holds it in one
//! atomic, which is not written while it is full.

use std::sync::atomic::{AtomicU64, Ordering};

/// What sending again costs, in hundredths.
const COST: u32 = 100;
/// Up to which a balance grows by time alone: what a server that is rarely called has, and what a
/// new one begins with.
const FLOOR: u32 = 10 * COST;
/// Up to which calls fill it: what a restart under load may cost.
const CAP: u32 = 100 * COST;

/// What may be spent, and until when time was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Balance {
    hundredths: u32,
    /// Seconds since the upstream was made.
    at: u32,
}

impl Balance {
    /// A call earns a part of sending one again.
    fn earn(self, percent: u32) -> Self {
        Self { hundredths: self.hundredths.saturating_add(percent).min(CAP), ..self }
    }

    fn spend(self, now: u32) -> Option<Self> {
        let passed = now.saturating_sub(self.at).saturating_mul(COST);
        let grown = self.hundredths.saturating_add(passed).min(FLOOR);
        let hundredths = grown.max(self.hundredths).checked_sub(COST)?;
        Some(Self { hundredths, at: self.at.max(now) })
    }

    const fn pack(self) -> u64 {
        (self.at as u64) << 32 | self.hundredths as u64
    }

    const fn unpack(packed: u64) -> Self {
        Self { hundredths: (packed & 0xffff_ffff) as u32, at: (packed >> 32) as u32 }
    }
}

/// The budget of one server.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(Balance { hundredths: FLOOR, at: 0 }.pack()))
    }

    /// A call was made.
    pub(super) fn earn(&self, percent: u32) {
        self.change(|balance| Some(balance.earn(percent)));
    }

    /// Whether a call may be sent again.
    pub(super) fn spend(&self, now: u32) -> bool {
        self.change(|balance| balance.spend(now))
    }

    fn change(&self, change: impl Fn(Balance) -> Option<Balance>) -> bool {
        let mut packed = self.0.load(Ordering::Relaxed);
        loop {
            let Some(changed) = change(Balance::unpack(packed)).map(Balance::pack) else {
                return false;
            };
            if changed == packed {
                return true;
            }
            match self.0.compare_exchange_weak(
                packed,
                changed,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(other) => packed = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many may be sent again at one moment.
    fn spendable(budget: &Budget, now: u32) -> usize {
        (0..1000).take_while(|_| budget.spend(now)).count()
    }

    #[test]
    fn a_new_server_has_some_and_gets_one_a_second_up_to_that() {
        let budget = Budget::new();

        for (now, expected) in [(0, 10), (0, 0), (1, 1), (4, 3), (1000, 10), (1000, 0), (999, 0)] {
            assert_eq!(spendable(&budget, now), expected, "at {now}");
        }
    }

    #[test]
    fn calls_earn_their_percentage_up_to_a_cap() {
        let budget = Budget::new();
        spendable(&budget, 0);

        for (calls, percent, expected) in
            [(100, 20, 20), (4, 20, 0), (1, 20, 1), (50, 100, 50), (100, 0, 0), (5000, 20, 100)]
        {
            (0..calls).for_each(|_| budget.earn(percent));
            assert_eq!(spendable(&budget, 0), expected, "{calls} calls at {percent} %");
        }
    }

    #[test]
    fn time_takes_nothing_of_what_calls_have_earned() {
        let budget = Budget::new();
        (0..1000).for_each(|_| budget.earn(20));

        assert_eq!(spendable(&budget, 500), 100);
    }
}
