//! The order to stop, seen by everything that runs.

use tokio::sync::watch;

/// Tells whether to stop. Clones hear of the same order.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// Gives the order.
pub struct Stop(watch::Sender<bool>);

/// An order not given yet, and those who wait for it.
#[must_use]
pub fn shutdown() -> (Stop, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Shutdown(receiver))
}

impl Stop {
    /// Gives the order. Dropping a `Stop` gives it too.
    pub fn stop(self) {
        // Nobody listening means that everything has stopped already.
        let _ = self.0.send(true);
    }
}

impl Shutdown {
    /// Waits for the order.
    pub async fn ordered(&mut self) {
        // An error means that the sender is gone, which is an order as well.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
