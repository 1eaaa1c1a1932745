//! Whole stories across issuer and verifiers, with real processes, sockets, signals and seconds.

mod commands;
mod emergency;
mod harness;
mod hostile;
mod refusals;
mod restart;
mod rotation;
mod wire;
