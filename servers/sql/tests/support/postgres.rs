//! A PostgreSQL server of a test's own, on a free loopback port.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use tempfile::TempDir;

pub(crate) struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
    _directory: TempDir,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let postgres = Self::stopped();
        postgres.launch();
        postgres
    }

    /// Set up, but not running.
    pub(crate) fn stopped() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The user who runs PostgreSQL may be another one than we are.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let postgres = Self {
            programs: programs(),
            data: directory.path().join("data"),
            port: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
            _directory: directory,
        };
        postgres.run("initdb", &["--auth=trust", "--username=postgres", "--no-sync", "-E", "UTF8"]);
        postgres
    }

    pub(crate) fn launch(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off",
            self.port
        );
        let log = self.data.join("log");
        self.run("pg_ctl", &["start", "-w", "-o", &options, "-l", log.to_str().unwrap()]);
    }

    pub(crate) fn stop(&self) {
        self.run("pg_ctl", &["stop", "-w", "-m", "immediate"]);
    }

    /// With a password, which the server does not ask for, to look for where it must not be.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.output(program, arguments);
        assert!(
            output.status.success(),
            "{program}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// PostgreSQL refuses to run as root.
    fn output(&self, program: &str, arguments: &[&str]) -> Output {
        let program = self.programs.join(program);
        let id = Command::new("id").arg("-u").output().unwrap();
        let mut command = if id.stdout == b"0\n" {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).arg("-D").arg(&self.data).current_dir("/").output().unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.output("pg_ctl", &["stop", "-w", "-m", "immediate"]);
    }
}

/// Debian keeps the programs of each version in a directory of its own, off the PATH.
fn programs() -> PathBuf {
    fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|version| version.unwrap().path().join("bin"))
        .find(|programs| programs.join("initdb").exists())
        .expect("this test needs PostgreSQL: apt-get install postgresql")
}

pub(crate) const PASSWORD: &str = "hunter2";
