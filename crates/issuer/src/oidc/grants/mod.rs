//! One file per grant type. A grant decides what the token says; everything that all grants share (reading the
//! request, client authentication, signing, the answer) is done by `oidc/token.rs`, so that none can forget it.

pub(super) mod client_credentials;
