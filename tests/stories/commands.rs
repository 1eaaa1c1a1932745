//! The command line, as operators and their scripts use it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Exit, Issuer, Running, Settings, claims, eventually, free_addresses, get, header, kid, kids, post_form, program,
};

const BILLING: (&str, &str) = ("billing", Settings::SECRET);
const BOTH_RINGS: Settings = Settings { keys: "algorithms = [\"ES256\", \"RS256\", \"EdDSA\"]\n", ..Settings::PLAIN };
const START: Duration = Duration::from_secs(60);

#[tokio::test]
async fn serve_without_any_configuration_prints_a_curl_line_that_works() {
    let folder = TempDir::new().expect("a temporary folder");
    let [listen, metrics] = free_addresses();
    let mut command = program();
    // The default ports may be taken where the stories run; nothing else is set.
    command.env("KEYWHEEL_SERVER__LISTEN", listen.to_string()).arg("serve");
    command.env("KEYWHEEL_SERVER__METRICS_LISTEN", metrics.to_string());

    let running = Running::start(command, folder.path());

    let line = eventually("the curl line is printed", START, async || {
        let log = running.log();
        log.lines().map(str::trim).find(|line| line.starts_with("curl ")).map(str::to_owned)
    })
    .await;
    // curl -u "ID:$(cat FILE)" -d FORM URL
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["curl", "-u", user, file, "-d", form, url] = words.as_slice() else { panic!("another curl line: {line}") };
    let id = user.trim_start_matches('"').trim_end_matches(":$(cat");
    let secret = fs::read_to_string(folder.path().join(file.trim_end_matches(")\""))).expect("the secret's file");
    let reply = post_form(&url.replace("localhost", "127.0.0.1"), form, Some((id, &secret))).await.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let issuer = claims(reply.json()["access_token"].as_str().expect("a token"))["iss"].clone();
    assert_eq!(issuer, format!("http://localhost:{}", listen.port()));
    assert!(!running.log().contains(&secret), "the secret itself must not be in the log");
    let log = running.log();
    let told =
        |name: &str| log.lines().find_map(|line| line.trim().strip_prefix(name).map(str::trim)).map(str::to_owned);
    assert_eq!(told("username ").as_deref(), Some("admin"), "{log}");
    assert!(told("password ").is_some_and(|password| password.len() >= 20), "{log}");

    let exit = running.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    for private in ["keywheel-data", "keywheel-data/kek", "keywheel-data/demo-client-secret"] {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(folder.path().join(private)).expect(private).permissions(),
        );
        assert_eq!(mode & 0o077, 0, "{private} can be read by others: {mode:o}");
    }
}

