//! `keywheel clients …`

mod options;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use self::options::{Member, Options, unset};
use self::show::{describe, document, source};
use super::output::{Table, note, print, print_json};
use super::{Failure, Session, read_input};
use crate::admin::ops;
use crate::clients::{self, Authentication, Client, Finding, parse_import};
use crate::storage::{Store, StoreError, WhenMissing};

#[derive(Subcommand)]
pub(super) enum Clients {
    /// Show all clients
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a client, and print its secret once
    Add(Box<Add>),
    /// Show one client
    Show {
        /// The client's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what is known of a client; what is not named stays as it is
    Set(Box<Set>),
    /// Give a client a new secret, and print it once; the old one ends at once
    RotateSecret {
        /// The client's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a client: it gets no more tokens
    Remove {
        /// The client's id
        id: String,
    },
    /// Add clients from a JSON array of RFC 7591 metadata with ids and secrets: all of them or none
    Import {
        /// The file; - is standard input
        file: PathBuf,
        /// Skip what this version does not support, with a warning, instead of refusing it
        #[arg(long)]
        ignore_unsupported: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct Add {
    /// The client's id
    id: String,
    #[command(flatten)]
    options: Options,
    /// Read the secret from this file (- is standard input) instead of generating one
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Set {
    /// The client's id
    id: String,
    #[command(flatten)]
    options: Options,
    /// Take this away; repeat for more
    #[arg(long, value_name = "MEMBER")]
    unset: Vec<Member>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Clients {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let when_missing = match &self {
            Self::Add(_) | Self::Import { .. } => WhenMissing::Create,
            _ => WhenMissing::Refuse,
        };
        let store = match Store::open(&session.config.storage.database, when_missing).await {
            // Declared clients can be shown before there is a database.
            Err(StoreError::Missing { .. }) if matches!(self, Self::List { .. } | Self::Show { .. }) => None,
            opened => Some(opened?),
        };
        let result = self.act(session, store.as_ref()).await;
        if let Some(store) = store {
            store.close().await;
        }
        result
    }

    async fn act(self, session: &Session, store: Option<&Store>) -> Result<(), Failure> {
        let Session { config, edges } = session;
        let opened = || store.ok_or_else(|| Failure::failed("there is no database"));
        match self {
            Self::List { json } => {
                let clients = all(session, store).await?;
                if json {
                    return Ok(print_json(&clients.iter().map(document).collect())?);
                }
                let mut table = Table::new(["ID", "NAME", "GRANTS", "SCOPES", "AUDIENCES", "FROM"]);
                for client in clients {
                    let name = client.name.unwrap_or_default();
                    table.row([
                        client.id,
                        name,
                        client.grants.to_string(),
                        client.scopes.join(" "),
                        client.audiences.join(" "),
                        source(client.source).to_owned(),
                    ]);
                }
                if table.is_empty() {
                    note("there are no clients: `keywheel clients add ID` makes one");
                    return Ok(());
                }
                Ok(print(&table.render())?)
            }
            Self::Show { id, json } => {
                let clients = all(session, store).await?;
                let client = clients.into_iter().find(|client| client.id == id);
                let client = client.ok_or_else(|| Failure::failed(format!("there is no client {id}")))?;
                if json {
                    return Ok(print_json(&document(&client))?);
                }
                Ok(print(&describe(&client))?)
            }
            Self::Add(add) => add.run(session, opened()?).await,
            Self::Set(set) => set.run(session, opened()?).await,
            Self::RotateSecret { id, json } => {
                let secret =
                    ops::rotate_client_secret(opened()?, config, &id, edges.entropy.as_ref(), &session.by()).await?;
                tell_secret(&id, &secret, json)
            }
            Self::Remove { id } => {
                ops::remove_client(opened()?, config, &id, &session.by()).await?;
                note(format_args!("client {id} is removed; tokens it has live until they expire"));
                Ok(())
            }
            Self::Import { file, ignore_unsupported, json } => {
                import(session, opened()?, &file, ignore_unsupported, json).await
            }
        }
    }
}

impl Add {
    async fn run(self, session: &Session, store: &Store) -> Result<(), Failure> {
        let refused = |error: clients::InvalidClient| Failure::usage(error.to_string());
        let id = clients::parse_id(&self.id).map_err(refused)?;
        let grants = self.options.first_grants();
        let mut secret = None;
        let mut make_secret = || {
            let made = new_or_given_secret(session, self.secret_file.as_deref())?;
            let sha256 = clients::hash_new_secret(&made).map_err(refused)?;
            secret = Some(made);
            Ok(sha256)
        };
        let authentication = match self.options.authentication(&mut make_secret)? {
            Some(authentication) => authentication,
            None => Authentication::Secret { sha256: make_secret()?, method: None },
        };
        if self.secret_file.is_some() && secret.is_none() {
            return Err(Failure::usage("--secret-file: a client that authenticates without a secret has none"));
        }
        let scopes = clients::default_scopes(&grants);
        let mut client = Client { grants, scopes, ..Client::new(id, authentication) };
        self.options.apply(&mut client, &session.config.keys.algorithms).map_err(refused)?;
        review(&client)?;
        ops::add_clients(store, &session.config, &[client], &session.by()).await?;
        match secret {
            Some(secret) if self.secret_file.is_none() => tell_secret(&self.id, &secret, self.json),
            with_or_without => {
                let end = with_or_without.map_or("", |_| ", with the secret from the file");
                note(format_args!("client {} is added{end}", self.id));
                if self.json { Ok(print_json(&json!({ "client_id": self.id }))?) } else { Ok(()) }
            }
        }
    }
}

impl Set {
    async fn run(self, session: &Session, store: &Store) -> Result<(), Failure> {
        let mut secret = None;
        let change = |client: &mut Client| {
            let kept = client.authentication.secret_sha256().copied();
            let authentication = self.options.authentication(|| match kept {
                Some(sha256) => Ok(sha256),
                None => {
                    let made = new_or_given_secret(session, None)?;
                    let sha256 = clients::hash_secret(made.as_bytes());
                    secret = Some(made);
                    Ok(sha256)
                }
            })?;
            if let Some(authentication) = authentication {
                client.authentication = authentication;
            }
            unset(client, &self.unset);
            let applied = self.options.apply(client, &session.config.keys.algorithms);
            applied.map_err(|error| Failure::usage(error.to_string()))?;
            review(client)
        };
        let changed = ops::change_client(store, &session.config, &self.id, change, &session.by()).await??;
        if changed.is_empty() {
            note(format_args!("client {} was like that already", self.id));
        } else {
            note(format_args!("client {} is changed: {}", self.id, changed.join(", ")));
        }
        match secret {
            Some(secret) => tell_secret(&self.id, &secret, self.json),
            None if self.json => Ok(print_json(&json!({ "client_id": self.id, "changed": changed }))?),
            None => Ok(()),
        }
    }
}

/// Refuses a client whose metadata do not go together, and says what of them does nothing.
fn review(client: &Client) -> Result<(), Failure> {
    let review = client.review();
    let line = |finding: &Finding| format!("{}: {}", finding.member, finding.message);
    if !review.problems.is_empty() {
        let lines: Vec<String> = review.problems.iter().map(line).collect();
        return Err(Failure::usage(lines.join("\n")));
    }
    for warning in &review.warnings {
        note(format_args!("warning: {}", line(warning)));
    }
    Ok(())
}

fn new_or_given_secret(session: &Session, file: Option<&std::path::Path>) -> Result<Zeroizing<String>, Failure> {
    let Some(file) = file else {
        return ops::new_secret(session.edges.entropy.as_ref()).map_err(|error| Failure::failed(error.to_string()));
    };
    let bytes = read_input(file)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::usage("the secret is not text"))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

async fn import(
    session: &Session,
    store: &Store,
    file: &std::path::Path,
    ignore_unsupported: bool,
    json: bool,
) -> Result<(), Failure> {
    let text = read_input(file)?;
    let imported = parse_import(&text, ignore_unsupported, &session.config.keys.algorithms).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        Failure::failed(format!("nothing was imported from {}:\n{}", file.display(), lines.join("\n")))
    })?;
    ops::add_clients(store, &session.config, &imported.clients, &session.by()).await?;
    for warning in &imported.warnings {
        note(format_args!("warning: {warning}"));
    }
    let ids: Vec<&str> = imported.clients.iter().map(|client| client.id.as_str()).collect();
    if json {
        let warnings: Vec<String> = imported.warnings.iter().map(ToString::to_string).collect();
        return Ok(print_json(&json!({ "imported": ids, "warnings": warnings }))?);
    }
    let (told, more) = ids.split_at(ids.len().min(TOLD_BY_NAME));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    note(format_args!("imported {} clients: {}{more}", ids.len(), told.join(", ")));
    Ok(())
}

async fn all(session: &Session, store: Option<&Store>) -> Result<Vec<Client>, Failure> {
    let mut clients = session.config.clients.clone();
    if let Some(store) = store {
        let stored = store.load_clients().await?;
        clients.extend(stored.into_iter().filter(|stored| session.config.clients.iter().all(|it| it.id != stored.id)));
    }
    clients.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(clients)
}

/// The only time the secret is seen.
fn tell_secret(id: &str, secret: &str, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print_json(&json!({ "client_id": id, "client_secret": secret }))?);
    }
    note("the secret is shown this once and stored only as a hash:");
    Ok(print(&format!("client_id      {id}\nclient_secret  {secret}\n"))?)
}

/// More names than this fill the screen.
const TOLD_BY_NAME: usize = 20;
