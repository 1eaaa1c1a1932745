//! The certificate files that `server.tls` names: read again when they change, or when the process is told to (SIGHUP).
//!
//! Whoever renews a certificate replaces two files, not always at one instant, and Kubernetes exchanges a symbolic link
//! above both. So what is looked at is what the paths lead to, and a new pair counts only when its halves belong together;
//! until then the pair before stays in force.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keywheel_jose::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::certificate::Certificate;
use super::{Tls, TlsError};
use crate::chain;
use crate::config::TlsFiles;
use crate::edges::Clock;
use crate::shutdown::Shutdown;

/// Looks at the files until `shutdown` is ordered.
pub(crate) async fn watch(tls: Arc<Tls>, files: TlsFiles, clock: Arc<dyn Clock>, mut shutdown: Shutdown) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        warn!("cannot listen for SIGHUP");
        return;
    };
    let mut period = tokio::time::interval(LOOK_EVERY);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was read at the start may have changed since: the first look reads once more.
    let mut seen = None;
    let mut warned_at = None;
    loop {
        let told = tokio::select! {
            _ = period.tick() => false,
            Some(()) = hangup.recv() => true,
            () = shutdown.ordered() => return,
        };
        let stamp = Stamp::of(&files);
        if told || seen != Some(stamp) {
            seen = Some(stamp);
            renew(&tls, &files, told);
        }
        warn_before_it_expires(&tls, clock.now(), &mut warned_at);
    }
}

/// Puts in force what the files hold now, if it is a pair.
fn renew(tls: &Tls, files: &TlsFiles, told: bool) {
    match renewed(tls, files) {
        Ok(Some(not_after)) => info!(%not_after, "a new certificate is in force"),
        Ok(None) if told => info!("the certificate has not changed"),
        Ok(None) => {}
        Err(failure) => {
            warn!(error = chain(&failure), "the new certificate cannot be used; the one before stays in force");
        }
    }
}

/// The end of a certificate that was not in force before.
fn renewed(tls: &Tls, files: &TlsFiles) -> Result<Option<Timestamp>, TlsError> {
    let certificate = Certificate::read(files, &tls.provider)?;
    if tls.in_force.load().as_ref().is_some_and(|now| now.certificate.is(&certificate)) {
        return Ok(None);
    }
    let not_after = certificate.not_after;
    tls.put_in_force(certificate)?;
    Ok(Some(not_after))
}

/// Once a day, when there are few days left.
fn warn_before_it_expires(tls: &Tls, now: Timestamp, warned_at: &mut Option<Timestamp>) {
    let Some(not_after) = tls.not_after() else { return };
    if not_after > now + EXPIRES_SOON || warned_at.is_some_and(|at| now < at + WARN_EVERY && at <= now) {
        return;
    }
    *warned_at = Some(now);
    if not_after <= now {
        warn!(%not_after, "the certificate has expired: clients refuse it");
    } else {
        warn!(%not_after, "the certificate expires soon, and nobody has renewed it");
    }
}

/// What a change of a file changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp([Option<FileStamp>; 2]);

/// Device, inode, size, and the times of content and inode, to the nanosecond.
type FileStamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamp {
    fn of(files: &TlsFiles) -> Self {
        let of = |path: &Path| {
            let file = metadata(path).ok()?;
            let times = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
            Some((file.dev(), file.ino(), file.size(), times.0, times.1))
        };
        Self([of(&files.cert), of(&files.key)])
    }
}

/// Two looks at two files cost some microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Less than any certificate has left when its renewal works.
pub(crate) const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);
const WARN_EVERY: Duration = Duration::from_secs(86_400);
