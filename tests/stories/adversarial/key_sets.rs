//! Poisoned key sets: a bad entry is not used and spoils nothing else, and no answer of an issuer that has gone mad takes
//! the good keys away (RFC 7517 §4 and §5, RFC 7518 §6).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use http::StatusCode;
use keywheel_jose::Algorithm;
use keywheel_verifier::{Limits, Verifier, VerifyError};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::fronts::{Check, CommandLine, Front, Reads, VerifyNow, fits};
use super::origin::{Origin, Reply};
use super::signer::{
    Key, and_text, claims, encode, good, header, hmac, our_keys, signed, signing_input, token, with, with_text, without,
};
use super::table::{Case, Table, World};
use super::trap::Trap;

const AT_ONCE: usize = 4;

/// A key set, and what holds with it.
struct KeySet {
    name: String,
    keys: String,
    cases: Vec<Case>,
    /// Processes take their time, so the command line is asked about one of the two orders only.
    asks_command_line: bool,
}

#[tokio::test]
async fn a_poisoned_entry_is_not_used_and_spoils_nothing() {
    let trap = Trap::new().await;
    let sets: Arc<[KeySet]> = poisoned(trap.address()).into();
    assert!(sets.len() > 100, "{} key sets", sets.len());

    let mut asking = JoinSet::new();
    for start in 0..AT_ONCE {
        let sets = Arc::clone(&sets);
        asking.spawn(async move {
            let mut wrong = Vec::new();
            for set in sets.iter().skip(start).step_by(AT_ONCE) {
                wrong.extend(verdicts_that_are_wrong(set).await);
            }
            wrong
        });
    }
    let wrong = asking.join_all().await.concat();

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(trap.connections(), 0, "somebody followed a URL in a key");
}

#[tokio::test]
async fn a_document_that_is_no_key_set_gives_no_keys_and_no_panic() {
    let trap = Trap::new().await;
    let mut asking = JoinSet::new();
    for (name, reply) in unusable(trap.address()) {
        asking.spawn(async move {
            let origin = Origin::answering(reply).await;
            let verifier = verifier(&origin, Limits::default());
            // Joins the fetch that is in the air.
            let verdict = verifier.verify::<Map<String, Value>>(&good(Algorithm::ES256)).await;
            assert!(matches!(verdict, Err(VerifyError::KeysUnavailable { .. })), "{name}: {verdict:?}");
            assert_eq!(origin.requests(), 1, "{name}");
        });
    }
    asking.join_all().await;
    assert_eq!(trap.connections(), 0, "somebody followed a redirect");
}

#[tokio::test]
async fn no_answer_takes_the_good_keys_away() {
    let trap = Trap::new().await;
    let mut asking = JoinSet::new();
    for (name, reply) in unusable(trap.address()) {
        asking.spawn(async move {
            let origin = Origin::answering(Reply::keys(our_keys().to_string()).with_max_age_0()).await;
            let verifier = verifier(&origin, eager());
            let token = good(Algorithm::ES256);
            assert!(verifier.verify::<Map<String, Value>>(&token).await.is_ok(), "{name}");

            origin.answer(reply);
            origin.asked(2).await;

            let verdict = verifier.verify_now::<Map<String, Value>>(&token);
            assert!(verdict.is_ok(), "{name}: {verdict:?}");
            let forged = stranger("our-p256");
            assert!(verifier.verify_now::<Map<String, Value>>(&forged).is_err(), "{name}");
        });
    }
    asking.join_all().await;
    assert_eq!(trap.connections(), 0, "somebody followed a redirect");
}

