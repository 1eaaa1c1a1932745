//! Which requests may pass, and what they have to bring: the `[[route]]` tables.
//!
//! The first route that fits a request decides, from the top of the file to its end. A route behind one that leaves it
//! nothing is an error of the configuration, so order can't silently switch a rule off. What no route fits is decided by
//! `unmatched`, which refuses unless it is told otherwise.

use std::fmt;

use http::Method;
use http::uri::Authority;

use crate::path::RequestPath;

/// The routes, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    pub(crate) routes: Vec<Route>,
    pub(crate) case: Case,
}

/// One `[[route]]`.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Empty for every method. `GET` stands for `HEAD` as well, which services answer by the same code.
    pub(crate) methods: Vec<Method>,
    /// Empty for every host.
    pub(crate) hosts: Vec<Host>,
    pub(crate) path: Pattern,
    pub(crate) access: Access,
    pub(crate) demands: Demands,
}

/// What a route wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: a token is not even looked at.
    Public,
    /// A token that holds, or none.
    Optional,
    /// A token that holds.
    Token,
}

/// What a token has to grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demands {
    /// All of these.
    pub(crate) scopes: Vec<String>,
    /// One of these, unless there are none.
    pub(crate) any_scope: Vec<String>,
    /// All of these.
    pub(crate) roles: Vec<String>,
    /// One of these, unless there are none.
    pub(crate) any_role: Vec<String>,
}

/// What becomes of a request that no route fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// It is refused with 403.
    Deny,
    /// It needs a token that holds.
    Token,
}

/// Whether `/Admin` is `/admin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Case {
    /// No.
    #[default]
    Significant,
    /// Yes: for services that think so.
    Ignored,
}

/// A host name, in lower case and without a port or a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(String);

/// The paths of a route: segments, `*` for any one segment, and `**` at the end for any number of them, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    steps: Vec<Step>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Literal(String),
    AnySegment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Here,
    Anywhere,
}

impl Routes {
    /// The first route that fits. A route for certain hosts fits no request whose host is unknown.
    pub(crate) fn find(&self, method: &Method, host: Option<&Host>, path: &RequestPath) -> Option<(usize, &Route)> {
        let folded: Vec<String>;
        let segments = match self.case {
            Case::Significant => path.segments(),
            Case::Ignored => {
                folded = path.segments().iter().map(|segment| segment.to_lowercase()).collect();
                &folded
            }
        };
        self.routes.iter().enumerate().find(|(_, route)| {
            route.fits_method(method)
                && (route.hosts.is_empty() || host.is_some_and(|host| route.hosts.contains(host)))
                && route.path.fits(segments)
        })
    }

    /// Whether a route looks at the host.
    pub(crate) fn need_host(&self) -> bool {
        self.routes.iter().any(|route| !route.hosts.is_empty())
    }

    /// Whether a route looks at the method.
    pub(crate) fn need_method(&self) -> bool {
        self.routes.iter().any(|route| !route.methods.is_empty())
    }

    /// The first route that can never decide, and the one before it that takes everything.
    pub(crate) fn shadowed(&self) -> Option<(usize, usize)> {
        (1..self.routes.len()).find_map(|later| {
            (0..later).find(|&earlier| self.routes[earlier].covers(&self.routes[later])).map(|earlier| (later, earlier))
        })
    }
}

impl Route {
    fn fits_method(&self, method: &Method) -> bool {
        let as_named = if *method == Method::HEAD { [method, &Method::GET] } else { [method, method] };
        self.methods.is_empty() || self.methods.iter().any(|own| as_named.contains(&own))
    }

    fn covers(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || !other.methods.is_empty() && other.methods.iter().all(|method| self.fits_method(method));
        let hosts = self.hosts.is_empty()
            || !other.hosts.is_empty() && other.hosts.iter().all(|host| self.hosts.contains(host));
        methods && hosts && self.path.covers(&other.path)
    }
}

