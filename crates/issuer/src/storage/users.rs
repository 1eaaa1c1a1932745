//! The people who sign in, those of the configuration too.
//!
//! What somebody signs in with is kept apart, as one set of user names and e-mail addresses, each of one user: its
//! primary key decides who of two gets a name. Names are taken in alphabetical order, so that two who take the same
//! ones never wait for each other.

use keywheel_jose::Timestamp;
use serde_json::{Map, Value, json};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::audit::{By, Entry};
use super::columns::{Columns, list, yes};
use super::events::Origin;
use super::logout_queue::LogoutTarget;
use super::sessions::{EndedSession, end_all, take_user};
use super::{Store, StoreError, Transition};
use crate::oidc::opaque::sha256;
use crate::users::{CURRENT_PREFIX, ClientRoles, NewUser, PasswordHash, Rights, User, login_key};

/// What is read of a user. The columns are named, so that a later version can add some while this one runs.
macro_rules! user_columns {
    () => {
        "users.id, users.username, users.email, users.email_verified, users.claims, users.roles, users.groups, \
         users.password_hash, users.disabled, users.declared, users.created_at, users.updated_at, \
         users.password_changed_at, user_details.scopes, user_details.client_roles, user_details.declared_sha256"
    };
}
pub(super) use user_columns;

/// The start of every query for users.
macro_rules! select_user {
    () => {
        concat!("SELECT ", user_columns!(), " FROM users LEFT JOIN user_details ON user_details.user_id = users.id")
    };
}

/// What became of users to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserInsert {
    /// All are stored.
    Inserted,
    /// Somebody else signs in with this user name: nothing is stored.
    UsernameTaken(String),
    /// Somebody else signs in with this e-mail address: nothing is stored.
    EmailTaken(String),
}

/// What becomes of a user; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserChange {
    /// Another user name.
    pub username: Option<String>,
    /// Another e-mail address, or none.
    pub email: Option<Option<String>>,
    /// Whether the address is known to be theirs.
    pub email_verified: Option<bool>,
    /// Other claims instead of all the old ones.
    pub claims: Option<Map<String, Value>>,
    /// Other roles.
    pub roles: Option<Vec<String>>,
    /// Other groups.
    pub groups: Option<Vec<String>>,
    /// Other rights.
    pub rights: Option<Rights>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserUpdate {
    /// It is stored.
    Updated,
    /// There is no such user.
    Unknown,
    /// Somebody else signs in with this user name: nothing is stored.
    UsernameTaken(String),
    /// Somebody else signs in with this e-mail address: nothing is stored.
    EmailTaken(String),
}

/// A name that is somebody else's.
enum Taken {
    Username(String),
    Email(String),
}

impl From<Taken> for UserInsert {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Username(name) => Self::UsernameTaken(name),
            Taken::Email(email) => Self::EmailTaken(email),
        }
    }
}