#[tokio::test]
async fn a_swapped_set_counts_and_the_old_one_does_not() {
    let origin = Origin::answering(Reply::keys(our_keys().to_string()).with_max_age_0()).await;
    let verifier = verifier(&origin, eager());
    let (ours, theirs) = (good(Algorithm::ES256), stranger("our-p256"));
    assert_eq!(code(&verifier, &ours).await, "ok");
    assert_eq!(code(&verifier, &theirs).await, "bad_signature");

    // The same kid, another key: the issuer says so, and nobody else could.
    let swapped = json!({"keys": [with(Key::Stranger.jwk(), "kid", "our-p256")]});
    origin.answer(Reply::keys(swapped.to_string()).with_max_age_0());
    origin.asked(2).await;
    assert_eq!(code(&verifier, &ours).await, "bad_signature");
    assert_eq!(code(&verifier, &theirs).await, "ok");

    let renamed = json!({"keys": [with(Key::P256.jwk(), "kid", "renamed")]});
    origin.answer(Reply::keys(renamed.to_string()).with_max_age_0());
    origin.asked(2).await;
    assert_eq!(code(&verifier, &ours).await, "unknown_kid");
    assert_eq!(code(&verifier, &theirs).await, "unknown_kid");

    origin.answer(Reply::keys(our_keys().to_string()).with_max_age_0());
    origin.asked(2).await;
    assert_eq!(code(&verifier, &ours).await, "ok");
    assert_eq!(code(&verifier, &theirs).await, "bad_signature");
}

async fn code(verifier: &Verifier, token: &str) -> &'static str {
    let verdict = verifier.verify::<Map<String, Value>>(token).await;
    verdict.map_or_else(|error| error.code(), |_| "ok")
}

async fn verdicts_that_are_wrong(set: &KeySet) -> Vec<String> {
    let world = World { keys: set.keys.clone(), ..World::ours() };
    let origin = Origin::answering(Reply::keys(set.keys.clone())).await;
    let verifier = verifier(&origin, Limits::default());
    // Joins the fetch that is in the air.
    let first = verifier.verify::<Map<String, Value>>(&good(Algorithm::EdDSA)).await;
    assert!(first.is_ok(), "{}: {first:?}", set.name);
    let fronts: [(&str, &dyn Front); 3] = [
        ("check", &Check::new(&world, Reads::AnyClaims)),
        ("the verifier", &VerifyNow(verifier.clone())),
        ("the command line", &CommandLine::new(&world)),
    ];
    let mut wrong = Vec::new();
    for (front_name, front) in &fronts[..if set.asks_command_line { 3 } else { 2 }] {
        for case in &set.cases {
            let answer = front.judge(case).await;
            if !fits(&answer, case, front.reads()) {
                let (name, verdict) = (&set.name, case.verdict);
                wrong.push(format!("{front_name}: {name}: {case}: expected {verdict:?}, got {answer:?}"));
            }
        }
    }
    if origin.requests() > 2 {
        wrong.push(format!("{}: {} fetches", set.name, origin.requests()));
    }
    wrong
}

fn verifier(origin: &Origin, limits: Limits) -> Verifier {
    let builder = Verifier::builder(World::ours().policy).jwks_url(origin.url()).limits(limits);
    builder.build().expect("a verifier")
}

/// Fetches again as soon as it may.
fn eager() -> Limits {
    Limits { freshness_floor: Duration::ZERO, cooldown: Duration::from_secs(3600), ..Limits::default() }
}

/// Each set has our Ed25519 key, whose token holds, and one entry more.
fn poisoned(trap: SocketAddr) -> Vec<KeySet> {
    let mut sets = Sets(Vec::new());
    symmetric(&mut sets);
    private(&mut sets);
    purposes(&mut sets);
    algorithms(&mut sets);
    certificates(&mut sets, trap);
    kinds(&mut sets);
    points(&mut sets);
    rsa(&mut sets);
    key_ids(&mut sets);
    shapes(&mut sets);
    sets.0
}

struct Sets(Vec<KeySet>);

impl Sets {
    /// A set with this entry more, as it is written, and what becomes of a token.
    fn add(&mut self, name: impl Into<String>, entry: impl ToString, token: String, verdict: Result<(), &'static str>) {
        self.add_all(name, &[entry.to_string()], vec![(token, verdict)]);
    }

