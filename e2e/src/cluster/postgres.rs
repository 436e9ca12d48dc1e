//! PostgreSQL outside the cluster, as a team has it: on the host, behind a password, reachable from pods.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    command::{self, SHORT},
    daemon::Daemon,
    packages,
    progress::Progress,
};

/// A server with one database, which holds the sample tables. It ends when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    address: SocketAddr,
    record: PathBuf,
    _directory: TempDir,
}

impl Postgres {
    /// Sets one up on this address of the host. Its process is recorded there while it runs.
    pub(crate) async fn start(host: IpAddr, records: &Path, progress: &Progress) -> Result<Self> {
        if packages::postgres().is_none() {
            packages::install(&[("initdb", "postgresql")], progress).await.or_else(|error| {
                // Debian keeps its programs off the PATH.
                packages::postgres().map(drop).ok_or(error)
            })?;
        }
        let programs = packages::postgres().context("PostgreSQL was not installed")?;
        let directory = tempfile::tempdir()?;
        // The user who runs PostgreSQL is another one than root.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
        let port = TcpListener::bind((host, 0))?.local_addr()?.port();
        let postgres = Self {
            programs,
            data: directory.path().join("data"),
            address: SocketAddr::new(host, port),
            record: records.join(format!("postgres-{port}")),
            _directory: directory,
        };
        postgres.set_up().await?;
        Ok(postgres)
    }

    /// `postgres://…`, for pods and for this host.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{DATABASE}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs SQL in the database as its superuser and returns what `psql` prints.
    pub async fn sql(&self, script: &str) -> Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        psql.args(["--set", "ON_ERROR_STOP=1", "--dbname"]).arg(self.url());
        command::feed(psql, script, SHORT).await
    }

    /// Ends it at once, connections and all.
    pub async fn stop(&self) -> Result<()> {
        self.run("pg_ctl", &["stop", "-w", "-m", "immediate"]).await
    }

    /// Starts it again, with the same data at the same address.
    pub async fn launch(&self) -> Result<()> {
        let options = format!(
            "-p {} -c listen_addresses={} -c unix_socket_directories='' -c fsync=off",
            self.address.port(),
            self.address.ip()
        );
        let log = self.data.join("log").display().to_string();
        self.run("pg_ctl", &["start", "-w", "-o", &options, "-l", &log]).await?;
        // Its own record, for the case that nobody is left to stop it.
        let pid = fs::read_to_string(self.data.join("postmaster.pid"))?;
        let pid = pid.lines().next().and_then(|pid| pid.parse().ok());
        let daemon = pid.and_then(Daemon::of).context("PostgreSQL is gone")?;
        daemon.record(&self.record)
    }

    async fn set_up(&self) -> Result<()> {
        let password = self.data.with_extension("password");
        fs::write(&password, PASSWORD)?;
        let password = format!("--pwfile={}", password.display());
        let user = format!("--username={USER}");
        let arguments = ["--auth=scram-sha-256", &user, &password, "--no-sync", "-E", "UTF8"];
        self.run("initdb", &arguments).await?;
        let rules = "host all all all scram-sha-256\n";
        fs::write(self.data.join("pg_hba.conf"), rules)?;
        self.launch().await?;
        self.sql(include_str!("../../../servers/sql/seed.sql")).await.map(drop)
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(program);
        command.args(arguments).arg("-D").arg(&self.data);
        command::run(command, SHORT).await.map(drop)
    }

    /// PostgreSQL refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may have been stopped already.
        let mut stop = self.command("pg_ctl").into_std();
        stop.args(["stop", "-w", "-t", "20", "-m", "immediate", "-D"]).arg(&self.data);
        let _ = stop.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = fs::remove_file(&self.record);
    }
}

const USER: &str = "postgres";

/// A test looks for it where it must not be.
const PASSWORD: &str = "hunter2-of-the-database";

const DATABASE: &str = "postgres";