impl Store {
    /// Stores new users, together or not at all.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn insert_users(&self, users: &[NewUser], by: &By) -> Result<UserInsert, StoreError> {
        const DOING: &str = "store users";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        let mut entries = Vec::new();
        for user in in_order(users) {
            insert(&mut transaction, user, Declared::No, by.at()).await.map_err(failed)?;
            if let Some(taken) = take_names(&mut transaction, &user.id, &Names::of(user)).await.map_err(failed)? {
                return Ok(taken.into());
            }
            entries.push(Entry::new("user.added", &user.id, told(user)));
        }
        self.record(&mut transaction, entries, by).await?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(UserInsert::Inserted)
    }

    /// Makes the users of the configuration what it says, by their names: new ones are stored with the given id, others
    /// keep theirs, one that was stored otherwise becomes declared, and one that is no longer declared is disabled as by
    /// [`disable_user`](Self::disable_user).
    /// `disabled` and `password_hash` too are as given, so whoever calls this passes on a hash that still fits. One that
    /// was given the last time too is left as it is stored, since its owner may have signed in and had it made anew.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn declare_users(
        &self,
        users: &[NewUser],
        targets: &[LogoutTarget],
        by: &By,
    ) -> Result<UserInsert, StoreError> {
        const DOING: &str = "store the declared users";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        // Replicas that start together take turns.
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('declared_users', '') ON CONFLICT (name) DO UPDATE SET value = ''",
        )
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        let mut entries = Vec::new();
        let mut declared = Vec::new();
        let mut changed = Vec::new();
        let mut fingerprints = Vec::new();
        for user in in_order(users) {
            let row = sqlx::query(concat!(select_user!(), " WHERE users.username_key = $1"))
                .bind(login_key(&user.username))
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed)?;
            let known = row.as_ref().map(read_user).transpose()?;
            let given_before: Option<Vec<u8>> = match &row {
                Some(row) => row.try_get("declared_sha256").map_err(failed)?,
                None => None,
            };
            let given = user.password_hash.as_ref().map(|hash| sha256(hash.expose()).to_vec());
            let id = known.as_ref().map_or(&user.id, |known| &known.id).clone();
            declared.push(id.clone());
            let mut user = user.clone();
            if given_before != given {
                fingerprints.push((id.clone(), given));
            } else if let Some(known) = known.as_ref().filter(|known| known.declared && given.is_some()) {
                user.password_hash.clone_from(&known.password_hash);
            }
            if known.as_ref().is_some_and(|known| is_as_declared(known, &user)) {
                continue;
            }
            match &known {
                Some(known) => replace(&mut transaction, known, &user, by.at()).await.map_err(failed)?,
                None => insert(&mut transaction, &user, Declared::Yes, by.at()).await.map_err(failed)?,
            }
            release_names(&mut transaction, &id, &Names::of(&user)).await.map_err(failed)?;
            if user.disabled {
                end_everything(&mut transaction, &id, targets, by).await.map_err(failed)?;
            }
            let mut details = told(&user);
            details["disabled"] = user.disabled.into();
            entries.push(Entry::new("user.declared", &id, details));
            changed.push((id, user));
        }
        let rows = sqlx::query("SELECT id, username FROM users WHERE declared = 1 AND disabled = 0 ORDER BY id")
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        for row in rows {
            let (id, username): (String, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            if declared.contains(&id) {
                continue;
            }
            sqlx::query("UPDATE users SET disabled = 1, updated_at = $2 WHERE id = $1")
                .bind(id.as_str())
                .bind(by.at().as_unix())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            // Somebody who is renamed in the configuration takes the address along.
            let names = Names { username: &username, email: None };
            release_names(&mut transaction, &id, &names).await.map_err(failed)?;
            end_everything(&mut transaction, &id, targets, by).await.map_err(failed)?;
            let details = json!({ "username": username, "why": "no longer declared" });
            entries.push(Entry::new("user.disabled", &id, details));
        }
        // Last, when every name that is given up is free.
        for (id, user) in changed {
            if let Some(taken) = take_names(&mut transaction, &id, &Names::of(&user)).await.map_err(failed)? {
                return Ok(taken.into());
            }
        }
        for (id, given) in fingerprints {
            note_declared_hash(&mut transaction, &id, given).await.map_err(failed)?;
        }
        self.record(&mut transaction, entries, by).await?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(UserInsert::Inserted)
    }

    /// The user with this id.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn user_by_id(&self, id: &str) -> Result<Option<User>, StoreError> {
        let row = sqlx::query(USER_BY_ID).bind(id).fetch_optional(&self.readers).await;
        let row = row.map_err(|source| self.read_error(READING, source))?;
        row.as_ref().map(read_user).transpose()
    }

    /// The user who signs in with this user name or e-mail address, however it is written.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn user_by_login(&self, login: &str) -> Result<Option<User>, StoreError> {
        let row = sqlx::query(concat!(
            select_user!(),
            " JOIN login_names ON login_names.user_id = users.id WHERE login_names.name = $1"
        ))
        .bind(login_key(login))
        .fetch_optional(&self.readers)
        .await
        .map_err(|source| self.read_error(READING, source))?;
        row.as_ref().map(read_user).transpose()
    }

    /// Up to `limit` users by their names, those after the user name `after`.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn list_users(&self, after: Option<&str>, limit: u32) -> Result<Vec<User>, StoreError> {
        // No name is empty, so every one is after this.
        let after = after.map(login_key).unwrap_or_default();
        let query = concat!(select_user!(), " WHERE users.username_key > $1 ORDER BY users.username_key LIMIT $2");
        let rows = sqlx::query(query)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await
            .map_err(|source| self.read_error(READING, source))?;
        rows.iter().map(read_user).collect()
    }

    /// Up to `limit` password hashes that are not made as this version does, by the ids of their users, those after the id
    /// `after`.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn foreign_hashes(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, PasswordHash)>, StoreError> {
        const DOING: &str = "read imported password hashes";
        let failed = |source| self.read_error(DOING, source);
        let rows = sqlx::query(
            "SELECT id, password_hash FROM users WHERE password_hash NOT LIKE $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(format!("{CURRENT_PREFIX}%"))
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(failed)?;
        let hashes = rows.iter().map(|row| Ok((row.try_get(0)?, PasswordHash::new(row.try_get(1)?))));
        hashes.collect::<Result<_, sqlx::Error>>().map_err(failed)
    }

    /// Changes a user.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn update_user(&self, id: &str, change: &UserChange, by: &By) -> Result<UserUpdate, StoreError> {
        const DOING: &str = "change a user";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        take_user(&mut transaction, id).await.map_err(failed)?;
        let row = sqlx::query(USER_BY_ID).bind(id).fetch_optional(&mut *transaction).await;
        let Some(row) = row.map_err(failed)? else { return Ok(UserUpdate::Unknown) };
        let mut user = read_user(&row)?;
        let UserChange { username, email, email_verified, claims, roles, groups, rights } = change.clone();
        user.username = username.unwrap_or(user.username);
        user.email = email.unwrap_or(user.email);
        user.email_verified = email_verified.unwrap_or(user.email_verified);
        user.claims = claims.unwrap_or(user.claims);
        user.roles = roles.unwrap_or(user.roles);
        user.groups = groups.unwrap_or(user.groups);
        if let Some(rights) = &rights {
            set_rights(&mut transaction, id, rights).await.map_err(failed)?;
        }
        sqlx::query(
            "UPDATE users SET username = $2, username_key = $3, email = $4, email_verified = $5, claims = $6, \
             roles = $7, groups = $8, updated_at = $9 WHERE id = $1",
        )
        .bind(id)
        .bind(user.username.as_str())
        .bind(login_key(&user.username))
        .bind(user.email.as_deref())
        .bind(yes(user.email_verified))
        .bind(object(&user.claims))
        .bind(list(&user.roles))
        .bind(list(&user.groups))
        .bind(by.at().as_unix())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        let names = Names { username: &user.username, email: user.email.as_deref() };
        release_names(&mut transaction, id, &names).await.map_err(failed)?;
        match take_names(&mut transaction, id, &names).await.map_err(failed)? {
            Some(Taken::Username(name)) => return Ok(UserUpdate::UsernameTaken(name)),
            Some(Taken::Email(email)) => return Ok(UserUpdate::EmailTaken(email)),
            None => {}
        }
        // Which claims, but not what they say: people may ask that to be forgotten, and this log forgets nothing.
        let changed = [
            ("username", change.username.is_some()),
            ("email", change.email.is_some()),
            ("email_verified", change.email_verified.is_some()),
            ("claims", change.claims.is_some()),
            ("roles", change.roles.is_some()),
            ("groups", change.groups.is_some()),
            ("scopes", rights.as_ref().is_some_and(|rights| rights.scopes != user.rights.scopes)),
            ("client_roles", rights.as_ref().is_some_and(|rights| rights.client_roles != user.rights.client_roles)),
        ];
        let changed: Vec<&str> = changed.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let mut details = json!({ "changed": changed, "roles": change.roles, "groups": change.groups });
        if let Some(rights) = rights {
            (details["scopes"], details["client_roles"]) = (json!(rights.scopes), json!(rights.client_roles));
        }
        self.record(&mut transaction, vec![Entry::new("user.changed", id, details)], by).await?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(UserUpdate::Updated)
    }

    /// Gives a user another password, or none; `false` when there is no such user. Ends no session by itself.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn set_password(&self, id: &str, hash: Option<&PasswordHash>, by: &By) -> Result<bool, StoreError> {
        const DOING: &str = "store a password";
        let mut transaction = self.begin(DOING).await?;
        let set =
            sqlx::query("UPDATE users SET password_hash = $2, password_changed_at = $3, updated_at = $3 WHERE id = $1")
                .bind(id)
                .bind(hash.map(PasswordHash::expose))
                .bind(by.at().as_unix())
                .execute(&mut *transaction)
                .await
                .map_err(|source| self.read_error(DOING, source))?;
        if set.rows_affected() == 0 {
            return Ok(false);
        }
        let act = if hash.is_some() { "user.password_set" } else { "user.password_removed" };
        self.record(&mut transaction, vec![Entry::new(act, id, json!({}))], by).await?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(true)
    }

    /// Stores the same password hashed anew, unless it has been changed meanwhile: `false` then.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn rehash_password(&self, id: &str, old: &PasswordHash, new: &PasswordHash) -> Result<bool, StoreError> {
        let rehash = sqlx::query("UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2")
            .bind(id)
            .bind(old.expose())
            .bind(new.expose());
        Ok(self.change(rehash, "store a password hashed anew").await? == 1)
    }

    /// Lets a user no longer sign in: every session ends, with its back-channel logouts, and every grant. `None` when
    /// there is no such user.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn disable_user(
        &self,
        id: &str,
        targets: &[LogoutTarget],
        by: &By,
    ) -> Result<Option<Vec<EndedSession>>, StoreError> {
        const DOING: &str = "disable a user";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        let disabled = sqlx::query("UPDATE users SET disabled = 1, updated_at = $2 WHERE id = $1")
            .bind(id)
            .bind(by.at().as_unix())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        if disabled.rows_affected() == 0 {
            return Ok(None);
        }
        let ended = end_everything(&mut transaction, id, targets, by).await.map_err(failed)?;
        self.record(&mut transaction, vec![Entry::new("user.disabled", id, json!({}))], by).await?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(Some(ended))
    }

    /// Lets a disabled user sign in again; `false` when there is no such user, or nothing to do.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn enable_user(&self, id: &str, by: &By) -> Result<bool, StoreError> {
        const DOING: &str = "enable a user";
        let mut transaction = self.begin(DOING).await?;
        let enabled = sqlx::query("UPDATE users SET disabled = 0, updated_at = $2 WHERE id = $1 AND disabled = 1")
            .bind(id)
            .bind(by.at().as_unix())
            .execute(&mut *transaction)
            .await
            .map_err(|source| self.read_error(DOING, source))?;
        if enabled.rows_affected() == 0 {
            return Ok(false);
        }
        self.record(&mut transaction, vec![Entry::new("user.enabled", id, json!({}))], by).await?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(true)
    }

    /// Removes a user with all that is theirs. The clients they are signed into hear of it, if they are among
    /// `targets`. `None` when there is no such user.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn remove_user(
        &self,
        id: &str,
        targets: &[LogoutTarget],
        by: &By,
    ) -> Result<Option<Vec<EndedSession>>, StoreError> {
        const DOING: &str = "remove a user";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        take_user(&mut transaction, id).await.map_err(failed)?;
        let ended = end_everything(&mut transaction, id, targets, by).await.map_err(failed)?;
        let removed = sqlx::query("DELETE FROM users WHERE id = $1").bind(id).execute(&mut *transaction).await;
        if removed.map_err(failed)?.rows_affected() == 0 {
            return Ok(None);
        }
        self.record(&mut transaction, vec![Entry::new("user.removed", id, json!({}))], by).await?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(Some(ended))
    }
}