    fn add_all(
        &mut self,
        name: impl Into<String>,
        entries: &[String],
        tokens: Vec<(String, Result<(), &'static str>)>,
    ) {
        let name = name.into();
        let own = Key::Ed25519.jwk().to_string();
        for (place, mut entries) in [("first", entries.to_vec()), ("last", entries.to_vec())] {
            entries.insert(if place == "first" { entries.len() } else { 0 }, own.clone());
            let mut table = Table::new("key sets");
            table.accept("our other key", good(Algorithm::EdDSA));
            for (index, (token, verdict)) in tokens.iter().enumerate() {
                match verdict {
                    Ok(()) => table.accept(index, token.as_str()),
                    Err(code) => table.refuse(index, token.as_str(), code),
                }
            }
            let keys = format!("{{\"keys\":[{}]}}", entries.join(","));
            let (name, cases) = (format!("{name} ({place})"), table.into_cases());
            self.0.push(KeySet { name, keys, cases, asks_command_line: place == "last" });
        }
    }

    /// An entry that stands for our P-256 key and is not used.
    fn refused(&mut self, name: impl Into<String>, entry: impl ToString) {
        self.add(name, entry, good(Algorithm::ES256), Err("unknown_kid"));
    }

    /// An entry that is our P-256 key.
    fn used(&mut self, name: impl Into<String>, entry: impl ToString) {
        self.add(name, entry, good(Algorithm::ES256), Ok(()));
    }
}

fn symmetric(sets: &mut Sets) {
    let secret = b"a secret that everybody can read";
    let oct = json!({"kty": "oct", "kid": "our-p256", "alg": "HS256", "k": encode(secret)});
    let head = json!({"alg": "HS256", "typ": "at+jwt", "kid": "our-p256"}).to_string();
    let forged = signed(&signing_input(head, claims().to_string()), |message| hmac("HS256", secret, message));
    sets.add("a shared secret", &oct, forged.clone(), Err("unsupported_algorithm"));
    sets.refused("a shared secret with the kid of ours", &oct);
    let both = [oct.to_string(), Key::P256.jwk().to_string()];
    let tokens = vec![(forged, Err("unsupported_algorithm")), (good(Algorithm::ES256), Ok(()))];
    sets.add_all("a shared secret beside the key of its kid", &both, tokens);
    sets.refused("a shared secret without k", json!({"kty": "oct", "kid": "our-p256"}));
}

fn private(sets: &mut Sets) {
    sets.refused("the private half", with(Key::P256.private_jwk(), "kid", "our-p256"));
    let rsa = with(Key::Rsa.private_jwk(), "kid", "our-rsa");
    sets.add("the private half of RSA", rsa, good(Algorithm::RS256), Err("unknown_kid"));
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
        for value in [json!("AQAB"), json!(null), json!("")] {
            let name = format!("the member {member}: {value}");
            sets.refused(name, with(Key::P256.jwk(), member, value));
        }
    }
}

fn purposes(sets: &mut Sets) {
    let key = Key::P256.jwk();
    sets.used("use: sig", with(key.clone(), "use", "sig"));
    for purpose in
        [json!("enc"), json!("SIG"), json!("sig "), json!(""), json!(null), json!(1), json!(["sig"]), json!({})]
    {
        sets.refused(format!("use: {purpose}"), with(key.clone(), "use", purpose));
    }
    for operations in [json!(["verify"]), json!(["sign", "verify"]), json!(["verify", "x"])] {
        sets.used(format!("key_ops: {operations}"), with(key.clone(), "key_ops", operations));
    }
    for operations in [
        json!([]),
        json!(["sign"]),
        json!(["encrypt"]),
        json!(["VERIFY"]),
        json!([null]),
        json!([["verify"]]),
        json!("verify"),
        json!(null),
        json!({}),
    ] {
        sets.refused(format!("key_ops: {operations}"), with(key.clone(), "key_ops", operations));
    }
    sets.refused("use: enc and key_ops: verify", with(with(key.clone(), "use", "enc"), "key_ops", json!(["verify"])));
    sets.refused("use: sig and key_ops: sign", with(with(key, "use", "sig"), "key_ops", json!(["sign"])));
}

