//! What is secret stands in no log, however much is logged, and however it is written.
//!
//! Everything that the server can do is done once, on a PostgreSQL whose password is in the configuration, and whatever was
//! secret about it is looked for: as it is, and as it may be encoded. (The keys of certificates and of accounts at their
//! authorities are looked for where there are some, in `tls`.)

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use super::libraries::SIGNER_D;
use super::{ALICE, BOB, EVERYTHING, SETTINGS, SHOP, World, parameter, text};
use crate::harness::{
    End, Exit, Form, Library, Person, Postgres, RelyingParty, Settings, eventually, post_form, program, send,
};

const WRONG: &str = "a-wrong-password-that-was-typed";
/// Whose password is not in the configuration.
const CAROL: (&str, &str) = ("carol", "saffron-glacier-violin-64");
const NEW_PASSWORD: &str = "amber-quarry-nightfall-83";
const HOOK_SECRET: &str = "a-secret-of-the-hook-0123456789abcdef";
const DATABASE_PASSWORD: &str = "the-password-of-the-database";
const COLLECTOR_KEY: &str = "the-key-of-the-collector";
const KEK: &str = "a2V5d2hlZWwgc3RvcmllcywgMzIgYnl0ZXMgbG9uZyE=";

/// All there is to log, of every part of the program. The hook and the collector are the app's server.
const MORE: &str = "
    [log]
    level = \"trace\"
    requests = true
    [outgoing]
    allow_private = true
    [hooks]
    url = \"http://app.example/hook\"
    secret = \"a-secret-of-the-hook-0123456789abcdef\"
    [telemetry]
    otlp_endpoint = \"http://app.example\"
    otlp_headers_file = \"otlp.headers\"
    [[client]]
    id = \"told\"
    name = \"Told\"
    first_party = true
    grants = [\"authorization_code\", \"refresh_token\"]
    redirect_uris = [\"http://app.example/callback\"]
    post_logout_redirect_uris = [\"http://app.example/bye\"]
    backchannel_logout_uri = \"http://app.example/backchannel\"
";

#[tokio::test]
async fn no_secret_is_ever_logged_as_text() {
    everything_is_done_in_silence("text").await;
}

#[tokio::test]
async fn no_secret_is_ever_logged_as_json() {
    everything_is_done_in_silence("json").await;
}

/// What must not be found.
#[derive(Default)]
struct Secrets(BTreeSet<String>);

impl Secrets {
    fn note(&mut self, secret: impl AsRef<str>) {
        let secret = secret.as_ref();
        assert!(secret.len() >= 8, "too short to be looked for: {secret}");
        self.0.insert(secret.to_owned());
    }

    fn note_tokens(&mut self, tokens: &Value) {
        for name in ["access_token", "refresh_token", "id_token"] {
            if let Some(token) = tokens[name].as_str() {
                self.note(token);
            }
        }
    }

    /// Those that a text holds, in whatever way they may be written.
    fn found_in<'s>(&'s self, log: &str) -> Vec<&'s str> {
        let mut found = Vec::new();
        for secret in &self.0 {
            // The first parts of a token are no secret, and its signature is.
            let part = secret.rsplit('.').next().expect("the last part");
            let hex: String = part.bytes().map(|byte| format!("{byte:02x}")).collect();
            let list = format!("{:?}", part.as_bytes());
            let encoded = part.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            let written = [part.to_owned(), STANDARD.encode(part), URL_SAFE_NO_PAD.encode(part), hex, list, encoded];
            if written.iter().any(|way| log.contains(way.trim_end_matches('='))) {
                found.push(secret.as_str());
            }
        }
        found
    }
}

async fn everything_is_done_in_silence(format: &str) {
    let postgres = Postgres::serve().await;
    let settings = Settings { server: "trusted_proxies = [\"127.0.0.1\"]", ..SETTINGS };
    let (issuer, app) = World::prepare(settings, MORE).await;
    issuer.edit_config("level = \"trace\"", &format!("level = \"trace\"\nformat = \"{format}\""));
    issuer.use_database(&postgres.url().replace("keywheel@", &format!("keywheel:{DATABASE_PASSWORD}@")));
    std::fs::write(issuer.path("otlp.headers"), format!("X-Key: {COLLECTOR_KEY}\n")).expect("writing the headers");
    let server = issuer.serve().await;
    let world = World { issuer, server, app };
    let mut secrets = Secrets::default();
    for secret in
        [ALICE.1, BOB.1, SHOP.1, SIGNER_D, WRONG, CAROL.1, NEW_PASSWORD, HOOK_SECRET, DATABASE_PASSWORD, COLLECTOR_KEY]
    {
        secrets.note(secret);
    }
    let kek = STANDARD.decode(KEK).expect("base64");
    secrets.note(KEK);
    secrets.note(String::from_utf8(kek).expect("the stories' key is text"));

    clients_ask_for_themselves(&world, &mut secrets).await;
    people_sign_in(&world, &mut secrets).await;
    a_page_of_ones_own_signs_in(&world, &mut secrets).await;
    a_password_is_changed(&world, &mut secrets).await;
    clients_are_told_of_a_sign_out(&world, &mut secrets).await;
    let commands = an_operator_works(&world, &mut secrets).await;
    eventually("the hook is told", std::time::Duration::from_secs(30), async || world.app.arrivals("/hook").pop())
        .await;

    // A control: what does get into the log is found there.
    let planted = "planted-where-it-is-logged";
    let mut control = Secrets::default();
    control.note(planted);
    let request = Request::get(world.issuer.at("/nowhere")).header("x-request-id", planted);
    send(request.body(Full::<Bytes>::default()).expect("a request")).await.expect("a response");
    let log = world.server.stop().await.stderr;
    assert_eq!(control.found_in(&log), [planted], "the search finds what is there");
    assert_eq!(control.found_in(&STANDARD.encode(format!("___{planted}"))), [planted], "and what was encoded");

    assert!(log.lines().count() > 200, "it was to say a lot: {log}");
    assert!(!log.contains("panicked"), "{log}");
    // What was told to the collector belongs to the operator as well.
    let traces: String = world.app.arrivals("/v1/traces").into_iter().map(|arrival| arrival.body).collect();
    assert!(traces.contains("hash a password"), "{traces}");
    let found = secrets.found_in(&format!("{log}{commands}{traces}"));
    let first = found.first().map(|secret| {
        let part = secret.rsplit('.').next().unwrap_or_default();
        log.lines().find(|line| line.contains(part)).unwrap_or("encoded, or of a command").to_owned()
    });
    assert!(found.is_empty(), "the log has {found:?}, first in: {first:?}");
    assert!(secrets.0.len() > 30, "{:?}", secrets.0);
}

async fn clients_ask_for_themselves(world: &World, secrets: &mut Secrets) {
    let url = world.issuer.at("/oauth2/token");
    let grant = "grant_type=client_credentials";
    let by_body = format!("{grant}&client_id={}&client_secret={}", SHOP.0, SHOP.1);
    for (form, basic) in [(grant, Some(SHOP)), (by_body.as_str(), None)] {
        let reply = post_form(&url, form, basic).await.expect("a response");
        assert_eq!(reply.status, 200, "{}", reply.text());
        secrets.note_tokens(&reply.json());
    }
    let wrong = "a-wrong-secret-that-somebody-sent";
    secrets.note(wrong);
    secrets.note(STANDARD.encode(format!("{}:{wrong}", SHOP.0)));
    assert_eq!(post_form(&url, grant, Some((SHOP.0, wrong))).await.expect("a response").status, 401);
    // Where it does not belong.
    let asked = world.issuer.at(&format!("/oauth2/token?client_secret={}", SHOP.1));
    assert_eq!(post_form(&asked, grant, None).await.expect("a response").status, 400);

    let key = json!({
        "kty": "EC", "crv": "P-256", "kid": "signer-1", "d": SIGNER_D,
        "x": "LksuzCpQFOBxolQMYFNNGU3YZD0fd4fyY9jlNEy06zw", "y": "gCCT6hTu3_Q_L9cqf4pfAd-wxQIx6rCVmw2HYDUvrmQ",
    });
    let registered = json!({
        "client_id": "signer", "method": "private_key_jwt", "key": key, "id_token_alg": "ES256",
        "redirect_uri": world.app.at("/callback"),
    });
    let signer = RelyingParty::new(Library::OpenidClient, &world.issuer, registered).await;
    let callback = world.alice().authorize(&signer.begin("openid email", Value::Null).await).await;
    secrets.note(parameter(&callback, "code").expect("a code"));
    secrets.note_tokens(&signer.finish(&callback).await);
    // An assertion that does not hold is one all the same.
    let assertion = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzaWduZXIifQ.a-signature-of-an-assertion-that-does-not-hold";
    secrets.note(assertion);
    let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    let form = format!("{grant}&client_assertion_type={kind}&client_assertion={assertion}");
    assert_eq!(post_form(&url, &form, None).await.expect("a response").status, 401);
}

async fn people_sign_in(world: &World, secrets: &mut Secrets) {
    let shop = world.shop(Library::OpenidClient).await;
    let mut mistaken = Person::new(&world.issuer, ALICE.0, WRONG);
    let begun = shop.begin(EVERYTHING, Value::Null).await;
    let End::Page(_) = mistaken.go(&begun).await else { panic!("a wrong password was accepted") };
    secrets.note(mistaken.cookie("keywheel-form").expect("a cookie"));
    let page = mistaken.get(&world.issuer.at("/login")).await;
    secrets.note(Form::of(&page).expect("a form").field("csrf").expect("a token against forgery"));

    let mut alice = world.alice();
    let callback = alice.authorize(&shop.begin(EVERYTHING, Value::Null).await).await;
    secrets.note(parameter(&callback, "code").expect("a code"));
    for name in ["keywheel-session", "keywheel-form"] {
        secrets.note(alice.cookie(name).expect("a cookie"));
    }
    for tokens in [shop.finish(&callback).await, shop.refresh().await, shop.refresh().await] {
        secrets.note_tokens(&tokens);
    }
    shop.userinfo().await;
    shop.introspect().await;
    shop.try_to_finish(&callback).await.expect_err("a code is good once");
    shop.try_to_refresh().await.expect_err("and its second use ends all");
    let callback = alice.authorize(&shop.begin(EVERYTHING, Value::Null).await).await;
    secrets.note_tokens(&shop.finish(&callback).await);
    shop.revoke().await;
    // Sent to where it is not read, as a mistaken app would.
    let verifier = "a-code-verifier-0123456789-0123456789-0123456789";
    secrets.note(verifier);
    let form = format!("grant_type=authorization_code&code=a-code-nobody-gave-out&code_verifier={verifier}");
    secrets.note("a-code-nobody-gave-out");
    let reply = post_form(&world.issuer.at("/oauth2/token"), &form, Some(SHOP)).await.expect("a response");
    assert_eq!(reply.status, 400, "{}", reply.text());
    alice.go(&shop.logout(&world.app.at("/bye"), "s").await).await;
}

async fn a_page_of_ones_own_signs_in(world: &World, secrets: &mut Secrets) {
    let mut cookies: Vec<String> = Vec::new();
    let credentials = |(name, password): (&str, &str)| {
        json!({"client_id": "portal", "username": name, "password": password}).to_string()
    };
    for (method, path, body, expected) in [
        (Method::POST, "/api/session", credentials((BOB.0, WRONG)), 401),
        (Method::POST, "/api/session", credentials(BOB), 200),
        (Method::GET, "/api/session", String::new(), 200),
        (Method::POST, "/api/session/refresh", String::new(), 200),
        (Method::DELETE, "/api/session", String::new(), 204),
    ] {
        let request = Request::builder().method(method.clone()).uri(world.issuer.at(path));
        let request = request.header(ORIGIN, world.app.origin()).header("sec-fetch-site", "same-site");
        let request = request.header(COOKIE, cookies.join("; ")).header(CONTENT_TYPE, "application/json");
        let reply = send(request.body(Full::from(body)).expect("a request")).await.expect("a response");
        assert_eq!(reply.status.as_u16(), expected, "{method} {path}: {}", reply.text());
        for line in reply.headers.get_all(SET_COOKIE) {
            let pair = line.to_str().expect("visible").split(';').next().expect("a pair").to_owned();
            let (name, value) = pair.split_once('=').expect("a cookie");
            cookies.retain(|known| !known.starts_with(&format!("{name}=")));
            if !value.is_empty() {
                secrets.note(value);
                cookies.push(pair);
            }
        }
    }
}

async fn a_password_is_changed(world: &World, secrets: &mut Secrets) {
    let add = ["users", "add", CAROL.0, "--password-file", "-"];
    let added = world.issuer.command_with_input(&add, CAROL.1).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    let mut carol = Person::new(&world.issuer, CAROL.0, CAROL.1);
    carol.sign_in().await;
    secrets.note(carol.cookie("keywheel-session").expect("a session"));
    let page = carol.get(&world.issuer.at("/account/password")).await;
    let form = Form::of(&page).expect("a form");
    let typed = [("current", CAROL.1), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)];
    let reply = carol.submit(&form, &typed).await;
    assert_eq!(reply.status, 303, "{}", reply.text());
}

