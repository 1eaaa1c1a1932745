//! The claims: every registered one missing, of every wrong type, and at every boundary (RFC 7519 §4.1, RFC 9068 §2.2).

use keywheel_jose::Algorithm;
use serde_json::{Value, json};

use super::signer::{
    AUDIENCE, EXPIRES_AT, ISSUER, NOW, and_text, claims, header, raw_token, token, with, with_text, without,
};
use super::table::{Case, Table, Verdict};

/// The leeway of the plain policy.
const LEEWAY: i64 = 30;
/// 9999-12-31T23:59:59Z, the last second a date may name.
const LAST_SECOND: i64 = 253_402_300_799;

pub(super) fn cases() -> Vec<Case> {
    let mut table = Table::new("claims");
    missing(&mut table);
    dates_of_wrong_types(&mut table);
    boundaries(&mut table);
    issuer(&mut table);
    audience(&mut table);
    texts_of_wrong_types(&mut table);
    confirmation(&mut table);
    unknown(&mut table);
    repeated(&mut table);
    not_one_object(&mut table);
    table.into_cases()
}

/// A good header over these claims.
fn holding(claims: &Value) -> String {
    token(Algorithm::EdDSA, &header(Algorithm::EdDSA), claims)
}

/// A good header over this text.
fn holding_text(payload: impl AsRef<[u8]>) -> String {
    raw_token(Algorithm::EdDSA, header(Algorithm::EdDSA).to_string(), payload)
}

/// Good claims, but for one member written as this text.
fn but(claim: &str, text: &str) -> String {
    holding_text(with_text(claims(), claim, text))
}

fn missing(table: &mut Table) {
    table.section("RFC 9068 §2.2: what is required");
    let required = ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"];
    for claim in required {
        table.refuse(claim, holding(&without(claims(), claim)), "missing_claim");
    }
    for claim in ["nbf", "scope"] {
        table.accept(format!("{claim} is optional"), holding(&without(claims(), claim)));
    }
    table.refuse("all", holding_text("{}"), "missing_claim");
    for claim in required {
        let good = claims();
        let elsewhere = with(without(good.clone(), claim), &claim.to_uppercase(), good[claim].clone());
        table.refuse(format!("{claim} in other letters"), holding(&elsewhere), "missing_claim");
        let nested = with(without(good.clone(), claim), "claims", good);
        table.refuse(format!("{claim} one level down"), holding(&nested), "missing_claim");
    }
}

fn dates_of_wrong_types(table: &mut Table) {
    for claim in ["exp", "nbf", "iat", "auth_time"] {
        table.section(match claim {
            "exp" => "RFC 7519 §4.1.4: exp is a NumericDate",
            "nbf" => "RFC 7519 §4.1.5: nbf is a NumericDate",
            "iat" => "RFC 7519 §4.1.6: iat is a NumericDate",
            _ => "OpenID Connect Core §2: auth_time is a number",
        });
        for text in [
            "null",
            "true",
            "false",
            "\"\"",
            "\"4000000000\"",
            "\"1700000000\"",
            "\"2096-10-02T07:06:40Z\"",
            "\"never\"",
            "[]",
            "[4000000000]",
            "{}",
            r#"{"exp":4000000000}"#,
            "-1",
            "-0.5",
            "-1e9",
            "-9223372036854775808",
            "253402300800",
            "253402300799.5",
            "9007199254740991",
            "9007199254740992",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e12",
            "1e18",
            "1e19",
            "1e308",
            "-1e308",
            "4000000000000",
        ] {
            table.refuse(text, but(claim, text), "malformed_claim");
        }
        for text in [
            "1e400",
            "-1e400",
            "1e999999999999",
            "NaN",
            "Infinity",
            "-Infinity",
            "nan",
            "inf",
            "0x77359400",
            "0b1",
            "0o7",
            "04000000000",
            "+4000000000",
            "4000000000.",
            ".5",
            "4e",
            "4e+",
            "4_000_000_000",
            "4,000",
            "4000000000n",
            "--1",
            "-",
            "",
            "undefined",
            "'4000000000'",
            "4000000000 4000000000",
            "\u{ff14}",
        ] {
            table.refuse(format!("not JSON: {text:?}"), but(claim, text), "not_an_object");
        }
        // The whole second after a fraction decides as the fraction would.
        for text in [
            "4000000000",
            "4000000000.0",
            "4e9",
            "4E9",
            "4.0e+9",
            "40000000000e-1",
            "4000000000.999999",
            "4000000000.000000000000000000000000000001",
        ] {
            let future = if claim == "nbf" { Verdict::Refuse("not_yet_valid") } else { Verdict::Accept };
            table.add(text, but(claim, text), future);
        }
        let last = LAST_SECOND.to_string();
        let future = if claim == "nbf" { Verdict::Refuse("not_yet_valid") } else { Verdict::Accept };
        table.add("the last second of 9999", but(claim, &last), future);
        for text in ["0", "-0", "0.0", "-0.0", "0e0", "0.5", "1", "1e-400", "1700000000", "1.7e9", "1699999999.5"] {
            let past = if claim == "exp" { Verdict::Refuse("expired") } else { Verdict::Accept };
            table.add(format!("past: {text}"), but(claim, text), past);
        }
    }
}

