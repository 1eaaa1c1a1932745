//! The header: what it may say, what it may not, and what nobody listens to (RFC 7515 §4, RFC 8725 §3.9 to §3.11).

use std::net::SocketAddr;

use keywheel_jose::Algorithm;
use serde_json::{Value, json};

use super::signer::{
    Key, and_text, claims, encode, good, header, raw_token, signed, signing_input, token, with, with_text, without,
};
use super::table::{Case, Table, Verdict};

/// `trap` is an address that nobody may connect to.
pub(super) fn cases(trap: SocketAddr) -> Vec<Case> {
    let mut table = Table::new("headers");
    keys_of_the_attacker(&mut table, trap);
    crit(&mut table);
    extensions(&mut table);
    typ(&mut table);
    kid(&mut table);
    unknown_members(&mut table);
    repeated_members(&mut table);
    not_one_object(&mut table);
    table.into_cases()
}

/// The header of a good token.
fn plain() -> Value {
    header(Algorithm::ES256)
}

/// A token of this header and good claims.
fn under(header: &Value) -> String {
    token(Algorithm::ES256, header, &claims())
}

/// The same, for a header that may not be JSON.
fn under_text(header: impl AsRef<[u8]>) -> String {
    raw_token(Algorithm::ES256, header, claims().to_string())
}

/// RFC 8725 §3.10: "do not trust received claims"; a token can't bring its own key.
fn keys_of_the_attacker(table: &mut Table, trap: SocketAddr) {
    table.section("RFC 7515 §4.1.2 to §4.1.8: a token brings no key");
    let own = Key::Stranger.jwk();
    let private = Key::Stranger.private_jwk();
    let symmetric = json!({"kty": "oct", "k": "AAAA"});
    let urls = [
        format!("http://{trap}/jwks.json"),
        format!("http://{trap}@id.example.com/"),
        format!("http://id.example.com@{trap}/.well-known/jwks.json"),
        format!("http://{trap}/.well-known/jwks.json#https://id.example.com"),
        format!("file:///proc/self/fd/0?{trap}"),
        format!("//{trap}/jwks.json"),
        format!("ldap://{trap}/a"),
    ];
    let mut brought: Vec<(String, Value)> = vec![
        ("jwk".into(), json!({"jwk": own})),
        ("jwk with its private half".into(), json!({"jwk": private})),
        ("jwk under our kid".into(), json!({"jwk": with(own.clone(), "kid", Key::P256.kid())})),
        ("jwk that is a secret".into(), json!({"jwk": symmetric})),
        ("jwk as a text".into(), json!({"jwk": own.to_string()})),
        ("jwk as an array".into(), json!({"jwk": [own]})),
        ("jwk as null".into(), json!({"jwk": null})),
        ("jwks".into(), json!({"jwks": {"keys": [own]}})),
        ("keys".into(), json!({"keys": [own]})),
        ("x5c".into(), json!({"x5c": ["MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"]})),
        ("x5c that is no array".into(), json!({"x5c": 7})),
        ("x5c that is empty".into(), json!({"x5c": []})),
        ("x5t".into(), json!({"x5t": encode([7; 20])})),
        ("x5t that is a number".into(), json!({"x5t": 1})),
        ("x5t#S256".into(), json!({"x5t#S256": encode([7; 32])})),
        ("x5t#S256 as an object".into(), json!({"x5t#S256": {}})),
    ];
    for url in &urls {
        for member in ["jku", "x5u", "url", "iss", "jwks_uri"] {
            brought.push((format!("{member}: {url}"), json!({ member: url })));
        }
    }
    brought
        .push(("all at once".into(), json!({"jwk": own, "jku": urls[0], "x5u": urls[0], "x5c": ["AAAA"], "x5t": 1})));
    for (name, members) in brought {
        let plus = |mut header: Value| {
            let header_members = header.as_object_mut().expect("a header is an object");
            header_members.extend(members.as_object().expect("members are an object").clone());
            header
        };
        let forged = |header: Value| {
            let input = signing_input(plus(header).to_string(), claims().to_string());
            signed(&input, |message| Key::Stranger.sign(Algorithm::ES256, message))
        };
        let good = plain();
        table.refuse(format!("{name}; our kid"), forged(good.clone()), "bad_signature");
        table.refuse(format!("{name}; no kid"), forged(without(good.clone(), "kid")), "bad_signature");
        table.refuse(format!("{name}; its kid"), forged(with(good.clone(), "kid", Key::Stranger.kid())), "unknown_kid");
        // Beside a good signature it is only a member that nobody knows.
        table.accept(format!("{name}; our signature"), under(&plus(good)));
    }
}

