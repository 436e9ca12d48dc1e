//! Locks between processes that use one cluster: released by the kernel, however their holder ends.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{command, progress::Progress};

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// With others who share.
    Shared,
    /// With nobody.
    Alone,
}

impl Lock {
    /// Waits for the others, at most that long, and says for what when it has to.
    pub(crate) async fn take(
        path: &Path,
        share: Share,
        patience: Duration,
        progress: &Progress,
    ) -> Result<Self> {
        // A description of its own: two locks of one process exclude each other like those of two.
        let file = File::create(path).with_context(|| path.display().to_string())?;
        if !attempt(&file, share)? {
            progress.say(&format!("waiting for others ({})", path.display()));
            let free = || async { attempt(&file, share) };
            command::until(&format!("{} to be free", path.display()), patience, free).await?;
        }
        Ok(Self { _file: file })
    }

    /// The same in turn: who waits to be alone is not overtaken for ever by those who share.
    pub(crate) async fn take_in_turn(
        path: &Path,
        share: Share,
        patience: Duration,
        progress: &Progress,
    ) -> Result<Self> {
        let line = path.with_extension("line");
        let _first_in_line = Self::take(&line, Share::Alone, patience, progress).await?;
        Self::take(path, share, patience, progress).await
    }
}

fn attempt(file: &File, share: Share) -> Result<bool> {
    let attempt = match share {
        Share::Shared => file.try_lock_shared(),
        Share::Alone => file.try_lock(),
    };
    match attempt {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn lock_is_shared_or_alone() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("lock");
        let progress = Progress::start();
        let take = |share| Lock::take(&path, share, Duration::from_millis(1), &progress);

        let (one, two) = (take(Share::Shared).await.unwrap(), take(Share::Shared).await.unwrap());
        take(Share::Alone).await.unwrap_err();
        drop((one, two));
        let _alone = take(Share::Alone).await.unwrap();
        take(Share::Shared).await.unwrap_err();
    }
    #[tokio::test]
    async fn who_waits_to_be_alone_is_not_overtaken() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("lock");
        let progress = Progress::start();
        let take = |share, patience| Lock::take_in_turn(&path, share, patience, &progress);
        let (soon, long) = (Duration::from_millis(1), Duration::from_secs(60));

        let sharing = take(Share::Shared, soon).await.unwrap();
        let (alone, ()) = tokio::join!(take(Share::Alone, long), async {
            take(Share::Shared, soon).await.unwrap_err();
            drop(sharing);
        });
        alone.unwrap();
    }
}
