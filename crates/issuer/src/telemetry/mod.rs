//! What the server tells of itself while it works: log lines, and traces.
//!
//! Both belong to a request, which is known wherever its work is done without being passed along: the task that answers it
//! carries a [`Context`]. A request that nobody traces costs a copy of its id.
//!
//! - [`logs`]: how lines are written, and that those of a request have its id
//! - [`request`]: what every request goes through: its id, its time, its line in the log
//! - [`traces`]: what is sampled, and the spans of a request
//! - [`otlp`]: how they get to a collector

pub(crate) mod logs;
pub(crate) mod otlp;
pub(crate) mod request;
mod request_id;
pub(crate) mod traces;

use std::cell::RefCell;
use std::sync::Arc;

pub(crate) use request_id::{HEADER, RequestId};
use traces::{Span, Trace};

use crate::clients::Client;

tokio::task_local! {
    static CURRENT: Context;
}

/// The request that a task works for.
struct Context {
    /// None for work that nobody asked for.
    id: Option<RequestId>,
    trace: Option<Arc<Trace>>,
    /// Who asks, once that is known, where somebody wants to know it.
    client: Option<RefCell<Option<Arc<Client>>>>,
}

/// The id of the request that is being answered here, if one is.
pub(crate) fn request_id() -> Option<RequestId> {
    CURRENT.try_with(|current| current.id.clone()).ok().flatten()
}

/// Begins a step of the request that is being answered here; it ends when it is dropped.
pub(crate) fn span(name: &'static str) -> Span {
    CURRENT.try_with(|current| Span::of(current.trace.as_ref(), name)).unwrap_or_default()
}

/// Takes note of who sent the request that is being answered here.
pub(crate) fn client_is(client: &Arc<Client>) {
    let _ = CURRENT.try_with(|current| {
        if let Some(known) = &current.client {
            *known.borrow_mut() = Some(Arc::clone(client));
        }
    });
}

/// `work`, to be done on another thread for the same request.
pub(crate) fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let current =
        CURRENT.try_with(|current| Context { id: current.id.clone(), trace: current.trace.clone(), client: None });
    move || match current {
        Ok(current) => CURRENT.sync_scope(current, work),
        Err(_) => work(),
    }
}
