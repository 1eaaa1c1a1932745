//! Private keys: made, imported, parsed once, and used to sign.
//!
//! `p256` and `rsa` only make and convert keys; every signature is made by aws-lc-rs, in constant time
//! (RUSTSEC-2023-0071 is about private-key operations of `rsa`). Between crates a key travels as PKCS#8 in a buffer
//! that is zeroed when dropped. The generators draw from the operating system themselves.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_jose::{Algorithm, JwkError, PublicJwk};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use rsa::BigUint;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use rsa::traits::PublicKeyParts as _;
use rustix::process::setpriority_process;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use signature::Signer;
use tokio::sync::oneshot;
use tracing::info;
use zeroize::Zeroizing;

/// Target of the log lines that tell of slow work; commands show them, whatever else they log.
pub(crate) const PROGRESS: &str = "keywheel::progress";

/// Why a private key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The algorithm is not one that Keywheel signs with.
    #[error("{0} is not an algorithm this issuer signs with: ES256, RS256, PS256 and EdDSA are")]
    Algorithm(Algorithm),
    /// The generator failed.
    #[error("cannot generate a key for {0}")]
    Generate(Algorithm),
    /// Not a private key in a known form.
    #[error("this is not a private key in PEM (PKCS#8, PKCS#1, SEC1) or JWK form")]
    UnknownForm,
    /// Encrypted keys are not read.
    #[error("the key is encrypted: decrypt it first (`openssl pkey -in FILE -out PLAIN`)")]
    Encrypted,
    /// The key is of another kind than the algorithm asked for.
    #[error("the key does not fit {0}")]
    Mismatch(Algorithm),
    /// An RSA key of a size that is not used.
    #[error("an RSA key must have 2048 to 4096 bits, this one has {0}")]
    RsaSize(usize),
    /// A private member that is missing or wrong.
    #[error("the JWK is not a private key that holds together: {0}")]
    Jwk(&'static str),
    /// The public half can't be published.
    #[error("the public half is refused")]
    Public(#[from] JwkError),
}

/// A private key on its way into storage.
pub struct PrivateKey {
    /// What it signs with.
    pub alg: Algorithm,
    /// The private half, PKCS#8 in DER (RFC 5958).
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// The public half; its kid is the thumbprint.
    pub jwk: PublicJwk,
}

impl PrivateKey {
    /// Makes a key. Takes up to seconds for RSA: run it on a blocking thread.
    ///
    /// # Errors
    /// [`MaterialError::Generate`], [`MaterialError::Algorithm`].
    pub fn generate(alg: Algorithm, rsa_bits: usize) -> Result<Self, MaterialError> {
        let failed = || MaterialError::Generate(alg);
        let pkcs8 = match alg {
            Algorithm::ES256 => {
                let secret = p256::SecretKey::try_generate().map_err(|_| failed())?;
                Zeroizing::new(secret.to_pkcs8_der().map_err(|_| failed())?.as_bytes().to_vec())
            }
            Algorithm::RS256 | Algorithm::PS256 => {
                let secret = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, rsa_bits).map_err(|_| failed())?;
                rsa_pkcs8(&secret).ok_or_else(failed)?
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().map_err(|_| failed())?;
                // Version 1 of PKCS#8 (without the public key) is what every other tool reads.
                Zeroizing::new(pair.to_pkcs8v1().map_err(|_| failed())?.as_ref().to_vec())
            }
            other => return Err(MaterialError::Algorithm(other)),
        };
        Self::from_pkcs8(alg, pkcs8)
    }

    /// [`Self::generate`] on a thread of its own, which lets the others go first, telling what takes so long.
    ///
    /// # Errors
    /// [`MaterialError::Generate`], [`MaterialError::Algorithm`].
    pub async fn generate_in_background(alg: Algorithm, rsa_bits: usize) -> Result<Self, MaterialError> {
        match alg {
            Algorithm::RS256 | Algorithm::PS256 => info!(target: PROGRESS, "making a {rsa_bits}-bit RSA key for {alg}"),
            _ => info!(target: PROGRESS, "making a key for {alg}"),
        }
        let (told, made) = oneshot::channel();
        let generate = move || {
            // Nobody needs the key before it has been announced; tokens are waited for. Where the system does not allow it,
            // they share.
            let _ = setpriority_process(None, NICE);
            let _ = told.send(Self::generate(alg, rsa_bits));
        };
        let thread = std::thread::Builder::new().name("key generation".to_owned()).spawn(generate);
        thread.map_err(|_| MaterialError::Generate(alg))?;
        made.await.unwrap_or(Err(MaterialError::Generate(alg)))
    }

    /// Reads a private key from PEM or JWK text. `alg` chooses between RS256 (the default, if the JWK says nothing)
    /// and PS256 for an RSA key.
    ///
    /// # Errors
    /// Every [`MaterialError`] but [`MaterialError::Generate`].
    pub fn import(text: &[u8], alg: Option<Algorithm>) -> Result<Self, MaterialError> {
        if let Ok(Value::Object(jwk)) = serde_json::from_slice::<Value>(text) {
            return import_jwk(&jwk, alg);
        }
        if text.windows(9).any(|window| window == b"ENCRYPTED") {
            return Err(MaterialError::Encrypted);
        }
        match PrivateKeyDer::from_pem_slice(text).map_err(|_| MaterialError::UnknownForm)? {
            PrivateKeyDer::Pkcs1(der) => {
                let secret = rsa::RsaPrivateKey::from_pkcs1_der(der.secret_pkcs1_der())
                    .map_err(|_| MaterialError::UnknownForm)?;
                import_rsa(&secret, alg)
            }
            PrivateKeyDer::Sec1(der) => {
                let secret =
                    p256::SecretKey::from_sec1_der(der.secret_sec1_der()).map_err(|_| MaterialError::UnknownForm)?;
                import_p256(&secret, alg)
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                if let Ok(secret) = p256::SecretKey::from_pkcs8_der(der) {
                    import_p256(&secret, alg)
                } else if let Ok(secret) = rsa::RsaPrivateKey::from_pkcs8_der(der) {
                    import_rsa(&secret, alg)
                } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    import_ed25519(&pair, alg)
                } else {
                    Err(MaterialError::UnknownForm)
                }
            }
            _ => Err(MaterialError::UnknownForm),
        }
    }

    fn from_pkcs8(alg: Algorithm, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, MaterialError> {
        let jwk = SigningKey::parse(alg, &pkcs8)?.public_jwk()?;
        Ok(Self { alg, pkcs8, jwk })
    }
}

