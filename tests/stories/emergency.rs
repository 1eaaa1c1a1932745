//! A signing key is revoked: the standby signs at once, and verifiers that obey `max-age` forget the key in time.

use std::time::Duration;

use crate::harness::{Issuer, Panel, Settings, eventually, kid, kids};

const BILLING: (&str, &str) = ("billing", Settings::SECRET);
const MAX_AGE: Duration = Duration::from_secs(3);
/// A day between rotations, so that nothing here turns by itself; keys are known after 3 + 1 + 2 s.
const CALM: Settings = Settings {
    keys: r#"
        algorithms = ["ES256"]
        rotate_every = "1d"
        announce = "6s"
        jwks_max_age = "3s"
        jwks_shared_max_age = "1s"
        clock_skew = "0s"
        poll = "1s"
        max_staleness = "5s"
    "#,
    tokens: "access_ttl = \"5m\"\n",
    ..Settings::PLAIN
};

#[tokio::test]
async fn a_revoked_key_is_forgotten_and_the_standby_takes_over() {
    let issuer = Issuer::new(CALM);
    let running = issuer.serve().await;
    let old = issuer.token(BILLING).await;
    let revoked = kid(&old);
    let standby = eventually("a standby waits", Duration::from_secs(20), async || {
        let kids = kids(&issuer.jwks().await);
        kids.into_iter().find(|kid| *kid != revoked)
    })
    .await;
    // All four fetch their first set now, with the standby in it.
    let panel = Panel::new(&issuer, MAX_AGE);
    panel.assert_accepted("a token before the emergency", &old).await;

    let exit = issuer.command(&["keys", "revoke", &revoked, "--reason", "leaked in a story"]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");

    let new = eventually("the standby signs", Duration::from_secs(1), async || {
        let token = issuer.token(BILLING).await;
        (kid(&token) != revoked).then_some(token)
    })
    .await;
    assert_eq!(kid(&new), standby);
    panel.assert_accepted("the standby's first token", &new).await;
    assert!(!kids(&issuer.jwks().await).contains(&revoked), "the revoked key is still published");
    eventually("all four refuse the old token", MAX_AGE + Duration::from_secs(1), async || {
        panel.judge(&old).await.iter().all(|verdict| verdict.result.is_err()).then_some(())
    })
    .await;
    panel.assert_accepted("a token after the emergency", &issuer.token(BILLING).await).await;
    eventually("there is a new standby", Duration::from_secs(10), async || {
        (kids(&issuer.jwks().await).len() == 2).then_some(())
    })
    .await;

    running.kill().await;
    let _running = issuer.serve().await;
    assert!(!kids(&issuer.jwks().await).contains(&revoked), "a restart brought the revoked key back");
    assert_ne!(kid(&issuer.token(BILLING).await), revoked);
}
