//! The operator's acts on users. Running servers see them at once, because they read users from the database.

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::warn;
use zeroize::Zeroizing;

use crate::config::{Config, DeclaredPassword, DeclaredUser};
use crate::edges::{Entropy, NoEntropy};
use crate::oidc::opaque::new_id;
use crate::storage::{By, EndedSession, LogoutTarget, Origin, Store, StoreError, UserChange, UserInsert, UserUpdate};
use crate::users::{
    ForeignHashes, GivenPassword, NewUser, PasswordError, PasswordHash, Passwords, User, UserDraft, UserProblem,
    Verdict, judge_new_password, login_key,
};

/// Why an act was not done. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A password could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The generator.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// Nobody signs in with this, and it is nobody's id.
    #[error("there is no user {0}")]
    Unknown(String),
    /// The user is declared.
    #[error("user {0} is declared in the configuration: change it there")]
    Declared(String),
    /// The user is stored as declared, and the configuration does not name them any more.
    #[error("user {0} was declared once: declare the user again, or remove and add the user")]
    NoLongerDeclared(String),
    /// Somebody else has the name.
    #[error("somebody else signs in with {0}")]
    Taken(String),
    /// Two users were declared with the same name, or one with that of a stored user.
    #[error("two users sign in with {0}: one is declared in the configuration")]
    DeclaredTwice(String),
    /// What is wrong with some of many.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<UserProblem>),
}

/// The user who signs in with `name`, or has it as their id.
///
/// # Errors
/// [`UserError::Unknown`]
pub async fn find_user(store: &Store, name: &str) -> Result<User, UserError> {
    let user = match store.user_by_login(name).await? {
        Some(user) => Some(user),
        None => store.user_by_id(name).await?,
    };
    user.ok_or_else(|| UserError::Unknown(name.to_owned()))
}

/// Every user, by their names.
///
/// # Errors
/// [`UserError::Store`]
pub async fn all_users(store: &Store) -> Result<Vec<User>, UserError> {
    let mut users: Vec<User> = Vec::new();
    loop {
        let after = users.last().map(|user| user.username.clone());
        let page = store.list_users(after.as_deref(), PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        users.extend(page);
        if is_last {
            return Ok(users);
        }
    }
}

/// Stores new users, together or not at all, and returns them in their order. Their passwords are hashed as many at once
/// as `passwords` has it.
///
/// # Errors
/// [`UserError::Problems`] when somebody else has a name or an id, [`UserError::Password`], [`UserError::NoEntropy`].
pub async fn add_users(
    store: &Store,
    passwords: &Arc<Passwords>,
    drafts: Vec<UserDraft>,
    entropy: &dyn Entropy,
    by: &By,
) -> Result<Vec<NewUser>, UserError> {
    // Before anything is hashed, which takes longer.
    let problems = taken(store, &drafts).await?;
    if !problems.is_empty() {
        return Err(UserError::Problems(problems));
    }
    let mut given = Vec::with_capacity(drafts.len());
    let mut users = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let UserDraft { id, username, email, email_verified, claims, roles, groups, rights, password, disabled } =
            draft;
        let id = id.map_or_else(|| new_id(entropy), Ok)?;
        given.push(password);
        let password_hash = None;
        users.push(NewUser {
            id,
            username,
            email,
            email_verified,
            claims,
            roles,
            groups,
            rights,
            password_hash,
            disabled,
        });
    }
    for (index, hash) in hash_all(passwords, given).await? {
        users[index].password_hash = Some(hash);
    }
    match store.insert_users(&users, by).await? {
        UserInsert::Inserted => Ok(users),
        UserInsert::UsernameTaken(name) | UserInsert::EmailTaken(name) => Err(UserError::Taken(name)),
    }
}

/// Changes a user who is not declared.
///
/// # Errors
/// [`UserError::Declared`], [`UserError::Unknown`], [`UserError::Taken`].
pub async fn change_user(store: &Store, user: &User, change: &UserChange, by: &By) -> Result<(), UserError> {
    refuse_declared(user)?;
    match store.update_user(&user.id, change, by).await? {
        UserUpdate::Updated => Ok(()),
        UserUpdate::Unknown => Err(UserError::Unknown(user.username.clone())),
        UserUpdate::UsernameTaken(name) | UserUpdate::EmailTaken(name) => Err(UserError::Taken(name)),
    }
}

