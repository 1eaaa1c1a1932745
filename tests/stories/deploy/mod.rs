//! What `deploy/` promises, kept with real programs: systemd's end of the socket, a root that cannot be written to, proxies
//! with their recipes, two servers behind one of them. What needs a cluster or a registry is judged by its schema.

mod container;
mod documents;
mod proxies;
mod recipe;
mod systemd;
mod two_servers;
mod visitor;
