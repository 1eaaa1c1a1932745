//! What keys and tokens are accepted and refused, seen from outside the crate.

mod dpop;
mod explaining;
mod hostile;
mod keys;
mod rejections;
mod rfc;
mod signing;
