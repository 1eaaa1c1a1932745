//! `keywheel users …`

mod options;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use self::options::Options;
use self::show::{describe, document, session_document, session_table, state};
use super::output::{Table, note, print, print_json};
use super::{Failure, Session, prompt, read_input};
use crate::admin::users::{self as ops, UserError};
use crate::storage::{Store, StoreError, UserChange, WhenMissing};
use crate::users::{
    GivenPassword, Passwords, Rights, User, UserDraft, judge_new_password, parse_password_hash, parse_username,
    parse_users,
};

#[derive(Subcommand)]
pub(super) enum Users {
    /// Show all users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one user
    Show {
        /// The user name, e-mail address or id
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a user; asks for a password, unless an option says otherwise
    Add(Box<Add>),
    /// Change what is known of a user; what is not named stays as it is
    Set(Box<Set>),
    /// Give a user another password, and sign them out everywhere
    Password(Password),
    /// Let a user no longer sign in, and sign them out everywhere
    Disable {
        /// The user name, e-mail address or id
        user: String,
    },
    /// Let a disabled user sign in again
    Enable {
        /// The user name, e-mail address or id
        user: String,
    },
    /// Remove a user with all that is theirs
    Remove {
        /// The user name, e-mail address or id
        user: String,
    },
    /// Show where a user is signed in
    Sessions {
        /// The user name, e-mail address or id
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign a user out of every browser and app, those with offline access too
    SignOut {
        /// The user name, e-mail address or id
        user: String,
        /// Only this session, as `keywheel users sessions` shows it
        #[arg(long, value_name = "SID")]
        session: Option<String>,
    },
    /// Add users from a JSON array of OpenID Connect claims: all of them or none
    ///
    /// Members: username (or preferred_username), email, email_verified, the other standard claims, roles, groups, scopes
    /// (granted directly), client_roles ({"shop": ["manager"]}), disabled, and whatever else tokens shall say. sub is kept, so that apps know everybody again. password is hashed;
    /// password_hash may be argon2, bcrypt, PBKDF2 or scrypt.
    Import {
        /// The file; - is standard input
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct Add {
    /// The name to sign in with
    username: String,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    password: PasswordSource,
    /// Take a hash instead of a password from this file (- is standard input): argon2, bcrypt, PBKDF2 or scrypt
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "generate"])]
    password_hash_file: Option<PathBuf>,
    /// They have no password
    #[arg(long, conflicts_with_all = ["password_file", "generate", "password_hash_file"])]
    no_password: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Set {
    /// The user name, e-mail address or id
    user: String,
    /// Another name to sign in with
    #[arg(long)]
    username: Option<String>,
    #[command(flatten)]
    options: Options,
    /// Take a scope away that they were granted directly; repeat for more
    #[arg(long = "remove-scope", value_name = "SCOPE", conflicts_with = "scopes")]
    remove_scopes: Vec<String>,
    /// Take this claim away, or email, roles, groups, scopes or client_roles; repeat for more
    #[arg(long, value_name = "CLAIM")]
    unset: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Password {
    /// The user name, e-mail address or id
    user: String,
    #[command(flatten)]
    source: PasswordSource,
    /// Take the password away
    #[arg(long, conflicts_with_all = ["password_file", "generate"])]
    remove: bool,
    /// Leave them signed in where they are
    #[arg(long)]
    keep_sessions: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where a password comes from: never from the arguments, which others on the machine can see.
#[derive(Args)]
struct PasswordSource {
    /// Read the password from this file (- is standard input) instead of asking for it
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    password_file: Option<PathBuf>,
    /// Make a password, and print it once
    #[arg(long)]
    generate: bool,
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self::failed(crate::chain(&error))
    }
}

impl Users {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let when_missing = match &self {
            Self::Add(_) | Self::Import { .. } => WhenMissing::Create,
            _ => WhenMissing::Refuse,
        };
        let store = match Store::open(&session.config.storage.database, when_missing).await {
            Err(StoreError::Missing { .. }) if matches!(self, Self::List { .. }) => {
                return list(session, Vec::new(), matches!(self, Self::List { json: true }));
            }
            opened => opened?,
        };
        let result = self.act(session, &store).await;
        store.close().await;
        result
    }

    async fn act(self, session: &Session, store: &Store) -> Result<(), Failure> {
        let (config, by) = (&session.config, session.by());
        match self {
            Self::List { json } => list(session, ops::all_users(store).await?, json),
            Self::Show { user, json } => {
                let user = ops::find_user(store, &user).await?;
                if json {
                    return Ok(print_json(&document(&user))?);
                }
                Ok(print(&describe(&user))?)
            }
            Self::Add(add) => add.run(session, store).await,
            Self::Set(set) => set.run(session, store).await,
            Self::Password(password) => password.run(session, store).await,
            Self::Disable { user } => {
                let user = ops::find_user(store, &user).await?;
                let ended = ops::disable_user(store, config, &user, &by).await?;
                note(format_args!("user {} can no longer sign in; {}", user.username, count(ended.len())));
                Ok(())
            }
            Self::Enable { user } => {
                let user = ops::find_user(store, &user).await?;
                let changed = ops::enable_user(store, config, &user, &by).await?;
                let again = if changed { "can sign in again" } else { "could sign in already" };
                note(format_args!("user {} {again}", user.username));
                Ok(())
            }
            Self::Remove { user } => {
                let user = ops::find_user(store, &user).await?;
                let ended = ops::remove_user(store, config, &user, &by).await?;
                note(format_args!("user {} is removed; {}", user.username, count(ended.len())));
                Ok(())
            }
            Self::Sessions { user, json } => {
                let user = ops::find_user(store, &user).await?;
                let sessions = store.sessions_of_user(&user.id, by.at()).await?;
                if json {
                    return Ok(print_json(&sessions.iter().map(session_document).collect())?);
                }
                if sessions.is_empty() {
                    note(format_args!("user {} is signed in nowhere", user.username));
                    return Ok(());
                }
                Ok(print(&session_table(&sessions).render())?)
            }
            Self::SignOut { user, session: None } => {
                let user = ops::find_user(store, &user).await?;
                let ended = ops::sign_out(store, config, &user, &by).await?;
                note(format_args!("user {} is signed out; {}", user.username, count(ended.len())));
                Ok(())
            }
            Self::SignOut { user, session: Some(sid) } => {
                let user = ops::find_user(store, &user).await?;
                if !ops::end_session(store, config, &user, &sid, &by).await? {
                    return Err(Failure::failed(format!("user {} has no session {sid}", user.username)));
                }
                note(format_args!("user {} is signed out of session {sid}", user.username));
                Ok(())
            }
            Self::Import { file, json } => import(session, store, &file, json).await,
        }
    }
}

impl Add {
    async fn run(self, session: &Session, store: &Store) -> Result<(), Failure> {
        let username = parse_username(&self.username).map_err(|why| Failure::usage(format!("user name: {why}")))?;
        let mut draft = UserDraft::new(&username);
        let change = self.options.change(&[], draft.claims.clone(), Rights::default())?;
        draft.email = change.email.flatten();
        draft.email_verified = change.email_verified.unwrap_or_default();
        draft.claims = change.claims.unwrap_or_default();
        draft.roles = change.roles.unwrap_or_default();
        draft.groups = change.groups.unwrap_or_default();
        draft.rights = change.rights.unwrap_or_default();
        draft.password = match (&self.password_hash_file, self.no_password) {
            (Some(file), _) => {
                let hash = text(file)?;
                Some(GivenPassword::Hash(
                    parse_password_hash(&hash).map_err(|error| Failure::usage(error.to_string()))?,
                ))
            }
            (None, true) => None,
            (None, false) => {
                let name = draft.claims.get("name").and_then(|name| name.as_str());
                let about = about(&draft.username, draft.email.as_deref(), name);
                Some(GivenPassword::Plain(self.password.read(session, &about)?))
            }
        };
        let told = draft.password.clone().filter(|_| self.password.generate);
        let passwords = passwords(session);
        let entropy = session.edges.entropy.as_ref();
        let added = ops::add_users(store, &passwords, vec![draft], entropy, &session.by()).await;
        let added = added.map_err(|error| match error {
            // There is only one, so their place says nothing.
            UserError::Problems(problems) => {
                let told: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
                Failure::failed(told.join("; "))
            }
            other => other.into(),
        })?;
        let [user] = &added[..] else { return Err(Failure::failed("no user was added")) };
        note(format_args!("user {} is added", user.username));
        tell_of_free_scopes(session, &user.rights);
        match told {
            Some(GivenPassword::Plain(password)) => tell_password(&user.id, &user.username, &password, self.json),
            _ if self.json => Ok(print_json(&json!({ "sub": user.id, "username": user.username }))?),
            _ => Ok(()),
        }
    }
}

impl Set {
    async fn run(self, session: &Session, store: &Store) -> Result<(), Failure> {
        let user = ops::find_user(store, &self.user).await?;
        let username = self.username.as_deref().map(parse_username).transpose();
        let username = username.map_err(|why| Failure::usage(format!("--username: {why}")))?;
        let mut rights = user.rights.clone();
        for scope in &self.remove_scopes {
            let place = rights.scopes.iter().position(|own| own == scope);
            let place = place.ok_or_else(|| Failure::usage(format!("--remove-scope: they have no scope {scope}")))?;
            rights.scopes.remove(place);
        }
        let mut change =
            UserChange { username, ..self.options.change(&self.unset, user.claims.clone(), rights.clone())? };
        change.rights = change.rights.or(Some(rights)).filter(|rights| *rights != user.rights);
        if change == UserChange::default() {
            return Err(Failure::usage("nothing to change: see `keywheel users set --help`"));
        }
        ops::change_user(store, &user, &change, &session.by()).await?;
        let user = ops::find_user(store, &user.id).await?;
        note(format_args!("user {} is changed", user.username));
        tell_of_free_scopes(session, &user.rights);
        if self.json { Ok(print_json(&document(&user))?) } else { Ok(()) }
    }
}

impl Password {
    async fn run(self, session: &Session, store: &Store) -> Result<(), Failure> {
        let user = ops::find_user(store, &self.user).await?;
        if user.declared {
            return Err(UserError::Declared(user.username).into());
        }
        let name = user.claims.get("name").and_then(|name| name.as_str());
        let about = about(&user.username, user.email.as_deref(), name);
        let password = if self.remove { None } else { Some(self.source.read(session, &about)?) };
        let given = password.as_ref().map(|password| password.as_str());
        ops::set_password(store, &passwords(session), &user, given, &session.by()).await?;
        let what = if password.is_some() { "has another password" } else { "has no password any more" };
        if self.keep_sessions {
            note(format_args!("user {} {what}", user.username));
        } else {
            let ended = ops::sign_out(store, &session.config, &user, &session.by()).await?;
            note(format_args!("user {} {what}; {}", user.username, count(ended.len())));
        }
        match password.filter(|_| self.source.generate) {
            Some(password) => tell_password(&user.id, &user.username, &password, self.json),
            None if self.json => Ok(print_json(&json!({ "sub": user.id, "username": user.username }))?),
            None => Ok(()),
        }
    }
}

impl PasswordSource {
    /// A password that is not easy to guess.
    fn read(&self, session: &Session, about: &[&str]) -> Result<Zeroizing<String>, Failure> {
        if self.generate {
            let made = ops::new_password(session.edges.entropy.as_ref());
            return made.map_err(|error| Failure::failed(error.to_string()));
        }
        let password = match &self.password_file {
            Some(file) => text(file)?,
            None => prompt::new_password(about.first().copied().unwrap_or_default())?,
        };
        judge_new_password(&password, about)
            .map_err(|weakness| Failure::usage(format!("this password is not taken: {weakness}")))?;
        Ok(password)
    }
}

/// A scope that everybody may have need not be granted.
fn tell_of_free_scopes(session: &Session, rights: &Rights) {
    for scope in rights.scopes.iter().filter(|scope| !session.config.scopes.restrict(std::slice::from_ref(*scope))) {
        note(format_args!("they have {scope}, to no effect: no [[scope]] of it has roles in the configuration"));
    }
}

/// What others know of somebody, which their password should not be.
fn about<'a>(username: &'a str, email: Option<&'a str>, name: Option<&'a str>) -> Vec<&'a str> {
    [Some(username), email, name].into_iter().flatten().collect()
}

