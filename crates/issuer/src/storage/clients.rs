//! Clients added by the command line. Declared ones (in the configuration) are not stored.

use std::str::FromStr;

use keywheel_jose::{Algorithm, Timestamp};
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::audit::{By, Entry};
use super::grants::forget_client;
use super::{Store, StoreError, Transition, is_unique_violation};
use crate::clients::{Authentication, Client, ClientAuthMethod, SecretMethod};

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientChange<E> {
    /// It is stored; these members of its document changed.
    Done(Vec<String>),
    /// There is no such client.
    Unknown,
    /// The caller did not want it.
    Refused(E),
}

/// What became of new clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInsert {
    /// All are stored.
    Done,
    /// This id is taken: none is stored.
    Taken(String),
}

impl Store {
    /// All stored clients, by id.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer or a row is unreadable.
    pub async fn load_clients(&self) -> Result<Vec<Client>, StoreError> {
        let rows = sqlx::query(SELECT_ALL)
            .fetch_all(&self.readers)
            .await
            .map_err(|source| self.read_error("read the clients", source))?;
        rows.iter().map(read_client).collect()
    }

    /// Stores new clients, together or not at all.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn insert_clients(&self, clients: &[Client], by: &By) -> Result<ClientInsert, StoreError> {
        const DOING: &str = "store clients";
        let mut transaction = self.begin_write("clients", DOING).await?;
        for client in clients {
            match insert(&mut transaction, client, by.at()).await {
                Ok(()) => {}
                Err(error) if is_unique_violation(&error) => return Ok(ClientInsert::Taken(client.id.clone())),
                Err(error) => return Err(self.read_error(DOING, error)),
            }
        }
        let entries = clients.iter().map(|client| {
            let details = json!({ "name": client.name, "scopes": client.scopes, "audiences": client.audiences });
            Entry::new("client.added", &client.id, details)
        });
        self.record(&mut transaction, entries.collect(), by).await?;
        self.commit(transaction, DOING).await?;
        Ok(ClientInsert::Done)
    }

    /// Changes a client, all but its id: `change` gets it as it is stored, and nobody else changes
    /// it meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer or the row is unreadable; nothing is changed then.
    pub async fn change_client<E>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Client) -> Result<(), E>,
        by: &By,
    ) -> Result<ClientChange<E>, StoreError> {
        const DOING: &str = "change a client";
        let mut transaction = self.begin_write("clients", DOING).await?;
        let row = sqlx::query(SELECT_ONE).bind(id).fetch_optional(&mut *transaction).await;
        let Some(row) = row.map_err(|source| self.read_error(DOING, source))? else {
            return Ok(ClientChange::Unknown);
        };
        let before = read_client(&row)?;
        let mut client = before.clone();
        if let Err(refusal) = change(&mut client) {
            return Ok(ClientChange::Refused(refusal));
        }
        client.id.clone_from(&before.id);
        if client == before {
            return Ok(ClientChange::Done(Vec::new()));
        }
        let changed = changed_members(&before, &client);
        let columns = Columns::of(&client);
        sqlx::query(
            "UPDATE clients SET name = $2, secret_sha256 = $3, auth_method = $4, access_token_alg = $5, scopes = $6, \
             audiences = $7, metadata = $8 WHERE id = $1",
        )
        .bind(id)
        .bind(client.name.as_deref())
        .bind(columns.secret_sha256)
        .bind(columns.auth_method)
        .bind(columns.access_token_alg)
        .bind(columns.scopes)
        .bind(columns.audiences)
        .bind(columns.metadata)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query(DOING))?;
        let entry = Entry::new("client.changed", id, json!({ "members": changed }));
        self.record(&mut transaction, vec![entry], by).await?;
        self.commit(transaction, DOING).await?;
        Ok(ClientChange::Done(changed))
    }

    /// Replaces a client's secret; `false` when there is no such client.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn replace_client_secret(&self, id: &str, secret_sha256: &[u8; 32], by: &By) -> Result<bool, StoreError> {
        const DOING: &str = "replace a client's secret";
        let mut transaction = self.begin_write("clients", DOING).await?;
        let changed = sqlx::query("UPDATE clients SET secret_sha256 = $2 WHERE id = $1")
            .bind(id)
            .bind(secret_sha256.as_slice())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::query(DOING))?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        self.record(&mut transaction, vec![Entry::new("client.secret_rotated", id, json!({}))], by).await?;
        self.commit(transaction, DOING).await?;
        Ok(true)
    }

    /// Removes a client, with all that users allowed it; `false` when there is no such client.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn remove_client(&self, id: &str, by: &By) -> Result<bool, StoreError> {
        const DOING: &str = "remove a client";
        let mut transaction = self.begin_write("clients", DOING).await?;
        let removed = sqlx::query("DELETE FROM clients WHERE id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::query(DOING))?;
        if removed.rows_affected() == 0 {
            return Ok(false);
        }
        forget_client(&mut transaction, id, by.at()).await.map_err(StoreError::query(DOING))?;
        self.record(&mut transaction, vec![Entry::new("client.removed", id, json!({}))], by).await?;
        self.commit(transaction, DOING).await?;
        Ok(true)
    }
}

