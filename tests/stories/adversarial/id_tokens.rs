//! ID tokens, and policies that take any kind or any issuer: one kind of token never passes for another (RFC 8725 §2.8 and
//! §3.11, OpenID Connect Core §2 and §3.1.3.7).

use keywheel_jose::{Algorithm, Policy};
use serde_json::{Value, json};

use super::signer::{
    AUDIENCE, EXPIRES_AT, ISSUER, claims, good, header, our_keys, raw_token, token, with, with_text, without,
};
use super::table::{Case, Table, World};

const CLIENT: &str = "web";

pub(super) fn world() -> World {
    World { keys: our_keys().to_string(), policy: Policy::id_token(ISSUER, CLIENT) }
}

/// A world whose policy takes any kind of token.
pub(super) fn world_of_any_type() -> World {
    World { keys: our_keys().to_string(), policy: Policy::any(ISSUER, AUDIENCE) }
}

/// A world whose policy takes access tokens of any issuer.
pub(super) fn world_of_any_issuer() -> World {
    World { keys: our_keys().to_string(), policy: Policy::access_token(ISSUER, AUDIENCE).insecure_any_issuer() }
}

pub(super) fn cases() -> Vec<Case> {
    let mut table = Table::new("ID tokens");
    types(&mut table);
    parties(&mut table);
    required(&mut table);
    table.into_cases()
}

pub(super) fn cases_of_any_type() -> Vec<Case> {
    let mut table = Table::new("any type");
    table.section("typ is not looked at, but it is a text");
    for typ in ["at+jwt", "JWT", "logout+jwt", "dpop+jwt", "", "x"] {
        let header = with(header(Algorithm::EdDSA), "typ", typ);
        table.accept(format!("{typ:?}"), token(Algorithm::EdDSA, &header, &claims()));
    }
    let missing = without(header(Algorithm::EdDSA), "typ");
    table.accept("missing", token(Algorithm::EdDSA, &missing, &claims()));
    for typ in ["null", "1", "[]", "{}"] {
        let header = with_text(header(Algorithm::EdDSA), "typ", typ);
        table.refuse(typ, raw_token(Algorithm::EdDSA, header, claims().to_string()), "malformed_header");
    }
    table.section("and all the rest is");
    let holding = |claims: Value| token(Algorithm::EdDSA, &missing, &claims);
    table.refuse("another issuer", holding(with(claims(), "iss", "https://other.example.com")), "wrong_issuer");
    table.refuse("another audience", holding(with(claims(), "aud", CLIENT)), "wrong_audience");
    table.refuse("expired", holding(with(claims(), "exp", 1)), "expired");
    table.refuse("no end", holding(without(claims(), "exp")), "missing_claim");
    table.refuse("not yet", holding(with(claims(), "nbf", EXPIRES_AT)), "not_yet_valid");
    table.refuse("bound to a key", holding(with(claims(), "cnf", json!({"kid": "k"}))), "unsupported_confirmation");
    table.refuse("an empty cnf", holding(with(claims(), "cnf", json!({}))), "unsupported_confirmation");
    table.section("and nothing is asked that belongs to one kind of token");
    for claim in ["sub", "iat", "jti", "client_id", "scope"] {
        table.accept(format!("no {claim}"), holding(without(claims(), claim)));
    }
    for claim in ["sid", "acr", "amr", "roles", "nonce", "at_hash"] {
        table.accept(format!("{claim} is anything"), holding(with(claims(), claim, json!({"a": [1, null]}))));
    }
    table.section("critical is critical");
    let critical = with(missing.clone(), "crit", json!(["exp"]));
    table.refuse("crit", token(Algorithm::EdDSA, &critical, &claims()), "critical_header");
    table.into_cases()
}

pub(super) fn cases_of_any_issuer() -> Vec<Case> {
    let mut table = Table::new("any issuer");
    table.section("RFC 9068 §2.2: whoever it is, iss is there, and is a text");
    let holding = |claims: Value| token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims);
    for issuer in [ISSUER, "https://other.example.com", ""] {
        table.accept(format!("{issuer:?}"), holding(with(claims(), "iss", issuer)));
    }
    table.refuse("missing", holding(without(claims(), "iss")), "missing_claim");
    for issuer in [json!(null), json!(1), json!([ISSUER])] {
        table.refuse(format!("{issuer}"), holding(with(claims(), "iss", issuer)), "malformed_claim");
    }
    table.section("and so is the rest");
    for claim in ["sub", "client_id", "iat", "jti"] {
        table.refuse(claim, holding(without(claims(), claim)), "missing_claim");
    }
    table.into_cases()
}

fn id_header() -> Value {
    with(header(Algorithm::EdDSA), "typ", "JWT")
}

fn id_claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": CLIENT, "exp": EXPIRES_AT, "iat": 1_700_000_000, "nonce": "n"})
}

fn holding(claims: &Value) -> String {
    token(Algorithm::EdDSA, &id_header(), claims)
}

