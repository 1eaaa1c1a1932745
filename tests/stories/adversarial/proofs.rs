//! Tokens bound to a DPoP key, and proofs that are none (RFC 9449 §4.3, §7.1 and §11): through every front that takes them.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::Full;
use keywheel_jose::{Algorithm, PublicJwk};
use keywheel_verifier::Guard;
use serde_json::{Value, json};

use super::fronts::{long_fresh, verifier};
use super::services::{Gated, Routed, Service};
use super::signer::{Key, claims, encode, good, hmac, signed, signing_input, token, with, with_text, without};
use super::table::World;
use crate::harness::unix_now;

const URL: &str = "https://api.example.com";
/// Who may use the token.
const HOLDER: Key = Key::Stranger;

/// What a request brings, and what it is answered: the status, and an `error` among the challenges.
struct Asking {
    name: String,
    authorization: String,
    proofs: Vec<String>,
    answer: (u16, &'static str),
}

const PASSES: (u16, &str) = (200, "");
const NO_PROOF: (u16, &str) = (401, "invalid_dpop_proof");
const NO_TOKEN: (u16, &str) = (401, "invalid_token");

#[tokio::test]
async fn a_bound_token_needs_its_holders_proof_at_every_front() {
    let world = World::ours();
    let guard = async || {
        let (verifier, _) = verifier(&world, long_fresh()).await;
        Guard::new(verifier).external_url(URL).expect("a URL")
    };
    let settings = format!("[token]\nexternal_url = \"{URL}\"\n");
    // Each front has a memory of its own: a proof is good once at each.
    let fronts: [(&str, &dyn Service); 4] = [
        ("the layer", &Routed::by_layer(&guard().await)),
        ("the extractor", &Routed::by_extractor(guard().await)),
        ("the gate at /verify", &Gated::behind_nginx(&world, &settings).await),
        ("the gate as a proxy", &Gated::before_a_service(&world, &settings).await),
    ];
    let table = table();
    let mut wrong = Vec::new();
    for (front, service) in fronts {
        for Asking { name, authorization, proofs, answer: (status, error) } in &table {
            let reply = service.answer(request(authorization, proofs)).await;
            let challenges = reply.headers.get_all(header::WWW_AUTHENTICATE);
            let said: Vec<&str> = challenges.iter().map(|value| value.to_str().expect("visible ASCII")).collect();
            let said = said.join(", ");
            let names_it = error.is_empty() || said.contains(&format!("error=\"{error}\""));
            if reply.status != *status || !names_it {
                wrong.push(format!("{front}: {name}: expected {status} {error}, got {} {said}", reply.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

fn table() -> Vec<Asking> {
    let mut table = Vec::new();
    schemes(&mut table);
    headers(&mut table);
    keys(&mut table);
    requests(&mut table);
    times(&mut table);
    others(&mut table);
    table
}

/// Adds a request with the bound token and these proofs.
fn add(table: &mut Vec<Asking>, name: impl Into<String>, proofs: Vec<String>, answer: (u16, &'static str)) {
    table.push(Asking { name: name.into(), authorization: format!("DPoP {}", bound_token()), proofs, answer });
}

fn schemes(table: &mut Vec<Asking>) {
    let free = good(Algorithm::EdDSA);
    let bound = bound_token();
    let for_free = || sign(&proof_header(), &with(proof_claims(), "ath", hash(&free)));
    for (name, authorization, proofs, answer) in [
        ("token and proof", format!("DPoP {bound}"), vec![good_proof()], PASSES),
        ("the scheme in other letters", format!("dpop {bound}"), vec![good_proof()], PASSES),
        ("no proof", format!("DPoP {bound}"), vec![], NO_PROOF),
        ("an empty proof", format!("DPoP {bound}"), vec![String::new()], NO_PROOF),
        ("a bound token as a bearer", format!("Bearer {bound}"), vec![], NO_TOKEN),
        ("a bound token as a bearer, and its proof", format!("Bearer {bound}"), vec![good_proof()], NO_TOKEN),
        ("a token that is not bound, and a proof", format!("DPoP {free}"), vec![for_free()], NO_TOKEN),
        ("a bearer token, and a proof nobody wants", format!("Bearer {free}"), vec![for_free()], PASSES),
        ("two proofs", format!("DPoP {bound}"), vec![good_proof(), good_proof()], NO_PROOF),
        (
            "two proofs on one line",
            format!("DPoP {bound}"),
            vec![format!("{}, {}", good_proof(), good_proof())],
            NO_PROOF,
        ),
        ("the token is its own proof", format!("DPoP {bound}"), vec![bound.clone()], NO_PROOF),
    ] {
        table.push(Asking { name: name.to_owned(), authorization, proofs, answer });
    }
    let replayed = good_proof();
    add(table, "a proof", vec![replayed.clone()], PASSES);
    add(table, "the proof once more", vec![replayed], NO_PROOF);
    // The signature differs, the jti does not.
    let claims = proof_claims();
    add(table, "a jti", vec![sign(&proof_header(), &claims)], PASSES);
    add(table, "the jti once more", vec![sign(&proof_header(), &with(claims, "extra", 1))], NO_PROOF);
    let expired = token(Algorithm::EdDSA, &bound_header(), &with(bound_claims(), "exp", 1_700_000_001));
    let proof = sign(&proof_header(), &with(proof_claims(), "ath", hash(&expired)));
    table.push(Asking {
        name: "a good proof for a token that has expired".to_owned(),
        authorization: format!("DPoP {expired}"),
        proofs: vec![proof.clone()],
        answer: NO_TOKEN,
    });
}

fn headers(table: &mut Vec<Asking>) {
    for (member, text, answer) in [
        ("typ", "\"DPOP+JWT\"", PASSES),
        ("typ", "\"application/dpop+jwt\"", PASSES),
        ("typ", "\"JWT\"", NO_PROOF),
        ("typ", "\"at+jwt\"", NO_PROOF),
        ("typ", "\"dpop\"", NO_PROOF),
        ("typ", "null", NO_PROOF),
        ("typ", "[\"dpop+jwt\"]", NO_PROOF),
        ("alg", "\"none\"", NO_PROOF),
        ("alg", "\"HS256\"", NO_PROOF),
        ("alg", "\"es256\"", NO_PROOF),
        ("alg", "\"ES384\"", NO_PROOF),
        ("alg", "\"RS256\"", NO_PROOF),
        ("alg", "null", NO_PROOF),
        ("jwk", "null", NO_PROOF),
        ("jwk", "{}", NO_PROOF),
        ("jwk", "[]", NO_PROOF),
        ("jwk", "\"stranger\"", NO_PROOF),
        ("jwk", r#"{"kty":"oct","k":"AAAA"}"#, NO_PROOF),
        ("crit", "[]", NO_PROOF),
        ("crit", "[\"exp\"]", NO_PROOF),
        ("b64", "false", NO_PROOF),
        ("zip", "\"DEF\"", NO_PROOF),
        ("kid", "\"stranger\"", PASSES),
        ("x5c", "[\"AAAA\"]", PASSES),
    ] {
        let header = with_text(proof_header(), member, text);
        add(table, format!("{member}: {text}"), vec![sign_text(&header, &proof_claims().to_string())], answer);
    }
    for member in ["typ", "alg", "jwk"] {
        add(table, format!("no {member}"), vec![sign(&without(proof_header(), member), &proof_claims())], NO_PROOF);
    }
    let repeated = format!("{{\"typ\":\"dpop+jwt\",{}", &proof_header().to_string()[1..]);
    add(table, "typ twice", vec![sign_text(&repeated, &proof_claims().to_string())], NO_PROOF);
}

fn keys(table: &mut Vec<Asking>) {
    let by = |key: Key, algorithm: Algorithm| {
        let header = json!({"typ": "dpop+jwt", "alg": algorithm.as_str(), "jwk": without(key.jwk(), "kid")});
        let input = signing_input(header.to_string(), proof_claims().to_string());
        signed(&input, |message| key.sign(algorithm, message))
    };
    for (name, proof) in [
        ("another key of its kind", by(Key::P256, Algorithm::ES256)),
        ("another key of another kind", by(Key::Ed25519, Algorithm::EdDSA)),
        ("an RSA key", by(Key::Rsa, Algorithm::PS256)),
    ] {
        // The proof is good, and somebody else's: it is the token that does not hold for them.
        add(table, name, vec![proof], NO_TOKEN);
    }
    let private = with(proof_header(), "jwk", HOLDER.private_jwk());
    add(table, "the private half", vec![sign(&private, &proof_claims())], NO_PROOF);
    let mut beside = HOLDER.number("y");
    beside[31] ^= 1;
    let off_curve = with(without(HOLDER.jwk(), "kid"), "y", encode(beside));
    add(
        table,
        "a point beside the curve",
        vec![sign(&with(proof_header(), "jwk", off_curve), &proof_claims())],
        NO_PROOF,
    );
    let elsewhere = with(proof_header(), "jwk", Key::P256.jwk());
    add(table, "the key of another", vec![sign(&elsewhere, &proof_claims())], NO_PROOF);
    let input = signing_input(proof_header().to_string(), proof_claims().to_string());
    let forged = signed(&input, |message| Key::P256.sign(Algorithm::ES256, message));
    add(table, "the holder's key, another's signature", vec![forged], NO_PROOF);
    let secret = HOLDER.jwk().to_string();
    let head = with(proof_header(), "alg", "HS256").to_string();
    let forged =
        signed(&signing_input(head, proof_claims().to_string()), |message| hmac("HS256", secret.as_bytes(), message));
    add(table, "the key as the secret of an HMAC", vec![forged], NO_PROOF);
    let unsigned = with(proof_header(), "alg", "none").to_string();
    add(table, "no signature", vec![format!("{}.", signing_input(unsigned, proof_claims().to_string()))], NO_PROOF);
}

fn requests(table: &mut Vec<Asking>) {
    for (text, answer) in [
        ("\"POST\"", NO_PROOF),
        ("\"get\"", NO_PROOF),
        ("\"GET \"", NO_PROOF),
        ("\"\"", NO_PROOF),
        ("\"*\"", NO_PROOF),
        ("null", NO_PROOF),
        ("1", NO_PROOF),
        ("[\"GET\"]", NO_PROOF),
    ] {
        add(table, format!("htm: {text}"), vec![with_claim("htm", text)], answer);
    }
    for (text, answer) in [
        ("\"https://api.example.com\"", PASSES),
        ("\"https://api.example.com/\"", PASSES),
        ("\"https://api.example.com:443/\"", PASSES),
        ("\"HTTPS://API.example.com/\"", PASSES),
        ("\"https://api.example.com/?a=b\"", PASSES),
        ("\"https://api.example.com/#a\"", PASSES),
        ("\"https://api.example.com/./\"", PASSES),
        ("\"http://api.example.com/\"", NO_PROOF),
        ("\"https://api.example.com:8443/\"", NO_PROOF),
        ("\"https://api.example.com/a\"", NO_PROOF),
        ("\"https://api.example.com//\"", NO_PROOF),
        ("\"https://api.example.com./\"", NO_PROOF),
        ("\"https://www.example.com/\"", NO_PROOF),
        ("\"https://evil.example/\"", NO_PROOF),
        ("\"https://api.example.com.evil.example/\"", NO_PROOF),
        ("\"https://api.example.com@evil.example/\"", NO_PROOF),
        ("\"https://evil@api.example.com/\"", NO_PROOF),
        ("\"https://evil.example/https://api.example.com/\"", NO_PROOF),
        ("\"https://evil.example\\\\@api.example.com/\"", NO_PROOF),
        ("\"//api.example.com/\"", NO_PROOF),
        ("\"/\"", NO_PROOF),
        ("\"\"", NO_PROOF),
        ("\" https://api.example.com/\"", NO_PROOF),
        ("\"https://\\u0430pi.example.com/\"", NO_PROOF),
        ("null", NO_PROOF),
        ("1", NO_PROOF),
        ("[\"https://api.example.com/\"]", NO_PROOF),
        ("{}", NO_PROOF),
    ] {
        add(table, format!("htu: {text}"), vec![with_claim("htu", text)], answer);
    }
    let own = hash(&bound_token());
    let standard = own.replace('-', "+").replace('_', "/");
    for (name, text) in [
        ("of another token", format!("\"{}\"", hash(&good(Algorithm::EdDSA)))),
        ("of nothing", format!("\"{}\"", hash(""))),
        ("padded", format!("\"{own}=\"")),
        ("cut", format!("\"{}\"", &own[..42])),
        ("in other letters", format!("\"{}\"", own.to_uppercase())),
        ("the token itself", format!("\"{}\"", bound_token())),
        ("empty", "\"\"".to_owned()),
        ("null", "null".to_owned()),
        ("a number", "1".to_owned()),
        ("an array", format!("[\"{own}\"]")),
    ] {
        add(table, format!("ath: {name}"), vec![with_claim("ath", &text)], NO_PROOF);
    }
    assert_ne!(own, standard, "the hash has a letter in which the alphabets differ");
    add(table, "ath: in the standard alphabet", vec![with_claim("ath", &format!("\"{standard}\""))], NO_PROOF);
    for member in ["htm", "htu", "ath", "jti", "iat"] {
        add(table, format!("no {member}"), vec![sign(&proof_header(), &without(proof_claims(), member))], NO_PROOF);
    }
}

/// The clock is the system's, so nothing here is nearer to a boundary than the test can be slow.
fn times(table: &mut Vec<Asking>) {
    let now = unix_now() as i64;
    for (name, iat, answer) in [
        ("now", now.to_string(), PASSES),
        ("now and a fraction", format!("{now}.5"), PASSES),
        ("half a minute ago", (now - 30).to_string(), PASSES),
        ("ten minutes ago", (now - 600).to_string(), NO_PROOF),
        ("a year ago", (now - 31_536_000).to_string(), NO_PROOF),
        ("in ten minutes", (now + 600).to_string(), NO_PROOF),
        ("in a year", (now + 31_536_000).to_string(), NO_PROOF),
        ("in milliseconds", (now * 1_000).to_string(), NO_PROOF),
        ("0", "0".to_owned(), NO_PROOF),
        ("-1", "-1".to_owned(), NO_PROOF),
        ("1e400", "1e400".to_owned(), NO_PROOF),
        ("a text", format!("\"{now}\""), NO_PROOF),
        ("null", "null".to_owned(), NO_PROOF),
        ("an array", format!("[{now}]"), NO_PROOF),
    ] {
        add(table, format!("iat: {name}"), vec![with_claim("iat", &iat)], answer);
    }
    add(table, "exp has passed", vec![with_claim("exp", &(now - 600).to_string())], NO_PROOF);
    add(table, "nbf has not come", vec![with_claim("nbf", &(now + 600).to_string())], NO_PROOF);
    add(table, "exp is a text", vec![with_claim("exp", "\"never\"")], NO_PROOF);
}

fn others(table: &mut Vec<Asking>) {
    for (text, answer) in [
        ("null", NO_PROOF),
        ("1", NO_PROOF),
        ("\"\"", NO_PROOF),
        ("[]", NO_PROOF),
        ("\"\\u0000\"", PASSES),
        ("\"' OR 1=1 --\"", PASSES),
    ] {
        add(table, format!("jti: {text}"), vec![with_claim("jti", text)], answer);
    }
    let long = format!("\"{}\"", "x".repeat(257));
    add(table, "jti: 257 octets", vec![with_claim("jti", &long)], NO_PROOF);
    add(table, "a nonce that nobody asked for", vec![with_claim("nonce", "\"n\"")], PASSES);
    add(table, "a claim more", vec![with_claim("extra", "{}")], PASSES);
    let [head, payload, signature] = split(&good_proof());
    for (name, proof) in [
        ("two parts", format!("{head}.{payload}")),
        ("four parts", format!("{head}.{payload}.{signature}.x")),
        ("five parts", format!("{head}.{payload}.{signature}.x.y")),
        ("padded", format!("{head}.{payload}.{signature}==")),
        (
            "a bit is different",
            format!("{head}.{payload}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]),
        ),
        ("JSON", json!({"protected": head, "payload": payload, "signature": signature}).to_string()),
        ("in quotes", format!("\"{head}.{payload}.{signature}\"")),
        ("with a scheme", format!("DPoP {head}.{payload}.{signature}")),
        ("nonsense", "nonsense".to_owned()),
        ("ten thousand dots", ".".repeat(10_000)),
        ("twenty thousand letters", "A".repeat(20_000)),
    ] {
        add(table, name, vec![proof], NO_PROOF);
    }
    let long = sign(&proof_header(), &with(proof_claims(), "extra", "x".repeat(8_000)));
    add(table, "longer than 8 KiB", vec![long], NO_PROOF);
    for payload in ["null", "[]", "\"\"", "{}", "1"] {
        add(table, format!("claims: {payload}"), vec![sign_text(&proof_header().to_string(), payload)], NO_PROOF);
    }
    let repeated = format!("{{\"htm\":\"GET\",{}", &proof_claims().to_string()[1..]);
    add(table, "htm twice", vec![sign_text(&proof_header().to_string(), &repeated)], NO_PROOF);
}

fn bound_header() -> Value {
    super::signer::header(Algorithm::EdDSA)
}

fn bound_claims() -> Value {
    let jwk = PublicJwk::from_json(&HOLDER.jwk()).expect("a public key");
    with(claims(), "cnf", json!({"jkt": jwk.thumbprint()}))
}

/// The same each time: its algorithm needs no randomness.
fn bound_token() -> String {
    token(Algorithm::EdDSA, &bound_header(), &bound_claims())
}

fn proof_header() -> Value {
    json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": without(HOLDER.jwk(), "kid")})
}

/// With another `jti` each time.
fn proof_claims() -> Value {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let jti = format!("proof-{}", MADE.fetch_add(1, Ordering::Relaxed));
    json!({"jti": jti, "htm": "GET", "htu": format!("{URL}/"), "iat": unix_now() as i64, "ath": hash(&bound_token())})
}

fn good_proof() -> String {
    sign(&proof_header(), &proof_claims())
}

/// A good proof, but for one claim written as this text.
fn with_claim(claim: &str, text: &str) -> String {
    sign_text(&proof_header().to_string(), &with_text(proof_claims(), claim, text))
}

fn sign(header: &Value, claims: &Value) -> String {
    sign_text(&header.to_string(), &claims.to_string())
}

fn sign_text(header: &str, claims: &str) -> String {
    signed(&signing_input(header, claims), |message| HOLDER.sign(Algorithm::ES256, message))
}

fn hash(token: &str) -> String {
    encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

fn split(proof: &str) -> [String; 3] {
    let parts: Vec<String> = proof.split('.').map(str::to_owned).collect();
    parts.try_into().expect("three parts")
}

fn request(authorization: &str, proofs: &[String]) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    let value = |text: &str| HeaderValue::from_str(text).expect("a header value");
    request.headers_mut().insert(header::AUTHORIZATION, value(authorization));
    for proof in proofs {
        request.headers_mut().append(HeaderName::from_static("dpop"), value(proof));
    }
    request
}