#[tokio::test]
async fn init_makes_what_check_and_serve_accept() {
    let folder = TempDir::new().expect("a temporary folder");
    let [listen, metrics] = free_addresses();
    let run = async |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments).env("KEYWHEEL_SERVER__LISTEN", listen.to_string());
        command.env("KEYWHEEL_SERVER__METRICS_LISTEN", metrics.to_string());
        Exit::of(command, folder.path(), "").await
    };

    let init = run(&["init"]).await;
    assert_eq!(init.code, Some(0), "{init:?}");
    let written = fs::read_to_string(folder.path().join("keywheel.toml")).expect("the configuration");
    let check = run(&["check"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    for words in ["rotat", "announce", "202"] {
        assert!(check.stdout.contains(words), "no `{words}`: {check:?}");
    }
    assert!(!folder.path().join("keywheel-data/keywheel.db").exists(), "a check must not make a database");
    let again = run(&["init"]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(fs::read_to_string(folder.path().join("keywheel.toml")).expect("the configuration"), written);

    let mut command = program();
    command.arg("serve").env("KEYWHEEL_SERVER__LISTEN", listen.to_string());
    command.env("KEYWHEEL_SERVER__METRICS_LISTEN", metrics.to_string());
    let running = Running::start(command, folder.path());
    eventually("the server is ready", START, async || {
        get(&format!("http://{metrics}/readyz")).await.ok().filter(|reply| reply.status == 200)
    })
    .await;
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test]
async fn check_tells_why_a_policy_is_safe_and_when_keys_turn() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.serve().await.stop().await;

    let plan = issuer.json(&["check"]).await;
    let schedule = issuer.json(&["keys", "schedule"]).await;
    let table = issuer.command(&["keys", "schedule"]).await;

    assert_eq!(plan["safe"], true);
    assert!(plan["reasons"].as_array().is_some_and(|reasons| reasons.len() >= 3), "{plan}");
    assert!(schedule.as_array().is_some_and(|events| !events.is_empty()), "{schedule}");
    for column in ["WHEN", "ALG", "KID", "starts to sign"] {
        assert!(table.stdout.contains(column), "{table:?}");
    }

    issuer.edit_config("algorithms", "announce = \"1s\"\nalgorithms");
    issuer.command(&["check"]).await.assert_refused(2, &["announce"]);
}

#[tokio::test]
async fn every_example_key_can_be_imported() {
    let issuer = Issuer::new(BOTH_RINGS);
    let files = examples();
    assert!(files.len() >= 8, "{files:?}");

    let mut imported = BTreeSet::new();
    for file in &files {
        let key = issuer.json(&["keys", "import", file.to_str().expect("a path in UTF-8")]).await;
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let alg = if name.starts_with("es256") {
            "ES256"
        } else if name.starts_with("rs256") {
            "RS256"
        } else {
            "EdDSA"
        };
        assert_eq!(key["alg"], alg, "{name}");
        assert!(imported.insert(key["kid"].as_str().expect("kid").to_owned()), "{name} was imported before");
    }

    let list = issuer.json(&["keys", "list"]).await;
    let listed: BTreeSet<String> =
        list.as_array().expect("keys").iter().map(|key| key["kid"].as_str().expect("kid").to_owned()).collect();
    assert!(listed.is_superset(&imported), "{list}");
    let again = issuer.command(&["keys", "import", files[0].to_str().expect("a path in UTF-8")]).await;
    assert_ne!(again.code, Some(0), "a key was imported twice: {again:?}");
    let _running = issuer.serve().await;
    assert!(imported.contains(&kid(&issuer.token(BILLING).await)), "an imported key signs first in an empty ring");
}

#[tokio::test]
async fn what_is_no_private_key_is_not_imported() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.serve().await.stop().await;
    let before = issuer.json(&["keys", "list"]).await;
    let es256 = fs::read_to_string(example("es256.pem")).expect("an example key");

    for (what, text) in [
        ("nothing", String::new()),
        ("words", "not a key".to_owned()),
        ("half a PEM file", es256[..es256.len() / 2].to_owned()),
        ("a symmetric JWK", r#"{"kty":"oct","k":"AAAA"}"#.to_owned()),
        ("a public JWK", issuer.command(&["keys", "export"]).await.stdout),
        ("an unknown kty", r#"{"kty":"AKP","alg":"ML-DSA-65"}"#.to_owned()),
    ] {
        let exit = issuer.command_with_input(&["keys", "import", "-"], &text).await;
        assert!(matches!(exit.code, Some(1 | 2)), "{what}: {exit:?}");
        assert!(!exit.stderr.is_empty() && !exit.stderr.contains("panicked"), "{what}: {exit:?}");
    }

    assert_eq!(issuer.json(&["keys", "list"]).await, before);
}

#[tokio::test]
async fn keys_are_listed_exported_and_rotated() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let signing = kid(&issuer.token(BILLING).await);

    let exported: Value = serde_json::from_str(&issuer.command(&["keys", "export"]).await.stdout).expect("a key set");
    assert_eq!(kids(&exported), kids(&issuer.jwks().await));
    for private in ["\"d\"", "\"p\"", "\"q\"", "\"k\""] {
        assert!(!exported.to_string().contains(private), "{exported}");
    }
    let list = issuer.json(&["keys", "list"]).await;
    let listed = list.as_array().expect("keys").iter().find(|key| key["kid"] == signing.as_str());
    assert_eq!(listed.expect("the signing key")["phase"], "signing");
    let table = issuer.command(&["keys", "list"]).await.stdout;
    assert!(table.contains("KID") && table.contains(&signing), "{table}");

    let rotations = issuer.json(&["keys", "rotate"]).await;
    let [rotation] = rotations.as_array().expect("rotations").as_slice() else { panic!("one ring: {rotations}") };
    assert_eq!(rotation["may_stumble"], Value::Null, "a rotation without --now surprises nobody");
    assert!(rotation["sign_from"].as_i64() <= rotation["planned"].as_i64(), "{rotation}");
    // Nobody can be asked in a script, and --now may break something.
    issuer.command(&["keys", "rotate", "--now"]).await.assert_refused(2, &["--yes", "warning"]);
    let now = issuer.command(&["keys", "rotate", "--now", "--yes", "--json"]).await;
    assert_eq!(now.code, Some(0), "{now:?}");
    eventually("the next key signs", Duration::from_secs(2), async || {
        (kid(&issuer.token(BILLING).await) != signing).then_some(())
    })
    .await;

    issuer.command(&["keys", "revoke", "no-such-kid"]).await.assert_refused(1, &["no-such-kid"]);
}

#[tokio::test]
async fn clients_are_added_shown_changed_and_removed() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;

    let added = issuer
        .json(&["clients", "add", "reports", "--scope", "a:read", "--scope", "b", "--audience", Settings::AUDIENCE])
        .await;
    let secret = added["client_secret"].as_str().expect("a secret");
    assert!(secret.len() >= 43, "256 bits in base64url are 43 characters: {}", secret.len());
    let shown = issuer.json(&["clients", "show", "reports"]).await;
    assert_eq!((&shown["scope"], &shown["source"]), (&json!("a:read b"), &json!("database")));
    assert!(!shown.to_string().contains(secret));
    let table = issuer.command(&["clients", "list"]).await.stdout;
    assert!(table.contains("reports") && table.contains("billing") && !table.contains(secret), "{table}");
    let database = fs::read(issuer.path("keywheel.db")).expect("the database");
    assert!(!contains(&database, secret.as_bytes()), "the database holds a client secret");

    let changed = issuer.json(&["clients", "set", "reports", "--name", "Reports", "--scope", "a:read"]).await;
    assert_eq!(changed["changed"], json!(["client_name", "scope"]));
    let shown = issuer.json(&["clients", "show", "reports"]).await;
    assert_eq!((&shown["client_name"], &shown["scope"]), (&json!("Reports"), &json!("a:read")));

    let rotated = issuer.json(&["clients", "rotate-secret", "reports"]).await;
    assert_ne!(rotated["client_secret"], added["client_secret"]);
    eventually("the old secret is refused", Duration::from_secs(1), async || {
        let reply = issuer.token_reply("grant_type=client_credentials", ("reports", secret)).await;
        (reply.status == 401).then_some(())
    })
    .await;

    for (arguments, words) in [
        (&["clients", "add", "reports"][..], "reports"),
        (&["clients", "add", "billing"], "billing"),
        (&["clients", "remove", "billing"], "configuration"),
        (&["clients", "show", "nobody"], "nobody"),
        (&["clients", "remove", "nobody"], "nobody"),
        (&["clients", "rotate-secret", "nobody"], "nobody"),
        (&["clients", "set", "nobody", "--name", "x"], "nobody"),
        (&["clients", "set", "billing", "--name", "x"], "configuration"),
    ] {
        issuer.command(arguments).await.assert_refused(1, &[words]);
    }
    issuer.command(&["clients", "add", "a:b"]).await.assert_refused(2, &["client id"]);
    let short = issuer.command_with_input(&["clients", "add", "x", "--secret-file", "-"], "short\n").await;
    short.assert_refused(2, &["32 characters"]);

    assert_eq!(issuer.command(&["clients", "remove", "reports"]).await.code, Some(0));
    assert!(!issuer.command(&["clients", "list"]).await.stdout.contains("reports"));
}

