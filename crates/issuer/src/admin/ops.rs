//! The operator's acts on keys and clients. Each is one transaction, whatever else runs on the same database.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{BringForwardError, BroughtForward, How, KeyRecord, Keyring, Revocation, RevokeError, Step};
use zeroize::Zeroizing;

use crate::app::Ring;
use crate::clients::Client;
use crate::config::Config;
use crate::edges::{Entropy, NoEntropy};
use crate::keys::example;
use crate::keys::material::{MaterialError, PrivateKey};
use crate::keys::rotator::{RotationError, changes};
use crate::keys::seal::SealError;
use crate::storage::{AcmeSecret, By, ClientChange, ClientInsert, KeyChange, KeysApplied, Reseal, Store, StoreError};

/// Why an act was not done. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rotator.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The key file.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// A revocation that can't be.
    #[error(transparent)]
    Revoke(#[from] RevokeError),
    /// A rotation that can't be sooner.
    #[error(transparent)]
    BringForward(#[from] BringForwardError),
    /// The generator.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The imported key is there already.
    #[error("key {0} is in the ring already")]
    KnownKey(String),
    /// The imported key is public knowledge.
    #[error(
        "key {0} is one of the published examples, which anybody can sign with; only an issuer on loopback may use it"
    )]
    ExampleKey(String),
    /// The key's algorithm has no ring.
    #[error("the issuer does not sign with {0}: add it to keys.algorithms first")]
    UnusedAlgorithm(Algorithm),
    /// The client's id is taken.
    #[error("there is a client {0} already")]
    KnownClient(String),
    /// No stored client has this id.
    #[error("there is no stored client {0}")]
    UnknownClient(String),
    /// The client authenticates without a secret.
    #[error("client {0} has no secret: it authenticates by other means, or is public")]
    NoSecret(String),
    /// The client is declared.
    #[error("client {0} is declared in the configuration: change it there")]
    DeclaredClient(String),
    /// Other processes kept changing the keys.
    #[error("other processes kept changing the keys; try again")]
    Raced,
}

/// Brings the next rotation of `algorithms` forward; those that can't be sooner stay as they are.
///
/// # Errors
/// [`OpsError::BringForward`] when a ring has no key to rotate to; nothing changes for any of the rings then.
pub async fn rotate(
    ring: &Ring,
    algorithms: &[Algorithm],
    how: How,
    now: impl Fn() -> Timestamp,
) -> Result<Vec<BroughtForward>, OpsError> {
    let rotations = preview_rotation(ring, algorithms, how, &now).await?;
    let now = now();
    let steps = rotations.iter().flat_map(|rotation| rotation.steps.clone()).collect();
    let changes = ring.keys.with_ring(|rows| changes(rows, steps, &mut Vec::new(), &ring.kek, now))?;
    ring.store.change_keys(&changes, &By::new(&ring.author, now)).await?;
    ring.rotator.tick().await?;
    Ok(rotations)
}

/// What [`rotate`] would do.
///
/// # Errors
/// [`OpsError::BringForward`].
pub async fn preview_rotation(
    ring: &Ring,
    algorithms: &[Algorithm],
    how: How,
    now: impl Fn() -> Timestamp,
) -> Result<Vec<BroughtForward>, OpsError> {
    ring.rotator.tick().await?;
    let policy = &ring.rotator.policy_in_force().await?;
    let now = now();
    let preview = ring.keys.with_ring(|rows| {
        let each = algorithms.iter().map(|&alg| match rows.bring_forward(alg, policy, now, how) {
            Err(BringForwardError::NoEarlier { kid, sign_from, .. }) => {
                let (from, to, steps, may_stumble) = (sign_from, sign_from, Vec::new(), None);
                Ok(BroughtForward { kid, from, to, steps, may_stumble })
            }
            outcome => outcome,
        });
        each.collect::<Result<Vec<_>, _>>()
    });
    Ok(preview?)
}

/// Withdraws a key at once; if it signed, the standby does from now on, and a new standby is made.
///
/// # Errors
/// [`OpsError::Revoke`]: no such key, or revoked before.
pub async fn revoke(
    ring: &Ring,
    config: &Config,
    kid: &str,
    reason: Option<&str>,
    now: impl Fn() -> Timestamp,
) -> Result<Revocation, OpsError> {
    let policy = &ring.rotator.policy_in_force().await?;
    for _ in 0..MAX_TRIES {
        let rows = read(ring).await?;
        let mut made = Vec::new();
        for step in rows.revoke(kid, policy, now())?.steps {
            if let Step::Create { alg, .. } = step {
                made.push(PrivateKey::generate_in_background(alg, config.keys.rsa_bits).await?);
            }
        }
        let at = now();
        let revocation = rows.revoke(kid, policy, at)?;
        let mut changes = changes(&rows, revocation.steps.clone(), &mut made, &ring.kek, at)?;
        for change in &mut changes {
            if let KeyChange::Revoke { reason: stored, .. } = change {
                *stored = reason.map(str::to_owned);
            }
        }
        if ring.store.change_keys(&changes, &By::new(&ring.author, at)).await? == KeysApplied::Done {
            ring.rotator.tick().await?;
            return Ok(revocation);
        }
    }
    Err(OpsError::Raced)
}