fn algorithms(sets: &mut Sets) {
    let key = Key::P256.jwk();
    sets.used("alg: ES256", with(key.clone(), "alg", "ES256"));
    for alg in [
        json!("ES384"),
        json!("RS256"),
        json!("EdDSA"),
        json!("HS256"),
        json!("none"),
        json!("es256"),
        json!("ES256K"),
        json!(""),
        json!(null),
        json!(1),
        json!(["ES256"]),
    ] {
        sets.refused(format!("alg: {alg}"), with(key.clone(), "alg", alg));
    }
    for own in ["RS256", "PS256", "RS512", "PS384"] {
        for used in [Algorithm::RS256, Algorithm::PS256, Algorithm::RS384] {
            let verdict = if own == used.as_str() { Ok(()) } else { Err("unsuitable_key") };
            let entry = with(Key::Rsa.jwk(), "alg", own);
            sets.add(format!("an RSA key for {own}, a token with {used}"), entry, good(used), verdict);
        }
    }
}

fn certificates(sets: &mut Sets, trap: SocketAddr) {
    let url = format!("http://{trap}/certificate");
    for (member, value) in [
        ("x5u", json!(url)),
        ("x5u", json!(1)),
        ("x5c", json!(["AAAA"])),
        ("x5c", json!(null)),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!({})),
        ("jku", json!(url)),
        ("jwks_uri", json!(url)),
        ("exp", json!(0)),
        ("revoked", json!({"reason": "x"})),
        ("unknown", json!([{"a": 1}])),
        ("ext", json!(false)),
    ] {
        sets.used(format!("{member}: {value}"), with(Key::P256.jwk(), member, value));
    }
}

fn kinds(sets: &mut Sets) {
    let key = Key::P256.jwk();
    for kty in [
        json!("AKP"),
        json!("ec"),
        json!("EC "),
        json!("OKP"),
        json!("RSA"),
        json!(""),
        json!(null),
        json!(1),
        json!(["EC"]),
    ] {
        sets.refused(format!("kty: {kty}"), with(key.clone(), "kty", kty));
    }
    sets.refused("no kty", without(key.clone(), "kty"));
    for crv in [
        json!("P-384"),
        json!("P-521"),
        json!("secp256k1"),
        json!("p-256"),
        json!("P-256 "),
        json!("Ed25519"),
        json!("1.2.840.10045.3.1.7"),
        json!(""),
        json!(null),
        json!(256),
    ] {
        sets.refused(format!("crv: {crv}"), with(key.clone(), "crv", crv));
    }
    for member in ["crv", "x", "y"] {
        sets.refused(format!("no {member}"), without(key.clone(), member));
    }
    let akp = json!({"kty": "AKP", "alg": "ML-DSA-65", "kid": "our-p256", "pub": encode([7; 1952])});
    sets.add_all("a key of ML-DSA", &[akp.to_string(), key.to_string()], vec![(good(Algorithm::ES256), Ok(()))]);
    for (crv, octets) in [("Ed448", 57), ("X25519", 32), ("X448", 56)] {
        let okp = json!({"kty": "OKP", "crv": crv, "kid": "our-p256", "x": encode(vec![9; octets])});
        sets.refused(crv, okp);
    }
}

fn points(sets: &mut Sets) {
    let key = Key::P256.jwk();
    let (x, y) = (Key::P256.number("x"), Key::P256.number("y"));
    let mut beside = y.clone();
    beside[31] ^= 1;
    let point = |x: &[u8], y: &[u8]| with(with(key.clone(), "x", encode(x)), "y", encode(y));
    for (name, entry) in [
        ("a point beside the curve", point(&x, &beside)),
        ("x and y swapped", point(&y, &x)),
        ("the point 0, 0", point(&[0; 32], &[0; 32])),
        ("x is the prime", point(&P256_PRIME, &y)),
        ("all ones", point(&[0xff; 32], &[0xff; 32])),
        ("an octet less", point(&x[1..], &y)),
        ("an octet more", point(&[&[0], &x[..]].concat(), &y)),
        ("no octets", point(&[], &[])),
        ("a point of P-384", with(Key::P384.jwk(), "crv", "P-256")),
        ("the uncompressed form in x", point(&[&[4], &x[..], &y].concat(), &y)),
        ("padded", with(key.clone(), "x", format!("{}=", encode(&x)))),
        ("in hexadecimal", with(key.clone(), "x", "00".repeat(32))),
        ("x as a number", with(key.clone(), "x", 1)),
        ("y as null", with(key.clone(), "y", json!(null))),
    ] {
        sets.refused(name, with(entry, "kid", "our-p256"));
    }
    // Each is of order 1, 2, 4 or 8, so a signature for every message, or one in a few, is made without a private key.
    let neutral_signature = [&[1][..], &[0; 63]].concat();
    let header = with(header(Algorithm::EdDSA), "kid", "weak").to_string();
    let input = signing_input(header, claims().to_string());
    for point in SMALL_ORDER {
        let weak = json!({"kty": "OKP", "crv": "Ed25519", "kid": "weak", "x": encode(hexadecimal(point))});
        let forged = signed(&input, |_| neutral_signature.clone());
        sets.add(format!("Ed25519 of small order: {point}"), weak, forged, Err("unknown_kid"));
    }
}

