//! TLS that the issuer speaks itself: with files that others renew, with a certificate that it orders, and with clients
//! that want something else. And what it believes of proxies that speak it instead.

mod acme;
mod authority;
mod silence;
mod world;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rcgen::date_time_ymd;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_rustls::rustls::crypto::aws_lc_rs::kx_group;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use crate::harness::{Exit, Issuer, Reply, Settings, eventually, get, send, send_raw, unix_now};
use authority::{Authority, HOST, Kept, Pair, connect};
use silence::Scalar;

/// Longer than it takes to notice a change, and to do something about it.
const NOTICED: Duration = Duration::from_secs(20);
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// An issuer at [`HOST`] that shows the pair in its folder.
fn with_files(pair: &Pair) -> Issuer {
    let issuer = Issuer::new(Settings::PLAIN);
    pair.write(&issuer.path(""));
    use_files(&issuer, &issuer.path("tls.crt"), &issuer.path("tls.key"));
    issuer
}

fn use_files(issuer: &Issuer, cert: &Path, key: &Path) {
    let (cert, key) = (cert.display(), key.display());
    issuer.edit_config(&format!("issuer = \"{}\"", issuer.url()), &format!("issuer = \"{}\"", at(issuer, "")));
    issuer.edit_config(
        "[storage]",
        &format!("header_timeout = \"2s\"\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}\n[storage]"),
    );
}

fn at(issuer: &Issuer, path: &str) -> String {
    format!("https://{HOST}:{}{path}", issuer.listen.port())
}

/// What `curl` prints.
async fn curl(issuer: &Issuer, authority: &Authority, arguments: &[&str]) -> Exit {
    let root = issuer.path("root.crt");
    fs::write(&root, &authority.certificate).expect("writing the authority");
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--cacert"]).arg(root);
    command.args(["--resolve", &format!("{HOST}:{}:127.0.0.1", issuer.listen.port())]).args(arguments);
    Exit::of(command, &issuer.path(""), "").await
}

#[tokio::test]
async fn any_client_that_trusts_the_authority_is_served() {
    let authority = Authority::new();
    let issuer = with_files(&authority.pair_with(HOST, |params| params.not_after = date_time_ymd(2040, 1, 1)));
    let running = issuer.serve().await;

    let discovery = at(&issuer, DISCOVERY);
    for (arguments, version) in [(&["--http2"][..], "2"), (&["--http1.1"], "1.1"), (&["--tls-max", "1.2"], "2")] {
        let exit = curl(&issuer, &authority, &[arguments, &["-w", "\n%{http_version}", &discovery]].concat()).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let (document, spoken) = exit.stdout.rsplit_once('\n').expect("a version");
        assert_eq!(spoken, version);
        let document: serde_json::Value = serde_json::from_str(document).expect("a document");
        assert_eq!(document["issuer"], at(&issuer, ""));
        assert_eq!(document["jwks_uri"], at(&issuer, "/.well-known/jwks.json"));
    }
    let credentials = format!("billing:{}", Settings::SECRET);
    let token = at(&issuer, "/oauth2/token");
    let token = ["-i", "-u", &credentials, "-d", "grant_type=client_credentials", &token];
    let granted = curl(&issuer, &authority, &token).await.stdout;
    assert!(granted.contains("\"access_token\"") && granted.contains("strict-transport-security: max-age=31536000"));
    for version in ["--http1.1", "--http2"] {
        let keys = curl(&issuer, &authority, &["-i", version, &at(&issuer, "/.well-known/jwks.json")]).await.stdout;
        assert!(keys.contains("\"kid\"") && keys.contains("strict-transport-security: max-age=31536000"), "{keys}");
    }

    let stranger = curl(&issuer, &Authority::new(), &[&discovery]).await;
    assert_eq!(stranger.code, Some(60), "curl's word for a certificate that nobody vouches for: {stranger:?}");
    let metrics = get(&format!("http://{}/metrics", issuer.metrics)).await.expect("metrics in the clear");
    let gauge = "keywheel_certificate_not_after_timestamp_seconds{} 2208988800\n";
    assert!(metrics.text().contains(gauge), "{}", metrics.text());
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test]
async fn the_key_exchange_withstands_quantum_computers_where_the_client_knows_how() {
    let authority = Authority::new();
    let issuer = with_files(&authority.pair());
    let _running = issuer.serve().await;
    let (hybrid, classic) = (kx_group::X25519MLKEM768, kx_group::X25519);

    for (groups, version, expected) in [
        (vec![hybrid, classic], &TLS13, NamedGroup::X25519MLKEM768),
        (vec![classic, kx_group::SECP256R1, hybrid], &TLS13, NamedGroup::X25519MLKEM768),
        (vec![classic], &TLS13, NamedGroup::X25519),
        (vec![kx_group::SECP384R1], &TLS13, NamedGroup::secp384r1),
        (vec![classic, hybrid], &TLS12, NamedGroup::X25519),
    ] {
        let client = authority.client(Some(groups), &[version]);
        let stream = connect(issuer.listen, client).await.expect("a handshake");

        let group = stream.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group, Some(expected), "{version:?}");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }
}

