//! What an administrator can do. The command line is one face of [`ops`] and [`users`].

pub mod ops;
#[cfg(test)]
mod tests;
pub mod users;