fn crit(table: &mut Table) {
    table.section("RFC 7515 §4.1.11: crit");
    for value in [
        r#"["exp"]"#,
        r#"["b64"]"#,
        r#"["alg"]"#,
        r#"["typ","kid"]"#,
        r#"["urn:example:x"]"#,
        r#"["http://example.com/UNDEFINED"]"#,
        r#"["x","x"]"#,
        "[]",
        r#"[""]"#,
        "[null]",
        "[1]",
        "[[]]",
        "null",
        "true",
        "false",
        "0",
        "\"\"",
        "\"exp\"",
        "{}",
        r#"{"exp":true}"#,
    ] {
        let header = with_text(plain(), "crit", value);
        table.refuse(value, under_text(header), "critical_header");
    }
    let header = with(with(plain(), "crit", json!(["urn:example:x"])), "urn:example:x", 1);
    table.refuse("and the member is there", under(&header), "critical_header");
    let header = with(plain(), "CRIT", json!(["exp"]));
    table.accept("in other letters it is another member", under(&header));
}

fn extensions(table: &mut Table) {
    table.section("RFC 7797 §7, RFC 7516 §4.1: b64, enc and zip are not for signed tokens");
    for member in ["b64", "enc", "zip"] {
        for value in ["false", "true", "null", "0", "\"DEF\"", "\"A256GCM\"", "\"\"", "[]", "{}"] {
            let header = with_text(plain(), member, value);
            let token = under_text(header);
            table.refuse(format!("{member}: {value}"), token, "forbidden_header");
        }
    }
    let unencoded = with(with(plain(), "b64", false), "crit", json!(["b64"])).to_string();
    let input = format!("{}.{}", encode(&unencoded), claims());
    let unencoded_token = signed(&input, |message| Key::P256.sign(Algorithm::ES256, message));
    // Its payload has dots.
    table.refuse("an unencoded payload", unencoded_token, "wrong_part_count");
    let input = format!("{}.{}", encode(unencoded), "{}");
    let without_dots = signed(&input, |message| Key::P256.sign(Algorithm::ES256, message));
    table.refuse("an unencoded payload without dots", without_dots, "not_base64url");

    table.section("RFC 7515 §4.1.10, RFC 7519 §5.2: cty");
    for cty in ["JWT", "jwt", "Jwt", "application/jwt", "application/JWT", "APPLICATION/JWT"] {
        let header = with(plain(), "cty", cty);
        table.refuse(cty, under(&header), "nested_token");
        let inner = good(Algorithm::ES256);
        let token = raw_token(Algorithm::ES256, header.to_string(), inner);
        table.refuse(format!("{cty}, and a token inside"), token, "nested_token");
    }
    for cty in ["json", "", "application/json", "at+jwt", "JWTX"] {
        let header = with(plain(), "cty", cty);
        table.accept(format!("{cty:?}"), under(&header));
    }
    for cty in ["null", "1", "true", "[\"JWT\"]", "{}"] {
        let header = with_text(plain(), "cty", cty);
        table.refuse(cty, under_text(header), "malformed_header");
    }
    let inner = raw_token(Algorithm::ES256, plain().to_string(), good(Algorithm::ES256));
    table.refuse("a token inside, and no word of it", inner, "not_an_object");
}

