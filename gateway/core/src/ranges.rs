//! Addresses that no server may have, and those that it may all the same. Performs no I/O.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network such as `10.96.0.0/16`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Range {
    first: IpAddr,
    bits: u8,
}

impl Range {
    /// Whether the address is in it. Addresses of one version that hide in the other count as what
    /// they are; one that can be read in several ways, as each of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        readings(address).any(|address| self.contains_exactly(address))
    }

    fn contains_exactly(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(first).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(first).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            _ => false,
        }
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        let first = unwrapped(address);
        Self { first, bits: if first.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let wrong = || RangeError(text.chars().take(64).collect());
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { first, bits })
    }
}

/// Not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses; write for instance 10.96.0.0/16")]
pub struct RangeError(String);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

impl TryFrom<String> for Range {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        text.parse()
    }
}

/// Where servers given by a URL may not be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forbidden {
    /// Ranges of the cluster: Services, pods, nodes, the apiserver.
    pub ranges: Vec<Range>,
    /// Ranges that are allowed all the same.
    #[serde(default)]
    pub allowed: Vec<Range>,
}

impl Forbidden {
    /// Whether a server given by a URL may have the address. What is not a public unicast address
    /// of a host, and loopback and link-local ones, it may never have unless they are allowed. One
    /// that can be read in several ways has to be permitted in each.
    pub fn permits(&self, address: IpAddr) -> bool {
        readings(address).all(|address| {
            let inside =
                |ranges: &[Range]| ranges.iter().any(|range| range.contains_exactly(address));
            inside(&self.allowed) || !(is_local(address) || inside(&self.ranges))
        })
    }
}

/// This host, this link, or nobody.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
        }
    }
}

/// What an address can stand for. Of the NAT64 prefix for local use, `64:ff9b:1::/48` (RFC 8215), a
/// network takes a part of a length that only it knows, and the length says where the IPv4 address
/// is (RFC 6052, section 2.2): all are read.
fn readings(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let (mut shorter, mut plain) = ([None; 3], Some(unwrapped(address)));
    if let IpAddr::V6(v6) = address
        && let [_, _, _, _, _, _, g, h, _, i, j, k, l, m, n, o] = v6.octets()
        && v6.segments().starts_with(&[0x64, 0xff9b, 1])
    {
        // Prefixes of 48, 56, 64 and 96 bits; the octet between is always 0. 0.0.0.0/8 is nobody's:
        // it is what fills up the end of an address, or of a longer prefix.
        let read = |octets: [u8; 4]| (octets[0] != 0).then(|| IpAddr::from(octets));
        shorter = [read([g, h, i, j]), read([h, i, j, k]), read([i, j, k, l])];
        let is_filled = shorter.iter().any(Option::is_some) && l == 0;
        plain = (!is_filled).then(|| IpAddr::from([l, m, n, o]));
    }
    shorter.into_iter().flatten().chain(plain)
}

/// The IPv4 address that an IPv6 address stands for: mapped (`::ffff:0:0/96`), compatible (`::/96`),
/// NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`).
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x2002, high, low, ..] => v4(high, low),
        [0, 0, 0, 0, 0, 0] if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED => v4(g, h),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(ranges: &[&str], allowed: &[&str]) -> Forbidden {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Forbidden { ranges: parse(ranges), allowed: parse(allowed) }
    }

    #[test]
    fn an_address_of_the_cluster_is_refused_in_every_disguise() {
        let forbidden = forbidden(&["10.96.0.0/16", "fd00::/8"], &["10.96.7.0/24", "127.0.0.2"]);

        for (address, permitted) in [
            ("10.96.0.1", false),
            ("10.97.0.1", true),
            ("10.96.7.9", true),
            ("::ffff:10.96.0.1", false),
            ("::10.96.0.1", false),
            ("64:ff9b::10.96.0.1", false),
            ("64:ff9b:1:2:3:4:10.96.0.1", false),
            ("64:ff9b:1::10.96.0.1", false),
            ("64:ff9b:1:0a60:0000:0100::", false),
            ("64:ff9b:1:ab0a:0060:0001::", false),
            ("64:ff9b:1:abcd:000a:6000:0100::", false),
            ("64:ff9b:1:7f00:0000:0100::", false),
            ("64:ff9b:1:a60:7:100::", true),
            ("64:ff9b:1::8.8.8.8", true),
            ("64:ff9b:1::", false),
            ("2002:0a60:0001::1", false),
            ("2002:0808:0808::1", true),
            ("fd12::1", false),
            ("2001:db8::1", true),
            ("127.0.0.1", false),
            ("127.0.0.2", true),
            ("::1", false),
            ("::", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(forbidden.permits(address.parse().unwrap()), permitted, "{address}");
        }
    }

    #[test]
    fn ranges_are_read_and_written_alike() {
        for (text, written) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("fd00::/8", Some("fd00::/8")),
            ("::/0", Some("::/0")),
            ("10.0.0.0/33", None),
            ("10.0.0/8", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/-1", None),
            ("host/8", None),
        ] {
            let range = text.parse::<Range>();
            assert_eq!(range.ok().map(|range| range.to_string()).as_deref(), written, "{text}");
        }
        let all: Range = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
    }
}
