//! What a token or the UserInfo endpoint says about a person: the claims of each scope (OpenID Connect Core §5.4), and
//! single ones that were asked for (§5.5).

use serde_json::{Map, Value, json};

use crate::clients::Client;
use crate::users::User;

/// The claims of a scope; none for a scope that is not about the person.
pub(crate) fn claims_of_scope(scope: &str) -> &'static [&'static str] {
    match scope {
        "profile" => &PROFILE,
        "email" => &["email", "email_verified"],
        "address" => &["address"],
        "phone" => &["phone_number", "phone_number_verified"],
        "roles" => &["roles", "groups"],
        _ => &[],
    }
}

/// What is known about `user` of these claims, as `client` sees them: with its roles alone. What is not known is left out
/// (§5.3.2: "it SHOULD be omitted [...] it SHOULD NOT be present with a null or empty string value").
pub(crate) fn claims<'a>(
    client: &Client,
    user: &User,
    wanted: impl IntoIterator<Item = &'a str>,
) -> Map<String, Value> {
    let known = wanted.into_iter().filter_map(|name| Some((name.to_owned(), claim(client, user, name)?)));
    known.filter(|(_, value)| !is_empty(value)).collect()
}

/// The claims of these scopes, and `sub` in any case (§5.3.2).
pub(crate) fn shown_to<'a>(client: &Client, user: &User, scopes: impl Iterator<Item = &'a str>) -> Map<String, Value> {
    let mut known = claims(client, user, scopes.flat_map(claims_of_scope).copied());
    known.insert("sub".to_owned(), json!(user.id));
    known
}

fn claim(client: &Client, user: &User, name: &str) -> Option<Value> {
    match name {
        "preferred_username" => Some(json!(user.username)),
        "email" => user.email.as_ref().map(|email| json!(email)),
        "email_verified" => user.email.is_some().then(|| json!(user.email_verified)),
        "updated_at" => Some(json!(user.updated_at.as_unix())),
        "roles" => Some(json!(client.visible_roles(user.roles_at(&client.id)))),
        "groups" => Some(json!(user.groups)),
        name if RESERVED.contains(&name) => None,
        name => user.claims.get(name).cloned(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// §5.4
const PROFILE: [&str; 14] = [
    "name",
    "family_name",
    "given_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "updated_at",
];

/// What a token says of itself; nothing that is stored about a person may be taken for it.
const RESERVED: [&str; 17] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "azp",
    "nonce",
    "acr",
    "amr",
    "auth_time",
    "at_hash",
    "c_hash",
    "sid",
    "client_id",
    "cnf",
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::users::Rights;
    use keywheel_jose::Timestamp;

    pub(crate) fn alice() -> User {
        let claims =
            json!({"name": "Alice Example", "given_name": "Alice", "website": "", "sub": "mallory", "team": "a"});
        User {
            id: "u-alice".to_owned(),
            username: "alice".to_owned(),
            email: Some("alice@example.com".to_owned()),
            email_verified: true,
            claims: claims.as_object().expect("an object").clone(),
            roles: vec!["admin".to_owned()],
            groups: Vec::new(),
            rights: Rights::default(),
            password_hash: None,
            disabled: false,
            declared: false,
            created_at: Timestamp::from_unix(1_800_000_000),
            updated_at: Timestamp::from_unix(1_800_000_000),
            password_changed_at: None,
        }
    }

    fn client(roles: Option<Vec<String>>) -> Client {
        Client { roles, ..Client::new("app", crate::clients::Authentication::None) }
    }

    fn known(names: &[&str]) -> Value {
        Value::Object(claims(&client(None), &alice(), names.iter().copied()))
    }

    #[test]
    fn a_scope_brings_what_is_known() {
        let profile = json!({
            "name": "Alice Example", "given_name": "Alice", "preferred_username": "alice", "updated_at": 1_800_000_000,
        });

        assert_eq!(known(claims_of_scope("profile")), profile);
        assert_eq!(known(claims_of_scope("email")), json!({"email": "alice@example.com", "email_verified": true}));
        assert_eq!(known(claims_of_scope("roles")), json!({"roles": ["admin"]}));
        assert_eq!(known(claims_of_scope("phone")), json!({}));
        assert_eq!(known(claims_of_scope("openid")), json!({}));
    }

    #[test]
    fn a_client_sees_its_own_roles_alone() {
        let app = client(Some(vec!["editor".to_owned()]));

        assert_eq!(claims(&app, &alice(), ["roles"]), Map::new());
    }

    #[test]
    fn stored_claims_can_not_speak_for_the_token() {
        assert_eq!(known(&["sub", "team", "iss"]), json!({"team": "a"}));
    }
}