/// Gives a user another password, or with `None` takes it away.
///
/// # Errors
/// [`UserError::Declared`], [`UserError::Unknown`], [`UserError::Password`].
pub async fn set_password(
    store: &Store,
    passwords: &Passwords,
    user: &User,
    password: Option<&str>,
    by: &By,
) -> Result<(), UserError> {
    refuse_declared(user)?;
    let hash = match password {
        Some(password) => Some(passwords.hash(password).await?),
        None => None,
    };
    if store.set_password(&user.id, hash.as_ref(), by).await? {
        Ok(())
    } else {
        Err(UserError::Unknown(user.username.clone()))
    }
}

/// Lets a user no longer sign in, which ends every session and grant.
///
/// # Errors
/// [`UserError::Declared`], [`UserError::Unknown`].
pub async fn disable_user(
    store: &Store,
    config: &Config,
    user: &User,
    by: &By,
) -> Result<Vec<EndedSession>, UserError> {
    refuse_declared(user)?;
    let targets = logout_targets(store, config).await?;
    store.disable_user(&user.id, &targets, by).await?.ok_or_else(|| UserError::Unknown(user.username.clone()))
}

/// Lets a disabled user sign in again; `false` when they may already.
///
/// # Errors
/// [`UserError::Declared`], [`UserError::NoLongerDeclared`].
pub async fn enable_user(store: &Store, config: &Config, user: &User, by: &By) -> Result<bool, UserError> {
    match refuse_declared(user) {
        Err(UserError::Declared(name)) if !is_declared(config, user) => Err(UserError::NoLongerDeclared(name)),
        Err(error) => Err(error),
        Ok(()) => Ok(store.enable_user(&user.id, by).await?),
    }
}

/// Removes a user with all that is theirs; one that was declared can be removed when they are so no more.
///
/// # Errors
/// [`UserError::Declared`], [`UserError::Unknown`].
pub async fn remove_user(store: &Store, config: &Config, user: &User, by: &By) -> Result<Vec<EndedSession>, UserError> {
    if is_declared(config, user) {
        return Err(UserError::Declared(user.username.clone()));
    }
    let targets = logout_targets(store, config).await?;
    store.remove_user(&user.id, &targets, by).await?.ok_or_else(|| UserError::Unknown(user.username.clone()))
}

/// Signs a user out of every browser and every app, those with offline access too.
///
/// # Errors
/// [`UserError::Store`]
pub async fn sign_out(store: &Store, config: &Config, user: &User, by: &By) -> Result<Vec<EndedSession>, UserError> {
    let origin = Origin { at: by.at(), address: None };
    let targets = logout_targets(store, config).await?;
    Ok(store.end_all_access_of_user(&user.id, &targets, &origin).await?)
}

/// Ends one session of a user; `false` when they have no such session.
///
/// # Errors
/// [`UserError::Store`]
pub async fn end_session(store: &Store, config: &Config, user: &User, sid: &str, by: &By) -> Result<bool, UserError> {
    let origin = Origin { at: by.at(), address: None };
    if store.session_by_sid(sid, by.at()).await?.is_none_or(|session| session.user_id != user.id) {
        return Ok(false);
    }
    let targets = logout_targets(store, config).await?;
    Ok(store.end_session(sid, &targets, &origin).await?.is_some())
}

/// Makes the declared users what the configuration says, at the start of a server. A password that is the stored one
/// already is not hashed anew.
///
/// # Errors
/// [`UserError::DeclaredTwice`], [`UserError::Password`], [`UserError::NoEntropy`].
pub async fn declare_users(
    store: &Store,
    config: &Config,
    passwords: &Passwords,
    entropy: &dyn Entropy,
    by: &By,
) -> Result<(), UserError> {
    let mut users = Vec::with_capacity(config.users.len());
    for declared in &config.users {
        let DeclaredUser { username, email, email_verified, claims, roles, groups, rights, password, disabled } =
            declared.clone();
        let known = store.user_by_login(&username).await?.and_then(|user| user.password_hash);
        let password_hash = match password {
            None => None,
            Some(DeclaredPassword::Hash(hash)) => Some(hash),
            Some(DeclaredPassword::Plain(plain)) => {
                let about: Vec<&str> = [Some(username.as_str()), email.as_deref()].into_iter().flatten().collect();
                if !config.issuer.is_loopback()
                    && let Err(weakness) = judge_new_password(plain.expose(), &about)
                {
                    warn!(user = username, "the declared password should be another: {weakness}");
                }
                match (passwords.verify(plain.expose(), known.as_ref()).await?, known) {
                    (Verdict::Right { rehashed }, known) => rehashed.or(known),
                    (Verdict::Wrong, _) => Some(passwords.hash(plain.expose()).await?),
                }
            }
        };
        let id = new_id(entropy)?;
        users.push(NewUser {
            id,
            username,
            email,
            email_verified,
            claims,
            roles,
            groups,
            rights,
            password_hash,
            disabled,
        });
    }
    let targets = logout_targets(store, config).await?;
    match store.declare_users(&users, &targets, by).await? {
        UserInsert::Inserted => Ok(()),
        UserInsert::UsernameTaken(name) | UserInsert::EmailTaken(name) => Err(UserError::DeclaredTwice(name)),
    }
}

