//! The scopes that the operator declared: who may have them, and what people are told of them.
//!
//! 1. What a client may ask for is registered with the client. A scope that is declared with `roles` is restricted
//!    besides: on behalf of a person it is granted only where the person has one of these roles, everywhere or at that
//!    client, or was granted the scope directly.
//! 2. A scope that the person may not have is left out, and the answer says what is in (RFC 6749 §3.3). Where that is
//!    nothing, there is nothing to grant.
//! 3. That is asked anew whenever tokens are issued, so who loses a role loses its scopes with the next token.
//!
//! What a client gets for itself is about no person, so it is not restricted.

use std::collections::BTreeMap;

use crate::users::User;

/// A scope that was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What clients ask for.
    pub name: String,
    /// What people are asked to agree to instead of the name.
    pub description: Option<Description>,
    /// The roles whose holders may have it; an empty list leaves those who were granted it directly. `None`: everybody.
    pub roles: Option<Vec<String>>,
}

/// A text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// The same in every language.
    One(String),
    /// By the tag of the language.
    ByLanguage(BTreeMap<String, String>),
}

/// All that were declared, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Scopes with different names.
    #[must_use]
    pub fn new(scopes: Vec<Scope>) -> Self {
        Self(scopes)
    }

    /// Those of `scopes` that a client may have on behalf of somebody; `None` when there were some and none is left.
    #[must_use]
    pub fn permitted(&self, user: &User, client_id: &str, scopes: &[String]) -> Option<Vec<String>> {
        let permitted = scopes.iter().filter(|scope| self.permits(user, client_id, scope));
        let permitted: Vec<String> = permitted.cloned().collect();
        (scopes.is_empty() || !permitted.is_empty()).then_some(permitted)
    }

    /// Whether it depends on the person who may have one of `scopes`.
    #[must_use]
    pub fn restrict(&self, scopes: &[String]) -> bool {
        scopes.iter().any(|scope| self.roles_for(scope).is_some())
    }

    /// Whether it depends on the person who may have some scope or other.
    #[must_use]
    pub fn restrict_any(&self) -> bool {
        self.0.iter().any(|scope| scope.roles.is_some())
    }

    /// What people are told of a scope; in the language of this tag, or else in `default`.
    #[must_use]
    pub fn description(&self, scope: &str, language: &str, default: &str) -> Option<&str> {
        match self.find(scope)?.description.as_ref()? {
            Description::One(text) => Some(text),
            Description::ByLanguage(texts) => {
                let text = texts.get(language).or_else(|| texts.get(default));
                text.or_else(|| texts.values().next()).map(String::as_str)
            }
        }
    }

    fn permits(&self, user: &User, client_id: &str, scope: &str) -> bool {
        let Some(roles) = self.roles_for(scope) else { return true };
        user.rights.scopes.iter().any(|own| own == scope) || user.roles_at(client_id).any(|role| roles.contains(role))
    }

    fn roles_for(&self, scope: &str) -> Option<&Vec<String>> {
        self.find(scope)?.roles.as_ref()
    }

    fn find(&self, name: &str) -> Option<&Scope> {
        self.0.iter().find(|scope| scope.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::profile::tests::alice;
    use crate::users::Rights;

    fn scope(name: &str, roles: Option<&[&str]>) -> Scope {
        let roles = roles.map(|roles| roles.iter().map(|role| (*role).to_owned()).collect());
        Scope { name: name.to_owned(), description: None, roles }
    }

    fn scopes() -> Scopes {
        Scopes::new(vec![
            scope("invoices:read", None),
            scope("invoices:write", Some(&["accountant", "chief"])),
            scope("invoices:delete", Some(&[])),
        ])
    }

    fn permitted(roles: &[&str], rights: Rights, client_id: &str, wanted: &str) -> Option<String> {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let user = User { roles, rights, ..alice() };
        let wanted: Vec<String> = wanted.split_whitespace().map(str::to_owned).collect();
        scopes().permitted(&user, client_id, &wanted).map(|scopes| scopes.join(" "))
    }

    #[test]
    fn a_restricted_scope_is_for_holders_of_one_of_its_roles() {
        let wanted = "openid invoices:write unheard:of";

        assert_eq!(permitted(&[], Rights::default(), "shop", wanted).as_deref(), Some("openid unheard:of"));
        assert_eq!(permitted(&["chief"], Rights::default(), "shop", wanted).as_deref(), Some(wanted));
        assert_eq!(permitted(&["invoices:write"], Rights::default(), "shop", "invoices:write"), None);
    }

    #[test]
    fn a_scope_that_was_granted_directly_needs_no_role() {
        let rights = Rights { scopes: vec!["invoices:delete".to_owned()], ..Rights::default() };

        let all = "invoices:read invoices:write invoices:delete";
        assert_eq!(permitted(&[], rights, "shop", all).as_deref(), Some("invoices:read invoices:delete"));
        assert_eq!(permitted(&["accountant", "chief"], Rights::default(), "shop", "invoices:delete"), None);
    }

    #[test]
    fn a_role_at_one_client_counts_there_alone() {
        let at_shop = || Rights {
            client_roles: [("shop".to_owned(), vec!["accountant".to_owned()])].into(),
            ..Rights::default()
        };

        assert_eq!(permitted(&[], at_shop(), "shop", "invoices:write").as_deref(), Some("invoices:write"));
        assert_eq!(permitted(&[], at_shop(), "bank", "invoices:write"), None);
    }

    #[test]
    fn nothing_of_nothing_is_no_refusal() {
        assert_eq!(permitted(&[], Rights::default(), "shop", "").as_deref(), Some(""));
    }

    #[test]
    fn it_is_known_where_the_person_need_not_be_asked_for() {
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();

        assert!(scopes().restrict(&named(&["openid", "invoices:delete"])));
        assert!(!scopes().restrict(&named(&["openid", "invoices:read"])));
        assert!(scopes().restrict_any() && !Scopes::default().restrict_any());
    }

    #[test]
    fn a_description_is_in_the_language_of_the_page_or_in_the_next_best() {
        let texts = [("de", "Rechnungen ändern"), ("en", "Change invoices")];
        let texts = texts.map(|(tag, text)| (tag.to_owned(), text.to_owned())).into();
        let description = Some(Description::ByLanguage(texts));
        let one = Some(Description::One("Read invoices".to_owned()));
        let scopes = Scopes::new(vec![
            Scope { description, ..scope("write", None) },
            Scope { description: one, ..scope("read", None) },
        ]);

        assert_eq!(scopes.description("write", "de", "en"), Some("Rechnungen ändern"));
        assert_eq!(scopes.description("write", "fr", "en"), Some("Change invoices"));
        assert_eq!(scopes.description("write", "fr", "nl"), Some("Rechnungen ändern"));
        assert_eq!(scopes.description("read", "de", "en"), Some("Read invoices"));
        assert_eq!(scopes.description("other", "de", "en"), None);
    }
}
