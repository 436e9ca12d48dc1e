//! How many calls one server has under way: so many places, and a bounded queue for them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::fault::Fault;

/// Who waits longer is told so: a model goes on with something else meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Places in the queue for each at the server, and at least so many: calls come in bursts.
const QUEUE: usize = 4;
const MIN_QUEUE: usize = 16;

/// A call's place at a server, given up when it is dropped.
pub(crate) type Place = OwnedSemaphorePermit;

/// A place that is waited for.
pub(crate) type Waiting = BoxFuture<'static, Result<Place, Fault>>;

/// The places at one server.
#[derive(Debug)]
pub(super) struct Gate {
    max: u32,
    places: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

/// What a call finds.
pub(super) enum Entrance {
    Place(Place),
    Queue(Waiting),
}

impl Gate {
    pub(super) fn new(max: u32) -> Self {
        let places = usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS);
        let queue = places.saturating_mul(QUEUE).max(MIN_QUEUE);
        let semaphore =
            |places: usize| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { max, places: semaphore(places), queue: semaphore(queue) }
    }

    /// A place, at once or when it is a call's turn.
    ///
    /// # Errors
    /// When too many wait already, and later when it takes too long.
    pub(super) fn enter(&self) -> Result<Entrance, Fault> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(Entrance::Place(place));
        }
        let busy = Fault::Busy(self.max);
        let Ok(turn) = self.queue.clone().try_acquire_owned() else { return Err(busy) };
        let places = self.places.clone();
        Ok(Entrance::Queue(Box::pin(async move {
            let _turn = turn;
            // They are never closed.
            timeout(PATIENCE, places.acquire_owned()).await.ok().and_then(Result::ok).ok_or(busy)
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(entrance: Result<Entrance, Fault>) -> Place {
        match entrance {
            Ok(Entrance::Place(place)) => place,
            Ok(Entrance::Queue(_)) => panic!("it has to wait"),
            Err(fault) => panic!("{fault}"),
        }
    }

    fn waiting(entrance: Result<Entrance, Fault>) -> Waiting {
        match entrance {
            Ok(Entrance::Queue(waiting)) => waiting,
            Ok(Entrance::Place(_)) => panic!("it has a place"),
            Err(fault) => panic!("{fault}"),
        }
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_of_who_leaves() {
        let gate = Gate::new(2);
        let (first, _second) = (place(gate.enter()), place(gate.enter()));

        let third = waiting(gate.enter());
        drop(first);

        let third = third.await.unwrap();
        let fourth = waiting(gate.enter());
        drop(third);
        drop(fourth.await.unwrap());
        drop(place(gate.enter()));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_who_leaves_it_makes_room() {
        for (places, queue) in [(1, 16), (4, 16), (5, 20), (100, 400)] {
            let gate = Gate::new(places);
            let _held: Vec<_> = (0..places).map(|_| place(gate.enter())).collect();
            let mut waiters: Vec<_> = (0..queue).map(|_| waiting(gate.enter())).collect();

            assert_eq!(gate.enter().err(), Some(Fault::Busy(places)));
            waiters.pop();
            drop(waiting(gate.enter()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let gate = Gate::new(1);
        let _held = place(gate.enter());

        assert_eq!(waiting(gate.enter()).await.err(), Some(Fault::Busy(1)));
    }
}
