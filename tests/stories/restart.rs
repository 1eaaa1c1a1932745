//! Stops, crashes and changes from outside: the timetable is in the database, so a server that was away finds its place.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sqlx::Connection as _;

use crate::harness::{Issuer, Panel, Settings, eventually, kid, kids, send_raw, unix_now, until};

const BILLING: (&str, &str) = ("billing", Settings::SECRET);
/// Keys turn every four seconds, which is the least that `announce` may be; tokens live through all of a story.
const TURNING: Settings = Settings {
    keys: r#"
        algorithms = ["ES256"]
        rotate_every = "4s"
        announce = "4s"
        jwks_max_age = "1s"
        jwks_shared_max_age = "1s"
        clock_skew = "0s"
        poll = "1s"
        max_staleness = "3s"
    "#,
    tokens: "access_ttl = \"60s\"\nid_ttl = \"60s\"\n",
    ..Settings::PLAIN
};
const MAX_AGE: Duration = Duration::from_secs(1);
/// Longer than two turns.
const TURN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_restart_in_the_middle_of_a_rotation_changes_nothing() {
    let issuer = Issuer::new(TURNING);
    let running = issuer.serve().await;
    let panel = Panel::new(&issuer, MAX_AGE);
    let token = issuer.token(BILLING).await;
    let announced = eventually("a standby is published", TURN, async || {
        let kids = kids(&issuer.jwks().await);
        (kids.len() == 2).then_some(kids)
    })
    .await;
    panel.assert_accepted("a token before the restart", &token).await;

    let exit = running.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let _running = issuer.serve().await;

    assert!(kids(&issuer.jwks().await).is_superset(&announced), "the restart lost a published key");
    panel.assert_accepted("an old token after the restart", &token).await;
    let next = eventually("the standby has taken over", TURN, async || {
        let next = issuer.token(BILLING).await;
        panel.assert_accepted("a token around the rotation", &next).await;
        (kid(&next) != kid(&token)).then_some(next)
    })
    .await;
    assert!(announced.contains(&kid(&next)), "not the key that was announced before the restart signs");
    panel.assert_accepted("an old token after the rotation", &token).await;
}

