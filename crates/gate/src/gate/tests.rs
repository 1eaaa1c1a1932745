use std::net::Ipv4Addr;
use std::time::Duration;

use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http_body_util::Empty;
use keywheel_verifier::testing::{DpopKey, FakeIssuer};
use keywheel_verifier::{FetchError, FetchFuture, FetchKeys};

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ROUTES: &str = r#"
    [[route]]
    path = "/status"
    access = "public"
    [[route]]
    methods = ["GET"]
    path = "/invoices/**"
    scopes = ["invoices:read"]
    [[route]]
    path = "/invoices/**"
    scopes = ["invoices:read", "invoices:write"]
    [[route]]
    path = "/admin/**"
    any_role = ["admin", "owner"]
    [[route]]
    path = "/home"
    access = "optional"
"#;

/// A gate with keys that are in memory.
struct World {
    issuer: FakeIssuer,
    gate: Gate,
}

fn config(tables: &str) -> Config {
    let text =
        format!("[[issuer]]\nurl = \"https://id.example.com\"\naudience = \"{}\"\n{tables}", FakeIssuer::AUDIENCE);
    Config::read(Path::new("gate.toml"), &text, Vec::new()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn world(tables: &str) -> World {
    let issuer = FakeIssuer::in_memory();
    let verifier = issuer.verifier().build().expect("a verifier");
    let gate = Gate::for_tests(config(tables), verifier);
    World { issuer, gate }
}

fn nginx(extra: &str) -> World {
    world(&format!("[forward_auth]\nproxy = \"nginx\"\n{extra}\n{ROUTES}"))
}

/// A question of nginx.
fn asks(method: &str, uri: &str) -> http::request::Builder {
    Request::get("/verify").header("x-original-method", method).header("x-original-uri", uri)
}

fn with_token(request: http::request::Builder, token: &str) -> http::request::Builder {
    request.header(AUTHORIZATION, format!("Bearer {token}"))
}

impl World {
    async fn answer(&self, request: http::request::Builder) -> Response<Body> {
        self.gate.answer(request.body(Empty::<Bytes>::new()).expect("a request"), LOOPBACK).await
    }

    async fn status(&self, request: http::request::Builder) -> u16 {
        self.answer(request).await.status().as_u16()
    }
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> &'r str {
    response.headers().get(name).map_or("(absent)", |value| value.to_str().expect("visible ASCII"))
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn a_good_token_passes_with_its_identity() {
    let world = nginx("");
    let token = world.issuer.token().subject("alice").scope("invoices:read x").role("admin").role("a,b").sign();

    let response = world.answer(with_token(asks("GET", "/invoices/7?all"), &token)).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "x-auth-subject"), "alice");
    assert_eq!(header(&response, "x-auth-issuer"), world.issuer.issuer());
    assert_eq!(header(&response, "x-auth-scopes"), "invoices:read x");
    assert_eq!(header(&response, "x-auth-roles"), "admin,a%2Cb");
    assert_eq!(header(&response, "x-auth-email"), "");
    assert_eq!(header(&response, "cache-control"), "no-store");
}

#[tokio::test]
async fn every_identity_header_is_in_every_200() {
    let world = nginx("");
    for (method, uri) in [("GET", "/status"), ("POST", "/status?x"), ("GET", "/home")] {
        let response = world.answer(asks(method, uri)).await;
        assert_eq!(response.status(), StatusCode::OK, "{uri}");
        for (name, _) in world.gate.identity.values(None).expect("short values") {
            assert_eq!(header(&response, name.as_str()), "", "{uri} {name}");
        }
    }
}

#[tokio::test]
async fn a_public_route_does_not_look_at_the_token() {
    let world = nginx("");

    let response =
        world.answer(with_token(asks("GET", "/status"), &world.issuer.token().subject("alice").sign())).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "x-auth-subject"), "");
    assert_eq!(world.status(with_token(asks("GET", "/status"), "not.a.token")).await, 200);
}

#[tokio::test]
async fn an_optional_token_has_to_hold() {
    let world = nginx("");
    let token = world.issuer.token().subject("alice").sign();

    let response = world.answer(with_token(asks("GET", "/home"), &token)).await;

    assert_eq!(header(&response, "x-auth-subject"), "alice");
    assert_eq!(world.status(with_token(asks("GET", "/home"), &world.issuer.token().expired().sign())).await, 401);
}

