//! Which objects of a kind are to be looked at again: a set, so that a storm of reasons stays one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, stream};
use tokio::sync::Notify;

/// Namespace and name.
pub(crate) type Id = (String, String);

/// Rings for objects of one kind.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// Bounded by the number of objects there are.
    waiting: Mutex<HashSet<Id>>,
    rung: Notify,
}

impl Bell {
    /// Has the object looked at again.
    pub(crate) fn ring(&self, namespace: &str, name: &str) {
        self.ring_all([(namespace.to_owned(), name.to_owned())]);
    }

    /// Has all of them looked at again.
    pub(crate) fn ring_all(&self, all: impl IntoIterator<Item = Id>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(all);
        self.rung.notify_one();
    }

    /// For whom it rings. One listener only.
    pub(crate) fn listen(self: Arc<Self>) -> impl Stream<Item = Id> + Send {
        stream::unfold((self, Vec::new()), |(bell, mut taken): (Arc<Self>, Vec<Id>)| async move {
            loop {
                if let Some(id) = taken.pop() {
                    return Some((id, (bell, taken)));
                }
                taken = bell.take();
                if taken.is_empty() {
                    bell.rung().await;
                }
            }
        })
    }

    /// Whether it rings for nobody.
    #[cfg(test)]
    pub(crate) fn is_silent(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Until it rang for somebody.
    pub(crate) async fn rung(&self) {
        self.rung.notified().await;
    }

    /// For whom it rang since it was last asked.
    pub(crate) fn take(&self) -> Vec<Id> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn many_rings_for_one_object_are_one() {
        let bell = Arc::new(Bell::default());
        let mut heard = pin!(bell.clone().listen());
        assert!(heard.next().now_or_never().is_none());

        for _ in 0..3 {
            bell.ring("team", "git");
        }

        let first = heard.next().now_or_never().flatten();
        assert_eq!(first, Some(("team".to_owned(), "git".to_owned())));
        assert!(heard.next().now_or_never().is_none());
        bell.ring("team", "git");
        assert!(heard.next().now_or_never().is_some());
    }
}
