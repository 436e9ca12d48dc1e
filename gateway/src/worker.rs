//! Worker threads: each has a runtime of its own, so that a call never crosses threads.
//!
//! What all of them use they hold by an [`Arc`] of their own: whoever takes hold of something and lets
//! go writes its count, and memory that several processors write travels between them each time, which
//! takes longer than most of what a call needs.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// Number of this thread: 0 is control, workers count from 1.
pub(crate) fn index() -> usize {
    INDEX.get()
}

/// Makes this thread a worker.
pub(crate) fn enter(index: usize) {
    INDEX.set(index);
}

/// How many workers there are, without control: one a processor. Asked once: the answer takes the kernel
/// as long as it takes to write down all mounts.
pub(crate) fn count() -> usize {
    static COUNT: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    *COUNT
}

/// One value for each worker and control.
#[derive(Debug)]
pub(crate) struct PerWorker<T>(Box<[T]>);

impl<T: Default> Default for PerWorker<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T> PerWorker<T> {
    pub(crate) fn new(make: impl FnMut() -> T) -> Self {
        Self(std::iter::repeat_with(make).take(count() + 1).collect())
    }

    /// This worker's. Threads that are none share control's.
    pub(crate) fn here(&self) -> &T {
        self.0.get(index()).unwrap_or(&self.0[0])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

/// Stands for this worker's.
impl<T> Deref for PerWorker<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.here()
    }
}

/// What one worker has of what all share.
#[derive(Debug)]
pub(crate) struct Share<T>(Arc<T>);

impl<T> Deref for Share<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

/// A hold on something that all workers share, which is counted by one of them alone.
pub(crate) type Local<T> = Arc<Share<T>>;

/// Something that all workers share, held by each.
pub(crate) type Shared<T> = Arc<PerWorker<Local<T>>>;

pub(crate) fn shared<T>(all: &Arc<T>) -> Shared<T> {
    Arc::new(PerWorker::new(|| Arc::new(Share(all.clone()))))
}
