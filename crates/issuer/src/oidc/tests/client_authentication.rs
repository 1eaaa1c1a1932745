//! `private_key_jwt`, and the methods that need no database.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use keywheel_jose::Algorithm;
use serde_json::{Value, json};
use signature::Signer as _;

use super::*;
use crate::clients::{ClientKeys, Jwks, WebUri};
use crate::keys::material::{PrivateKey, SigningKey};
use crate::outgoing::tests::Server;
use crate::testing::START;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A key of a client.
struct Key(PrivateKey);

impl Key {
    fn new() -> Self {
        Self(PrivateKey::generate(Algorithm::EdDSA, 2048).expect("a key"))
    }

    fn kid(&self) -> &str {
        self.0.jwk.kid().expect("a thumbprint")
    }

    fn jwks(&self) -> String {
        json!({ "keys": [&self.0.jwk] }).to_string()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let key = SigningKey::parse(Algorithm::EdDSA, &self.0.pkcs8).expect("a key");
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signature = key.try_sign(format!("{header}.{claims}").as_bytes()).expect("a signature");
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn assertion(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": "EdDSA", "kid": self.kid(), "typ": "JWT" }), claims)
    }
}

fn claims(jti: &str) -> Value {
    json!({ "iss": "signer", "sub": "signer", "aud": ISSUER, "exp": START + 60, "iat": START, "jti": jti })
}

/// [`claims`] with some of them others, or taken out.
fn changed(changes: &Value) -> Value {
    let mut claims = claims("changed");
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// A world with a client `signer`, which has these keys.
async fn world(keys: ClientKeys, alg: Option<Algorithm>) -> World {
    World::with(|clients| {
        let mut signer = clients.last().expect("a client").clone();
        signer.id = "signer".to_owned();
        signer.authentication = Authentication::PrivateKeyJwt { keys, alg };
        clients.push(signer);
    })
    .await
}

async fn inline(key: &Key) -> World {
    world(ClientKeys::Inline(Jwks::parse(key.jwks().as_bytes()).expect("keys")), None).await
}

impl World {
    async fn assert_by(&self, assertion: &str) -> (StatusCode, Value) {
        self.assert_with(assertion, "").await
    }

    async fn assert_with(&self, assertion: &str, more: &str) -> (StatusCode, Value) {
        let form = format!("grant_type=client_credentials&client_assertion_type={TYPE}&client_assertion={assertion}");
        self.ask("/oauth2/token", &format!("{form}{more}")).await
    }
}

#[tokio::test]
async fn an_assertion_authenticates_once() {
    let key = Key::new();
    let world = inline(&key).await;
    let assertion = key.assertion(&claims("1"));

    assert_eq!(world.assert_by(&assertion).await.0, StatusCode::OK);
    let (status, answer) = world.assert_by(&assertion).await;

    assert_eq!((status, &answer["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
    assert_eq!(world.assert_by(&key.assertion(&claims("2"))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn of_eight_at_once_one_is_let_in() {
    let key = Key::new();
    let world = inline(&key).await;
    let assertion = key.assertion(&claims("1"));

    let attempts = std::array::from_fn::<_, 8, _>(|_| {
        let (app, assertion) = (Arc::clone(&world.app), assertion.clone());
        tokio::spawn(async move {
            let form =
                format!("grant_type=client_credentials&client_assertion_type={TYPE}&client_assertion={assertion}");
            send(&app, post("/oauth2/token", &form)).await.status()
        })
    });
    let mut let_in = 0;
    for attempt in attempts {
        let_in += usize::from(attempt.await.expect("no panic") == StatusCode::OK);
    }

    assert_eq!(let_in, 1);
}

#[tokio::test]
async fn the_audience_is_ours_alone() {
    let key = Key::new();
    let world = inline(&key).await;
    let token_endpoint = format!("{ISSUER}/oauth2/token");
    for (number, (audience, status)) in [
        (json!(ISSUER), StatusCode::OK),
        (json!(token_endpoint), StatusCode::OK),
        (json!([ISSUER]), StatusCode::OK),
        (json!([token_endpoint, ISSUER]), StatusCode::OK),
        (json!([ISSUER, "https://other.example.com"]), StatusCode::UNAUTHORIZED),
        (json!("https://other.example.com"), StatusCode::UNAUTHORIZED),
        (json!(format!("{ISSUER}/")), StatusCode::UNAUTHORIZED),
        (json!(format!("{ISSUER}/oauth2/introspect")), StatusCode::UNAUTHORIZED),
        (json!([]), StatusCode::UNAUTHORIZED),
    ]
    .into_iter()
    .enumerate()
    {
        let claims = changed(&json!({ "aud": audience, "jti": number.to_string() }));

        assert_eq!(world.assert_by(&key.assertion(&claims)).await.0, status, "{audience}");
    }
    let claims = changed(&json!({ "aud": format!("{ISSUER}/oauth2/introspect") }));
    let form = format!("token=x&client_assertion_type={TYPE}&client_assertion={}", key.assertion(&claims));
    assert_eq!(world.ask("/oauth2/introspect", &form).await.0, StatusCode::OK, "the endpoint that is asked");
}

#[tokio::test]
async fn an_assertion_that_says_too_little_or_too_much_is_refused() {
    let key = Key::new();
    let world = inline(&key).await;
    for change in [
        json!({ "iss": "shop" }),
        json!({ "iss": null }),
        json!({ "iss": "nobody" }),
        json!({ "sub": "shop" }),
        json!({ "sub": null }),
        json!({ "aud": null }),
        json!({ "exp": null }),
        json!({ "exp": START - 3 }),
        json!({ "exp": START + 3603 }),
        json!({ "exp": "soon" }),
        json!({ "nbf": START + 60 }),
        json!({ "jti": null }),
        json!({ "jti": "" }),
        json!({ "jti": 7 }),
        json!({ "jti": "x".repeat(257) }),
        json!({ "cnf": { "jkt": "x" } }),
    ] {
        let (status, answer) = world.assert_by(&key.assertion(&changed(&change))).await;

        assert_eq!((status, &answer["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")), "{change}");
    }
    // None of them was used up by that.
    assert_eq!(world.assert_by(&key.assertion(&changed(&json!({ "exp": START + 3600 })))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn only_the_clients_key_and_algorithm_count() {
    let (key, others) = (Key::new(), Key::new());
    let world = inline(&key).await;
    let refused = StatusCode::UNAUTHORIZED;

    assert_eq!(world.assert_by(&others.assertion(&claims("1"))).await.0, refused);
    let posing = others.sign(&json!({ "alg": "EdDSA", "kid": key.kid() }), &claims("2"));
    assert_eq!(world.assert_by(&posing).await.0, refused);
    let unsigned = key.sign(&json!({ "alg": "none" }), &claims("3"));
    assert_eq!(world.assert_by(unsigned.rsplit_once('.').expect("a JWT").0).await.0, refused);
    assert_eq!(world.assert_by(&key.sign(&json!({ "alg": "HS256", "kid": key.kid() }), &claims("4"))).await.0, refused);
    let without_kid = key.sign(&json!({ "alg": "EdDSA" }), &claims("5"));
    assert_eq!(world.assert_by(&without_kid).await.0, StatusCode::OK, "there is only one key it can be");
    for garbage in ["x", "a.b.c", "..", &"a".repeat(20_000)] {
        assert_eq!(world.assert_by(garbage).await.0, refused, "{garbage}");
    }
    let keys = ClientKeys::Inline(Jwks::parse(key.jwks().as_bytes()).expect("keys"));
    let strict = self::world(keys, Some(Algorithm::ES256)).await;
    assert_eq!(strict.assert_by(&key.assertion(&claims("6"))).await.0, refused, "registered with another algorithm");
}

#[tokio::test]
async fn an_assertion_stands_alone_and_for_the_client_that_is_named() {
    let key = Key::new();
    let world = inline(&key).await;
    let assertion = key.assertion(&claims("1"));

    assert_eq!(world.assert_with(&assertion, "&client_id=shop").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(world.assert_with(&assertion, "&client_id=signer&client_secret=x").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.assert_with(&assertion, "&client_id=signer").await.0, StatusCode::OK);
    // Whoever is registered with a secret has no keys to be checked with.
    let shop = changed(&json!({ "iss": "shop", "sub": "shop" }));
    assert_eq!(world.assert_by(&key.assertion(&shop)).await.0, StatusCode::UNAUTHORIZED);
    // And whoever is registered with keys has no secret.
    let by_secret = format!("grant_type=client_credentials&client_id=signer&client_secret={SECRET}");
    assert_eq!(world.ask("/oauth2/token", &by_secret).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        world.ask("/oauth2/token", "grant_type=client_credentials&client_id=signer").await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn keys_at_an_address_are_followed_when_they_change() {
    let (old, new) = (Key::new(), Key::new());
    let server = Server::answering("200 OK", &old.jwks()).await;
    let world = world(ClientKeys::At(WebUri::parse(&server.url("/jwks")).expect("a URI")), None).await;

    assert_eq!(world.assert_by(&old.assertion(&claims("1"))).await.0, StatusCode::OK);
    server.answer("200 OK", &new.jwks());
    world.home.clock.advance(10);
    assert_eq!(world.assert_by(&new.assertion(&claims("2"))).await.0, StatusCode::OK);
    assert_eq!(world.assert_by(&old.assertion(&claims("3"))).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(server.received().len(), 2);
}

#[tokio::test]
async fn nobody_makes_us_ask_a_client_with_what_can_not_hold() {
    let key = Key::new();
    let server = Server::answering("200 OK", &key.jwks()).await;
    let world = world(ClientKeys::At(WebUri::parse(&server.url("/jwks")).expect("a URI")), None).await;

    for change in [json!({ "aud": "https://other.example.com" }), json!({ "exp": START - 60 })] {
        assert_eq!(world.assert_by(&key.assertion(&changed(&change))).await.0, StatusCode::UNAUTHORIZED);
    }

    assert!(server.received().is_empty());
}