fn boundaries(table: &mut Table) {
    table.section("RFC 7519 §4.1.4: on or after exp it must not be accepted, give or take 30 s");
    table.judged_at(NOW);
    for (text, name, verdict) in [
        (format!("{}", NOW - LEEWAY - 1), "a second before leeway ends", Verdict::Refuse("expired")),
        (format!("{}", NOW - LEEWAY), "as leeway ends", Verdict::Refuse("expired")),
        (format!("{}.0", NOW - LEEWAY), "as leeway ends, with a point", Verdict::Refuse("expired")),
        (format!("{}.5", NOW - LEEWAY - 1), "half a second before", Verdict::Refuse("expired")),
        (format!("{}.000001", NOW - LEEWAY), "a microsecond of leeway left", Verdict::Accept),
        (format!("{}.5", NOW - LEEWAY), "half a second of leeway left", Verdict::Accept),
        (format!("{}", NOW - LEEWAY + 1), "a second of leeway left", Verdict::Accept),
        (format!("{}", NOW - 1), "a second ago", Verdict::Accept),
        (format!("{NOW}"), "now", Verdict::Accept),
        (format!("{}", NOW + 1), "in a second", Verdict::Accept),
    ] {
        table.add(name, but("exp", &text), verdict);
    }
    table.section("RFC 7519 §4.1.5: before nbf it must not be accepted, give or take 30 s");
    table.judged_at(NOW);
    for (text, name, verdict) in [
        (format!("{}", NOW - 1), "a second ago", Verdict::Accept),
        (format!("{NOW}"), "now", Verdict::Accept),
        (format!("{}", NOW + LEEWAY - 1), "a second inside leeway", Verdict::Accept),
        (format!("{}.5", NOW + LEEWAY - 1), "half a second inside leeway", Verdict::Accept),
        (format!("{}", NOW + LEEWAY), "as leeway begins", Verdict::Accept),
        (format!("{}.000001", NOW + LEEWAY), "a microsecond too early", Verdict::Refuse("not_yet_valid")),
        (format!("{}.5", NOW + LEEWAY), "half a second too early", Verdict::Refuse("not_yet_valid")),
        (format!("{}", NOW + LEEWAY + 1), "a second too early", Verdict::Refuse("not_yet_valid")),
    ] {
        table.add(name, but("nbf", &text), verdict);
    }
    table.section("RFC 7519 §4.1.6: iat tells the age, and refuses nothing");
    table.judged_at(NOW);
    for offset in [-1_000_000_000, -1, 0, 1, LEEWAY, LEEWAY + 1, 1_000_000_000] {
        table.accept(format!("{offset:+} s"), but("iat", &(NOW + offset).to_string()));
    }
    table.section("clocks that are far off");
    let last = with(claims(), "exp", LAST_SECOND);
    table.judged_at(LAST_SECOND + LEEWAY - 1);
    table.accept("the last second of leeway after the last second of 9999", holding(&last));
    table.judged_at(LAST_SECOND + LEEWAY);
    table.refuse("one more", holding(&last), "expired");
    table.judged_at(i64::MAX);
    table.refuse("the end of time", holding(&last), "expired");
    table.judged_at(0);
    table.refuse("1970", holding(&claims()), "not_yet_valid");
    table.judged_at(-1);
    table.refuse("1969", holding(&claims()), "not_yet_valid");
    table.judged_at(i64::MIN);
    table.refuse("the beginning of time", holding(&claims()), "not_yet_valid");
    table.judged_at(EXPIRES_AT + LEEWAY);
    table.refuse("2096", holding(&claims()), "expired");
    table.judged_at(0);
    let always = with(with(claims(), "nbf", 0), "exp", 1);
    table.accept("1970, for a token of that second", holding(&always));
}