#[tokio::test]
async fn a_session_is_resumed() {
    let authority = Authority::new();
    let issuer = with_files(&authority.pair());
    let _running = issuer.serve().await;

    for version in [&TLS13, &TLS12] {
        let client = authority.client(None, &[version]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = connect(issuer.listen, client.clone()).await.expect("a handshake");
            kinds.push(stream.get_ref().1.handshake_kind());
            // The ticket comes with the first answer.
            let reply = Kept::on(stream).await.expect("a connection").get(DISCOVERY).await.expect("an answer");
            assert_eq!(reply.status, 200);
        }
        assert_eq!(kinds[1], Some(HandshakeKind::Resumed), "{version:?}: {kinds:?}");
        assert_eq!(version.version == ProtocolVersion::TLSv1_2, kinds[0] == Some(HandshakeKind::Full));
    }
}

/// Puts a pair where a Kubernetes secret has it: one link above both files is exchanged at once.
fn publish(folder: &Path, version: &str, pair: &Pair) {
    let data = folder.join(version);
    fs::create_dir(&data).expect("a folder");
    pair.write(&data);
    symlink(version, folder.join("..new")).expect("a link");
    fs::rename(folder.join("..new"), folder.join("..data")).expect("exchanging the link");
}

#[tokio::test]
async fn a_certificate_is_exchanged_under_load_without_a_failed_request() {
    let authority = Authority::new();
    let issuer = Issuer::new(Settings::PLAIN);
    let secret = issuer.path("secret");
    fs::create_dir(&secret).expect("a folder");
    publish(&secret, "..first", &authority.pair());
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), secret.join(name)).expect("a link");
    }
    use_files(&issuer, &secret.join("tls.crt"), &secret.join("tls.key"));
    let running = issuer.serve().await;
    let authority = Arc::new(authority);
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut old = Kept::on(authority.connect(issuer.listen).await.expect("a handshake")).await.expect("a connection");
    assert_eq!(old.get(DISCOVERY).await.expect("an answer").status, 200);

    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (authority, over, answered) = (Arc::clone(&authority), Arc::clone(&over), Arc::clone(&answered));
        let listen = issuer.listen;
        load.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let mut connection = Kept::on(authority.connect(listen).await?).await?;
                for _ in 0..5 {
                    let reply = connection.get(DISCOVERY).await?;
                    if reply.status != 200 {
                        return Err(format!("{reply:?}"));
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok::<_, String>(())
        });
    }
    for version in ["..second", "..third", "..fourth"] {
        let pair = authority.pair();
        publish(&secret, version, &pair);
        eventually("the new certificate is shown", NOTICED, async || {
            let stream = authority.connect(issuer.listen).await.expect("a handshake");
            pair.was_shown(&stream).then_some(())
        })
        .await;
        assert_eq!(old.get(DISCOVERY).await.expect("an answer on the old connection").status, 200);
    }
    over.store(true, Ordering::Relaxed);
    while let Some(result) = load.join_next().await {
        result.expect("no panic").expect("no failed request");
    }
    assert!(answered.load(Ordering::Relaxed) > 100, "{answered:?}");
    assert_eq!(running.log().matches("a new certificate is in force").count(), 3, "{}", running.log());
}

#[tokio::test]
async fn a_pair_that_does_not_match_leaves_the_one_before_in_force() {
    let authority = Authority::new();
    let (first, second) = (authority.pair(), authority.pair());
    let issuer = with_files(&first);
    issuer.append_config("[log]\nlevel = \"trace\"\n");
    let running = issuer.serve().await;
    let shown = async |pair: &Pair| pair.was_shown(&authority.connect(issuer.listen).await.expect("a handshake"));

    fs::write(issuer.path("tls.crt"), &second.chain).expect("written");
    eventually("the halves are noticed", NOTICED, async || {
        running.log().contains("does not belong to the certificate").then_some(())
    })
    .await;
    assert!(shown(&first).await);
    fs::write(issuer.path("tls.key"), "no key at all").expect("written");
    eventually("what is no key is noticed", NOTICED, async || {
        running.log().contains("holds no private key").then_some(())
    })
    .await;
    assert!(shown(&first).await);

    fs::write(issuer.path("tls.key"), &second.key).expect("written");
    eventually("the pair is whole", NOTICED, async || shown(&second).await.then_some(())).await;
    fs::remove_file(issuer.path("tls.crt")).expect("removed");
    eventually("its absence is noticed", NOTICED, async || running.log().contains("server.tls.cert").then_some(()))
        .await;
    assert!(shown(&second).await);

    first.write(&issuer.path(""));
    running.signal(Signal::HUP);
    eventually("it was told to look", NOTICED, async || shown(&first).await.then_some(())).await;
    let log = running.stop().await.stderr;
    assert!(log.contains(" DEBUG ") && !log.contains("PRIVATE KEY"), "{log}");
    for Pair { key, .. } in [first, second] {
        assert!(!Scalar::of_pem(&key).stands_in(&log), "{log}");
    }
}

