//! A user as people and machines see them; never a hash.

use serde_json::{Map, Value, json};

use crate::cli::output::Table;
use crate::storage::Session;
use crate::users::User;

/// Standard claims with what is ours beside them, most of which `keywheel users import` reads again.
pub(super) fn document(user: &User) -> Value {
    let mut document: Map<String, Value> = user.claims.clone();
    let own = json!({
        "sub": user.id,
        "username": user.username,
        "email": user.email,
        "email_verified": user.email_verified,
        "roles": user.roles,
        "groups": user.groups,
        "scopes": user.rights.scopes,
        "client_roles": user.rights.client_roles,
        "disabled": user.disabled,
        "declared": user.declared,
        "has_password": user.password_hash.is_some(),
        "created_at": user.created_at,
        "updated_at": user.updated_at,
        "password_changed_at": user.password_changed_at,
    });
    if let Value::Object(own) = own {
        document.extend(own);
    }
    Value::Object(document)
}

/// A line for each thing there is to say.
pub(super) fn describe(user: &User) -> String {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let verified = if user.email_verified { " (verified)" } else { "" };
    let email = user.email.as_ref().map(|email| format!("{email}{verified}"));
    let time = |at: Option<keywheel_jose::Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let mut lines = vec![
        ("id", user.id.clone()),
        ("username", user.username.clone()),
        ("email", email.unwrap_or_default()),
        ("state", state(user)),
        ("roles", user.roles.join(" ")),
        ("groups", user.groups.join(" ")),
        ("scopes", user.rights.scopes.join(" ")),
        ("added", time(Some(user.created_at))),
        ("changed", time(Some(user.updated_at))),
        ("password set", time(user.password_changed_at)),
    ];
    let at_clients: Vec<(String, String)> =
        user.rights.client_roles.iter().map(|(id, roles)| (format!("roles at {id}"), roles.join(" "))).collect();
    lines.extend(at_clients.iter().map(|(name, roles)| (name.as_str(), roles.clone())));
    for (name, value) in &user.claims {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.push((name, value));
    }
    let lines = lines.into_iter().map(|(name, value)| (plain(name), or_dash(plain(&value))));
    let lines: Vec<(String, String)> = lines.collect();
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.into_iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Whether and by whom they are kept from signing in, and where they come from.
pub(super) fn state(user: &User) -> String {
    let states =
        [(user.disabled, "disabled"), (user.password_hash.is_none(), "no password"), (user.declared, "declared")];
    states.iter().filter(|(is, _)| *is).map(|(_, state)| *state).collect::<Vec<_>>().join(", ")
}

pub(super) fn session_document(session: &Session) -> Value {
    json!({
        "sid": session.sid,
        "auth_time": session.auth_time,
        "amr": session.amr,
        "acr": session.acr,
        "created_at": session.created_at,
        "last_seen_at": session.last_seen_at,
        "expires_at": session.expires_at,
        "address": session.address,
        "user_agent": session.user_agent,
    })
}

pub(super) fn session_table(sessions: &[Session]) -> Table {
    let mut table = Table::new(["SESSION", "SIGNED IN", "LAST SEEN", "ENDS", "ADDRESS", "BROWSER"]);
    for session in sessions {
        let ends = session.expires_at.min(session.idle_expires_at);
        let [signed_in, seen, ends] = [session.auth_time, session.last_seen_at, ends].map(|at| at.to_string());
        table.row([session.sid.clone(), signed_in, seen, ends, plain(&session.address), plain(&session.user_agent)]);
    }
    table
}

/// What strangers wrote must not steer the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_does_not_steer_the_terminal() {
        assert_eq!(plain("\u{1b}[2Jx\r\n"), "\u{fffd}[2Jx\u{fffd}\u{fffd}");
    }
}
