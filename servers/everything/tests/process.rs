//! The binary: it says where it listens, and it goes when it is told to.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{sleep, timeout};

/// Kills the server when the test ends early.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It has usually gone by itself, as it should.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn stops_within_a_second_of_either_signal_with_a_call_in_flight() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Process(
            Command::new(env!("CARGO_BIN_EXE_server-everything"))
                .args(["--listen", "127.0.0.1:0", "--slow-tools"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut line = String::new();
        let mut logs = BufReader::new(server.0.stdout.take().unwrap());
        logs.read_line(&mut line).unwrap();
        let log: Value = serde_json::from_str(&line).unwrap();
        let mut call = TcpStream::connect(log["fields"]["address"].as_str().unwrap()).unwrap();
        start_slow_call(&mut call);

        let kill = Command::new("kill").args([signal, &server.0.id().to_string()]).status();
        assert!(kill.unwrap().success(), "{signal}");
        let stopped = timeout(Duration::from_secs(1), async {
            loop {
                if let Some(status) = server.0.try_wait().unwrap() {
                    return status;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });

        let status = stopped.await.unwrap_or_else(|_| panic!("still there after {signal}"));
        assert!(status.success(), "{signal}: {status}");
    }
}

/// Returns once the call is under way.
fn start_slow_call(connection: &mut TcpStream) {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow",
        "arguments":{"seconds":600,"steps":1},"_meta":{"progressToken":1}}}"#;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body.as_bytes()).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut first_byte = [0];
    connection.read_exact(&mut first_byte).unwrap();
}
