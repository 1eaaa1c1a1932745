//! The server is killed while many clients refresh: what a client has received is good, and an answer that was lost can be
//! had once more.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::races::code_form;
use super::{SETTINGS, SHOP, World, text};
use crate::harness::{Kept, Postgres, Settings};

const FAMILIES: usize = 12;
const CRASHES: usize = 5;

/// One fast ring, and so long a grace that no restart outlasts it.
const SETTINGS_OF_CRASHES: Settings =
    Settings { keys: r#"algorithms = ["ES256"]"#, tokens: "refresh_grace = \"60s\"", ..SETTINGS };

/// The refresh tokens of one sign-in, as its client knows them.
struct Family {
    /// The last one that was received.
    current: String,
    /// The one that it was received for.
    used: Option<String>,
}

impl World {
    /// Kills the server, and starts it again.
    async fn crash(self) -> Self {
        let Self { issuer, server, app } = self;
        server.kill().await;
        let server = issuer.serve().await;
        Self { issuer, server, app }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_tokens_that_were_received_survive_kills_on_sqlite() {
    crash_while_clients_refresh(World::with(SETTINGS_OF_CRASHES, "").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_tokens_that_were_received_survive_kills_on_postgresql() {
    let postgres = Postgres::serve().await;
    crash_while_clients_refresh(World::in_database(SETTINGS_OF_CRASHES, &postgres.url()).await).await;
}

async fn crash_while_clients_refresh(mut world: World) {
    let url = world.issuer.at("/oauth2/token");
    let mut alice = world.alice();
    let mut families = Vec::new();
    for _ in 0..FAMILIES {
        let code = code_form(&world, &mut alice).await;
        let reply = Kept::new().post_form(&url, &code, Some(SHOP)).await.expect("a response");
        families.push(Family { current: text(&reply.json(), "refresh_token").to_owned(), used: None });
    }

    for round in 0..CRASHES {
        let client = Kept::new();
        let (received, answers) = unbounded_channel();
        let mut refreshing = JoinSet::new();
        for family in families.drain(..) {
            refreshing.spawn(family.refresh_until_nobody_answers(client.clone(), url.clone(), received.clone()));
        }
        // At another moment each time: at once when a client has its answer, while others wait for theirs.
        wait_for(answers, 2 * FAMILIES + 31 * round).await;
        world = world.crash().await;
        families = refreshing.join_all().await;

        let client = Kept::new();
        for family in &families {
            // Of many at once, one may have had to wait for its first answer until the kill.
            let Some(used) = &family.used else { continue };
            let again = ask(&client, &url, used).await;
            assert_eq!(again.as_ref(), Ok(&family.current), "crash {round}: what was received is not what is stored");
        }
    }

    for family in &families {
        let next = ask(&Kept::new(), &url, &family.current).await;
        assert!(next.is_ok(), "after the last crash: {next:?}");
    }
    assert!(!world.server.log().contains("ERROR"), "{}", world.server.log());
}

impl Family {
    /// The first token may be one whose answer was lost in the crash before, and which has to give another all the same.
    async fn refresh_until_nobody_answers(mut self, client: Kept, url: String, received: UnboundedSender<()>) -> Self {
        loop {
            let reply = client.post_form(&url, &refresh_form(&self.current), Some(SHOP)).await;
            // The connection broke, and nobody knows whether the token was used.
            let Ok(reply) = reply else { return self };
            assert_eq!(reply.status, 200, "a token that was received is refused: {}", reply.text());
            let next = text(&reply.json(), "refresh_token").to_owned();
            self.used = Some(std::mem::replace(&mut self.current, next));
            // Whoever counts has gone when the server is killed.
            let _ = received.send(());
        }
    }
}

async fn wait_for(mut answers: UnboundedReceiver<()>, count: usize) {
    for _ in 0..count {
        answers.recv().await.expect("clients that refresh");
    }
}

/// The successor of a refresh token, or what is said instead.
async fn ask(client: &Kept, url: &str, token: &str) -> Result<String, String> {
    let reply = client.post_form(url, &refresh_form(token), Some(SHOP)).await.expect("a response");
    if reply.status == 200 { Ok(text(&reply.json(), "refresh_token").to_owned()) } else { Err(reply.text().to_owned()) }
}

fn refresh_form(token: &str) -> String {
    format!("grant_type=refresh_token&refresh_token={token}")
}