#[tokio::test]
async fn what_is_no_tls_is_answered_or_closed_and_harms_nothing() {
    let authority = Authority::new();
    let issuer = with_files(&authority.pair());
    let mut running = issuer.serve_talkative().await;

    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /oauth2/token HTTP/1.1\r\nContent-Length: 100000\r\n\r\nclient_id=",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
    ] {
        let reply = send_raw(issuer.listen, &[request.as_bytes(), &[b'x'; 3000]], Duration::ZERO).await;
        assert_eq!(reply.status(), Some(400), "{request}: {reply:?}");
        assert!(reply.body().contains("https://"), "{reply:?}");
    }
    let half = [0x16, 3, 1, 2, 0, 1];
    for bytes in [&b"\0\0\0\0"[..], &[0x16; 400], &half, &[0x15, 3, 3, 0, 2, 2, 40], b"SSH-2.0-x\r\n", b"\xff"] {
        let reply = send_raw(issuer.listen, &[bytes], Duration::ZERO).await;
        assert!(reply.took < Duration::from_secs(10), "{bytes:?}: {reply:?}");
    }
    // Nothing at all, for longer than anybody may take.
    let silent = send_raw(issuer.listen, &[], Duration::ZERO).await;
    assert!(silent.text.is_empty() && silent.took >= Duration::from_secs(1), "{silent:?}");

    assert_eq!(curl(&issuer, &authority, &["--fail", &at(&issuer, DISCOVERY)]).await.code, Some(0));
    assert!(running.has_ended().is_none() && !running.log().contains("panicked"), "{}", running.log());
}

#[tokio::test]
async fn a_check_tells_what_is_wrong_with_a_certificate() {
    let authority = Authority::new();
    let issuer = with_files(&authority.pair());
    let check = async |pair: &Pair| {
        pair.write(&issuer.path(""));
        issuer.command(&["check"]).await
    };

    let good = check(&authority.pair()).await;
    assert!(good.code == Some(0) && good.stdout.contains("certificate    ") && !good.stderr.contains("warning"));
    let year = |year| move |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(year, 1, 1);
    check(&authority.pair_with(HOST, year(2020))).await.assert_refused(2, &["expired at 2020-01-01"]);
    let other = check(&authority.pair_with("other.example.test", |_| {})).await;
    assert!(
        other.code == Some(0) && other.stderr.contains("is not for the issuer's host id.example.test"),
        "{other:?}"
    );
    let soon = date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_now() as u64 + 3 * 86_400);
    let expiring = check(&authority.pair_with(HOST, move |params| params.not_after = soon)).await;
    assert!(expiring.code == Some(0) && expiring.stderr.contains("warning: the certificate in"), "{expiring:?}");
    let mixed = Pair { key: authority.pair().key, ..authority.pair() };
    check(&mixed).await.assert_refused(2, &["does not belong to the certificate"]);
    fs::remove_file(issuer.path("tls.key")).expect("removed");
    issuer.command(&["check"]).await.assert_refused(2, &["cannot read", "server.tls.key"]);

    let mut running = issuer.start();
    running.ended().await.assert_refused(2, &["cannot read", "server.tls.key"]);
}

#[tokio::test]
async fn only_trusted_proxies_say_that_a_request_came_by_https() {
    let issuer = Issuer::new(Settings { server: "trusted_proxies = [\"127.0.0.1\"]", ..Settings::PLAIN });
    issuer.edit_config(&format!("issuer = \"{}\"", issuer.url()), &format!("issuer = \"https://{HOST}\""));
    let mut running = issuer.serve().await;
    let ask = async |headers: &[(&str, &str)]| -> Reply {
        let mut request = Request::get(issuer.at(DISCOVERY));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(request.body(Full::<Bytes>::default()).expect("a request")).await.expect("an answer")
    };
    const HSTS: &str = "strict-transport-security";

    for told in [("x-forwarded-proto", "https"), ("forwarded", "for=192.0.2.1;proto=https;host=evil.example.com")] {
        let reply = ask(&[told, ("x-forwarded-host", "evil.example.com")]).await;
        assert_eq!(reply.header(HSTS), "max-age=31536000", "{told:?}");
        assert_eq!(reply.json()["issuer"], format!("https://{HOST}"));
        assert!(!reply.text().contains("evil"));
    }
    for malformed in ["", "\"", "for=\"", "for", ";;;,,,", "proto=https;proto=http", "for=\"\\", "=;=,="] {
        let reply = ask(&[("forwarded", malformed), ("x-forwarded-proto", "https")]).await;
        assert_eq!((reply.status.as_u16(), reply.header(HSTS)), (200, ""), "{malformed}");
    }
    assert_eq!(ask(&[]).await.header(HSTS), "");
    assert_eq!(ask(&[("x-forwarded-proto", "http")]).await.header(HSTS), "");
    assert!(running.has_ended().is_none());

    let untrusting = Issuer::new(Settings::PLAIN);
    untrusting.edit_config(&format!("issuer = \"{}\"", untrusting.url()), &format!("issuer = \"https://{HOST}\""));
    let _running = untrusting.serve().await;
    let request = Request::get(untrusting.at(DISCOVERY)).header("x-forwarded-proto", "https");
    let reply = send(request.body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(reply.header(HSTS), "");
}
