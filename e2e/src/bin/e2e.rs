//! `cargo e2e`: the cluster that the tests run in, by hand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e::cluster::{self, Choice, Cluster, Profile, Program};

/// A Kubernetes cluster to test Fairway in.
#[derive(Debug, Parser)]
#[command(name = "cargo e2e")]
struct Flags {
    #[command(flatten)]
    choice: Choice,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring it up, if it is not.
    Up,
    /// Remove it, if we made it.
    Down,
    /// Say how it is.
    Status,
    /// Build the images of this workspace's programs and put them into it.
    Images {
        /// As they are released, which takes longer to build.
        #[arg(long)]
        release: bool,

        /// Print what `helm install` needs to be told to use them, in place of their names.
        #[arg(long)]
        helm: bool,

        /// Only these [default: all].
        programs: Vec<Program>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // A backtrace of ours says nothing about a cluster.
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(Flags { choice, command }: Flags) -> anyhow::Result<()> {
    match command {
        Command::Up => {
            let cluster = Cluster::chosen(&choice).await?;
            println!("export KUBECONFIG={}", cluster.kubeconfig().display());
            if let Ok(ingress) = cluster.ingress() {
                println!("# Ingresses of class traefik answer at http://{ingress}");
            }
        }
        Command::Down => println!("{}", cluster::down(&choice).await?),
        Command::Status => println!("{}", cluster::status(&choice).await?),
        Command::Images { release, helm, programs } => {
            let programs = if programs.is_empty() { Program::here() } else { programs };
            let cluster = Cluster::chosen(&choice).await?;
            let profile = if release { Profile::Release } else { Profile::Image };
            let images = cluster.images_of(&programs, profile).await?;
            for (image, program) in images.iter().zip(programs) {
                if helm {
                    println!("--set {}.image.tag={}", program.component(), image.tag());
                } else {
                    println!("{}", image.reference());
                }
            }
        }
    }
    Ok(())
}
