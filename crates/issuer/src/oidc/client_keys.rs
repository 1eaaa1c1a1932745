//! The keys of clients that publish them at an address of their own (`jwks_uri`), kept in memory.
//!
//! 1. A set is used for some minutes. A `kid` that it does not have is looked for at once: the client may have rotated.
//! 2. Anybody can invent a `kid`, so between two fetches of one client's keys there is a pause, whoever asks.
//! 3. All who wait for one client's keys wait for the same fetch.
//! 4. While the address does not answer, the last set stays in use for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywheel_jose::KeySet;
use tracing::{info, warn};

use crate::clients::{Jwks, WebUri};
use crate::edges::Clock;
use crate::outgoing::{Bounds, Outgoing};

/// The sets that were fetched, by client. There are never more than clients that authenticate by such keys.
#[derive(Default)]
pub(crate) struct ClientKeyCache(Mutex<HashMap<String, Arc<Slot>>>);

/// Whoever holds the lock is the one who fetches.
type Slot = tokio::sync::Mutex<Held>;

/// Times are those of [`Clock::elapsed`], which nobody sets back.
#[derive(Default)]
struct Held {
    /// Where the set is from: a client can register another address.
    uri: Option<WebUri>,
    keys: Option<(Arc<KeySet>, Duration)>,
    tried_at: Option<Duration>,
}

impl ClientKeyCache {
    /// The keys of a client, fetched if need be; `None` when there are none that may be used. `kid` is that of the key
    /// that is looked for, which may not be among them.
    pub(super) async fn keys(
        &self,
        client_id: &str,
        uri: &WebUri,
        kid: Option<&str>,
        outgoing: &Outgoing,
        clock: &dyn Clock,
    ) -> Option<Arc<KeySet>> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(client_id.to_owned()).or_default())
        };
        let mut held = slot.lock().await;
        if held.uri.as_ref() != Some(uri) {
            *held = Held { uri: Some(uri.clone()), ..Held::default() };
        }
        let now = clock.elapsed();
        if let Some((keys, fetched_at)) = &held.keys {
            let is_fresh = now.saturating_sub(*fetched_at) < FRESH;
            if is_fresh && kid.is_none_or(|kid| keys.contains_kid(kid)) {
                return Some(Arc::clone(keys));
            }
        }
        if held.tried_at.is_none_or(|tried_at| now.saturating_sub(tried_at) >= PAUSE) {
            held.tried_at = Some(now);
            match fetch(uri, outgoing).await {
                Ok(keys) => {
                    info!(client.id = client_id, keys = keys.len(), "the keys of a client were read");
                    held.keys = Some((Arc::new(keys), now));
                }
                Err(reason) => warn!(client.id = client_id, reason, "the keys of a client can't be read"),
            }
        }
        let trusted = held.keys.as_ref().filter(|(_, fetched_at)| now.saturating_sub(*fetched_at) < TRUSTED);
        trusted.map(|(keys, _)| Arc::clone(keys))
    }
}

async fn fetch(uri: &WebUri, outgoing: &Outgoing) -> Result<KeySet, String> {
    let document = outgoing.get(uri.as_str(), BOUNDS).await.map_err(|failure| crate::chain(&failure))?;
    let keys = Jwks::parse(&document).map_err(|problem| problem.to_string())?;
    Ok(keys.keys().clone())
}

/// As long as verifiers keep ours by default.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// Longer than an outage that somebody is woken for.
const TRUSTED: Duration = Duration::from_secs(60 * 60);

const PAUSE: Duration = Duration::from_secs(10);

/// The client that authenticates waits for it. A large set has some hundred keys of half a kilobyte.
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(5), body_limit_bytes: 256 * 1024 };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::ManualClock;
    use crate::outgoing::Reach;
    use crate::outgoing::tests::Server;

    /// The key of RFC 8037 appendix A.2, under any name.
    fn jwks(kid: &str) -> String {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#)
    }

    struct Setting {
        server: Server,
        uri: WebUri,
        cache: ClientKeyCache,
        outgoing: Outgoing,
        clock: Arc<ManualClock>,
    }

    impl Setting {
        async fn new() -> Self {
            let server = Server::answering("200 OK", &jwks("1")).await;
            let uri = WebUri::parse(&server.url("/jwks")).expect("a URI");
            let (outgoing, clock) = (Outgoing::new(Reach::Anywhere), ManualClock::at(1_800_000_000));
            Self { server, uri, cache: ClientKeyCache::default(), outgoing, clock }
        }

        /// Whether the key is found, and how often the client was asked until then.
        async fn look_for(&self, kid: &str) -> (bool, usize) {
            let keys = self.cache.keys("shop", &self.uri, Some(kid), &self.outgoing, self.clock.as_ref()).await;
            (keys.is_some_and(|keys| keys.contains_kid(kid)), self.server.received().len())
        }
    }

    #[tokio::test]
    async fn a_set_is_fetched_once_while_it_is_fresh() {
        let setting = Setting::new().await;

        assert_eq!(setting.look_for("1").await, (true, 1));
        setting.clock.advance(299);
        assert_eq!(setting.look_for("1").await, (true, 1));
        setting.clock.advance(1);
        assert_eq!(setting.look_for("1").await, (true, 2));
    }

    #[tokio::test]
    async fn a_key_that_is_not_there_is_looked_for_with_pauses() {
        let setting = Setting::new().await;
        assert_eq!(setting.look_for("1").await, (true, 1));
        setting.server.answer("200 OK", &jwks("2"));

        setting.clock.advance(9);
        assert_eq!(setting.look_for("2").await, (false, 1), "too soon");
        setting.clock.advance(1);
        assert_eq!(setting.look_for("2").await, (true, 2));
        assert_eq!(setting.look_for("invented").await, (false, 2));
    }

    #[tokio::test]
    async fn all_wait_for_one_fetch() {
        let setting = Setting::new().await;

        let looks = std::array::from_fn::<_, 4, _>(|_| setting.look_for("1"));
        let [a, b, c, d] = looks;
        let found = tokio::join!(a, b, c, d);

        assert!(found.0.0 && found.1.0 && found.2.0 && found.3.0);
        assert_eq!(setting.server.received().len(), 1);
    }

    #[tokio::test]
    async fn the_last_set_outlives_an_outage_but_not_for_ever() {
        let setting = Setting::new().await;
        assert_eq!(setting.look_for("1").await, (true, 1));
        setting.server.answer("500 Internal Server Error", "");

        setting.clock.advance(3599);
        assert_eq!(setting.look_for("1").await, (true, 2));
        setting.clock.advance(10);
        assert_eq!(setting.look_for("1").await, (false, 3));
        setting.server.answer("200 OK", r#"{"keys":[]}"#);
        setting.clock.advance(10);
        assert_eq!(setting.look_for("1").await, (false, 4), "a set without keys is none");
    }

    #[tokio::test]
    async fn another_address_is_asked_at_once() {
        let mut setting = Setting::new().await;
        assert_eq!(setting.look_for("1").await, (true, 1));

        setting.uri = WebUri::parse(&setting.server.url("/other")).expect("a URI");

        assert_eq!(setting.look_for("1").await, (true, 2));
        assert!(setting.server.received()[1].starts_with("GET /other "));
    }
}
