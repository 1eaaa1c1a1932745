//! Client authentication at the token, introspection and revocation endpoints (RFC 6749 §2.3, OpenID Connect Core §9).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use tracing::info;

use super::{OAuthError, client_assertion};
use crate::app::App;
use crate::clients::{Client, ClientAuthMethod};
use crate::http::request::{Form, RequestBody, decode};
use crate::registry::Registry;
use crate::telemetry;

/// What a request brings to show which client sent it.
enum Presented<'f> {
    /// A secret in the `Authorization` header.
    InHeader { id: String, secret: String },
    /// A secret in the body.
    InBody { id: &'f str, secret: &'f str },
    /// A signed assertion, which names the client; the body may as well.
    Assertion { assertion: &'f str, id: Option<&'f str> },
    /// Nothing but its name, as public clients do.
    Name(&'f str),
}

/// Reads the parameters of a request of a client.
///
/// # Errors
/// - [`OAuthError::Unreadable`]: no form, or not one as it should be
/// - [`OAuthError::InvalidRequest`]: parameters in the address, where they would be logged ("MUST NOT be included in the
///   request URI", RFC 6749 §2.3.1)
pub(super) async fn read<B: RequestBody>(app: &App, parts: &Parts, body: B) -> Result<Form, OAuthError> {
    if parts.uri.query().is_some() {
        return Err(OAuthError::InvalidRequest("parameters belong into the body, not into the address"));
    }
    let server = &app.config.server;
    Ok(Form::read(&parts.headers, body, server.max_body_bytes, server.body_timeout).await?)
}

/// Finds out which client sent a request to `endpoint`: the first step of every endpoint for clients.
///
/// # Errors
/// Those of [`authenticate`]
pub(super) async fn identify(
    app: &App,
    headers: &HeaderMap,
    form: &Form,
    endpoint: &str,
) -> Result<Arc<Client>, OAuthError> {
    let client = authenticate(app, headers, form, endpoint).await.inspect_err(|refusal| {
        info!(reason = %refusal, "a client did not authenticate");
    })?;
    telemetry::client_is(&client);
    Ok(client)
}

/// Finds out which client sent a request to `endpoint`. A client can use only the method it is registered for; a secret
/// whose method was left open can be sent either way.
///
/// Secrets and names are held against the registry in memory; only an assertion takes the database and perhaps the network.
///
/// # Errors
/// - [`OAuthError::InvalidRequest`]: more than one method, or the same twice ("The client MUST NOT use more than one
///   authentication method in each request", RFC 6749 §2.3)
/// - [`OAuthError::InvalidClient`]: no method, an unknown client, a wrong secret, a malformed header, an assertion that
///   does not hold
/// - [`OAuthError::Storage`]: whether an assertion was used before is not known
async fn authenticate(app: &App, headers: &HeaderMap, form: &Form, endpoint: &str) -> Result<Arc<Client>, OAuthError> {
    match Presented::read(headers, form)? {
        // In a box, so that the requests without one are not the larger for it.
        Presented::Assertion { assertion, id } => {
            Box::pin(client_assertion::authenticate(app, assertion, id, endpoint)).await
        }
        presented => presented.known(&app.clients()),
    }
}

impl<'f> Presented<'f> {
    fn read(headers: &HeaderMap, form: &'f Form) -> Result<Self, OAuthError> {
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        let authorization = authorizations.next();
        if authorizations.next().is_some() {
            return Err(OAuthError::InvalidRequest("the Authorization header is included more than once"));
        }
        let (id, secret, assertion) = (form.get("client_id"), form.get("client_secret"), form.get("client_assertion"));
        match (authorization, secret, assertion) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                Err(OAuthError::InvalidRequest("more than one client authentication method is used"))
            }
            (Some(header), None, None) => {
                let (named, secret) = basic_credentials(header.as_bytes()).ok_or(OAuthError::InvalidClient)?;
                // RFC 6749 §3.2.1: a client may name itself in the body too; it can't name another.
                if id.is_some_and(|id| named != id) {
                    return Err(OAuthError::InvalidRequest("client_id is not the client that authenticates"));
                }
                Ok(Self::InHeader { id: named, secret })
            }
            (None, Some(secret), None) => Ok(Self::InBody { id: id.ok_or(OAuthError::InvalidClient)?, secret }),
            (None, None, Some(assertion)) => match form.get("client_assertion_type") {
                Some(client_assertion::JWT_BEARER) => Ok(Self::Assertion { assertion, id }),
                Some(_) => Err(OAuthError::InvalidClient),
                None => Err(OAuthError::InvalidRequest("client_assertion_type is missing")),
            },
            (None, None, None) if form.get("client_assertion_type").is_some() => {
                Err(OAuthError::InvalidRequest("client_assertion is missing"))
            }
            (None, None, None) => Ok(Self::Name(id.ok_or(OAuthError::InvalidClient)?)),
        }
    }

    /// The client, as far as memory can tell.
    fn known(self, registry: &Registry) -> Result<Arc<Client>, OAuthError> {
        let (client, method) = match self {
            Self::InHeader { id, secret } => (registry.authenticate(&id, &secret), ClientAuthMethod::ClientSecretBasic),
            Self::InBody { id, secret } => (registry.authenticate(id, secret), ClientAuthMethod::ClientSecretPost),
            Self::Name(id) => (registry.find(id).filter(|client| client.is_public()).cloned(), ClientAuthMethod::None),
            Self::Assertion { .. } => return Err(OAuthError::InvalidClient),
        };
        let client = client.ok_or(OAuthError::InvalidClient)?;
        match client.auth_method() {
            Some(registered) if registered != method => Err(OAuthError::InvalidClient),
            _ => Ok(client),
        }
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
        let found = Presented::read(&map, &form).and_then(|presented| presented.known(registry));
        found.map(|client| client.id.clone()).map_err(|error| error.code())
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
        let assertion = format!("client_assertion=a.b.c&client_assertion_type={}", client_assertion::JWT_BEARER);
        let secret = format!("client_id=shop%2B1&client_secret={SECRET}");
        assert_eq!(attempt(&registry(None), &[&header], &assertion), Err("invalid_request"));
        assert_eq!(attempt(&registry(None), &[], &format!("{assertion}&{secret}")), Err("invalid_request"));
    }

    #[test]
    fn an_assertion_comes_with_its_type() {
        assert_eq!(attempt(&registry(None), &[], "client_assertion=a.b.c"), Err("invalid_request"));
        let alone = format!("client_id=shop%2B1&client_assertion_type={}", client_assertion::JWT_BEARER);
        assert_eq!(attempt(&registry(None), &[], &alone), Err("invalid_request"));
        let saml = "client_assertion=x&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
        assert_eq!(attempt(&registry(None), &[], saml), Err("invalid_client"));
    }

    #[test]
    fn a_name_is_enough_for_a_public_client_and_for_nobody_else() {
        let app = Client::new("app", crate::clients::Authentication::None);
        let secret = crate::registry::tests::client("shop", SECRET, None);
        let registry = Registry::new([app, secret]);

        assert_eq!(attempt(&registry, &[], "client_id=app"), Ok("app".to_owned()));
        assert_eq!(attempt(&registry, &[], "client_id=shop"), Err("invalid_client"));
        assert_eq!(attempt(&registry, &[], &format!("client_id=app&client_secret={SECRET}")), Err("invalid_client"));
        assert_eq!(attempt(&registry, &[&basic("app:x")], ""), Err("invalid_client"));
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
