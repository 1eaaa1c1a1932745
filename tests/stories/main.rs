//! Whole stories across issuer and verifiers, with real processes, sockets, signals and seconds.

mod harness;
mod hostile;
mod refusals;
mod rotation;
