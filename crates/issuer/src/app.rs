//! The issuer as a whole: opened from a configuration, then run until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use keywheel_jose::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};

use crate::admin::users::{UserError, declare_users, keep_pace};
use crate::chain;
use crate::config::Config;
use crate::edges::{Author, Clock, Edges, Entropy};
use crate::hooks;
use crate::housekeeping;
use crate::http;
use crate::http::serve::{Limits, serve};
use crate::keys::coverage::{Coverage, next_key};
use crate::keys::fetchers::Fetchers;
use crate::keys::rotator::{RotationError, Rotator};
use crate::keys::seal::{KeyEncryptionKey, KeyEncryptionKeys, SealError};
use crate::keys::{Keys, example};
use crate::login::{Login, PagesError};
use crate::metrics::{Metrics, State};
use crate::notify::{self, Supervisor};
use crate::oidc::backchannel::{self, Deliveries};
use crate::oidc::client_keys::ClientKeyCache;
use crate::oidc::discovery::Discovery;
use crate::outgoing::{Outgoing, Reach};
use crate::registry::Registry;
use crate::shutdown::{Shutdown, Stop, shutdown};
use crate::storage::{By, Store, StoreError, WhenMissing};
use crate::telemetry::otlp::Exporter;
use crate::telemetry::traces::Tracer;
use crate::tls::{self, Tls, TlsError};
use crate::users::Passwords;

/// Why the issuer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The key-encryption key.
    #[error("the key-encryption key cannot be used")]
    Seal(#[from] SealError),
    /// The signing keys.
    #[error("the signing keys cannot be used")]
    Rotation(#[from] RotationError),
    /// The pages for people.
    #[error("the pages cannot be shown")]
    Pages(#[from] PagesError),
    /// The users of the configuration.
    #[error("the declared users cannot be stored")]
    Users(#[from] UserError),
    /// A signing key that everybody has.
    #[error(
        "the signing key {0} is one of the published examples, which anybody can sign with: revoke it, or use an issuer on loopback"
    )]
    ExampleKey(String),
    /// What the public listener speaks TLS with.
    #[error("TLS cannot be spoken")]
    Tls(#[from] TlsError),
    /// A listener.
    #[error("cannot listen on {address} ({setting})")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Which setting says so.
        setting: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// Whether the configuration, rather than the system, is at fault.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        use crate::keys::LoadError;
        match self {
            Self::Seal(_) | Self::ExampleKey(_) | Self::Pages(_) => true,
            Self::Rotation(RotationError::Load(LoadError::Seal(_))) => true,
            Self::Users(UserError::DeclaredTwice(_)) => true,
            Self::Users(_) => false,
            Self::Tls(error) => matches!(error, TlsError::Certificate(_)),
            Self::Store(_) | Self::Rotation(_) | Self::Listen { .. } => false,
        }
    }
}

/// The ring with everything that changing it takes: what the server and the operator's commands share.
pub struct Ring {
    /// The database.
    pub store: Store,
    /// The keys in memory.
    pub keys: Arc<Keys>,
    /// What seals them.
    pub kek: Arc<KeyEncryptionKeys>,
    /// What prepares the next ones.
    pub rotator: Arc<Rotator>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who is at work, for the audit log.
    pub author: Author,
    /// Where a key-encryption key was made just now, if it was.
    pub kek_created: Option<PathBuf>,
}

impl Ring {
    /// Opens the database and the key-encryption key. A new database gets a new key-encryption key if there is none;
    /// one that holds keys never does.
    ///
    /// # Errors
    /// [`StartError::Store`], [`StartError::Seal`].
    pub async fn open(config: &Config, edges: &Edges, when_missing: WhenMissing) -> Result<Self, StartError> {
        let store = Store::open(&config.storage.database, when_missing).await?;
        let (path, others) = config.keys.encryption_key_files.split_first().expect("the configuration names one");
        let mut kek_created = None;
        let first = match KeyEncryptionKey::read(path) {
            Err(SealError::FileMissing(_)) if store.load_keys().await?.is_empty() => {
                kek_created = Some(path.clone());
                KeyEncryptionKey::create(path, edges.entropy.as_ref())?
            }
            read => read?,
        };
        let others = others.iter().map(|path| KeyEncryptionKey::read(path)).collect::<Result<_, _>>()?;
        let kek = Arc::new(KeyEncryptionKeys::new(first, others));
        let metrics = Arc::new(Metrics::new());
        let store = store.counted_by(&metrics);
        let policy = config.keys.rotation.clone();
        let keys = Arc::new(Keys::empty(
            policy.clone(),
            config.keys.algorithms.clone(),
            Arc::clone(&metrics),
            Arc::clone(&edges.clock),
        ));
        let rotator = Rotator::new(
            store.clone(),
            Arc::clone(&keys),
            Arc::clone(&kek),
            policy,
            config.keys.rsa_bits,
            edges,
            Arc::clone(&metrics),
        );
        let rotator = Arc::new(rotator.holding_for_coverage(config.keys.hold_for_coverage));
        Ok(Self { store, keys, kek, rotator, metrics, author: edges.author.clone(), kek_created })
    }
}

/// An issuer.
pub struct App {
    /// What was configured.
    pub config: Config,
    /// The signing keys.
    pub keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) discovery: Discovery,
    pub(crate) fetchers: Arc<Fetchers>,
    /// How clients are called.
    pub(crate) outgoing: Outgoing,
    pub(crate) client_keys: ClientKeyCache,
    pub(crate) logouts: Deliveries,
    /// Where a key-encryption key was made at this start, if it was.
    pub kek_created: Option<PathBuf>,
    /// The database.
    pub store: Store,
    /// What hashes and checks passwords.
    pub passwords: Arc<Passwords>,
    /// What authenticates what is handed out and comes back.
    pub(crate) kek: Arc<KeyEncryptionKeys>,
    pub(crate) login: Login,
    /// What decides which requests are traced, if any are.
    pub(crate) tracer: Option<Arc<Tracer>>,
    /// What brings traces to a collector, until it runs.
    exporter: std::sync::Mutex<Option<Exporter>>,
    /// How the public listener speaks TLS, if it does.
    pub(crate) tls: Option<Arc<Tls>>,
    clients: ArcSwap<Registry>,
    /// One reading of the clients at a time, so that what was read later is put in force later.
    reading_clients: Mutex<()>,
    rotator: Arc<Rotator>,
    /// The order to stop, once it runs.
    shutdown: OnceLock<Shutdown>,
}