fn issuer(table: &mut Table) {
    table.section("RFC 7519 §4.1.1: iss is exactly ours");
    for other in [
        format!("{ISSUER}/"),
        format!("{ISSUER} "),
        format!(" {ISSUER}"),
        format!("{ISSUER}\0"),
        format!("{ISSUER}\n"),
        format!("{ISSUER}:443"),
        format!("{ISSUER}/."),
        format!("{ISSUER}//"),
        format!("{ISSUER}?"),
        format!("{ISSUER}#"),
        format!("{ISSUER}."),
        format!("{ISSUER}.evil.example"),
        format!("{ISSUER}@evil.example"),
        format!("https://evil.example/{ISSUER}"),
        ISSUER.to_uppercase(),
        ISSUER.replace("https", "HTTPS"),
        ISSUER.replace("id.", "ID."),
        ISSUER.replace("https", "http"),
        ISSUER.replace("https://", ""),
        ISSUER.replace("https://", "//"),
        ISSUER.replace("https:", "https:/"),
        ISSUER.replace("id.", "%69d."),
        ISSUER.replace("//", "//user@"),
        ISSUER.replace("example", "ex\u{e4}mple"),
        ISSUER.replace("example", "ex\u{430}mple"),
        ISSUER.replace("example.com", "xn--exmple-4nf.com"),
        ISSUER.replace("i", "\u{131}"),
        ISSUER.replace("e", "e\u{301}"),
        format!("\u{feff}{ISSUER}"),
        format!("{ISSUER}\u{200b}"),
        ISSUER[..ISSUER.len() - 1].to_owned(),
        ISSUER[1..].to_owned(),
        format!("{ISSUER},{ISSUER}"),
        format!("{ISSUER} {ISSUER}"),
        String::new(),
        "*".into(),
        AUDIENCE.into(),
        "https://accounts.example.org".into(),
        "x".repeat(5_000),
    ] {
        table.refuse(
            format!("{:?}", &other.chars().take(60).collect::<String>()),
            holding(&with(claims(), "iss", other)),
            "wrong_issuer",
        );
    }
    for text in [
        "null",
        "true",
        "1",
        "[]",
        &format!("[\"{ISSUER}\"]"),
        &format!("[\"{ISSUER}\",\"x\"]"),
        "{}",
        &format!("{{\"iss\":\"{ISSUER}\"}}"),
    ] {
        table.refuse(text, but("iss", text), "malformed_claim");
    }
    let escaped: String = ISSUER.chars().map(|letter| format!("\\u{:04X}", u32::from(letter))).collect();
    table.accept("ours, each letter escaped", but("iss", &format!("\"{escaped}\"")));
    table.accept("ours, its slashes escaped", but("iss", &format!("\"{}\"", ISSUER.replace('/', "\\/"))));
}

