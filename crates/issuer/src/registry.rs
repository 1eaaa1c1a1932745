//! The clients in memory: declared in the configuration or stored, found without touching the database.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use crate::clients::Client;

/// All clients, by id. A declared client hides a stored one of the same id.
#[derive(Default)]
pub struct Registry(HashMap<String, Arc<Client>>);

impl Registry {
    /// A registry of these clients; of two with the same id the first counts.
    pub fn new(clients: impl IntoIterator<Item = Client>) -> Self {
        let mut by_id = HashMap::new();
        for client in clients {
            by_id.entry(client.id.clone()).or_insert_with(|| Arc::new(client));
        }
        Self(by_id)
    }

    /// The client with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Arc<Client>> {
        self.0.get(id)
    }

    /// The client with this id, if `secret` is its secret. An unknown id takes as long as a wrong secret, and so does a
    /// client that has none.
    #[must_use]
    pub fn authenticate(&self, id: &str, secret: &str) -> Option<Arc<Client>> {
        let given = digest(&SHA256, secret.as_bytes());
        let known = self.find(id);
        let expected = known.and_then(|client| client.authentication.secret_sha256());
        let equal = bool::from(given.as_ref().ct_eq(expected.unwrap_or(&[0; 32])));
        known.filter(|_| equal && expected.is_some()).cloned()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.0.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clients::{Authentication, SecretMethod, Source, hash_secret};

    pub(crate) fn client(id: &str, secret: &str, method: Option<SecretMethod>) -> Client {
        let authentication = Authentication::Secret { sha256: hash_secret(secret.as_bytes()), method };
        Client {
            scopes: vec!["invoices:read".to_owned(), "invoices:write".to_owned()],
            audiences: vec!["https://api.example.com".to_owned(), "https://other.example.com".to_owned()],
            source: Source::Declared,
            ..Client::new(id, authentication)
        }
    }

    #[test]
    fn only_the_right_secret_authenticates() {
        let registry = Registry::new([client("a", "right", None)]);

        assert!(registry.authenticate("a", "right").is_some());
        assert!(registry.authenticate("a", "wrong").is_none());
        assert!(registry.authenticate("a", "").is_none());
        assert!(registry.authenticate("b", "right").is_none());
    }

    #[test]
    fn a_declared_client_hides_a_stored_one() {
        let registry = Registry::new([client("a", "declared", None), client("a", "stored", None)]);

        assert!(registry.authenticate("a", "declared").is_some());
        assert!(registry.authenticate("a", "stored").is_none());
    }

    #[test]
    fn a_client_without_a_secret_is_found_but_does_not_authenticate_by_one() {
        let registry = Registry::new([Client::new("app", Authentication::None)]);

        assert!(registry.find("app").is_some_and(|client| client.is_public()));
        assert!(registry.authenticate("app", "").is_none());
        assert!(registry.authenticate("app", "anything").is_none());
    }
}
