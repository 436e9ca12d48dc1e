//! Calls that go on while something happens, counted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use serde_json::Value;
use tokio::task::JoinSet;

use super::Open;

/// Calls under way in every session.
#[derive(Debug)]
pub(crate) struct Traffic {
    open: Vec<Arc<Open>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: JoinSet<Vec<String>>,
}

impl Traffic {
    /// Every session makes each of these calls, again as soon as it is answered.
    pub(crate) fn start(open: Vec<Open>, calls: &[(&str, Value)]) -> Self {
        let open: Vec<_> = open.into_iter().map(Arc::new).collect();
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut callers = JoinSet::new();
        for open in &open {
            for session in 0..open.sessions.count() {
                for (tool, arguments) in calls {
                    let (tool, arguments) = ((*tool).to_owned(), arguments.clone());
                    let (open, stop, answered) = (open.clone(), stop.clone(), answered.clone());
                    callers.spawn(async move {
                        let mut lost = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            match open.sessions.call(session, &tool, arguments.clone()).await {
                                Ok(answer) if !answer.is_error => {
                                    answered.fetch_add(1, Ordering::Relaxed);
                                }
                                Ok(answer) => {
                                    lost.push(format!("{}: {tool}: {answer:?}", open.case));
                                }
                                Err(error) => {
                                    lost.push(format!("{}: {tool}: {error:#}", open.case));
                                }
                            }
                        }
                        lost
                    });
                }
            }
        }
        Self { open, stop, answered, callers }
    }

    /// How many calls were answered so far.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for the last calls. Gives the sessions, how many calls were answered, and those that were not.
    pub(crate) async fn stop(self) -> (Vec<Arc<Open>>, usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self.callers.join_all().await.concat();
        (self.open, self.answered.load(Ordering::Relaxed), lost)
    }
}
