//! The endpoints, through the router, with a clock that the test moves.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use keywheel_jose::{AccessTokenClaims, Algorithm, KeySet, Policy, Timestamp, Verified, check};
use serde_json::json;

use crate::app::StartError;
use crate::keys::seal::SealError;
use crate::testing::{CLIENT, Home, SECRET, START, ask, ask_raw, bytes, get, json, send, token};

/// Checks a token as a resource server would that fetches the JWKS now.
async fn verified(app: &std::sync::Arc<crate::app::App>, token: &str) -> Verified<AccessTokenClaims> {
    let keys = KeySet::parse(&bytes(get(app, "/.well-known/jwks.json").await).await).expect("a JWKS");
    assert!(keys.refused().is_empty());
    let policy = Policy::access_token("http://localhost:8080", "https://api.example.com");
    check(token, &keys, &policy, app.clock.now()).expect("the token holds")
}

fn kid(token: &str) -> String {
    keywheel_jose::UnverifiedJwt::parse(token, 16_384).expect("a token").kid().expect("a kid").to_owned()
}

#[tokio::test]
async fn a_client_gets_a_token_that_the_published_keys_verify() {
    let home = Home::new();
    let app = home.open().await;

    let response = ask(&app, "grant_type=client_credentials&scope=invoices:read").await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["pragma"], "no-cache");
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer = json(response).await;
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 10);
    assert_eq!(answer["scope"], "invoices:read");
    let verified = verified(&app, answer["access_token"].as_str().expect("a token")).await;
    let claims = verified.claims();
    assert_eq!(claims.sub, CLIENT);
    assert_eq!(claims.client_id, CLIENT);
    assert_eq!(claims.iat, Timestamp::from_unix(START));
    assert_eq!(verified.expires_at(), Timestamp::from_unix(START + 10));
}

#[tokio::test]
async fn two_tokens_never_have_the_same_id() {
    let home = Home::new();
    let app = home.open().await;

    let [one, other] = [token(&app).await, token(&app).await];

    assert_ne!(verified(&app, &one).await.claims().jti, verified(&app, &other).await.claims().jti);
}