fn typ(table: &mut Table) {
    table.section("RFC 9068 §4, RFC 8725 §3.11: typ");
    for typ in [
        "at+jwt",
        "AT+JWT",
        "At+Jwt",
        "at+JWT",
        "application/at+jwt",
        "application/AT+JWT",
        "APPLICATION/AT+JWT",
        "Application/at+jwt",
    ] {
        let header = with(plain(), "typ", typ);
        table.accept(typ, under(&header));
    }
    for typ in [
        "JWT",
        "jwt",
        "JWS",
        "JOSE",
        "JOSE+JSON",
        "application/jwt",
        "jwt+at",
        "at",
        "at+",
        "+jwt",
        "at+jwt ",
        " at+jwt",
        "at +jwt",
        "at jwt",
        "at-jwt",
        "at+jwt\0",
        "at+jwt\n",
        "at+jwt;",
        "at+jwt;charset=utf-8",
        "at+jwt; v=1",
        "application/at+jwt; charset=utf-8",
        "application/ at+jwt",
        "application//at+jwt",
        "application/application/at+jwt",
        "application/",
        "application",
        "/at+jwt",
        "text/at+jwt",
        "x/at+jwt",
        "id+jwt",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "rt+jwt",
        "at+jwt,JWT",
        "at%2Bjwt",
        "at+jwt+jwt",
        "xat+jwt",
        "at+jwtx",
        "at\u{ff0b}jwt",
        "\u{430}t+jwt",
        "at+jw\u{442}",
        "",
        " ",
        "*",
        "null",
    ] {
        let header = with(plain(), "typ", typ);
        table.refuse(format!("{typ:?}"), under(&header), "wrong_type");
    }
    let long = with(plain(), "typ", "a".repeat(5_000));
    table.refuse("five thousand letters", under(&long), "wrong_type");
    let missing = without(plain(), "typ");
    table.refuse("missing", under(&missing), "wrong_type");
    let elsewhere = with(missing.clone(), "TYP", "at+jwt");
    table.refuse("in other letters", under(&elsewhere), "wrong_type");
    let in_claims = with(claims(), "typ", "at+jwt");
    table.refuse("among the claims", token(Algorithm::ES256, &missing, &in_claims), "wrong_type");
    for typ in ["null", "1", "true", "[\"at+jwt\"]", "{}", "[]"] {
        let header = with_text(plain(), "typ", typ);
        table.refuse(typ, under_text(header), "malformed_header");
    }
}

fn kid(table: &mut Table) {
    table.section("RFC 7515 §4.1.4: kid is a text, and only a text");
    let ours = Key::P256.kid();
    for kid in [
        "null",
        "0",
        "1",
        "-1",
        "1.5",
        "1e400",
        "true",
        "false",
        "[]",
        "{}",
        &format!("[\"{ours}\"]"),
        &format!("{{\"kid\":\"{ours}\"}}"),
    ] {
        let header = with_text(plain(), "kid", kid);
        // A number too great for any reader is no JSON to this one.
        let code = if kid == "1e400" { "not_an_object" } else { "malformed_header" };
        table.refuse(kid, under_text(header), code);
    }
    for kid in [
        String::new(),
        " ".into(),
        "\0".into(),
        "*".into(),
        "%".into(),
        ours.to_uppercase(),
        format!("{ours} "),
        format!(" {ours}"),
        format!("{ours}\0"),
        format!("{ours}\n"),
        format!("{ours}\0.pem"),
        format!("{ours},{}", Key::Rsa.kid()),
        ours.replace('o', "\u{43e}"),
        ours.replace('p', "\u{ff50}"),
        format!("\u{feff}{ours}"),
        format!("{ours}\u{200b}"),
        "e\u{301}".into(),
        "\u{e9}".into(),
        "\u{202e}52p-ruo".into(),
        "\u{1f511}".into(),
        "/dev/null".into(),
        "../../../../../../dev/null".into(),
        "..\\..\\windows\\win.ini".into(),
        "%2e%2e%2fetc%2fpasswd".into(),
        "file:///etc/passwd".into(),
        "http://127.0.0.1:1/key".into(),
        "' OR '1'='1".into(),
        "x' UNION SELECT 'key' --".into(),
        "'; DROP TABLE keys; --".into(),
        "| id".into(),
        "$(id)".into(),
        "`id`".into(),
        "${jndi:ldap://127.0.0.1:1/a}".into(),
        "{{7*7}}".into(),
        "<script>alert(1)</script>".into(),
        "a\r\nSet-Cookie: a=b".into(),
        "__proto__".into(),
        "constructor".into(),
        "keys".into(),
        "0".into(),
        "null".into(),
        "undefined".into(),
        "x".repeat(255),
        "x".repeat(256),
        "\u{e9}".repeat(128),
    ] {
        let header = with(plain(), "kid", kid.as_str());
        table.refuse(format!("{kid:?}"), under(&header), "unknown_kid");
    }
    for (name, kid) in [
        ("257 octets", "x".repeat(257)),
        ("258 octets in 129 letters", "\u{e9}".repeat(129)),
        ("nine thousand octets", "x".repeat(9_000)),
    ] {
        let header = with(plain(), "kid", kid);
        table.refuse(name, under(&header), "malformed_header");
    }
    let header = with(plain(), "kid", "x".repeat(1 << 20));
    table.refuse("a mebibyte", under(&header), "token_too_large");
    let escaped: String = ours.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
    let header = with_text(plain(), "kid", &format!("\"{escaped}\""));
    table.accept("ours, each letter escaped", under_text(header));
    let header = with(plain(), "KID", "unknown");
    table.accept("beside a KID, which is another member", under(&header));

    table.section("RFC 7517 §4.5: a kid in the claims names nothing");
    let header = with(plain(), "kid", "unknown");
    let claims = with(claims(), "kid", ours);
    table.refuse("a good one", token(Algorithm::ES256, &header, &claims), "unknown_kid");
}

