//! APIs that are not OAuth's. Their errors are `application/problem+json` (RFC 9457).

mod cookies;
mod origin;
mod problem;
pub(crate) mod session;
#[cfg(test)]
mod tests;
