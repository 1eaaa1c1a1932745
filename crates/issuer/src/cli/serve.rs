//! `keywheel serve`

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::output::note;
use super::{Failure, load};
use crate::admin::ops::{add_clients, new_secret, secret_hash};
use crate::admin::users::{add_users, new_password};
use crate::app::{App, Listeners};
use crate::clients::{Authentication, Client};
use crate::config::{Config, Loaded, Origin, environment, log_filter};
use crate::edges::{Author, Edges};
use crate::notify::Supervisor;
use crate::shutdown::{Shutdown, shutdown};
use crate::storage::{By, Store, WhenMissing};
use crate::telemetry::logs;
use crate::users::{GivenPassword, Passwords, UserDraft};

/// Serves until SIGTERM or SIGINT, then lets the requests under way finish.
pub(super) async fn serve(path: Option<&Path>) -> Result<(), Failure> {
    // First, since the default action of this signal is to end the process.
    let hangup = listen_for(SignalKind::hangup())?;
    let Loaded { config, origin, .. } = load(path)?;
    logs::init(&config.log, log_filter().as_deref());
    raise_descriptor_limit(config.server.max_connections);
    let listeners = Listeners::bind(&config).await?;
    let edges = Edges { author: Author::rotator(), ..Edges::system() };

    let shutdown = shutdown_signal(config.server.shutdown_delay)?;
    tokio::spawn(answer(hangup, config.server.tls.is_some()));
    let first = match origin {
        Origin::Defaults => first_start(&config, &edges).await?,
        Origin::File(_) => None,
    };
    let app = App::open(config, edges).await?;
    tell(&app, &listeners, first.as_ref());
    let supervisor = Supervisor::connect(environment(), std::process::id());
    Arc::clone(&app).run(listeners, supervisor, shutdown).await?;
    info!("stopped");
    Ok(())
}

/// What is made at the first start without any configuration.
struct First {
    /// Of a client to try things with.
    secret_file: std::path::PathBuf,
    /// Of the first administrator.
    password: Zeroizing<String>,
}

/// Makes a user `admin`, and a client `demo` with its secret in a file beside the database, if there is no database yet.
async fn first_start(config: &Config, edges: &Edges) -> Result<Option<First>, Failure> {
    let Some(path) = config.storage.database.path().filter(|path| !path.exists()) else { return Ok(None) };
    let secret = new_secret(edges.entropy.as_ref()).map_err(|error| Failure::failed(error.to_string()))?;
    let client = Client {
        name: Some("Made at the first start, to try things with".to_owned()),
        scopes: vec!["demo:read".to_owned(), "demo:write".to_owned()],
        audiences: vec!["https://api.example.com".to_owned()],
        ..Client::new(DEMO, Authentication::Secret { sha256: secret_hash(&secret), method: None })
    };
    let store = Store::open(&config.storage.database, WhenMissing::Create).await?;
    let secret_file = path.with_file_name("demo-client-secret");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&secret_file)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", secret_file.display())))?;
    file.write_all(secret.as_bytes()).map_err(|error| Failure::failed(error.to_string()))?;
    let by = By::new(&edges.author, edges.clock.now());
    add_clients(&store, config, &[client], &by).await?;
    let password = new_password(edges.entropy.as_ref()).map_err(|error| Failure::failed(error.to_string()))?;
    let admin = UserDraft {
        roles: vec![ADMIN.to_owned()],
        password: Some(GivenPassword::Plain(password.clone())),
        ..UserDraft::new(ADMIN)
    };
    let passwords = Arc::new(Passwords::new(1, edges));
    add_users(&store, &passwords, vec![admin], edges.entropy.as_ref(), &by).await?;
    store.close().await;
    Ok(Some(First { secret_file, password }))
}

/// Says where things are; and what was made, once.
fn tell(app: &App, listeners: &Listeners, first: Option<&First>) {
    let issuer = &app.config.issuer;
    if let Some(path) = &app.kek_created {
        warn!(path = %path.display(), "made a key-encryption key: keep a copy, the signing keys are lost without it");
    }
    if let Some(address) = listeners.metrics_address() {
        info!("metrics and health on http://{address}/metrics, /healthz, /readyz");
    }
    if let Some(address) = listeners.public_address() {
        info!("issuer {issuer} listens on {address}");
    }
    if let Some(First { secret_file, password }) = first {
        note(format_args!(
            "\nThis is a new identity provider. Its administrator, whose password is shown this once, signs in at {}:\n\n  \
             username  {ADMIN}\n  password  {}\n\n\
             There is a client to try it with:\n\n  \
             curl -u \"{DEMO}:$(cat {})\" -d grant_type=client_credentials {}\n\n\
             Verifiers find the public keys at {}\n",
            issuer.endpoint("/login"),
            password.as_str(),
            secret_file.display(),
            issuer.endpoint("/oauth2/token"),
            issuer.endpoint("/.well-known/jwks.json"),
        ));
    }
}

/// Announces the end at the first signal, orders it `delay` later, and ends the process at the second.
fn shutdown_signal(delay: Duration) -> Result<Shutdown, Failure> {
    let (stop, stopped) = shutdown();
    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: finishing the requests under way"),
            _ = interrupt.recv() => info!("SIGINT: finishing the requests under way"),
        }
        stop.announce();
        let leave = async move {
            tokio::time::sleep(delay).await;
            stop.stop();
            std::future::pending::<()>().await;
        };
        // A second signal does not wait.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = leave => {}
        }
        std::process::exit(1);
    });
    Ok(stopped)
}

/// Says what SIGHUP does. Certificate files are read again where they are watched (`tls/files.rs`).
async fn answer(mut hangup: Signal, has_certificate_files: bool) {
    while hangup.recv().await.is_some() {
        if has_certificate_files {
            info!("SIGHUP: reading the certificate files again; changes of the configuration need a restart");
        } else {
            info!("SIGHUP: there is nothing to read again; changes of the configuration need a restart");
        }
    }
}

fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
}

/// Each connection takes a file descriptor, and the usual soft limit is 1024.
fn raise_descriptor_limit(max_connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let wanted = max_connections as u64 + 64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        if setrlimit(Resource::Nofile, limit).is_err() || limit.current < Some(wanted) {
            warn!(max_connections, "the system allows fewer open files than server.max_connections needs");
        }
    }
}

/// The first client.
const DEMO: &str = "demo";
/// The first user, and what they may do.
const ADMIN: &str = "admin";
