//! People who sign in: what the groups about grants, passwords and growth share.

use std::collections::VecDeque;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;

use super::token::authorization;
use crate::load::{Answer, Script, ask, post};
use crate::peer::{AUDIENCE, SECRET};
use crate::process::Process;

/// The client of an app with a server of its own.
pub(super) const WEB: &str = "billing-web";
/// The client of pages that ask for the password themselves.
const PAGES: &str = "billing-pages";
const REDIRECT_URI: &str = "https://billing.example.com/callback";
pub(crate) const PASSWORD: &str = "a password that nobody guesses 0123456789";

/// Both clients, as tables of the configuration.
pub(super) fn clients() -> String {
    format!(
        "[[client]]\nid = \"{WEB}\"\nsecret = \"{SECRET}\"\nfirst_party = true\n\
         grants = [\"authorization_code\", \"refresh_token\"]\nredirect_uris = [\"{REDIRECT_URI}\"]\n\
         scopes = [\"openid\", \"offline_access\", \"invoices:read\"]\naudiences = [\"{AUDIENCE}\"]\n\
         [[client]]\nid = \"{PAGES}\"\nfirst_party = true\nsession_api = true\n\
         grants = [\"authorization_code\", \"refresh_token\"]\nredirect_uris = [\"{REDIRECT_URI}\"]\n\
         scopes = [\"openid\", \"invoices:read\"]\naudiences = [\"{AUDIENCE}\"]\n"
    )
}

/// What the issuer stores of [`PASSWORD`], by argon2id with the issuer's parameters.
pub(super) fn password_hash() -> String {
    let salt = [7; 16];
    let digest = argon2id(PASSWORD, &salt).expect("the parameters are within argon2's limits");
    let (salt, digest) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(digest));
    format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${digest}")
}

/// One hash, as a sign-in takes it.
///
/// # Errors
/// When there is no memory for it.
pub(crate) fn argon2id(password: &str, salt: &[u8]) -> argon2::Result<[u8; 32]> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    let mut digest = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
        password.as_bytes(),
        salt,
        &mut digest,
    )?;
    Ok(digest)
}

/// People `p0`, `p1` and so on, who share a password, as tables of the configuration.
pub(super) fn users(count: usize) -> String {
    let hash = password_hash();
    let mut tables = String::new();
    for index in 0..count {
        let _ = writeln!(tables, "[[user]]\nusername = \"p{index}\"\npassword_hash = \"{hash}\"");
    }
    tables
}

/// A request that signs somebody in as one of the client's pages does.
pub(super) fn sign_in_request(running: &Process, username: &str) -> String {
    let body = format!(r#"{{"username":"{username}","password":"{PASSWORD}","client_id":"{PAGES}"}}"#);
    let headers = format!("origin: http://{}\r\nsec-fetch-site: same-origin\r\n", running.address);
    post("/api/session", &headers, &body).replace("application/x-www-form-urlencoded", "application/json")
}

/// Signs somebody in: the cookie of their session.
///
/// # Errors
/// When they are refused.
pub(super) fn sign_in(running: &Process, username: &str) -> Result<String> {
    let (status, head, body) = ask(running.address, &sign_in_request(running, username))?;
    let mut cookies = head.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    let session = cookies.find(|cookie| cookie.starts_with("keywheel-session="));
    let session = session.and_then(|cookie| cookie.split(';').next());
    session.map(str::to_owned).with_context(|| format!("{username} got {status}: {}", String::from_utf8_lossy(&body)))
}

/// Requests that lie ready, in turns: sign-ins, or questions about tokens.
pub(super) struct Ready {
    requests: Vec<String>,
    next: usize,
}

impl Ready {
    pub(super) fn new(requests: Vec<String>) -> Self {
        Self { requests, next: 0 }
    }
}

impl Script for Ready {
    fn request(&mut self, _: usize, request: &mut Vec<u8>) -> bool {
        self.next = (self.next + 1) % self.requests.len();
        request.extend_from_slice(self.requests[self.next].as_bytes());
        true
    }
}

/// Asks for codes in the name of people who are signed in, `prompt=none`, until there are enough.
pub(super) struct Authorize<'a> {
    /// A session for each connection, in turns.
    pub(super) cookies: &'a [String],
    pub(super) left: usize,
    pub(super) codes: VecDeque<String>,
}