/// Ends every session and every grant of a user whose row is taken.
async fn end_everything(
    transaction: &mut Transition,
    user_id: &str,
    targets: &[LogoutTarget],
    by: &By,
) -> Result<Vec<EndedSession>, sqlx::Error> {
    let origin = Origin { at: by.at(), address: None };
    let ended = end_all(transaction, user_id, targets, &origin).await?;
    sqlx::query("UPDATE grants SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL")
        .bind(user_id)
        .bind(by.at().as_unix())
        .execute(&mut **transaction)
        .await?;
    Ok(ended)
}

/// What somebody signs in with.
struct Names<'a> {
    username: &'a str,
    email: Option<&'a str>,
}

impl<'a> Names<'a> {
    fn of(user: &'a NewUser) -> Self {
        Self { username: &user.username, email: user.email.as_deref() }
    }
}

/// Gives up every name of a user but these.
async fn release_names(transaction: &mut Transition, id: &str, names: &Names<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM login_names WHERE user_id = $1 AND name <> $2 AND name <> $3")
        .bind(id)
        .bind(login_key(names.username))
        .bind(login_key(names.email.unwrap_or(names.username)))
        .execute(&mut **transaction)
        .await
        .map(|_| ())
}

/// Lets a user have these names, or tells which is somebody else's.
async fn take_names(transaction: &mut Transition, id: &str, names: &Names<'_>) -> Result<Option<Taken>, sqlx::Error> {
    let mut keys = vec![(login_key(names.username), Taken::Username(names.username.to_owned()))];
    if let Some(email) = names.email {
        keys.push((login_key(email), Taken::Email(email.to_owned())));
    }
    keys.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (key, taken) in keys {
        let done = sqlx::query(
            "INSERT INTO login_names (name, user_id) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET user_id = excluded.user_id WHERE login_names.user_id = excluded.user_id",
        )
        .bind(key)
        .bind(id)
        .execute(&mut **transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

/// Whether a new user is one of the configuration.
#[derive(Clone, Copy, PartialEq)]
enum Declared {
    Yes,
    No,
}

async fn insert(
    transaction: &mut Transition,
    user: &NewUser,
    declared: Declared,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO users (id, username, username_key, email, email_verified, claims, roles, groups, password_hash, \
         disabled, declared, created_at, updated_at, password_changed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13)",
    )
    .bind(user.id.as_str())
    .bind(user.username.as_str())
    .bind(login_key(&user.username))
    .bind(user.email.as_deref())
    .bind(yes(user.email_verified))
    .bind(object(&user.claims))
    .bind(list(&user.roles))
    .bind(list(&user.groups))
    .bind(user.password_hash.as_ref().map(PasswordHash::expose))
    .bind(yes(user.disabled))
    .bind(yes(declared == Declared::Yes))
    .bind(now.as_unix())
    .bind(user.password_hash.as_ref().map(|_| now.as_unix()))
    .execute(&mut **transaction)
    .await?;
    if user.rights.is_empty() { Ok(()) } else { set_rights(transaction, &user.id, &user.rights).await }
}

async fn set_rights(transaction: &mut Transition, user_id: &str, rights: &Rights) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO user_details (user_id, scopes, client_roles) VALUES ($1, $2, $3) \
         ON CONFLICT (user_id) DO UPDATE SET scopes = excluded.scopes, client_roles = excluded.client_roles",
    )
    .bind(user_id)
    .bind(list(&rights.scopes))
    .bind(serde_json::to_string(&rights.client_roles).expect("lists of strings are JSON"))
    .execute(&mut **transaction)
    .await
    .map(|_| ())
}