#[tokio::test]
async fn what_a_token_lacks_is_said_in_the_challenge() {
    let world = nginx("");
    let token = world.issuer.token().scope("invoices:read").sign();

    let without = world.answer(asks("GET", "/invoices/7")).await;
    let forged = world.answer(with_token(asks("GET", "/invoices/7"), &world.issuer.token().forged().sign())).await;
    let lacking = world.answer(with_token(asks("DELETE", "/invoices/7"), &token)).await;
    let no_role = world.answer(with_token(asks("GET", "/admin/"), &token)).await;

    assert_eq!((without.status().as_u16(), header(&without, "www-authenticate")), (401, "Bearer realm=\"api\""));
    assert_eq!(forged.status().as_u16(), 401);
    assert!(header(&forged, "www-authenticate").contains("error=\"invalid_token\""));
    assert_eq!(lacking.status().as_u16(), 403);
    assert!(header(&lacking, "www-authenticate").contains("scope=\"invoices:read invoices:write\""));
    assert_eq!(no_role.status().as_u16(), 403);
    assert!(!text(lacking).await.contains("invoices"), "nothing of the request is repeated");
}

#[tokio::test]
async fn any_one_of_several_roles_will_do() {
    let world = nginx("");

    for role in ["admin", "owner"] {
        let token = world.issuer.token().role(role).sign();
        assert_eq!(world.status(with_token(asks("GET", "/admin/x"), &token)).await, 200, "{role}");
    }
    let token = world.issuer.token().role("administrator").sign();
    assert_eq!(world.status(with_token(asks("GET", "/admin/x"), &token)).await, 403);
}

#[tokio::test]
async fn what_no_route_fits_is_refused_with_any_token() {
    let world = nginx("");
    let token = world.issuer.token().role("admin").sign();

    let response = world.answer(with_token(asks("GET", "/elsewhere"), &token)).await;

    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(!response.headers().contains_key(WWW_AUTHENTICATE), "no other token would help");
}

#[tokio::test]
async fn without_routes_a_token_is_all_that_is_needed() {
    let world = world("");
    let token = world.issuer.token().sign();

    assert_eq!(world.status(Request::get("/verify")).await, 401);
    assert_eq!(world.status(with_token(Request::get("/verify"), &token)).await, 200);
    assert_eq!(world.status(with_token(Request::post("/verify"), &token)).await, 200);
    assert_eq!(world.status(with_token(Request::get("/verify/x"), &token)).await, 404);
    assert_eq!(world.status(with_token(Request::get("/"), &token)).await, 404);
}

#[tokio::test]
async fn a_question_that_leaves_something_open_is_refused() {
    let world = nginx("");
    let token = world.issuer.token().role("admin").scope("invoices:read").sign();
    let plain = || with_token(asks("GET", "/status"), &token);

    for (request, why) in [
        (with_token(Request::get("/verify"), &token), "nothing told"),
        (with_token(Request::get("/verify").header("x-original-uri", "/status"), &token), "no method"),
        (with_token(Request::get("/verify").header("x-original-method", "GET"), &token), "no path"),
        (plain().header("x-original-uri", "/admin"), "two paths"),
        (with_token(asks("GET", "//status"), &token), "two slashes"),
        (with_token(asks("GET", "/status/..;/admin"), &token), "parameters"),
        (with_token(asks("get", "/status"), &token), "small letters"),
        (plain().header("x_auth_subject", "root"), "an imitation"),
        (plain().header("x-http-method-override", "DELETE"), "another method"),
        (plain().header("x-rewrite-url", "/admin"), "another path"),
        (plain().header(AUTHORIZATION, "Bearer x").header("x-original-method", "PUT"), "two methods"),
    ] {
        assert_eq!(world.status(request).await, 400, "{why}");
    }
}

#[tokio::test]
async fn an_identity_header_of_the_client_is_overwritten() {
    let world = nginx("");

    let response =
        world.answer(asks("GET", "/status").header("x-auth-subject", "root").header("x-auth-roles", "admin")).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!((header(&response, "x-auth-subject"), header(&response, "x-auth-roles")), ("", ""));
}

#[tokio::test]
async fn only_the_proxies_may_ask_where_they_are_named() {
    let world = nginx("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]");
    let request = || asks("GET", "/status").body(Empty::<Bytes>::new()).expect("a request");

    let stranger = world.gate.answer(request(), LOOPBACK).await;
    let proxy = world.gate.answer(request(), IpAddr::from([10, 1, 2, 3])).await;

    assert_eq!((stranger.status().as_u16(), proxy.status().as_u16()), (403, 200));
}