#[tokio::test]
async fn every_algorithm_signs_for_the_clients_that_ask_for_it() {
    let home = Home::new();
    let mut config = home.config(r#"algorithms = ["EdDSA", "ES256", "RS256", "PS256"]"#);
    for alg in Algorithm::ALL.iter().filter(|alg| config.keys.algorithms.contains(alg)) {
        let mut client = config.clients[0].clone();
        client.id = format!("wants-{alg}");
        client.access_token_alg = Some(*alg);
        config.clients.push(client);
    }
    let clients = config.clients.clone();
    let app = crate::app::App::open(config, home.edges()).await.expect("an issuer");

    for client in clients {
        let form = format!("grant_type=client_credentials&client_id={}&client_secret={SECRET}", client.id);
        let answer = json(ask_raw(&app, &form).await).await;

        let verified = verified(&app, answer["access_token"].as_str().expect("a token")).await;
        assert_eq!(verified.algorithm(), Some(client.access_token_alg.unwrap_or(Algorithm::EdDSA)));
    }
}

#[tokio::test]
async fn the_standby_signs_when_its_time_comes_though_nothing_fires() {
    let home = Home::new();
    let app = home.open().await;
    let before = token(&app).await;

    home.clock.advance(59);
    app.keys.confirm_fresh(app.clock.elapsed());
    let after = token(&app).await;

    assert_ne!(kid(&before), kid(&after));
    verified(&app, &after).await;
}

#[tokio::test]
async fn tokens_hold_from_birth_to_expiry_over_many_rotations() {
    let home = Home::new();
    let app = home.open().await;
    let mut kids = std::collections::BTreeSet::new();
    let mut alive: Vec<String> = Vec::new();

    for _ in 0..300 {
        let new = token(&app).await;
        kids.insert(kid(&new));
        alive.push(new);
        for old in &alive {
            verified(&app, old).await;
        }
        home.clock.advance(1);
        app.rotator().tick().await.expect("a visit");
        if alive.len() == 10 {
            alive.remove(0);
        }
    }

    assert!(kids.len() >= 5, "{} keys signed", kids.len());
    let published = KeySet::parse(&bytes(get(&app, "/.well-known/jwks.json").await).await).expect("a JWKS");
    assert!(published.len() <= app.config.keys.rotation.max_published_keys());
}

#[tokio::test]
async fn an_issuer_that_has_not_read_its_rows_for_too_long_stops_signing_and_says_so() {
    let home = Home::new();
    let app = home.open().await;

    home.clock.advance(28);
    let response = ask(&app, "grant_type=client_credentials").await;

    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(json(response).await["error"], "temporarily_unavailable");
    let ready = get(&app, "/readyz").await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8(bytes(ready).await).expect("text").contains("max_staleness"));
    // Inequality 5: announce 30 s, less 5 s, 1 s and 2 s.
    assert_eq!(get(&app, "/.well-known/jwks.json").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    app.rotator().tick().await.expect("a visit");
    assert_eq!(get(&app, "/readyz").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_clock_too_far_from_the_databases_is_not_ready() {
    let home = Home::new();
    let app = home.open().await;
    let ready = async || {
        let response = get(&app, "/readyz").await;
        (response.status(), String::from_utf8(bytes(response).await).expect("text"))
    };

    // The answer took 400 ms, so up to that much of the difference may be the way.
    app.keys.compare_clock(10_000, 12_300, 10_400);
    assert_eq!(ready().await.0, StatusCode::OK, "behind by 1.9 s, and 2 s are allowed");
    app.keys.compare_clock(10_000, 12_500, 10_400);
    let (status, why) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.contains("-2100 ms") && why.contains("clock_skew"), "{why}");
    app.keys.compare_clock(10_000, 7_900, 10_400);
    assert!(ready().await.1.contains("2100 ms"));
    app.keys.compare_clock(10_000, 10_100, 10_400);
    assert_eq!(ready().await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_key_set_without_keys_is_never_handed_out() {
    let home = Home::new();
    let app = home.open().await;

    // Before the first key was published, by this clock.
    home.clock.advance(-3600);

    assert_eq!(get(&app, "/.well-known/jwks.json").await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_keys() {
    let home = Home::new();
    let first = home.open().await;
    let old = token(&first).await;
    first.store.close().await;

    let second = home.open().await;

    assert_eq!(kid(&token(&second).await), kid(&old));
    verified(&second, &old).await;
}

#[tokio::test]
async fn an_algorithm_that_is_added_later_is_announced_before_it_signs() {
    let home = Home::new();
    home.open().await.store.close().await;
    let app = home.open_with(r#"algorithms = ["EdDSA", "ES256"]"#).await.expect("an issuer");
    app.rotator().tick().await.expect("a visit");

    let early = verified(&app, &token(&app).await).await.algorithm();
    // The announcement of 30 s, 2 s of skew, and a poll until it is stored.
    home.clock.advance(33);
    app.rotator().tick().await.expect("a visit");
    let later = verified(&app, &token(&app).await).await.algorithm();

    assert_eq!((early, later), (Some(Algorithm::ES256), Some(Algorithm::EdDSA)));
}

#[tokio::test]
async fn a_longer_token_lifetime_is_promised_before_the_first_such_token() {
    let home = Home::new();
    home.open().await.store.close().await;
    let mut config = home.config(r#"algorithms = ["ES256"]"#);
    let longer = std::fs::read_to_string(home.path().join("keywheel.toml")).expect("read");
    let file = home.path().join("longer.toml");
    std::fs::write(&file, longer.replace("access_ttl = \"10s\"", "access_ttl = \"50s\"")).expect("written");
    config = crate::config::Config::load(Some(&file), std::iter::empty()).map_or(config, |loaded| loaded.config);
    assert_eq!(config.tokens.access_ttl.as_secs(), 50);

    let app = crate::app::App::open(config, home.edges()).await.expect("an issuer");
    let new = token(&app).await;

    let signer = kid(&new);
    let promised = app.keys.with_ring(|ring| ring.key(&signer).expect("the signer").max_ttl);
    assert_eq!(promised.as_secs(), 50);
}

#[tokio::test]
async fn a_missing_or_wrong_key_encryption_key_is_a_refusal_and_no_new_keys() {
    let home = Home::new();
    let first = home.open().await;
    let kids = |keys: Vec<crate::storage::StoredKey>| keys.into_iter().map(|key| key.record.kid).collect::<Vec<_>>();
    let before = kids(first.store.load_keys().await.expect("keys"));
    first.store.close().await;
    let kek = home.path().join("kek");
    let right = std::fs::read(&kek).expect("read");

    std::fs::remove_file(&kek).expect("removed");
    let missing = home.open_with(r#"algorithms = ["ES256"]"#).await.err().expect("refused");
    assert!(matches!(&missing, StartError::Seal(SealError::FileMissing(_))) && missing.is_configuration());
    assert!(!kek.exists(), "none is made for a database that has keys");

    std::fs::write(&kek, "A".repeat(43) + "=").expect("written");
    let wrong = home.open_with(r#"algorithms = ["ES256"]"#).await.err().expect("refused");
    assert!(wrong.is_configuration());
    assert!(crate::chain(&wrong).contains("sealed under"), "{}", crate::chain(&wrong));

    std::fs::write(&kek, right).expect("written");
    let again = home.open().await;
    assert_eq!(kids(again.store.load_keys().await.expect("keys")), before);
}

#[tokio::test]
async fn every_bad_token_request_gets_its_registered_error() {
    let home = Home::new();
    let app = home.open().await;
    let cases = [
        ("", StatusCode::BAD_REQUEST, "invalid_request"),
        ("grant_type=", StatusCode::BAD_REQUEST, "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials", StatusCode::BAD_REQUEST, "invalid_request"),
        ("grant_type=client_credentials&x=%zz", StatusCode::BAD_REQUEST, "invalid_request"),
        ("grant_type=password&username=alice&password=x", StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        ("grant_type=nonsense", StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        ("grant_type=client_credentials&scope=admin", StatusCode::BAD_REQUEST, "invalid_scope"),
        ("grant_type=client_credentials&scope=a++b", StatusCode::BAD_REQUEST, "invalid_scope"),
        ("grant_type=client_credentials&resource=x", StatusCode::BAD_REQUEST, "invalid_target"),
    ];
    for (form, status, error) in cases {
        let response = ask(&app, form).await;
        assert_eq!(response.status(), status, "{form}");
        assert_eq!(response.headers()["cache-control"], "no-store", "{form}");
        assert_eq!(json(response).await["error"], error, "{form}");
    }
    let response = ask_raw(&app, &format!("grant_type=client_credentials&client_id={CLIENT}&client_secret=x")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.headers().contains_key("www-authenticate"));
    assert_eq!(json(response).await["error"], "invalid_client");
}

#[tokio::test]
async fn what_is_not_a_form_is_refused() {
    let home = Home::new();
    let app = home.open().await;
    let request = |kind: Option<&str>, uri: &str, body: Vec<u8>| {
        let builder = Request::post(uri);
        let builder = match kind {
            Some(kind) => builder.header("content-type", kind),
            None => builder,
        };
        builder.body(Body::from(body)).expect("a request")
    };
    let form = "application/x-www-form-urlencoded";
    let good = format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={SECRET}");
    let cases = [
        (request(None, "/oauth2/token", good.clone().into()), StatusCode::BAD_REQUEST),
        (request(Some("application/json"), "/oauth2/token", b"{}".to_vec()), StatusCode::BAD_REQUEST),
        (request(Some(form), "/oauth2/token?client_id=x", good.clone().into()), StatusCode::BAD_REQUEST),
        (request(Some(form), "/oauth2/token", vec![b'a'; 70_000]), StatusCode::PAYLOAD_TOO_LARGE),
        (request(Some(form), "/oauth2/token", vec![0xff; 10]), StatusCode::BAD_REQUEST),
    ];
    for (number, (request, status)) in cases.into_iter().enumerate() {
        let response = send(&app, request).await;
        assert_eq!(response.status(), status, "case {number}");
        assert_eq!(json(response).await["error"], "invalid_request", "case {number}");
    }
    let charset = request(Some("Application/x-www-form-urlencoded; charset=UTF-8"), "/oauth2/token", good.into());
    assert_eq!(send(&app, charset).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn other_methods_and_addresses_are_refused_in_words() {
    let home = Home::new();
    let app = home.open().await;
    for (method, path, status, allow) in [
        (Method::GET, "/oauth2/token", StatusCode::METHOD_NOT_ALLOWED, Some("POST, OPTIONS")),
        (Method::PUT, "/oauth2/token", StatusCode::METHOD_NOT_ALLOWED, Some("POST, OPTIONS")),
        (Method::POST, "/.well-known/jwks.json", StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD, OPTIONS")),
        (Method::GET, "/nothing", StatusCode::NOT_FOUND, None),
        (Method::GET, "/metrics", StatusCode::NOT_FOUND, None),
    ] {
        let request = Request::builder().method(method.clone()).uri(path).body(Body::empty()).expect("a request");
        let response = send(&app, request).await;

        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers().get("allow").map(|value| value.to_str().expect("text")), allow);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn the_jwks_is_answered_conditionally_compressed_and_to_every_origin() {
    let home = Home::new();
    let app = home.open().await;
    let path = "/.well-known/jwks.json";

    let plain = get(&app, path).await;
    assert_eq!(plain.headers()["content-type"], "application/jwk-set+json");
    assert_eq!(plain.headers()["cache-control"], "public, max-age=5, s-maxage=1");
    assert_eq!(plain.headers()["access-control-allow-origin"], "*");
    let etag = plain.headers()["etag"].clone();
    let body = bytes(plain).await;
    assert!(body.starts_with(br#"{"keys":[{"kty":"EC","kid":"#), "{}", String::from_utf8_lossy(&body));

    let unchanged = Request::get(path).header("if-none-match", &etag).body(Body::empty()).expect("a request");
    let unchanged = send(&app, unchanged).await;
    assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(unchanged.headers()["etag"], etag);
    assert!(bytes(unchanged).await.is_empty());

    let gzip = Request::get(path).header("accept-encoding", "gzip").body(Body::empty()).expect("a request");
    let gzip = send(&app, gzip).await;
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
    assert_ne!(gzip.headers()["etag"], etag);
    let mut unpacked = Vec::new();
    let packed = bytes(gzip).await;
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut unpacked).expect("gzip");
    assert_eq!(unpacked, body);

    let head = Request::head(path).body(Body::empty()).expect("a request");
    let head = send(&app, head).await;
    assert_eq!(head.headers()["content-length"], body.len().to_string().as_str());
    assert!(bytes(head).await.is_empty());

    let preflight = Request::options(path).header("origin", "https://app.example").body(Body::empty());
    let preflight = send(&app, preflight.expect("a request")).await;
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(preflight.headers()["access-control-allow-methods"], "GET, HEAD");
}

#[tokio::test]
async fn discovery_lists_what_works_and_nothing_more() {
    let home = Home::new();
    let app = home.open().await;

    let document = json(get(&app, "/.well-known/openid-configuration").await).await;

    let with_secrets = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    let with_all = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];
    let algorithms = Algorithm::ALL.map(Algorithm::as_str);
    let expected = json!({
        "issuer": "http://localhost:8080",
        "authorization_endpoint": "http://localhost:8080/oauth2/authorize",
        "token_endpoint": "http://localhost:8080/oauth2/token",
        "userinfo_endpoint": "http://localhost:8080/oauth2/userinfo",
        "jwks_uri": "http://localhost:8080/.well-known/jwks.json",
        "revocation_endpoint": "http://localhost:8080/oauth2/revoke",
        "introspection_endpoint": "http://localhost:8080/oauth2/introspect",
        "end_session_endpoint": "http://localhost:8080/oauth2/logout",
        "scopes_supported": ["openid", "profile", "email", "address", "phone", "roles", "offline_access"],
        "claims_supported": [
            "sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "name", "family_name",
            "given_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender",
            "birthdate", "zoneinfo", "locale", "updated_at", "email", "email_verified", "address", "phone_number",
            "phone_number_verified", "roles", "groups",
        ],
        "claim_types_supported": ["normal"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "ui_locales_supported": ["en", "de"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": with_all,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": with_all,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_methods_supported": with_secrets,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "authorization_response_iss_parameter_supported": true,
        "claims_parameter_supported": true,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "frontchannel_logout_supported": true,
        "frontchannel_logout_session_supported": true,
    });
    assert_eq!(document, expected);
}

#[tokio::test]
async fn an_issuer_with_a_path_has_its_endpoints_below_it() {
    let home = Home::new();
    let mut config = home.config(r#"algorithms = ["ES256"]"#);
    config.issuer = crate::config::IssuerUrl::parse("https://example.com/id").expect("an issuer");
    let app = crate::app::App::open(config, home.edges()).await.expect("an issuer");

    for path in [
        "/id/.well-known/jwks.json",
        "/id/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/id",
        "/healthz",
    ] {
        assert_eq!(get(&app, path).await.status(), StatusCode::OK, "{path}");
    }
    let metadata = json(get(&app, "/id/.well-known/openid-configuration").await).await;
    assert_eq!(metadata["jwks_uri"], "https://example.com/id/.well-known/jwks.json");
}

#[tokio::test]
async fn metrics_tell_of_keys_and_tokens() {
    let home = Home::new();
    let app = home.open().await;
    let signer = kid(&token(&app).await);
    ask(&app, "grant_type=nonsense").await;
    home.clock.advance(5);

    let text = app.render_metrics();

    for line in [
        &format!("keywheel_tokens_signed_total{{alg=\"ES256\",kid=\"{signer}\"}} 1"),
        "keywheel_key_active_age_seconds{alg=\"ES256\"} 9",
        "keywheel_key_next_rotation_seconds{alg=\"ES256\"} 51",
        "keywheel_key_rotation_overdue{alg=\"ES256\"} 0",
        "keywheel_keys_published{alg=\"ES256\"} 2",
        "keywheel_token_refusals_total{error=\"unsupported_grant_type\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains(SECRET));
}
