//! `token/…`: tokens for clients themselves (`client_credentials`), beside a server that does nothing but that.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Bench;
use crate::issuer::Settings;
use crate::load::{Same, post};
use crate::peer::{AUDIENCE, CLIENT, SCOPE, SECRET};
use crate::table::Target;

/// The algorithms, and what share of the bare server's speed is wanted: the signature of RSA hides nearly everything,
/// that of Ed25519 nearly nothing.
const ALGORITHMS: [(&str, f64); 3] = [("ES256", 0.90), ("RS256", 0.95), ("EdDSA", 0.85)];

/// Rings that do not turn while they are measured.
pub(super) const KEYS: &str = r#"algorithms = ["ES256", "RS256", "EdDSA"]"#;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let tables: String = ALGORITHMS.iter().map(|(alg, _)| client(&format!("{CLIENT}-{alg}"), alg)).collect();
    let issuer = bench.issuer(Settings { keys: KEYS, tables: &tables, ..Settings::default() })?;
    let running = issuer.serve()?;
    let documents = bench.documents_of(&running)?;
    let peer = bench.start_peer(&documents)?;
    for (alg, least) in ALGORITHMS {
        let name = format!("token/{alg}");
        if bench.arguments.wants(&name) {
            let id = format!("{CLIENT}-{alg}");
            let theirs = Same(request(&format!("/token/{alg}"), &id));
            let ours = Same(request("/oauth2/token", &id));
            bench.versus(&name, (&running, ours), ("bare server", &peer, theirs), Target::AtLeast(least))?;
        }
    }
    Ok(())
}

/// A client that gets tokens for itself, as a table of the configuration.
pub(super) fn client(id: &str, alg: &str) -> String {
    format!(
        "[[client]]\nid = \"{id}\"\nsecret = \"{SECRET}\"\ngrants = [\"client_credentials\"]\n\
         scopes = [\"{SCOPE}\"]\naudiences = [\"{AUDIENCE}\"]\naccess_token_alg = \"{alg}\"\n"
    )
}

/// A request for a token, as the client sends it.
pub(super) fn request(path: &str, id: &str) -> String {
    post(path, &authorization(id), "grant_type=client_credentials")
}

/// `Authorization: Basic …`, as a line.
pub(super) fn authorization(id: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(format!("{id}:{SECRET}")))
}
