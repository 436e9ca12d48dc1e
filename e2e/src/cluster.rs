//! A Kubernetes cluster for the tests, with an Ingress controller, DNS, `kubectl` and Helm.
//!
//! The one that `KUBECONFIG` names; else one in containers, by kind; else one of our own on this host (`own`), from
//! the real programs. Built and started once, it stays for the next test run; `cargo e2e down` removes it.
//!
//! Every wait has a deadline. A test holds one [`Cluster`] at a time: one that waits to be alone waits for the others.
//! Only the test namespaces of a cluster that was given are touched.

mod client;
mod command;
mod daemon;
pub mod dns;
pub mod http;
mod image;
mod kind;
mod layout;
mod lock;
mod namespace;
mod own;
mod packages;
mod pki;
mod postgres;
mod programs;
mod progress;
pub mod release;

use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};

use client::Access;
use layout::{Layout, NODE_IP};
use lock::{Lock, Share};
use progress::Progress;

pub use image::{Image, Profile, Program};
pub use namespace::Namespace;
pub use own::{
    component::Component,
    cut::{Cut, Others},
    fault::{Fault, Frozen},
};
pub use postgres::Postgres;
pub use release::{Release, Tenant};

/// Which cluster is meant, and where ours are kept.
#[derive(Clone, Debug, Default, Args)]
pub struct Choice {
    /// Use the cluster of this kubeconfig.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Use this context of the kubeconfig.
    #[arg(long)]
    pub context: Option<String>,

    /// Keep the programs and the state of our own cluster here [default: target/cluster].
    #[arg(long, env = "FAIRWAY_E2E_DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// Where a cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    Given,
    Kind,
    Own,
}

/// A cluster that runs, and that nobody takes down while this is held.
#[derive(Debug)]
pub struct Cluster {
    provider: Provider,
    layout: Layout,
    access: Access,
    progress: Progress,
    _use: Lock,
}

impl Cluster {
    /// The cluster, together with other tests.
    pub async fn shared() -> Result<Self> {
        Self::up(&Choice::of_environment(), Share::Shared).await
    }

    /// The cluster with no other test in it, to break it.
    pub async fn alone() -> Result<Self> {
        Self::up(&Choice::of_environment(), Share::Alone).await
    }

    /// The cluster that was chosen, together with others.
    pub async fn chosen(choice: &Choice) -> Result<Self> {
        Self::up(choice, Share::Shared).await
    }

    async fn up(choice: &Choice, share: Share) -> Result<Self> {
        let progress = Progress::start();
        let layout = choice.layout()?;
        let using = Lock::take_in_turn(&layout.use_lock(), share, PATIENCE, &progress).await?;
        let _changing = Lock::take(&layout.lock(), Share::Alone, PATIENCE, &progress).await?;
        let provider = choice.provider(&layout).await;
        let access = match provider {
            Provider::Given => given(choice, &layout, &progress).await?,
            Provider::Kind => kind::up(&layout, &progress).await?,
            Provider::Own => own::up(&layout, &progress).await?,
        };
        // Of a cluster that was given others may have tests elsewhere.
        if provider != Provider::Given {
            namespace::sweep(&access).await?;
        }
        Ok(Self { provider, layout, access, progress, _use: using })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        self.access.kubeconfig()
    }

    /// The context to use of it, if not its current one.
    pub fn context(&self) -> Option<&str> {
        self.access.context()
    }

    /// What `kubectl` prints.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.access.kubectl(arguments).await
    }

    /// The same for commands that wait.
    pub async fn kubectl_for(&self, arguments: &[&str], deadline: Duration) -> Result<String> {
        self.access.kubectl_for(arguments, deadline).await
    }

    /// Applies manifests.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        self.access.apply(manifests).await
    }

    /// What `helm` prints.
    pub async fn helm(&self, arguments: &[&str], deadline: Duration) -> Result<String> {
        self.access.helm(arguments, deadline).await
    }

    /// A client of its apiserver, in this process.
    pub async fn client(&self) -> Result<kube::Client> {
        // With two providers in the tree rustls does not choose.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let options = KubeConfigOptions {
            context: self.context().map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// A namespace of its own for one test.
    pub async fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(name, &self.access).await
    }

    /// Where the Ingress controller takes HTTP requests.
    pub fn ingress(&self) -> Result<SocketAddr> {
        match self.provider {
            Provider::Own => Ok((NODE_IP, 80).into()),
            // As kind-config.yaml maps it.
            Provider::Kind => Ok(([127, 0, 0, 1], 8000).into()),
            Provider::Given => {
                of_given("FAIRWAY_E2E_INGRESS", "HOST:PORT of its Ingress controller")
            }
        }
    }

    /// This host's address as pods reach it.
    pub async fn host_ip(&self) -> Result<IpAddr> {
        match self.provider {
            Provider::Own => Ok(NODE_IP.into()),
            Provider::Kind => kind::host_ip().await,
            Provider::Given => {
                of_given("FAIRWAY_E2E_HOST", "this host's address as its pods reach it")
            }
        }
    }

    /// Builds these programs, as fast as they are built, and puts their images into the cluster.
    pub async fn images(&self, programs: &[Program]) -> Result<Vec<Image>> {
        self.images_of(programs, Profile::Image).await
    }

    /// The same with a choice: measurements take programs as they are released.
    pub async fn images_of(&self, programs: &[Program], profile: Profile) -> Result<Vec<Image>> {
        let _assembling = self.assembling().await?;
        let images = image::build(&self.layout, programs, profile, &self.progress).await?;
        self.import(&images).await?;
        Ok(images)
    }

    /// The image of a small program that asks and answers from inside a pod: `resolve`, `get`, `connect`, `serve`, `sleep`.
    pub async fn probe(&self) -> Result<Image> {
        let _assembling = self.assembling().await?;
        programs::build(&self.layout, &["probe"], &self.progress).await?;
        let image = image::of_program(&self.layout, "docker.io/fairway/probe:e2e", "probe")?;
        self.import(std::slice::from_ref(&image)).await?;
        Ok(image)
    }

    /// A PostgreSQL on this host that pods reach.
    pub async fn postgres(&self) -> Result<Postgres> {
        Postgres::start(self.host_ip().await?, &self.layout.records(), &self.progress).await
    }

    /// Ways to break the cluster: only our own has them.
    pub fn fault(&self) -> Result<Fault<'_>> {
        match self.provider {
            Provider::Own => Ok(Fault::new(&self.layout, &self.access)),
            Provider::Kind | Provider::Given => bail!(
                "only our own cluster is broken on purpose: \
                 unset KUBECONFIG, and have no kind on the PATH, to run this test"
            ),
        }
    }

    /// Whether [`Self::fault`] works here.
    pub fn is_own(&self) -> bool {
        self.provider == Provider::Own
    }

    /// What the service accounts of the release have asked of the apiserver, one JSON event a line and a second late:
    /// only our own cluster keeps it.
    pub fn audit(&self) -> Result<Option<String>> {
        match self.provider {
            Provider::Own => Ok(Some(fs::read_to_string(self.layout.audit())?)),
            Provider::Kind | Provider::Given => Ok(None),
        }
    }

    async fn assembling(&self) -> Result<Lock> {
        Lock::take(&self.layout.images_lock(), Share::Alone, PATIENCE, &self.progress).await
    }

    async fn import(&self, images: &[Image]) -> Result<()> {
        match self.provider {
            Provider::Own => own::import(&self.layout, images).await,
            Provider::Kind => kind::import(images).await,
            Provider::Given => {
                let names: Vec<_> = images.iter().map(Image::reference).collect();
                self.progress.say(&format!(
                    "this cluster was given: it has to have {} already, from {}",
                    names.join(", "),
                    self.layout.images().display()
                ));
                Ok(())
            }
        }
    }
}

