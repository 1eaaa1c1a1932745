//! Certificates that the servers order themselves, who is ordering, and what the authority is answered meanwhile.

use std::time::Duration;

use keywheel_jose::Timestamp;
use serde_json::json;
use sqlx::{Executor as _, Row as _};

use super::audit::{By, Entry};
use super::columns::Columns;
use super::{Backend, Store, StoreError};

/// A certificate as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    /// Grows with each certificate of this name.
    pub generation: i64,
    /// The certificate and those that lead to its root, in PEM.
    pub chain: String,
    /// Its private key, as `keys/seal.rs` wrote it.
    pub private_sealed: Vec<u8>,
}

/// An account at a certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccount {
    /// The addresses that the authority knows.
    pub contact: String,
    /// Its name and private key, as `keys/seal.rs` wrote them.
    pub credentials_sealed: Vec<u8>,
}

/// Who orders which certificate.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Of the certificate.
    pub name: &'a str,
    /// The server.
    pub holder: &'a str,
}

/// What is sealed under a key-encryption key and is no signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcmeSecret {
    /// The private key of the certificate of this name.
    CertificateKey(String),
    /// The credentials of the account at the authority with this directory.
    Account(String),
}

impl AcmeSecret {
    /// What it is sealed as: part of what is stored, so it never changes.
    #[must_use]
    pub fn purpose(&self) -> &'static str {
        match self {
            Self::CertificateKey(_) => "certificate key",
            Self::Account(_) => "account at a certificate authority",
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::CertificateKey(name) | Self::Account(name) => name,
        }
    }
}

/// A secret that is to be sealed under another key-encryption key.
#[derive(Clone, Debug)]
pub struct Reseal {
    /// Which one.
    pub secret: AcmeSecret,
    /// As it is sealed now.
    pub from: Vec<u8>,
    /// As it is to be.
    pub to: Vec<u8>,
    /// The id of the key-encryption key that seals it then.
    pub under: String,
}

