//! Where entries come from.

pub(crate) mod cluster;
mod contact;
mod directory;
mod manifest;

pub(crate) use cluster::watch as watch_cluster;
pub(crate) use contact::Contact;
pub(crate) use directory::watch as watch_directory;
