//! `keywheel clients …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keywheel_jose::Algorithm;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::output::{Table, note, print, print_json};
use super::{Failure, Session, read_input};
use crate::admin::ops;
use crate::clients::{self, Authentication, Client, ClientAuthMethod, SecretMethod, Source, parse_import};
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
    Add(Add),
    /// Show one client
    Show {
        /// The client's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
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
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// A scope it may ask for; repeat for more
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A resource its tokens may be for (an absolute URI); repeat for more, the first is the default
    #[arg(long = "audience", value_name = "URI")]
    audiences: Vec<String>,
    /// client_secret_basic or client_secret_post; without it both are accepted
    #[arg(long, value_name = "METHOD")]
    auth_method: Option<ClientAuthMethod>,
    /// What signs its access tokens; without it the issuer's first algorithm
    #[arg(long, value_name = "ALG")]
    access_token_alg: Option<Algorithm>,
    /// Read the secret from this file (- is standard input) instead of generating one
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
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
                let mut table = Table::new(["ID", "NAME", "SCOPES", "AUDIENCES", "FROM"]);
                for client in clients {
                    let name = client.name.unwrap_or_default();
                    table.row([
                        client.id,
                        name,
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
        let given = self.secret_file.as_deref().map(read_input).transpose()?;
        let secret = match &given {
            Some(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| Failure::usage("the secret is not text"))?;
                Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => {
                ops::new_secret(session.edges.entropy.as_ref()).map_err(|error| Failure::failed(error.to_string()))?
            }
        };
        let algorithms = &session.config.keys.algorithms;
        let method = self.auth_method.map(|method| match method {
            ClientAuthMethod::ClientSecretPost => SecretMethod::Post,
            _ => SecretMethod::Basic,
        });
        let sha256 = clients::hash_new_secret(&secret).map_err(refused)?;
        let client = Client {
            name: self.name,
            scopes: distinct(&self.scopes, clients::parse_scope).map_err(refused)?,
            audiences: distinct(&self.audiences, clients::parse_audience).map_err(refused)?,
            access_token_alg: self
                .access_token_alg
                .map(|alg| clients::parse_token_alg(alg.as_str(), algorithms))
                .transpose()
                .map_err(refused)?,
            ..Client::new(clients::parse_id(&self.id).map_err(refused)?, Authentication::Secret { sha256, method })
        };
        ops::add_clients(store, &session.config, &[client], &session.by()).await?;
        if given.is_some() {
            note(format_args!("client {} is added, with the secret from the file", self.id));
            return if self.json { Ok(print_json(&json!({ "client_id": self.id }))?) } else { Ok(()) };
        }
        tell_secret(&self.id, &secret, self.json)
    }
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
    note(format_args!("imported {} clients: {}", ids.len(), ids.join(", ")));
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

/// RFC 7591 §2 metadata with our extensions; never a secret.
fn document(client: &Client) -> Value {
    json!({
        "client_id": client.id,
        "client_name": client.name,
        "grant_types": ["client_credentials"],
        "scope": client.scopes.join(" "),
        "audiences": client.audiences,
        "token_endpoint_auth_method": client.auth_method().map(ClientAuthMethod::as_str),
        "access_token_alg": client.access_token_alg.map(|alg| alg.as_str()),
        "created_at": client.created_at,
        "source": source(client.source),
    })
}

fn describe(client: &Client) -> String {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let lines = [
        ("id", client.id.clone()),
        ("name", or_dash(client.name.clone().unwrap_or_default())),
        ("grants", "client_credentials".to_owned()),
        ("scopes", or_dash(client.scopes.join(" "))),
        ("audiences", or_dash(client.audiences.join(" "))),
        (
            "authenticates by",
            client.auth_method().map_or("client_secret_basic or client_secret_post", |it| it.as_str()).to_owned(),
        ),
        ("tokens signed with", client.access_token_alg.map_or("the issuer's default".to_owned(), |it| it.to_string())),
        ("added", client.created_at.map_or("-".to_owned(), |at| at.to_string())),
        ("from", source(client.source).to_owned()),
    ];
    lines.iter().map(|(name, value)| format!("{name:<18}  {value}\n")).collect()
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Declared => "configuration",
        Source::Stored => "database",
    }
}

/// The only time the secret is seen.
fn tell_secret(id: &str, secret: &str, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print_json(&json!({ "client_id": id, "client_secret": secret }))?);
    }
    note("the secret is shown this once and stored only as a hash:");
    Ok(print(&format!("client_id      {id}\nclient_secret  {secret}\n"))?)
}

fn distinct(
    texts: &[String],
    parse: impl Fn(&str) -> Result<String, clients::InvalidClient>,
) -> Result<Vec<String>, clients::InvalidClient> {
    let mut parsed = Vec::new();
    for text in texts {
        let text = parse(text)?;
        if !parsed.contains(&text) {
            parsed.push(text);
        }
    }
    Ok(parsed)
}