/// Takes our clusters down.
pub async fn down(choice: &Choice) -> Result<String> {
    let progress = Progress::start();
    let layout = choice.layout()?;
    let provider = choice.provider(&layout).await;
    if provider == Provider::Given {
        bail!("this cluster was given, not made here: it stays");
    }
    let _using = Lock::take_in_turn(&layout.use_lock(), Share::Alone, PATIENCE, &progress).await?;
    let _changing = Lock::take(&layout.lock(), Share::Alone, PATIENCE, &progress).await?;
    let removed = match provider {
        Provider::Given => false,
        Provider::Kind => kind::down(&layout).await?,
        Provider::Own => own::down(&layout, &progress).await?,
    };
    Ok(if removed { "removed" } else { "there was no cluster" }.to_owned())
}

/// Says how the cluster is.
pub async fn status(choice: &Choice) -> Result<String> {
    let layout = choice.layout()?;
    match choice.provider(&layout).await {
        Provider::Own => own::status(&layout).await,
        Provider::Kind => {
            let access = Access::new(&layout, layout.kind_kubeconfig(), None);
            access.kubectl(&["get", "nodes", "--output=wide"]).await
        }
        Provider::Given => {
            let access = access_of_given(choice, &layout)?;
            access.kubectl(&["get", "nodes", "--output=wide"]).await
        }
    }
}

impl Choice {
    fn of_environment() -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            kubeconfig: path("KUBECONFIG"),
            context: None,
            directory: path("FAIRWAY_E2E_DIRECTORY"),
        }
    }

    fn layout(&self) -> Result<Layout> {
        match &self.directory {
            Some(directory) => Layout::at(directory),
            None => Layout::at(&crate::clients::target_directory()?.join("cluster")),
        }
    }

    /// Who was told to take our own kubeconfig still means our own cluster.
    async fn provider(&self, layout: &Layout) -> Provider {
        let path = self.kubeconfig.as_ref().filter(|_| self.context.is_none());
        let path = path.and_then(|path| fs::canonicalize(path).ok());
        let named = |ours: PathBuf| path.as_ref() == Some(&ours);
        if named(layout.kubeconfig()) {
            Provider::Own
        } else if named(layout.kind_kubeconfig()) {
            Provider::Kind
        } else if self.kubeconfig.is_some() || self.context.is_some() {
            Provider::Given
        } else if kind::available().await {
            Provider::Kind
        } else {
            Provider::Own
        }
    }
}

async fn given(choice: &Choice, layout: &Layout, progress: &Progress) -> Result<Access> {
    programs::build(layout, &programs::CLIENTS, progress).await?;
    let access = access_of_given(choice, layout)?;
    let told = "the cluster that KUBECONFIG or --context names does not answer";
    access.kubectl(&["get", "--raw", "/readyz"]).await.context(told)?;
    Ok(access)
}

fn access_of_given(choice: &Choice, layout: &Layout) -> Result<Access> {
    let kubeconfig = match &choice.kubeconfig {
        Some(path) => path.clone(),
        None => env::home_dir().context("there is no home directory")?.join(".kube/config"),
    };
    Ok(Access::new(layout, kubeconfig, choice.context.clone()))
}

/// What only its owner knows of a cluster that was given.
fn of_given<T: std::str::FromStr>(variable: &str, what: &str) -> Result<T> {
    let value = env::var_os(variable).unwrap_or_default();
    let value = value.to_str().and_then(|value| value.parse().ok());
    value.with_context(|| format!("for a cluster that is given, set {variable} to {what}"))
}

/// Another test may be building everything for the first time.
const PATIENCE: Duration = Duration::from_secs(90 * 60);
