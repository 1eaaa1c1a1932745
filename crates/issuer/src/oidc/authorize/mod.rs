//! `/oauth2/authorize` (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2).

mod claims_request;
mod decision;
mod progress;
mod request;
mod response;
