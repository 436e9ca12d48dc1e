//! nginx as a plain reverse proxy of the same bytes, with a configuration of its own.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::bench::process::{self, Process};

/// Starts nginx before the server at `upstream`.
pub(super) fn start(upstream: SocketAddr, scratch: &Path) -> Result<(Process, SocketAddr)> {
    let prefix = scratch.join("nginx");
    fs::create_dir_all(&prefix)?;
    let address = process::free_address()?;
    let file = prefix.join("nginx.conf");
    fs::write(&file, configuration(address, upstream))?;

    let error_log = prefix.join("error.log");
    let arguments = [Path::new("-p"), &prefix, Path::new("-c"), &file, Path::new("-e"), &error_log];
    let nginx = Process::program(&program()?, arguments, &prefix.join("output.log"))?;
    Ok((nginx, address))
}

fn program() -> Result<PathBuf> {
    // Debian installs nginx where only root's PATH looks.
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join("nginx"))
        .find(|candidate| candidate.is_file())
        .context("nginx is missing: `apt-get install nginx-light`, or leave it out of --targets")
}

/// What a careful operator writes for a proxy: persistent connections both ways, no access log.
fn configuration(address: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "\
daemon off;
worker_processes auto;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    # The default, 1,000, would have clients reconnect in mid-measurement.
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream mock {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}