/// Takes a private key of the operator's into the ring of its algorithm: as the first key of a new issuer, else as the
/// last in line, announced like any other. Returns its kid, and when it starts to sign.
///
/// # Errors
/// [`OpsError::Material`], [`OpsError::KnownKey`], [`OpsError::ExampleKey`], [`OpsError::UnusedAlgorithm`].
pub async fn import_key(
    ring: &Ring,
    config: &Config,
    text: &[u8],
    alg: Option<Algorithm>,
    now: impl Fn() -> Timestamp,
) -> Result<ImportedKey, OpsError> {
    let key = PrivateKey::import(text, alg)?;
    let (kid, alg) = (key.jwk.thumbprint(), key.alg);
    if !config.keys.algorithms.contains(&alg) {
        return Err(OpsError::UnusedAlgorithm(alg));
    }
    if example::is_example(&kid) && !config.issuer.is_loopback() {
        return Err(OpsError::ExampleKey(kid));
    }
    let mut made = vec![key];
    for _ in 0..MAX_TRIES {
        let rows = read(ring).await?;
        if rows.key(&kid).is_some() {
            return Err(OpsError::KnownKey(kid));
        }
        let at = now();
        let step = rows.append(&ring.rotator.policy_in_force().await?, alg, at);
        let mut changes = changes(&rows, vec![step], &mut made, &ring.kek, at)?;
        let (mut publish_at, mut sign_from) = (at, at);
        for change in &mut changes {
            if let KeyChange::Insert(key) = change {
                (publish_at, sign_from) = (key.record.publish_at, key.record.sign_from);
                *change = KeyChange::Import(key.clone());
            }
        }
        if ring.store.change_keys(&changes, &By::new(&ring.author, at)).await? == KeysApplied::Done {
            return Ok(ImportedKey { kid, alg, publish_at, sign_from });
        }
        made = vec![PrivateKey::import(text, Some(alg))?];
    }
    Err(OpsError::Raced)
}

/// Seals everything that is sealed under the first key-encryption key: every private half, and what certificates are
/// ordered and shown with ([`AcmeSecret`]). It does so beside a running server, which goes on with what it has opened.
///
/// Other secrets stand in the database as hashes. The successor of a refresh token is sealed too, for seconds, but under a
/// key that its predecessor gives; what is only authenticated is not stored ([`KeyEncryptionKeys::tag`]).
///
/// # Errors
/// [`OpsError::Seal`] when a private half does not open, [`OpsError::Raced`].
///
/// [`KeyEncryptionKeys::tag`]: crate::keys::seal::KeyEncryptionKeys::tag
pub async fn rewrap(ring: &Ring, now: impl Fn() -> Timestamp) -> Result<Rewrapped, OpsError> {
    let mut rewrapped = Rewrapped::default();
    let under = || ring.kek.sealing_id();
    for _ in 0..MAX_TRIES {
        let mut changes = Vec::new();
        for key in ring.store.load_keys().await? {
            let Some(from) = key.sealed_private else { continue };
            let KeyRecord { kid, alg, .. } = key.record;
            if let Some(to) = ring.kek.rewrap(&kid, alg, &from)? {
                changes.push(KeyChange::Rewrap { kid, from, to, under: under() });
            }
        }
        let mut reseals = Vec::new();
        rewrapped.lost.clear();
        for (secret, from) in ring.store.acme_secrets().await? {
            match ring.kek.rewrap_secret(secret.purpose(), secret.name(), &from) {
                Ok(Some(to)) => reseals.push(Reseal { secret, from, to, under: under() }),
                Ok(None) => {}
                // Perhaps of a name that is not served any more. The server replaces what it needs.
                Err(failure) => rewrapped.lost.push(failure.to_string()),
            }
        }
        // What another process destroyed meanwhile is not moved, and what it added is seen in the next round.
        if changes.is_empty() && reseals.is_empty() {
            return Ok(rewrapped);
        }
        let by = By::new(&ring.author, now());
        rewrapped.signing_keys += changes.len();
        ring.store.change_keys(&changes, &by).await?;
        for secret in ring.store.reseal(&reseals, &by).await? {
            match secret {
                AcmeSecret::CertificateKey(_) => rewrapped.certificate_keys += 1,
                AcmeSecret::Account(_) => rewrapped.acme_accounts += 1,
            }
        }
    }
    Err(OpsError::Raced)
}

/// What was sealed under another key-encryption key than the first, and is no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Private halves of signing keys.
    pub signing_keys: usize,
    /// Private keys of certificates that were ordered.
    pub certificate_keys: usize,
    /// Accounts at certificate authorities.
    pub acme_accounts: usize,
    /// Why others of these last two could not be moved: none of the key-encryption keys opens them.
    pub lost: Vec<String>,
}

