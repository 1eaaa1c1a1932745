//! What an administrator can do. The command line is one face of [`ops`].

pub mod ops;
#[cfg(test)]
mod tests;
