//! Runs other programs to their end, each with a deadline, and says what they said when they fail.

use std::{
    future::Future,
    io::ErrorKind,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{io::AsyncWriteExt as _, process::Command, time::Instant};

/// What any small program gets: the slowest, `kubectl` on a busy machine, takes 2 s.
pub(crate) const SHORT: Duration = Duration::from_secs(60);

/// How often a condition that cannot notify is looked at.
const POLL: Duration = Duration::from_millis(50);

/// What a program printed, when it succeeded.
pub(crate) async fn run(command: Command, deadline: Duration) -> Result<String> {
    let line = line(&command);
    let output = output(command, None, deadline).await?;
    ensure!(output.status.success(), "{line} failed ({}): {}", output.status, said(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same, with something to read.
pub(crate) async fn feed(command: Command, input: &str, deadline: Duration) -> Result<String> {
    let line = line(&command);
    let output = output(command, Some(input), deadline).await?;
    ensure!(output.status.success(), "{line} failed ({}): {}", output.status, said(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What became of a program, whether it succeeded or not. Past its deadline it is killed.
pub(crate) async fn output(
    mut command: Command,
    input: Option<&str>,
    deadline: Duration,
) -> Result<Output> {
    let line = line(&command);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("{line}: there is no such program here"),
        _ => anyhow::Error::new(error).context(line.clone()),
    })?;
    let stdin = child.stdin.take();
    let feeding = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that fails early reads nothing; it says why itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(child.wait_with_output(), feeding).0 };

    let output = tokio::time::timeout(deadline, both)
        .await
        .with_context(|| format!("{line} ran longer than {deadline:?}"))?;
    output.with_context(|| line.clone())
}

/// Asks until the answer is yes. An answer that is an error counts as no, and is told at the deadline.
pub async fn until<F>(what: &str, deadline: Duration, mut answer: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let end = Instant::now() + deadline;
    loop {
        let last = match answer().await {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= end {
            match last {
                Some(error) => return Err(error.context(format!("waited {deadline:?} for {what}"))),
                None => bail!("waited {deadline:?} for {what}"),
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

fn line(command: &Command) -> String {
    let command = command.as_std();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}

fn said(output: &Output) -> String {
    let said = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes));
    said.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn failure_says_the_command_and_its_last_words() {
        let error = run(shell("echo why >&2; exit 3"), SHORT).await.unwrap_err();

        let told = error.to_string();
        assert!(told.contains("`sh -c echo why >&2; exit 3`") && told.ends_with("why"), "{told}");
    }

    #[tokio::test]
    async fn program_that_never_ends_is_a_failure() {
        let error = run(shell("sleep 60"), Duration::from_millis(10)).await.unwrap_err();

        assert!(error.to_string().contains("ran longer than 10ms"), "{error}");
    }

    #[tokio::test]
    async fn input_larger_than_a_pipe_arrives() {
        let input = "x".repeat(1 << 20);

        assert_eq!(feed(shell("cat"), &input, SHORT).await.unwrap(), input);
    }

    #[tokio::test]
    async fn missing_program_is_named() {
        let error = run(Command::new("no-such-program"), SHORT).await.unwrap_err();

        assert!(
            error.to_string().contains("`no-such-program`: there is no such program"),
            "{error}"
        );
    }
}