/// Takes the roles away that users have at a client.
pub(super) async fn forget_client_roles(transaction: &mut Transition, client_id: &str) -> Result<(), sqlx::Error> {
    // What stands for any character finds a few too many; they are not changed.
    let own = format!("%{}:%", serde_json::to_string(client_id).expect("a string is JSON"));
    let rows =
        sqlx::query("SELECT user_id, client_roles FROM user_details WHERE client_roles LIKE $1 ORDER BY user_id")
            .bind(own)
            .fetch_all(&mut **transaction)
            .await?;
    for row in rows {
        let (user_id, roles): (String, String) = (row.try_get("user_id")?, row.try_get("client_roles")?);
        let Ok(mut roles) = serde_json::from_str::<ClientRoles>(&roles) else { continue };
        if roles.remove(client_id).is_some() {
            sqlx::query("UPDATE user_details SET client_roles = $2 WHERE user_id = $1")
                .bind(user_id)
                .bind(serde_json::to_string(&roles).expect("lists of strings are JSON"))
                .execute(&mut **transaction)
                .await?;
        }
    }
    Ok(())
}

/// Notes which password hash the configuration gave a user.
async fn note_declared_hash(
    transaction: &mut Transition,
    user_id: &str,
    fingerprint: Option<Vec<u8>>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO user_details (user_id, scopes, client_roles, declared_sha256) VALUES ($1, '[]', '{}', $2) \
         ON CONFLICT (user_id) DO UPDATE SET declared_sha256 = excluded.declared_sha256",
    )
    .bind(user_id)
    .bind(fingerprint)
    .execute(&mut **transaction)
    .await
    .map(|_| ())
}

