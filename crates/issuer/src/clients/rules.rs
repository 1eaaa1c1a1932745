//! What must go together in a client's metadata.

use super::{Client, GrantType, OFFLINE_ACCESS, OPENID_SCOPES};

/// What was found about a client as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Review {
    /// What cannot stay.
    pub problems: Vec<Finding>,
    /// What does nothing, or not what it seems to.
    pub warnings: Vec<Finding>,
}

/// Something about one piece of a client's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which, by its registered name (RFC 7591 §2) or ours.
    pub member: &'static str,
    /// What there is to say.
    pub message: String,
}

impl Client {
    /// Do its metadata go together? Each was read by its own type before.
    #[must_use]
    pub fn review(&self) -> Review {
        let mut review = Review::default();
        self.review_grants(&mut review);
        self.review_scopes(&mut review);
        self.review_parties(&mut review);
        self.review_logout(&mut review);
        review
    }

    fn review_grants(&self, review: &mut Review) {
        let by_people = self.uses(GrantType::AuthorizationCode);
        if self.grants.is_empty() && !self.session_api {
            review.problem("grant_types", "client_credentials or another grant is needed, found none");
        }
        if by_people && self.redirect_uris.is_empty() {
            review.problem("redirect_uris", "missing: authorization_code needs an address to send people back to");
        }
        if self.uses(GrantType::RefreshToken) && !by_people && !self.session_api {
            review.problem("grant_types", "refresh_token needs authorization_code: there is nothing else to renew");
        }
        if self.uses(GrantType::ClientCredentials) && self.is_public() {
            let message = "client_credentials needs a client that authenticates: anybody can say a public client's id";
            review.problem("grant_types", message);
        }
        if by_people {
            return;
        }
        for (member, is_set) in [
            ("redirect_uris", !self.redirect_uris.is_empty()),
            ("require_pkce", self.require_pkce),
            ("initiate_login_uri", self.initiate_login_uri.is_some()),
            ("default_max_age", self.default_max_age.is_some()),
            ("default_acr_values", !self.default_acr_values.is_empty()),
        ] {
            if is_set {
                review.warning(member, "has no effect without the grant authorization_code");
            }
        }
    }

    fn review_scopes(&self, review: &mut Review) {
        let signs_people_in = self.uses(GrantType::AuthorizationCode) || self.session_api;
        for scope in self.scopes.iter().filter(|scope| OPENID_SCOPES.contains(&scope.as_str())) {
            if !signs_people_in {
                let message = format!("{scope} has no effect without the grant authorization_code: it is about people");
                review.warning("scope", message);
            } else if scope == OFFLINE_ACCESS && !self.uses(GrantType::RefreshToken) {
                review.warning("scope", format!("{scope} has no effect without the grant refresh_token"));
            }
        }
    }

    fn review_parties(&self, review: &mut Review) {
        if self.session_api && !self.first_party {
            let message = "needs first_party: only pages of the issuer's owner may ask people for their password";
            review.problem("session_api", message);
        }
    }

    fn review_logout(&self, review: &mut Review) {
        // OpenID Connect Front-Channel Logout §2: "The domain, port, and scheme of this URL MUST be the same as that of a
        // registered Redirection URI value."
        if let Some(uri) = &self.frontchannel_logout_uri {
            let origin = uri.origin();
            if !self.redirect_uris.iter().any(|redirect| redirect.origin().as_deref() == Some(origin.as_str())) {
                let message = format!("{origin} is the scheme, host and port of no redirect URI");
                review.problem("frontchannel_logout_uri", message);
            }
        }
        for (member, required, uri) in [
            (
                "backchannel_logout_session_required",
                self.backchannel_logout_session_required,
                &self.backchannel_logout_uri,
            ),
            (
                "frontchannel_logout_session_required",
                self.frontchannel_logout_session_required,
                &self.frontchannel_logout_uri,
            ),
        ] {
            if required && uri.is_none() {
                review.warning(member, "has no effect without the address");
            }
        }
    }
}

