//! An authorization request on its way through the pages: the address it comes back to, and what has happened to it.
//!
//! Nothing is stored: the browser carries the request itself, and with it a note of what was done for it, which only we
//! can write. The note is tied to the request and to the session, so it serves for nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_jose::Timestamp;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::decision::Progress;
use crate::http::request::Form;
use crate::keys::seal::KeyEncryptionKeys;

/// What the browser carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// When the person was asked to sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login_asked_at: Option<i64>,
    /// The session in which the account was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chosen_in: Option<String>,
    /// The session in which the person agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consented_in: Option<String>,
}

impl Note {
    /// Reads the note that a request came with; an empty one where there is none, or none of ours for this request.
    pub(super) fn read(form: &Form, keys: &KeyEncryptionKeys) -> Self {
        let note = form.get(PARAMETER).and_then(|text| {
            let (payload, tag) = text.split_once('.')?;
            let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
            let is_ours = keys.made_tag(PURPOSE, &tagged(payload, &request_of(form)), &tag);
            let payload = URL_SAFE_NO_PAD.decode(payload).ok().filter(|_| is_ours)?;
            serde_json::from_slice(&payload).ok()
        });
        note.unwrap_or_default()
    }

    /// The query that a request comes back with.
    pub(super) fn query(&self, form: &Form, keys: &KeyEncryptionKeys) -> String {
        let request = request_of(form);
        if *self == Self::default() {
            return request;
        }
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("numbers and texts are JSON"));
        let tag = URL_SAFE_NO_PAD.encode(keys.tag(PURPOSE, &tagged(&payload, &request)));
        format!("{request}&{PARAMETER}={payload}.{tag}")
    }

    /// What the decision needs to know of it, in this session.
    pub(super) fn progress(&self, sid: Option<&str>) -> Progress {
        let here = |noted: &Option<String>| sid.is_some() && noted.as_deref() == sid;
        Progress {
            login_asked_at: self.login_asked_at.map(Timestamp::from_unix),
            account_chosen: here(&self.chosen_in),
            consented: here(&self.consented_in),
        }
    }

    pub(super) fn asked_to_sign_in(self, now: Timestamp) -> Self {
        // The first time counts: a sign-in since then is one for this request.
        Self { login_asked_at: self.login_asked_at.or(Some(now.as_unix())), ..self }
    }

    pub(super) fn chosen(self, sid: &str) -> Self {
        Self { chosen_in: Some(sid.to_owned()), ..self }
    }

    pub(super) fn consented(self, sid: &str) -> Self {
        Self { consented_in: Some(sid.to_owned()), ..self }
    }
}

/// The request without the note, written one way.
fn request_of(form: &Form) -> String {
    let parameters = form.iter().filter(|(name, _)| *name != PARAMETER);
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn tagged(payload: &str, request: &str) -> Vec<u8> {
    [payload.as_bytes(), b".", request.as_bytes()].concat()
}

const PARAMETER: &str = "progress";
const PURPOSE: &str = "authorization request";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::Edges;
    use crate::keys::seal::KeyEncryptionKey;

    fn keys() -> KeyEncryptionKeys {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyEncryptionKey::create(&folder.path().join("kek"), Edges::system().entropy.as_ref());
        KeyEncryptionKeys::new(key.expect("a key"), Vec::new())
    }

    fn form(query: &str) -> Form {
        Form::parse(query.as_bytes()).expect("a form")
    }

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    #[test]
    fn a_note_comes_back_with_its_request() {
        let keys = keys();
        let note = Note::default().asked_to_sign_in(NOW).chosen("s1").consented("s1");

        let query = note.query(&form("client_id=app&state=a+b%26c"), &keys);

        let returned = form(&query);
        assert_eq!(Note::read(&returned, &keys), note);
        assert_eq!(returned.get("state"), Some("a b&c"));
        assert_eq!(note.query(&returned, &keys), query, "it is not added twice");
        let here = note.progress(Some("s1"));
        assert_eq!((here.login_asked_at, here.account_chosen, here.consented), (Some(NOW), true, true));
        let elsewhere = note.progress(Some("s2"));
        assert_eq!((elsewhere.account_chosen, elsewhere.consented), (false, false));
        assert!(!note.progress(None).consented);
    }

    #[test]
    fn a_note_is_good_for_its_request_and_of_our_making_alone() {
        let keys = keys();
        let query = Note::default().consented("s1").query(&form("client_id=app&scope=openid"), &keys);
        let note = query.split_once("progress=").expect("a note").1;

        for other in [
            query.replace("scope=openid", "scope=openid+email"),
            query.replace("client_id=app", "client_id=other"),
            format!("{query}x"),
            format!("client_id=app&progress={note}"),
            "client_id=app&scope=openid&progress=e30.AAAA".to_owned(),
            "client_id=app&scope=openid&progress=".to_owned(),
        ] {
            assert_eq!(Note::read(&form(&other), &keys), Note::default(), "{other}");
        }
        assert_eq!(Note::read(&form(&query), &self::keys()), Note::default(), "another issuer's");
    }

    #[test]
    fn the_first_time_somebody_is_asked_counts() {
        let note = Note::default().asked_to_sign_in(NOW).asked_to_sign_in(NOW + std::time::Duration::from_secs(60));

        assert_eq!(note.progress(None).login_asked_at, Some(NOW));
    }
}
