//! Certificates that the issuer orders itself, from an authority that connects to ports 80 and 443 to see who is there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::authority::HOST;
use super::silence::Scalar;
use super::world::{AcmeServer, World, ready, text};
use crate::harness::{Issuer, Postgres, Running, Settings, eventually};

/// Longer than an order takes here, and than a replica takes to see what another one stored.
const ORDER: Duration = Duration::from_secs(60);
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// An issuer at [`HOST`] that listens on `address`, port 443.
fn configured(address: &str, authority: &Path, more: &str) -> Issuer {
    let issuer = Issuer::new(Settings::PLAIN);
    let authority = text(authority);
    issuer.edit_config(&format!("issuer = \"{}\"", issuer.url()), &format!("issuer = \"https://{HOST}\""));
    issuer.edit_config(
        &format!("listen = \"{}\"\nmetrics", issuer.listen),
        &format!("listen = \"{address}:443\"\nmetrics"),
    );
    issuer.edit_config(
        "[storage]",
        &format!(
            "[server.acme]\nagree_tos = true\ncontact = [\"mailto:admin@example.com\"]\nca_file = \"{authority}\"\n\
             directory_url = \"{}\"\n{more}\n[storage]",
            AcmeServer::DIRECTORY
        ),
    );
    issuer
}

async fn serve(world: &World, issuer: &Issuer) -> Running {
    let mut running = start(world, issuer);
    ready(world, &issuer.metrics.to_string(), &mut running).await;
    running
}

fn start(world: &World, issuer: &Issuer) -> Running {
    Running::start(world.command(&issuer.serve_command()), &issuer.path(""))
}

/// Discovery at one replica, as a client gets it that trusts the authority only.
async fn discovery(world: &World, address: &str, authority: &Path) -> Option<String> {
    let (root, lead) = (text(authority), format!("{HOST}:443:{address}:443"));
    let url = format!("https://{HOST}{DISCOVERY}");
    world.curl(&["--cacert", &root, "--connect-to", &lead, "--fail", &url]).await
}

#[tokio::test]
async fn one_replica_orders_a_certificate_by_tls_and_all_of_them_answer_and_show_it() {
    let world = World::new(&format!("127.0.0.3 {HOST}")).await;
    let authority = AcmeServer::serve(&world).await;
    let root = authority.root();
    let postgres = Postgres::serve().await;
    let [one, other] = ["127.0.0.2", "127.0.0.3"].map(|address| {
        let issuer = configured(address, &root, "");
        issuer.use_database(&postgres.socket_url());
        issuer
    });

    // The first one is about to order while nothing answers; the second one, to whom the name leads, is there meanwhile.
    authority.pause();
    let running = start(&world, &one);
    eventually("it orders", ORDER, async || running.log().contains("ordering a certificate").then_some(())).await;
    let readiness = format!("http://{}/readyz", one.metrics);
    let not_ready = eventually("it says why it is not ready", ORDER, async || world.curl(&[&readiness]).await).await;
    assert!(not_ready.contains("no certificate for TLS yet"), "{not_ready}");
    let mut second = start(&world, &other);
    let healthy = format!("http://{}/healthz", other.metrics);
    eventually("the other one listens", ORDER, async || world.curl(&["--fail", &healthy]).await).await;
    authority.go_on();
    ready(&world, &other.metrics.to_string(), &mut second).await;

    assert!(!second.log().contains("ordering a certificate"), "{}", second.log());
    eventually("both show the certificate", ORDER, async || {
        discovery(&world, "127.0.0.2", &root).await?;
        let shown = world.certificate("127.0.0.2:443", HOST).await?;
        (Some(shown) == world.certificate("127.0.0.3:443", HOST).await).then_some(())
    })
    .await;
    let document = discovery(&world, "127.0.0.3", &root).await.expect("discovery");
    assert!(document.contains(&format!("\"issuer\":\"https://{HOST}\"")), "{document}");
    let stored = postgres.texts("SELECT encode(private_sealed, 'escape') FROM certificates").await;
    assert!(stored.len() == 1 && !stored[0].contains("PRIVATE"), "one certificate, sealed");

    for (running, address) in [(running, "127.0.0.2"), (second, "127.0.0.3")] {
        assert!(discovery(&world, address, &root).await.is_some(), "{}", running.log());
        assert_eq!(running.stop().await.code, Some(0));
    }
}

