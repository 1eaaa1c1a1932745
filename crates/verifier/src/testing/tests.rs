//! What the faults do to a real verifier.
