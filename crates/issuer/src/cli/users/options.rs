//! What `keywheel users add` and `set` can say about a user.

use clap::Args;
use serde_json::{Map, Value};

use crate::cli::Failure;
use crate::clients::{parse_id, parse_role, parse_scope};
use crate::storage::UserChange;
use crate::users::{Rights, check_claim, parse_email};

#[derive(Args)]
pub(super) struct Options {
    /// The e-mail address to sign in with
    #[arg(long)]
    email: Option<String>,
    /// It is known to be theirs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    email_verified: Option<bool>,
    /// Their full name
    #[arg(long)]
    name: Option<String>,
    /// What they may do; repeat for more. These and no others
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Where they belong; repeat for more. These and no others
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A restricted scope they get whatever their roles are; repeat for more. These and no others
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A role at one client alone; repeat for more. Of each client that is named these and no others: shop= takes them away
    #[arg(long = "client-role", value_name = "CLIENT=ROLE", value_parser = client_role)]
    client_roles: Vec<(String, Option<String>)>,
    /// Something else that tokens shall say, such as given_name=Alice; repeat for more
    #[arg(long = "claim", value_name = "NAME=TEXT", value_parser = text_claim)]
    claims: Vec<(String, Value)>,
    /// The same for what is no text, such as 'address={"locality":"Berlin"}'; repeat for more
    #[arg(long = "claim-json", value_name = "NAME=JSON", value_parser = json_claim)]
    json_claims: Vec<(String, Value)>,
}

impl Options {
    /// What becomes of a user with these claims and rights.
    pub(super) fn change(
        &self,
        unset: &[String],
        mut claims: Map<String, Value>,
        mut rights: Rights,
    ) -> Result<UserChange, Failure> {
        let wrong = |option: &str, why: &dyn std::fmt::Display| Failure::usage(format!("--{option}: {why}"));
        let mut change = UserChange { email_verified: self.email_verified, ..UserChange::default() };
        let (before, rights_before) = (claims.clone(), rights.clone());
        for name in unset {
            match name.as_str() {
                "email" => (change.email, change.email_verified) = (Some(None), Some(false)),
                "roles" => change.roles = Some(Vec::new()),
                "groups" => change.groups = Some(Vec::new()),
                "scopes" => rights.scopes.clear(),
                "client_roles" => rights.client_roles.clear(),
                claim => {
                    claims.remove(claim).ok_or_else(|| wrong("unset", &format!("they have no claim {claim}")))?;
                }
            }
        }
        if let Some(email) = &self.email {
            change.email = Some(Some(parse_email(email).map_err(|why| wrong("email", &why))?));
            // Another address is not known to be theirs because the one before was.
            change.email_verified = Some(self.email_verified.unwrap_or(false));
        }
        let name = self.name.iter().map(|name| ("name".to_owned(), Value::String(name.clone())));
        for (name, value) in name.chain(self.claims.iter().chain(&self.json_claims).cloned()) {
            check_claim(&name, &value).map_err(|why| wrong("claim", &format!("{name}: {why}")))?;
            claims.insert(name, value);
        }
        change.claims = Some(claims).filter(|claims| *claims != before);
        for (option, given, place) in
            [("role", &self.roles, &mut change.roles), ("group", &self.groups, &mut change.groups)]
        {
            if !given.is_empty() {
                let names: Result<Vec<String>, _> = given.iter().map(|name| parse_role(name)).collect();
                *place = Some(names.map_err(|why| wrong(option, &why))?);
            }
        }
        if !self.scopes.is_empty() {
            let scopes: Result<Vec<String>, _> = self.scopes.iter().map(|scope| parse_scope(scope)).collect();
            rights.scopes = scopes.map_err(|why| wrong("scope", &why))?;
        }
        for (client_id, _) in &self.client_roles {
            rights.client_roles.remove(client_id);
        }
        for (client_id, role) in &self.client_roles {
            if let Some(role) = role {
                rights.client_roles.entry(client_id.clone()).or_default().push(role.clone());
            }
        }
        change.rights = Some(rights).filter(|rights| *rights != rights_before);
        Ok(change)
    }
}

