//! Tokens bound to their holder (RFC 7800): whoever presents one has to prove to have the key it names.
//!
//! Two bindings are understood: to a DPoP key by its thumbprint (`jkt`, RFC 9449 §6.1) and to a client certificate by
//! the hash of it (`x5t#S256`, RFC 8705 §3.1). A token that names both demands both.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Rejection;
use crate::json::{Json, Object};
use crate::rejection::shown;

/// What a token is bound to: its `cnf` claim. It names at least one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    jkt: Option<Box<str>>,
    x5t_s256: Option<Box<str>>,
}

/// What whoever presents a token has proved to have. The proofs themselves are checked before: the DPoP proof by
/// [`crate::check_dpop`], the certificate by the TLS handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The thumbprint of the key that signed the DPoP proof.
    pub jkt: Option<&'a str>,
    /// The thumbprint of the client certificate of the connection; see [`certificate_thumbprint`].
    pub x5t_s256: Option<&'a str>,
}

/// A way to prove that a key is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProofMethod {
    /// A signed proof beside the token (RFC 9449).
    Dpop,
    /// The client certificate of the TLS connection (RFC 8705).
    Certificate,
}

impl Confirmation {
    /// The thumbprint of the DPoP key, if the token is bound to one.
    pub fn jkt(&self) -> Option<&str> {
        self.jkt.as_deref()
    }

    /// The thumbprint of the client certificate, if the token is bound to one.
    pub fn x5t_s256(&self) -> Option<&str> {
        self.x5t_s256.as_deref()
    }

    /// Reads `cnf`. A member that is not understood is refused: RFC 7800 §3.1 would ignore it, but a reader that
    /// ignores a binding lets the token be used without it.
    pub(crate) fn read(claims: &Object<'_>) -> Result<Option<Self>, Rejection> {
        let unsupported = |found: String| Rejection::UnsupportedConfirmation { found };
        let members = match claims.get("cnf") {
            None => return Ok(None),
            Some(Json::Object(members)) => members,
            Some(other) => return Err(unsupported(other.kind().to_owned())),
        };
        if let Some(name) = members.names().find(|name| !["jkt", "x5t#S256"].contains(name)) {
            return Err(unsupported(shown(name)));
        }
        let thumbprint = |member: &str| match members.get(member) {
            None => Ok(None),
            Some(Json::String(text)) if is_thumbprint(text) => Ok(Some(text.as_ref().into())),
            Some(_) => Err(unsupported(format!("{member} that is no SHA-256 in base64url"))),
        };
        let confirmation = Self { jkt: thumbprint("jkt")?, x5t_s256: thumbprint("x5t#S256")? };
        if confirmation.jkt.is_none() && confirmation.x5t_s256.is_none() {
            return Err(unsupported("an empty object".to_owned()));
        }
        Ok(Some(confirmation))
    }
}