/// What the audit log says of somebody who is new.
fn told(user: &NewUser) -> Value {
    let mut details = json!({ "username": user.username, "roles": user.roles });
    if !user.rights.is_empty() {
        let Rights { scopes, client_roles } = &user.rights;
        (details["scopes"], details["client_roles"]) = (json!(scopes), json!(client_roles));
    }
    details
}

/// Makes a stored user what the configuration says.
async fn replace(
    transaction: &mut Transition,
    known: &User,
    user: &NewUser,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let password_changed_at =
        if known.password_hash == user.password_hash { known.password_changed_at } else { Some(now) };
    sqlx::query(
        "UPDATE users SET username = $2, email = $3, email_verified = $4, claims = $5, roles = $6, groups = $7, \
         password_hash = $8, disabled = $9, declared = 1, updated_at = $10, password_changed_at = $11 WHERE id = $1",
    )
    .bind(known.id.as_str())
    .bind(user.username.as_str())
    .bind(user.email.as_deref())
    .bind(yes(user.email_verified))
    .bind(object(&user.claims))
    .bind(list(&user.roles))
    .bind(list(&user.groups))
    .bind(user.password_hash.as_ref().map(PasswordHash::expose))
    .bind(yes(user.disabled))
    .bind(now.as_unix())
    .bind(password_changed_at.map(Timestamp::as_unix))
    .execute(&mut **transaction)
    .await?;
    if known.rights == user.rights { Ok(()) } else { set_rights(transaction, &known.id, &user.rights).await }
}