impl Pattern {
    /// Reads a pattern such as `/api/me`, `/users/*/photos` or `/admin/**`. Its literal parts are written as in a URL.
    pub(crate) fn parse(text: &str, case: Case) -> Result<Self, String> {
        let (text_of_steps, end) = match text.strip_suffix("/**") {
            Some("") => ("/", End::Anywhere),
            Some(prefix) => (prefix, End::Anywhere),
            None => (text, End::Here),
        };
        let path = RequestPath::parse(text_of_steps.as_bytes())
            .map_err(|problem| format!("{text:?} fits no request: {problem}"))?;
        let steps = path.segments().iter().map(|segment| match segment.as_str() {
            "*" => Ok(Step::AnySegment),
            other if other.contains('*') => {
                Err(format!("{text:?} has a star that is neither a whole segment nor the ** at the end"))
            }
            other => Ok(Step::Literal(match case {
                Case::Significant => other.to_owned(),
                Case::Ignored => other.to_lowercase(),
            })),
        });
        Ok(Self { steps: steps.collect::<Result<_, _>>()?, end })
    }

    fn fits(&self, segments: &[String]) -> bool {
        let long_enough = match self.end {
            End::Here => segments.len() == self.steps.len(),
            End::Anywhere => segments.len() >= self.steps.len(),
        };
        long_enough
            && self.steps.iter().zip(segments).all(|(step, segment)| match step {
                Step::Literal(literal) => literal == segment,
                Step::AnySegment => true,
            })
    }

    /// Whether every path of `other` is one of ours.
    fn covers(&self, other: &Self) -> bool {
        let lengths = match (self.end, other.end) {
            (End::Here, End::Here) => self.steps.len() == other.steps.len(),
            (End::Here, End::Anywhere) => false,
            (End::Anywhere, _) => self.steps.len() <= other.steps.len(),
        };
        lengths && self.steps.iter().zip(&other.steps).all(|(own, other)| *own == Step::AnySegment || own == other)
    }
}

impl Host {
    /// Reads a host, or the value of a `Host` header.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bad = || "expected a host name such as api.example.com".to_owned();
        let authority: Authority = text.parse().map_err(|_| bad())?;
        if text.contains('@') {
            return Err(bad());
        }
        let name = authority.host().strip_suffix('.').unwrap_or(authority.host());
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
        if is_name { Ok(Self(name.to_ascii_lowercase())) } else { Err(bad()) }
    }
}

/// Reads a method as it stands in a request. Methods are case-sensitive (RFC 9110 §9.1) and registered in capitals; one in
/// small letters would be another method to us and may be the same to a service.
pub(crate) fn parse_method(text: &str) -> Result<Method, &'static str> {
    let is_method = !text.is_empty()
        && text.len() <= MAX_METHOD_BYTES
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    let method = if is_method { Method::from_bytes(text.as_bytes()).ok() } else { None };
    method.ok_or("expected a method in capital letters, such as GET")
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Literal(literal) => write!(f, "/{literal}")?,
                Step::AnySegment => f.write_str("/*")?,
            }
        }
        match self.end {
            End::Anywhere => f.write_str("/**"),
            End::Here if self.steps.is_empty() => f.write_str("/"),
            End::Here => Ok(()),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Optional => "optional",
            Self::Token => "token",
        })
    }
}

/// In words, for a table: empty when nothing is demanded.
impl fmt::Display for Demands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.scopes.iter().map(|scope| format!("scope {scope}")));
        parts.extend(self.roles.iter().map(|role| format!("role {role}")));
        if !self.any_scope.is_empty() {
            parts.push(format!("scope {}", self.any_scope.join(" or ")));
        }
        if !self.any_role.is_empty() {
            parts.push(format!("role {}", self.any_role.join(" or ")));
        }
        f.write_str(&parts.join(", "))
    }
}