impl Review {
    fn problem(&mut self, member: &'static str, message: impl Into<String>) {
        self.problems.push(Finding { member, message: message.into() });
    }

    fn warning(&mut self, member: &'static str, message: impl Into<String>) {
        self.warnings.push(Finding { member, message: message.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::{Authentication, PostLogoutRedirectUri, RedirectUri, WebUri, default_scopes};

    const SECRET: Authentication = Authentication::Secret { sha256: [7; 32], method: None };

    fn app() -> Client {
        let grants = [GrantType::AuthorizationCode, GrantType::RefreshToken].into();
        Client {
            redirect_uris: vec![RedirectUri::parse("https://app.example.com/callback").expect("a URI")],
            post_logout_redirect_uris: vec![PostLogoutRedirectUri::parse("https://app.example.com/").expect("a URI")],
            scopes: default_scopes(&grants),
            grants,
            ..Client::new("app", SECRET)
        }
    }

    fn service() -> Client {
        Client::new("service", SECRET)
    }

    #[track_caller]
    fn assert_refused(client: &Client, member: &str) {
        let members: Vec<&str> = client.review().problems.iter().map(|finding| finding.member).collect();
        assert_eq!(members, [member]);
    }

    #[track_caller]
    fn assert_warned(client: &Client, member: &str) {
        let review = client.review();
        let members: Vec<&str> = review.warnings.iter().map(|finding| finding.member).collect();
        assert_eq!((members, review.problems), (vec![member], vec![]));
    }

    fn uri(text: &str) -> Option<WebUri> {
        Some(WebUri::parse(text).expect("a URI"))
    }

    #[test]
    fn an_app_a_service_and_a_page_go_together() {
        let page = Client { authentication: Authentication::None, ..app() };
        let first_party = Client { first_party: true, session_api: true, ..app() };
        let only_session_api =
            Client { first_party: true, session_api: true, grants: [GrantType::RefreshToken].into(), ..service() };

        for client in [app(), service(), page, first_party, only_session_api] {
            assert_eq!(client.review(), Review::default(), "{client:?}");
        }
    }

    #[test]
    fn a_grant_needs_what_it_works_with() {
        assert_refused(&Client { redirect_uris: vec![], ..app() }, "redirect_uris");
        assert_refused(&Client { grants: [GrantType::RefreshToken].into(), ..service() }, "grant_types");
        assert_refused(&Client { grants: [].into(), ..service() }, "grant_types");
        assert_refused(&Client { authentication: Authentication::None, ..service() }, "grant_types");
    }

    #[test]
    fn the_session_api_is_for_the_owners_own_clients() {
        assert_refused(&Client { session_api: true, ..app() }, "session_api");
    }

    #[test]
    fn a_front_channel_logout_is_where_the_client_is() {
        let with = |text| Client { frontchannel_logout_uri: uri(text), ..app() };

        assert_eq!(with("https://app.example.com/logout").review(), Review::default());
        for other in
            ["https://other.example.com/logout", "https://app.example.com:8443/logout", "http://localhost/logout"]
        {
            assert_refused(&with(other), "frontchannel_logout_uri");
        }
    }

    #[test]
    fn what_does_nothing_is_told() {
        assert_warned(&Client { redirect_uris: app().redirect_uris, ..service() }, "redirect_uris");
        assert_warned(&Client { require_pkce: true, ..service() }, "require_pkce");
        assert_warned(&Client { scopes: vec!["openid".to_owned()], ..service() }, "scope");
        assert_warned(&Client { grants: [GrantType::AuthorizationCode].into(), ..app() }, "scope");
        assert_warned(
            &Client { backchannel_logout_session_required: true, ..app() },
            "backchannel_logout_session_required",
        );
        assert_warned(
            &Client { frontchannel_logout_session_required: true, ..app() },
            "frontchannel_logout_session_required",
        );
    }
}