impl App {
    /// Opens the database, and makes the first keys if it is new. Afterwards the issuer can sign.
    ///
    /// # Errors
    /// Every [`StartError`] but [`StartError::Listen`].
    pub async fn open(config: Config, edges: Edges) -> Result<Arc<Self>, StartError> {
        let ring = Ring::open(&config, &edges, WhenMissing::Create).await?;
        ring.rotator.prepare().await?;
        if !config.issuer.is_loopback() {
            refuse_example_keys(&ring.keys)?;
        }
        let registry = read_registry(&config, &ring.store).await?;
        let passwords = Passwords::new(config.limits.password_concurrency, &edges).counted_by(&ring.metrics);
        let by = By::new(&ring.author, edges.clock.now());
        declare_users(&ring.store, &config, &passwords, edges.entropy.as_ref(), &by).await?;
        keep_pace(&ring.store, &passwords).await?;
        let (tracer, exporter) = Tracer::open(&config.telemetry, &edges, &ring.metrics).unzip();
        Ok(Arc::new(Self {
            tracer: tracer.map(Arc::new),
            exporter: std::sync::Mutex::new(exporter),
            discovery: Discovery::new(&config.issuer, &config.keys.algorithms),
            fetchers: Arc::new(Fetchers::new(config.keys.rotation.clone())),
            outgoing: Outgoing::new(if config.outgoing.allow_private { Reach::Anywhere } else { Reach::Public }),
            client_keys: ClientKeyCache::default(),
            logouts: Deliveries::default(),
            login: Login::open(&config)?,
            tls: Tls::open(&config.server, &ring.store, &edges.clock)?,
            clients: ArcSwap::from_pointee(registry),
            reading_clients: Mutex::new(()),
            passwords: Arc::new(passwords),
            clock: edges.clock,
            entropy: edges.entropy,
            keys: ring.keys,
            metrics: ring.metrics,
            kek_created: ring.kek_created,
            store: ring.store,
            kek: ring.kek,
            rotator: ring.rotator,
            shutdown: OnceLock::new(),
            config,
        }))
    }

