//! What the log and the metrics are told about another key set: what has changed, and what somebody should look at.
//!
//! An alarm never stops a set from being used. The issuer is the authority on its keys, the set came from it over TLS, and
//! refusing what it says would turn its unusual day into our outage.

use std::error::Error;

use keywheel_jose::{KeySet, PublicJwk, RefusedKey};
use tracing::field::display;

use crate::metrics::{Alarm, KeysChanged, Meter};
use crate::text::excerpt;

/// The target of alarms in the log.
pub(crate) const ALARM: &str = "keywheel_verifier::alarm";

/// One line for the change, one for each alarm, one for each entry that is not used.
pub(crate) fn report(before: Option<&KeySet>, after: &KeySet, generation: u64, meter: &Meter) {
    let (added, removed) =
        (kids_not_in(after, before), before.map_or(String::new(), |before| kids_not_in(before, Some(after))));
    tracing::info!(generation, keys = after.len(), %added, %removed, "the key set has changed");
    let change = KeysChanged { generation, keys: after.len(), refused: after.refused().len() };
    meter.tell(|metrics| metrics.keys_changed(&change));

    if let Some(before) = before {
        for kid in reused_kids(before, after) {
            let kid = excerpt(kid);
            tracing::error!(target: ALARM, %kid, generation, "a kid names another key than before; the new key is used");
            meter.tell(|metrics| metrics.alarm(Alarm::KidReused));
        }
        if nothing_in_common(before, after) {
            tracing::warn!(target: ALARM, generation, %added, %removed, "all keys were replaced at once");
            meter.tell(|metrics| metrics.alarm(Alarm::AllKeysReplaced));
        }
    }
    for refused in after.refused().iter().filter(|refused| !refused.is_alarming()) {
        let (index, kid, reason) = (refused.index, refused.kid.as_deref().map(display), &refused.reason as &dyn Error);
        if refused.reason.is_unsupported() {
            tracing::debug!(index, kid, reason, "an entry of the key set is of a kind that is not used here");
        } else {
            tracing::warn!(index, kid, reason, "an entry of the key set is not used");
        }
    }
}

/// The secrets that an issuer was last seen to publish: each is reported once, not with each fetch, and also where the set
/// holds nothing else and so is not used at all.
#[derive(Default)]
pub(crate) struct PublishedSecrets(Vec<RefusedKey>);

impl PublishedSecrets {
    /// Alarms about the secrets among the `refused` entries of a set, unless the last set had the same ones.
    pub(crate) fn report(&mut self, refused: &[RefusedKey], meter: &Meter) {
        let secrets: Vec<_> = refused.iter().filter(|refused| refused.is_alarming()).cloned().collect();
        if self.0 == secrets {
            return;
        }
        for secret in &secrets {
            let (index, kid, reason) = (secret.index, secret.kid.as_deref().map(display), &secret.reason as &dyn Error);
            let message = "the issuer publishes secret key material; the key is not used";
            tracing::error!(target: ALARM, index, kid, reason, "{message}");
            meter.tell(|metrics| metrics.alarm(Alarm::SecretPublished));
        }
        self.0 = secrets;
    }
}

fn kids_not_in(keys: &KeySet, other: Option<&KeySet>) -> String {
    let kids = keys.keys().iter().filter_map(PublicJwk::kid);
    let kids: Vec<_> = kids.filter(|kid| other.is_none_or(|other| !other.contains_kid(kid))).map(excerpt).collect();
    kids.join(" ")
}

/// The `kid`s of `before` that name a key in `after` which they did not name.
///
/// RFC 7517 §4.5 allows one `kid` for keys of different types that are "equivalent alternatives", so a key of another type
/// beside the old one is none.
fn reused_kids<'a>(before: &KeySet, after: &'a KeySet) -> Vec<&'a str> {
    let mut reused = Vec::new();
    for key in after.keys() {
        let Some(kid) = key.kid() else { continue };
        let named = |set: &KeySet, test: &dyn Fn(&PublicJwk) -> bool| {
            set.keys().iter().any(|other| other.kid() == Some(kid) && test(other))
        };
        let thumbprint = key.thumbprint();
        let is_new = before.contains_kid(kid) && !named(before, &|other| other.thumbprint() == thumbprint);
        let is_alternative = || {
            let old_one_stays = named(before, &|old| {
                let old = old.thumbprint();
                named(after, &|other| other.thumbprint() == old)
            });
            old_one_stays && !named(before, &|old| old.kty() == key.kty())
        };
        if is_new && !reused.contains(&kid) && !is_alternative() {
            reused.push(kid);
        }
    }
    reused
}

/// Whether no key of `after` was in `before`, by `kid` or by what it is.
fn nothing_in_common(before: &KeySet, after: &KeySet) -> bool {
    let known: Vec<_> = before.keys().iter().map(PublicJwk::thumbprint).collect();
    let is_known =
        |key: &PublicJwk| key.kid().is_some_and(|kid| before.contains_kid(kid)) || known.contains(&key.thumbprint());
    !before.is_empty() && !after.keys().iter().any(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Signer;

    fn key(kid: &str) -> PublicJwk {
        Signer::new(kid).jwk()
    }

    /// Another key under this `kid`.
    fn impostor(kid: &str) -> PublicJwk {
        key("impostor").with_kid(kid).expect("a short kid")
    }

    /// A key of another type under this `kid`: the base point of P-256.
    fn alternative(kid: &str) -> PublicJwk {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
        };
        let x = bytes("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296");
        let y = bytes("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5");
        PublicJwk::p256(&x, &y).expect("a point of the curve").with_kid(kid).expect("a short kid")
    }

    fn set(keys: impl IntoIterator<Item = PublicJwk>) -> KeySet {
        KeySet::from_keys(keys)
    }

    #[test]
    fn a_kid_that_names_another_key_is_reused() {
        let before = set([key("a"), key("b")]);

        assert_eq!(reused_kids(&before, &set([impostor("a"), key("b")])), ["a"]);
        assert_eq!(reused_kids(&before, &set([alternative("a"), key("b")])), ["a"], "of another type");
        assert_eq!(reused_kids(&before, &set([key("a"), impostor("a")])), ["a"], "beside the old one");
    }

    #[test]
    fn an_ordinary_rotation_reuses_no_kid() {
        let before = set([key("a"), key("b")]);

        assert!(reused_kids(&before, &set([key("b"), key("c")])).is_empty());
        assert!(reused_kids(&before, &set([key("b"), key("a")])).is_empty());
        assert!(reused_kids(&before, &set([key("a"), alternative("a")])).is_empty(), "RFC 7517 §4.5");
    }

    #[test]
    fn sets_with_neither_a_kid_nor_a_key_in_common_are_noticed() {
        let before = set([key("a"), key("b")]);

        assert!(nothing_in_common(&before, &set([key("c")])));
        assert!(!nothing_in_common(&before, &set([key("b"), key("c")])));
        assert!(!nothing_in_common(&before, &set([impostor("a")])), "that is another alarm");
        assert!(!nothing_in_common(&before, &set([key("a").with_kid("c").expect("a short kid")])), "a new name");
        assert!(!nothing_in_common(&set([]), &set([key("c")])), "there was nothing to replace");
    }
}