async fn insert(transaction: &mut Transition, client: &Client, now: Timestamp) -> Result<(), sqlx::Error> {
    let columns = Columns::of(client);
    sqlx::query(
        "INSERT INTO clients \
         (id, name, secret_sha256, auth_method, access_token_alg, scopes, audiences, metadata, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(client.id.as_str())
    .bind(client.name.as_deref())
    .bind(columns.secret_sha256)
    .bind(columns.auth_method)
    .bind(columns.access_token_alg)
    .bind(columns.scopes)
    .bind(columns.audiences)
    .bind(columns.metadata)
    .bind(now.as_unix())
    .execute(&mut **transaction)
    .await
    .map(|_| ())
}

/// A client as its row has it. Servers of the first version read all but the document, so what they would stumble over
/// is only there: to them a client without a secret is one whose secret nobody knows.
struct Columns {
    secret_sha256: Vec<u8>,
    auth_method: Option<&'static str>,
    access_token_alg: Option<&'static str>,
    scopes: String,
    audiences: String,
    metadata: String,
}

impl Columns {
    fn of(client: &Client) -> Self {
        let list = |items: &[String]| serde_json::to_string(items).expect("strings are JSON");
        let sha256 = client.authentication.secret_sha256();
        Self {
            secret_sha256: sha256.unwrap_or(&NO_SECRET).to_vec(),
            auth_method: sha256.and(client.auth_method()).map(ClientAuthMethod::as_str),
            access_token_alg: client.access_token_alg.map(Algorithm::as_str),
            scopes: list(&client.scopes),
            audiences: list(&client.audiences),
            metadata: Value::Object(client.to_document()).to_string(),
        }
    }
}

/// The members of their documents in which two versions of a client differ; a secret is none.
fn changed_members(before: &Client, after: &Client) -> Vec<String> {
    let (before, after) = (before.to_document(), after.to_document());
    let mut changed: Vec<String> =
        before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
    changed.sort_unstable();
    changed.dedup();
    changed
}

fn read_client(row: &AnyRow) -> Result<Client, StoreError> {
    let query = StoreError::query("read a client");
    let id: String = row.try_get("id").map_err(&query)?;
    let unreadable = |why: String| StoreError::Row { what: format!("client {id}"), why };
    let secret: Vec<u8> = row.try_get("secret_sha256").map_err(&query)?;
    let sha256 = secret.try_into().map_err(|_| unreadable("secret_sha256 is not 32 bytes".to_owned()))?;
    let metadata: Option<String> = row.try_get("metadata").map_err(&query)?;
    let client = match metadata {
        Some(document) => Client::from_document(&document, sha256).map_err(unreadable)?,
        None => read_first_version(row, &id, sha256)?,
    };
    let created_at = Some(Timestamp::from_unix(row.try_get("created_at").map_err(&query)?));
    Ok(Client { created_at, id, ..client })
}

/// A client that was stored before there were documents.
fn read_first_version(row: &AnyRow, id: &str, sha256: [u8; 32]) -> Result<Client, StoreError> {
    let query = StoreError::query("read a client");
    let unreadable = |why: String| StoreError::Row { what: format!("client {id}"), why };
    let list = |column: &str| -> Result<Vec<String>, StoreError> {
        let json: String = row.try_get(column).map_err(&query)?;
        serde_json::from_str(&json).map_err(|error| unreadable(format!("{column}: {error}")))
    };
    let auth_method: Option<String> = row.try_get("auth_method").map_err(&query)?;
    let method = match auth_method.as_deref() {
        None => None,
        Some("client_secret_basic") => Some(SecretMethod::Basic),
        Some("client_secret_post") => Some(SecretMethod::Post),
        Some(other) => return Err(unreadable(format!("auth_method: {other:?}"))),
    };
    let alg: Option<String> = row.try_get("access_token_alg").map_err(&query)?;
    let alg = alg.map(|alg| Algorithm::from_str(&alg).map_err(|error| unreadable(error.to_string())));
    Ok(Client {
        name: row.try_get("name").map_err(&query)?,
        access_token_alg: alg.transpose()?,
        scopes: list("scopes")?,
        audiences: list("audiences")?,
        ..Client::new(id, Authentication::Secret { sha256, method })
    })
}

const SELECT_ALL: &str = "SELECT id, name, secret_sha256, auth_method, access_token_alg, scopes, audiences, metadata, created_at \
                          FROM clients ORDER BY id";

const SELECT_ONE: &str = "SELECT id, name, secret_sha256, auth_method, access_token_alg, scopes, audiences, metadata, created_at \
                          FROM clients WHERE id = $1";

/// In place of a hash. No text is known to have this one.
const NO_SECRET: [u8; 32] = [0; 32];
