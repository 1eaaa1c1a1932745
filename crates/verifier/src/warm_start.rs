//! The key set on disk, so that a service can start while its issuer is down.
//!
//! 1. After each good fetch the set is written as it came, with whose it is, where it came from and when. The file is
//!    written beside the old one, synced and renamed: a crash leaves one or the other, never half of one.
//! 2. At the next start it is read once, before the first fetch, which it neither replaces nor delays. It must be for the
//!    same issuer and source, and it goes through the same judgement as a fetched answer.
//! 3. Its times go on from when it was fetched, by the wall clock: a restart makes no set fresher, and none trusted longer.
//!
//! Whoever can write the file decides whose tokens are accepted until the first fetch, so only its owner may: it is created
//! so, and is not read otherwise or from a folder that is everybody's. A file that can't be used is a warning and never keeps a service from starting.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use keywheel_jose::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::{Answer, Failure, usable};
use crate::fetch::{Caching, MAX_ETAG_BYTES};
use crate::ledger::Snapshot;
use crate::limits::Limits;
use crate::schedule::lifetimes;
use crate::text::excerpt;

/// Where the set is kept, and whose it has to be.
#[derive(Clone)]
pub(crate) struct WarmStart {
    pub(crate) path: PathBuf,
    /// The policy's issuer; `None` where it accepts any.
    pub(crate) issuer: Option<String>,
    /// Where the keys come from: a URL, or a name for what is no URL.
    pub(crate) source: String,
    /// How far the clocks of two starts may be apart.
    pub(crate) leeway: Duration,
}

