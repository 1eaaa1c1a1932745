//! The documents as clients on the wire see them: key set, discovery, tokens, metrics; over HTTP/1.1 and HTTP/2.

use std::io::Read as _;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use keywheel_jose::PublicJwk;
use serde_json::{Value, json};

use crate::harness::{
    Issuer, Reply, Settings, claims, get, header, kid, kids, post_form, send, send_with_prior_knowledge,
};

const BILLING: (&str, &str) = ("billing", Settings::SECRET);
const BOTH_RINGS: Settings = Settings { keys: "algorithms = [\"ES256\", \"RS256\"]\n", ..Settings::PLAIN };

#[tokio::test]
async fn the_key_set_holds_public_members_and_nothing_else() {
    let issuer = Issuer::new(BOTH_RINGS);
    let _running = issuer.serve().await;

    let reply = get(&issuer.jwks_uri()).await.expect("a response");

    assert_eq!(reply.header("content-type"), "application/jwk-set+json");
    assert_eq!(reply.header("cache-control"), "public, max-age=300, s-maxage=30");
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert!(reply.header("set-cookie").is_empty());
    let jwks = reply.json();
    assert_eq!(members(&jwks), ["keys"]);
    let keys = jwks["keys"].as_array().expect("keys");
    let algorithms: Vec<&str> = keys.iter().filter_map(|key| key["alg"].as_str()).collect();
    assert!(algorithms.contains(&"ES256") && algorithms.contains(&"RS256"), "{algorithms:?}");
    for key in keys {
        let expected: &[&str] = match key["kty"].as_str() {
            Some("EC") => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            Some("RSA") => &["alg", "e", "kid", "kty", "n", "use"],
            other => panic!("an unexpected kty: {other:?}"),
        };
        assert_eq!(members(key), expected);
        assert_eq!(key["use"], "sig");
        // RFC 7638: nobody can choose a kid.
        let thumbprint = PublicJwk::from_json(key).expect("a public key").thumbprint();
        assert_eq!(key["kid"], thumbprint.as_str());
    }
    assert_eq!(kids(&jwks).len(), keys.len(), "two keys with one kid");
}

#[tokio::test]
async fn a_cache_that_has_the_key_set_is_told_so() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let whole = get(&issuer.jwks_uri()).await.expect("a response");
    let etag = whole.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "a strong validator: {etag}");

    for tags in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let reply = ask(&issuer, Method::GET, &[("if-none-match", &tags)]).await;
        assert_eq!(reply.status, 304, "{tags}");
        assert!(reply.body.is_empty(), "{tags}");
        assert_eq!(reply.header("etag"), etag, "{tags}");
        assert_eq!(reply.header("cache-control"), whole.header("cache-control"), "{tags}");
    }
    let reply = ask(&issuer, Method::GET, &[("if-none-match", "\"other\"")]).await;
    assert_eq!((reply.status.as_u16(), &reply.body), (200, &whole.body));

    let head = ask(&issuer, Method::HEAD, &[]).await;
    assert_eq!(head.status, 200);
    assert!(head.body.is_empty());
    for name in ["etag", "cache-control", "content-type"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
}

#[tokio::test]
async fn the_key_set_is_compressed_for_those_who_ask() {
    let issuer = Issuer::new(BOTH_RINGS);
    let _running = issuer.serve().await;
    let plain = get(&issuer.jwks_uri()).await.expect("a response");

    let gzipped = ask(&issuer, Method::GET, &[("accept-encoding", "br;q=1, gzip;q=0.5")]).await;

    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(gzipped.header("content-encoding"), "gzip");
    for reply in [&plain, &gzipped] {
        assert_eq!(reply.header("vary").to_ascii_lowercase(), "accept-encoding");
    }
    assert_ne!(gzipped.header("etag"), plain.header("etag"), "other bytes need another strong validator");
    assert!(gzipped.body.len() < plain.body.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(gzipped.body.as_ref()).read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain.body);
    let refused = ask(&issuer, Method::GET, &[("accept-encoding", "gzip;q=0, identity")]).await;
    assert_eq!(refused.header("content-encoding"), "");
}

