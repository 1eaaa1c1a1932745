//! Threads for signatures that take long.
//!
//! An RSA signature keeps a processor for a quarter of a millisecond or more, in which a thread that serves connections
//! would answer thirty requests. So it is made elsewhere, by as many threads as there are processors; the system lets those
//! that serve go first, since they wait most of the time. Who comes when as many wait as can be served in good time is
//! turned away.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Work that is done in the order in which it came.
pub(super) struct Signers {
    line: Arc<Mutex<Line>>,
    threads: usize,
    places: usize,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Job>,
    /// Threads that take from it.
    at_work: usize,
}

type Job = Box<dyn FnOnce() + Send>;

/// Too many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Signers {
    /// One thread for each processor, while there is work.
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(threads, threads * PLACES_PER_THREAD)
    }

    fn with(threads: usize, places: usize) -> Self {
        Self { line: Arc::default(), threads, places }
    }

    /// Does `work` when its turn comes; `None` when it failed. Work that nobody waits for any more is left undone.
    ///
    /// # Errors
    /// [`Full`], at once
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Full> {
        let (told, result) = oneshot::channel();
        let job = move || {
            if !told.is_closed() {
                let _ = told.send(work());
            }
        };
        {
            let mut line = lock(&self.line);
            if line.waiting.len() >= self.places {
                return Err(Full);
            }
            line.waiting.push_back(Box::new(job));
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
fn take_from(line: &Mutex<Line>) {
    /// A thread that fails makes room for another.
    struct AtWork<'a>(&'a Mutex<Line>);
    impl Drop for AtWork<'_> {
        fn drop(&mut self) {
            lock(self.0).at_work -= 1;
        }
    }
    let at_work = AtWork(line);
    loop {
        let mut held = lock(line);
        let Some(job) = held.waiting.pop_front() else {
            // Before anybody can put something there and see this thread at work.
            held.at_work -= 1;
            std::mem::forget(at_work);
            return;
        };
        drop(held);
        job();
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A quarter of a second with keys of 2048 bits, under two seconds with 4096.
const PLACES_PER_THREAD: usize = 1024;

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
        let ask = |work: Job| {
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
        assert_eq!(signers.run(|| 1).await, Ok(Some(1)), "there is room again");
    }

    #[tokio::test]
    async fn a_failure_of_one_is_nobody_elses() {
        let signers = Signers::with(1, 8);

        assert_eq!(signers.run(|| panic!("as the test wants")).await, Ok(None::<()>));

        assert_eq!(signers.run(|| 1).await, Ok(Some(1)));
    }
}
