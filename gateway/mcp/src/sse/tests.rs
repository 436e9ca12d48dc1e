//! Behaviour of the event stream codec.
