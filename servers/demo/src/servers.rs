//! The sample servers, each on the loopback address that its manifest names.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use axum::Router;
use serde::Deserialize;
use server_sql::DatabaseUrl;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Sample files, as they are before anybody writes to them.
const SAMPLES: [(&str, &str); 2] = [
    ("readme.txt", include_str!("../sample-files/readme.txt")),
    ("report.csv", include_str!("../sample-files/report.csv")),
];

/// The database behind the SQL server.
#[derive(Debug)]
pub(crate) enum Database {
    /// The seeded sample.
    Sample(DatabaseUrl),
    /// A SQLite file of the user's own.
    Sqlite(DatabaseUrl),
    /// A PostgreSQL of the user's own.
    Postgres(DatabaseUrl),
}

impl Database {
    pub(crate) fn choose(given: Option<DatabaseUrl>, data: &Path) -> Self {
        match given {
            None => Self::Sample(DatabaseUrl::sqlite_file(&data.join("sample.db"))),
            Some(url) if url.is_postgres() => Self::Postgres(url),
            Some(url) => Self::Sqlite(url),
        }
    }

    /// Name of the server, and of its manifest.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Sample(_) | Self::Sqlite(_) => "database",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Folder of its manifest.
    pub(crate) const fn folder(&self) -> &'static str {
        match self {
            Self::Sample(_) | Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// What is read of a manifest.
#[derive(Debug, Deserialize)]
struct Manifest {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    url: Option<String>,
}

/// Starts the servers; they end when what is returned is dropped.
pub(crate) async fn start(
    directories: &[PathBuf],
    database: &Database,
    data: &Path,
) -> anyhow::Result<JoinSet<()>> {
    let files = sample_files(data)?;
    let url = match database {
        Database::Sample(url) => {
            server_sql::seed(url).await?;
            url
        }
        Database::Sqlite(url) | Database::Postgres(url) => url,
    };
    let everything = server_everything::router(&server_everything::Config::default());
    let filesystem = server_filesystem::router(&server_filesystem::Config {
        root: files,
        allowed_hosts: Vec::new(),
    })?;
    let sql = server_sql::router(&server_sql::Config::new(url.clone()))?;

    let manifests = read(directories)?;
    let mut servers = JoinSet::new();
    for (name, router) in
        [("everything", everything), ("filesystem", filesystem), (database.name(), sql)]
    {
        serve(name, router, &manifests, &mut servers).await?;
    }
    Ok(servers)
}

async fn serve(
    name: &str,
    router: Router,
    manifests: &[Manifest],
    servers: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let address = address_of(name, manifests)?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "the sample server {name} cannot listen on {address}; another demo may be running: stop \
             it, or change the port of spec.url in the manifest of {name}"
        )
    })?;
    servers.spawn(async move {
        // It ends with the process.
        let _ = axum::serve(listener, router).await;
    });
    Ok(())
}

fn address_of(name: &str, manifests: &[Manifest]) -> anyhow::Result<SocketAddr> {
    let manifest = manifests.iter().find(|manifest| {
        manifest.kind == "McpServer"
            && manifest.metadata.name == name
            && manifest.metadata.namespace.as_deref().is_none_or(|space| space == "default")
    });
    let url = manifest.and_then(|manifest| manifest.spec.url.as_deref());
    let url = url.with_context(|| format!("no manifest says where the server {name} is"))?;
    let authority =
        url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    match authority.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        _ => bail!("the manifest of {name} must name a loopback address, not {url}"),
    }
}

fn read(directories: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for directory in directories {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot read the manifests in {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path)?;
                let documents: Vec<Manifest> = serde_saphyr::from_multiple(&text)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                manifests.extend(documents);
            }
        }
    }
    Ok(manifests)
}

/// Puts the sample files in place, unless somebody has written to them.
fn sample_files(data: &Path) -> anyhow::Result<PathBuf> {
    let files = data.join("files");
    fs::create_dir_all(&files).with_context(|| format!("cannot write to {}", files.display()))?;
    for (name, text) in SAMPLES {
        let path = files.join(name);
        if !path.exists() {
            fs::write(path, text)?;
        }
    }
    Ok(files)
}
