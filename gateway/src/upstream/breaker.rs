//! The circuit breaker of one server: closed while its calls succeed, open after too many failures
//! in a row, and half open while one call finds out whether they succeed again.
//!
//! [`State`] is the machine: pure, with the time as an argument. [`Breaker`] holds it in one atomic,
//! which a server that is well never writes.

use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::CircuitBreaker;

/// Milliseconds since the upstream was made.
pub(super) type Millis = u64;

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Everything. So many calls failed since one succeeded, the last at that time.
    Closed { failures: u32, last: Millis },
    /// Nothing until then; then one call.
    Open { until: Millis },
    /// Nothing more: one call is under way, and decides.
    HalfOpen,
}

/// How a call was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// As one of many.
    Plain,
    /// As the one that decides.
    Probe,
}

impl State {
    const BEGINNING: Self = Self::Closed { failures: 0, last: 0 };

    /// Lets a call through, or says for how long none is; not at all while one is under way that
    /// decides.
    fn admit(self, now: Millis) -> Result<(Self, Pass), Millis> {
        match self {
            Self::Closed { .. } => Ok((self, Pass::Plain)),
            Self::Open { until } if now >= until => Ok((Self::HalfOpen, Pass::Probe)),
            Self::Open { until } => Err(until - now),
            Self::HalfOpen => Err(0),
        }
    }

    /// A call succeeded. What was let through before the breaker opened decides nothing.
    fn well(self, pass: Pass) -> Self {
        match (self, pass) {
            (Self::Closed { .. }, _) | (Self::HalfOpen, Pass::Probe) => Self::BEGINNING,
            (Self::Open { .. } | Self::HalfOpen, _) => self,
        }
    }

    /// A call failed that was sent at `began`. Of those that were under way together when a server
    /// broke off only one counts: a restart is one failure, however many calls it costs.
    fn sick(self, pass: Pass, began: Millis, now: Millis, rules: &CircuitBreaker) -> Self {
        let open_for = u64::try_from(rules.open_for.as_millis()).unwrap_or(MAX_TIME);
        let open = Self::Open { until: now.saturating_add(open_for) };
        match (self, pass) {
            (Self::HalfOpen, Pass::Probe) => open,
            (Self::Closed { failures, last }, _) if failures == 0 || began >= last => {
                let failures = failures.saturating_add(1);
                if rules.failures > 0 && failures >= rules.failures {
                    open
                } else {
                    Self::Closed { failures, last: now }
                }
            }
            (Self::Closed { .. } | Self::Open { .. } | Self::HalfOpen, _) => self,
        }
    }

    /// The call that was to decide came to no end: the next one decides.
    fn abandoned(self, now: Millis) -> Self {
        match self {
            Self::HalfOpen => Self::Open { until: now },
            Self::Closed { .. } | Self::Open { .. } => self,
        }
    }

