//! `documents/…`: the JWKS and the discovery document, beside servers that send a file; and their size on the wire.

use anyhow::{Result, bail};

use super::Bench;
use crate::issuer::Settings;
use crate::load::{Same, ask, get};
use crate::nginx;
use crate::process::Process;
use crate::statistics::Spread;
use crate::table::{Row, Target};

pub(super) const JWKS: &str = "/.well-known/jwks.json";
pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let issuer = bench.issuer(Settings::default())?;
    let running = issuer.serve()?;
    let documents = bench.documents_of(&running)?;
    let peer = bench.start_peer(&documents)?;
    let folder = bench.new_folder();
    let nginx = nginx::start(&folder, &documents, bench.cores)?;
    for (what, path, file) in [("jwks", JWKS, "/jwks.json"), ("discovery", DISCOVERY, "/discovery.json")] {
        let name = format!("documents/{what}");
        if bench.arguments.wants(&name) {
            let (ours, theirs) = (Same(get(path)), Same(get(file)));
            bench.versus(&name, (&running, ours), ("bare server", &peer, theirs), Target::AtLeast(0.90))?;
        }
        let name = format!("documents/{what}-nginx");
        match &nginx {
            _ if !bench.arguments.wants(&name) => {}
            Some(nginx) => {
                let (ours, theirs) = (Same(get(path)), Same(get(file)));
                bench.versus(&name, (&running, ours), ("nginx, a file", nginx, theirs), Target::AtLeast(1.15))?;
            }
            None => bench.table.missing(name, "nginx is not installed"),
        }
        if bench.arguments.wants(&format!("documents/bytes-{what}")) {
            bytes_on_the_wire(bench, &running, what, path)?;
        }
    }
    Ok(())
}

/// How many bytes come when compression is asked for, and when the set is held already.
fn bytes_on_the_wire(bench: &mut Bench<'_>, running: &Process, what: &str, path: &str) -> Result<()> {
    let request = |header: &str| get(path).replace("accept: */*\r\n", &format!("accept: */*\r\n{header}"));
    let whole = |header: &str| -> Result<(u16, String, usize)> {
        let (status, head, body) = ask(running.address, &request(header))?;
        let bytes = head.len() + "\r\n\r\n".len() + body.len();
        Ok((status, head, bytes))
    };
    let (_, head, plain) = whole("")?;
    let mut sizes = Vec::new();
    let (status, gzip_head, gzip) = whole("accept-encoding: gzip\r\n")?;
    match status {
        200 if gzip_head.contains("content-encoding: gzip") => sizes.push(("gzip", gzip)),
        200 => bench.table.missing(format!("documents/bytes-{what}-gzip"), "it comes uncompressed all the same"),
        other => bail!("{path} answers {other} to who takes gzip"),
    }
    match head.lines().find_map(|line| line.strip_prefix("etag: ")) {
        Some(etag) => match whole(&format!("if-none-match: {etag}\r\n"))? {
            (304, _, held) => sizes.push(("304", held)),
            (other, ..) => bail!("{path} answers {other} to its own ETag"),
        },
        None => bench.table.missing(format!("documents/bytes-{what}-304"), "it has no ETag"),
    }
    for (kind, bytes) in sizes {
        bench.table.add(Row {
            name: format!("documents/bytes-{what}-{kind}"),
            unit: "bytes with head",
            ours: bytes as f64,
            peer: ("200, plain".to_owned(), plain as f64),
            ratio: Spread::of([bytes as f64 / plain as f64]),
            target: Target::None,
            note: String::new(),
        });
    }
    Ok(())
}