fn unknown_members(table: &mut Table) {
    table.section("RFC 7515 §4: members that are not understood are ignored");
    for (name, value) in [
        ("x", "1"),
        ("", "null"),
        (" ", "[]"),
        ("nonce", "\"n\""),
        ("iv", "\"AAAA\""),
        ("tag", "\"AAAA\""),
        ("epk", "{}"),
        ("p2c", "1000000000"),
        ("p2s", "\"AAAA\""),
        ("apu", "1"),
        ("ppt", "\"shaken\""),
        ("iss", "\"https://evil.example\""),
        ("exp", "0"),
        ("__proto__", "{\"alg\":\"none\"}"),
        ("constructor", "{}"),
        ("x", "0.1"),
        ("$serde_json::private::Number", "\"1\""),
        ("$serde_json::private::RawValue", "\"{}\""),
        ("\\u0000", "1"),
        ("alg ", "\"none\""),
        ("alg\\u0000", "\"none\""),
    ] {
        let header = and_text(&plain(), &format!("\"{name}\":{value}"));
        let token = under_text(header);
        table.accept(format!("{name:?}: {value}"), token);
    }
    let many: Vec<String> = (0..500).map(|index| format!("\"x{index}\":{index}")).collect();
    let header = and_text(&plain(), &many.join(","));
    table.accept("five hundred", under_text(header));
}

