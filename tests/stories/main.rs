//! Whole stories across issuer and verifiers, with real processes, sockets, signals and seconds.

mod adversarial;
mod book;
mod commands;
mod deploy;
mod emergency;
mod fetches;
mod harness;
mod hostile;
mod mixed;
mod observe;
mod proxies;
mod refusals;
mod replicas;
mod restart;
mod rotation;
mod sign_in;
mod soak;
mod tls;
mod upgrade;
mod wire;