/// A private key parsed once and ready to sign.
pub(crate) enum SigningKey {
    P256(EcdsaKeyPair),
    Rsa { pair: RsaKeyPair, alg: Algorithm },
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Parses a private half in PKCS#8.
    pub(crate) fn parse(alg: Algorithm, pkcs8: &[u8]) -> Result<Self, MaterialError> {
        let mismatch = |_| MaterialError::Mismatch(alg);
        match alg {
            Algorithm::ES256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Self::P256).map_err(mismatch)
            }
            Algorithm::RS256 | Algorithm::PS256 => {
                RsaKeyPair::from_pkcs8(pkcs8).map(|pair| Self::Rsa { pair, alg }).map_err(mismatch)
            }
            Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(Self::Ed25519).map_err(mismatch),
            other => Err(MaterialError::Algorithm(other)),
        }
    }

    /// Whether a signature takes so long that others should not have to wait for it.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self, Self::Rsa { .. })
    }

    fn alg(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::ES256,
            Self::Rsa { alg, .. } => *alg,
            Self::Ed25519(_) => Algorithm::EdDSA,
        }
    }

    /// The public half, under its thumbprint.
    fn public_jwk(&self) -> Result<PublicJwk, JwkError> {
        let jwk = match self {
            Self::P256(pair) => {
                // 0x04 ‖ x ‖ y (SEC 1, 2.3.3)
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                PublicJwk::p256(x, y)?
            }
            Self::Rsa { pair, .. } => {
                let public = pair.public_key();
                PublicJwk::rsa(
                    public.modulus().big_endian_without_leading_zero(),
                    public.exponent().big_endian_without_leading_zero(),
                )?
            }
            Self::Ed25519(pair) => PublicJwk::ed25519(pair.public_key().as_ref())?,
        };
        Ok(jwk.with_alg(self.alg())?.with_thumbprint_kid())
    }
}