fn repeated_members(table: &mut Table) {
    table.section("RFC 7515 §4: no member stands twice");
    let good = plain();
    for members in [
        r#""alg":"ES256""#,
        r#""alg":"none""#,
        r#""alg":null"#,
        r#""\u0061lg":"none""#,
        r#""al\u0067":"ES256""#,
        r#""\u0061\u006C\u0067":"HS256""#,
        r#""kid":"other""#,
        r#""k\u0069d":"other""#,
        r#""typ":"JWT""#,
        r#""typ":"at+jwt""#,
        r#""x":1,"x":1"#,
        r#""x":1,"\u0078":2"#,
        r#""":1,"":2"#,
        r#""\u0000":1,"\u0000":2"#,
        r#""é":1,"\u00e9":2"#,
        r#""😀":1,"\ud83d\ude00":2"#,
        r#""/":1,"\/":2"#,
        r#""x":{"a":1,"a":2}"#,
        r#""x":[{"a":1},{"a":1,"b":[{"c":1,"c":1}]}]"#,
        r#""jwk":{"kty":"EC","kty":"oct"}"#,
    ] {
        let header = and_text(&good, members);
        table.refuse(members, under_text(header), "repeated_member");
    }
    for members in
        [r#""x":{"alg":1},"y":{"alg":1}"#, r#""x":[{"a":1},{"a":1}]"#, r#""Alg":"none""#, r#""e\u0301":1,"é":2"#]
    {
        let header = and_text(&good, members);
        let token = under_text(header);
        table.accept(format!("not twice in one object: {members}"), token);
    }
}

fn not_one_object(table: &mut Table) {
    table.section("RFC 7515 §5.2: the header is one JSON object in UTF-8, and nothing else");
    let good = plain().to_string();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("null", b"null".to_vec()),
        ("an array", b"[]".to_vec()),
        ("an array of it", format!("[{good}]").into()),
        ("a text", format!("{good:?}").into()),
        ("a number", b"1".to_vec()),
        ("the word none", b"none".to_vec()),
        ("a brace", b"{".to_vec()),
        ("no closing brace", good[..good.len() - 1].into()),
        ("a closing brace too many", format!("{good}}}").into()),
        ("twice", good.repeat(2).into()),
        ("with more behind", format!("{good} x").into()),
        ("with a null octet behind", format!("{good}\0").into()),
        ("with a null octet before", format!("\0{good}").into()),
        ("a byte order mark", format!("\u{feff}{good}").into()),
        ("a no-break space before", format!("\u{a0}{good}").into()),
        ("a comma at the end", format!("{},}}", &good[..good.len() - 1]).into()),
        ("a comma at the start", format!("{{,{}", &good[1..]).into()),
        ("single quotes", good.replace('"', "'").into()),
        ("names without quotes", good.replace("\"alg\"", "alg").into()),
        ("a comment", format!("{good}/* */").into()),
        ("a comment of a line", format!("//\n{good}").into()),
        ("NaN", and_text(&plain(), "\"x\":NaN").into()),
        ("Infinity", and_text(&plain(), "\"x\":-Infinity").into()),
        ("a number with a zero before", and_text(&plain(), "\"x\":01").into()),
        ("a hexadecimal number", and_text(&plain(), "\"x\":0x1").into()),
        ("a bare control character", and_text(&plain(), "\"x\":\"\n\"").into()),
        ("an unknown escape", and_text(&plain(), r#""x":"\x41""#).into()),
        ("a high surrogate alone", and_text(&plain(), r#""x":"\ud800""#).into()),
        ("a low surrogate alone", and_text(&plain(), r#""x":"\udc00""#).into()),
        ("surrogates the wrong way round", and_text(&plain(), r#""x":"\udc00\ud800""#).into()),
        ("a surrogate in a name", and_text(&plain(), r#""\ud800":1"#).into()),
        ("an octet that is not UTF-8", [good.trim_end_matches('}').as_bytes(), b",\"x\":\"\xff\"}"].concat()),
        ("an overlong sequence", [good.trim_end_matches('}').as_bytes(), b",\"x\":\"\xc0\xaf\"}"].concat()),
        ("a surrogate in UTF-8", [good.trim_end_matches('}').as_bytes(), b",\"x\":\"\xed\xa0\x80\"}"].concat()),
        ("a cut sequence", [good.trim_end_matches('}').as_bytes(), b",\"x\":\"\xe2\x82\"}"].concat()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        (
            "UTF-16 with its mark",
            "\u{feff}".encode_utf16().chain(good.encode_utf16()).flat_map(u16::to_be_bytes).collect(),
        ),
        ("white space alone", b"  \n".to_vec()),
        ("CBOR", vec![0xa1, 0x01, 0x26]),
        ("ten thousand arrays", and_text(&plain(), &format!("\"x\":{}", "[".repeat(10_000))).into()),
        ("five thousand arrays, closed", {
            let nested = format!("\"x\":{}{}", "[".repeat(5_000), "]".repeat(5_000));
            and_text(&plain(), &nested).into()
        }),
        ("fifteen hundred objects", {
            let nested = format!("\"x\":{}1{}", "{\"x\":".repeat(1_500), "}".repeat(1_500));
            and_text(&plain(), &nested).into()
        }),
    ];
    for (name, header) in bad {
        table.refuse(name, under_text(header), "not_an_object");
    }
    let spaced = format!(" \t\r\n{} ", good.replace(',', "\n,\t").replace(':', " : "));
    table.add("white space around and inside is JSON", under_text(spaced), Verdict::Accept);
}