/// A key that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedKey {
    /// Its thumbprint.
    pub kid: String,
    /// Its ring.
    pub alg: Algorithm,
    /// When it is published.
    pub publish_at: Timestamp,
    /// When it starts to sign.
    pub sign_from: Timestamp,
}

/// Stores new clients, together or not at all.
///
/// # Errors
/// [`OpsError::DeclaredClient`], [`OpsError::KnownClient`].
pub async fn add_clients(store: &Store, config: &Config, clients: &[Client], by: &By) -> Result<(), OpsError> {
    for client in clients {
        refuse_declared(config, &client.id)?;
    }
    match store.insert_clients(clients, by).await? {
        ClientInsert::Done => Ok(()),
        ClientInsert::Taken(id) => Err(OpsError::KnownClient(id)),
    }
}

/// Changes a stored client as `change` does, and names the members of its document that are different then.
///
/// # Errors
/// [`OpsError::DeclaredClient`], [`OpsError::UnknownClient`]; inside, what `change` refused with.
pub async fn change_client<E>(
    store: &Store,
    config: &Config,
    id: &str,
    change: impl FnOnce(&mut Client) -> Result<(), E>,
    by: &By,
) -> Result<Result<Vec<String>, E>, OpsError> {
    refuse_declared(config, id)?;
    match store.change_client(id, change, by).await? {
        ClientChange::Done(changed) => Ok(Ok(changed)),
        ClientChange::Refused(refusal) => Ok(Err(refusal)),
        ClientChange::Unknown => Err(OpsError::UnknownClient(id.to_owned())),
    }
}

/// Gives a client a new secret; the old one ends at once.
///
/// # Errors
/// [`OpsError::DeclaredClient`], [`OpsError::UnknownClient`], [`OpsError::NoSecret`], [`OpsError::NoEntropy`].
pub async fn rotate_client_secret(
    store: &Store,
    config: &Config,
    id: &str,
    entropy: &dyn Entropy,
    by: &By,
) -> Result<Zeroizing<String>, OpsError> {
    refuse_declared(config, id)?;
    let stored = store.load_clients().await?.into_iter().find(|client| client.id == id);
    let stored = stored.ok_or_else(|| OpsError::UnknownClient(id.to_owned()))?;
    if stored.authentication.secret_sha256().is_none() {
        return Err(OpsError::NoSecret(id.to_owned()));
    }
    let secret = new_secret(entropy)?;
    if store.replace_client_secret(id, &secret_hash(&secret), by).await? {
        Ok(secret)
    } else {
        Err(OpsError::UnknownClient(id.to_owned()))
    }
}

/// Removes a client: it gets no more tokens; those it has live until they expire.
///
/// # Errors
/// [`OpsError::DeclaredClient`], [`OpsError::UnknownClient`].
pub async fn remove_client(store: &Store, config: &Config, id: &str, by: &By) -> Result<(), OpsError> {
    refuse_declared(config, id)?;
    if store.remove_client(id, by).await? { Ok(()) } else { Err(OpsError::UnknownClient(id.to_owned())) }
}

/// A client secret: 256 bits behind a prefix that secret scanners can recognise.
///
/// # Errors
/// [`NoEntropy`].
pub fn new_secret(entropy: &dyn Entropy) -> Result<Zeroizing<String>, NoEntropy> {
    let mut random = Zeroizing::new([0; 32]);
    entropy.fill(random.as_mut())?;
    let mut secret = Zeroizing::new(String::with_capacity(64));
    secret.push_str(SECRET_PREFIX);
    URL_SAFE_NO_PAD.encode_string(random.as_slice(), &mut secret);
    Ok(secret)
}

/// What is stored of a client secret.
#[must_use]
pub fn secret_hash(secret: &str) -> [u8; 32] {
    digest(&SHA256, secret.as_bytes()).as_ref().try_into().expect("a SHA-256 digest has 32 bytes")
}

fn refuse_declared(config: &Config, id: &str) -> Result<(), OpsError> {
    if config.clients.iter().any(|declared| declared.id == id) {
        return Err(OpsError::DeclaredClient(id.to_owned()));
    }
    Ok(())
}

async fn read(ring: &Ring) -> Result<Keyring, OpsError> {
    let rows = ring.store.load_keys().await?;
    Ok(Keyring::new(rows.into_iter().map(|key| key.record).collect()))
}

/// `kw_secret_` and 43 characters of base64url.
const SECRET_PREFIX: &str = "kw_secret_";

/// Each race is lost to somebody who got on; more than a few in a row means something is wrong.
const MAX_TRIES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_has_256_bits_and_a_prefix() {
        let entropy = crate::edges::Edges::system().entropy;
        let [one, other] = [(); 2].map(|()| new_secret(entropy.as_ref()).expect("a secret"));

        assert_ne!(one, other);
        let random = one.strip_prefix("kw_secret_").expect("the prefix");
        assert_eq!(URL_SAFE_NO_PAD.decode(random).expect("base64url").len(), 32);
    }
}