fn rsa(sets: &mut Sets) {
    let key = Key::Rsa.jwk();
    let modulus = Key::Rsa.number("n");
    // With the exponent 1 the signature is the padded message itself.
    let input = signing_input(header(Algorithm::RS256).to_string(), claims().to_string());
    let forged = signed(&input, |message| padded(message, 256));
    sets.add("RSA with the exponent 1", with(key.clone(), "e", "AQ"), forged, Err("unknown_kid"));
    let refused = |sets: &mut Sets, name: &str, entry: Value| {
        sets.add(name, entry, good(Algorithm::RS256), Err("unknown_kid"));
    };
    for (name, exponent) in [
        ("no octets", &[][..]),
        ("0", &[0]),
        ("2", &[2]),
        ("65536", &[1, 0, 0]),
        ("a leading zero", &[0, 1, 0, 1]),
        ("of 34 bits", &[2, 0, 0, 0, 1]),
        ("of 128 bits", &[0xff; 16]),
    ] {
        refused(sets, &format!("RSA with the exponent {name}"), with(key.clone(), "e", encode(exponent)));
    }
    refused(sets, "RSA with the modulus as exponent", with(key.clone(), "e", encode(&modulus)));
    let mut even = modulus.clone();
    even[255] &= 0xfe;
    let mut short = modulus.clone();
    short[0] = 0x7f;
    for (name, number) in [
        ("of 1024 bits", modulus[128..].to_vec()),
        ("of 2040 bits", modulus[1..].to_vec()),
        ("of 2047 bits", short),
        ("of 16 384 bits", modulus.repeat(8)),
        ("with a leading zero", [&[0], &modulus[..]].concat()),
        ("that is even", even),
        ("of no octets", vec![]),
        ("0", vec![0]),
        ("1", vec![1]),
        ("of 512 bits", modulus[192..].to_vec()),
    ] {
        refused(sets, &format!("RSA with a modulus {name}"), with(key.clone(), "n", encode(number)));
    }
    for member in ["n", "e"] {
        refused(sets, &format!("RSA without {member}"), without(key.clone(), member));
        refused(sets, &format!("RSA with {member} as a number"), with(key.clone(), member, 65_537));
        refused(sets, &format!("RSA with {member} padded"), with(key.clone(), member, "AQAB="));
    }
    refused(sets, "RSA in the standard alphabet", with(key, "n", encode(&modulus).replace('-', "+").replace('_', "/")));
}

