//! Client authentication at the token endpoint (RFC 6749 §2.3).

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use http::header::AUTHORIZATION;
use std::sync::Arc;

use super::OAuthError;
use crate::clients::{Client, ClientAuthMethod};
use crate::http::request::{Form, decode};
use crate::registry::Registry;

/// Finds out which client sent a request, by its secret in the `Authorization` header or in the body.
///
/// A client that is registered for one of the two methods can use only that one.
///
/// # Errors
/// - [`OAuthError::InvalidRequest`]: more than one method, or the same twice ("The client MUST NOT use more than one
///   authentication method in each request", RFC 6749 §2.3)
/// - [`OAuthError::InvalidClient`]: no method, an unknown client, a wrong secret, a malformed header
pub(super) fn authenticate(registry: &Registry, headers: &HeaderMap, form: &Form) -> Result<Arc<Client>, OAuthError> {
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    let authorization = authorizations.next();
    if authorizations.next().is_some() {
        return Err(OAuthError::InvalidRequest("the Authorization header is included more than once"));
    }
    let (body_id, body_secret) = (form.get("client_id"), form.get("client_secret"));
    if form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some() {
        return Err(OAuthError::InvalidClient);
    }
    match authorization {
        Some(_) if body_secret.is_some() => {
            Err(OAuthError::InvalidRequest("more than one client authentication method is used"))
        }
        Some(header) => {
            let (id, secret) = basic_credentials(header.as_bytes()).ok_or(OAuthError::InvalidClient)?;
            // RFC 6749 §3.2.1: a client may name itself in the body too; it can't name another.
            if body_id.is_some_and(|named| named != id) {
                return Err(OAuthError::InvalidRequest("client_id is not the client that authenticates"));
            }
            verify(registry, &id, &secret, ClientAuthMethod::ClientSecretBasic)
        }
        None => match (body_id, body_secret) {
            (Some(id), Some(secret)) => verify(registry, id, secret, ClientAuthMethod::ClientSecretPost),
            _ => Err(OAuthError::InvalidClient),
        },
    }
}

fn verify(registry: &Registry, id: &str, secret: &str, method: ClientAuthMethod) -> Result<Arc<Client>, OAuthError> {
    let client = registry.authenticate(id, secret).ok_or(OAuthError::InvalidClient)?;
    match client.auth_method() {
        Some(registered) if registered != method => Err(OAuthError::InvalidClient),
        _ => Ok(client),
    }
}

/// `Basic BASE64(id ":" secret)`, where both were form-encoded first (RFC 6749 §2.3.1, RFC 7617 §2).
fn basic_credentials(header: &[u8]) -> Option<(String, String)> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = LENIENT_PADDING.decode(rest.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let (id, secret) = (decode(&decoded[..colon]).ok()?, decode(&decoded[colon + 1..]).ok()?);
    (!id.is_empty() && !secret.is_empty()).then_some((id, secret))
}

/// Some clients leave the padding out.
const LENIENT_PADDING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::SecretMethod;
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderValue;

    const SECRET: &str = "a-secret-of-at-least-32-characters!";

    fn registry(method: Option<SecretMethod>) -> Registry {
        Registry::new([crate::registry::tests::client("shop+1", SECRET, method)])
    }

    fn attempt(registry: &Registry, headers: &[&str], body: &str) -> Result<String, &'static str> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(AUTHORIZATION, HeaderValue::from_str(header).expect("a header"));
        }
        let form = Form::parse(body.as_bytes()).expect("a form");
        authenticate(registry, &map, &form).map(|client| client.id.clone()).map_err(|error| error.code())
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    #[test]
    fn the_header_is_form_decoded_before_it_is_compared() {
        let right = basic(&format!("shop%2B1:{}", SECRET.replace('!', "%21")));

        assert_eq!(attempt(&registry(None), &[&right], ""), Ok("shop+1".to_owned()));
        assert_eq!(attempt(&registry(None), &[&right.replace("Basic", "bAsIc")], ""), Ok("shop+1".to_owned()));
        assert_eq!(attempt(&registry(None), &[right.trim_end_matches('=')], ""), Ok("shop+1".to_owned()));
    }

    #[test]
    fn the_body_authenticates_as_well() {
        let body = format!("client_id=shop%2B1&client_secret={SECRET}");

        assert_eq!(attempt(&registry(None), &[], &body), Ok("shop+1".to_owned()));
    }

    #[test]
    fn a_registered_method_is_the_only_one() {
        let header = basic(&format!("shop%2B1:{SECRET}"));
        let body = format!("client_id=shop%2B1&client_secret={SECRET}");
        let (by_header, by_body) = (SecretMethod::Basic, SecretMethod::Post);

        assert_eq!(attempt(&registry(Some(by_header)), &[], &body), Err("invalid_client"));
        assert_eq!(attempt(&registry(Some(by_body)), &[&header], ""), Err("invalid_client"));
        assert!(attempt(&registry(Some(by_header)), &[&header], "").is_ok());
        assert!(attempt(&registry(Some(by_body)), &[], &body).is_ok());
    }

    #[test]
    fn two_methods_at_once_are_an_error() {
        let header = basic(&format!("shop%2B1:{SECRET}"));

        assert_eq!(attempt(&registry(None), &[&header, &header], ""), Err("invalid_request"));
        assert_eq!(attempt(&registry(None), &[&header], &format!("client_secret={SECRET}")), Err("invalid_request"));
        assert_eq!(attempt(&registry(None), &[&header], "client_id=another"), Err("invalid_request"));
        assert!(attempt(&registry(None), &[&header], "client_id=shop%2B1").is_ok());
    }

    #[test]
    fn a_malformed_or_wrong_header_is_no_client() {
        let cases = [
            "Basic".to_owned(),
            "Basic ".to_owned(),
            "Basic !!!".to_owned(),
            "Bearer abc".to_owned(),
            basic("no-colon"),
            basic(":"),
            basic("shop:"),
            basic("%zz:x"),
            basic("shop:%zz"),
            basic("unknown:x"),
            basic(&format!("shop%2B1:{SECRET}x")),
        ];
        for header in cases {
            assert_eq!(attempt(&registry(None), &[&header], ""), Err("invalid_client"), "{header}");
        }
        assert_eq!(attempt(&registry(None), &[], ""), Err("invalid_client"));
        assert_eq!(attempt(&registry(None), &[], "client_id=shop"), Err("invalid_client"));
        assert_eq!(attempt(&registry(None), &[], &format!("client_secret={SECRET}")), Err("invalid_client"));
    }
}
