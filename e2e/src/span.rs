//! Stretches of time, to tell what went on meanwhile.

use tokio::time::Instant;

/// From one moment to another.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    from: Instant,
    to: Instant,
}

impl Span {
    /// From then until now.
    pub fn since(from: Instant) -> Self {
        Self { from, to: Instant::now() }
    }

    /// Whether there is a moment that is part of both.
    pub fn meets(&self, other: &Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn spans_meet_that_share_a_moment() {
        let now = Instant::now();
        let span = |from, to| Span {
            from: now + Duration::from_secs(from),
            to: now + Duration::from_secs(to),
        };

        for (other, meets) in [
            (span(0, 1), false),
            (span(0, 2), true),
            (span(0, 9), true),
            (span(3, 3), true),
            (span(4, 5), true),
            (span(5, 6), false),
        ] {
            assert_eq!(span(2, 4).meets(&other), meets, "{other:?}");
            assert_eq!(other.meets(&span(2, 4)), meets, "{other:?}");
        }
    }
}