#[tokio::test]
async fn a_certificate_ordered_by_http_is_renewed_in_time_and_outlives_restart_and_authority() {
    let world = World::new(&format!("127.0.0.1 {HOST}")).await;
    let authority = AcmeServer::serve(&world).await;
    let root = authority.root();
    let kept = text(&root);
    let mut issuer = configured("127.0.0.1", &root, "challenge = \"http-01\"\nhttp_listen = \"127.0.0.1:80\"");

    let running = serve(&world, &issuer).await;

    let shown = world.certificate("127.0.0.1:443", HOST).await.expect("a certificate");
    let sent_on = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"];
    let ask = async |arguments: &[&str]| world.curl(&[&sent_on, arguments].concat()).await.expect("an answer");
    let page = format!("http://{HOST}/login?a=b");
    assert_eq!(ask(&[&page]).await, format!("308 https://{HOST}/login?a=b"));
    assert_eq!(ask(&["--header", "Host: evil.example.com", &page]).await, format!("308 https://{HOST}/login?a=b"));
    assert_eq!(ask(&["--data", "secret=1", &format!("http://{HOST}/oauth2/token")]).await, "403 ");
    assert_eq!(ask(&[&format!("http://{HOST}/.well-known/acme-challenge/unknown")]).await, "404 ");
    assert_eq!(running.stop().await.code, Some(0));

    // Nine of its twelve hours later.
    issuer.set_clock_ahead(9.0 * 3600.0);
    let running = serve(&world, &issuer).await;
    let shown = eventually("it is renewed", ORDER, async || {
        world.certificate("127.0.0.1:443", HOST).await.filter(|renewed| *renewed != shown)
    })
    .await;
    assert_eq!(running.log().matches("ordering a certificate").count(), 1, "{}", running.log());
    assert_eq!(running.stop().await.code, Some(0));
    issuer.set_clock_ahead(0.0);

    // A file that is gone would be noticed, so the root stays where it was.
    let saved = fs::read(&root).expect("the authority's certificate");
    authority.kill().await;
    fs::create_dir_all(root.parent().expect("a folder")).expect("a folder");
    fs::write(&root, saved).expect("writing it again");
    let running = serve(&world, &issuer).await;

    assert_eq!(world.certificate("127.0.0.1:443", HOST).await, Some(shown));
    assert!(!running.log().contains("ordering a certificate"), "{}", running.log());
    assert!(world.curl(&["--cacert", &kept, "--fail", &format!("https://{HOST}{DISCOVERY}")]).await.is_some());
    fs::remove_file(&root).expect("removing it");
}

#[tokio::test]
async fn a_certificate_outlives_the_exchange_of_the_key_encryption_key_and_no_log_has_its_key() {
    let world = World::new(&format!("127.0.0.1 {HOST}")).await;
    let authority = AcmeServer::serve(&world).await;
    let postgres = Postgres::serve().await;
    let issuer = configured("127.0.0.1", &authority.root(), "");
    issuer.use_database(&postgres.socket_url());
    issuer.append_config("[log]\nlevel = \"trace\"\nrequests = true\n");
    let (old, new) = (format!("\"{}\"", text(&issuer.path("kek"))), format!("\"{}\"", text(&issuer.path("kek-new"))));
    fs::write(issuer.path("kek-new"), "YW5vdGhlciBrZXkgb2YgdGhlIHN0b3JpZXMsIDMyIGI=\n").expect("writing a key");
    let running = serve(&world, &issuer).await;
    let shown = world.certificate("127.0.0.1:443", HOST).await.expect("a certificate");
    let mut log = running.stop().await.stderr;
    let mut secrets = Vec::from(Scalar::of_acme(&issuer, "kek", &postgres).await);

    issuer.edit_config(&old, &format!("[{new}, {old}]"));
    let rewrapped = issuer.json(&["keys", "rewrap"]).await;
    issuer.edit_config(&format!("[{new}, {old}]"), &new);
    let running = serve(&world, &issuer).await;

    assert_eq!((&rewrapped["certificate_keys"], &rewrapped["acme_accounts"]), (&1.into(), &1.into()), "{rewrapped}");
    assert!(
        rewrapped["rewrapped"].as_u64().is_some_and(|count| count > 2) && rewrapped["lost"] == serde_json::json!([])
    );
    assert_eq!(world.certificate("127.0.0.1:443", HOST).await.as_ref(), Some(&shown));
    let without_old = running.stop().await.stderr;
    assert!(!without_old.contains("ordering a certificate"), "{without_old}");
    log.push_str(&without_old);

    // As if nobody had rewrapped them: they are sealed under a key that there is no more.
    for lose in [
        "UPDATE certificates SET private_sealed = overlay(private_sealed placing '\\x0102030405060708'::bytea from 2) \
         RETURNING name",
        "UPDATE acme_accounts SET credentials_sealed = \
         overlay(credentials_sealed placing '\\x0102030405060708'::bytea from 2) RETURNING directory_url",
    ] {
        assert_eq!(postgres.texts(lose).await.len(), 1);
    }
    let check = issuer.command(&["check"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    for told in ["0102030405060708", "the server orders another certificate", "the server makes another account"] {
        assert!(check.stderr.contains(told), "{check:?}");
    }
    let running = serve(&world, &issuer).await;

    assert_ne!(world.certificate("127.0.0.1:443", HOST).await, Some(shown), "better another one than none");
    let anew = running.stop().await.stderr;
    for told in ["could not be taken from the database", "making another account", "0102030405060708"] {
        assert!(anew.contains(told), "no {told}: {anew}");
    }
    log.push_str(&anew);
    secrets.extend(Scalar::of_acme(&issuer, "kek-new", &postgres).await);
    assert!(log.contains("TRACE") && secrets.iter().all(|secret| !secret.stands_in(&log)), "{log}");
}

#[tokio::test]
async fn an_authority_that_does_not_answer_is_told_of_and_stops_nothing() {
    let world = World::new(&format!("127.0.0.1 {HOST}")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root.crt");
    fs::write(&root, super::authority::Authority::new().certificate).expect("written");
    let issuer = configured("127.0.0.1", &root, "");

    let mut running = start(&world, &issuer);

    let readiness = format!("http://{}/readyz", issuer.metrics);
    let told = eventually("it says what is wrong", ORDER, async || {
        world.curl(&[&readiness]).await.filter(|text| text.contains("does not answer"))
    })
    .await;
    assert!(told.contains("no certificate for TLS yet"), "{told}");
    assert!(running.log().contains("no certificate could be had; it is tried again"), "{}", running.log());
    assert!(world.curl(&["--fail", &format!("http://{}/healthz", issuer.metrics)]).await.is_some());
    assert_eq!(world.certificate("127.0.0.1:443", HOST).await, None);
    assert!(running.has_ended().is_none());
    assert_eq!(running.stop().await.code, Some(0));
}