#[tokio::test]
async fn apps_are_added_and_changed_by_what_goes_together() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let uri = "https://app.example.com/callback";

    let added = issuer.json(&["clients", "add", "spa", "--public", "--redirect-uri", uri]).await;
    assert_eq!(added, json!({ "client_id": "spa" }), "a public client has no secret");
    let shown = issuer.json(&["clients", "show", "spa"]).await;
    assert_eq!(shown["grant_types"], json!(["authorization_code"]));
    assert_eq!(shown["redirect_uris"], json!([uri]));
    assert_eq!(shown["token_endpoint_auth_method"], "none");
    issuer.command(&["clients", "rotate-secret", "spa"]).await.assert_refused(1, &["spa", "no secret"]);

    let confidential = issuer.json(&["clients", "set", "spa", "--auth-method", "client_secret_basic"]).await;
    assert!(confidential["client_secret"].as_str().is_some_and(|secret| secret.len() >= 43), "{confidential}");

    for (arguments, words) in [
        (&["clients", "add", "x", "--grant", "authorization_code"][..], &["redirect_uris", "missing"][..]),
        (&["clients", "add", "x", "--public"], &["client_credentials"]),
        (&["clients", "add", "x", "--redirect-uri", "http://app.example.com/"], &["https"]),
        (&["clients", "add", "x", "--redirect-uri", uri, "--auth-method", "private_key_jwt"], &["--jwks-file"]),
        (&["clients", "set", "spa", "--unset", "redirect_uris"], &["redirect_uris", "missing"]),
    ] {
        issuer.command(arguments).await.assert_refused(2, words);
    }
    assert_eq!(issuer.json(&["clients", "show", "spa"]).await["redirect_uris"], json!([uri]), "refused, and changed");
}

