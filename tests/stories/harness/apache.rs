//! Debian's Apache with `mod_auth_openidc`, before a page that only people who are signed in see.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::browser::Device;
use super::http::get;
use super::issuer::{Issuer, Running, free_addresses};
use super::wait::eventually;

const START: Duration = Duration::from_secs(20);
/// Where Debian puts the modules.
const MODULES: &str = "/usr/lib/apache2/modules";
const SECRET: &str = "a-secret-of-apache-0123456789-abcdefghij";

/// An Apache that will listen.
pub(crate) struct Reserved {
    address: SocketAddr,
}

/// A running Apache; killed when dropped.
pub(crate) struct Apache {
    address: SocketAddr,
    running: Running,
    _folder: TempDir,
}

impl Reserved {
    /// Its `[[client]]` at the issuer.
    pub(crate) fn client(&self) -> String {
        let own = format!("http://{}", self.address);
        format!(
            "[[client]]\nid = \"apache\"\nname = \"Apache\"\nsecret = \"{SECRET}\"\nfirst_party = true\n\
             grants = [\"authorization_code\", \"refresh_token\"]\nredirect_uris = [\"{own}/callback\"]\n\
             post_logout_redirect_uris = [\"{own}/bye.html\"]\nrequire_pkce = true\n"
        )
    }

    /// Starts it, for people of `issuer`.
    pub(crate) async fn serve(self, issuer: &Issuer) -> Apache {
        let Self { address } = self;
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path();
        // As root, Apache serves as another user.
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("opening the folder");
        let page = |heading: &str| {
            format!("<!doctype html><html lang=en><title>Apache</title><link rel=icon href=data:,><h1>{heading}</h1>")
        };
        fs::write(path.join("index.html"), page("Behind Apache")).expect("writing a page");
        fs::write(path.join("bye.html"), page("Bye from Apache")).expect("writing a page");
        let file = path.join("apache.conf");
        fs::write(&file, configuration(address, path, issuer)).expect("writing the configuration");
        let mut command = Command::new("/usr/sbin/apache2");
        // In one process, so that none is left when it is killed.
        command.arg("-X").arg("-f").arg(&file);
        let mut running = Running::start(command, path);
        eventually("Apache answers", START, async || {
            if let Some(status) = running.has_ended() {
                panic!("Apache ended at its start with {status}:\n{}", running.log());
            }
            get(&format!("http://{address}/bye.html")).await.ok().filter(|reply| reply.status == 200)
        })
        .await;
        Apache { address, running, _folder: folder }
    }
}

impl Apache {
    pub(crate) fn reserve() -> Reserved {
        let [address, _] = free_addresses();
        Reserved { address }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it knows of whoever is signed in on this device.
    pub(crate) async fn session(&self, device: Device<'_>) -> Value {
        let page = device.goto(&self.at("/callback?info=json")).await;
        serde_json::from_str(&page.text)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {page:?}\n{}", self.running.log()))
    }

    /// Everything it has written so far.
    pub(crate) fn log(&self) -> String {
        self.running.log()
    }
}

fn configuration(address: SocketAddr, folder: &Path, issuer: &Issuer) -> String {
    let modules = ["mpm_event", "authn_core", "authz_core", "authz_user", "dir", "mime", "auth_openidc"]
        .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"));
    format!(
        "{modules}ServerRoot {folder}\nServerName 127.0.0.1\nListen {address}\nPidFile {folder}/pid\n\
         ErrorLog /dev/stderr\nLogLevel warn auth_openidc:info\nUser www-data\nGroup www-data\n\
         DocumentRoot {folder}\nDirectoryIndex index.html\nTypesConfig /dev/null\n\
         AddType text/html .html\n\
         OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration\n\
         OIDCClientID apache\nOIDCClientSecret {SECRET}\nOIDCRedirectURI http://{address}/callback\n\
         OIDCCryptoPassphrase a-passphrase-of-apache\nOIDCPKCEMethod S256\n\
         OIDCScope \"openid email profile offline_access\"\nOIDCRemoteUserClaim email\n\
         OIDCInfoHook iat access_token access_token_expires id_token userinfo refresh_token session\n\
         <Directory {folder}>\n  Require all granted\n</Directory>\n\
         <Location /index.html>\n  AuthType openid-connect\n  Require valid-user\n</Location>\n\
         <Location /callback>\n  AuthType openid-connect\n  Require valid-user\n</Location>\n\
         <LocationMatch ^/$>\n  AuthType openid-connect\n  Require valid-user\n</LocationMatch>\n",
        modules = modules.concat(),
        folder = folder.display(),
        issuer = issuer.url(),
    )
}
