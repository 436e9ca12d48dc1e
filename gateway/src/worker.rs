//! Worker threads: each has a runtime of its own, so that a call never crosses threads.

use std::cell::Cell;

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

/// How many workers there are, without control: one a processor.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