/// Has `passwords` know of the hashes that were imported and not made anew yet, so that it takes as long with anybody else.
///
/// # Errors
/// [`UserError::Store`], [`UserError::Password`]
pub async fn keep_pace(store: &Store, passwords: &Passwords) -> Result<(), UserError> {
    let mut foreign = ForeignHashes::default();
    let mut after = None;
    loop {
        let page = store.foreign_hashes(after.as_deref(), PAGE).await?;
        page.iter().for_each(|(_, hash)| foreign.add(hash));
        if page.len() < PAGE as usize {
            break;
        }
        after = page.into_iter().next_back().map(|(id, _)| id);
    }
    Ok(passwords.measure(foreign).await?)
}

/// A password to be told to somebody: 100 random bits, in letters that are not mistaken for each other.
///
/// # Errors
/// [`NoEntropy`]
pub fn new_password(entropy: &dyn Entropy) -> Result<Zeroizing<String>, NoEntropy> {
    let mut random = Zeroizing::new([0; 20]);
    entropy.fill(random.as_mut())?;
    let mut password = Zeroizing::new(String::with_capacity(24));
    for (index, byte) in random.iter().enumerate() {
        if index > 0 && index % 5 == 0 {
            password.push('-');
        }
        password.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    Ok(password)
}

/// The names and ids of drafts that somebody in the database has.
async fn taken(store: &Store, drafts: &[UserDraft]) -> Result<Vec<UserProblem>, StoreError> {
    let mut problems = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let mut problem = |member: &str, message: String| {
            let (user, username) = (Some(index + 1), Some(draft.username.clone()));
            problems.push(UserProblem { user, username, member: Some(member.to_owned()), message });
        };
        for (member, name) in [("username", Some(&draft.username)), ("email", draft.email.as_ref())] {
            if let Some(name) = name
                && store.user_by_login(name).await?.is_some()
            {
                problem(member, format!("a stored user signs in with {name}"));
            }
        }
        if let Some(id) = &draft.id
            && store.user_by_id(id).await?.is_some()
        {
            problem("sub", "a stored user has it".to_owned());
        }
    }
    Ok(problems)
}

/// The hashes of those who have a password, with their places.
async fn hash_all(
    passwords: &Arc<Passwords>,
    given: Vec<Option<GivenPassword>>,
) -> Result<Vec<(usize, PasswordHash)>, UserError> {
    let mut hashes = Vec::new();
    let mut running = JoinSet::new();
    let take = |done: Result<(usize, Result<PasswordHash, PasswordError>), tokio::task::JoinError>| {
        let (index, hash) = done.map_err(|failure| PasswordError::Failed(failure.to_string()))?;
        Ok::<_, UserError>((index, hash?))
    };
    for (index, password) in given.into_iter().enumerate() {
        match password {
            None => {}
            Some(GivenPassword::Hash(hash)) => hashes.push((index, hash)),
            Some(GivenPassword::Plain(plain)) => {
                let passwords = Arc::clone(passwords);
                if running.len() >= passwords.concurrency()
                    && let Some(done) = running.join_next().await
                {
                    hashes.push(take(done)?);
                }
                running.spawn(async move { (index, passwords.hash(&plain).await) });
            }
        }
    }
    while let Some(done) = running.join_next().await {
        hashes.push(take(done)?);
    }
    Ok(hashes)
}

