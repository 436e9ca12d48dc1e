//! Room for bodies that are put together: in all, and for each key.
//!
//! They are those of requests, and of answers that ask for input and are too large to be held as they
//! are. A body that comes in one piece was in a connection's buffer already, which is bounded by the
//! number of connections; it is not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use gateway_core::Account;

/// Room for the bodies of all.
#[derive(Debug)]
pub(crate) struct Room {
    held: AtomicUsize,
    limit: usize,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// This key has all it may have.
    Key,
    /// All together have.
    All,
}

/// The room that a key has a part in.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    room: Arc<Room>,
    account: Arc<Account>,
}

/// What one body holds; given back when the last who uses the body is done.
#[derive(Debug)]
struct Held {
    room: Arc<Room>,
    account: Arc<Account>,
    bytes: usize,
}

/// A body that is put together.
#[derive(Debug)]
pub(crate) struct Pieces {
    bytes: BytesMut,
    held: Held,
}

impl Room {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit })
    }

    /// For a body of a key, of which `expected` bytes are to come.
    pub(crate) fn pieces(self: &Arc<Self>, account: &Arc<Account>, expected: usize) -> Pieces {
        let held = Held { room: self.clone(), account: account.clone(), bytes: 0 };
        Pieces { bytes: BytesMut::with_capacity(expected), held }
    }

    /// The part of a key.
    pub(crate) fn share(self: &Arc<Self>, account: &Arc<Account>) -> Share {
        Share { room: self.clone(), account: account.clone() }
    }

    fn hold(&self, bytes: usize) -> bool {
        let add = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

impl Share {
    /// For a body of the key that is as long as it comes.
    pub(crate) fn pieces(&self) -> Pieces {
        self.room.pieces(&self.account, 0)
    }
}

impl Held {
    /// One key may have a quarter, so that three others are not in its way.
    fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        if !self.account.hold(bytes, self.room.limit / 4) {
            return Err(Full::Key);
        }
        if !self.room.hold(bytes) {
            self.account.release(bytes);
            return Err(Full::All);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.release(self.bytes);
        self.room.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Pieces {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), Full> {
        self.held.grow(piece.len())?;
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// What there is of the body, as in [`Self::whole`]; what follows is another.
    pub(crate) fn take(&mut self) -> Bytes {
        let Held { room, account, .. } = &self.held;
        let next = room.pieces(account, 0);
        std::mem::replace(self, next).whole()
    }

    /// The body, which holds its room as long as any part of it is used.
    pub(crate) fn whole(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Pieces {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_quarter_and_gives_it_back() {
        let room = Room::new(100);
        let (one, two) = (Arc::default(), Arc::default());

        let mut body = room.pieces(&one, 25);
        assert_eq!(body.add(&[0; 20]), Ok(()));
        assert_eq!(body.add(&[0; 6]), Err(Full::Key));
        assert_eq!(room.pieces(&two, 0).add(&[0; 20]), Ok(()));
        let part = body.whole().slice(3..5);
        assert_eq!(room.pieces(&one, 0).add(&[0; 6]), Err(Full::Key));

        drop(part);
        assert_eq!(room.pieces(&one, 0).add(&[0; 25]), Ok(()));
        assert_eq!(room.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_together_have_no_more_than_there_is() {
        let room = Room::new(100);
        let keys: Vec<Arc<Account>> = (0..5).map(|_| Arc::default()).collect();
        let held: Vec<Bytes> = keys
            .iter()
            .take(4)
            .map(|key| {
                let mut body = room.pieces(key, 0);
                assert_eq!(body.add(&[0; 25]), Ok(()));
                body.whole()
            })
            .collect();

        assert_eq!(room.pieces(&keys[4], 0).add(&[0]), Err(Full::All));
        drop(held);
        assert_eq!(room.pieces(&keys[4], 0).add(&[0; 25]), Ok(()));
    }
}