#[tokio::test]
async fn a_cookie_that_changes_something_comes_from_our_own_pages() {
    let world = nginx("[token]\ncookie = \"__Host-access\"");
    let token = world.issuer.token().scope("invoices:read invoices:write").sign();
    let with_cookie =
        |method: &str| asks(method, "/invoices/7").header("cookie", format!("a=b; __Host-access={token}"));

    assert_eq!(world.status(with_cookie("GET")).await, 200);
    assert_eq!(world.status(with_cookie("POST")).await, 403);
    assert_eq!(world.status(with_cookie("POST").header("sec-fetch-site", "same-origin")).await, 200);
    assert_eq!(world.status(with_cookie("POST").header("sec-fetch-site", "cross-site")).await, 403);
    // Without the header of the original host there is no origin of our own, and that of the gate is none.
    let old_browser = |request: http::request::Builder| request.header("origin", "https://app.example.com");
    assert_eq!(world.status(old_browser(with_cookie("POST")).header("host", "app.example.com")).await, 403);
    assert_eq!(world.status(old_browser(with_cookie("POST")).header("x-forwarded-host", "app.example.com")).await, 200);
}

#[tokio::test]
async fn a_bound_token_comes_with_its_proof() {
    let world = nginx("[token]\nexternal_url = \"https://app.example.com\"");
    let key = DpopKey::generate();
    let token = world.issuer.token().scope("invoices:read").bound_to(key.thumbprint()).sign();
    let proof = |url: &str| key.proof("GET", url).access_token(&token).sign();
    let request = |proof: String| {
        asks("GET", "/invoices/7?x").header(AUTHORIZATION, format!("DPoP {token}")).header("dpop", proof)
    };

    assert_eq!(world.status(with_token(asks("GET", "/invoices/7"), &token)).await, 401);
    assert_eq!(world.status(request(proof("https://app.example.com/verify"))).await, 401);
    assert_eq!(world.status(request(proof("https://app.example.com/invoices/7"))).await, 200);
}

#[tokio::test]
async fn claims_that_no_access_token_lacks_are_demanded() {
    let world = world("");

    for claim in ["sub", "client_id", "jti", "iat"] {
        let token = world.issuer.token().without_claim(claim).sign();
        assert_eq!(world.status(with_token(Request::get("/verify"), &token)).await, 401, "{claim}");
    }
}

#[tokio::test]
async fn a_claim_too_long_for_a_header_is_no_reason_to_leave_it_out() {
    let world = world("");
    let token = world.issuer.token().claim("email", "x".repeat(5000)).sign();

    assert_eq!(world.status(with_token(Request::get("/verify"), &token)).await, 403);
}

#[tokio::test]
async fn nested_claims_are_handed_on() {
    let world = world("[headers]\nX-Realm-Roles = \"/realm_access/roles\"\n");
    let token = world.issuer.token().claim("realm_access", serde_json::json!({ "roles": ["a", "b"] })).sign();

    let response = world.answer(with_token(Request::get("/verify"), &token)).await;

    assert_eq!(header(&response, "x-realm-roles"), "a,b");
    assert_eq!(header(&response, "x-auth-subject"), "(absent)");
}

#[tokio::test]
async fn a_route_for_a_host_needs_to_know_it() {
    let world = world(
        "[forward_auth]\nproxy = \"traefik\"\n[[route]]\nhosts = [\"a.example.com\"]\npath = \"/**\"\naccess = \"public\"\n",
    );
    let asks = || Request::get("/verify").header("x-forwarded-method", "GET").header("x-forwarded-uri", "/");

    assert_eq!(world.status(asks().header("x-forwarded-host", "a.example.com:443")).await, 200);
    assert_eq!(world.status(asks().header("x-forwarded-host", "b.example.com")).await, 403);
    assert_eq!(world.status(asks()).await, 400);
    assert_eq!(world.status(asks().header("host", "a.example.com")).await, 400);
}

#[tokio::test]
async fn envoy_asks_below_the_path() {
    let world = world(
        "[forward_auth]\nproxy = \"envoy\"\n[[route]]\nmethods = [\"GET\"]\npath = \"/a/**\"\naccess = \"public\"\n",
    );

    assert_eq!(world.status(Request::get("/verify/a/b?c").header("host", "x")).await, 200);
    assert_eq!(world.status(Request::post("/verify/a/b").header("host", "x")).await, 403);
    assert_eq!(world.status(Request::get("/verify/b").header("host", "x")).await, 403);
    assert_eq!(world.status(Request::get("/verify//a/b").header("host", "x")).await, 400);
    assert_eq!(world.status(Request::get("/verify").header("host", "x")).await, 400);
    assert_eq!(world.status(Request::get("/verifya").header("host", "x")).await, 404);
}

