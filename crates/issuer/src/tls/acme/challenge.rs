//! What a certificate authority is answered when it looks whether a name leads here.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, ServerConfig};

use crate::app::App;
use crate::chain;
use crate::config::ChallengeKind;
use crate::edges::Clock;
use crate::storage::Store;

/// What names the protocol in a handshake (RFC 8737 §3).
pub(in crate::tls) const PROTOCOL: &[u8] = b"acme-tls/1";

/// Answers by TLS-ALPN-01.
pub(in crate::tls) struct Challenges {
    pub(in crate::tls) store: Store,
    pub(in crate::tls) clock: Arc<dyn Clock>,
    /// The names that an authority can ask for; whatever else is asked for costs nothing.
    pub(in crate::tls) domains: Vec<String>,
}

impl Challenges {
    /// What to make the handshake with when an authority asks for `name`; `None` when nothing was ordered for it.
    pub(in crate::tls) async fn config(&self, name: &str, provider: &Arc<CryptoProvider>) -> Option<Arc<ServerConfig>> {
        if !self.domains.iter().any(|domain| domain == name) {
            return None;
        }
        let kind = ChallengeKind::TlsAlpn01.as_str();
        let answer = match self.store.challenge_answer(kind, name, self.clock.now()).await {
            Ok(answer) => answer?,
            Err(failure) => {
                tracing::warn!(error = chain(&failure), "a certificate authority could not be answered");
                return None;
            }
        };
        self_signed(name, &answer, provider).inspect_err(|error| tracing::warn!(%error, "no answer could be made")).ok()
    }
}

/// "a certificate that contains […] a single dNSName entry […] and an acmeIdentifier extension" (RFC 8737 §3).
fn self_signed(name: &str, answer: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<ServerConfig>, Error> {
    let failed = |error: rcgen::Error| Error::General(error.to_string());
    let mut params = CertificateParams::new([name.to_owned()]).map_err(failed)?;
    let digest = digest(&SHA256, answer.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().map_err(failed)?;
    let chain = vec![params.self_signed(&key).map_err(failed)?.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Whether the two belong together is not asked again: what reads certificates refuses the critical extension.
    let certified = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
    let config = ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// What HTTP-01 is answered for this token (RFC 8555 §8.3).
pub(crate) async fn http_answer(app: &App, token: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if token.len() > LONGEST_TOKEN || !token.bytes().all(is_token) {
        return None;
    }
    let answer = app.store.challenge_answer(ChallengeKind::Http01.as_str(), token, app.clock.now()).await;
    answer.unwrap_or_else(|failure| {
        tracing::warn!(error = chain(&failure), "a certificate authority could not be answered");
        None
    })
}

/// Far more than the 128 bits that a token has at least.
const LONGEST_TOKEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::provider;

    #[test]
    fn the_answer_to_a_challenge_is_a_handshake_of_its_own_protocol() {
        let config = self_signed("id.example.com", "token.thumbprint", &Arc::new(provider())).expect("an answer");

        assert_eq!(config.alpn_protocols, [b"acme-tls/1".to_vec()]);
    }
}