impl Signer<Vec<u8>> for SigningKey {
    #[expect(clippy::disallowed_methods, reason = "the library ignores it: blinding and nonces are its own affair")]
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        match self {
            Self::P256(pair) => {
                let made = pair.sign(&SystemRandom::new(), message).map_err(signature::Error::from_source)?;
                Ok(made.as_ref().to_vec())
            }
            Self::Rsa { pair, alg } => {
                let encoding: &'static dyn RsaEncoding =
                    if *alg == Algorithm::PS256 { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut made = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut made).map_err(signature::Error::from_source)?;
                Ok(made)
            }
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// The same key behind `jsonwebtoken`'s interface, whose own signers parse the RSA key again at every signature.
impl jsonwebtoken::crypto::JwtSigner for SigningKey {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        match self.alg() {
            Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
            _ => jsonwebtoken::Algorithm::ES256,
        }
    }
}

fn import_p256(secret: &p256::SecretKey, alg: Option<Algorithm>) -> Result<PrivateKey, MaterialError> {
    let alg = expect_algorithm(alg, &[Algorithm::ES256])?;
    let der = secret.to_pkcs8_der().map_err(|_| MaterialError::UnknownForm)?;
    PrivateKey::from_pkcs8(alg, Zeroizing::new(der.as_bytes().to_vec()))
}

fn import_rsa(secret: &rsa::RsaPrivateKey, alg: Option<Algorithm>) -> Result<PrivateKey, MaterialError> {
    let alg = expect_algorithm(alg, &[Algorithm::RS256, Algorithm::PS256])?;
    let bits = secret.n().bits();
    if !(2048..=4096).contains(&bits) {
        return Err(MaterialError::RsaSize(bits));
    }
    PrivateKey::from_pkcs8(alg, rsa_pkcs8(secret).ok_or(MaterialError::UnknownForm)?)
}

fn import_ed25519(pair: &Ed25519KeyPair, alg: Option<Algorithm>) -> Result<PrivateKey, MaterialError> {
    let alg = expect_algorithm(alg, &[Algorithm::EdDSA])?;
    let der = pair.to_pkcs8v1().map_err(|_| MaterialError::UnknownForm)?;
    PrivateKey::from_pkcs8(alg, Zeroizing::new(der.as_ref().to_vec()))
}

/// Reads a private JWK (RFC 7518 §6, RFC 8037 §2); the public members must belong to the private ones.
fn import_jwk(jwk: &serde_json::Map<String, Value>, alg: Option<Algorithm>) -> Result<PrivateKey, MaterialError> {
    let member = |name: &'static str| -> Result<Zeroizing<Vec<u8>>, MaterialError> {
        let text = jwk.get(name).and_then(Value::as_str).ok_or(MaterialError::Jwk(name))?;
        URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| MaterialError::Jwk(name))
    };
    let named = match jwk.get("alg") {
        None => None,
        Some(name) => {
            let name = name.as_str().ok_or(MaterialError::Jwk("alg"))?;
            Some(name.parse::<Algorithm>().map_err(|_| MaterialError::Jwk("alg"))?)
        }
    };
    let alg = alg.or(named);
    let text = |name| jwk.get(name).and_then(Value::as_str);
    let imported = match (text("kty"), text("crv")) {
        (Some("EC"), Some("P-256")) => {
            let secret = p256::SecretKey::from_slice(&member("d")?).map_err(|_| MaterialError::Jwk("d"))?;
            import_p256(&secret, alg)?
        }
        (Some("OKP"), Some("Ed25519")) => {
            let pair = Ed25519KeyPair::from_seed_unchecked(&member("d")?).map_err(|_| MaterialError::Jwk("d"))?;
            import_ed25519(&pair, alg)?
        }
        (Some("RSA"), _) => {
            let number = |name| member(name).map(|bytes| BigUint::from_bytes_be(&bytes));
            let secret = rsa::RsaPrivateKey::from_components(
                number("n")?,
                number("e")?,
                number("d")?,
                vec![number("p")?, number("q")?],
            )
            .map_err(|_| MaterialError::Jwk("n, e, d, p and q do not belong together"))?;
            import_rsa(&secret, alg)?
        }
        _ => return Err(MaterialError::UnknownForm),
    };
    let claimed: Value = jwk
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "kty" | "crv" | "x" | "y" | "n" | "e"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if PublicJwk::from_json(&claimed)?.thumbprint() != imported.jwk.thumbprint() {
        return Err(MaterialError::Jwk("its public members belong to another key"));
    }
    Ok(imported)
}

