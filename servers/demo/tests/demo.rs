//! The demo as a program: what it prints, and how it ends.
//!
//! What its users see through real clients is tested in `e2e`.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// From its start to three servers that are connected, when it is built.
const READY: Duration = Duration::from_secs(2);

/// With an address that is taken the demo says so, and what to do.
#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let manifests = manifests_on_free_ports();

    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("FAIRWAY_LISTEN", &address)
        .env("FAIRWAY_ADMIN_LISTEN", "127.0.0.1:0")
        .env("FAIRWAY_DEMO_DATA", data.path())
        .env("FAIRWAY_DEMO_MANIFESTS", manifests.path())
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&address) && said.contains("FAIRWAY_LISTEN"), "{said}");
}

/// An address for clients or metrics that is taken is named before those of the sample servers.
#[test]
fn its_own_addresses_are_tried_before_the_samples() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for variable in ["FAIRWAY_LISTEN", "FAIRWAY_ADMIN_LISTEN"] {
        let data = tempfile::tempdir().unwrap();
        // No sample server can start without its manifest.
        let nothing = tempfile::tempdir().unwrap();

        let output = Command::new(env!("CARGO_BIN_EXE_demo"))
            .env("FAIRWAY_LISTEN", "127.0.0.1:0")
            .env("FAIRWAY_ADMIN_LISTEN", "127.0.0.1:0")
            .env(variable, &address)
            .env("FAIRWAY_DEMO_DATA", data.path())
            .env("FAIRWAY_DEMO_MANIFESTS", nothing.path())
            .env_remove("DATABASE_URL")
            .output()
            .unwrap();

        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&address) && said.contains(&format!("{variable}=")), "{said}");
    }
}

/// What is printed names the endpoints and the commands to type; an interrupt ends it in a second.
#[test]
fn it_says_what_to_type_and_stops_when_told_to() {
    let data = tempfile::tempdir().unwrap();
    let manifests = manifests_on_free_ports();
    let began = SystemTime::now();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("FAIRWAY_LISTEN", "0.0.0.0:0")
        .env("FAIRWAY_ADMIN_LISTEN", "127.0.0.1:0")
        .env("FAIRWAY_DEMO_DATA", data.path())
        .env("FAIRWAY_DEMO_MANIFESTS", manifests.path())
        .env("DATABASE_URL", format!("sqlite:{}", data.path().join("own.db").display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut output = BufReader::new(demo.stdout.take().unwrap());
    while !said.contains("Ctrl-C") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "the demo ended: {said}");
    }
    for part in [
        "/sse?api_key=alice-key-abc123",
        "--transport http",
        "bob-key-xyz789",
        "6 tools of everything, database",
        "/metrics",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }

    let listening = said.lines().next().unwrap();
    let address = listening.rsplit_once("http://").unwrap().1.to_owned();
    assert!(address.starts_with("127.0.0.1:") && !said.contains("0.0.0.0"), "{said}");
    let all = r#"["database","everything","filesystem"]"#;
    while !health(&address).contains(all) {
        assert!(began.elapsed().unwrap() < READY, "{}", health(&address));
        std::thread::yield_now();
    }
    assert!(began.elapsed().unwrap() < READY, "took {:?}", began.elapsed());

    let began = SystemTime::now();
    let interrupted = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    let ended = demo.wait().unwrap();

    assert!(interrupted.success() && ended.success(), "{ended}");
    assert!(began.elapsed().unwrap().as_secs_f64() < 1.0, "took {:?}", began.elapsed());
}

fn health(address: &str) -> String {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    answer
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
