//! Certificates that the issuer orders itself, from an authority that connects to ports 80 and 443 to see who is there.

use std::path::Path;
use std::time::Duration;

use super::authority::HOST;
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
    let saved = std::fs::read(&root).expect("the authority's certificate");
    authority.kill().await;
    std::fs::create_dir_all(root.parent().expect("a folder")).expect("a folder");
    std::fs::write(&root, saved).expect("writing it again");
    let running = serve(&world, &issuer).await;

    assert_eq!(world.certificate("127.0.0.1:443", HOST).await, Some(shown));
    assert!(!running.log().contains("ordering a certificate"), "{}", running.log());
    assert!(world.curl(&["--cacert", &kept, "--fail", &format!("https://{HOST}{DISCOVERY}")]).await.is_some());
    std::fs::remove_file(&root).expect("removing it");
}

#[tokio::test]
async fn an_authority_that_does_not_answer_is_told_of_and_stops_nothing() {
    let world = World::new(&format!("127.0.0.1 {HOST}")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root.crt");
    std::fs::write(&root, super::authority::Authority::new().certificate).expect("written");
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