impl Holder<'_> {
    /// Whether a token with this confirmation is the holder's to use. Everything the token is bound to has to be
    /// proved. A DPoP proof beside a token that is not bound to a DPoP key is refused (RFC 9449 §7.1); a certificate
    /// is not, since connections carry one for other reasons.
    ///
    /// # Errors
    /// - [`Rejection::SenderConstrained`]: a proof is missing
    /// - [`Rejection::ProofMismatch`]: a proof is of another key
    /// - [`Rejection::NotBound`]: a DPoP proof that proves nothing about this token
    pub fn may_use(&self, confirmation: Option<&Confirmation>) -> Result<(), Rejection> {
        let bound_to = |read: fn(&Confirmation) -> Option<&str>| confirmation.and_then(read);
        let key = bound_to(Confirmation::jkt);
        if self.jkt.is_some() && key.is_none() {
            return Err(Rejection::NotBound);
        }
        for (method, demanded, proved) in [
            (ProofMethod::Dpop, key, self.jkt),
            (ProofMethod::Certificate, bound_to(Confirmation::x5t_s256), self.x5t_s256),
        ] {
            match (demanded, proved) {
                (Some(_), None) => return Err(Rejection::SenderConstrained),
                (Some(demanded), Some(proved)) if demanded != proved => {
                    return Err(Rejection::ProofMismatch { method });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The `x5t#S256` of a certificate in DER: its SHA-256 in base64url (RFC 8705 §3.1).
pub fn certificate_thumbprint(der: &[u8]) -> String {
    sha256_base64url(der)
}

pub(crate) fn sha256_base64url(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, octets))
}

/// Whether this is a SHA-256 in canonical base64url.
fn is_thumbprint(text: &str) -> bool {
    text.len() == THUMBPRINT_CHARS && URL_SAFE_NO_PAD.decode(text).is_ok()
}

const THUMBPRINT_CHARS: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    const CERTIFICATE: &str = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0";

    fn read(claims: &str) -> Result<Option<Confirmation>, Rejection> {
        let Json::Object(claims) = serde_json::from_str(claims).expect("test input is JSON") else {
            panic!("the text is an object")
        };
        Confirmation::read(&claims)
    }

    fn confirmation(jkt: Option<&str>, x5t_s256: Option<&str>) -> Confirmation {
        Confirmation { jkt: jkt.map(Into::into), x5t_s256: x5t_s256.map(Into::into) }
    }

    #[test]
    fn both_bindings_are_read() {
        assert_eq!(read("{}"), Ok(None));
        for (claims, expected) in [
            (format!(r#"{{"cnf":{{"jkt":"{KEY}"}}}}"#), confirmation(Some(KEY), None)),
            (format!(r#"{{"cnf":{{"x5t#S256":"{KEY}"}}}}"#), confirmation(None, Some(KEY))),
            (format!(r#"{{"cnf":{{"x5t#S256":"{CERTIFICATE}","jkt":"{KEY}"}}}}"#), {
                confirmation(Some(KEY), Some(CERTIFICATE))
            }),
        ] {
            assert_eq!(read(&claims), Ok(Some(expected)), "{claims}");
        }
    }

    #[test]
    fn a_binding_that_is_not_understood_is_refused() {
        let cut = &KEY[1..];
        for cnf in [
            "null".to_owned(),
            "true".to_owned(),
            "[]".to_owned(),
            format!("\"{KEY}\""),
            "{}".to_owned(),
            r#"{"jkt":null}"#.to_owned(),
            r#"{"jkt":""}"#.to_owned(),
            format!(r#"{{"jkt":["{KEY}"]}}"#),
            format!(r#"{{"jkt":"{cut}"}}"#),
            format!(r#"{{"jkt":"{KEY}A"}}"#),
            format!(r#"{{"jkt":"{cut}="}}"#),
            format!(r#"{{"jkt":"{cut}+"}}"#),
            // The last letter of 43 carries four bits; its other two have to be zero.
            format!(r#"{{"jkt":"{}B"}}"#, &KEY[..42]),
            format!(r#"{{"x5t#S256":"{cut}"}}"#),
            format!(r#"{{"jkt":"{KEY}","x5t#S256":1}}"#),
            format!(r#"{{"jkt":"{KEY}","jwk":{{}}}}"#),
            format!(r#"{{"jkt":"{KEY}","JKT":"{KEY}"}}"#),
            r#"{"kid":"a"}"#.to_owned(),
        ] {
            let refused = read(&format!(r#"{{"cnf":{cnf}}}"#)).map_err(|rejection| rejection.code());
            assert_eq!(refused, Err("unsupported_confirmation"), "{cnf}");
        }
    }

    #[test]
    fn everything_a_token_is_bound_to_has_to_be_proved() {
        let mismatch = |method| Err(Rejection::ProofMismatch { method });
        let (key, certificate) = (Some(KEY), Some(CERTIFICATE));
        let both = confirmation(key, certificate);
        for (bound, jkt, x5t_s256, expected) in [
            (None, None, None, Ok(())),
            (None, None, certificate, Ok(())),
            (None, key, None, Err(Rejection::NotBound)),
            (Some(confirmation(key, None)), key, None, Ok(())),
            (Some(confirmation(key, None)), key, certificate, Ok(())),
            (Some(confirmation(key, None)), None, None, Err(Rejection::SenderConstrained)),
            (Some(confirmation(key, None)), None, certificate, Err(Rejection::SenderConstrained)),
            (Some(confirmation(key, None)), certificate, None, mismatch(ProofMethod::Dpop)),
            (Some(confirmation(None, certificate)), None, certificate, Ok(())),
            (Some(confirmation(None, certificate)), None, key, mismatch(ProofMethod::Certificate)),
            (Some(confirmation(None, certificate)), certificate, certificate, Err(Rejection::NotBound)),
            (Some(both.clone()), key, certificate, Ok(())),
            (Some(both.clone()), key, None, Err(Rejection::SenderConstrained)),
            (Some(both.clone()), None, certificate, Err(Rejection::SenderConstrained)),
            (Some(both.clone()), key, key, mismatch(ProofMethod::Certificate)),
            (Some(both), certificate, key, mismatch(ProofMethod::Dpop)),
        ] {
            assert_eq!(Holder { jkt, x5t_s256 }.may_use(bound.as_ref()), expected, "{bound:?} {jkt:?} {x5t_s256:?}");
        }
    }

    #[test]
    fn a_certificate_is_named_by_its_hash() {
        // SHA-256 of "abc", FIPS 180-2 §B.1.
        assert_eq!(certificate_thumbprint(b"abc"), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    }
}
