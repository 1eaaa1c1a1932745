//! What a client that knows only this service needs to know to get a token for it (RFC 9728).

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, Uri};
use serde::Serialize;
use url::Url;

use super::guard::InvalidUrl;
/// The metadata of a protected resource (RFC 9728 §2), to be served without a guard at
/// [`well_known_path`](Self::well_known_path).
///
/// ```
/// use keywheel_verifier::ResourceMetadata;
///
/// let metadata = ResourceMetadata::new("https://api.example.com/v1")?
///     .authorization_server("https://id.example.com")
///     .scopes(["invoices:read", "invoices:write"]);
///
/// assert_eq!(metadata.well_known_path(), "/.well-known/oauth-protected-resource/v1");
/// assert_eq!(metadata.url(), "https://api.example.com/.well-known/oauth-protected-resource/v1");
/// # Ok::<(), keywheel_verifier::InvalidUrl>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use]
pub struct ResourceMetadata {
    resource: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_documentation: Option<String>,
    #[serde(skip)]
    origin: String,
    #[serde(skip)]
    well_known_path: String,
}

impl ResourceMetadata {
    /// The metadata of this resource: its identifier, letter for letter what clients use and mostly also the audience of
    /// its tokens.
    ///
    /// # Errors
    /// [`InvalidUrl`]: not an `https` URL (`http` is for development), or one with a user or a fragment (RFC 9728 §1.2)
    pub fn new(resource: impl Into<String>) -> Result<Self, InvalidUrl> {
        let resource = resource.into();
        let refuse = || InvalidUrl::new(&resource, "an https URL without user and fragment");
        let url = Url::parse(&resource).map_err(|_| refuse())?;
        let is_plain = matches!(url.scheme(), "https" | "http")
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        if !is_plain {
            return Err(refuse());
        }
        Ok(Self {
            origin: url.origin().ascii_serialization(),
            well_known_path: well_known_path(&url),
            resource,
            authorization_servers: Vec::new(),
            scopes_supported: Vec::new(),
            // Cookies are between us and our own pages; query and form are never read.
            bearer_methods_supported: ["header"],
            resource_name: None,
            resource_documentation: None,
        })
    }

    /// Names an issuer whose tokens are taken. May be called several times.
    pub fn authorization_server(mut self, issuer: impl Into<String>) -> Self {
        self.authorization_servers.push(issuer.into());
        self
    }

    /// The scopes that a client may want to ask for.
    pub fn scopes<T: Into<String>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes_supported.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// What people call it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.resource_name = Some(name.into());
        self
    }

    /// Where developers can read about it.
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.resource_documentation = Some(url.into());
        self
    }

    /// The path to serve it at: the well-known part comes between the host and the path of the resource (RFC 9728 §3.1).
    #[must_use]
    pub fn well_known_path(&self) -> &str {
        &self.well_known_path
    }

    /// Where clients find it: the URL for [`Guard::resource_metadata`](crate::Guard::resource_metadata).
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", self.origin, self.well_known_path)
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and lists of them are JSON")
    }

    /// The answer to a `GET`. Every page may read it and every cache may keep it for an hour: it is the same for everybody.
    #[must_use]
    pub fn response<B: From<Bytes>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(Bytes::from(self.to_json())));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }

    /// Whether a request for `uri` is one for this document.
    #[must_use]
    pub fn is_at(&self, uri: &Uri) -> bool {
        uri.path_and_query().is_some_and(|asked| asked.as_str() == self.well_known_path)
    }
}

/// RFC 9728 §3.1: "If the resource identifier value contains a path or query component, any terminating slash (/)
/// following the host component MUST be removed before inserting /.well-known/ and the well-known URI path suffix".
fn well_known_path(resource: &Url) -> String {
    let path = match resource.path() {
        "/" => "",
        path => path,
    };
    let query = resource.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/.well-known/oauth-protected-resource{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_part_comes_between_host_and_path() {
        for (resource, url) in [
            ("https://api.example.com", "https://api.example.com/.well-known/oauth-protected-resource"),
            ("https://api.example.com/", "https://api.example.com/.well-known/oauth-protected-resource"),
            ("https://api.example.com/v1", "https://api.example.com/.well-known/oauth-protected-resource/v1"),
            ("https://api.example.com/v1/", "https://api.example.com/.well-known/oauth-protected-resource/v1/"),
            ("https://api.example.com?t=1", "https://api.example.com/.well-known/oauth-protected-resource?t=1"),
            (
                "https://api.example.com:8443/a/b",
                "https://api.example.com:8443/.well-known/oauth-protected-resource/a/b",
            ),
        ] {
            assert_eq!(ResourceMetadata::new(resource).expect("a URL").url(), url);
        }
    }

    #[test]
    fn what_is_no_resource_identifier_is_refused() {
        for resource in ["", "api", "urn:api", "https://api.example.com#a", "https://alice@api.example.com"] {
            assert!(ResourceMetadata::new(resource).is_err(), "{resource}");
        }
    }

    #[test]
    fn the_document_says_what_was_said_and_no_more() {
        let metadata = ResourceMetadata::new("https://api.example.com/").expect("a URL");
        let bare = r#"{"resource":"https://api.example.com/","bearer_methods_supported":["header"]}"#;
        assert_eq!(metadata.to_json(), bare);

        let metadata = metadata
            .authorization_server("https://id.example.com")
            .scopes(["read", "write"])
            .name("Invoices")
            .documentation("https://docs.example.com");
        let full = concat!(
            r#"{"resource":"https://api.example.com/","authorization_servers":["https://id.example.com"],"#,
            r#""scopes_supported":["read","write"],"bearer_methods_supported":["header"],"#,
            r#""resource_name":"Invoices","resource_documentation":"https://docs.example.com"}"#,
        );
        assert_eq!(metadata.to_json(), full);
        let response: Response<Bytes> = metadata.response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.body(), full);
    }

    #[test]
    fn a_request_for_it_is_recognised() {
        let metadata = ResourceMetadata::new("https://api.example.com/v1").expect("a URL");
        assert!(metadata.is_at(&Uri::from_static("/.well-known/oauth-protected-resource/v1")));
        assert!(!metadata.is_at(&Uri::from_static("/.well-known/oauth-protected-resource")));
        assert!(!metadata.is_at(&Uri::from_static("/.well-known/oauth-protected-resource/v1?x")));
    }
}
