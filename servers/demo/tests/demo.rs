//! The demo as a program: what it prints, and how it ends.
//!
//! What its users see through real clients is tested in `e2e`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

/// With an address that is taken the demo says so, and what to do.
#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let manifests = manifests_on_free_ports();

    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("FAIRWAY_LISTEN", &address)
        .env("FAIRWAY_DEMO_DATA", data.path())
        .env("FAIRWAY_DEMO_MANIFESTS", manifests.path())
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&address) && said.contains("FAIRWAY_LISTEN"), "{said}");
}

/// What is printed names the endpoints and the commands to type; an interrupt ends it in a second.
#[test]
fn it_says_what_to_type_and_stops_when_told_to() {
    let data = tempfile::tempdir().unwrap();
    let manifests = manifests_on_free_ports();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("FAIRWAY_LISTEN", "127.0.0.1:0")
        .env("FAIRWAY_DEMO_DATA", data.path())
        .env("FAIRWAY_DEMO_MANIFESTS", manifests.path())
        .env_remove("DATABASE_URL")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut output = BufReader::new(demo.stdout.take().unwrap());
    while !said.contains("Ctrl-C") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "the demo ended: {said}");
    }
    for part in ["/sse?api_key=alice-key-abc123", "--transport http", "bob-key-xyz789", "6 tools"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }

    let began = std::time::SystemTime::now();
    let interrupted = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    let ended = demo.wait().unwrap();

    assert!(interrupted.success() && ended.success(), "{ended}");
    assert!(began.elapsed().unwrap().as_secs_f64() < 1.0, "took {:?}", began.elapsed());
}

/// A copy of the demo's manifests with ports that nobody uses.
fn manifests_on_free_ports() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let manifests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    // Held until all are chosen, so that they differ.
    let free: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    for folder in ["", "sqlite", "postgres"] {
        std::fs::create_dir_all(copy.path().join(folder)).unwrap();
        for file in std::fs::read_dir(manifests.join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let mut text = std::fs::read_to_string(&path).unwrap();
                for (port, listener) in [":18101", ":18102", ":18103"].iter().zip(&free) {
                    let free = listener.local_addr().unwrap().port();
                    text = text.replace(port, &format!(":{free}"));
                }
                let name = path.file_name().unwrap();
                std::fs::write(copy.path().join(folder).join(name), text).unwrap();
            }
        }
    }
    copy
}