#[tokio::test]
async fn clients_are_imported_all_or_none() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let secret = "an-imported-secret-of-more-than-32-characters";
    let good = |id: &str| {
        json!({
            "client_id": id,
            "client_secret": secret,
            "client_name": "Imported",
            "grant_types": ["client_credentials"],
            "scope": "x y",
            "token_endpoint_auth_method": "client_secret_basic",
        })
    };
    let mut unsupported = good("third");
    unsupported["grant_types"] = json!(["client_credentials", "urn:ietf:params:oauth:grant-type:device_code"]);

    let refused = json!([good("first"), unsupported]).to_string();
    let exit = issuer.command_with_input(&["clients", "import", "-"], &refused).await;
    exit.assert_refused(1, &["third", "device_code"]);
    assert!(!issuer.command(&["clients", "list"]).await.stdout.contains("first"), "half of an import was kept");
    for broken in ["", "{}", "[{}]", "[1]", "not json"] {
        let exit = issuer.command_with_input(&["clients", "import", "-"], broken).await;
        assert!(matches!(exit.code, Some(1 | 2)), "{broken}: {exit:?}");
        assert!(!exit.stderr.contains("panicked"), "{broken}: {exit:?}");
    }

    let exit = issuer.command_with_input(&["clients", "import", "-", "--ignore-unsupported"], &refused).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stderr.contains("warning") && exit.stderr.contains("third"), "{exit:?}");
    eventually("an imported client gets a token", Duration::from_secs(1), async || {
        let reply = issuer.token_reply("grant_type=client_credentials", ("first", secret)).await;
        (reply.status == 200).then_some(())
    })
    .await;
    let many: Vec<_> = (0..1000).map(|number| good(&format!("client-{number}"))).collect();
    let exit = issuer.command_with_input(&["clients", "import", "-"], &json!(many).to_string()).await;
    assert!(exit.stderr.contains("imported 1000 clients: client-0, client-1, "), "{exit:?}");
    assert!(exit.stderr.ends_with("client-19 and 980 more\n"), "{exit:?}");
}