#[tokio::test]
async fn a_server_that_was_down_across_rotations_breaks_no_token() {
    let issuer = Issuer::new(TURNING);
    let running = issuer.serve().await;
    let token = issuer.token(BILLING).await;
    eventually("a standby is published", TURN, async || (kids(&issuer.jwks().await).len() == 2).then_some(())).await;

    running.stop().await;
    // A key that is written down counts as announced from its `publish_at` on: no server hands out a set without it.
    let planned = known_kids(&issuer).await;
    // Two turns and a half: the standby's and its successor's pass unseen.
    until(unix_now() + 10.0).await;
    let _running = issuer.serve().await;

    let panel = Panel::new(&issuer, MAX_AGE);
    let next = issuer.token(BILLING).await;
    panel.assert_accepted("a token from before the downtime", &token).await;
    panel.assert_accepted("the first token after the downtime", &next).await;
    assert!(planned.contains(&kid(&next)), "a key signs that was not announced");
    assert!(kids(&issuer.jwks().await).contains(&kid(&token)), "a key left before its tokens did");
    eventually("the ring turns again", TURN, async || {
        let later = issuer.token(BILLING).await;
        panel.assert_accepted("a token around the next rotation", &later).await;
        (!planned.contains(&kid(&later))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_in_the_middle_of_writes() {
    let issuer = Issuer::new(TURNING);
    let (mut clients, mut signers) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..5 {
        let running = issuer.serve().await;
        let writes = async {
            for number in 0.. {
                let id = format!("client-{round}-{number}");
                let exit = issuer.command(&["clients", "add", &id, "--scope", "x", "--json"]).await;
                assert_eq!(exit.code, Some(0), "{exit:?}");
                clients.insert(id);
                let exit = issuer.command(&["keys", "rotate", "--now", "--yes", "--json"]).await;
                assert_eq!(exit.code, Some(0), "{exit:?}");
                let rotations: Value = serde_json::from_str(&exit.stdout).expect("rotations in JSON");
                signers.insert(rotations[0]["kid"].as_str().expect("kid").to_owned());
            }
        };
        // Killed at another point each time, while the server turns its keys and commands write beside it. Dropping
        // `writes` kills the command in flight too.
        tokio::select! {
            () = writes => unreachable!("it never ends by itself"),
            () = until(unix_now() + 0.9 + 0.17 * f64::from(round)) => {}
        }
        running.kill().await;
    }
    assert!(clients.len() >= 5 && signers.len() >= 5, "too few writes to show anything: {clients:?}, {signers:?}");

    let _running = issuer.serve().await;

    let listed = issuer.json(&["clients", "list"]).await.to_string();
    let lost: Vec<_> = clients.iter().filter(|id| !listed.contains(&format!("\"{id}\""))).collect();
    assert!(lost.is_empty(), "clients were acknowledged and are gone: {lost:?}");
    let known = known_kids(&issuer).await;
    assert!(known.is_superset(&signers), "keys were acknowledged and are gone: {signers:?}, {known:?}");
    let url = format!("sqlite://{}", issuer.path("keywheel.db").display());
    let mut database = sqlx::sqlite::SqliteConnection::connect(&url).await.expect("opening the database");
    let verdict: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut database).await.expect("checking the database");
    assert_eq!(verdict, "ok");
    let token = issuer.token(BILLING).await;
    Panel::new(&issuer, MAX_AGE).assert_accepted("a token after five crashes", &token).await;
}

#[tokio::test]
async fn a_change_by_the_command_line_reaches_the_server_within_a_second() {
    // The default `poll` is 15 s: what arrives within one second was not polled for.
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let second = Duration::from_secs(1);

    let added = issuer.json(&["clients", "add", "reports", "--audience", Settings::AUDIENCE]).await;
    let secret = added["client_secret"].as_str().expect("a secret").to_owned();
    eventually("the added client gets a token", second, async || {
        let reply = issuer.token_reply("grant_type=client_credentials", ("reports", &secret)).await;
        (reply.status == 200).then_some(())
    })
    .await;

    let rotated = issuer.json(&["clients", "rotate-secret", "reports"]).await;
    let new = rotated["client_secret"].as_str().expect("a secret").to_owned();
    eventually("the new secret holds", second, async || {
        let reply = issuer.token_reply("grant_type=client_credentials", ("reports", &new)).await;
        (reply.status == 200).then_some(())
    })
    .await;

    let exit = issuer.command(&["clients", "remove", "reports"]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    eventually("the removed client is refused", second, async || {
        let reply = issuer.token_reply("grant_type=client_credentials", ("reports", &new)).await;
        (reply.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_that_has_begun_is_answered_while_the_server_drains() {
    let issuer = Issuer::new(Settings::PLAIN);
    let running = issuer.serve().await;
    let form = "grant_type=client_credentials&client_id=billing&client_secret=";
    let head = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len() + Settings::SECRET.len()
    );
    let pieces = [head.as_bytes(), Settings::SECRET.as_bytes()];

    let (reply, exit) = tokio::join!(
        // The rest of the body comes a second later, when the server has long been told to stop.
        send_raw(issuer.listen, &pieces, Duration::from_secs(1)),
        async {
            until(unix_now() + 0.3).await;
            running.stop().await
        }
    );

    assert_eq!(reply.status(), Some(200), "{}", reply.text);
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn a_hangup_ends_no_server() {
    let issuer = Issuer::new(Settings::PLAIN);
    let mut running = issuer.serve().await;

    running.signal(Signal::HUP);

    eventually("the server says what it did", Duration::from_secs(10), async || {
        assert!(running.has_ended().is_none(), "{}", running.log());
        running.log().contains("SIGHUP: there is nothing to read again").then_some(())
    })
    .await;
    issuer.token(BILLING).await;
    let exit = running.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

/// The keys in the database, published or not.
async fn known_kids(issuer: &Issuer) -> BTreeSet<String> {
    let keys = issuer.json(&["keys", "list"]).await;
    keys.as_array().expect("keys").iter().map(|key| key["kid"].as_str().expect("kid").to_owned()).collect()
}