fn passwords(session: &Session) -> Arc<Passwords> {
    Arc::new(Passwords::new(session.config.limits.password_concurrency, &session.edges))
}

fn list(session: &Session, users: Vec<User>, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print_json(&users.iter().map(document).collect())?);
    }
    let unstored = session.config.users.iter().filter(|it| users.iter().all(|user| user.username != it.username));
    let unstored = unstored.count();
    if unstored > 0 {
        note(format_args!("{unstored} declared in the configuration are stored at the next start of the server"));
    }
    if users.is_empty() {
        note("there are no users: `keywheel users add NAME` makes one");
        return Ok(());
    }
    let mut table = Table::new(["USERNAME", "EMAIL", "NAME", "ROLES", "STATE", "ID"]);
    for user in users {
        let name = user.claims.get("name").and_then(|name| name.as_str()).unwrap_or_default();
        let name = show::plain(name);
        let (roles, state) = (user.roles.join(" "), state(&user));
        table.row([user.username, user.email.unwrap_or_default(), name, roles, state, user.id]);
    }
    Ok(print(&table.render())?)
}

async fn import(session: &Session, store: &Store, file: &Path, json: bool) -> Result<(), Failure> {
    let refused = |problems: Vec<String>| {
        Failure::failed(format!("nothing was imported from {}:\n  {}", file.display(), problems.join("\n  ")))
    };
    let drafts = parse_users(&read_input(file)?)
        .map_err(|problems| refused(problems.iter().map(ToString::to_string).collect()))?;
    let plain = drafts.iter().filter(|user| matches!(user.password, Some(GivenPassword::Plain(_)))).count();
    if plain >= MANY {
        note(format_args!("hashing {plain} passwords"));
    }
    let entropy = session.edges.entropy.as_ref();
    let added = ops::add_users(store, &passwords(session), drafts, entropy, &session.by()).await;
    let added = match added {
        Err(UserError::Problems(problems)) => {
            return Err(refused(problems.iter().map(ToString::to_string).collect()));
        }
        added => added?,
    };
    note(format_args!("imported {} users", added.len()));
    if json {
        let users: Vec<_> = added.iter().map(|user| json!({ "sub": user.id, "username": user.username })).collect();
        print_json(&json!({ "imported": users }))?;
    }
    Ok(())
}

/// A file's text without the line end behind it.
fn text(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = read_input(file)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::usage(format!("{} is not text", file.display())))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

/// The only time the password is seen.
fn tell_password(id: &str, username: &str, password: &str, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print_json(&json!({ "sub": id, "username": username, "password": password }))?);
    }
    note("the password is shown this once and stored only as a hash:");
    Ok(print(&format!("username  {username}\npassword  {password}\n"))?)
}

fn count(sessions: usize) -> String {
    match sessions {
        0 => "they were signed in nowhere".to_owned(),
        1 => "1 session is ended".to_owned(),
        more => format!("{more} sessions are ended"),
    }
}

/// Passwords whose hashing takes long enough to be announced.
const MANY: usize = 50;
