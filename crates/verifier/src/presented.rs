//! A token as it was presented: beside the token itself, what its sender brought to prove that it is theirs.
//!
//! The steps, once the token itself holds:
//! 1. with the scheme `DPoP`, the proof holds for this request and this token (RFC 9449 §4.3)
//! 2. it is by the key the token is bound to, and a token that is bound to one comes with no other scheme (§7.1, §7.2)
//! 3. the peer's certificate is the one the token is bound to, if it is (RFC 8705 §3)
//! 4. the `nonce` of the proof, where one is asked for, is ours and recent (RFC 9449 §9)
//! 5. the proof has not been seen before: last, so that only a request that holds in every other respect spends memory

use keywheel_jose::{
    Confirmation, DpopProof, DpopRejection, DpopRequest, Holder, Timestamp, certificate_thumbprint, check_dpop,
};

use crate::dpop::Dpop;
use crate::verifier::VerifyError;

/// How a token came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `Authorization: Bearer` (RFC 6750), or a cookie.
    #[default]
    Bearer,
    /// `Authorization: DPoP` (RFC 9449).
    DPoP,
}

/// A token and what came with it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Presented<'a> {
    /// The token.
    pub token: &'a str,
    /// How it came.
    pub scheme: Scheme,
    /// The proof of possession in the `DPoP` header, with the method and URL of the request it came in.
    pub dpop: Option<DpopRequest<'a>>,
    /// The certificate the peer authenticated the TLS connection with, X.509 DER. Who passes it in vouches that the peer
    /// has its private key.
    pub peer_certificate_der: Option<&'a [u8]>,
}

impl<'a> Presented<'a> {
    /// A bearer token, alone.
    #[must_use]
    pub fn bearer(token: &'a str) -> Self {
        Self { token, scheme: Scheme::Bearer, dpop: None, peer_certificate_der: None }
    }

    /// A token with a DPoP proof (RFC 9449 §7.1).
    #[must_use]
    pub fn dpop(token: &'a str, request: DpopRequest<'a>) -> Self {
        Self { scheme: Scheme::DPoP, dpop: Some(request), ..Self::bearer(token) }
    }

    /// The same, over a connection with this client certificate (RFC 8705).
    #[must_use]
    pub fn with_peer_certificate(self, der: &'a [u8]) -> Self {
        Self { peer_certificate_der: Some(der), ..self }
    }

    /// Whether what came proves that the token is its sender's: steps 1 to 4. The proof, if there is one, is yet to be
    /// [spent](Dpop::spend).
    pub(crate) fn confirm(
        &self,
        confirmation: Option<&Confirmation>,
        dpop: &Dpop,
        now: Timestamp,
    ) -> Result<Option<DpopProof>, VerifyError> {
        let proof = match self.scheme {
            Scheme::Bearer => None,
            Scheme::DPoP => {
                let request = self.dpop.as_ref().ok_or(VerifyError::ProofRejected(DpopRejection::Missing))?;
                let proof = check_dpop(request, Some(self.token), dpop.policy(), now);
                Some(proof.map_err(VerifyError::ProofRejected)?)
            }
        };
        let certificate = confirmation.and_then(Confirmation::x5t_s256).and(self.peer_certificate_der);
        let x5t_s256 = certificate.map(certificate_thumbprint);
        let holder = Holder { jkt: proof.as_ref().map(DpopProof::jkt), x5t_s256: x5t_s256.as_deref() };
        holder.may_use(confirmation).map_err(VerifyError::Rejected)?;
        if let Some(proof) = &proof {
            dpop.check_nonce(proof.nonce(), now)?;
        }
        Ok(proof)
    }
}
