//! The people who sign in.

mod hashes;
mod import;
mod pace;
mod passwords;
mod profile;
mod rights;

use std::fmt;

use icu_normalizer::ComposingNormalizer;
use keywheel_jose::Timestamp;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

pub(crate) use self::hashes::CURRENT_PREFIX;
pub use self::hashes::{InvalidHash, parse_password_hash};
pub use self::import::{GivenPassword, UserDraft, UserProblem, parse_users};
pub use self::pace::ForeignHashes;
pub use self::passwords::{
    Checked, MAX_CHARACTERS, MIN_CHARACTERS, PasswordError, Passwords, Verdict, WeakPassword, judge_new_password,
};
pub(crate) use self::profile::{RESERVED_CLAIMS, TEXT_CLAIMS, check_address, check_claim, parse_email, parse_username};
pub(crate) use self::rights::parse_client_roles;
pub use self::rights::{ClientRoles, Rights};

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The subject of their tokens (`sub`): opaque, and never given to anybody else.
    pub id: String,
    /// The name they sign in with, as they write it (`preferred_username`).
    pub username: String,
    /// Their e-mail address, which they may sign in with too.
    pub email: Option<String>,
    /// Whether it is known to be theirs.
    pub email_verified: bool,
    /// More claims: `name`, `given_name`, `address`, and whatever else the operator stores.
    pub claims: Map<String, Value>,
    /// What they may do.
    pub roles: Vec<String>,
    /// Where they belong.
    pub groups: Vec<String>,
    /// What else they may do.
    pub rights: Rights,
    /// `None` for somebody without a password.
    pub password_hash: Option<PasswordHash>,
    /// Whether they may not sign in.
    pub disabled: bool,
    /// Whether they come from the configuration, which alone can change them.
    pub declared: bool,
    /// When they were stored.
    pub created_at: Timestamp,
    /// When anything about them was last changed.
    pub updated_at: Timestamp,
    /// When they last got another password; `None` without one.
    pub password_changed_at: Option<Timestamp>,
}

/// Somebody to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewUser {
    /// 128 random bits, which nobody had before.
    pub id: String,
    /// The name to sign in with.
    pub username: String,
    /// The e-mail address to sign in with.
    pub email: Option<String>,
    /// Whether it is known to be theirs.
    pub email_verified: bool,
    /// More claims.
    pub claims: Map<String, Value>,
    /// What they may do.
    pub roles: Vec<String>,
    /// Where they belong.
    pub groups: Vec<String>,
    /// What else they may do.
    pub rights: Rights,
    /// `None` for somebody without a password.
    pub password_hash: Option<PasswordHash>,
    /// Whether they may not sign in.
    pub disabled: bool,
}

impl User {
    /// Their roles at a client: those that count everywhere, and those that count there alone.
    pub fn roles_at(&self, client_id: &str) -> impl Iterator<Item = &String> {
        let own = self.rights.client_roles.get(client_id).into_iter().flatten();
        self.roles.iter().chain(own.filter(|role| !self.roles.contains(role)))
    }
}

/// The hash of a password, with its algorithm and parameters, as a PHC string.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Zeroizing<String>);

impl PasswordHash {
    /// A PHC string; whether it is one is found out when a password is checked.
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(Zeroizing::new(phc))
    }

    /// The PHC string.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(…)")
    }
}

/// What user names and e-mail addresses are compared by: compatible characters and upper and lower case are the same.
#[must_use]
pub fn login_key(name: &str) -> String {
    let normalizer = ComposingNormalizer::new_nfkc();
    // A letter in lower case may be one that is written otherwise in its normal form.
    normalizer.normalize(&normalizer.normalize(name).to_lowercase()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_the_same_are_the_same() {
        for (one, other) in [("Alice", "alice"), ("ＡＬＩＣＥ", "alice"), ("e\u{301}", "É"), ("ﬁn", "FIN"), ("Å", "å")]
        {
            assert_eq!(login_key(one), login_key(other), "{one} {other}");
        }
        for (one, other) in [("alice", "alice2"), ("е", "e"), ("a b", "ab")] {
            assert_ne!(login_key(one), login_key(other), "{one} {other}");
        }
    }

    #[test]
    fn a_key_is_its_own_key() {
        for name in ["İstanbul", "ϓ", "ﬀ", "ẞ", "Ω", "ª"] {
            assert_eq!(login_key(&login_key(name)), login_key(name), "{name}");
        }
    }

    #[test]
    fn a_hash_is_not_printed() {
        let hash = PasswordHash::new("$argon2id$v=19$secret".to_owned());

        assert!(!format!("{hash:?}").contains("secret"));
        assert_eq!(hash.expose(), "$argon2id$v=19$secret");
    }
}