impl Script for Authorize<'_> {
    fn request(&mut self, connection: usize, request: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let cookie = &self.cookies[connection % self.cookies.len()];
        request.extend_from_slice(
            format!(
                "GET /oauth2/authorize?response_type=code&client_id={WEB}\
                 &redirect_uri=https%3A%2F%2Fbilling.example.com%2Fcallback\
                 &scope=openid%20offline_access%20invoices%3Aread&state=af0ifjsldkj&nonce=n-0S6_WzA2Mj&prompt=none\
                 &code_challenge={CHALLENGE}&code_challenge_method=S256 HTTP/1.1\r\n\
                 host: localhost\r\nuser-agent: bench\r\naccept: */*\r\ncookie: {cookie}\r\n\r\n"
            )
            .as_bytes(),
        );
        true
    }

    fn answer(&mut self, _: usize, answer: &Answer<'_>) -> Result<()> {
        let location = answer.header("location").context("an answer that leads nowhere")?;
        let query = location.split_once('?').map_or("", |(_, query)| query);
        let code = query.split('&').find_map(|pair| pair.strip_prefix("code="));
        self.codes.push_back(code.with_context(|| format!("no code in {location}"))?.to_owned());
        Ok(())
    }

    fn expected_status(&self) -> u16 {
        303
    }
}

/// Exchanges codes for tokens until there are none left, and keeps those.
pub(super) struct Exchange {
    codes: VecDeque<String>,
    pub(super) access_tokens: Vec<String>,
    pub(super) refresh_tokens: Vec<String>,
}

impl Exchange {
    pub(super) fn new(codes: VecDeque<String>) -> Self {
        Self { codes, access_tokens: Vec::new(), refresh_tokens: Vec::new() }
    }
}

impl Script for Exchange {
    fn request(&mut self, _: usize, request: &mut Vec<u8>) -> bool {
        let Some(code) = self.codes.pop_front() else { return false };
        let form = format!(
            "grant_type=authorization_code&code={code}\
             &redirect_uri=https%3A%2F%2Fbilling.example.com%2Fcallback&code_verifier={VERIFIER}"
        );
        request.extend_from_slice(post("/oauth2/token", &authorization(WEB), &form).as_bytes());
        true
    }

    fn answer(&mut self, _: usize, answer: &Answer<'_>) -> Result<()> {
        self.access_tokens.push(member(answer.body, "access_token")?);
        self.refresh_tokens.push(member(answer.body, "refresh_token")?);
        Ok(())
    }
}

/// Uses refresh tokens, each connection its own family.
pub(super) struct Refresh {
    pub(super) refresh_tokens: Vec<String>,
}

impl Script for Refresh {
    fn request(&mut self, connection: usize, request: &mut Vec<u8>) -> bool {
        let form = format!("grant_type=refresh_token&refresh_token={}", self.refresh_tokens[connection]);
        request.extend_from_slice(post("/oauth2/token", &authorization(WEB), &form).as_bytes());
        true
    }

    fn answer(&mut self, connection: usize, answer: &Answer<'_>) -> Result<()> {
        let next = member(answer.body, "refresh_token")?;
        if self.refresh_tokens[connection] == next {
            bail!("a refresh token was not rotated");
        }
        self.refresh_tokens[connection] = next;
        Ok(())
    }
}

/// A member of a JSON object that is a string.
fn member(body: &[u8], name: &str) -> Result<String> {
    let answer: Value = serde_json::from_slice(body).context("an answer that is no JSON")?;
    answer[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in an answer"))
}

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The parameters of the issuer (and OWASP's first choice).
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
