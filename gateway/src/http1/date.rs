//! The date of an answer.

use std::cell::RefCell;

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

thread_local! {
    /// The second that was written last, and how.
    static WRITTEN: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Writes the header `Date` (RFC 9110 §6.6.1). It is put into words once a second.
pub(super) fn put(out: &mut BytesMut) {
    let now = Timestamp::now();
    WRITTEN.with_borrow_mut(|(second, words)| {
        if *second != now.as_second() {
            // Only years beyond four digits have no such words.
            *words = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap_or_default();
            *second = now.as_second();
        }
        out.put_slice(b"date: ");
        out.put_slice(words.as_bytes());
        out.put_slice(b"\r\n");
    });
}
