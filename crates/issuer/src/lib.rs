//! x

pub mod clients;
pub mod config;
