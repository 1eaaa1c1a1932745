//! What a request goes to, by name: for metrics, logs and traces, which must not grow with what strangers ask for.

use std::collections::HashMap;

/// One of the addresses that the program knows, or [`Endpoint::OTHER`] for all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(u8);

impl Endpoint {
    /// Whatever is nowhere in [`TEMPLATES`].
    pub(crate) const OTHER: Self = Self(0);

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).take(TEMPLATES.len()).map(Self)
    }

    /// The address, with names for what varies.
    pub(crate) fn template(self) -> &'static str {
        TEMPLATES[self.index()]
    }

    /// Its place among all.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    fn named(template: &str) -> Self {
        Self::all().find(|endpoint| endpoint.template() == template).unwrap_or(Self::OTHER)
    }
}

/// Finds the endpoint of a path.
pub(crate) struct Endpoints {
    /// Those that are asked for most, compared first.
    frequent: [(String, Endpoint); 2],
    exact: HashMap<String, Endpoint>,
    /// Those that end in a name of one segment, by what stands before it.
    named: Vec<(String, Endpoint)>,
}

impl Endpoints {
    /// Of an issuer whose URL has the path `base`.
    pub(crate) fn below(base: &str) -> Self {
        let at = |endpoint: Endpoint| match endpoint.template() {
            rooted @ ("/healthz" | "/readyz" | "/metrics") => rooted.to_owned(),
            template if template.starts_with(ACME) => template.to_owned(),
            template => format!("{base}{template}"),
        };
        let known = Endpoint::all().filter(|endpoint| *endpoint != Endpoint::OTHER);
        let (named, exact): (Vec<_>, Vec<_>) =
            known.map(|endpoint| (at(endpoint), endpoint)).partition(|(path, _)| path.ends_with('}'));
        let named = named.into_iter().map(|(path, endpoint)| {
            let start = path.find('{').unwrap_or(path.len());
            (path[..start].to_owned(), endpoint)
        });
        let mut exact: HashMap<_, _> = exact.into_iter().collect();
        // RFC 8414 §3.1 puts the path of an issuer behind the well-known one.
        let metadata = "/.well-known/oauth-authorization-server";
        exact.insert(format!("{metadata}{base}"), Endpoint::named(metadata));
        let frequent = ["/oauth2/token", "/.well-known/jwks.json"].map(Endpoint::named);
        Self { frequent: frequent.map(|endpoint| (at(endpoint), endpoint)), exact, named: named.collect() }
    }

    /// Where `path` leads.
    pub(crate) fn of(&self, path: &str) -> Endpoint {
        if let Some((_, endpoint)) = self.frequent.iter().find(|(known, _)| known == path) {
            return *endpoint;
        }
        if let Some(endpoint) = self.exact.get(path) {
            return *endpoint;
        }
        let fits = |(start, _): &&(String, Endpoint)| {
            path.strip_prefix(start.as_str()).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
        };
        self.named.iter().find(fits).map_or(Endpoint::OTHER, |(_, endpoint)| *endpoint)
    }
}

/// `path`, which has to be among [`TEMPLATES`]: the route table asks for each of its lines.
///
/// # Panics
/// When it is not: a route that nobody sees is a mistake in the program.
pub(crate) fn known(path: &str) -> &str {
    assert!(TEMPLATES.contains(&path), "{path} is missing in the list of endpoints");
    path
}

const ACME: &str = "/.well-known/acme-challenge/";

/// Every address below the issuer's, and how it is called. The first stands for all others.
const TEMPLATES: [&str; 25] = [
    "other",
    "/oauth2/token",
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    "/oauth2/authorize",
    "/oauth2/revoke",
    "/oauth2/introspect",
    "/oauth2/userinfo",
    "/oauth2/logout",
    "/",
    "/login",
    "/select-account",
    "/consent",
    "/account",
    "/account/password",
    "/account/sign-out",
    "/account/apps/remove",
    "/static/{name}",
    "/api/session",
    "/api/session/refresh",
    "/.well-known/acme-challenge/{token}",
    "/healthz",
    "/readyz",
    "/metrics",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_the_endpoint_of_the_route_table() {
        let (plain, below) = (Endpoints::below(""), Endpoints::below("/auth"));
        let of = |path| (plain.of(path).template(), below.of(&format!("/auth{path}")).template());

        for path in ["/oauth2/token", "/.well-known/jwks.json", "/login", "/"] {
            assert_eq!(of(path), (path, path));
        }
        assert_eq!(of("/static/page.css"), ("/static/{name}", "/static/{name}"));
        assert_eq!(below.of("/healthz").template(), "/healthz");
        let metadata = "/.well-known/oauth-authorization-server";
        assert_eq!(below.of(&format!("{metadata}/auth")).template(), metadata);
    }

    #[test]
    fn what_strangers_make_up_is_one_endpoint() {
        let endpoints = Endpoints::below("");

        for path in ["", "/oauth2/token/", "/OAUTH2/token", "/static/", "/static/a/b", "//", "/{name}", "/wp-login.php"]
        {
            assert_eq!(endpoints.of(path), Endpoint::OTHER, "{path}");
        }
    }
}
