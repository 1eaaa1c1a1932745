//! A certificate with its private key: read, held against each other, and asked until when it is good and for what.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywheel_jose::Timestamp;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use zeroize::Zeroizing;

use crate::config::TlsFiles;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("cannot read {path} ({setting})")]
    Unreadable {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// There is no certificate.
    #[error("{0} holds no certificate in PEM")]
    NoCertificate(String),
    /// There is no private key.
    #[error("{0} holds no private key in PEM; one that is encrypted cannot be used")]
    NoKey(String),
    /// The two are not of one pair.
    #[error("the private key of {key} does not belong to the certificate of {cert}")]
    Mismatch {
        /// Where the certificate is from.
        cert: String,
        /// Where the private key is from.
        key: String,
    },
    /// It can't be read.
    #[error("the certificate of {0} is malformed")]
    Malformed(String),
    /// It is of a kind that is not supported.
    #[error("the private key of {from} cannot be used")]
    Key {
        /// Where it is from.
        from: String,
        /// The reason.
        #[source]
        source: Error,
    },
}

/// A certificate, its chain, and the private key that belongs to it.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(super) certified: Arc<CertifiedKey>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Certificate {
    /// Reads the files that `server.tls` names.
    pub(crate) fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let read = |setting, path: &Path| {
            let unreadable = |source| CertificateError::Unreadable { setting, path: path.to_owned(), source };
            std::fs::read(path).map(Zeroizing::new).map_err(unreadable)
        };
        let chain = read("server.tls.cert", &files.cert)?;
        let key = read("server.tls.key", &files.key)?;
        let (cert_from, key_from) = (files.cert.display().to_string(), files.key.display().to_string());
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| CertificateError::NoKey(key_from.clone()))?;
        Self::from_pem(&chain, key, &cert_from, &key_from, provider)
    }

    /// Puts together a chain in PEM and a private key; the names say where they are from.
    pub(crate) fn from_pem(
        chain: &[u8],
        key: PrivateKeyDer<'static>,
        cert_from: &str,
        key_from: &str,
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| CertificateError::NoCertificate(cert_from.to_owned()))?;
        let Some(leaf) = chain.first() else {
            return Err(CertificateError::NoCertificate(cert_from.to_owned()));
        };
        let validity = validity(leaf).ok_or_else(|| CertificateError::Malformed(cert_from.to_owned()))?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch { cert: cert_from.to_owned(), key: key_from.to_owned() }
            }
            Error::InvalidCertificate(_) => CertificateError::Malformed(cert_from.to_owned()),
            source => CertificateError::Key { from: key_from.to_owned(), source },
        })?;
        Ok(Self { certified: Arc::new(certified), not_before: validity.0, not_after: validity.1 })
    }

    /// Is it for this host?
    pub(crate) fn covers(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let Some(leaf) = self.certified.cert.first() else { return false };
        let (Ok(leaf), Ok(name)) = (ParsedCertificate::try_from(leaf), ServerName::try_from(host)) else {
            return false;
        };
        verify_server_name(&leaf, &name).is_ok()
    }

    /// Is it the same certificate?
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

/// `notBefore` and `notAfter` (RFC 5280 §4.1.2.5).
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let mut outer = Der(certificate);
    let mut certificate = Der(outer.value(SEQUENCE)?);
    let mut to_be_signed = Der(certificate.value(SEQUENCE)?);
    // A version that is not the first one is written down; serial number, algorithm and issuer are not looked at.
    let (tag, _) = to_be_signed.next()?;
    if tag == VERSION {
        to_be_signed.next()?;
    }
    to_be_signed.value(SEQUENCE)?;
    to_be_signed.value(SEQUENCE)?;
    let mut validity = Der(to_be_signed.value(SEQUENCE)?);
    let (first, second) = (validity.next()?, validity.next()?);
    Some((time(first)?, time(second)?))
}