#[tokio::test]
async fn clients_can_find_out_where_tokens_come_from() {
    let world = nginx("[resource]\nidentifier = \"https://api.example.com/v1\"\nname = \"Invoices\"");
    let at = "/.well-known/oauth-protected-resource/v1";

    let challenge = world.answer(asks("GET", "/invoices/7")).await;
    let document = world.answer(Request::get(at)).await;

    let expected = "resource_metadata=\"https://api.example.com/.well-known/oauth-protected-resource/v1\"";
    assert!(header(&challenge, "www-authenticate").contains(expected));
    assert_eq!(document.status(), StatusCode::OK);
    let document: Value = serde_json::from_str(&text(document).await).expect("JSON");
    assert_eq!(document["resource"], "https://api.example.com/v1");
    assert_eq!(document["authorization_servers"][0], world.issuer.issuer());
    assert_eq!(document["scopes_supported"], serde_json::json!(["invoices:read", "invoices:write"]));
    assert_eq!(world.status(Request::post(at)).await, 405);
}

#[tokio::test]
async fn a_token_that_is_no_jwt_is_asked_about() {
    let issuer = FakeIssuer::start().await;
    let text = format!(
        "[[issuer]]\nurl = \"{}\"\naudience = \"{}\"\n[issuer.introspection]\nurl = \"{}\"\n\
         client_id = \"{}\"\nclient_secret = \"{}\"\n",
        issuer.issuer(),
        FakeIssuer::AUDIENCE,
        issuer.introspection_url(),
        FakeIssuer::CLIENT_ID,
        FakeIssuer::CLIENT_SECRET,
    );
    let config = Config::read(Path::new("gate.toml"), &text, Vec::new()).unwrap_or_else(|errors| panic!("{errors}"));
    let gate = Gate::build(config).expect("a gate");
    let world = World { issuer, gate };
    let token = world.issuer.token().subject("alice").opaque();

    let response = world.answer(with_token(Request::get("/verify"), &token)).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "x-auth-subject"), "alice");
    assert_eq!(world.status(with_token(Request::get("/verify"), "invented")).await, 401);
}

/// Keys that never come.
struct Unreachable;

impl FetchKeys for Unreachable {
    fn fetch<'a>(&'a self, _: Option<&'a str>) -> FetchFuture<'a> {
        Box::pin(async { Err(FetchError::Status { url: String::new(), status: StatusCode::INTERNAL_SERVER_ERROR }) })
    }
}

#[tokio::test(start_paused = true)]
async fn without_keys_nobody_is_signed_out() {
    let issuer = FakeIssuer::in_memory();
    let verifier = Verifier::builder(issuer.policy()).fetch_keys_with(Unreachable).build().expect("a verifier");
    let gate = Gate::for_tests(config(""), verifier);
    let world = World { issuer, gate };

    let response = world.answer(with_token(Request::get("/verify"), &world.issuer.token().sign())).await;
    let ready = world.gate.answer_operator(&Request::get("/readyz").body(()).expect("a request"));

    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(RETRY_AFTER));
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(ready).await.contains(&format!("{}: no keys", world.issuer.issuer())));
}

#[tokio::test]
async fn operators_see_verdicts_and_keys() {
    let world = nginx("");
    let token = world.issuer.token().scope("invoices:read").sign();
    let operator = |path: &str| world.gate.answer_operator(&Request::get(path).body(()).expect("a request"));

    assert_eq!(world.status(with_token(asks("GET", "/invoices/7"), &token)).await, 200);
    assert_eq!(world.status(asks("GET", "/invoices/7")).await, 401);
    assert_eq!(world.status(asks("GET", "/a//b")).await, 400);

    assert_eq!(operator("/healthz").status(), StatusCode::OK);
    assert_eq!(operator("/verify").status(), StatusCode::NOT_FOUND);
    let ready = text(operator("/readyz")).await;
    assert!(ready.starts_with(&format!("ready\n{}: ok", world.issuer.issuer())), "{ready}");
    let metrics = text(operator("/metrics")).await;
    for line in [
        "keywheel_gate_verdicts_total{status=\"200\",code=\"passed\"} 1",
        "keywheel_gate_verdicts_total{status=\"401\",code=\"missing_token\"} 1",
        "keywheel_gate_verdicts_total{status=\"400\",code=\"bad_request\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n--\n{metrics}");
    }
}

#[tokio::test]
async fn a_gate_is_built_from_its_configuration_alone() {
    let gate = Gate::build(config("[forward_auth]\nproxy = \"caddy\"\n")).expect("a gate");
    assert_eq!(gate.verifier.policies().count(), 1);

    let mut twice = config("");
    twice.issuers.push(twice.issuers[0].clone());
    assert!(matches!(Gate::build(twice), Err(GateError::Issuers(_))));
    let contradiction = config("").issuers.remove(0);
    let limits = keywheel_verifier::Limits { trusted: Duration::from_secs(60), ..contradiction.limits.clone() };
    let mut bad = config("");
    bad.issuers = vec![IssuerSettings { limits, ..contradiction }];
    assert!(matches!(Gate::build(bad), Err(GateError::Issuer { .. })));
}