    pub(super) const fn is_closed(self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    const fn pack(self) -> u64 {
        let (kind, failures, time) = match self {
            Self::Closed { failures, last } => (0, failures, last),
            Self::Open { until } => (1, 0, until),
            Self::HalfOpen => (2, 0, 0),
        };
        let failures = if failures > MAX_FAILURES { MAX_FAILURES } else { failures };
        let time = if time > MAX_TIME { MAX_TIME } else { time };
        kind << 62 | (failures as u64) << TIME_BITS | time
    }

    const fn unpack(packed: u64) -> Self {
        let time = packed & MAX_TIME;
        match packed >> 62 {
            0 => {
                let failures = (packed >> TIME_BITS) as u32 & MAX_FAILURES;
                Self::Closed { failures, last: time }
            }
            1 => Self::Open { until: time },
            _ => Self::HalfOpen,
        }
    }
}

/// Millennia of milliseconds, and more failures than a manifest may ask for.
const TIME_BITS: u32 = 48;
const MAX_TIME: u64 = (1 << TIME_BITS) - 1;
const MAX_FAILURES: u32 = (1 << 14) - 1;

/// The breaker of one server.
#[derive(Debug)]
pub(super) struct Breaker(AtomicU64);

/// What a change made of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) from: State,
    pub(super) to: State,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(State::BEGINNING.pack()))
    }

    pub(super) fn state(&self) -> State {
        State::unpack(self.0.load(Ordering::Relaxed))
    }

    /// Lets a call through, or says for how long none is.
    pub(super) fn admit(&self, now: Millis) -> Result<(Pass, Turn), Millis> {
        loop {
            let from = self.state();
            let (to, pass) = from.admit(now)?;
            if self.turn(from, to) {
                return Ok((pass, Turn { from, to }));
            }
        }
    }

    pub(super) fn well(&self, pass: Pass) -> Turn {
        self.change(|state| state.well(pass))
    }

    pub(super) fn sick(
        &self,
        pass: Pass,
        began: Millis,
        now: Millis,
        rules: &CircuitBreaker,
    ) -> Turn {
        self.change(|state| state.sick(pass, began, now, rules))
    }

    pub(super) fn abandoned(&self, now: Millis) -> Turn {
        self.change(|state| state.abandoned(now))
    }

    /// Closes it: what was known of the server says nothing of it any more.
    pub(super) fn reset(&self) -> Turn {
        self.change(|_| State::BEGINNING)
    }

    fn change(&self, change: impl Fn(State) -> State) -> Turn {
        loop {
            let from = self.state();
            let to = change(from);
            if self.turn(from, to) {
                return Turn { from, to };
            }
        }
    }

    /// False if another thread was quicker.
    fn turn(&self, from: State, to: State) -> bool {
        let (from, to) = (from.pack(), to.pack());
        from == to
            || self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const RULES: CircuitBreaker =
        CircuitBreaker { failures: 3, open_for: Duration::from_millis(100) };

    /// Calls that fail one after the other, a millisecond each.
    fn failing(mut state: State, times: std::ops::Range<Millis>) -> State {
        for now in times {
            let (admitted, pass) = state.admit(now).unwrap();
            state = admitted.sick(pass, now, now + 1, &RULES);
        }
        state
    }

    #[test]
    fn failures_in_a_row_open_it_for_a_time() {
        let state = failing(State::BEGINNING, 0..2);
        assert_eq!(state.admit(2), Ok((state, Pass::Plain)));

        let state = failing(state, 2..3);

        assert_eq!(state, State::Open { until: 103 });
        assert_eq!(state.admit(3), Err(100));
        assert_eq!(state.admit(102), Err(1));
    }

    #[test]
    fn a_success_between_begins_the_count_anew() {
        let state = failing(State::BEGINNING, 0..2).well(Pass::Plain);

        assert_eq!(state, State::BEGINNING);
        assert!(failing(state, 2..4).is_closed());
    }

    #[test]
    fn of_calls_that_break_off_together_one_counts() {
        let mut state = State::BEGINNING;
        // Ten at a time that were sent at 0 and ended from 5 on.
        for now in 5..15 {
            state = state.sick(Pass::Plain, 0, now, &RULES);
        }
        assert_eq!(state, State::Closed { failures: 1, last: 5 });

        state = state.sick(Pass::Plain, 6, 20, &RULES);
        assert_eq!(state, State::Closed { failures: 2, last: 20 });
    }

    #[test]
    fn when_the_time_is_over_one_call_decides() {
        let open = State::Open { until: 100 };

        let (half, pass) = open.admit(100).unwrap();
        assert_eq!((half, pass), (State::HalfOpen, Pass::Probe));
        assert_eq!(half.admit(101), Err(0));

        assert_eq!(half.well(Pass::Probe), State::BEGINNING);
        assert_eq!(half.sick(Pass::Probe, 100, 150, &RULES), State::Open { until: 250 });
        // Its client went away.
        assert_eq!(half.abandoned(150), State::Open { until: 150 });
    }

    #[test]
    fn what_was_let_through_before_decides_nothing() {
        for state in [State::Open { until: 100 }, State::HalfOpen] {
            assert_eq!(state.well(Pass::Plain), state);
            assert_eq!(state.sick(Pass::Plain, 0, 50, &RULES), state);
        }
    }

    #[test]
    fn with_no_failures_to_count_it_never_opens() {
        let never = CircuitBreaker { failures: 0, ..RULES };
        let mut state = State::BEGINNING;
        for now in 0..20_000 {
            state = state.sick(Pass::Plain, now, now, &never);
        }
        assert!(state.is_closed());
    }

    #[test]
    fn of_many_threads_one_gets_the_call_that_decides() {
        let breaker = Breaker::new();
        breaker.change(|_| State::Open { until: 1 });

        let passes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| breaker.admit(1))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert_eq!(passes.iter().filter(|pass| pass.is_ok()).count(), 1);
        assert_eq!(breaker.state(), State::HalfOpen);
    }

    proptest! {
        #[test]
        fn a_state_is_read_as_it_was_written(
            failures in 0..=MAX_FAILURES, time in 0..=MAX_TIME, kind in 0..3,
        ) {
            let state = match kind {
                0 => State::Closed { failures, last: time },
                1 => State::Open { until: time },
                _ => State::HalfOpen,
            };
            prop_assert_eq!(State::unpack(state.pack()), state);
        }

        /// Whatever happens, an open breaker lets a call through once its time is over.
        #[test]
        fn nothing_keeps_it_open_for_good(signs in proptest::collection::vec((0..4, 0_u64..300), 0..60)) {
            let (mut state, mut now, mut held) = (State::BEGINNING, 0, None);
            for (sign, step) in signs {
                now += step;
                if let Ok((admitted, pass)) = state.admit(now) {
                    state = admitted;
                    held = (pass == Pass::Probe).then_some(pass).or(held);
                }
                state = match sign {
                    0 => state.well(held.take().unwrap_or(Pass::Plain)),
                    1 => state.sick(held.take().unwrap_or(Pass::Plain), now, now, &RULES),
                    2 if held.take().is_some() => state.abandoned(now),
                    _ => state,
                };
            }
            if held.is_some() {
                state = state.abandoned(now);
            }
            prop_assert!(state.admit(now + 100).is_ok(), "{state:?} at {now}");
        }
    }
}