/// The clients that want to be told of the ends of sessions.
async fn logout_targets(store: &Store, config: &Config) -> Result<Vec<LogoutTarget>, StoreError> {
    let stored = store.load_clients().await?;
    let is_declared = |id: &str| config.clients.iter().any(|declared| declared.id == id);
    let stored = stored.iter().filter(|client| !is_declared(&client.id));
    let targets = config.clients.iter().chain(stored).filter_map(|client| {
        let uri = client.backchannel_logout_uri.as_ref()?.to_string();
        Some(LogoutTarget { client_id: client.id.clone(), uri })
    });
    Ok(targets.collect())
}

fn refuse_declared(user: &User) -> Result<(), UserError> {
    if user.declared { Err(UserError::Declared(user.username.clone())) } else { Ok(()) }
}

fn is_declared(config: &Config, user: &User) -> bool {
    let key = login_key(&user.username);
    config.users.iter().any(|declared| login_key(&declared.username) == key)
}

/// Users that are read at once.
const PAGE: u32 = 500;

const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

#[cfg(test)]
mod tests {
    use keywheel_jose::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::app::App;
    use crate::storage::{NewSession, SessionStart};
    use crate::testing::Home;
    use crate::users::parse_users;

    const GOOD: &str = "a long way to Tipperary";
    /// `Grüße, wörld 1`, by bcrypt of Python.
    const BCRYPT: &str = "$2b$04$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa";

    fn by(home: &Home) -> By {
        By::new(&home.edges().author, home.edges().clock.now())
    }

    async fn import(app: &App, home: &Home, file: Value) -> Result<Vec<NewUser>, UserError> {
        let drafts = parse_users(file.to_string().as_bytes()).expect("a good file");
        add_users(&app.store, &app.passwords, drafts, home.edges().entropy.as_ref(), &by(home)).await
    }

    async fn sign_in(app: &App, name: &str, password: &str) -> bool {
        let user = app.store.user_by_login(name).await.expect("an answer");
        let hash = user.as_ref().and_then(|user| user.password_hash.as_ref());
        let verdict = app.passwords.verify(password, hash).await.expect("a verdict");
        matches!(verdict, Verdict::Right { .. })
    }

    async fn start_session(app: &App, user_id: &str, sid: &str, now: Timestamp) {
        let hour = std::time::Duration::from_secs(3600);
        let session = NewSession {
            cookie_sha256: std::array::from_fn(|index| sid.as_bytes().get(index).copied().unwrap_or_default()),
            sid: sid.to_owned(),
            user_id: user_id.to_owned(),
            auth_time: now,
            amr: vec!["pwd".to_owned()],
            acr: None,
            persistent: false,
            expires_at: now + hour,
            idle_expires_at: now + hour,
            user_agent: "a browser".to_owned(),
            address: "192.0.2.1".to_owned(),
        };
        let started = app.store.create_session(&session, None, &[]).await.expect("stored");
        assert!(matches!(started, SessionStart::Started { .. }));
    }

    /// An issuer whose configuration ends with `users`.
    async fn open(home: &Home, users: &str) -> Result<Arc<App>, crate::app::StartError> {
        let scopes = r#"scopes = ["invoices:read", "invoices:write"]"#;
        let audiences = r#"audiences = ["https://api.example.com", "https://other.example.com"]"#;
        let exchanged = [(scopes, ""), (audiences, users)];
        App::open(home.config_with(r#"algorithms = ["ES256"]"#, &exchanged), home.edges()).await
    }

    #[tokio::test]
    async fn imported_people_sign_in_with_the_passwords_they_have() {
        let home = Home::new();
        let app = home.open().await;
        let file = json!([
            { "sub": "old|1", "username": "alice", "email": "alice@example.com", "password": "short" },
            { "preferred_username": "bob", "password_hash": BCRYPT, "roles": ["admin"] },
            { "username": "carol" },
        ]);

        let added = import(&app, &home, file).await.expect("imported");

        assert_eq!(added.iter().map(|user| user.username.as_str()).collect::<Vec<_>>(), ["alice", "bob", "carol"]);
        assert_eq!((added[0].id.as_str(), added[1].id.len()), ("old|1", 22));
        assert!(sign_in(&app, "ALICE@example.com", "short").await && !sign_in(&app, "alice", "long").await);
        assert!(sign_in(&app, "Bob", "Grüße, wörld 1").await);
        assert!(!sign_in(&app, "carol", "").await, "without a password nothing is one");
        let bob = find_user(&app.store, &added[1].id).await.expect("found by the id");
        assert_eq!((bob.username.as_str(), &bob.roles[..]), ("bob", &["admin".to_owned()][..]));
    }

    #[tokio::test]
    async fn nothing_is_imported_or_hashed_when_somebody_is_there_already() {
        let home = Home::new();
        let app = home.open().await;
        let first = json!([{ "sub": "1", "username": "alice", "email": "alice@example.com" }]);
        import(&app, &home, first).await.expect("imported");
        let hashed = app.passwords.computed();

        let refused = import(
            &app,
            &home,
            json!([
                { "username": "new", "password": GOOD },
                { "username": "Alice" },
                { "username": "bob", "email": "ALICE@example.com", "sub": "1" },
            ]),
        )
        .await;

        let Err(UserError::Problems(problems)) = refused else { panic!("{refused:?}") };
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "user 2 (Alice): username: a stored user signs in with Alice",
                "user 3 (bob): email: a stored user signs in with ALICE@example.com",
                "user 3 (bob): sub: a stored user has it",
            ]
        );
        assert_eq!(app.passwords.computed(), hashed);
        assert_eq!(all_users(&app.store).await.expect("users").len(), 1);
    }