fn key_ids(sets: &mut Sets) {
    let ours = Key::P256.jwk();
    let theirs = with(Key::Stranger.jwk(), "kid", "our-p256");
    let both = vec![(good(Algorithm::ES256), Err("ambiguous_key")), (stranger("our-p256"), Err("ambiguous_key"))];
    sets.add_all("one kid for two keys", &[ours.to_string(), theirs.to_string()], both.clone());
    sets.add_all("one kid for two keys, the other way round", &[theirs.to_string(), ours.to_string()], both);
    let twice = [ours.to_string(), ours.to_string(), with(ours.clone(), "use", "sig").to_string()];
    sets.add_all("one key three times", &twice, vec![(good(Algorithm::ES256), Ok(()))]);
    let rsa = with(Key::Rsa.jwk(), "kid", "our-p256");
    let as_rsa = token(Algorithm::RS256, &with(header(Algorithm::RS256), "kid", "our-p256"), &claims());
    let tokens = vec![(good(Algorithm::ES256), Ok(())), (as_rsa, Ok(()))];
    sets.add_all("one kid for two kinds of key", &[ours.to_string(), rsa.to_string()], tokens);
    let elsewhere = with(Key::Stranger.jwk(), "kid", "our-ed25519");
    let forged = stranger("our-ed25519");
    // The algorithm is that of the entry; whoever can write it can sign.
    sets.add("the kid of a key of another kind", elsewhere, forged, Ok(()));
    for kid in [json!(null), json!(1), json!(["our-p256"]), json!({}), json!(true), json!("x".repeat(257))] {
        sets.refused(
            format!("kid: {}", &kid.to_string().chars().take(20).collect::<String>()),
            with(ours.clone(), "kid", kid),
        );
    }
    for kid in ["", "OUR-P256", "our-p256 ", "our-p256\0", "our\u{2010}p256"] {
        sets.refused(format!("kid: {kid:?}"), with(ours.clone(), "kid", kid));
    }
    let nameless = without(ours.clone(), "kid");
    sets.refused("no kid is not any kid", &nameless);
    let no_kid = token(Algorithm::ES256, &without(header(Algorithm::ES256), "kid"), &claims());
    sets.add("no kid in key and token, and no choice", &nameless, no_kid.clone(), Ok(()));
    let choice = [nameless.to_string(), Key::Stranger.jwk().to_string()];
    sets.add_all("no kid in the token, and a choice", &choice, vec![(no_kid, Err("ambiguous_key"))]);
}

fn shapes(sets: &mut Sets) {
    for entry in ["null", "1", "\"key\"", "[]", "{}", "[{}]", "true", "{\"keys\":[]}"] {
        sets.refused(format!("an entry that is {entry}"), entry);
    }
    let ours = Key::P256.jwk();
    let (x, stranger_x) = (Key::P256.number("x"), Key::Stranger.number("x"));
    for members in [
        "\"kty\":\"oct\"".to_owned(),
        "\"kty\":\"EC\"".to_owned(),
        "\"kid\":\"other\"".to_owned(),
        "\"ki\\u0064\":\"our-p256\"".to_owned(),
        format!("\"x\":\"{}\"", encode(&x)),
        format!("\"x\":\"{}\"", encode(stranger_x)),
        "\"a\":1,\"a\":1".to_owned(),
        "\"a\":{\"b\":1,\"b\":2}".to_owned(),
    ] {
        sets.refused(format!("a member twice: {members}"), and_text(&ours, &members));
    }
    sets.refused("a number that is a text of no octets", with_text(ours.clone(), "x", "\"\""));
    sets.used("a hundred arrays deep", and_text(&ours, &format!("\"a\":{}{}", "[".repeat(100), "]".repeat(100))));
    let crowd: Vec<String> =
        (0..90).map(|index| with(Key::Stranger.jwk(), "kid", index.to_string()).to_string()).collect();
    let mut entries = crowd.clone();
    entries.push(ours.to_string());
    sets.add_all("ninety other keys", &entries, vec![(good(Algorithm::ES256), Ok(()))]);
    let bad = vec!["{\"kty\":\"AKP\"}".to_owned(); 90];
    sets.add_all(
        "ninety keys of a kind unknown",
        &[bad, vec![ours.to_string()]].concat(),
        vec![(good(Algorithm::ES256), Ok(()))],
    );
}

