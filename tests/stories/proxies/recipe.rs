//! The files of `deploy/gate`, run as they are but for addresses, and what all of them have to mention.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a product runs: a folder of its own, and three addresses that the recipes know by others.
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) gate: SocketAddr,
    pub(super) service: SocketAddr,
}

impl Place<'_> {
    /// Copies a recipe, with the addresses of this place in it.
    pub(super) fn copy(&self, name: &str) -> PathBuf {
        let mut text = recipe(name);
        for (known, here) in [(LISTEN, self.listen), (GATE, self.gate), (SERVICE, self.service)] {
            text = text.replace(known, &format!(":{}", here.port()));
        }
        text = text.replace("/etc/haproxy", &self.folder.display().to_string());
        self.write(name, &text)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("writing into a folder of our own");
        path
    }
}

/// A file of `deploy/gate`.
pub(super) fn recipe(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gate").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The identity headers of a `gate.toml`, each with its claim.
pub(super) fn identity_headers(gate_toml: &str) -> Vec<(String, String)> {
    let (_, table) = gate_toml.split_once("\n[headers]\n").expect("a table of headers");
    let lines = table.lines().take_while(|line| !line.is_empty());
    let headers = lines.map(|line| {
        let (name, claim) = line.split_once(" = ").expect("a header and its claim");
        (name.to_owned(), claim.trim_matches('"').to_owned())
    });
    headers.collect()
}

const LISTEN: &str = ":8080";
const GATE: &str = ":8090";
const SERVICE: &str = ":3000";

#[test]
fn every_recipe_names_every_identity_header() {
    let headers = identity_headers(&recipe("gate.toml"));
    assert!(headers.len() >= 6, "{headers:?}");

    for name in ["nginx.conf", "Caddyfile", "haproxy.cfg", "apache.conf", "traefik.yml", "envoy.yaml"] {
        let text = recipe(name);
        let directives: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        for (header, _) in &headers {
            assert!(directives.iter().any(|line| line.contains(header)), "{name} does not name {header}");
        }
    }
}

#[test]
fn every_recipe_tells_the_addresses_that_gate_toml_tells() {
    let gate = recipe("gate.toml");
    assert!(gate.contains(GATE) && gate.contains(SERVICE) && gate.contains(LISTEN));

    for name in ["nginx.conf", "Caddyfile", "haproxy.cfg", "traefik.yml"] {
        let text = recipe(name);
        assert!([LISTEN, GATE, SERVICE].iter().all(|address| text.contains(address)), "{name}");
    }
    // Behind Apache the gate is the one to know the service.
    assert!(recipe("apache.conf").contains(LISTEN) && recipe("apache.conf").contains(GATE));
    let envoy = recipe("envoy.yaml");
    assert!([LISTEN, GATE, SERVICE].iter().all(|address| envoy.contains(&address.replace(':', "port_value: "))));
}
