//! Where entries come from.

mod directory;
mod manifest;

pub(crate) use directory::watch as watch_directory;
