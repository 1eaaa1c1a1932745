//! nginx that sends a file, as fast as it can.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::load::{ask, get};
use crate::machine::Cores;
use crate::process::{Process, free_address};

/// Starts it with the files of `documents`; `None` where it is not installed.
///
/// # Errors
/// When it is, and does not start.
pub(crate) fn start(folder: &Path, documents: &Path, cores: Cores) -> Result<Option<Process>> {
    let installed = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/bin/nginx", "/usr/bin/nginx"];
    let Some(program) = installed.iter().find(|program| Path::new(program).is_file()) else { return Ok(None) };
    fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (address, folder_shown, documents) = (free_address()?, folder.display(), documents.display());
    // As root, its worker would be another user, who may not read our folder.
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let text = format!(
        "{user}\ndaemon off;\nworker_processes 1;\npid {folder_shown}/pid;\nerror_log stderr error;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  tcp_nodelay on;\n\
         keepalive_requests 1000000000;\n  keepalive_timeout 75s;\n  open_file_cache max=10 inactive=1h;\n\
         open_file_cache_valid 1h;\n  default_type application/json;\n\
         client_body_temp_path {folder_shown}/body;\n  proxy_temp_path {folder_shown}/proxy;\n\
         fastcgi_temp_path {folder_shown}/fastcgi;\n  uwsgi_temp_path {folder_shown}/uwsgi;\n  \
         scgi_temp_path {folder_shown}/scgi;\n\
         server {{ listen {address}; root {documents}; add_header Cache-Control \"public, max-age=300\"; }}\n}}\n"
    );
    let configuration = folder.join("nginx.conf");
    fs::write(&configuration, text).context("cannot write nginx.conf")?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(&configuration);
    let mut process = Process::start(command, address, &folder.join("log"), cores)?;
    process.wait(|address| ask(address, &get("/jwks.json")).is_ok_and(|(status, ..)| status == 200))?;
    Ok(Some(process))
}