fn text_claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=TEXT")?;
    Ok((name.to_owned(), Value::String(value.to_owned())))
}

fn client_role(text: &str) -> Result<(String, Option<String>), String> {
    let (client_id, role) = text.split_once('=').ok_or("expected CLIENT=ROLE")?;
    let client_id = parse_id(client_id).map_err(|error| error.to_string())?;
    let role = Some(role).filter(|role| !role.is_empty()).map(parse_role).transpose();
    Ok((client_id, role.map_err(|error| error.to_string())?))
}

fn json_claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=JSON")?;
    let value = serde_json::from_str(value).map_err(|error| format!("not JSON: {error}"))?;
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn change(arguments: &[&str], unset: &[&str]) -> Result<UserChange, Failure> {
        let line = Line::try_parse_from([&["users"], arguments].concat()).expect("good arguments");
        let unset: Vec<String> = unset.iter().map(|name| (*name).to_owned()).collect();
        let claims = json!({ "name": "Alice", "level": 3 });
        let rights = Rights {
            scopes: vec!["invoices:write".to_owned()],
            client_roles: [("shop".to_owned(), vec!["clerk".to_owned()])].into(),
        };
        line.options.change(&unset, claims.as_object().expect("an object").clone(), rights)
    }

    #[test]
    fn what_is_not_named_stays_as_it_is() {
        assert_eq!(change(&[], &[]).expect("nothing"), UserChange::default());
    }

    #[test]
    fn claims_are_added_to_those_there_are() {
        let change = change(&["--claim", "given_name=Al=ice", "--claim-json", "level=4"], &["name"]).expect("a change");

        let expected = json!({ "given_name": "Al=ice", "level": 4 });
        assert_eq!(change.claims.map(Value::Object), Some(expected));
        assert_eq!((change.email, change.roles), (None, None));
    }

    #[test]
    fn rights_are_exchanged_where_they_are_named() {
        let rights = |arguments: &[&str], unset: &[&str]| {
            let rights = change(arguments, unset).expect("a change").rights.expect("other rights");
            let at: Vec<String> =
                rights.client_roles.iter().map(|(id, roles)| format!("{id}={}", roles.join(","))).collect();
            (rights.scopes.join(" "), at.join(" "))
        };
        let expected = |scopes: &str, roles: &str| (scopes.to_owned(), roles.to_owned());

        assert_eq!(rights(&["--scope", "a", "--scope", "b"], &[]), expected("a b", "shop=clerk"));
        let managers = ["--client-role", "shop=manager", "--client-role", "bank=a", "--client-role", "bank=b"];
        assert_eq!(rights(&managers, &[]), expected("invoices:write", "bank=a,b shop=manager"));
        assert_eq!(rights(&["--client-role", "shop="], &["scopes"]), expected("", ""));
        assert_eq!(rights(&[], &["client_roles"]), expected("invoices:write", ""));
        assert_eq!(change(&["--scope", "invoices:write"], &[]).expect("no change"), UserChange::default());
    }

    #[test]
    fn another_address_is_not_verified_unless_it_is_said() {
        let unsaid = change(&["--email", "a@example.com"], &[]).expect("a change");
        let said = change(&["--email", "a@example.com", "--email-verified"], &[]).expect("a change");
        let gone = change(&[], &["email"]).expect("a change");

        assert_eq!((unsaid.email, unsaid.email_verified), (Some(Some("a@example.com".to_owned())), Some(false)));
        assert_eq!(said.email_verified, Some(true));
        assert_eq!((gone.email, gone.email_verified), (Some(None), Some(false)));
    }

    #[test]
    fn what_tokens_are_trusted_for_cannot_be_claimed() {
        for arguments in [["--claim", "roles=admin"], ["--claim-json", "name=1"], ["--email", "x"], ["--role", "a b"]] {
            assert!(change(&arguments, &[]).is_err(), "{arguments:?}");
        }
        assert!(change(&[], &["nickname"]).is_err(), "there is none");
    }
}