fn audience(table: &mut Table) {
    table.section("RFC 7519 §4.1.3: aud names us, exactly");
    let other = "https://other.example.com";
    for audiences in [
        json!(AUDIENCE),
        json!([AUDIENCE]),
        json!([AUDIENCE, other]),
        json!([other, AUDIENCE]),
        json!([AUDIENCE, AUDIENCE]),
        json!(["", AUDIENCE]),
        json!([ISSUER, other, AUDIENCE]),
    ] {
        table.accept(&audiences, holding(&with(claims(), "aud", audiences.clone())));
    }
    let crowd: Vec<String> = (0..300).map(|index| format!("https://{index}.example.com")).collect();
    let mut with_us = crowd.clone();
    with_us.push(AUDIENCE.to_owned());
    table.accept("the last of three hundred", holding(&with(claims(), "aud", with_us)));
    table.refuse("none of three hundred", holding(&with(claims(), "aud", crowd)), "wrong_audience");
    for audiences in [
        json!(""),
        json!(" "),
        json!("*"),
        json!(other),
        json!(ISSUER),
        json!("web"),
        json!([other]),
        json!([""]),
        json!(["*"]),
        json!(format!("{AUDIENCE}/")),
        json!(format!("{AUDIENCE} ")),
        json!(format!(" {AUDIENCE}")),
        json!(format!("{AUDIENCE}\0")),
        json!(format!("{AUDIENCE}\n")),
        json!(format!("{AUDIENCE}:443")),
        json!(format!("{AUDIENCE}/v1")),
        json!(format!("{AUDIENCE}#a")),
        json!(format!("{AUDIENCE}.evil.example")),
        json!(format!("{AUDIENCE} {other}")),
        json!(format!("{AUDIENCE},{other}")),
        json!(AUDIENCE.to_uppercase()),
        json!(AUDIENCE.replace("api", "API")),
        json!(AUDIENCE.replace("https", "http")),
        json!(AUDIENCE.replace("api", "\u{430}pi")),
        json!(AUDIENCE[..AUDIENCE.len() - 1]),
        json!(AUDIENCE[1..]),
        json!("api.example.com"),
        json!(format!("[\"{AUDIENCE}\"]")),
        json!([format!("{AUDIENCE}/")]),
        json!([other, AUDIENCE.to_uppercase()]),
        json!([format!("{AUDIENCE} {other}")]),
        json!(format!("\u{feff}{AUDIENCE}")),
    ] {
        table.refuse(&audiences, holding(&with(claims(), "aud", audiences.clone())), "wrong_audience");
    }
    for text in [
        "null",
        "true",
        "1",
        "[]",
        "{}",
        "[null]",
        "[1]",
        "[true]",
        "[[]]",
        "[{}]",
        &format!("[[\"{AUDIENCE}\"]]"),
        &format!("[\"{AUDIENCE}\",1]"),
        &format!("[1,\"{AUDIENCE}\"]"),
        &format!("[\"{AUDIENCE}\",null]"),
        &format!("[\"{AUDIENCE}\",[]]"),
        &format!("[\"{AUDIENCE}\",{{}}]"),
        &format!("{{\"0\":\"{AUDIENCE}\"}}"),
        &format!("{{\"aud\":\"{AUDIENCE}\"}}"),
        &format!("{{\"{AUDIENCE}\":true}}"),
    ] {
        table.refuse(text, but("aud", text), "malformed_claim");
    }
}

fn texts_of_wrong_types(table: &mut Table) {
    table.section("RFC 7519 §4.1.2 and §4.1.7, RFC 8693 §4.2 and §4.3: these are texts");
    for claim in ["sub", "jti", "client_id", "scope"] {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "1",
            "1.5",
            "-1",
            "[]",
            "[\"alice\"]",
            "[\"invoices:read\",\"admin\"]",
            "{}",
            r#"{"sub":"alice"}"#,
        ] {
            table.refuse(format!("{claim}: {text}"), but(claim, text), "malformed_claim");
        }
        for text in ["\"\"", "\" \"", "\"\\u0000\"", "\"\u{1f600}\"", "\"\\ud83d\\ude00\"", "\"null\"", "\"a\\r\\nb\""]
        {
            table.accept(format!("{claim}: {text}"), but(claim, text));
        }
        let long = "x".repeat(4_000);
        table.accept(format!("{claim}: four thousand letters"), holding(&with(claims(), claim, long)));
    }
    table.section("RFC 9068 §2.2.1 to §2.2.3: what else our tokens carry");
    for claim in ["sid", "acr"] {
        for text in ["null", "true", "1", "[]", "[\"s\"]", "{}"] {
            table.refuse(format!("{claim}: {text}"), but(claim, text), "malformed_claim");
        }
    }
    for claim in ["roles", "amr"] {
        for text in
            ["null", "true", "1", "\"\"", "\"admin\"", "{}", "{\"admin\":true}", "[1]", "[\"admin\",null]", "[[]]"]
        {
            table.refuse(format!("{claim}: {text}"), but(claim, text), "malformed_claim");
        }
    }
    for (claim, text) in [
        ("sid", "\"s\""),
        ("acr", "\"1\""),
        ("roles", "[]"),
        ("roles", "[\"admin\"]"),
        ("roles", "[\"\\u0061\",\"\"]"),
        ("amr", "[\"pwd\"]"),
    ] {
        table.accept(format!("{claim}: {text}"), but(claim, text));
    }
}