/// Answers without one usable key; the redirects lead to `trap`.
fn unusable(trap: SocketAddr) -> Vec<(&'static str, Reply)> {
    let good = our_keys();
    let text = good.to_string();
    let documents: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("white space", b" \n".to_vec()),
        ("null", b"null".to_vec()),
        ("an array", good["keys"].to_string().into()),
        ("an object", b"{}".to_vec()),
        ("an empty set", br#"{"keys":[]}"#.to_vec()),
        ("keys that are null", br#"{"keys":null}"#.to_vec()),
        ("keys that are an object", json!({"keys": {"a": Key::P256.jwk()}}).to_string().into()),
        ("a key alone", Key::P256.jwk().to_string().into()),
        ("KEYS", text.replace("\"keys\"", "\"KEYS\"").into()),
        ("keys twice", format!("{},\"keys\":[]}}", &text[..text.len() - 1]).into()),
        ("keys twice, the good ones last", format!("{{\"keys\":[],{}", &text[1..]).into()),
        ("the set in a set", json!({"keys": [good]}).to_string().into()),
        ("the set as a text", json!(text).to_string().into()),
        ("cut off", text[..text.len() - 1].into()),
        ("with more behind", format!("{text}x").into()),
        ("twice", text.repeat(2).into()),
        ("a byte order mark", format!("\u{feff}{text}").into()),
        ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("an octet that is not UTF-8", [text.trim_end_matches('}').as_bytes(), b",\"a\":\"\xff\"}"].concat()),
        ("HTML", b"<!DOCTYPE html><title>Sign in</title>".to_vec()),
        ("JSONP", format!("callback({text})").into()),
        ("compressed", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
        ("two hundred thousand arrays", "[".repeat(200_000).into()),
        ("two hundred thousand arrays in it", format!("{{\"keys\":[],\"a\":{}", "[".repeat(200_000)).into()),
        ("ten thousand keys", json!({"keys": vec![Key::P256.jwk(); 10_000]}).to_string().into()),
        ("a hundred and one keys", {
            let keys: Vec<Value> = (0..101).map(|index| with(Key::P256.jwk(), "kid", index)).collect();
            json!({"keys": keys}).to_string().into()
        }),
        ("half a mebibyte of blanks", format!("{}{text}", " ".repeat(1 << 19)).into()),
        ("only secrets", json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "our-p256"}]}).to_string().into()),
        ("only private halves", json!({"keys": Key::OURS.map(Key::private_jwk)}).to_string().into()),
        (
            "only keys for encryption",
            json!({"keys": Key::OURS.map(|key| with(key.jwk(), "use", "enc"))}).to_string().into(),
        ),
    ];
    let mut replies: Vec<_> = documents.into_iter().map(|(name, body)| (name, Reply::keys(body))).collect();
    for (name, status) in [
        ("201", StatusCode::CREATED),
        ("203", StatusCode::NON_AUTHORITATIVE_INFORMATION),
        ("204", StatusCode::NO_CONTENT),
        ("206", StatusCode::PARTIAL_CONTENT),
        ("301", StatusCode::MOVED_PERMANENTLY),
        ("302", StatusCode::FOUND),
        ("307", StatusCode::TEMPORARY_REDIRECT),
        ("401", StatusCode::UNAUTHORIZED),
        ("404", StatusCode::NOT_FOUND),
        ("429", StatusCode::TOO_MANY_REQUESTS),
        ("500", StatusCode::INTERNAL_SERVER_ERROR),
        ("503", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        // Each has a key set for a body: the stranger's.
        let keys = json!({"keys": [with(Key::Stranger.jwk(), "kid", "our-p256")]}).to_string();
        let mut reply = Reply { status, ..Reply::keys(if status == 204 { String::new() } else { keys }) };
        reply.headers.push(("location", format!("http://{trap}/jwks.json")));
        replies.push((name, reply));
    }
    replies
}

/// A token of the stranger's P-256 key under that kid.
fn stranger(kid: &str) -> String {
    let header = with(header(Algorithm::ES256), "kid", kid).to_string();
    signed(&signing_input(header, claims().to_string()), |message| Key::Stranger.sign(Algorithm::ES256, message))
}

/// EMSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §9.2).
fn padded(message: &[u8], octets: usize) -> Vec<u8> {
    let prefix = hexadecimal("3031300d060960864801650304020105000420");
    let hash = digest::digest(&digest::SHA256, message);
    let ones = vec![0xff; octets - 3 - prefix.len() - hash.as_ref().len()];
    [&[0, 1][..], &ones, &[0], &prefix, hash.as_ref()].concat()
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digit = |index: usize| u8::from_str_radix(&text[index..index + 2], 16).expect("two digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// FIPS 186-5 §3.2.1.3 in SP 800-186.
const P256_PRIME: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff,
];

/// The Ed25519 points of small order, with their unreduced spellings and both signs.
const SMALL_ORDER: [&str; 14] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];