    /// Serves on the listeners, keeps the keys turning and tells `supervisor` how it goes, until `shutdown` is ordered and
    /// the requests under way are answered.
    ///
    /// # Errors
    /// [`StartError::Rotation`] when the wake-up schedule can't be set up.
    pub async fn run(
        self: Arc<Self>,
        listeners: Listeners,
        supervisor: Supervisor,
        shutdown: Shutdown,
    ) -> Result<(), StartError> {
        let _ = self.shutdown.set(shutdown.clone());
        let server = self.config.server.clone();
        let limits = Limits {
            header_timeout: server.header_timeout,
            drain_timeout: server.drain_timeout,
            max_connections: server.max_connections,
        };
        let scheduler = self.rotator.schedule().await?;
        let rotation = tokio::spawn(Arc::clone(&self.rotator).run(scheduler, shutdown.clone()));
        let watch = tokio::spawn({
            let (app, shutdown) = (Arc::clone(&self), shutdown.clone());
            async move {
                let reload = || drop(tokio::spawn(Arc::clone(&app).reload_clients()));
                app.rotator.watch(reload, shutdown).await;
            }
        });
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        let fetchers = tokio::spawn(Arc::clone(&self.fetchers).run(store, clock, shutdown.clone()));
        let housekeeping = tokio::spawn(housekeeping::run(Arc::clone(&self), shutdown.clone()));
        let hooks = tokio::spawn(hooks::run(Arc::clone(&self), shutdown.clone()));
        let logouts = tokio::spawn(backchannel::run(Arc::clone(&self), shutdown.clone()));
        let reports = tokio::spawn(notify::run(Arc::clone(&self), supervisor, shutdown.clone()));

        let certificate = tokio::spawn(tls::run(Arc::clone(&self), shutdown.clone()));

        let public = serve(
            listeners.public,
            self.tls.clone(),
            http::Routes::public(&self),
            limits,
            self.metrics.connections.clone(),
            shutdown.clone(),
        );
        let in_the_clear = async {
            if let Some(listener) = listeners.in_the_clear {
                let open = self.metrics.connections.clone();
                serve(listener, None, http::Routes::in_the_clear(&self), limits, open, shutdown.clone()).await;
            }
        };
        let metrics = async {
            if let Some(listener) = listeners.metrics {
                let uncounted = prometheus_client::metrics::gauge::Gauge::default();
                serve(listener, None, http::Routes::metrics(&self), limits, uncounted, shutdown.clone()).await;
            }
        };
        let (stop_exporting, traces) = self.export_traces();
        tokio::join!(public, in_the_clear, metrics);
        let tasks = [
            (rotation, "the rotator"),
            (watch, "the watch over the database"),
            (fetchers, "the record of who fetches the JWKS"),
            (logouts, "the delivery of logouts"),
            (hooks, "the telling of events"),
            (housekeeping, "the forgetting of what is over"),
            (certificate, "the watch over the certificate"),
            (reports, "the reports to the supervisor"),
        ];
        for (task, what) in tasks {
            if let Err(failure) = task.await {
                error!(error = %failure, "{what} ended early");
            }
        }
        // Last, so that what was done at the end is seen too.
        stop_exporting.stop();
        let _ = traces.await;
        self.store.close().await;
        Ok(())
    }

    fn export_traces(&self) -> (Stop, JoinHandle<()>) {
        let (stop, stopped) = shutdown();
        let exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        let exporting = async move {
            if let Some(exporter) = exporter {
                exporter.run(stopped).await;
            }
        };
        (stop, tokio::spawn(exporting))
    }

    /// Whether it can answer who asks; or why not.
    pub(crate) fn ready(&self, now: Timestamp) -> Result<(), String> {
        if self.shutdown.get().is_some_and(Shutdown::is_announced) {
            return Err("the server is stopping".to_owned());
        }
        self.keys.ready(now).map_err(|reason| reason.to_string())?;
        self.tls.as_ref().map_or(Ok(()), |tls| tls.ready())
    }

