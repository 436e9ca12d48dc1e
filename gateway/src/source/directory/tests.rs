//! Directories as they change.

use super::*;

const GIT: &str = "apiVersion: fairway.dev/v1alpha1\nkind: McpServer\nmetadata: {name: git}\n";

fn files(files: &[(&str, &str)]) -> Listing {
    let read = |text: &&str| Ok((*text).to_owned());
    let files = files.iter().map(|(path, text)| (PathBuf::from(path), read(text))).collect();
    Listing { files, missing: BTreeMap::new() }
}

fn server(url: &str) -> String {
    format!("{GIT}spec: {{url: '{url}'}}\n")
}

#[test]
fn only_what_changed_is_applied_and_what_is_gone_deleted() {
    let mut directory = Directory::new(Pepper::new(b"pepper"));

    let first = directory.take(files(&[("a.yaml", &server("http://a"))]));
    let same = directory.take(files(&[("a.yaml", &server("http://a"))]));
    let changed = directory.take(files(&[("a.yaml", &server("http://b"))]));
    let gone = directory.take(files(&[]));

    assert!(matches!(first, Some(News { applied, .. }) if applied.len() == 1));
    assert!(same.is_none());
    assert!(matches!(changed, Some(News { applied, .. }) if applied.len() == 1));
    assert!(matches!(gone, Some(News { deleted, .. }) if deleted.len() == 1));
}

#[test]
fn a_broken_file_leaves_the_last_good_version() {
    let mut directory = Directory::new(Pepper::new(b"pepper"));
    directory.take(files(&[("a.yaml", &server("http://a"))]));
    let typo = format!("{GIT}spec: {{ulr: 'http://a'}}\n");

    for broken in ["a: [", "", &typo, &server("ftp://a")] {
        let change = directory.take(files(&[("a.yaml", broken)]));

        let Some(News { applied, deleted, rejected: Some(rejected), .. }) = change else {
            panic!("{broken} is not told of")
        };
        assert!(applied.is_empty() && deleted.is_empty(), "{broken}");
        assert_eq!((rejected.len(), rejected[0].file.as_str()), (1, "a.yaml"), "{broken}");
    }
}

#[test]
fn of_two_files_with_one_resource_the_first_counts() {
    let mut directory = Directory::new(Pepper::new(b"pepper"));
    let two = [("a.yaml", &*server("http://a")), ("b.yaml", &*server("http://b"))];

    let change = directory.take(files(&two));

    let Some(News { applied, rejected: Some(rejected), .. }) = change else { panic!("no change") };
    assert_eq!(applied.len(), 1);
    assert_eq!((rejected[0].file.as_str(), rejected.len()), ("b.yaml", 1));
    assert!(rejected[0].reason.contains("a.yaml"), "{rejected:?}");
}

/// A source that is watching a directory with `a.yaml`.
struct Watching {
    root: tempfile::TempDir,
    news: tokio::sync::mpsc::Receiver<Change>,
    _stop: tokio_util::sync::DropGuard,
}

impl Watching {
    async fn start(prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let (changes, mut news) = tokio::sync::mpsc::channel(64);
        let stop = CancellationToken::new();
        let directories = vec![root.path().join("manifests")];
        let pepper = Pepper::new(b"pepper");
        tokio::spawn(watch(directories, pepper, changes, stop.clone()).await.unwrap());
        assert!(
            matches!(news.recv().await, Some(Change::Source(News { applied, .. })) if applied.len() == 1)
        );
        Self { root, news, _stop: stop.drop_guard() }
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("manifests")
    }

    /// Waits for such news; a tenth of the time after which everything is read again anyway.
    async fn wait(&mut self, what: &str, wanted: impl Fn(&Change) -> bool) {
        let wait = async { while !wanted(&self.news.recv().await.unwrap()) {} };
        let in_time = tokio::time::timeout(RESYNC / 10, wait).await;
        in_time.unwrap_or_else(|_| panic!("not told in time: {what}"));
    }
}

fn fill(directory: &Path, url: &str) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("a.yaml"), server(url)).unwrap();
}

fn is_applied(change: &Change) -> bool {
    matches!(change, Change::Source(News { applied, .. }) if !applied.is_empty())
}

fn is_deleted(change: &Change) -> bool {
    matches!(change, Change::Source(News { deleted, .. }) if !deleted.is_empty())
}

#[tokio::test]
async fn a_busy_directory_does_not_hold_up_a_revocation() {
    for busy in ["server.log", "noise.yaml"] {
        let mut watching = Watching::start(|root| fill(&root.join("manifests"), "http://a")).await;
        let noise = watching.directory().join(busy);
        let noise = tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(3));
            loop {
                every.tick().await;
                fs::write(&noise, "---\n").unwrap();
            }
        });

        fs::remove_file(watching.directory().join("a.yaml")).unwrap();

        watching.wait(busy, is_deleted).await;
        noise.abort();
    }
}

#[tokio::test]
async fn a_directory_that_was_away_is_watched_again() {
    let mut watching = Watching::start(|root| fill(&root.join("manifests"), "http://a")).await;
    let directory = watching.directory();

    fs::rename(&directory, watching.root.path().join("away")).unwrap();
    let named = directory.display().to_string();
    let kept = |change: &Change| {
        assert!(!is_deleted(change), "the last good state is gone");
        matches!(change, Change::Source(News { rejected: Some(rejected), .. }) if rejected.iter().any(|r| r.file == named))
    };
    watching.wait("missing", kept).await;
    let other = watching.root.path().join("other");
    fill(&other, "http://b");
    fs::rename(&other, &directory).unwrap();
    watching.wait("back", is_applied).await;

    fill(&directory, "http://c");
    watching.wait("edited", is_applied).await;
}

#[tokio::test]
async fn a_link_to_another_directory_is_followed() {
    let link = |root: &Path, to: &str| {
        std::os::unix::fs::symlink(root.join(to), root.join("new")).unwrap();
        fs::rename(root.join("new"), root.join("manifests")).unwrap();
    };
    let mut watching = Watching::start(|root| {
        fill(&root.join("1"), "http://a");
        fill(&root.join("2"), "http://b");
        link(root, "1");
    })
    .await;

    link(watching.root.path(), "2");
    watching.wait("swapped", is_applied).await;

    fill(&watching.root.path().join("2"), "http://c");
    watching.wait("edited", is_applied).await;
}
