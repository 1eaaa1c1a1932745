//! Several servers on one PostgreSQL: what one of them changes the others know, and what they share may go away.

use std::time::Duration;

use crate::harness::{Issuer, Postgres, Reply, Running, Settings, eventually, get, kid, kids, unix_now, until};

const BILLING: (&str, &str) = ("billing", Settings::SECRET);
const SECOND: Duration = Duration::from_secs(1);
/// Longer than any start of a replica on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing is found by polling within a story.
const SELDOM_POLLED: Settings =
    Settings { keys: "algorithms = [\"ES256\"]\npoll = \"15s\"\nclock_skew = \"2s\"\n", ..Settings::PLAIN };
/// Sets are answered on rows that are at most 10 − 1 − 1 − 1 = 7 s old.
const SOON_STALE: Settings = Settings {
    keys: r#"
        algorithms = ["ES256"]
        rotate_every = "1h"
        announce = "10s"
        jwks_max_age = "1s"
        jwks_shared_max_age = "1s"
        clock_skew = "1s"
        poll = "1s"
        max_staleness = "4s"
    "#,
    tokens: "access_ttl = \"5m\"\n",
    ..Settings::PLAIN
};

#[tokio::test]
async fn a_change_reaches_every_replica_within_a_second() {
    let postgres = Postgres::serve().await;
    let replicas = replicas(SELDOM_POLLED, &postgres, 3);
    let _running = serve(&replicas).await;
    let signer = kid(&replicas[0].token(BILLING).await);
    for replica in &replicas {
        eventually("a replica knows the standby", PATIENCE, async || {
            (kids(&replica.jwks().await).len() == 2).then_some(())
        })
        .await;
    }

    let added = replicas[1].json(&["clients", "add", "reports", "--scope", "x"]).await;
    let reports = ("reports", added["client_secret"].as_str().expect("a secret"));
    for replica in &replicas {
        eventually("a replica knows the client", SECOND, async || {
            let reply = replica.token_reply("grant_type=client_credentials", reports).await;
            (reply.status == 200).then_some(())
        })
        .await;
    }

    let exit = replicas[2].command(&["keys", "revoke", &signer, "--reason", "leaked in a story"]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    for replica in &replicas {
        eventually("a replica has dropped the revoked key", SECOND, async || {
            let token = replica.token(BILLING).await;
            (kid(&token) != signer && !kids(&replica.jwks().await).contains(&signer)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_replica_whose_clock_is_wrong_is_not_ready_and_says_why() {
    let postgres = Postgres::serve().await;
    let [right, slow, wrong] = [0.0, -1.5, 5.0].map(|ahead| replica(SELDOM_POLLED, &postgres, ahead));
    let _right = right.serve().await;

    let _slow = slow.serve().await;
    let _wrong = wrong.start();

    let reason = eventually("the replica says that it is not ready", PATIENCE, async || {
        wrong.readiness().await.filter(|reply| reply.status == 503)
    })
    .await;
    assert!(reason.text().contains("clock_skew"), "{}", reason.text());
    let ahead = reason.text().split_whitespace().find_map(|word| word.parse::<i64>().ok()).expect("milliseconds");
    assert!((4_000..=5_100).contains(&ahead), "{}", reason.text());
}

#[tokio::test]
async fn a_lost_database_stops_signing_then_publishing_and_nothing_else() {
    let mut postgres = Postgres::serve().await;
    let replicas = replicas(SOON_STALE, &postgres, 2);
    let _running = serve(&replicas).await;

    let lost = unix_now();
    postgres.stop().await;

    // A poll before the loss may have been a second old.
    until(lost + 1.5).await;
    for replica in &replicas {
        replica.token(BILLING).await;
        replica.jwks().await;
    }
    let exit = replicas[0].command(&["clients", "add", "reports", "--scope", "x"]).await;
    exit.assert_refused(1, &["database"]);
    for replica in &replicas {
        let refused =
            eventually("a replica does not sign any more", 6 * SECOND, async || refused_token(replica).await).await;
        assert_eq!(refused.json()["error"], "temporarily_unavailable");
        assert_ne!(refused.header("retry-after"), "");
        let reason = replica.readiness().await.expect("an answer");
        assert_eq!(reason.status, 503, "{}", reason.text());
        assert!(reason.text().contains("max_staleness") && reason.text().contains(": signing"), "{}", reason.text());
        // Verifiers still get their keys: no other replica can have begun to sign with one that this one does not know.
        replica.jwks().await;
    }
    for replica in &replicas {
        let refused = eventually("a replica does not publish any more", 6 * SECOND, async || {
            get(&replica.jwks_uri()).await.ok().filter(|reply| reply.status == 503)
        })
        .await;
        assert_ne!(refused.header("retry-after"), "");
        let reason = replica.readiness().await.expect("an answer");
        assert!(reason.text().contains("signing and publishing has stopped"), "{}", reason.text());
        let discovery = get(&replica.at("/.well-known/openid-configuration")).await.expect("an answer");
        assert_eq!(discovery.status, 200);
    }

    postgres.start().await;
    for replica in &replicas {
        eventually("a replica has recovered by itself", 10 * SECOND, async || {
            replica.readiness().await.filter(|reply| reply.status == 200)
        })
        .await;
        replica.token(BILLING).await;
        replica.jwks().await;
    }
}

#[tokio::test]
async fn servers_that_start_together_migrate_once_and_make_one_first_key() {
    let postgres = Postgres::serve().await;
    let replicas = replicas(SELDOM_POLLED, &postgres, 5);

    let running = serve(&replicas).await;

    let mut signers = Vec::new();
    for replica in &replicas {
        signers.push(kid(&replica.token(BILLING).await));
    }
    signers.dedup();
    assert_eq!(signers.len(), 1, "the servers made first keys of their own");
    let keys = eventually("there is a standby", PATIENCE, async || {
        let keys = postgres.texts("SELECT alg || ' ' || serial FROM signing_keys ORDER BY serial").await;
        (keys.len() > 1).then_some(keys)
    })
    .await;
    assert_eq!(keys, ["ES256 1", "ES256 2"]);
    let failed = postgres.texts("SELECT description FROM _sqlx_migrations WHERE NOT success").await;
    assert_eq!(failed, [] as [String; 0]);
    for running in running {
        let log = running.log();
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let postgres = Postgres::serve().await;
    let [before, after] = [0.0, 0.0].map(|ahead| replica(SELDOM_POLLED, &postgres, ahead));
    before.serve().await.stop().await;
    postgres
        .texts(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'of the future', true, '\\x00', 0) RETURNING description",
        )
        .await;

    let exit = after.start().ended().await;

    exit.assert_refused(1, &["9999", "newer"]);
}

fn replicas(settings: Settings, postgres: &Postgres, count: usize) -> Vec<Issuer> {
    (0..count).map(|_| replica(settings, postgres, 0.0)).collect()
}

fn replica(settings: Settings, postgres: &Postgres, clock_ahead: f64) -> Issuer {
    Issuer::replica(settings, "http://localhost:8080", &postgres.url(), clock_ahead)
}

/// Starts all at once, and waits until each is ready.
async fn serve(replicas: &[Issuer]) -> Vec<Running> {
    let mut running: Vec<_> = replicas.iter().map(Issuer::start).collect();
    for (replica, running) in replicas.iter().zip(&mut running) {
        eventually("a replica is ready", PATIENCE, async || {
            let ended = running.has_ended();
            assert!(ended.is_none(), "a replica ended at its start with {ended:?}:\n{}", running.log());
            replica.readiness().await.filter(|reply| reply.status == 200)
        })
        .await;
    }
    running
}

async fn refused_token(replica: &Issuer) -> Option<Reply> {
    let reply = replica.token_reply("grant_type=client_credentials", BILLING).await;
    (reply.status != 200).then_some(reply)
}
