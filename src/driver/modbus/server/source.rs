//! The client addresses that may connect: single addresses, and networks with a prefix length, such
//! as `10.0.0.0/8`.
//!
//! The list `allow` protects against mistakes and against curious people. The list does not prove
//! who a client is, because Modbus cannot prove this. `server.rs` checks the address of each new
//! client.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// An entry of the list `allow`: one address, or all addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    network: IpAddr,
    /// The number of leading bits that an address must have in common with `network`.
    prefix: u32,
}

/// Returns an address as a number of 128 bits, and the number of bits in the address. The first bit
/// of the address is the highest bit of the returned number.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl Source {
    /// Parses an address or a network. Returns `None` if the text is neither an address nor a
    /// network.
    fn parse(text: &str) -> Option<Self> {
        let (network, prefix) = match text.split_once('/') {
            Some((network, prefix)) => (network, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let network = network.parse().ok()?;
        let (_, most) = bits(network);
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Self { network, prefix })
    }

    /// Returns the loopback addresses. Only processes on this computer can connect from these
    /// addresses.
    pub(super) fn loopback() -> Vec<Self> {
        ["127.0.0.0/8", "::1"].into_iter().filter_map(Self::parse).collect()
    }

    /// Whether the address belongs to this entry.
    pub(super) fn covers(self, address: IpAddr) -> bool {
        // A socket for both IP versions shows the address 10.0.0.7 as the IPv6 address
        // `::ffff:10.0.0.7`.
        let address = address.to_canonical();
        let ((ours, len), (theirs, same)) = (bits(self.network), bits(address));
        let beyond = 128 - self.prefix;
        len == same && (ours ^ theirs).checked_shr(beyond).unwrap_or(0) == 0
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wanted = "an address or a network, such as \"10.0.0.0/8\"";
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not {wanted}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_meant_by_their_prefix() {
        fn check(source: &str, address: &str, expected: bool) {
            let source = Source::parse(source).unwrap();
            assert_eq!(source.covers(address.parse().unwrap()), expected, "{source:?} {address}");
        }
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("127.0.0.1", "::ffff:127.0.0.1", true);
        check("10.0.0.0/8", "10.255.1.2", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("192.168.1.128/25", "192.168.1.127", false);
        check("192.168.1.128/25", "192.168.1.255", true);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "::1", false);
        check("fd00::/8", "fdff::1", true);
        check("fd00::/8", "fe80::1", false);
        check("::/0", "2001:db8::1", true);
        check("::/0", "10.0.0.1", false);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "scada", "10.0.0.0/33", "10.0.0/8", "::1/129", "10.0.0.0/", "/8", "1.2.3.4/-1"]
        {
            assert_eq!(Source::parse(text), None, "{text}");
        }
        assert!(Source::loopback().iter().any(|source| source.covers([127, 9, 9, 9].into())));
        assert_eq!(Source::loopback().len(), 2);
    }
}