/// `UTCTime` (of 1950 to 2049) or `GeneralizedTime`, to the second and in UTC, as RFC 5280 demands.
fn time((tag, text): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year_digits, rest) = match tag {
        UTC_TIME if text.len() == 12 => text.split_at_checked(2)?,
        GENERALIZED_TIME if text.len() == 14 => text.split_at_checked(4)?,
        _ => return None,
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok())?;
    let year = match number(year_digits)? {
        year if tag == GENERALIZED_TIME => year,
        year if year < 50 => 2000 + year,
        year => 1900 + year,
    };
    let field = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day, hour, minute, second) = (field(0)?, field(2)?, field(4)?, field(6)?, field(8)?);
    let is_real = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    is_real.then(|| Timestamp::from_unix(seconds))
}

/// Counts from a year that begins in March, so that the leap day is its last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// What is left of a sequence in DER (X.690).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The tag and content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // So many bytes hold the length. Four are more than any certificate needs.
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which has to have this tag.
    fn value(&mut self, expected: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == expected).map(|(_, content)| content)
    }
}

const SEQUENCE: u8 = 0x30;
/// `[0]`, explicit.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::tls::provider;

    /// A certificate for `name` with its key, both in PEM.
    pub(in crate::tls) fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn read(chain: &str, key: &str) -> Result<Certificate, CertificateError> {
        let folder = tempfile::tempdir().expect("a folder");
        let files = TlsFiles { cert: folder.path().join("cert"), key: folder.path().join("key") };
        std::fs::write(&files.cert, chain).expect("written");
        std::fs::write(&files.key, key).expect("written");
        Certificate::read(&files, &provider())
    }

    #[test]
    fn a_certificate_is_good_between_two_instants_for_its_names() {
        for (year, unix) in [(2026, 1_767_225_600), (2049, 2_493_072_000), (2051, 2_556_144_000), (1999, 915_148_800)] {
            let mut params = CertificateParams::new(["id.example.com".to_owned()]).expect("a name");
            (params.not_before, params.not_after) = (date_time_ymd(1970, 1, 1), date_time_ymd(year, 1, 1));
            let key = KeyPair::generate().expect("a key");
            let made = params.self_signed(&key).expect("a certificate");

            let read = read(&made.pem(), &key.serialize_pem()).expect("a pair");

            assert_eq!((read.not_before.as_unix(), read.not_after.as_unix()), (0, unix));
            assert!(read.covers("id.example.com") && !read.covers("example.com") && !read.covers("10.0.0.1"));
        }
    }

    #[test]
    fn an_address_is_covered_by_a_certificate_for_it() {
        let (chain, key) = pair("127.0.0.1");
        let (chain_v6, key_v6) = pair("::1");

        assert!(read(&chain, &key).expect("a pair").covers("127.0.0.1"));
        assert!(read(&chain_v6, &key_v6).expect("a pair").covers("[::1]"));
    }

    #[test]
    fn what_is_no_pair_is_refused_in_words() {
        let (chain, key) = pair("a.example.com");
        let (other, _) = pair("b.example.com");
        let cut = &chain[..chain.len() / 2];
        let bent = "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n";

        for (chain, key, expected) in [
            (other.as_str(), key.as_str(), "does not belong"),
            ("", &key, "holds no certificate"),
            (cut, &key, "holds no certificate"),
            (bent, &key, "malformed"),
            (&chain, "", "holds no private key"),
            (&chain, &chain, "holds no private key"),
            (&chain, &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "holds no private key"),
        ] {
            let refused = read(chain, key).expect_err(expected).to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let (chain, _) = pair("a.example.com");
        let der = CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate");

        for length in 0..der.len() {
            let _ = validity(&der[..length]);
        }
        for at in 0..der.len().min(200) {
            for bit in 0..8 {
                let mut bent = der.to_vec();
                bent[at] ^= 1 << bit;
                let _ = validity(&bent);
            }
        }
        assert!(validity(&der).is_some());
    }
}
