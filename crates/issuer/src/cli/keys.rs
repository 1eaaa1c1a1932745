//! `keywheel keys …`

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{BroughtForward, Event, EventKind, How, KeyRecord, Phase, WhoSigns, format_duration};
use serde_json::json;

use super::output::{Table, note, print, print_json};
use super::{Failure, Session, read_input};
use crate::admin::ops;
use crate::app::Ring;
use crate::keys::PublicKeys;
use crate::keys::coverage::{Coverage, HeldKey, next_key};
use crate::storage::WhenMissing;

#[derive(Subcommand)]
pub(super) enum Keys {
    /// Show the keys of every ring, with their phase and dates
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what will happen to the keys, and when
    Schedule {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring the next rotation forward, as far as no verifier is surprised
    Rotate {
        /// Only the ring of this algorithm
        #[arg(long, value_name = "ALG")]
        alg: Option<Algorithm>,
        /// At once, even if verifiers that do not have the key yet refuse its tokens for a while
        #[arg(long)]
        now: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Withdraw a key at once: it neither signs nor is published any more, and its tokens are refused
    Revoke {
        /// The key's id, as `keys list` shows it
        kid: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a private key (PEM or JWK) into the ring of its algorithm
    Import {
        /// The file; - is standard input
        file: PathBuf,
        /// RS256 or PS256, for an RSA key (default RS256)
        #[arg(long, value_name = "ALG")]
        alg: Option<Algorithm>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the public keys that are published now, as a JWKS
    Export,
    /// Say that the database was restored from a backup that `keywheel backup` did not make, before a server starts
    ///
    /// Goes through the keys at once: one that verifiers may have dropped since signs no more. Tells which keys have to be
    /// revoked again if they were revoked after the backup. A file that `keywheel backup` wrote needs no word: the first
    /// start does the same.
    Restored {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Seal every private key under the first of keys.encryption_key_file, while the server runs
    ///
    /// Those that sign, and those of the certificates and accounts that server.acme brought. Of these, one that no key
    /// opens any more is told of and left: the server gets another one where it needs it.
    Rewrap {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Keys {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let when_missing = match &self {
            Self::Import { .. } => WhenMissing::Create,
            _ => WhenMissing::Refuse,
        };
        let ring = Ring::open(&session.config, &session.edges, when_missing).await?;
        ring.rotator.read().await?;
        let result = match self {
            Self::List { json } => list(session, &ring, json).await,
            Self::Schedule { json } => schedule(session, &ring, json).await,
            Self::Rotate { alg, now, yes, json } => rotate(session, &ring, alg, now, yes, json).await,
            Self::Revoke { kid, reason, json } => revoke(session, &ring, &kid, reason.as_deref(), json).await,
            Self::Import { file, alg, json } => import(session, &ring, &file, alg, json).await,
            Self::Export => export(session, &ring),
            Self::Restored { json } => restored(session, &ring, json).await,
            Self::Rewrap { json } => rewrap(session, &ring, json).await,
        };
        ring.store.close().await;
        result
    }
}

async fn list(session: &Session, ring: &Ring, json: bool) -> Result<(), Failure> {
    let now = session.edges.clock.now();
    let stored = ring.store.load_keys().await?;
    let rows = keywheel_keyring::Keyring::new(stored.iter().map(|key| key.record.clone()).collect());
    let reason = |kid: &str| stored.iter().find(|key| key.record.kid == kid).and_then(|key| key.revoked_reason.clone());
    if json {
        let keys: Vec<_> = rows
            .keys()
            .iter()
            .map(|key| {
                json!({
                    "kid": key.kid,
                    "alg": key.alg.as_str(),
                    "phase": rows.phase(key, now),
                    "serial": key.serial,
                    "created_at": key.created_at,
                    "publish_at": key.publish_at,
                    "sign_from": key.sign_from,
                    "signs_until": rows.superseded_at(key),
                    "remove_at": rows.remove_at(key),
                    "revoked_at": key.revoked_at,
                    "revoked_reason": reason(&key.kid),
                    "max_ttl_s": key.max_ttl.as_secs(),
                    "has_private": key.has_private,
                })
            })
            .collect();
        return Ok(print_json(&json!(keys))?);
    }
    let mut table = Table::new(["ALG", "PHASE", "KID", "PUBLISHED", "SIGNS FROM", "REMOVED"]);
    for key in rows.keys() {
        let removed = match key.revoked_at {
            Some(at) => format!("revoked {at}"),
            None => rows.remove_at(key).map_or_else(|| "-".to_owned(), |at| at.to_string()),
        };
        table.row([
            key.alg.to_string(),
            phase(rows.phase(key, now)).to_owned(),
            key.kid.clone(),
            key.publish_at.to_string(),
            key.sign_from.to_string(),
            removed,
        ]);
    }
    if table.is_empty() {
        note("there are no keys yet: the first start of `keywheel serve` makes them");
        return Ok(());
    }
    Ok(print(&table.render())?)
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Scheduled => "scheduled",
        Phase::Standby => "standby",
        Phase::Signing => "signing",
        Phase::Retiring => "retiring",
        Phase::Removed => "removed",
        Phase::Revoked => "revoked",
    }
}

async fn schedule(session: &Session, ring: &Ring, json: bool) -> Result<(), Failure> {
    let now = session.edges.clock.now();
    let keys = &session.config.keys;
    let events = ring.keys.with_ring(|rows| rows.schedule(&keys.rotation, &keys.algorithms, now));
    let (fetchers, held) = (ring.store.load_fetchers().await?, ring.store.load_held_keys().await?);
    let waiting: Vec<_> = ring.keys.with_ring(|rows| {
        let next = rows.algorithms().into_iter().filter_map(|alg| next_key(rows, alg, now));
        next.map(|key| Waiting {
            coverage: Coverage::of(key, &fetchers, &keys.rotation, now),
            held: held.iter().find(|held| held.applies_to(key)),
            key: key.clone(),
        })
        .collect()
    });
    if json {
        let events = events.iter().map(|event| {
            let mut facts = json!(event);
            let next = waiting.iter().find(|next| event.kid.as_ref() == Some(&next.key.kid));
            if let (EventKind::StartSigning, Some(next)) = (event.what, next) {
                facts["coverage"] = next.facts();
                facts["planned"] = json!(next.held.map(|held| held.planned));
            }
            facts
        });
        return Ok(print_json(&events.collect())?);
    }
    let sentences: String = waiting.iter().map(|next| format!("\n{}", next.sentence(now))).collect();
    Ok(print(&format!("{}{sentences}\n", timetable(&events, now).render()))?)
}

/// A key about to sign, and who has it.
struct Waiting<'a> {
    key: KeyRecord,
    coverage: Coverage<'a>,
    held: Option<&'a HeldKey>,
}

impl Waiting<'_> {
    fn facts(&self) -> serde_json::Value {
        let missing = self.coverage.missing.iter();
        let missing = missing.map(|fetcher| json!({ "name": fetcher.name, "last_seen": fetcher.last_seen }));
        json!({
            "regular": self.coverage.regular,
            "holding": self.coverage.holding(),
            "missing": missing.collect::<Vec<_>>(),
        })
    }

    fn sentence(&self, now: Timestamp) -> String {
        let Coverage { regular, missing } = &self.coverage;
        let mut text = match (regular, missing.len()) {
            (0, _) => format!("{}: nobody fetches the JWKS regularly, as far as is known", self.key.alg),
            (1, 0) => format!("{}: the one regular fetcher holds the next key", self.key.alg),
            (_, 0) => format!("{}: all {regular} regular fetchers hold the next key", self.key.alg),
            _ => format!(
                "{}: {} of {regular} regular fetchers hold the next key; missing: {}",
                self.key.alg,
                self.coverage.holding(),
                self.coverage.name_missing(now, coarsely)
            ),
        };
        if let Some(held) = self.held {
            text.push_str(&format!("; held until {}, planned {}", held.held_until, held.planned));
        }
        text
    }
}

/// The coming events as a table.
pub(super) fn timetable(events: &[Event], now: Timestamp) -> Table {
    let mut table = Table::new(["WHEN", "IN", "ALG", "WHAT", "KID"]);
    for event in events {
        let what = match event.what {
            EventKind::Publish => "is published",
            EventKind::StartSigning => "starts to sign",
            EventKind::StopSigning => "stops signing",
            EventKind::Remove => "leaves the JWKS",
        };
        table.row([
            event.at.to_string(),
            coarsely(event.at.duration_since(now)),
            event.alg.to_string(),
            what.to_owned(),
            event.kid.clone().unwrap_or_else(|| format!("(key {} of the ring, not made yet)", event.serial)),
        ]);
    }
    table
}

/// A wait as a person says it: to the minute when it is hours, to the hour when it is days.
pub(super) fn coarsely(wait: Duration) -> String {
    let seconds = wait.as_secs();
    let unit = match seconds {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    format_duration(Duration::from_secs(seconds / unit * unit))
}

async fn rotate(
    session: &Session,
    ring: &Ring,
    alg: Option<Algorithm>,
    at_once: bool,
    yes: bool,
    json: bool,
) -> Result<(), Failure> {
    let keys = &session.config.keys;
    let algorithms = match alg {
        Some(alg) if !keys.algorithms.contains(&alg) => {
            return Err(Failure::usage(format!("the issuer does not sign with {alg}")));
        }
        Some(alg) => vec![alg],
        None => keys.algorithms.clone(),
    };
    let how = if at_once { How::Now } else { How::Safe };
    let now = || session.edges.clock.now();
    if at_once && !yes {
        let preview = ops::preview_rotation(ring, &algorithms, how, now).await?;
        for rotation in &preview {
            warn_of_stumbling(rotation);
        }
        confirm("Rotate now?")?;
    }
    let rotations = ops::rotate(ring, &algorithms, how, now).await?;
    if json {
        let rotations: Vec<_> = rotations
            .iter()
            .map(|rotation| {
                json!({
                    "kid": rotation.kid,
                    "planned": rotation.from,
                    "sign_from": rotation.to,
                    "may_stumble": rotation.may_stumble,
                })
            })
            .collect();
        return Ok(print_json(&json!(rotations))?);
    }
    let mut table = Table::new(["KID", "WAS TO SIGN FROM", "SIGNS FROM", "IN"]);
    for rotation in &rotations {
        let wait = coarsely(rotation.to.duration_since(now()));
        table.row([rotation.kid.clone(), rotation.from.to_string(), rotation.to.to_string(), wait]);
    }
    print(&table.render())?;
    rotations.iter().for_each(warn_of_stumbling);
    Ok(())
}

fn warn_of_stumbling(rotation: &BroughtForward) {
    match &rotation.may_stumble {
        None if rotation.from == rotation.to => {
            note(format_args!("key {} cannot safely sign any sooner than planned", rotation.kid));
        }
        Some(stumble) => note(format_args!(
            "warning: until {} tokens of key {} may be refused by {}",
            stumble.until, rotation.kid, stumble.who
        )),
        None => note(format_args!("key {} has been announced to every verifier: nobody is surprised", rotation.kid)),
    }
}

/// Asks on the terminal; without one, `--yes` is needed.
fn confirm(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("nobody can be asked here: say --yes to go on"));
    }
    note(format_args!("{question} Type yes to go on:"));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was changed")),
    }
}

async fn revoke(session: &Session, ring: &Ring, kid: &str, reason: Option<&str>, json: bool) -> Result<(), Failure> {
    let now = || session.edges.clock.now();
    let revocation = ops::revoke(ring, &session.config, kid, reason, now).await?;
    let signs_next = match &revocation.signs_next {
        WhoSigns::Standby { kid } => Some(kid.clone()),
        WhoSigns::Replacement | WhoSigns::Unchanged => None,
    };
    if json {
        return Ok(print_json(&json!({
            "kid": kid,
            "revoked": true,
            "signs_next": signs_next,
            "was_signing": revocation.signs_next != WhoSigns::Unchanged,
            "tokens_refused_until": revocation.refuses_tokens_until,
            "may_stumble": revocation.may_stumble,
        }))?);
    }
    note(format_args!("key {kid} is revoked"));
    match &revocation.signs_next {
        WhoSigns::Standby { kid } => note(format_args!("key {kid} signs from now on; a new standby is in place")),
        WhoSigns::Replacement => note("a new key was made and signs from now on"),
        WhoSigns::Unchanged => note("it was not the key that signs, so nothing changes there"),
    }
    if let Some(until) = revocation.refuses_tokens_until {
        note(format_args!(
            "its tokens, which would have lived until {until} at most, are refused within {} by verifiers that obey max-age",
            format_duration(session.config.keys.rotation.jwks_max_age())
        ));
    }
    if let Some(stumble) = &revocation.may_stumble {
        note(format_args!("warning: until {} new tokens may be refused by {}", stumble.until, stumble.who));
    }
    Ok(())
}

async fn import(
    session: &Session,
    ring: &Ring,
    file: &std::path::Path,
    alg: Option<Algorithm>,
    json: bool,
) -> Result<(), Failure> {
    let text = read_input(file)?;
    let now = || session.edges.clock.now();
    let imported = ops::import_key(ring, &session.config, &text, alg, now).await?;
    if json {
        return Ok(print_json(&json!({
            "kid": imported.kid,
            "alg": imported.alg.as_str(),
            "publish_at": imported.publish_at,
            "sign_from": imported.sign_from,
        }))?);
    }
    let mut table = Table::new(["ALG", "KID", "PUBLISHED", "SIGNS FROM"]);
    table.row([
        imported.alg.to_string(),
        imported.kid,
        imported.publish_at.to_string(),
        imported.sign_from.to_string(),
    ]);
    Ok(print(&table.render())?)
}

async fn restored(session: &Session, ring: &Ring, json: bool) -> Result<(), Failure> {
    ring.store.mark_restored(&session.by()).await?;
    // The log tells people what is done.
    let settlement = ring.rotator.settle_restored().await?;
    ring.rotator.tick().await?;
    if json {
        return Ok(print_json(&json!(settlement))?);
    }
    Ok(())
}

async fn rewrap(session: &Session, ring: &Ring, json: bool) -> Result<(), Failure> {
    let ops::Rewrapped { signing_keys, certificate_keys, acme_accounts, lost } =
        ops::rewrap(ring, || session.edges.clock.now()).await?;
    let (all, under) = (signing_keys + certificate_keys + acme_accounts, ring.kek.sealing_id());
    if json {
        return Ok(print_json(&json!({
            "rewrapped": all,
            "signing_keys": signing_keys,
            "certificate_keys": certificate_keys,
            "acme_accounts": acme_accounts,
            "lost": lost,
            "under": under,
        }))?);
    }
    for why in &lost {
        note(format_args!("warning: {why}; the server gets another one if it needs it"));
    }
    let others = if lost.is_empty() { "all" } else { "all others" };
    note(format_args!(
        "{all} private keys were sealed anew ({signing_keys} signing, {certificate_keys} of certificates, {acme_accounts} of \
         ACME accounts); {others} are under the key-encryption key {under} now"
    ));
    Ok(())
}

fn export(session: &Session, ring: &Ring) -> Result<(), Failure> {
    let now = session.edges.clock.now();
    let document = ring.keys.with_ring(|rows| {
        let published = rows.published(&session.config.keys.algorithms, now);
        serde_json::to_string_pretty(&PublicKeys { keys: published.into_iter().map(|key| &key.jwk).collect() })
    });
    let document = document.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(print(&format!("{document}\n"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::coverage::Fetcher;
    use crate::testing::{Home, START};

    /// The standby of a new issuer, with these fetchers: the last keeps a set without it.
    async fn standby(home: &Home, names: &[&str]) -> (KeyRecord, Vec<Fetcher>) {
        let app = home.open().await;
        app.rotator().tick().await.expect("a visit");
        let now = app.clock.now();
        let key = app.keys.with_ring(|ring| next_key(ring, Algorithm::ES256, now).cloned()).expect("a standby");
        let fetcher = |(index, name): (usize, &&str)| Fetcher {
            name: (*name).to_owned(),
            first_seen: Timestamp::from_unix(START - 4 * 3_600),
            last_seen: Timestamp::from_unix(START - 3 * 3_600 * i64::from(index + 1 == names.len())),
            fetches: 3,
            newest: app.keys.with_ring(|ring| {
                let published = ring.published(&[], now);
                let without = if index + 1 == names.len() { 1 } else { published.len() };
                crate::keys::coverage::NewestKeys::of(&published[..without])
            }),
        };
        (key, names.iter().enumerate().map(fetcher).collect())
    }

    #[tokio::test]
    async fn the_schedule_says_who_lacks_the_next_key_and_what_waits_for_them() {
        let home = Home::new();
        let (key, mut fetchers) = standby(&home, &["billing", "orders", "payments-7"]).await;
        let (policy, now) = (home.config("").keys.rotation, Timestamp::from_unix(START));
        // Once an hour, three hours ago.
        fetchers[2].first_seen = Timestamp::from_unix(START - 5 * 3_600);
        let planned = key.sign_from;
        let held = HeldKey { kid: key.kid.clone(), planned, held_until: planned };
        let waiting = Waiting { coverage: Coverage::of(&key, &fetchers, &policy, now), held: Some(&held), key };

        assert_eq!(
            waiting.sentence(now),
            format!(
                "ES256: 2 of 3 regular fetchers hold the next key; missing: payments-7 (last seen 3h ago); \
                 held until {planned}, planned {planned}"
            )
        );
        assert_eq!(
            waiting.facts(),
            json!({
                "regular": 3,
                "holding": 2,
                "missing": [{ "name": "payments-7", "last_seen": START - 3 * 3_600 }],
            })
        );
    }

    #[tokio::test]
    async fn the_schedule_says_that_all_have_the_key_or_nobody_is_known() {
        let home = Home::new();
        let (key, mut fetchers) = standby(&home, &["billing", "orders", "gone"]).await;
        let (policy, now) = (home.config("").keys.rotation, Timestamp::from_unix(START));
        fetchers.truncate(2);
        let say = |fetchers: &[Fetcher]| {
            let coverage = Coverage::of(&key, fetchers, &policy, now);
            Waiting { coverage, held: None, key: key.clone() }.sentence(now)
        };

        assert_eq!(say(&fetchers), "ES256: all 2 regular fetchers hold the next key");
        assert_eq!(say(&fetchers[..1]), "ES256: the one regular fetcher holds the next key");
        assert_eq!(say(&[]), "ES256: nobody fetches the JWKS regularly, as far as is known");
    }
}
