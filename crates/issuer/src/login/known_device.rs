//! Browsers that somebody has signed in with before.
//!
//! A stranger who fails often enough makes an account wait. Whoever it belongs to should not have to: a browser that they
//! have signed in with keeps a cookie, by which its attempts are counted apart from everybody else's.
//!
//! 1. For each of the last few people who signed in there the cookie holds random bytes, and a tag over them and over who
//!    it is, which only we can make. So it tells nobody who they are.
//! 2. It opens nothing: without the password there is no way in, and who fails too often with it has to wait as anybody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};

use super::session::{KNOWN_DEVICE, cookie, name, set_cookie};
use super::visit::A_YEAR;
use crate::app::App;
use crate::edges::NoEntropy;
use crate::oidc::opaque::sha256;
use crate::users::User;

/// Whether a browser holds such a cookie at all. Whose it is, is another question.
pub(super) fn is_any(app: &App, headers: &HeaderMap) -> bool {
    !entries(app, headers).is_empty()
}

/// What the attempts of this browser to sign in as this user are counted by, if they have done so before.
pub(super) fn throttle_key(app: &App, headers: &HeaderMap, user_id: &str) -> Option<[u8; 32]> {
    let entries = entries(app, headers);
    let own = entries.iter().find(|entry| entry.is_of(app, user_id))?;
    Some(sha256(&format!("{PURPOSE} {}", own.text())))
}

/// The cookie that says that `user` has signed in with this browser, as others before.
///
/// # Errors
/// [`NoEntropy`]
pub(super) fn remember(app: &App, headers: &HeaderMap, user: &User) -> Result<HeaderValue, NoEntropy> {
    let mut nonce = [0; NONCE_BYTES];
    app.entropy.fill(&mut nonce)?;
    let others = entries(app, headers).into_iter().filter(|entry| !entry.is_of(app, &user.id));
    let all = [Entry::new(app, nonce, &user.id)].into_iter().chain(others).take(MAX_ENTRIES);
    let value: String = all.map(|entry| entry.text()).collect();
    let issuer = &app.config.issuer;
    Ok(set_cookie(issuer, name(issuer, KNOWN_DEVICE), &value, Some(A_YEAR)))
}

/// One of the people who have signed in.
struct Entry([u8; ENTRY_BYTES]);

impl Entry {
    fn new(app: &App, nonce: [u8; NONCE_BYTES], user_id: &str) -> Self {
        let mut entry = [0; ENTRY_BYTES];
        let (first, second) = entry.split_at_mut(NONCE_BYTES);
        first.copy_from_slice(&nonce);
        second.copy_from_slice(&app.kek.tag(PURPOSE, &message(&nonce, user_id)));
        Self(entry)
    }

    fn is_of(&self, app: &App, user_id: &str) -> bool {
        let (nonce, tag) = self.0.split_at(NONCE_BYTES);
        app.kek.made_tag(PURPOSE, &message(nonce, user_id), tag)
    }

    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

fn message(nonce: &[u8], user_id: &str) -> Vec<u8> {
    [nonce, user_id.as_bytes()].concat()
}

fn entries(app: &App, headers: &HeaderMap) -> Vec<Entry> {
    let value = cookie(headers, name(&app.config.issuer, KNOWN_DEVICE)).unwrap_or_default();
    let texts = value.as_bytes().chunks_exact(ENTRY_CHARACTERS).take(MAX_ENTRIES);
    texts.filter_map(|text| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Entry)).collect()
}

const PURPOSE: &str = "known device";
const NONCE_BYTES: usize = 16;
/// With a tag of HMAC-SHA-256.
const ENTRY_BYTES: usize = NONCE_BYTES + 32;
/// In base64url, with nothing left over.
const ENTRY_CHARACTERS: usize = ENTRY_BYTES / 3 * 4;
/// As many as share a browser at home.
pub(super) const MAX_ENTRIES: usize = 4;
/// What [`cookie`] has to let through.
pub(super) const MAX_CHARACTERS: usize = ENTRY_CHARACTERS * MAX_ENTRIES;