fn expect_algorithm(asked: Option<Algorithm>, possible: &[Algorithm]) -> Result<Algorithm, MaterialError> {
    match asked {
        None => Ok(possible[0]),
        Some(alg) if possible.contains(&alg) => Ok(alg),
        Some(alg) => Err(MaterialError::Mismatch(alg)),
    }
}

fn rsa_pkcs8(secret: &rsa::RsaPrivateKey) -> Option<Zeroizing<Vec<u8>>> {
    secret.to_pkcs8_der().ok().map(|der| Zeroizing::new(der.as_bytes().to_vec()))
}

/// A tenth of the share of threads that serve, while these are busy (sched(7)).
const NICE: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_jose::{KeySet, check_signature};

    /// Signs a token with the key and has it checked by the routine that verifiers use.
    fn signs_what_its_public_half_verifies(key: &PrivateKey) {
        let signing = SigningKey::parse(key.alg, &key.pkcs8).expect("parsed");
        let header = serde_json::json!({ "alg": key.alg.as_str(), "kid": key.jwk.thumbprint() });
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode("{\"sub\":\"x\"}"));
        let made = signing.try_sign(message.as_bytes()).expect("signed");
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(made));
        let keys = KeySet::from_keys([key.jwk.clone()]);

        check_signature(&token, &keys, &Algorithm::ALL).expect("verifies");
    }

    #[test]
    fn a_generated_key_signs_what_its_public_half_verifies() {
        for alg in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256, Algorithm::PS256] {
            let key = PrivateKey::generate(alg, 2048).expect("generated");
            assert_eq!(key.jwk.alg(), Some(alg));
            assert_eq!(key.jwk.kid(), Some(key.jwk.thumbprint().as_str()));
            signs_what_its_public_half_verifies(&key);
        }
    }

    #[test]
    fn two_generated_keys_differ() {
        let [one, other] = [(); 2].map(|()| PrivateKey::generate(Algorithm::ES256, 2048).expect("generated"));

        assert_ne!(one.jwk.thumbprint(), other.jwk.thumbprint());
    }

    #[test]
    fn every_example_key_is_imported() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keys.example");
        let mut kids = Vec::new();
        for entry in std::fs::read_dir(folder).expect("the example keys are there") {
            let path = entry.expect("an entry").path();
            if !matches!(path.extension().and_then(|extension| extension.to_str()), Some("pem" | "jwk")) {
                continue;
            }
            let key = PrivateKey::import(&std::fs::read(&path).expect("read"), None)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            signs_what_its_public_half_verifies(&key);
            kids.push(key.jwk.thumbprint());
        }
        assert!(kids.len() >= 6, "found {}", kids.len());
        for kid in &kids {
            assert!(crate::keys::example::is_example(kid), "{kid} is not known as an example key");
        }
    }

    #[test]
    fn a_jwk_whose_public_members_belong_to_another_key_is_refused() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keys.example");
        let mut jwk: Value =
            serde_json::from_slice(&std::fs::read(folder.join("es256.jwk")).expect("read")).expect("JSON");
        let other = PrivateKey::generate(Algorithm::ES256, 2048).expect("generated");
        let other = serde_json::to_value(&other.jwk).expect("JSON");
        jwk["x"] = other["x"].clone();
        jwk["y"] = other["y"].clone();

        let imported = PrivateKey::import(jwk.to_string().as_bytes(), None);

        assert!(matches!(imported.err(), Some(MaterialError::Jwk(_))));
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        for text in ["", "{}", "[]", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(PrivateKey::import(text.as_bytes(), None).is_err(), "{text:?}");
        }
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(matches!(PrivateKey::import(encrypted.as_bytes(), None).err(), Some(MaterialError::Encrypted)));
    }
}