/// Longer than any registered method.
const MAX_METHOD_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::path::path_of_target;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, Case::Significant).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn fits(text: &str, path: &str) -> bool {
        pattern(text).fits(RequestPath::parse(path.as_bytes()).expect(path).segments())
    }

    fn route(methods: &[Method], path: &str, access: Access) -> Route {
        Route { methods: methods.to_vec(), hosts: Vec::new(), path: pattern(path), access, demands: Demands::default() }
    }

    fn routes(routes: Vec<Route>) -> Routes {
        Routes { routes, case: Case::Significant }
    }

    fn found(routes: &Routes, method: &Method, path: &str) -> Option<usize> {
        let path = RequestPath::parse(path.as_bytes()).expect(path);
        routes.find(method, None, &path).map(|(index, _)| index)
    }

    #[test]
    fn a_pattern_fits_whole_segments() {
        for path in ["/admin", "/admin/", "/admin/users", "/admin/users/1"] {
            assert!(fits("/admin/**", path), "{path}");
        }
        for path in ["/", "/administrator", "/api/admin", "/Admin"] {
            assert!(!fits("/admin/**", path), "{path}");
        }
        assert!(fits("/users/*/photos", "/users/1/photos/"));
        assert!(!fits("/users/*/photos", "/users/photos"));
        assert!(!fits("/users/*/photos", "/users/1/2/photos"));
        assert!(fits("/**", "/") && fits("/**", "/a/b"));
        assert!(fits("/", "/") && !fits("/", "/a"));
        assert!(fits("/caf%c3%a9", "/caf%C3%A9") && fits("/@me", "/%40me"));
    }

    #[test]
    fn a_pattern_that_can_fit_nothing_is_refused() {
        for text in ["", "admin/**", "/a//b", "/a/../b", "/a;b", "/%61", "/a/**/b", "/a*", "**", "/a b", "/***"] {
            assert!(Pattern::parse(text, Case::Significant).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_is_shown_as_it_was_written() {
        for text in ["/", "/**", "/api/me", "/users/*/photos", "/admin/**", "/*/**"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn the_first_route_that_fits_decides() {
        let routes = routes(vec![
            route(&[], "/api/status", Access::Public),
            route(&[Method::GET], "/api/**", Access::Optional),
            route(&[], "/api/**", Access::Token),
        ]);

        assert_eq!(found(&routes, &Method::GET, "/api/status"), Some(0));
        assert_eq!(found(&routes, &Method::GET, "/api/x"), Some(1));
        assert_eq!(found(&routes, &Method::HEAD, "/api/x"), Some(1));
        assert_eq!(found(&routes, &Method::POST, "/api/x"), Some(2));
        assert_eq!(found(&routes, &Method::GET, "/other"), None);
    }

    #[test]
    fn a_route_for_a_host_fits_that_host_only() {
        let host = |text: &str| Host::parse(text).expect(text);
        let route = Route { hosts: vec![host("api.example.com")], ..route(&[], "/**", Access::Public) };
        let routes = routes(vec![route]);
        let path = RequestPath::parse(b"/").expect("a path");

        for same in ["api.example.com", "API.example.com:8443", "api.example.com."] {
            assert!(routes.find(&Method::GET, Some(&host(same)), &path).is_some(), "{same}");
        }
        assert!(routes.find(&Method::GET, Some(&host("example.com")), &path).is_none());
        assert!(routes.find(&Method::GET, None, &path).is_none());
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "a b", "a@b", "a/b", "a,b", "http://a", ".", "a\\b", "a%2eb"] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
        assert_eq!(Host::parse("[::1]:80").expect("an address").to_string(), "[::1]");
    }

    #[test]
    fn case_is_ignored_where_the_service_ignores_it() {
        let pattern = Pattern::parse("/Admin/**", Case::Ignored).expect("a pattern");
        let route = Route { path: pattern, ..route(&[], "/", Access::Token) };
        let routes = Routes { routes: vec![route], case: Case::Ignored };

        assert_eq!(found(&routes, &Method::GET, "/ADMIN/Users"), Some(0));
    }

    #[test]
    fn a_method_in_small_letters_is_none() {
        for text in ["get", "Get", "", "GET ", "G\0T", "GET/1"] {
            assert!(parse_method(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_method("VERSION-CONTROL").map(|method| method.to_string()), Ok("VERSION-CONTROL".to_owned()));
    }

    #[test]
    fn a_route_behind_one_that_takes_everything_is_found() {
        for (earlier, later, shadowed) in [
            (route(&[], "/**", Access::Public), route(&[], "/admin/**", Access::Token), true),
            (route(&[], "/a/*", Access::Public), route(&[], "/a/b", Access::Token), true),
            (route(&[Method::GET], "/a", Access::Public), route(&[Method::HEAD], "/a", Access::Token), true),
            (route(&[Method::GET], "/**", Access::Public), route(&[], "/a", Access::Token), false),
            (route(&[], "/a", Access::Public), route(&[], "/a/**", Access::Token), false),
            (route(&[], "/a/b", Access::Public), route(&[], "/a/*", Access::Token), false),
        ] {
            let name = format!("{} before {}", earlier.path, later.path);
            assert_eq!(routes(vec![earlier, later]).shadowed().is_some(), shadowed, "{name}");
        }
    }

    /// Every spelling of `/admin/users` that some server would answer.
    fn spellings() -> Vec<String> {
        let admin = [
            "/admin",
            "//admin",
            "/./admin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x/%2E%2E/admin",
            "/x/.%2e/admin",
            "/x/..;/admin",
            "/x/..%3b/admin",
            "/x/..;a=b/admin",
            "/x/%252e%252e/admin",
            "/x%2f..%2fadmin",
            "/x/..%2fadmin",
            "/x/..%5cadmin",
            "/x/..\\admin",
            "\\admin",
            "/\\admin",
            "/%61dmin",
            "/%41dmin",
            "/%2561dmin",
            "/admin;x=y",
            "/admin;",
            "/admin%3b",
            "/;/admin",
            "/admin%00",
            "/admin%20",
            "/admin.",
            "/admin%2e",
            "/%2fadmin",
            "/admin%2f",
            "/x/%c0%ae%c0%ae/admin",
            "/x/%e0%80%ae%e0%80%ae/admin",
            "/x/%ef%bc%8e%ef%bc%8e/admin",
            "/%ef%bc%8fadmin",
            "/\tadmin",
            "/admin\t",
            "/ admin",
            "/%0aadmin",
            "/admin%0d%0a",
            "/admin#",
            "/admin%23",
            "/admin%3f",
            "/public/../admin",
            "/public/%2e%2e%2fadmin",
            "/public/..%c0%afadmin",
            "/public/..%u2215admin",
            "/public%5c..%5cadmin",
            "http://other/admin",
            "https://other:443/admin",
            "//other/admin",
            "///admin",
            "/%u0061dmin",
            "/%E2%80%A5/admin",
        ];
        let users = [
            "/users",
            "//users",
            "/./users",
            "/x/../users",
            "/%75sers",
            "/users;x",
            "/users%2f",
            "\\users",
            "/users/",
            "",
        ];
        let ends = ["", "?q", "?/public", "#/public", "%3f/public", ";/public"];
        let mut all = Vec::new();
        for admin in admin {
            for users in users {
                all.extend(ends.iter().map(|end| format!("{admin}{users}{end}")));
            }
        }
        all
    }

    #[test]
    fn no_spelling_slips_past_a_rule() {
        let routes = routes(vec![
            route(&[], "/admin/**", Access::Token),
            route(&[], "/public/**", Access::Public),
            route(&[], "/**", Access::Optional),
        ]);

        let mut protected = 0;
        for target in spellings() {
            let Ok(path) = path_of_target(target.as_bytes()) else { continue };
            let decided = routes.find(&Method::GET, None, &path).map(|(index, _)| index);
            assert_eq!(decided, Some(0), "{target}");
            protected += 1;
        }

        // The plain spelling, alone and with its sub-path, is still read.
        assert!(protected >= 4, "{protected}");
    }

    proptest! {
        /// Whoever fits a path fits it in its canonical spelling, and no route fits one and not the other.
        #[test]
        fn a_path_is_matched_as_in_its_canonical_spelling(
            bytes in prop::collection::vec(prop::sample::select(b"/a.%2eE5cC3A9b;\\@*".to_vec()), 0..24),
            text in prop::sample::select(vec!["/", "/**", "/a", "/a/**", "/*/a", "/a/*/**", "/@", "/%C3%A9/**"]),
        ) {
            if let Ok(path) = path_of_target(&bytes) {
                let canonical = path_of_target(path.to_string().as_bytes()).expect("a canonical path");
                prop_assert_eq!(pattern(text).fits(path.segments()), pattern(text).fits(canonical.segments()));
            }
        }

        /// `covers` is sound: what a covered pattern fits, the covering one fits too.
        #[test]
        fn a_pattern_that_covers_another_fits_all_its_paths(
            one in "(/[ab*]){0,3}(/\\*\\*)?", other in "(/[ab*]){0,3}(/\\*\\*)?", path in "(/[abc]){1,4}",
        ) {
            let [one, other] = [one, other].map(|text| pattern(if text.is_empty() { "/" } else { &text }));
            let path = RequestPath::parse(path.as_bytes()).expect("a path");
            if one.covers(&other) && other.fits(path.segments()) {
                prop_assert!(one.fits(path.segments()));
            }
        }
    }
}
