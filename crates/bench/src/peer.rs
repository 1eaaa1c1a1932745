//! The bare server: what is left of an issuer when everything is taken away that its answers do not need.
//!
//! | request | what |
//! | --- | --- |
//! | `POST /token/ES256`, `/RS256`, `/EdDSA` | compares the hash of one secret, writes claims, signs them |
//! | `POST /argon2` | one hash of a password, here and now |
//! | `GET /jwks.json`, `/discovery.json` | bytes that were read at the start |
//!
//! hyper alone, on the same kind of tokio runtime as ours, without a router, a timer or a log.

use std::convert::Infallible;

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::rows::{PASSWORD, argon2id};

/// The client that both servers know.
pub(crate) const CLIENT: &str = "billing";
/// Its secret.
pub(crate) const SECRET: &str = "a-secret-of-the-billing-service-0123456789";
/// What its tokens are for.
pub(crate) const AUDIENCE: &str = "https://api.example.com";
/// What they allow.
pub(crate) const SCOPE: &str = "invoices:read";
/// Seconds that they live, as the issuer's default is.
const LIFETIME: u64 = 600;

/// Everything that is ready before the first request.
struct Ready {
    es256: Signer<EcdsaKeyPair>,
    rs256: Signer<RsaKeyPair>,
    eddsa: Signer<Ed25519KeyPair>,
    secret_sha256: Vec<u8>,
    issuer: String,
    random: SystemRandom,
    jwks: Bytes,
    discovery: Bytes,
}

struct Signer<K> {
    /// `BASE64URL(header) || '.'`
    prefix: String,
    key: K,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: &'a str,
    client_id: &'a str,
    scope: &'a str,
}

#[derive(Serialize)]
struct Answer<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
    scope: &'a str,
}

/// Serves the documents of `folder` and tokens on a free port, which it prints, until it is killed.
///
/// # Errors
/// When something is missing that it needs.
pub(crate) fn serve(folder: &Path) -> Result<()> {
    // The runtime of `keywheel serve`.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start a runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port on the loopback interface")?;
        let address = listener.local_addr().context("a port without an address")?;
        let document = |name| std::fs::read(folder.join(name)).with_context(|| format!("cannot read {name}"));
        let ready = Arc::new(Ready {
            es256: Signer::new("ES256", make(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING))?),
            rs256: Signer::new("RS256", make(RsaKeyPair::generate(KeySize::Rsa2048))?),
            eddsa: Signer::new("EdDSA", make(Ed25519KeyPair::generate())?),
            secret_sha256: digest(&SHA256, SECRET.as_bytes()).as_ref().to_vec(),
            issuer: format!("http://{address}"),
            random: SystemRandom::new(),
            jwks: document("jwks.json")?.into(),
            discovery: document("discovery.json")?.into(),
        });
        std::fs::write(folder.join("address"), address.to_string()).context("cannot tell the address")?;
        let mut builder = http1::Builder::new();
        builder.half_close(false);
        loop {
            let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
            let _ = stream.set_nodelay(true);
            let (ready, builder) = (Arc::clone(&ready), builder.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(Arc::clone(&ready), request));
                // A connection that breaks is the load's to notice.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn make<K>(key: Result<K, aws_lc_rs::error::Unspecified>) -> Result<K> {
    key.map_err(|_| anyhow::anyhow!("cannot make a key"))
}

async fn answer(ready: Arc<Ready>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_post = request.method() == Method::POST;
    let (parts, body) = request.into_parts();
    let answered = match parts.uri.path() {
        "/jwks.json" => Some(document(&ready.jwks, "application/jwk-set+json")),
        "/discovery.json" => Some(document(&ready.discovery, "application/json")),
        path if is_post && body.collect().await.is_ok() => match path {
            "/token/ES256" => ready.token(&parts.headers, &ready.es256),
            "/token/RS256" => ready.token(&parts.headers, &ready.rs256),
            "/token/EdDSA" => ready.token(&parts.headers, &ready.eddsa),
            "/argon2" => {
                argon2id(PASSWORD, &[7; 16]).ok().map(|digest| document(&digest.to_vec().into(), "text/plain"))
            }
            _ => None,
        },
        _ => None,
    };
    Ok(answered.unwrap_or_else(|| {
        let mut refusal = Response::new(Full::default());
        *refusal.status_mut() = StatusCode::UNAUTHORIZED;
        refusal
    }))
}

fn document(bytes: &Bytes, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes.clone()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

impl Ready {
    fn token<K: Sign>(&self, headers: &HeaderMap, signer: &Signer<K>) -> Option<Response<Full<Bytes>>> {
        let basic = headers.get(AUTHORIZATION)?.as_bytes().strip_prefix(b"Basic ")?;
        let credentials = STANDARD.decode(basic).ok()?;
        let (id, secret) = str::from_utf8(&credentials).ok()?.split_once(':')?;
        let hash = digest(&SHA256, secret.as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(hash.as_ref(), &self.secret_sha256).ok()?;

        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let jti = URL_SAFE_NO_PAD.encode(random);
        let claims = Claims {
            iss: &self.issuer,
            sub: id,
            aud: AUDIENCE,
            exp: now + LIFETIME,
            iat: now,
            nbf: now - 60,
            jti: &jti,
            client_id: id,
            scope: SCOPE,
        };
        let mut payload = Vec::with_capacity(512);
        serde_json::to_writer(&mut payload, &claims).ok()?;
        let mut token = String::with_capacity(1024);
        token.push_str(&signer.prefix);
        URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
        signer.key.sign(&self.random, &mut token)?;

        let answer = Answer { access_token: &token, token_type: "Bearer", expires_in: LIFETIME, scope: SCOPE };
        let mut body = Vec::with_capacity(1024);
        serde_json::to_writer(&mut body, &answer).ok()?;
        let mut response = Response::new(Full::new(Bytes::from(body)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        Some(response)
    }
}

impl<K> Signer<K> {
    fn new(alg: &str, key: K) -> Self {
        // A kid as long as a thumbprint is.
        let header = format!(r#"{{"typ":"at+jwt","alg":"{alg}","kid":"{}"}}"#, "k".repeat(43));
        Self { prefix: format!("{}.", URL_SAFE_NO_PAD.encode(header)), key }
    }
}

trait Sign {
    /// Appends `.` and the signature of what is there.
    fn sign(&self, random: &SystemRandom, token: &mut String) -> Option<()>;
}

impl Sign for EcdsaKeyPair {
    fn sign(&self, random: &SystemRandom, token: &mut String) -> Option<()> {
        append(token, Self::sign(self, random, token.as_bytes()).ok()?.as_ref());
        Some(())
    }
}

impl Sign for Ed25519KeyPair {
    fn sign(&self, _: &SystemRandom, token: &mut String) -> Option<()> {
        append(token, Self::sign(self, token.as_bytes()).as_ref());
        Some(())
    }
}

impl Sign for RsaKeyPair {
    fn sign(&self, random: &SystemRandom, token: &mut String) -> Option<()> {
        let mut signature = [0; 256];
        Self::sign(self, &RSA_PKCS1_SHA256, random, token.as_bytes(), &mut signature).ok()?;
        append(token, &signature);
        Some(())
    }
}

fn append(token: &mut String, signature: &[u8]) {
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, token);
}
