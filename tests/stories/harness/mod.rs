//! What every story needs: a real issuer in a folder of its own, HTTP as a client speaks it, clients and verifiers written
//! by others, people with browsers, and waiting for a condition instead of sleeping.

mod apache;
mod balancer;
mod browser;
mod clients;
mod gate;
mod http;
mod issuer;
mod landing;
mod panel;
mod person;
mod postgres;
mod relying_party;
mod talker;
mod tls;
mod tokens;
mod wait;

pub(crate) use apache::Apache;
pub(crate) use balancer::{Balancer, ServerError};
pub(crate) use browser::{Browser, Device, Seen};
pub(crate) use gate::Gate;
pub(crate) use http::{Kept, RawReply, Reply, get, post_form, send, send_raw, send_with_prior_knowledge};
pub(crate) use issuer::{Exit, Issuer, Running, Settings, example, free_addresses, program, target_folder};
pub(crate) use landing::Landing;
pub(crate) use panel::{Panel, Verdict};
pub(crate) use person::{End, Form, Person, urlencoded};
pub(crate) use postgres::Postgres;
pub(crate) use relying_party::{Library, RelyingParty};
pub(crate) use talker::{Talker, python, python_tool};
pub(crate) use tls::Tls;
pub(crate) use tokens::{claims, header, kid, kids};
pub(crate) use wait::{eventually, unix_now, until};
