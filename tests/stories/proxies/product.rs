//! The proxies of Debian: how each is started with its recipe, as a user without rights and in a folder of its own.

use std::net::SocketAddr;

use tokio::process::Command;

use super::recipe::Place;

/// A proxy with a recipe.
pub(super) trait Product {
    /// Where Debian has it.
    const PROGRAM: &'static str;

    /// Where it tells the gate about a request: its method, its path and query, its host. Empty where the gate gets the
    /// request itself.
    const TOLD_IN: [&'static str; 3];

    /// `gate.toml`, changed as the recipe tells.
    fn gate_config(gate_toml: &str, service: SocketAddr) -> String;

    /// Puts the recipe into its place, with what belongs around it, and says how to start it in the foreground.
    fn command(place: &Place) -> Command;
}

pub(super) struct Nginx;
pub(super) struct Haproxy;
/// With another script, which only fails.
pub(super) struct FailingHaproxy;
pub(super) struct Caddy;
pub(super) struct Apache;

impl Product for Nginx {
    const PROGRAM: &'static str = "/usr/sbin/nginx";
    const TOLD_IN: [&'static str; 3] = ["x-original-method", "x-original-uri", "x-forwarded-host"];

    fn gate_config(gate_toml: &str, _: SocketAddr) -> String {
        asked_by("nginx", gate_toml)
    }

    fn command(place: &Place) -> Command {
        place.copy("nginx.conf");
        // What Debian's own nginx.conf has around the files in conf.d, but all in one process, which is all that is killed.
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|of| format!("{of}_temp_path {of};\n")).concat();
        let main = place.write(
            "main.conf",
            &format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
                 http {{\naccess_log off;\n{temporary}include nginx.conf;\n}}\n"
            ),
        );
        let mut command = Command::new(Self::PROGRAM);
        command.arg("-p").arg(place.folder).args(["-e", "stderr", "-c"]).arg(main);
        command
    }
}

impl Product for Haproxy {
    const PROGRAM: &'static str = "/usr/sbin/haproxy";
    const TOLD_IN: [&'static str; 3] = ["x-original-method", "x-original-uri", "x-forwarded-host"];

    fn gate_config(gate_toml: &str, _: SocketAddr) -> String {
        asked_by("haproxy", gate_toml)
    }

    fn command(place: &Place) -> Command {
        place.copy("keywheel-gate.lua");
        let config = place.copy("haproxy.cfg");
        let mut command = Command::new(Self::PROGRAM);
        command.args(["-db", "-f"]).arg(config);
        command
    }
}

impl Product for FailingHaproxy {
    const PROGRAM: &'static str = Haproxy::PROGRAM;
    const TOLD_IN: [&'static str; 3] = Haproxy::TOLD_IN;

    fn gate_config(gate_toml: &str, service: SocketAddr) -> String {
        Haproxy::gate_config(gate_toml, service)
    }

    fn command(place: &Place) -> Command {
        let command = Haproxy::command(place);
        let fails = r#"core.register_action("keywheel-gate", { "http-req" }, function() error("for a story") end, 2)"#;
        place.write("keywheel-gate.lua", fails);
        command
    }
}

impl Product for Caddy {
    const PROGRAM: &'static str = "/usr/bin/caddy";
    const TOLD_IN: [&'static str; 3] = ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host"];

    fn gate_config(gate_toml: &str, _: SocketAddr) -> String {
        asked_by("caddy", gate_toml)
    }

    fn command(place: &Place) -> Command {
        place.copy("Caddyfile");
        // Its administration has a port that is the same for all.
        let main = place.write("main.Caddyfile", "{\nadmin off\n}\nimport Caddyfile\n");
        let mut command = Command::new(Self::PROGRAM);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(main);
        command.env("HOME", place.folder).env("XDG_DATA_HOME", place.folder).env("XDG_CONFIG_HOME", place.folder);
        command
    }
}

impl Product for Apache {
    const PROGRAM: &'static str = "/usr/sbin/apache2";
    const TOLD_IN: [&'static str; 3] = [""; 3];

    /// The gate stands between Apache and the service.
    fn gate_config(gate_toml: &str, service: SocketAddr) -> String {
        let (table, upstream) = ("#[proxy]", "#upstream = \"http://127.0.0.1:3000\"");
        assert!(gate_toml.contains(table) && gate_toml.contains(upstream), "{gate_toml}");
        let config = gate_toml.replace(FORWARD_AUTH, "").replace(table, "[proxy]");
        config.replace(upstream, &format!("upstream = \"http://{service}\""))
    }

    fn command(place: &Place) -> Command {
        place.copy("apache.conf");
        // What Debian's own apache2.conf and a2enmod have around the files in sites-enabled. With -X it is one process.
        let modules = ["mpm_event", "authz_core", "headers", "proxy", "proxy_http"];
        let modules = modules.map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
        let folder = place.folder.display();
        let main = place.write(
            "main.conf",
            &format!(
                "ServerRoot {folder}\nServerName localhost\nPidFile apache.pid\nDefaultRuntimeDir {folder}\n\
                 ErrorLog error.log\n{}Include apache.conf\n",
                modules.concat()
            ),
        );
        let mut command = Command::new(Self::PROGRAM);
        command.arg("-d").arg(place.folder).arg("-f").arg(main).arg("-X");
        command
    }
}

/// `gate.toml` for a proxy that asks the gate.
pub(super) fn asked_by(product: &str, gate_toml: &str) -> String {
    assert!(gate_toml.contains(FORWARD_AUTH), "{gate_toml}");
    gate_toml.replace(FORWARD_AUTH, &format!("[forward_auth]\nproxy = \"{product}\"\n"))
}

/// What stands in `gate.toml`.
const FORWARD_AUTH: &str = "[forward_auth]\nproxy = \"nginx\"\n";