fn types(table: &mut Table) {
    table.section("RFC 8725 §3.11: typ is JWT or absent");
    for typ in ["JWT", "jwt", "application/jwt", "APPLICATION/JWT"] {
        table.accept(typ, token(Algorithm::EdDSA, &with(id_header(), "typ", typ), &id_claims()));
    }
    table.accept("absent", token(Algorithm::EdDSA, &without(id_header(), "typ"), &id_claims()));
    for typ in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "id+jwt",
        "",
        "JWT ",
        "JWS",
        "JOSE",
        "JWT;",
        "null",
    ] {
        let token = token(Algorithm::EdDSA, &with(id_header(), "typ", typ), &id_claims());
        table.refuse(format!("{typ:?}"), token, "wrong_type");
    }
    table.refuse("an access token", good(Algorithm::EdDSA), "wrong_type");
    let for_client = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &with(claims(), "aud", CLIENT));
    table.refuse("an access token for the client", for_client, "wrong_type");
}

fn parties(table: &mut Table) {
    table.section("OpenID Connect Core §3.1.3.7: aud and azp");
    let parties = |audience: Value, party: Option<Value>| {
        let claims = with(id_claims(), "aud", audience);
        holding(&party.map_or(claims.clone(), |party| with(claims, "azp", party)))
    };
    table.accept("we alone", parties(json!(CLIENT), None));
    table.accept("we alone, in an array", parties(json!([CLIENT]), None));
    table.accept("we alone, and azp", parties(json!(CLIENT), Some(json!(CLIENT))));
    table.accept("two, and azp", parties(json!([CLIENT, "other"]), Some(json!(CLIENT))));
    table.refuse("two, and no azp", parties(json!([CLIENT, "other"]), None), "missing_claim");
    table.refuse("we twice, and no azp", parties(json!([CLIENT, CLIENT]), None), "missing_claim");
    table.refuse("azp is another", parties(json!([CLIENT, "other"]), Some(json!("other"))), "wrong_authorized_party");
    table.refuse("we alone, azp is another", parties(json!(CLIENT), Some(json!("other"))), "wrong_authorized_party");
    table.refuse("azp in other letters", parties(json!(CLIENT), Some(json!("WEB"))), "wrong_authorized_party");
    table.refuse("azp is empty", parties(json!(CLIENT), Some(json!(""))), "wrong_authorized_party");
    for party in [json!(null), json!(1), json!([CLIENT]), json!({}), json!(true)] {
        table.refuse(format!("azp: {party}"), parties(json!(CLIENT), Some(party)), "malformed_claim");
    }
    for audience in [json!("other"), json!(["other"]), json!("WEB"), json!("web "), json!(""), json!(AUDIENCE)] {
        table.refuse(format!("aud: {audience}"), parties(audience, None), "wrong_audience");
    }
    table.refuse("azp alone is not enough", parties(json!("other"), Some(json!(CLIENT))), "wrong_audience");
    for audience in [json!(null), json!([]), json!([1]), json!({}), json!([[CLIENT]])] {
        table.refuse(format!("aud: {audience}"), parties(audience, None), "malformed_claim");
    }
}

fn required(table: &mut Table) {
    table.section("OpenID Connect Core §2: required claims");
    for claim in ["iss", "sub", "aud", "exp", "iat"] {
        table.refuse(format!("no {claim}"), holding(&without(id_claims(), claim)), "missing_claim");
        let header = id_header().to_string();
        for text in ["null", "true", "[]", "{}"] {
            let token = raw_token(Algorithm::EdDSA, &header, with_text(id_claims(), claim, text));
            table.refuse(format!("{claim}: {text}"), token, "malformed_claim");
        }
    }
    table.section("OpenID Connect Core §2, §3.1.3.6, RFC 8176: optional claims have their types");
    for claim in ["nonce", "acr", "at_hash", "sid", "jti"] {
        for text in ["null", "true", "1", "[]", "{}"] {
            let token = raw_token(Algorithm::EdDSA, id_header().to_string(), with_text(id_claims(), claim, text));
            table.refuse(format!("{claim}: {text}"), token, "malformed_claim");
        }
        table.accept(claim, holding(&with(id_claims(), claim, "x")));
    }
    for text in ["null", "\"pwd\"", "{}", "[1]", "[\"pwd\",null]"] {
        let token = raw_token(Algorithm::EdDSA, id_header().to_string(), with_text(id_claims(), "amr", text));
        table.refuse(format!("amr: {text}"), token, "malformed_claim");
    }
    table.accept("amr", holding(&with(id_claims(), "amr", json!(["pwd", "otp"]))));
    for claim in ["roles", "email", "address"] {
        table.accept(format!("{claim} is anything"), holding(&with(id_claims(), claim, json!({"a": [1, null]}))));
    }
    table.section("the rest is as for any token");
    table.refuse("expired", holding(&with(id_claims(), "exp", 1)), "expired");
    table.refuse("not yet", holding(&with(id_claims(), "nbf", EXPIRES_AT)), "not_yet_valid");
    table.refuse("auth_time is a text", holding(&with(id_claims(), "auth_time", "now")), "malformed_claim");
    table.refuse("another issuer", holding(&with(id_claims(), "iss", format!("{ISSUER}/"))), "wrong_issuer");
    table.accept("no nonce", holding(&without(id_claims(), "nonce")));
}