#[tokio::test]
async fn public_documents_are_only_read() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;

    for path in
        ["/.well-known/jwks.json", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"]
    {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let request = Request::builder().method(method.clone()).uri(issuer.at(path));
            let reply = send(request.body(Full::default()).expect("a request")).await.expect("a response");
            assert_eq!(reply.status, 405, "{method} {path}");
            assert!(reply.header("allow").contains("GET"), "{method} {path}");
        }
    }
    let reply = get(&issuer.at("/nothing/here")).await.expect("a response");
    assert_eq!(reply.status, 404);
    assert_eq!(reply.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn discovery_lists_exactly_what_works() {
    let issuer = Issuer::new(BOTH_RINGS);
    let _running = issuer.serve().await;

    let openid = get(&issuer.at("/.well-known/openid-configuration")).await.expect("a response");
    let oauth = get(&issuer.at("/.well-known/oauth-authorization-server")).await.expect("a response");

    for reply in [&openid, &oauth] {
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").starts_with("application/json"));
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        let document = reply.json();
        assert_eq!(document["issuer"], issuer.url(), "compared as a string by every verifier");
        assert_eq!(
            document["grant_types_supported"],
            json!(["authorization_code", "refresh_token", "client_credentials"])
        );
        assert_eq!(
            document["token_endpoint_auth_methods_supported"],
            json!(["client_secret_basic", "client_secret_post", "private_key_jwt", "none"])
        );
        let listed: Vec<&str> = members(&document).into_iter().filter(|name| name.ends_with("_endpoint")).collect();
        let expected = ["authorization", "end_session", "introspection", "revocation", "token", "userinfo"];
        assert_eq!(listed, expected.map(|name| format!("{name}_endpoint")));
        for name in listed {
            let reply = get(document[name].as_str().expect("a URL")).await.expect("a response");
            assert_ne!(reply.status, 404, "{name} is listed and does not work");
            assert!(reply.status.as_u16() < 500, "{name}: {}", reply.text());
        }
        let jwks_uri = document["jwks_uri"].as_str().expect("jwks_uri");
        assert_eq!(get(jwks_uri).await.expect("a response").status, 200);
        let token_endpoint = document["token_endpoint"].as_str().expect("token_endpoint");
        let granted = post_form(token_endpoint, "grant_type=client_credentials", Some(BILLING)).await;
        assert_eq!(granted.expect("a response").status, 200);
    }
    assert_eq!(openid.json()["id_token_signing_alg_values_supported"], json!(["ES256", "RS256"]));
}

#[tokio::test]
async fn a_token_says_what_rfc_9068_asks_for() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    // One scope is not the client's: what is granted is narrowed, and the answer says so (RFC 6749 §3.3).
    let form = "grant_type=client_credentials&scope=invoices:read+admin&resource=https%3A%2F%2Fother.example.com";

    let reply = issuer.token_reply(form, BILLING).await;

    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(reply.header("content-type").starts_with("application/json"));
    let answer = reply.json();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 600);
    assert_eq!(answer["scope"], "invoices:read");
    let token = answer["access_token"].as_str().expect("access_token");
    assert_eq!(header(token)["typ"], "at+jwt");
    assert!(kids(&issuer.jwks().await).contains(&kid(token)));
    let claims = claims(token);
    let iat = claims["iat"].as_i64().expect("iat");
    assert_eq!(claims["exp"], iat + 600);
    assert_eq!(claims["iss"], issuer.url());
    assert_eq!(claims["sub"], "billing");
    assert_eq!(claims["client_id"], "billing");
    assert_eq!(claims["aud"], "https://other.example.com");
    assert_eq!(claims["scope"], "invoices:read");
    let jti = claims["jti"].as_str().expect("jti").to_owned();
    let next = self::claims(&issuer.token(BILLING).await);
    assert_ne!(next["jti"], jti.as_str());
    assert_eq!(next["scope"], "invoices:read invoices:write", "no scope asked for is all the client has");
    assert_eq!(next["aud"], Settings::AUDIENCE, "the first audience is the default");
}

#[tokio::test]
async fn credentials_in_the_form_and_encoded_ones_in_the_header_are_read() {
    // RFC 6749 §2.3.1: id and secret are form-encoded before they are joined by a colon.
    let tables = "[[client]]\nid = \"a/b+c%d\"\nsecret = \"+%& 3456789 123456789 123456789 12\"\n";
    let issuer = Issuer::new(Settings { tables, ..Settings::PLAIN });
    let _running = issuer.serve().await;
    let (id, secret) = ("a%2Fb%2Bc%25d", "%2B%25%26+3456789+123456789%20123456789%2012");

    let basic = issuer.token_reply("grant_type=client_credentials", (id, secret)).await;
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let posted = post_form(&issuer.at("/oauth2/token"), &form, None).await.expect("a response");

    assert_eq!(basic.status, 200, "{}", basic.text());
    assert_eq!(posted.status, 200, "{}", posted.text());
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_begin_with_it() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let request = || Request::get(issuer.jwks_uri()).body(Full::default()).expect("a request");

    let first = send(request()).await.expect("a response over HTTP/1.1");
    let second = send_with_prior_knowledge(request()).await.expect("a response over HTTP/2");

    assert_eq!(second.status, 200);
    assert_eq!(second.body, first.body);
    assert_eq!(second.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn metrics_tell_the_state_of_each_ring() {
    let issuer = Issuer::new(BOTH_RINGS);
    let _running = issuer.serve().await;
    let kid = kid(&issuer.token(BILLING).await);
    issuer.token(BILLING).await;
    issuer.token_reply("grant_type=password", BILLING).await;

    let reply = get(&format!("http://{}/metrics", issuer.metrics)).await.expect("a response");

    assert_eq!(reply.status, 200);
    let text = reply.text();
    for alg in ["ES256", "RS256"] {
        let of = |name: &str| sample(text, &format!("keywheel_{name}{{alg=\"{alg}\"}}"));
        // A new issuer's first key begins two clock skews back, 30 s each.
        assert!((60.0..120.0).contains(&of("key_active_age_seconds")), "{text}");
        assert!(of("key_next_rotation_seconds") > 86_400.0, "{text}");
        assert!(of("key_rotation_overdue") == 0.0, "{text}");
        assert!(of("keys_published") >= 1.0, "{text}");
    }
    let signed = format!("keywheel_tokens_signed_total{{alg=\"ES256\",kid=\"{kid}\"}}");
    assert!(sample(text, &signed) == 2.0, "{text}");
    assert!(sample(text, "keywheel_token_refusals_total{error=\"unsupported_grant_type\"}") == 1.0, "{text}");
    assert!(!text.contains("billing"), "metrics must not name clients");

    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&format!("http://{}{path}", issuer.metrics)).await.expect("a response").status, 200);
    }
    let public = get(&issuer.at("/metrics")).await.expect("a response");
    assert_eq!(public.status, 404, "metrics belong to the other listener");
}

async fn ask(issuer: &Issuer, method: Method, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(issuer.jwks_uri());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(Full::<Bytes>::default()).expect("a request")).await.expect("a response")
}

fn members(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn sample(text: &str, series: &str) -> f64 {
    let line =
        text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("no {series} in {text}"));
    line.trim().parse().expect("a number")
}
