//! Values that mean nothing but that we handed them out: authorization codes, refresh tokens. Stored as hashes only.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::edges::{Entropy, NoEntropy};

/// 256 random bits in base64url.
pub(crate) struct Opaque(Zeroizing<String>);

impl Opaque {
    /// A new one.
    ///
    /// # Errors
    /// [`NoEntropy`]
    pub(crate) fn new(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let mut random = Zeroizing::new([0; 32]);
        entropy.fill(random.as_mut())?;
        Ok(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_slice()))))
    }

    /// For the one it is for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        sha256(&self.0)
    }

    /// This value, sealed so that only who has `predecessor` can open it: `nonce (12) ‖ ciphertext and tag`.
    pub(crate) fn seal_under(&self, predecessor: &str) -> Option<Vec<u8>> {
        let mut sealed = self.0.as_bytes().to_vec();
        let nonce = key_of(predecessor)?.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        Some([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// What [`seal_under`](Self::seal_under) sealed.
    pub(crate) fn open_with(predecessor: &str, sealed: &[u8]) -> Option<Self> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut ciphertext = ciphertext.to_vec();
        let opened = key_of(predecessor)?.open_in_place(Nonce::from(nonce), Aad::empty(), &mut ciphertext).ok()?;
        Some(Self(Zeroizing::new(std::str::from_utf8(opened).ok()?.to_owned())))
    }
}

/// A new id: 128 random bits in base64url.
///
/// # Errors
/// [`NoEntropy`]
pub(crate) fn new_id(entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    let mut random = [0; 16];
    entropy.fill(&mut random)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

/// What is stored of a value that somebody presents.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// RFC 5869 §2.3, one block. What is stored of the predecessor is its plain hash, which says nothing about this.
fn key_of(predecessor: &str) -> Option<RandomizedNonceKey> {
    let material = hmac::Key::new(hmac::HMAC_SHA256, predecessor.as_bytes());
    let key = hmac::sign(&material, b"keywheel refresh token successor\x01");
    RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::Edges;

    #[test]
    fn a_successor_opens_with_its_predecessor_alone() {
        let entropy = Edges::system().entropy;
        let [old, new, other] = std::array::from_fn(|_| Opaque::new(entropy.as_ref()).expect("random"));

        let sealed = new.seal_under(old.expose()).expect("sealed");

        assert_eq!(Opaque::open_with(old.expose(), &sealed).expect("opened").expose(), new.expose());
        assert!(Opaque::open_with(other.expose(), &sealed).is_none());
        assert!(!sealed.windows(8).any(|window| new.expose().as_bytes().windows(8).any(|it| it == window)));
        assert_eq!(old.expose().len(), 43);
    }
}