fn confirmation(table: &mut Table) {
    table.section("RFC 7800 §3.1, RFC 9449 §7.2, RFC 8705 §3: a bound token is no bearer token");
    let thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    for text in [
        format!(r#"{{"jkt":"{thumbprint}"}}"#),
        format!(r#"{{"x5t#S256":"{thumbprint}"}}"#),
        format!(r#"{{"jkt":"{thumbprint}","x5t#S256":"{thumbprint}"}}"#),
    ] {
        table.refuse(&text, but("cnf", &text), "sender_constrained");
    }
    for text in [
        "null",
        "true",
        "1",
        "\"\"",
        &format!("\"{thumbprint}\""),
        "[]",
        "[{}]",
        "{}",
        r#"{"jkt":null}"#,
        r#"{"jkt":1}"#,
        r#"{"jkt":""}"#,
        r#"{"jkt":[]}"#,
        &format!(r#"{{"jkt":["{thumbprint}"]}}"#),
        &format!(r#"{{"jkt":"{thumbprint}="}}"#),
        &format!(r#"{{"jkt":"{}"}}"#, &thumbprint[1..]),
        &format!(r#"{{"jkt":"{thumbprint}","x5t#S256":null}}"#),
        &format!(r#"{{"jkt":"{thumbprint}","unknown":1}}"#),
        &format!(r#"{{"JKT":"{thumbprint}"}}"#),
        &format!(r#"{{"x5t":"{thumbprint}"}}"#),
        r#"{"x5t#S256":{}}"#,
        r#"{"jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#,
        r#"{"jwe":"a.b.c.d.e"}"#,
        r#"{"kid":"k"}"#,
        r#"{"jku":"https://evil.example/","kid":"k"}"#,
        r#"{"urn:example:unknown":1}"#,
    ] {
        table.refuse(text, but("cnf", text), "unsupported_confirmation");
    }
}

fn unknown(table: &mut Table) {
    table.section("RFC 7519 §4: claims that are not understood are ignored");
    for (name, text) in [
        ("x", "1"),
        ("", "null"),
        ("admin", "true"),
        ("alg", "\"none\""),
        ("kid", "\"other\""),
        ("typ", "\"JWT\""),
        ("act", "{\"sub\":\"bob\"}"),
        ("may_act", "{}"),
        ("nonce", "1"),
        ("at_hash", "{}"),
        ("azp", "\"web\""),
        ("exp ", "0"),
        ("Exp", "0"),
        ("exp\\u0000", "0"),
        ("ex", "0"),
        ("__proto__", "{\"exp\":0}"),
        ("$serde_json::private::Number", "\"1\""),
        ("$serde_json::private::RawValue", "\"{}\""),
        ("number", "0.1"),
        ("number", "123456789012345678901234567890"),
        ("number", "1e308"),
        ("\u{1f600}", "[[[[]]]]"),
    ] {
        table.accept(format!("{name:?}: {text}"), holding_text(and_text(&claims(), &format!("\"{name}\":{text}"))));
    }
    for text in ["1", "null", "[]", "{}", "true"] {
        table.refuse(format!("but azp is a text: {text}"), but("azp", text), "malformed_claim");
    }
    let many: Vec<String> = (0..700).map(|index| format!("\"x{index}\":{index}")).collect();
    table.accept("seven hundred", holding_text(and_text(&claims(), &many.join(","))));
    let nested = format!("\"x\":{}{}", "[".repeat(100), "]".repeat(100));
    table.accept("a hundred arrays deep", holding_text(and_text(&claims(), &nested)));
}

fn repeated(table: &mut Table) {
    table.section("RFC 7519 §4: no claim stands twice");
    for (claim, text) in [
        ("iss", format!("\"{ISSUER}\"")),
        ("iss", "\"https://evil.example\"".into()),
        ("aud", format!("\"{AUDIENCE}\"")),
        ("aud", "\"other\"".into()),
        ("exp", EXPIRES_AT.to_string()),
        ("exp", "0".into()),
        ("nbf", "0".into()),
        ("iat", "0".into()),
        ("sub", "\"alice\"".into()),
        ("sub", "\"admin\"".into()),
        ("jti", "\"t2\"".into()),
        ("client_id", "\"other\"".into()),
        ("scope", "\"admin\"".into()),
        ("scope", "null".into()),
    ] {
        let behind = and_text(&claims(), &format!("\"{claim}\":{text}"));
        table.refuse(format!("{claim} again: {text}"), holding_text(&behind), "repeated_member");
        let good = claims().to_string();
        let before = format!("{{\"{claim}\":{text},{}", &good[1..]);
        table.refuse(format!("{claim} before: {text}"), holding_text(before), "repeated_member");
        let escaped: String = claim.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
        let behind = and_text(&claims(), &format!("\"{escaped}\":{text}"));
        table.refuse(format!("{claim} again, escaped: {text}"), holding_text(behind), "repeated_member");
    }
    for members in [
        r#""x":{"a":1,"a":2}"#,
        r#""x":[[[{"a":1,"a":1}]]]"#,
        r#""cnf":{"jkt":"a","jkt":"b"}"#,
        r#""":1,"":1"#,
        r#""act":{"sub":"a","s\u0075b":"b"}"#,
    ] {
        table.refuse(members, holding_text(and_text(&claims(), members)), "repeated_member");
    }
    table.accept(
        "the same name in two objects",
        holding_text(and_text(&claims(), r#""x":{"a":1},"y":{"a":1,"sub":2}"#)),
    );
}

fn not_one_object(table: &mut Table) {
    table.section("RFC 7519 §7.2: the claims are one JSON object in UTF-8, and nothing else");
    let good = claims().to_string();
    let open = good.trim_end_matches('}').as_bytes();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("null", b"null".to_vec()),
        ("true", b"true".to_vec()),
        ("a number", b"4000000000".to_vec()),
        ("a text", b"\"alice\"".to_vec()),
        ("it as a text", json!(good).to_string().into()),
        ("an array", b"[]".to_vec()),
        ("it in an array", format!("[{good}]").into()),
        ("a blank", b" ".to_vec()),
        ("a null octet", vec![0]),
        ("a brace", b"{".to_vec()),
        ("no closing brace", open.to_vec()),
        ("a closing brace too many", format!("{good}}}").into()),
        ("twice", good.repeat(2).into()),
        ("in two lines", format!("{good}\n{good}").into()),
        ("with more behind", format!("{good}x").into()),
        ("with a null octet behind", format!("{good}\0").into()),
        ("a byte order mark", format!("\u{feff}{good}").into()),
        ("a comma at the end", format!("{},}}", &good[..good.len() - 1]).into()),
        ("single quotes", good.replace('"', "'").into()),
        ("a comment", format!("/**/{good}").into()),
        ("a high surrogate alone", and_text(&claims(), r#""x":"\ud800""#).into()),
        ("a low surrogate alone", and_text(&claims(), r#""x":"\udfff""#).into()),
        ("a surrogate in a name", and_text(&claims(), r#""\udfff":1"#).into()),
        ("a surrogate in sub", with_text(claims(), "sub", r#""alice\ud800""#).into()),
        ("an octet that is not UTF-8", [open, b",\"x\":\"\xff\"}"].concat()),
        ("an overlong sequence", [open, b",\"x\":\"\xc0\xaf\"}"].concat()),
        ("a surrogate in UTF-8", [open, b",\"x\":\"\xed\xa0\x80\"}"].concat()),
        ("beyond Unicode", [open, b",\"x\":\"\xf4\x90\x80\x80\"}"].concat()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a bare control character", and_text(&claims(), "\"x\":\"\u{1}\"").into()),
        ("deflated", vec![0x78, 0x9c, 0xab, 0x56, 0x4a]),
        ("ten thousand arrays", and_text(&claims(), &format!("\"x\":{}", "[".repeat(10_000))).into()),
        (
            "five thousand arrays, closed",
            and_text(&claims(), &format!("\"x\":{}{}", "[".repeat(5_000), "]".repeat(5_000))).into(),
        ),
        (
            "fifteen hundred objects",
            and_text(&claims(), &format!("\"x\":{}1{}", "{\"x\":".repeat(1_500), "}".repeat(1_500))).into(),
        ),
        ("a form", b"iss=https%3A%2F%2Fid.example.com&sub=alice".to_vec()),
        ("XML", b"<claims/>".to_vec()),
    ];
    for (name, payload) in bad {
        table.refuse(name, holding_text(payload), "not_an_object");
    }
    let spaced = format!("\r\n\t {}\n\n", good.replace(',', " ,\n"));
    table.accept("white space around and inside is JSON", holding_text(spaced));
}
