//! A database that the first schema made, opened by this version: keys, clients, secrets and tokens are what they were.
//!
//! `upgrade/first-schema.sql` is what a program of that time left behind, after its keys had turned a few times.

use keywheel_jose::{AccessTokenClaims, KeySet, Policy, Timestamp, check};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use crate::harness::{Issuer, Settings, claims, kid, kids, unix_now};

const DATABASE: &str = include_str!("upgrade/first-schema.sql");
/// Issued then, for an hour.
const TOKEN: &str = include_str!("upgrade/token");
/// The issuer of then.
const URL: &str = "http://127.0.0.1:18080";
/// Added by an operator then; `billing` is declared in the configuration, then as now.
const SHIPPING: (&str, &str) = ("shipping", "kw_secret_6zChqAUk3YoleayU-o7q74d2Kpsdp4XbttO2hRoL8sk");
const BILLING: (&str, &str) = ("billing", Settings::SECRET);
const SETTINGS: Settings =
    Settings { keys: r#"algorithms = ["ES256", "RS256"]"#, tokens: "access_ttl = \"1h\"", ..Settings::PLAIN };

#[tokio::test]
async fn an_upgraded_issuer_goes_on_where_it_was() {
    let token = TOKEN.trim();
    let issued = claims(token)["iat"].as_f64().expect("iat");
    let old = Old::new(issued + 60.0).await;

    let server = old.issuer.serve().await;

    let jwks = old.issuer.jwks().await;
    old.assert_accepted(&jwks.to_string(), token, issued + 60.0);
    let new = old.issuer.token(BILLING).await;
    assert_eq!(kid(&new), kid(token), "an upgrade is no reason to sign with another key");
    old.assert_accepted(&jwks.to_string(), &new, issued + 60.0);
    let added = old.issuer.token(SHIPPING).await;
    assert_eq!(claims(&added)["scope"], "parcels:send");
    // Two that retire, one that signs and its successors, of two algorithms: all that were published still are.
    let published = kids(&jwks);
    for known in old.texts("SELECT kid FROM signing_keys WHERE serial <= 4").await {
        assert!(published.contains(&known), "{known} is gone from {published:?}");
    }
    old.assert_up_to_date().await;
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    // And nothing is left to do at the next start.
    let exit = server.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let _server = old.issuer.serve().await;
    assert_eq!(old.issuer.jwks().await, jwks);
}

#[tokio::test]
async fn an_issuer_that_slept_since_the_first_schema_wakes_up() {
    let old = Old::new(unix_now()).await;

    let server = old.issuer.serve().await;

    let token = old.issuer.token(BILLING).await;
    old.assert_accepted(&old.issuer.jwks().await.to_string(), &token, unix_now());
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[tokio::test]
async fn a_schema_is_brought_up_to_date_by_hand_too() {
    let old = Old::new(unix_now()).await;
    assert_eq!(old.texts("SELECT CAST(MAX(version) AS TEXT) FROM _sqlx_migrations").await, ["1"]);

    // The second time there is nothing to do.
    for _ in 0..2 {
        let exit = old.issuer.command(&["migrate"]).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        old.assert_up_to_date().await;
    }

    let _server = old.issuer.serve().await;
    old.issuer.token(SHIPPING).await;
}

/// An issuer with the database of then.
struct Old {
    issuer: Issuer,
    folder: TempDir,
}

impl Old {
    /// `clock` is what the server's clock shows at its start, in seconds since 1970.
    async fn new(clock: f64) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let ahead = clock - unix_now();
        // Without the right clock's being touched where it would do.
        let ahead = if ahead.abs() < 1.0 { 0.0 } else { ahead };
        let url = format!("sqlite://{}/old.db", folder.path().display());
        let old = Self { issuer: Issuer::replica(SETTINGS, URL, &url, ahead), folder };
        let mut database = old.database(true).await;
        sqlx::raw_sql(DATABASE).execute(&mut database).await.expect("making the old database");
        database.close().await.expect("closing the old database");
        old
    }

    #[track_caller]
    fn assert_accepted(&self, jwks: &str, token: &str, now: f64) {
        let keys = KeySet::parse(jwks.as_bytes()).expect("a key set");
        let policy = Policy::access_token(URL, Settings::AUDIENCE);
        check::<AccessTokenClaims>(token, &keys, &policy, Timestamp::from_unix(now as i64)).expect("it holds");
    }

    async fn assert_up_to_date(&self) {
        let fresh = Issuer::new(SETTINGS);
        let exit = fresh.command(&["migrate"]).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let newest = format!("sqlite://{}", fresh.path("keywheel.db").display());
        let mut newest = newest.parse::<SqliteConnectOptions>().expect("a URL").connect().await.expect("a database");
        let schema = "SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_schema ORDER BY 1";
        let newest: Vec<String> = sqlx::query_scalar(schema).fetch_all(&mut newest).await.expect(schema);

        assert_eq!(self.texts(schema).await, newest, "the schema of an old database is that of a new one");
    }

    async fn texts(&self, query: &'static str) -> Vec<String> {
        let mut database = self.database(false).await;
        let texts = sqlx::query_scalar(query).fetch_all(&mut database).await.expect(query);
        database.close().await.expect("closing the database");
        texts
    }

    async fn database(&self, create: bool) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join("old.db"));
        options.create_if_missing(create).connect().await.expect("opening the database")
    }
}
