//! Asks a name server for the addresses of a name: enough of DNS to see that a cluster's answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::net::UdpSocket;

/// The name server is on this host: an answer that takes longer is lost.
const ANSWER: Duration = Duration::from_secs(2);

/// The IPv4 addresses that this server knows of a name, none if there is no such name.
pub async fn resolve(name: &str, server: SocketAddr) -> Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(server).await?;
    socket.send(&question(name)).await?;
    let mut answer = [0; 1500];
    let length = tokio::time::timeout(ANSWER, socket.recv(&mut answer))
        .await
        .with_context(|| format!("no answer from {server} in {ANSWER:?}"))??;

    addresses(answer.get(..length).unwrap_or_default())
        .with_context(|| format!("{server} answered"))
}

/// One question of class IN and type A; recursion is asked for as resolvers do (RFC 1035, 4.1).
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x46, 0x57, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        // A label that is too long is cut here and answered with "no such name".
        let label = label.as_bytes().get(..63).unwrap_or(label.as_bytes());
        message.push(label.len() as u8);
        message.extend(label);
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn addresses(message: &[u8]) -> Result<Vec<Ipv4Addr>> {
    let code = message.get(3).context("no header")? & 0x0f;
    ensure!(code == 0 || code == NO_SUCH_NAME, "with error {code}");
    records(message).context("half a message")
}

fn records(message: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let answers = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    // The question comes back as it was: a name, a type and a class.
    let mut at = skip_name(message, 12)? + 4;
    let mut found = Vec::new();
    for _ in 0..answers {
        let record = skip_name(message, at)?;
        let fixed = message.get(record..record + 10)?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = message.get(record + 10..record + 10 + length)?;
        if fixed[..2] == [0, 1] {
            found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?));
        }
        at = record + 10 + length;
    }
    Some(found)
}

/// Past a name, which ends with an empty label or with a pointer to another.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

const NO_SUCH_NAME: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_read_past_other_records() {
        let mut message = question("a.example");
        message[7] = 2;
        // A CNAME, whose name is a pointer to the question's, then an address.
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 96, 0, 1]);

        assert_eq!(addresses(&message).unwrap(), [Ipv4Addr::new(10, 96, 0, 1)]);
    }

    #[test]
    fn unknown_name_has_no_address_and_refusal_is_an_error() {
        let mut message = question("a.example");

        message[3] = NO_SUCH_NAME;
        assert_eq!(addresses(&message).unwrap(), Vec::<Ipv4Addr>::new());
        assert!(addresses(&message[..14]).is_err());
        message[3] = 5;
        assert!(addresses(&message).is_err());
    }
}
