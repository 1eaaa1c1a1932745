//! Threads for signatures that take long.
//!
//! An RSA signature keeps a processor for a quarter of a millisecond or more, in which a thread that serves connections
//! would answer thirty requests. So it is made elsewhere, by as many threads as there are processors; the system lets those
//! that serve go first, since they wait most of the time. Who comes when as many wait as can be served in good time is
//! turned away.
//!
//! To wake somebody who waits costs a change of threads, twice where processors are few. While others wait, results are
//! therefore kept for [`PATIENCE`], and those who wait for them are woken together.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Work that is done in the order in which it came.
pub(super) struct Signers<T> {
    line: Arc<Mutex<Line<T>>>,
    threads: usize,
    places: usize,
}

struct Line<T> {
    waiting: VecDeque<Job<T>>,
    /// Threads that take from it.
    at_work: usize,
}

struct Job<T> {
    work: Box<dyn FnOnce() -> T + Send>,
    told: oneshot::Sender<T>,
}

/// Too many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<T: Send + 'static> Signers<T> {
    /// One thread for each processor, while there is work.
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(threads, threads * PLACES_PER_THREAD)
    }

    fn with(threads: usize, places: usize) -> Self {
        let line = Line { waiting: VecDeque::new(), at_work: 0 };
        Self { line: Arc::new(Mutex::new(line)), threads, places }
    }

    /// Does `work` when its turn comes; `None` when it failed. Work that nobody waits for any more is left undone.
    ///
    /// # Errors
    /// [`Full`], at once
    pub(super) async fn run(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<Option<T>, Full> {
        let (told, result) = oneshot::channel();
        {
            let mut line = lock(&self.line);
            if line.waiting.len() >= self.places {
                return Err(Full);
            }
            line.waiting.push_back(Job { work: Box::new(work), told });
            if line.at_work < self.threads {
                line.at_work += 1;
                let line = Arc::clone(&self.line);
                drop(tokio::task::spawn_blocking(move || take_from(&line)));
            }
        }
        Ok(result.await.ok())
    }
}

/// Works until nothing waits.
fn take_from<T>(line: &Mutex<Line<T>>) {
    let mut kept = Kept { results: Vec::new(), since: None };
    loop {
        let mut held = lock(line);
        let Some(Job { work, told }) = held.waiting.pop_front() else {
            // Before anybody can put something there and see this thread at work.
            held.at_work -= 1;
            return;
        };
        let is_last = held.waiting.is_empty();
        drop(held);
        if !told.is_closed() {
            kept.since.get_or_insert_with(Instant::now);
            // Whoever asked for what fails hears of it by `told`, and nobody else is the worse for it.
            if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
                kept.results.push((told, result));
            }
        }
        if is_last || kept.since.is_some_and(|since| since.elapsed() >= PATIENCE) {
            kept.tell();
        }
    }
}

/// Results that those who wait for them have not been told of.
struct Kept<T> {
    results: Vec<(oneshot::Sender<T>, T)>,
    since: Option<Instant>,
}

impl<T> Kept<T> {
    fn tell(&mut self) {
        self.since = None;
        for (told, result) in self.results.drain(..) {
            let _ = told.send(result);
        }
    }
}

fn lock<T>(line: &Mutex<Line<T>>) -> MutexGuard<'_, Line<T>> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A quarter of a second with keys of 2048 bits, under two seconds with 4096.
const PLACES_PER_THREAD: usize = 1024;

/// As long as a few signatures with keys of 2048 bits take, and less than one with 4096.
const PATIENCE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_done() {
        let signers = Signers::with(2, 8);

        for number in 0..20 {
            assert_eq!(signers.run(move || number * 2).await, Ok(Some(number * 2)));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_finds_all_places_taken_is_turned_away_at_once() {
        let signers = Arc::new(Signers::with(1, 2));
        let (go, wait) = mpsc::channel::<()>();
        let (began, has_begun) = oneshot::channel();
        let ask = |work: Box<dyn FnOnce() + Send>| {
            let signers = Arc::clone(&signers);
            tokio::spawn(async move { signers.run(work).await })
        };
        let slow = ask(Box::new(move || {
            let _ = began.send(());
            let _ = wait.recv();
        }));
        has_begun.await.expect("it works");
        let waiting = [ask(Box::new(|| ())), ask(Box::new(|| ()))];
        while lock(&signers.line).waiting.len() < 2 {
            tokio::task::yield_now().await;
        }

        let refused = signers.run(|| ()).await;

        assert_eq!(refused, Err(Full));
        go.send(()).expect("it waits");
        assert_eq!(slow.await.expect("done"), Ok(Some(())));
        for waiting in waiting {
            assert_eq!(waiting.await.expect("done"), Ok(Some(())));
        }
        assert_eq!(signers.run(|| ()).await, Ok(Some(())), "there is room again");
    }

    #[tokio::test]
    async fn a_failure_of_one_is_nobody_elses() {
        let signers = Arc::new(Signers::with(1, 8));
        let (go, wait) = mpsc::channel::<()>();
        let ask = |work: Box<dyn FnOnce() -> u32 + Send>| {
            let signers = Arc::clone(&signers);
            tokio::spawn(async move { signers.run(work).await })
        };
        let first = ask(Box::new(move || wait.recv().map_or(0, |()| 1)));
        let failing = ask(Box::new(|| panic!("as the test wants")));
        while lock(&signers.line).waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        go.send(()).expect("it waits");

        assert_eq!(first.await.expect("done"), Ok(Some(1)), "its result was kept, not lost");
        assert_eq!(failing.await.expect("done"), Ok(None));
        assert_eq!(signers.run(|| 2).await, Ok(Some(2)));
    }
}