#[tokio::test]
async fn a_minted_token_verifies_by_discovery_by_address_and_by_file() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let url = issuer.url();
    let minted = issuer.command(&["token", "mint", "--client", "billing", "--ttl", "1m"]).await;
    assert_eq!(minted.code, Some(0), "{minted:?}");
    let token = minted.stdout.trim();
    assert_eq!(header(token)["typ"], "at+jwt");
    let file = issuer.path("jwks.json");
    fs::write(&file, issuer.command(&["keys", "export"]).await.stdout).expect("writing the key set");
    let file = file.to_str().expect("a path in UTF-8");
    let uri = issuer.jwks_uri();

    for keys in [&["--issuer", &url][..], &["--issuer", &url, "--jwks", &uri], &["--issuer", &url, "--jwks", file]] {
        let verified =
            issuer.json(&[&["token", "verify", "--audience", Settings::AUDIENCE, token], keys].concat()).await;
        assert_eq!(verified["valid"], true, "{keys:?}");
        assert_eq!(verified["claims"]["client_id"], "billing", "{keys:?}");
    }
    let from_input = issuer
        .command_with_input(&["token", "verify", "--issuer", &url, "--audience", Settings::AUDIENCE, "-"], token)
        .await;
    assert_eq!(from_input.code, Some(0), "{from_input:?}");
    let signature_only = issuer.command(&["token", "verify", "--jwks", file, "--signature-only", token]).await;
    let payload: Value = serde_json::from_str(&signature_only.stdout).expect("the payload as it is");
    assert_eq!(payload, claims(token));
    let decoded = issuer.command(&["token", "decode", token]).await;
    assert_eq!(decoded.code, Some(0));
    assert!(decoded.stderr.contains("NOT VERIFIED"), "{decoded:?}");
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_told_with_its_code() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let (url, token) = (issuer.url(), issuer.token(BILLING).await);
    let exp = claims(&token)["exp"].as_i64().expect("exp");
    let late = (exp + 61).to_string();
    let tampered = format!("{}AAAAAAAAAA", &token[..token.len() - 10]);
    let trusted = ["token", "verify", "--issuer", &url];
    let ours = ["--audience", Settings::AUDIENCE];

    for (what, arguments, token) in [
        ("another audience", &["--audience", "https://else.example.com"][..], token.as_str()),
        ("another signature", &ours, &tampered),
        ("past its end", &[ours[0], ours[1], "--at", &late], &token),
        ("an access token as ID token", &[ours[0], ours[1], "--type", "id"], &token),
        ("another algorithm", &[ours[0], ours[1], "--alg", "RS256"], &token),
        ("no token at all", &ours, "x.y.z"),
    ] {
        let verify = [&trusted, arguments, &[token]].concat();
        let exit = issuer.command(&verify).await;
        exit.assert_refused(1, &["rejected: "]);
        let machine = issuer.command(&[verify.as_slice(), &["--json"]].concat()).await;
        assert_eq!(machine.code, Some(1), "{what}");
        let reason: Value = serde_json::from_str(&machine.stdout).expect("a reason in JSON");
        assert_eq!(reason["valid"], false, "{what}");
        let code = reason["code"].as_str().expect("a code");
        assert!(exit.stderr.contains(&format!("rejected: {code}: ")), "{what}: {exit:?} {reason}");
        assert!(!exit.stderr.contains(token), "{what}: the message shows the token");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.serve().await.stop().await;
    for arguments in [&["keys", "list"][..], &["keys", "schedule", "--json"], &["clients", "list"], &["--help"]] {
        let mut command = program();
        command.args(arguments).arg("--config").arg(issuer.config_file()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("starting a command");
        // Closed before anything is written, as by a reader that has seen enough.
        drop(child.stdout.take());
        let output = tokio::time::timeout(START, child.wait_with_output()).await.expect("it ends").expect("its output");
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {messages}");
        assert_eq!(messages, "", "{arguments:?}");
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../keys.example").join(name)
}

/// Every key under `keys.example`.
fn examples() -> Vec<PathBuf> {
    let folder = example("").read_dir().expect("the example keys");
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("an example key").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension != "md"));
    files.sort();
    files
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_user_lives_from_add_to_remove() {
    let issuer = Issuer::new(Settings::PLAIN);
    let secret = "a long way to Tipperary";
    let add = ["users", "add", "alice", "--email", "alice@example.com", "--role", "admin", "--password-file", "-"];

    let added = issuer.command_with_input(&add, secret).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    issuer.command_with_input(&add, secret).await.assert_refused(1, &["alice"]);
    let weak = ["users", "add", "bob", "--password-file", "-"];
    issuer.command_with_input(&weak, "password1").await.assert_refused(2, &["easy to guess"]);
    issuer.command(&["users", "add", "bob"]).await.assert_refused(2, &["--password-file", "--generate"]);
    let changed = issuer.json(&["users", "set", "alice", "--claim", "given_name=Alice", "--group", "sales"]).await;
    assert_eq!((&changed["given_name"], &changed["groups"][0]), (&json!("Alice"), &json!("sales")));
    assert_eq!((&changed["roles"][0], &changed["has_password"]), (&json!("admin"), &json!(true)));
    let made = issuer.json(&["users", "password", "alice@example.com", "--generate"]).await;
    assert!(made["password"].as_str().is_some_and(|password| password.len() >= 20), "{made}");
    for acts in [["disable", "alice"], ["enable", "alice"], ["sign-out", "alice"]] {
        let exit = issuer.command(&[&["users"], &acts[..]].concat()).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
    }
    let table = issuer.command(&["users", "list"]).await;
    assert!(table.stdout.contains("alice@example.com"), "{table:?}");
    assert_eq!(issuer.json(&["users", "sessions", "alice"]).await, json!([]));
    assert_eq!(issuer.command(&["users", "remove", "alice"]).await.code, Some(0));
    issuer.command(&["users", "show", "alice"]).await.assert_refused(1, &["alice"]);

    let audit = issuer.json(&["audit", "list"]).await.to_string();
    for act in ["user.added", "user.changed", "user.password_set", "user.disabled", "user.enabled", "user.removed"] {
        assert!(audit.contains(act), "{act} is not in {audit}");
    }
    assert!(!audit.contains(secret) && !audit.contains("argon2"), "{audit}");
}

#[tokio::test]
async fn users_are_imported_all_or_none() {
    let issuer = Issuer::new(Settings::PLAIN);
    let bad = json!([{ "username": "alice" }, { "username": "bob", "password_hash": "hunter2" }, { "email": 1 }]);

    let refused = issuer.command_with_input(&["users", "import", "-"], &bad.to_string()).await;

    refused.assert_refused(1, &["user 2 (bob): password_hash", "user 3: email", "nothing was imported"]);
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    let good =
        json!([{ "sub": "old|1", "preferred_username": "alice", "password": "x", "address": { "country": "DE" } }]);
    let exit = issuer.command_with_input(&["users", "import", "-", "--json"], &good.to_string()).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let users = issuer.json(&["users", "list"]).await;
    assert_eq!((users.as_array().map(Vec::len), &users[0]["sub"]), (Some(1), &json!("old|1")), "{users}");
    assert_eq!(users[0]["address"]["country"], "DE");
    assert!(!users.to_string().contains("argon2"), "{users}");
}
