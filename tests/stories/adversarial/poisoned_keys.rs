//! Key sets with one bad entry, and what becomes of tokens (RFC 7517 §4 and §5, RFC 7518 §6).

use std::net::SocketAddr;

use aws_lc_rs::digest;
use keywheel_jose::Algorithm;
use serde_json::{Value, json};

use super::signer::{
    Key, and_text, claims, encode, good, header, hmac, signed, signing_input, token, with, with_text, without,
};
use super::table::{Case, Table};

/// A key set, and what holds with it.
pub(super) struct KeySet {
    pub(super) name: String,
    pub(super) keys: String,
    pub(super) cases: Vec<Case>,
    /// Processes take their time, so the command line is asked about one of the two orders only.
    pub(super) asks_command_line: bool,
}

/// Each set has our Ed25519 key, whose token holds, and one entry more.
pub(super) fn poisoned(trap: SocketAddr) -> Vec<KeySet> {
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

/// A token of the stranger's P-256 key under that kid.
pub(super) fn stranger(kid: &str) -> String {
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