    /// The clients of this moment.
    pub(crate) fn clients(&self) -> Guard<Arc<Registry>> {
        self.clients.load()
    }

    /// Takes over what another process changed, trying until it succeeds; the clients before stay in force meanwhile.
    async fn reload_clients(self: Arc<Self>) {
        let _one_at_a_time = self.reading_clients.lock().await;
        let mut pause = FIRST_PAUSE;
        loop {
            match read_registry(&self.config, &self.store).await {
                Ok(registry) => {
                    debug!(clients = registry.len(), "clients read anew");
                    self.clients.store(Arc::new(registry));
                    return;
                }
                Err(failure) => warn!(error = chain(&failure), "clients could not be read; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What prepares the next keys.
    pub(crate) fn rotator(&self) -> &Arc<Rotator> {
        &self.rotator
    }

    /// What Prometheus reads.
    pub(crate) fn render_metrics(&self) -> String {
        let (now, policy) = (self.clock.now(), &self.config.keys.rotation);
        let fetchers = self.fetchers.rows();
        let regular = fetchers.iter().filter(|fetcher| fetcher.is_regular(policy, now)).count();
        self.metrics.fetchers_regular.set(i64::try_from(regular).unwrap_or(i64::MAX));
        self.keys.with_ring(|ring| {
            for &alg in &self.config.keys.algorithms {
                let next = next_key(ring, alg, now);
                let holding = next.map_or(0, |next| Coverage::of(next, &fetchers, policy, now).holding());
                let gauge = self.metrics.fetchers_holding_next.get_or_create(&alg.into());
                gauge.set(i64::try_from(holding).unwrap_or(i64::MAX));
            }
            let (clock_ahead_ms, clock_limit_ms) = self.keys.clock_ahead_ms();
            let (hashes_running, hashes_waiting) = self.passwords.under_way();
            self.metrics.render(&State {
                ring,
                policy,
                algorithms: &self.config.keys.algorithms,
                read_age: self.keys.read_age(),
                clock_ahead_ms,
                clock_limit_ms,
                is_ready: self.ready(now).is_ok(),
                hashes_running,
                hashes_waiting,
                clients: self.clients().len(),
                certificate_not_after: self.tls.as_ref().and_then(|tls| tls.not_after()),
                now,
            })
        })
    }
}

/// The sockets, bound before anything else is done, so that a port in use is known at once.
pub struct Listeners {
    public: TcpListener,
    /// Beside a public one with TLS.
    in_the_clear: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the configuration says.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let bind = async |address: SocketAddr, setting| {
            TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, setting, source })
        };
        let public = bind(config.server.listen, "server.listen").await?;
        let in_the_clear = match config.server.acme.as_ref().and_then(|acme| acme.http_listen) {
            Some(address) => Some(bind(address, "server.acme.http_listen").await?),
            None => None,
        };
        let metrics = match config.server.metrics_listen {
            Some(address) => Some(bind(address, "server.metrics_listen").await?),
            None => None,
        };
        Ok(Self { public, in_the_clear, metrics })
    }

    /// Where the public listener is bound.
    #[must_use]
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.public.local_addr().ok()
    }

    /// Where the metrics listener is bound.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn refuse_example_keys(keys: &Keys) -> Result<(), StartError> {
    let found = keys.with_ring(|ring| {
        let mut usable = ring.keys().iter().filter(|key| key.has_private && !key.is_revoked());
        usable.find(|key| example::is_example(&key.kid)).map(|key| key.kid.clone())
    });
    found.map_or(Ok(()), |kid| Err(StartError::ExampleKey(kid)))
}

async fn read_registry(config: &Config, store: &Store) -> Result<Registry, StoreError> {
    let stored = store.load_clients().await?;
    for client in &stored {
        if config.clients.iter().any(|declared| declared.id == client.id) {
            warn!(client.id = client.id, "this client is declared in the configuration too, which counts");
        }
    }
    Ok(Registry::new(config.clients.iter().cloned().chain(stored)))
}

/// Pauses before clients are read again after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
