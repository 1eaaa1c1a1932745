//! Apps that sign people in with libraries written by others; the person's part is the story's.

use serde_json::{Value, json};

use super::issuer::Issuer;
use super::talker::{Talker, node, python};

/// A library to sign in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// npm `openid-client`
    OpenidClient,
    /// npm `oauth4webapi`
    Oauth4webapi,
    /// PyPI `authlib`
    Authlib,
}

/// An app; it has one sign-in at a time.
pub(crate) struct RelyingParty(Talker);

impl RelyingParty {
    /// An app of `issuer` that is registered with what `registered` says: `client_id`, `redirect_uri`, and what it
    /// authenticates with.
    pub(crate) async fn new(library: Library, issuer: &Issuer, registered: Value) -> Self {
        let app = match library {
            Library::OpenidClient => Talker::start("openid-client", node("openid_client.mjs")),
            Library::Oauth4webapi => Talker::start("oauth4webapi", node("oauth4webapi.mjs")),
            Library::Authlib => Talker::start("authlib", python("authlib_client.py")),
        };
        let app = Self(app);
        let mut registered = registered;
        registered["issuer"] = issuer.url().into();
        app.ask("discover", registered).await;
        app
    }

    /// The address to send somebody to.
    pub(crate) async fn begin(&self, scope: &str, parameters: Value) -> String {
        text(&self.ask("begin", json!({"scope": scope, "parameters": parameters})).await)
    }

    /// Tokens for the answer that came to the redirect URI, with the ID token's `claims`, all checked by the library.
    pub(crate) async fn finish(&self, url: &str) -> Value {
        self.ask("finish", json!({"url": url})).await
    }

    /// The same, which may fail.
    pub(crate) async fn try_to_finish(&self, url: &str) -> Result<Value, String> {
        self.0.command("finish", json!({"url": url})).await
    }

    /// The same for an answer that a browser posted.
    pub(crate) async fn finish_posted(&self, url: &str, form: &str) -> Value {
        self.ask("finish", json!({"url": url, "form": form})).await
    }

    pub(crate) async fn userinfo(&self) -> Value {
        self.ask("userinfo", Value::Null).await
    }

    /// New tokens.
    pub(crate) async fn refresh(&self) -> Value {
        self.ask("refresh", Value::Null).await
    }

    /// The same, which may fail.
    pub(crate) async fn try_to_refresh(&self) -> Result<Value, String> {
        self.0.command("refresh", Value::Null).await
    }

    /// New tokens for some of the scope.
    pub(crate) async fn refresh_for(&self, scope: &str) -> Value {
        self.ask("refresh", json!({"scope": scope})).await
    }

    /// What the issuer says of the access token.
    pub(crate) async fn introspect(&self) -> Value {
        self.ask("introspect", Value::Null).await
    }

    /// Gives the refresh token back.
    pub(crate) async fn revoke(&self) {
        self.ask("revoke", Value::Null).await;
    }

    /// The address to send somebody to who signs out, and who is then to come to `uri`.
    pub(crate) async fn logout(&self, uri: &str, state: &str) -> String {
        text(&self.ask("logout", json!({"uri": uri, "state": state})).await)
    }

    async fn ask(&self, command: &str, arguments: Value) -> Value {
        self.0.command(command, arguments).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("an address").to_owned()
}
