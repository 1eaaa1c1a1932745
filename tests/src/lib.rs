//! Whole stories across issuer and verifier.
