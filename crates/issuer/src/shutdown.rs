//! The order to stop, seen by everything that runs. It may come in two steps: first to say so to those who send requests,
//! and then to take no more of them.

use tokio::sync::watch;

/// Tells whether to stop. Clones hear of the same order.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<Order>);

/// Gives the order.
pub struct Stop(watch::Sender<Order>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    None,
    Leave,
    Stop,
}

/// An order not given yet, and those who wait for it.
#[must_use]
pub fn shutdown() -> (Stop, Shutdown) {
    let (sender, receiver) = watch::channel(Order::None);
    (Stop(sender), Shutdown(receiver))
}

impl Stop {
    /// Announces the order: whoever sends requests here should send them elsewhere.
    pub fn announce(&self) {
        // Nobody listening means that everything has stopped already.
        let _ = self.0.send(Order::Leave);
    }

    /// Gives the order. Dropping a `Stop` gives it too.
    pub fn stop(self) {
        let _ = self.0.send(Order::Stop);
    }
}

impl Shutdown {
    /// Waits for the order.
    pub async fn ordered(&mut self) {
        // An error means that the sender is gone, which is an order as well.
        let _ = self.0.wait_for(|order| *order == Order::Stop).await;
    }

    /// Waits for the order, or for its announcement.
    pub async fn announced(&mut self) {
        let _ = self.0.wait_for(|order| *order >= Order::Leave).await;
    }

    /// Whether the order was given or announced.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        *self.0.borrow() >= Order::Leave
    }
}
