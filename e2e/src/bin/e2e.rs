//! `cargo e2e`: the cluster that the tests run in, by hand.

use std::{process::ExitCode, time::Duration};

use anyhow::ensure;
use clap::{Parser, Subcommand};
use e2e::{
    cluster::{self, Choice, Cluster, Profile, Program, Release},
    soak,
};

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
    /// Use Fairway in it for a long time while servers restart, tables change and gateways come and go.
    Soak {
        /// For how long.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..))]
        minutes: u64,
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
        Command::Soak { minutes } => {
            let release = Release::chosen(&choice).await?;
            let report = soak::run(&release, Duration::from_secs(minutes * 60)).await?;
            println!("{report}");
            let unexplained = report.unexplained().len();
            ensure!(
                unexplained == 0,
                "{unexplained} calls or sessions were lost without a known cause"
            );
        }
    }
    Ok(())
}