async fn clients_are_told_of_a_sign_out(world: &World, secrets: &mut Secrets) {
    let registered = json!({"client_id": "told", "redirect_uri": world.app.at("/callback")});
    let told = RelyingParty::new(Library::Oauth4webapi, &world.issuer, registered).await;
    let mut alice = world.alice();
    let callback = alice.authorize(&told.begin("openid", Value::Null).await).await;
    secrets.note(parameter(&callback, "code").expect("a code"));
    secrets.note_tokens(&told.finish(&callback).await);
    let End::Sent(_) = alice.go(&told.logout(&world.app.at("/bye"), "s").await).await else {
        panic!("a hint needs no question")
    };
    let limit = std::time::Duration::from_secs(30);
    let posted = eventually("the issuer calls the app", limit, async || world.app.arrivals("/backchannel").pop()).await;
    secrets.note(posted.body.strip_prefix("logout_token=").expect("a logout token"));
}

/// What the commands wrote to standard error, where nothing secret belongs either.
async fn an_operator_works(world: &World, secrets: &mut Secrets) -> String {
    let mut written = String::new();
    let issuer = &world.issuer;
    let mut run = async |arguments: &[&str], input: &str| {
        let mut command = program();
        command.env("KEYWHEEL_LOG", "trace").args(arguments).arg("--config").arg(issuer.config_file());
        let exit = Exit::of(command, issuer.config_file().parent().expect("a folder"), input).await;
        assert_eq!(exit.code, Some(0), "{arguments:?}: {exit:?}");
        written.push_str(&exit.stderr);
        exit.stdout
    };
    run(&["check"], "").await;
    run(&["users", "password", CAROL.0, "--password-file", "-"], "a-password-from-the-operator-55").await;
    secrets.note("a-password-from-the-operator-55");
    for arguments in [&["clients", "add", "worker", "--json"][..], &["clients", "rotate-secret", "worker", "--json"]] {
        let told: Value = serde_json::from_str(&run(arguments, "").await).expect("JSON");
        secrets.note(text(&told, "client_secret"));
    }
    secrets.note(run(&["token", "mint", "--client", SHOP.0], "").await.trim());
    run(&["keys", "rotate", "--now", "--yes"], "").await;
    run(&["audit", "list"], "").await;
    written
}