    #[tokio::test]
    async fn more_users_than_a_page_are_imported_and_listed() {
        let home = Home::new();
        let app = home.open().await;
        let count = PAGE as usize * 2 + 1;
        let file: Vec<Value> = (0..count).map(|index| json!({ "username": format!("user{index}") })).collect();

        import(&app, &home, Value::Array(file)).await.expect("imported");

        assert_eq!(all_users(&app.store).await.expect("users").len(), count);
    }

    #[tokio::test]
    async fn many_passwords_are_hashed_without_too_many_waiting() {
        let home = Home::new();
        let app = home.open().await;
        let passwords = Arc::new(Passwords::new(1, &home.edges()));
        let file: Vec<Value> = (0..40)
            .map(|index| json!({ "username": format!("user{index}"), "password": format!("{index}") }))
            .collect();
        let drafts = parse_users(Value::Array(file).to_string().as_bytes()).expect("a good file");

        add_users(&app.store, &passwords, drafts, home.edges().entropy.as_ref(), &by(&home)).await.expect("imported");

        assert!(sign_in(&app, "user7", "7").await && !sign_in(&app, "user7", "8").await);
        assert_eq!(passwords.computed(), 40);
    }

    #[tokio::test]
    async fn another_password_counts_at_once() {
        let home = Home::new();
        let app = home.open().await;
        import(&app, &home, json!([{ "username": "alice", "password": "before" }])).await.expect("imported");
        let alice = find_user(&app.store, "alice").await.expect("alice");

        set_password(&app.store, &app.passwords, &alice, Some("after"), &by(&home)).await.expect("set");
        assert!(sign_in(&app, "alice", "after").await && !sign_in(&app, "alice", "before").await);

        set_password(&app.store, &app.passwords, &alice, None, &by(&home)).await.expect("removed");
        assert!(!sign_in(&app, "alice", "after").await);
    }

    #[tokio::test]
    async fn signing_out_ends_one_session_or_all() {
        let home = Home::new();
        let (app, now) = (home.open().await, home.edges().clock.now());
        let users = import(&app, &home, json!([{ "username": "alice" }, { "username": "bob" }])).await.expect("users");
        for (user, sid) in [(0, "one"), (0, "two"), (0, "three"), (1, "bobs")] {
            start_session(&app, &users[user].id, sid, now).await;
        }
        let alice = find_user(&app.store, "alice").await.expect("alice");
        let config = &app.config;

        assert!(!end_session(&app.store, config, &alice, "bobs", &by(&home)).await.expect("an answer"));
        assert!(end_session(&app.store, config, &alice, "one", &by(&home)).await.expect("an answer"));
        assert!(!end_session(&app.store, config, &alice, "one", &by(&home)).await.expect("it is over"));
        assert_eq!(app.store.sessions_of_user(&alice.id, now).await.expect("sessions").len(), 2);
        assert_eq!(sign_out(&app.store, config, &alice, &by(&home)).await.expect("done").len(), 2);
        assert!(app.store.sessions_of_user(&alice.id, now).await.expect("sessions").is_empty());
        assert_eq!(app.store.sessions_of_user(&users[1].id, now).await.expect("sessions").len(), 1);
    }