impl Store {
    /// The certificate of this name, if it is newer than `known`.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn newer_certificate(&self, name: &str, known: i64) -> Result<Option<StoredCertificate>, StoreError> {
        const DOING: &str = "read the certificate";
        const NEWER: &str = "SELECT generation, chain, private_sealed FROM certificates \
                             WHERE name = $1 AND generation > $2 AND chain IS NOT NULL";
        let row = sqlx::query(NEWER).bind(name).bind(known).fetch_optional(&self.readers).await;
        let row = row.map_err(|source| self.read_error(DOING, source))?;
        row.map(|row| {
            let row = Columns::new(&row, DOING);
            Ok(StoredCertificate {
                generation: row.get("generation")?,
                chain: row.get("chain")?,
                private_sealed: row.get("private_sealed")?,
            })
        })
        .transpose()
    }

    /// Makes one server the only one that orders, for as long as `lease`, if it knows the newest certificate and the time
    /// for a try has come: then how many have failed.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn take_order(
        &self,
        order: Order<'_>,
        known: i64,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<u32>, StoreError> {
        const DOING: &str = "begin to order a certificate";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        let taken = sqlx::query(
            "INSERT INTO certificates (name, generation, holder, leased_until, failures, next_try_at) \
             VALUES ($1, 0, $2, $3, 0, 0) ON CONFLICT (name) DO UPDATE SET \
             holder = excluded.holder, leased_until = excluded.leased_until \
             WHERE certificates.leased_until <= $4 AND certificates.next_try_at <= $4 \
             AND certificates.generation = $5 RETURNING failures",
        )
        .bind(order.name)
        .bind(order.holder)
        .bind((now + lease).as_unix())
        .bind(now.as_unix())
        .bind(known)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(taken) = taken else { return Ok(None) };
        let failures: i64 = taken.try_get(0).map_err(failed)?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(Some(u32::try_from(failures).unwrap_or(u32::MAX)))
    }

    /// Stores what was ordered, and ends the order; `false` when another server orders meanwhile. Whatever clocks say, the
    /// next does not begin before `next_try_at`.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn store_certificate(
        &self,
        order: Order<'_>,
        chain: &str,
        private_sealed: &[u8],
        next_try_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let store = sqlx::query(
            "UPDATE certificates SET generation = generation + 1, chain = $3, private_sealed = $4, \
             leased_until = 0, failures = 0, next_try_at = $5 WHERE name = $1 AND holder = $2",
        )
        .bind(order.name)
        .bind(order.holder)
        .bind(chain)
        .bind(private_sealed)
        .bind(next_try_at.as_unix());
        Ok(self.change(store, "store a certificate").await? == 1)
    }

    /// Ends an order that brought nothing; the next may begin at `next_try_at`.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn put_off_order(&self, order: Order<'_>, next_try_at: Timestamp) -> Result<(), StoreError> {
        let put_off = sqlx::query(
            "UPDATE certificates SET failures = failures + 1, next_try_at = $3, leased_until = 0 \
             WHERE name = $1 AND holder = $2",
        )
        .bind(order.name)
        .bind(order.holder)
        .bind(next_try_at.as_unix());
        self.change(put_off, "put off an order").await.map(|_| ())
    }

    /// Ends an order that was interrupted; the next may begin at once.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn give_order_back(&self, order: Order<'_>) -> Result<(), StoreError> {
        let give_back = sqlx::query("UPDATE certificates SET leased_until = 0 WHERE name = $1 AND holder = $2")
            .bind(order.name)
            .bind(order.holder);
        self.change(give_back, "give an order back").await.map(|_| ())
    }

    /// Lets an order begin at once although a certificate was stored a short while ago, because nobody can open its key
    /// any more. An order that failed is still waited for.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn give_certificate_up(&self, name: &str, generation: i64, now: Timestamp) -> Result<(), StoreError> {
        let give_up = sqlx::query(
            "UPDATE certificates SET next_try_at = $3 \
             WHERE name = $1 AND generation = $2 AND next_try_at > $3 AND failures = 0",
        )
        .bind(name)
        .bind(generation)
        .bind(now.as_unix());
        self.change(give_up, "give a certificate up").await.map(|_| ())
    }

    /// All certificates' keys and accounts at authorities, as `keys/seal.rs` wrote them.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn acme_secrets(&self) -> Result<Vec<(AcmeSecret, Vec<u8>)>, StoreError> {
        const DOING: &str = "read the secrets of certificates";
        const KEYS: &str = "SELECT name, private_sealed AS sealed FROM certificates \
                            WHERE private_sealed IS NOT NULL ORDER BY name";
        const ACCOUNTS: &str = "SELECT directory_url AS name, credentials_sealed AS sealed FROM acme_accounts \
                                ORDER BY directory_url";
        let mut secrets = Vec::new();
        for (query, of) in [(KEYS, AcmeSecret::CertificateKey as fn(_) -> _), (ACCOUNTS, AcmeSecret::Account)] {
            let rows = sqlx::query(query).fetch_all(&self.readers).await;
            for row in rows.map_err(|source| self.read_error(DOING, source))? {
                let row = Columns::new(&row, DOING);
                secrets.push((of(row.get("name")?), row.get("sealed")?));
            }
        }
        Ok(secrets)
    }

    /// Seals secrets anew, together, with what the audit log tells of it; one that was replaced meanwhile stays as it is.
    /// Returns those that were sealed anew.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn reseal(&self, reseals: &[Reseal], by: &By) -> Result<Vec<AcmeSecret>, StoreError> {
        const DOING: &str = "seal the secrets of certificates anew";
        if reseals.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin(DOING).await?;
        let (mut done, mut entries) = (Vec::new(), Vec::new());
        for Reseal { secret, from, to, under } in reseals {
            let (act, update) = match secret {
                AcmeSecret::CertificateKey(_) => (
                    "certificate.rewrapped",
                    "UPDATE certificates SET private_sealed = $3 WHERE name = $1 AND private_sealed = $2",
                ),
                AcmeSecret::Account(_) => (
                    "acme_account.rewrapped",
                    "UPDATE acme_accounts SET credentials_sealed = $3 \
                     WHERE directory_url = $1 AND credentials_sealed = $2",
                ),
            };
            let update = sqlx::query(update).bind(secret.name()).bind(from.as_slice()).bind(to.as_slice());
            let updated = update.execute(&mut *transaction).await;
            if updated.map_err(|source| self.read_error(DOING, source))?.rows_affected() > 0 {
                entries.push(Entry::new(act, secret.name(), json!({ "under": under })));
                done.push(secret.clone());
            }
        }
        self.record(&mut transaction, entries, by).await?;
        self.commit_quietly(transaction, DOING).await?;
        if matches!(self.backend, Backend::Sqlite(_)) {
            // As in `change_keys`: an old page may still stand in the log, and opens under the key that is about to go.
            self.writer
                .execute("PRAGMA wal_checkpoint(TRUNCATE)")
                .await
                .map_err(StoreError::query("fold its write-ahead log in"))?;
        }
        Ok(done)
    }

    /// The account at the authority with this directory.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn acme_account(&self, directory_url: &str) -> Result<Option<StoredAccount>, StoreError> {
        const DOING: &str = "read the account at the certificate authority";
        const ACCOUNT: &str = "SELECT contact, credentials_sealed FROM acme_accounts WHERE directory_url = $1";
        let row = sqlx::query(ACCOUNT).bind(directory_url).fetch_optional(&self.readers).await;
        let row = row.map_err(|source| self.read_error(DOING, source))?;
        row.map(|row| {
            let row = Columns::new(&row, DOING);
            Ok(StoredAccount { contact: row.get("contact")?, credentials_sealed: row.get("credentials_sealed")? })
        })
        .transpose()
    }

    /// Stores an account, in place of the one before.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn put_acme_account(&self, directory_url: &str, account: &StoredAccount) -> Result<(), StoreError> {
        let put = sqlx::query(
            "INSERT INTO acme_accounts (directory_url, contact, credentials_sealed) VALUES ($1, $2, $3) \
             ON CONFLICT (directory_url) DO UPDATE SET \
             contact = excluded.contact, credentials_sealed = excluded.credentials_sealed",
        )
        .bind(directory_url)
        .bind(&account.contact)
        .bind(account.credentials_sealed.as_slice());
        self.change(put, "store the account at the certificate authority").await.map(|_| ())
    }

    /// What to answer when an authority asks for `name` by a challenge of this kind.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn challenge_answer(&self, kind: &str, name: &str, now: Timestamp) -> Result<Option<String>, StoreError> {
        const DOING: &str = "read the answer to a challenge";
        const ANSWER: &str = "SELECT answer FROM acme_challenges WHERE kind = $1 AND name = $2 AND expires_at > $3";
        let row = sqlx::query(ANSWER).bind(kind).bind(name).bind(now.as_unix()).fetch_optional(&self.readers).await;
        let row = row.map_err(|source| self.read_error(DOING, source))?;
        row.map(|row| Columns::new(&row, DOING).get("answer")).transpose()
    }

    /// Lets every server answer a challenge until `expires_at`, and forgets those that are over.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn put_challenge(
        &self,
        kind: &str,
        name: &str,
        answer: &str,
        (now, expires_at): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        const DOING: &str = "store the answer to a challenge";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        sqlx::query("DELETE FROM acme_challenges WHERE expires_at <= $1")
            .bind(now.as_unix())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO acme_challenges (kind, name, answer, expires_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kind, name) DO UPDATE SET answer = excluded.answer, expires_at = excluded.expires_at",
        )
        .bind(kind)
        .bind(name)
        .bind(answer)
        .bind(expires_at.as_unix())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        self.commit_quietly(transaction, DOING).await
    }

    /// Forgets the answer to a challenge.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn forget_challenge(&self, kind: &str, name: &str) -> Result<(), StoreError> {
        let forget = sqlx::query("DELETE FROM acme_challenges WHERE kind = $1 AND name = $2").bind(kind).bind(name);
        self.change(forget, "forget the answer to a challenge").await.map(|_| ())
    }
}
