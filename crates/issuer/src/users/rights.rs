//! What somebody may do beyond their roles: scopes of their own, and roles that count at one client alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::clients::{self, InvalidClient};

/// More that somebody may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Restricted scopes that they may have whatever their roles are.
    pub scopes: Vec<String>,
    /// The roles that they have at one client alone, by its id.
    pub client_roles: ClientRoles,
}

/// Roles by the id of the client that they count at.
pub type ClientRoles = BTreeMap<String, Vec<String>>;

impl Rights {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty() && self.client_roles.is_empty()
    }
}

/// Reads roles as files have them: `{"shop": ["manager"]}`.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn parse_client_roles(object: &Map<String, Value>) -> Result<ClientRoles, String> {
    let mut roles = ClientRoles::new();
    for (client_id, names) in object {
        let client_id = clients::parse_id(client_id).map_err(|error| format!("{client_id:?}: {error}"))?;
        let names = names.as_array().ok_or_else(|| format!("{client_id}: expected an array of strings"))?;
        let mut own: Vec<String> = Vec::new();
        for name in names {
            let name = name.as_str().ok_or_else(|| format!("{client_id}: expected an array of strings"))?;
            let name = clients::parse_role(name).map_err(|error: InvalidClient| format!("{client_id}: {error}"))?;
            if !own.contains(&name) {
                own.push(name);
            }
        }
        if !own.is_empty() {
            roles.insert(client_id, own);
        }
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(object: Value) -> Result<ClientRoles, String> {
        parse_client_roles(object.as_object().expect("an object"))
    }

    #[test]
    fn roles_at_a_client_are_read_once_each() {
        let roles = parsed(json!({ "shop": ["manager", "clerk", "manager"], "bank": [] })).expect("in order");

        assert_eq!(roles, [("shop".to_owned(), vec!["manager".to_owned(), "clerk".to_owned()])].into());
    }

    #[test]
    fn what_is_no_client_or_no_role_is_refused() {
        for object in [
            json!({ "shop": "manager" }),
            json!({ "shop": [7] }),
            json!({ "shop": ["two words"] }),
            json!({ "a b": ["manager"] }),
            json!({ "": [] }),
        ] {
            assert!(parsed(object.clone()).is_err(), "{object}");
        }
    }
}