fn is_as_declared(known: &User, user: &NewUser) -> bool {
    let NewUser { id: _, username, email, email_verified, claims, roles, groups, rights, password_hash, disabled } =
        user;
    known.declared
        && known.username == *username
        && known.email == *email
        && known.email_verified == *email_verified
        && known.claims == *claims
        && known.roles == *roles
        && known.groups == *groups
        && known.rights == *rights
        && known.password_hash == *password_hash
        && known.disabled == *disabled
}

fn in_order(users: &[NewUser]) -> Vec<&NewUser> {
    let mut users: Vec<&NewUser> = users.iter().collect();
    users.sort_by_cached_key(|user| login_key(&user.username));
    users
}

fn object(claims: &Map<String, Value>) -> String {
    serde_json::to_string(claims).expect("an object is JSON")
}

pub(super) fn read_user(row: &AnyRow) -> Result<User, StoreError> {
    let row = Columns::new(row, READING);
    Ok(User {
        id: row.get("id")?,
        username: row.get("username")?,
        email: row.get("email")?,
        email_verified: row.flag("email_verified")?,
        claims: row.json("claims")?,
        roles: row.json("roles")?,
        groups: row.json("groups")?,
        rights: Rights {
            scopes: row.maybe_json("scopes")?.unwrap_or_default(),
            client_roles: row.maybe_json("client_roles")?.unwrap_or_default(),
        },
        password_hash: row.get::<Option<String>>("password_hash")?.map(PasswordHash::new),
        disabled: row.flag("disabled")?,
        declared: row.flag("declared")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        password_changed_at: row.maybe_time("password_changed_at")?,
    })
}

const USER_BY_ID: &str = concat!(select_user!(), " WHERE users.id = $1");
const READING: &str = "read a user";
