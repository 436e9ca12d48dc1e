//! Three minutes of the soak: tables change, a server restarts, gateways are drained and killed, and nobody notices more
//! than has a known cause. `cargo e2e soak` goes on for half an hour.

use std::time::Duration;

use e2e::{cluster::Release, soak};

/// Long enough for a gateway of each way to go, and for one that is left alone to show whether it grows.
const TIME: Duration = Duration::from_secs(180);

/// What a gateway may gain a minute once it is warm. 40 calls a second are 2,400 a minute: one that forgot 1 KiB of
/// each would gain more.
const MOST_KIB: f64 = 2048.0;
/// The same of open files: connections come and go with calls, and a server whose pod is new gets new ones. One left
/// behind at each restart of the server would be six.
const MOST_FILES: f64 = 5.0;

#[tokio::test]
async fn three_minutes_of_trouble_cost_nothing_unexplained() {
    let release = Release::alone().await.unwrap();
    if !release.cluster().is_own() {
        return;
    }

    let report = soak::run(&release, TIME).await.unwrap();

    eprintln!("{report}");
    assert_eq!(report.unexplained(), [""; 0], "{report}");
    for (kind, answered) in report.answered() {
        assert!(answered > 500, "{kind}: only {answered} calls were answered");
    }
    for (trouble, least) in [
        ("table changes", 150),
        ("servers restarted", 12),
        ("gateways drained", 1),
        ("gateways killed", 1),
    ] {
        assert!(report.count(trouble) >= least, "{trouble}: only {}", report.count(trouble));
    }
    let (kib, files) = report.growth();
    assert!(kib < MOST_KIB, "a gateway gains {kib:.0} KiB a minute");
    assert!(files < MOST_FILES, "a gateway gains {files:.1} open files a minute");
}
