//! The RFCs' own examples.

use keywheel_jose::{Algorithm, JwkError, KeySet, KeyType, PublicJwk, check_signature, decode_unverified};
use serde_json::json;

use crate::signing::{ED25519_X, P256_X, P256_Y, RSA_N, key_set, public_key};

/// The payload of RFC 7515 §A.1 to §A.3 and §A.5.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
/// RFC 7517 §A.1, the RSA key; RFC 7638 §3.1.
const RSA_2011_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
const RSA_2011_D: &str = "X4cTteJY_gn4FYPsXB8rdXix5vwsg1FLN5E3EaG6RJoVH-HLLKD9M7dx5oo7GURknchnrRweUkC7hT5fJLM0WbFAKNLWY2vv7B6NqXSzUvxT0_YSfqijwp3RTzlBaCxWp4doFk5N2o8Gy_nHNKroADIkJ46pRUohsXywbReAdYaMwFs9tv8d_cPVY3i07a3t8MN6TNwm0dSawm9v47UiCl3Sk5ZiG7xojPLu4sbg1U2jx4IBTNBznbJSzFHK66jT8bgkuqsk0GjskDJk19Z4qwjwbsnn4j2WBii3RL-Us2lGVkY8fkFzme1z0HbIkfz0Y6mqnOYtqc0X4jfcKoAC8Q";
/// RFC 7517 §A.1, the P-256 key.
const P256_ENC_X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
const P256_ENC_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";

#[test]
fn rfc_7515_a2_rs256_is_valid() {
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.{signature}");

    let verified = check_signature(&token, &key_set(), &Algorithm::ALL).expect("the example is valid");

    assert_eq!(
        verified.payload(),
        b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"
    );
    assert_eq!((verified.algorithm(), verified.kid()), (Algorithm::RS256, None));
}

#[test]
fn rfc_7515_a3_es256_is_valid() {
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let token = format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.{signature}");

    assert!(check_signature(&token, &key_set(), &Algorithm::ALL).is_ok());
}

#[test]
fn rfc_8037_a4_ed25519_is_valid_under_both_names() {
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let token = format!("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.{signature}");

    let verified = check_signature(&token, &key_set(), &[Algorithm::EdDSA]).expect("the example is valid");

    assert_eq!(verified.into_payload(), b"Example of Ed25519 signing");
}

#[test]
fn rfc_7515_a1_hmac_a4_es512_and_a5_none_are_refused() {
    let hmac =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let es512 = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    let none = format!("eyJhbGciOiJub25lIn0.{PAYLOAD}.");

    let code = |token: &str| check_signature(token, &key_set(), &Algorithm::ALL).map_err(|rejection| rejection.code());

    assert_eq!(code(&hmac), Err("unsupported_algorithm"));
    assert_eq!(code(es512), Err("unsupported_algorithm"));
    assert_eq!(code(&none), Err("empty_part"));
    // With a signature it is refused for what it is.
    assert_eq!(code(&format!("{none}AA")), Err("unsupported_algorithm"));
    // A person may still look at it.
    assert_eq!(decode_unverified(&none).expect("it has three parts").header_json, r#"{"alg":"none"}"#);
}

#[test]
fn rfc_7515_a6_json_serialization_is_refused() {
    let json = format!(r#"{{"payload":"{PAYLOAD}","protected":"eyJhbGciOiJFUzI1NiJ9","signature":"DtEh"}}"#);

    let rejection = check_signature(&json, &key_set(), &Algorithm::ALL).expect_err("it is not compact");

    assert_eq!(rejection.code(), "json_serialization");
}

#[test]
fn rfc_7516_a1_encrypted_token_is_refused() {
    let token = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ";

    let rejection = check_signature(token, &key_set(), &Algorithm::ALL).expect_err("it is encrypted");

    assert_eq!(rejection.code(), "encrypted_token");
}

#[test]
fn rfc_7517_a1_public_set_keeps_the_signature_key() {
    let set = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "x": P256_ENC_X, "y": P256_ENC_Y, "use": "enc", "kid": "1"},
        {"kty": "RSA", "n": RSA_2011_N, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"},
    ]});

    let keys = KeySet::parse(set.to_string().as_bytes()).expect("the example is a key set");

    let [key] = keys.keys() else { panic!("expected the RSA key alone, found {keys:?}") };
    assert_eq!((key.kty(), key.kid(), key.alg()), (KeyType::Rsa, Some("2011-04-29"), Some(Algorithm::RS256)));
    // The other is for encryption: not used, and nothing to worry about.
    let [refused] = keys.refused() else { panic!("expected one refused key") };
    assert!(refused.reason.is_unsupported() && !refused.is_alarming());
}

#[test]
fn rfc_7517_a2_private_set_is_refused_loudly() {
    let set = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "x": P256_ENC_X, "y": P256_ENC_Y,
         "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE", "use": "enc", "kid": "1"},
        {"kty": "RSA", "n": RSA_2011_N, "e": "AQAB", "d": RSA_2011_D, "alg": "RS256", "kid": "2011-04-29"},
    ]});

    let keys = KeySet::parse(set.to_string().as_bytes()).expect("the example is a key set");

    assert!(keys.is_empty());
    let reasons: Vec<_> = keys.refused().iter().map(|refused| (refused.is_alarming(), &refused.reason)).collect();
    assert_eq!(reasons, [(true, &JwkError::PrivateMember("d")), (true, &JwkError::PrivateMember("d"))]);
    assert!(!format!("{:?}", keys.refused()).contains("870MB6"), "the private number must not be repeated");
}

#[test]
fn rfc_7517_a3_symmetric_set_is_refused_loudly() {
    let set = json!({"keys": [
        {"kty": "oct", "alg": "A128KW", "k": "GawgguFyGrWKav7AX4VKUg"},
        {"kty": "oct", "kid": "HMAC key used in JWS spec Appendix A.1 example",
         "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
    ]});

    let keys = KeySet::parse(set.to_string().as_bytes()).expect("the example is a key set");

    assert!(keys.is_empty());
    assert!(keys.refused().iter().all(|refused| refused.reason == JwkError::SymmetricKey && refused.is_alarming()));
}

#[test]
fn rfc_7638_3_1_thumbprint() {
    let key =
        PublicJwk::from_json(&json!({"kty": "RSA", "n": RSA_2011_N, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}))
            .expect("the example is a good key");

    assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn rfc_8037_a2_key_and_a3_thumbprint() {
    let key = PublicJwk::from_json(&json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519_X}))
        .expect("the example is a good key");

    assert_eq!(key.kty(), KeyType::Ed25519);
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn rfc_7515_keys_are_read_as_the_constructors_make_them() {
    let rsa = json!({"kty": "RSA", "n": RSA_N, "e": "AQAB", "use": "sig"});
    let p256 = json!({"kty": "EC", "crv": "P-256", "x": P256_X, "y": P256_Y, "use": "sig"});

    for (read, made) in [(rsa, Algorithm::RS256), (p256, Algorithm::ES256)] {
        let read = PublicJwk::from_json(&read).map(PublicJwk::with_thumbprint_kid);
        assert_eq!(read, Ok(public_key(made)));
    }
}
