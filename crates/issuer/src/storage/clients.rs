//! Clients added by the command line. Declared ones (in the configuration) are not stored.

use std::str::FromStr;

use keywheel_jose::{Algorithm, Timestamp};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::audit::{By, Entry};
use super::{Store, StoreError, is_unique_violation};
use crate::clients::{Authentication, Client, ClientAuthMethod, SecretMethod, Source};

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
        let rows = sqlx::query(
            "SELECT id, name, secret_sha256, auth_method, access_token_alg, scopes, audiences, created_at \
             FROM clients ORDER BY id",
        )
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

    /// Removes a client; `false` when there is no such client.
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
        self.record(&mut transaction, vec![Entry::new("client.removed", id, json!({}))], by).await?;
        self.commit(transaction, DOING).await?;
        Ok(true)
    }
}

async fn insert(
    transaction: &mut Transaction<'static, Any>,
    client: &Client,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let list = |items: &[String]| serde_json::to_string(items).expect("strings are JSON");
    sqlx::query(
        "INSERT INTO clients (id, name, secret_sha256, auth_method, access_token_alg, scopes, audiences, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(client.id.as_str())
    .bind(client.name.as_deref())
    .bind(client.authentication.secret_sha256().unwrap_or(&[0; 32]).as_slice())
    .bind(client.auth_method().map(ClientAuthMethod::as_str))
    .bind(client.access_token_alg.map(|alg| alg.as_str()))
    .bind(list(&client.scopes))
    .bind(list(&client.audiences))
    .bind(now.as_unix())
    .execute(&mut **transaction)
    .await
    .map(|_| ())
}

fn read_client(row: &AnyRow) -> Result<Client, StoreError> {
    let query = StoreError::query("read a client");
    let id: String = row.try_get("id").map_err(&query)?;
    let unreadable = |why: String| StoreError::Row { what: format!("client {id}"), why };
    let list = |column: &str| -> Result<Vec<String>, StoreError> {
        let json: String = row.try_get(column).map_err(&query)?;
        serde_json::from_str(&json).map_err(|error| unreadable(format!("{column}: {error}")))
    };
    let secret: Vec<u8> = row.try_get("secret_sha256").map_err(&query)?;
    let sha256 = secret.try_into().map_err(|_| unreadable("secret_sha256 is not 32 bytes".to_owned()))?;
    let auth_method: Option<String> = row.try_get("auth_method").map_err(&query)?;
    let alg: Option<String> = row.try_get("access_token_alg").map_err(&query)?;
    let method = match auth_method.as_deref().map(ClientAuthMethod::from_str).transpose() {
        Ok(Some(ClientAuthMethod::ClientSecretPost)) => Some(SecretMethod::Post),
        Ok(Some(_)) => Some(SecretMethod::Basic),
        Ok(None) => None,
        Err(error) => return Err(unreadable(error.to_string())),
    };
    Ok(Client {
        name: row.try_get("name").map_err(&query)?,
        access_token_alg: alg
            .map(|alg| Algorithm::from_str(&alg).map_err(|error| unreadable(error.to_string())))
            .transpose()?,
        scopes: list("scopes")?,
        audiences: list("audiences")?,
        created_at: Some(Timestamp::from_unix(row.try_get("created_at").map_err(&query)?)),
        source: Source::Stored,
        ..Client::new(id.as_str(), Authentication::Secret { sha256, method })
    })
}
