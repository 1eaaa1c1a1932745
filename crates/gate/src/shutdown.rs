//! The order to stop, seen by everything that runs.

use tokio::sync::watch;

/// Tells whether to stop. Clones hear of the same order.
#[derive(Clone)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

/// Gives the order, at the latest when it is dropped.
pub(crate) struct Stop(watch::Sender<bool>);

/// An order not given yet, and those who wait for it.
pub(crate) fn shutdown() -> (Stop, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Shutdown(receiver))
}

impl Stop {
    pub(crate) fn stop(self) {
        // Nobody listening means that everything has stopped already.
        let _ = self.0.send(true);
    }
}

impl Shutdown {
    /// Waits for the order.
    pub(crate) async fn ordered(&mut self) {
        // An error means that the sender is gone, which is an order as well.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
