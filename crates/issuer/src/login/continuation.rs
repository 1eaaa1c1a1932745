//! Where a person goes on after a page: an interrupted authorization request, or a page of ours. It comes back from the
//! browser, so it is held against a list of our own addresses each time; nothing else is ever redirected to.

use url::form_urlencoded;

/// Path and query of one of our own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continue {
    /// Visible ASCII.
    target: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Authorization,
    Page,
}

impl Continue {
    /// Reads what a browser brought; anything but an address of the list becomes the account page. `base` is the path of
    /// the issuer.
    pub(crate) fn read(base: &str, text: Option<&str>) -> Self {
        Self::accept(base, text.unwrap_or_default())
            .unwrap_or_else(|| Self { target: format!("{base}/account"), kind: Kind::Page })
    }

    fn accept(base: &str, text: &str) -> Option<Self> {
        let readable = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#'));
        let path = text.strip_prefix(base).filter(|_| readable && text.len() <= MAX_BYTES)?;
        let kind = match path {
            "/" | "/account" | "/account/password" => Kind::Page,
            _ if path.starts_with("/oauth2/authorize?") => Kind::Authorization,
            _ => return None,
        };
        Some(Self { target: text.to_owned(), kind })
    }

    /// Path and query.
    pub(crate) fn as_str(&self) -> &str {
        &self.target
    }

    /// Path and query, if an app waits there for somebody to sign in.
    pub(crate) fn authorization(&self) -> Option<&str> {
        (self.kind == Kind::Authorization).then_some(self.as_str())
    }

    /// The address of the page at `path` that goes on there.
    pub(crate) fn behind(&self, base: &str, path: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", &self.target).finish();
        format!("{base}{path}?{query}")
    }
}

/// An authorization request with everything that may be in one.
const MAX_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn an_interrupted_authorization_goes_on() {
        let to = "/oauth2/authorize?client_id=shop&redirect_uri=https%3A%2F%2Fshop.example%2Fcb&state=a";

        let read = Continue::read("", Some(to));

        assert_eq!((read.as_str(), read.authorization()), (to, Some(to)));
        assert_eq!(
            read.behind("", "/login"),
            format!(
                "/login?continue={}",
                to.replace('%', "%25").replace('/', "%2F").replace('?', "%3F").replace('=', "%3D").replace('&', "%26")
            )
        );
    }

    #[test]
    fn pages_of_ours_are_returned_to() {
        for page in ["/", "/account", "/account/password"] {
            let read = Continue::read("", Some(page));
            assert_eq!((read.as_str(), read.authorization()), (page, None));
        }
        assert_eq!(Continue::read("/id", Some("/id/account/password")).as_str(), "/id/account/password");
    }

    #[test]
    fn nothing_else_is_redirected_to() {
        for text in [
            "",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "%2f%2fevil.example",
            "/%2fevil.example",
            "https://evil.example/",
            "https:evil.example",
            "javascript:alert(1)",
            "//evil.example/oauth2/authorize?x",
            "/oauth2/authorize",
            "/oauth2/authorize?a\r\nlocation: https://evil.example",
            "/oauth2/authorize?a b",
            "/oauth2/authorize?ä",
            "/oauth2/authorize?a#b",
            "/oauth2/authorize/../../evil?x",
            "/oauth2/authorize@evil.example?x",
            "/oauth2/token?x",
            "/account//evil.example",
            "/account?x",
            " /account",
            "\t//evil.example",
            ".evil.example",
            "/..//evil.example",
        ] {
            assert_eq!(Continue::read("", Some(text)).as_str(), "/account", "{text:?}");
        }
        assert_eq!(Continue::read("", None).as_str(), "/account");
        assert_eq!(Continue::read("/id", Some("/account")).as_str(), "/id/account");
        let long = format!("/oauth2/authorize?{}", "a".repeat(MAX_BYTES));
        assert_eq!(Continue::read("", Some(&long)).as_str(), "/account");
    }

    proptest! {
        #[test]
        fn wherever_it_points_it_stays_here(
            start in "(/oauth2/authorize\\?|/account|/|//|/\\\\|https:|%2f|)",
            rest in "[ -~\\r\\n\\t]{0,40}",
        ) {
            let read = Continue::read("", Some(&format!("{start}{rest}")));

            let here = Url::parse("https://id.example.com/login?x").expect("a URL");
            let there = here.join(read.as_str()).expect("it is a reference");
            prop_assert_eq!(there.origin(), here.origin());
            prop_assert!(["/", "/account", "/account/password", "/oauth2/authorize"].contains(&there.path()));
            prop_assert!(http::HeaderValue::from_str(read.as_str()).is_ok());
        }
    }
}