/// Reads the wall clock.
pub(crate) type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    issuer: Option<String>,
    source: String,
    /// When the answer was asked for.
    fetched_at: Timestamp,
    max_age_s: Option<u64>,
    /// How long shared caches had held it by then.
    age_s: u64,
    etag: Option<String>,
    /// The body, as it came.
    jwks: String,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("it can't be read")]
    Read(#[source] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[cfg(unix)]
    #[error("others than its owner may write it (mode {mode:o})")]
    Writable { mode: u32 },
    #[cfg(unix)]
    #[error("anybody may write its folder (mode {mode:o})")]
    SharedFolder { mode: u32 },
    #[error("it has more than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("it is damaged, or no warm-start file")]
    Damaged(#[source] serde_json::Error),
    #[error("its format is {found}, expected {FORMAT}")]
    Format { found: u64 },
    #[error("it holds the keys of issuer {found}")]
    Issuer { found: String },
    #[error("its keys came from {found}")]
    Source { found: String },
    #[error("it was written at {fetched_at}, and it is {now}: a clock is wrong")]
    Future { fetched_at: Timestamp, now: Timestamp },
    #[error("its keys are {} s old, and were to be trusted for {} s", age.as_secs(), trusted.as_secs())]
    TooOld { age: Duration, trusted: Duration },
    #[error("its keys are {} s old, longer than this machine's clock has run", age.as_secs())]
    BeforeThisClock { age: Duration },
    #[error("its entity tag can't be sent in a header")]
    EntityTag,
    #[error("its keys can't be used")]
    Keys(#[source] Failure),
}

impl WarmStart {
    /// The set of the last process and when it was asked for, if it may be used at `wall_now`, which is `now` by the other
    /// clock. Reads one small file, on this thread: it is the start of a service, and the keys must be there when the first
    /// request comes.
    pub(crate) fn load(&self, limits: &Limits, now: Instant, wall_now: Timestamp) -> Option<(Answer, Instant)> {
        let path = self.path.display();
        let bytes = match read(&self.path, limits) {
            Ok(bytes) => bytes,
            Err(Problem::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                tracing::debug!(%path, "there is no warm-start file yet");
                return None;
            }
            Err(problem) => return warn(&self.path, &problem),
        };
        let judged = self.judge(&bytes, limits, wall_now).and_then(|(answer, age)| {
            let asked_at = now.checked_sub(age).ok_or(Problem::BeforeThisClock { age })?;
            tracing::info!(%path, age_s = age.as_secs(), "beginning with the key set of the last process");
            Ok((answer, asked_at))
        });
        judged.map_or_else(|problem| warn(&self.path, &problem), Some)
    }

    /// Writes each set that is put in place, the last one where several come quickly.
    pub(crate) async fn keep(self, mut sets: watch::Receiver<Option<Arc<Snapshot>>>, wall_clock: WallClock) {
        let this = Arc::new(self);
        while sets.changed().await.is_ok() {
            let Some(set) = sets.borrow_and_update().clone() else { continue };
            let writer = Arc::clone(&this);
            // Rounded up: by the file a set must not look younger than it is.
            let age = Duration::from_secs(set.asked_at.elapsed().as_secs() + 1);
            let fetched_at = wall_clock() - age;
            let written = tokio::task::spawn_blocking(move || writer.write(&set, fetched_at)).await;
            let written = written.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            if let Err(error) = written {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(path = %this.path.display(), error, "the warm-start file can't be written");
            }
        }
    }

    /// Steps 2 and 3: what the file says, and how old it is.
    fn judge(&self, bytes: &[u8], limits: &Limits, wall_now: Timestamp) -> Result<(Answer, Duration), Problem> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(Problem::Damaged)?;
        if format != u64::from(FORMAT) {
            return Err(Problem::Format { found: format });
        }
        let record: Record = serde_json::from_slice(bytes).map_err(Problem::Damaged)?;
        if record.issuer != self.issuer {
            return Err(Problem::Issuer { found: record.issuer.as_deref().map_or("none".to_owned(), excerpt) });
        }
        if record.source != self.source {
            return Err(Problem::Source { found: excerpt(&record.source) });
        }
        let fetched_at = record.fetched_at;
        if fetched_at > wall_now + self.leeway {
            return Err(Problem::Future { fetched_at, now: wall_now });
        }
        // A clock that was set back hides as much of the age as it was set back by.
        let hidden = if fetched_at > wall_now { self.leeway } else { Duration::ZERO };
        // The clock's fraction of a second was cut off.
        let age = wall_now.duration_since(fetched_at) + hidden + Duration::from_secs(1);

        let caching =
            Caching { max_age: record.max_age_s.map(Duration::from_secs), age: Duration::from_secs(record.age_s) };
        let (_, trusted) = lifetimes(caching, limits);
        if age >= trusted {
            return Err(Problem::TooOld { age, trusted });
        }
        let fits = |etag: &String| etag.len() <= MAX_ETAG_BYTES && HeaderValue::try_from(etag).is_ok();
        if !record.etag.as_ref().is_none_or(fits) {
            return Err(Problem::EntityTag);
        }
        let keys = Arc::new(usable(record.jwks.as_bytes(), limits).map_err(Problem::Keys)?);
        Ok((Answer { keys, body: Bytes::from(record.jwks), etag: record.etag, caching }, age))
    }

    /// Step 1.
    fn write(&self, set: &Snapshot, fetched_at: Timestamp) -> io::Result<()> {
        let jwks = std::str::from_utf8(&set.body).map_err(io::Error::other)?;
        let record = Record {
            format: FORMAT,
            issuer: self.issuer.clone(),
            source: self.source.clone(),
            fetched_at,
            max_age_s: set.caching.max_age.map(|max_age| max_age.as_secs()),
            age_s: set.caching.age.as_secs(),
            etag: set.etag.clone(),
            jwks: jwks.to_owned(),
        };
        replace(&self.path, &serde_json::to_vec(&record).map_err(io::Error::other)?)
    }
}

fn warn<T>(path: &Path, problem: &Problem) -> Option<T> {
    let error: &dyn std::error::Error = problem;
    tracing::warn!(path = %path.display(), error, "the warm-start file is not used");
    None
}

/// Reads a file that only its owner may write, and no more of it than a set of the limits can take.
fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, Problem> {
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(Problem::Read)?;
    if !metadata.is_file() {
        return Err(Problem::NotAFile);
    }
    let file = File::open(path).map_err(Problem::Read)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode_of = |metadata: fs::Metadata| metadata.permissions().mode() & 0o777;
        let mode = mode_of(file.metadata().map_err(Problem::Read)?);
        if mode & 0o022 != 0 {
            return Err(Problem::Writable { mode });
        }
        // In /tmp somebody else may have put it there before us.
        let mode = mode_of(fs::metadata(folder_of(path)).map_err(Problem::Read)?);
        if mode & 0o002 != 0 {
            return Err(Problem::SharedFolder { mode });
        }
    }
    let limit_bytes = limits.body_limit_bytes as u64 * ESCAPED_BYTES_PER_BYTE + RECORD_BYTES;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(Problem::Read)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(Problem::TooLarge { limit_bytes });
    }
    Ok(bytes)
}

/// Puts a file with this content at `path`, or leaves what is there.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
    let folder = folder_of(path);
    // Two processes may share the path; nothing else about the name matters.
    let mut new_name = name.to_owned();
    new_name.push(format!(".{:016x}.new", RandomState::new().build_hasher().finish()));
    let new_path = folder.join(new_name);

    let written = write_new(&new_path, content).and_then(|()| fs::rename(&new_path, path));
    if written.is_err() {
        // It may not even exist; what went wrong first is what matters.
        let _ = fs::remove_file(&new_path);
        return written;
    }
    // The rename itself is on disk once its folder is; only Unix lets a folder be synced.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Goes up when a file of the version before can't be read any more.
const FORMAT: u32 = 1;

/// A byte of the set can become `\u0000` in a JSON string.
const ESCAPED_BYTES_PER_BYTE: u64 = 6;

/// All but the set: an issuer, a source, an entity tag and numbers.
const RECORD_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
