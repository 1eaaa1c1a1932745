//! Looks for private keys where none belongs, in every form in which one may be written.

use std::fs;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::Value;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::harness::{Issuer, Postgres};

/// The number that is secret about a private key of P-256; every way to write the key has it.
pub(super) struct Scalar([u8; 32]);

impl Scalar {
    pub(super) fn of_pem(pem: &str) -> Self {
        Self::of_pkcs8(PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("a private key").secret_pkcs8_der())
    }

    /// Of what a server that ordered a certificate keeps sealed in the database: the certificate's key and the account's.
    pub(super) async fn of_acme(issuer: &Issuer, key_file: &str, postgres: &Postgres) -> [Self; 2] {
        let certificate =
            "SELECT name FROM certificates UNION ALL SELECT encode(private_sealed, 'hex') FROM certificates";
        let account = "SELECT directory_url FROM acme_accounts \
                       UNION ALL SELECT encode(credentials_sealed, 'hex') FROM acme_accounts";
        let key = fs::read_to_string(issuer.path(key_file)).expect("reading the key-encryption key");
        let key = STANDARD.decode(key.trim()).expect("base64");
        let [certificate, account] = [postgres.texts(certificate).await, postgres.texts(account).await];
        let key_of_certificate = open(&key, "certificate key", &certificate);
        let credentials: Value =
            serde_json::from_slice(&open(&key, "account at a certificate authority", &account)).expect("JSON");
        let key_of_account = URL_SAFE_NO_PAD.decode(credentials["key_pkcs8"].as_str().expect("a key"));
        [Self::of_pkcs8(&key_of_certificate), Self::of_pkcs8(&key_of_account.expect("base64url"))]
    }

    /// RFC 5915 §3: version 1, then the number as 32 octets.
    fn of_pkcs8(der: &[u8]) -> Self {
        const BEFORE: [u8; 5] = [2, 1, 1, 4, 32];
        let place = der.windows(BEFORE.len()).position(|window| window == BEFORE).expect("a key of P-256");
        Self(*der[place + BEFORE.len()..].first_chunk().expect("the number"))
    }

    /// Whether a text has it: in hexadecimal, as a list, with escapes, or in base64, wherever in a document it stands.
    pub(super) fn stands_in(&self, text: &str) -> bool {
        // PEM has line breaks, which a log may escape.
        let unbroken = text.replace("\\n", "").replace("\\r", "").replace(['\n', '\r'], "");
        self.forms().iter().any(|form| text.contains(form) || unbroken.contains(form))
    }

    fn forms(&self) -> Vec<String> {
        let Self(bytes) = self;
        let hex = |upper| bytes.map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
        let inside = |list: String| list.trim_matches(['[', ']']).to_owned();
        let escaped = format!("{:?}", Bytes::copy_from_slice(bytes));
        let mut forms = vec![
            hex(false).concat(),
            hex(true).concat(),
            hex(false).join(":"),
            inside(format!("{bytes:?}")),
            inside(format!("{bytes:02x?}")),
            inside(format!("{bytes:x?}")),
            escaped.trim_start_matches("b\"").trim_end_matches('"').to_owned(),
            bytes.escape_ascii().to_string(),
        ];
        for before in 0..3 {
            let shifted = [&[0; 2][..before], bytes].concat();
            // Without the characters that other bytes have a part in.
            let whole = (before * 4).div_ceil(3)..shifted.len() * 8 / 6;
            forms.extend(
                [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)]
                    .map(|it| it[whole.clone()].to_owned()),
            );
        }
        forms
    }
}

/// Opens what stands beside its name in the database: version, id of the key, nonce, ciphertext with its tag.
fn open(key: &[u8], purpose: &str, named: &[String]) -> Vec<u8> {
    let [name, sealed] = named else { panic!("one of each: {named:?}") };
    let sealed: Vec<u8> = (0..sealed.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(&sealed[place..place + 2], 16).expect("hexadecimal"))
        .collect();
    let (head, rest) = sealed.split_at(9);
    let (nonce, ciphertext) = rest.split_first_chunk::<12>().expect("a nonce");
    let associated = [head, name.as_bytes(), &[0], purpose.as_bytes()].concat();
    let mut plain = ciphertext.to_vec();
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key).expect("a key of 32 bytes");
    let opened = cipher.open_in_place(Nonce::from(nonce), Aad::from(associated), &mut plain);
    opened.expect("it opens under this key").to_vec()
}

#[test]
fn a_private_key_is_found_however_it_is_written() {
    let pem = super::authority::Authority::new().pair().key;
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("a private key");
    let (der, key) = (der.secret_pkcs8_der(), Scalar::of_pem(&pem));

    for written in [
        pem.clone(),
        format!("{pem:?}"),
        format!("{der:?}"),
        format!("{der:02x?}"),
        format!("{:?}", Bytes::copy_from_slice(der)),
        STANDARD.encode(der),
        STANDARD.encode([b"x", der].concat()),
        STANDARD.encode([b"xy", der].concat()),
        format!("{{\"d\":\"{}\"}}", URL_SAFE_NO_PAD.encode(key.0)),
        key.0.map(|byte| format!("{byte:02x}")).concat(),
    ] {
        assert!(key.stands_in(&format!("log {written} log")), "{written}");
    }
    assert!(!key.stands_in(&super::authority::Authority::new().pair().key), "another one");
}