    #[tokio::test]
    async fn a_disabled_user_is_signed_out_and_comes_back_when_enabled() {
        let home = Home::new();
        let (app, now) = (home.open().await, home.edges().clock.now());
        let users = import(&app, &home, json!([{ "username": "alice" }])).await.expect("users");
        start_session(&app, &users[0].id, "one", now).await;
        let alice = find_user(&app.store, "alice").await.expect("alice");

        let ended = disable_user(&app.store, &app.config, &alice, &by(&home)).await.expect("disabled");

        assert_eq!(ended.len(), 1);
        let alice = find_user(&app.store, "alice").await.expect("alice");
        assert!(alice.disabled);
        assert!(enable_user(&app.store, &app.config, &alice, &by(&home)).await.expect("enabled"));
        assert!(!enable_user(&app.store, &app.config, &alice, &by(&home)).await.expect("nothing to do"));
        remove_user(&app.store, &app.config, &alice, &by(&home)).await.expect("removed");
        assert!(matches!(find_user(&app.store, "alice").await, Err(UserError::Unknown(_))));
    }

    #[tokio::test]
    async fn declared_users_are_stored_at_the_start_and_hashed_once() {
        let home = Home::new();
        let declared = format!("[[user]]\nusername = \"alice\"\npassword = \"{GOOD}\"\nroles = [\"admin\"]");

        let first = open(&home, &declared).await.expect("an issuer");
        let before = find_user(&first.store, "alice").await.expect("stored");
        assert!(sign_in(&first, "alice", GOOD).await);
        let again = open(&home, &declared).await.expect("an issuer");
        let after = find_user(&again.store, "alice").await.expect("stored");

        assert_eq!(before, after, "nothing has changed");
        assert_eq!(before.roles, ["admin"]);
        let other = declared.replace(GOOD, "another way to Tipperary");
        let changed = open(&home, &other).await.expect("an issuer");
        assert!(
            sign_in(&changed, "alice", "another way to Tipperary").await && !sign_in(&changed, "alice", GOOD).await
        );
        assert_eq!(find_user(&changed.store, "alice").await.expect("stored").id, before.id);
    }

    #[tokio::test]
    async fn a_declared_user_is_changed_in_the_configuration_only() {
        let home = Home::new();
        let app = open(&home, "[[user]]\nusername = \"alice\"").await.expect("an issuer");
        let alice = find_user(&app.store, "alice").await.expect("stored");
        let (store, config, by) = (&app.store, &app.config, &by(&home));

        for refused in [
            change_user(store, &alice, &UserChange::default(), by).await,
            set_password(store, &app.passwords, &alice, Some(GOOD), by).await,
            disable_user(store, config, &alice, by).await.map(|_| ()),
            enable_user(store, config, &alice, by).await.map(|_| ()),
            remove_user(store, config, &alice, by).await.map(|_| ()),
        ] {
            assert!(matches!(&refused, Err(UserError::Declared(name)) if name == "alice"), "{refused:?}");
        }

        let without = open(&home, "").await.expect("an issuer");
        let alice = find_user(&without.store, "alice").await.expect("still there");
        assert!(alice.disabled, "who is no longer declared does not sign in");
        let refused = enable_user(&without.store, &without.config, &alice, by).await;
        assert!(matches!(refused, Err(UserError::NoLongerDeclared(_))), "{refused:?}");
        remove_user(&without.store, &without.config, &alice, by).await.expect("can be removed then");
    }

    #[tokio::test]
    async fn a_declared_name_that_is_somebodys_address_stops_the_start() {
        let home = Home::new();
        let app = home.open().await;
        import(&app, &home, json!([{ "username": "bob", "email": "alice@example.com" }])).await.expect("imported");

        let refused = open(&home, "[[user]]\nusername = \"alice@example.com\"").await.err().expect("refused");

        assert!(refused.is_configuration(), "{refused}");
        assert!(crate::chain(&refused).contains("alice@example.com"), "{}", crate::chain(&refused));
    }

    #[test]
    fn a_made_password_is_long_and_never_the_same() {
        let entropy = crate::edges::Edges::system().entropy;

        let [one, other] = [(); 2].map(|()| new_password(entropy.as_ref()).expect("a password"));

        assert_ne!(one, other);
        let letters = one.bytes().filter(|byte| LETTERS.contains(byte)).count();
        assert_eq!((one.len(), letters), (23, 20), "{}", one.as_str());
        assert_eq!(judge_new_password(&one, &["admin"]), Ok(()));
    }
}
