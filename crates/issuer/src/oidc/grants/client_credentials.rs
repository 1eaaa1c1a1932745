//! The client credentials grant (RFC 6749 §4.4): a service gets a token for itself.
//!
//! 1. The requested scopes are narrowed to the client's (RFC 6749 §3.3); without a request it gets all of them.
//! 2. The resources asked for must be among the client's audiences (RFC 8707 §2.2); without a request it is the first.

use crate::clients::Client;
use crate::http::request::Form;
use crate::oidc::OAuthError;

/// What the client may have.
pub(in crate::oidc) struct Granted<'a> {
    /// Separated by spaces, in the client's order.
    pub(in crate::oidc) scope: String,
    /// Audiences of the token.
    pub(in crate::oidc) audiences: Vec<&'a str>,
}

/// Decides on a request.
///
/// # Errors
/// - [`OAuthError::InvalidScope`]: malformed, or nothing of it is the client's
/// - [`OAuthError::InvalidTarget`]: a resource that is no absolute URI or not the client's
pub(in crate::oidc) fn decide<'a>(client: &'a Client, form: &Form, issuer: &'a str) -> Result<Granted<'a>, OAuthError> {
    Ok(Granted { scope: narrow(client, form.get("scope"))?, audiences: target(client, form, issuer)? })
}

fn narrow(client: &Client, requested: Option<&str>) -> Result<String, OAuthError> {
    let Some(requested) = requested else { return Ok(client.own_scopes().collect::<Vec<_>>().join(" ")) };
    let wanted: Vec<&str> = requested.split(' ').collect();
    if !wanted.iter().all(|scope| crate::clients::parse_scope(scope).is_ok()) {
        return Err(OAuthError::InvalidScope("scope must be scope names separated by single spaces"));
    }
    let granted: Vec<&str> = client.own_scopes().filter(|scope| wanted.contains(scope)).collect();
    if granted.is_empty() {
        return Err(OAuthError::InvalidScope("none of the requested scopes is granted to the client"));
    }
    Ok(granted.join(" "))
}

fn target<'a>(client: &'a Client, form: &Form, issuer: &'a str) -> Result<Vec<&'a str>, OAuthError> {
    let mut audiences = Vec::new();
    for resource in form.all("resource") {
        let known = client.audiences.iter().find(|audience| *audience == resource);
        let known = known.ok_or(OAuthError::InvalidTarget("the client has no access to the requested resource"))?;
        if !audiences.contains(&known.as_str()) {
            audiences.push(known.as_str());
        }
    }
    if audiences.is_empty() {
        audiences.push(client.audiences.first().map_or(issuer, String::as_str));
    }
    Ok(audiences)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(body: &str) -> Result<(String, Vec<String>), &'static str> {
        let client = crate::registry::tests::client("a", "secret", None);
        let form = Form::parse(body.as_bytes()).expect("a form");
        let granted = decide(&client, &form, "https://id.example.com").map_err(|error| error.code())?;
        Ok((granted.scope, granted.audiences.into_iter().map(str::to_owned).collect()))
    }

    #[test]
    fn without_a_request_the_client_gets_all_its_scopes_for_its_first_audience() {
        let granted = decided("").expect("granted");

        assert_eq!(granted, ("invoices:read invoices:write".to_owned(), vec!["https://api.example.com".to_owned()]));
    }

    #[test]
    fn requested_scopes_are_narrowed_to_the_clients() {
        assert_eq!(decided("scope=invoices:write").expect("granted").0, "invoices:write");
        assert_eq!(decided("scope=invoices:write+admin").expect("granted").0, "invoices:write");
        assert_eq!(decided("scope=admin").err(), Some("invalid_scope"));
    }

    #[test]
    fn a_malformed_scope_is_refused() {
        for scope in ["a++b", "+a", "a+", "%22", "a%5Cb", "%C3%A9"] {
            assert_eq!(decided(&format!("scope={scope}")).err(), Some("invalid_scope"), "{scope}");
        }
    }

    #[test]
    fn a_resource_must_be_one_of_the_clients_audiences() {
        let other = "https://other.example.com";

        assert_eq!(decided(&format!("resource={other}")).expect("granted").1, [other]);
        let both = decided(&format!("resource={other}&resource=https://api.example.com&resource={other}"));
        assert_eq!(both.expect("granted").1, [other, "https://api.example.com"]);
        assert_eq!(decided("resource=https://evil.example").err(), Some("invalid_target"));
        assert_eq!(decided(&format!("resource={other}/")).err(), Some("invalid_target"));
        assert_eq!(decided("resource=nonsense").err(), Some("invalid_target"));
    }
}
