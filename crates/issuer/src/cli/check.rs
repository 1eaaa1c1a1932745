//! `keywheel check`: is this configuration safe and usable, and what will the keys do?

use std::path::Path;

use clap::Args;
use keywheel_keyring::{Keyring, Step, format_duration};
use serde_json::json;

use super::output::{Table, note, print, print_json};
use super::{Failure, keys, load};
use crate::app::Ring;
use crate::config::{Loaded, Origin};
use crate::edges::Edges;
use crate::storage::WhenMissing;
use crate::tls;

#[derive(Args)]
pub(super) struct Check {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) async fn run(&self, path: Option<&Path>) -> Result<(), Failure> {
        let Loaded { config, origin, .. } = load(path)?;
        let (policy, algorithms) = (&config.keys.rotation, &config.keys.algorithms);
        let edges = Edges::system();
        let now = edges.clock.now();
        let mut certificate = tls::inspect(&config, now).map_err(|why| Failure::usage(format!("server.tls: {why}")))?;

        // An existing database must open, with its keys; a missing one is made by `serve`, not by a check.
        let database = &config.storage.database;
        let exists = database.path().is_none_or(Path::exists);
        let rows = if exists {
            let ring = Ring::open(&config, &edges, WhenMissing::Refuse).await?;
            ring.rotator.read().await?;
            let rows = ring.store.load_keys().await?;
            if let (Some(acme), Some(certificate)) = (&config.server.acme, &mut certificate) {
                certificate.warnings.extend(tls::acme::lost(acme, &ring.store, &ring.kek).await?);
            }
            ring.store.close().await;
            rows.into_iter().map(|key| key.record).collect()
        } else {
            Vec::new()
        };
        for warning in certificate.iter().flat_map(|certificate| &certificate.warnings) {
            note(format_args!("warning: {warning}"));
        }
        let is_new = rows.is_empty();
        let ring = Keyring::new(rows);
        let events = ring.schedule(policy, algorithms, now);
        let changes: Vec<String> = ring.plan(policy, algorithms, now).iter().filter_map(describe).collect();

        if self.json {
            return Ok(print_json(&json!({
                "safe": true,
                "issuer": config.issuer.as_str(),
                "certificate": certificate,
                "database": { "url": database.to_string(), "exists": exists },
                "reasons": policy.explain(),
                "changes_at_start": changes,
                "max_published_keys": policy.max_published_keys(),
                "timetable": events,
                "rotations": policy.slots().preview(now, PREVIEW),
            }))?);
        }
        let mut text = String::new();
        let source = match &origin {
            Origin::Defaults => "built-in defaults (no configuration file)".to_owned(),
            Origin::File(path) => path.display().to_string(),
        };
        text.push_str(&format!("configuration  {source}\nissuer         {}\n", config.issuer));
        let state = if exists { "opens, with its keys" } else { "will be made at the first start" };
        if let Some(tls::Inspection { source, not_after, .. }) = &certificate {
            let until = not_after.map(|at| format!(" (until {at})")).unwrap_or_default();
            text.push_str(&format!("certificate    {source}{until}\n"));
        }
        text.push_str(&format!("database       {} ({state})\n", database));
        text.push_str(&format!(
            "rings          {}\n",
            algorithms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ));
        text.push_str("\nWhy no valid token is refused when a key turns:\n");
        for reason in policy.explain() {
            text.push_str(&format!("  {reason}\n"));
        }
        text.push_str(&format!(
            "  at most {} keys of a ring are published at once; a retired one stays for {}\n",
            policy.max_published_keys(),
            format_duration(policy.retention())
        ));
        if !changes.is_empty() && !is_new {
            text.push_str("\nWhat the next start changes:\n");
            for change in &changes {
                text.push_str(&format!("  {change}\n"));
            }
        }
        if is_new {
            text.push_str("\nRotations, if the first start were now:\n");
            let mut table = Table::new(["WHEN", "IN"]);
            for at in policy.slots().preview(now, PREVIEW) {
                table.row([at.to_string(), keys::coarsely(at.duration_since(now))]);
            }
            text.push_str(&table.render());
        } else {
            text.push_str("\nTimetable:\n");
            text.push_str(&keys::timetable(&events, now).render());
        }
        print(&text)?;
        note("the configuration is safe");
        Ok(())
    }
}

/// A step of the plan in words; creating keys is what every start may do, so it is not a change worth telling.
fn describe(step: &Step) -> Option<String> {
    match step {
        Step::Postpone { kid, sign_from } => Some(format!("key {kid} starts to sign later, at {sign_from}")),
        Step::Raise { kid, max_ttl, clock_skew } => Some(format!(
            "key {kid} is kept for tokens of {} and a clock skew of {}",
            format_duration(*max_ttl),
            format_duration(*clock_skew)
        )),
        Step::Create { alg, sign_from, why, .. } => Some(format!("a new {alg} key signs from {sign_from}: {why}")),
        Step::PublishEarlier { kid, publish_at } => Some(format!("key {kid} is published at {publish_at}")),
        _ => None,
    }
}

/// Rotations shown for a database that does not exist yet.
const PREVIEW: usize = 5;
