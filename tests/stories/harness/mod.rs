//! What every story needs: a real issuer in a folder of its own, HTTP as a client speaks it, verifiers written by others,
//! and waiting for a condition instead of sleeping.

mod balancer;
mod clients;
mod gate;
mod http;
mod issuer;
mod panel;
mod postgres;
mod tokens;
mod wait;

pub(crate) use balancer::{Balancer, ServerError};
pub(crate) use gate::Gate;
pub(crate) use http::{RawReply, Reply, get, post_form, send, send_raw, send_with_prior_knowledge};
pub(crate) use issuer::{Exit, Issuer, Running, Settings, free_addresses, program};
pub(crate) use panel::{Panel, Verdict};
pub(crate) use postgres::Postgres;
pub(crate) use tokens::{claims, header, kid, kids};
pub(crate) use wait::{eventually, unix_now, until};
