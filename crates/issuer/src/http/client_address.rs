//! Who sent a request, where proxies stand in front.
//!
//! Each proxy adds the address it was asked from to the end of `X-Forwarded-For`. Whatever stands before the address that
//! the first proxy of ours added was written by somebody we don't know, so the list is read from its end: the first
//! address that is no proxy of ours is the client's.

use std::net::IpAddr;

use http::HeaderMap;

/// An address or a network in CIDR notation (RFC 4632 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8` or a single address.
    ///
    /// # Errors
    /// What was expected, for the configuration
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').unzip();
        let network = address.unwrap_or(text).parse().ok().and_then(|address: IpAddr| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(longest), |prefix| prefix.parse().ok())?;
            (prefix <= longest).then_some(Self { address, prefix })
        });
        network.ok_or_else(|| format!("expected an IP address or network, such as 10.0.0.0/8, found {text:?}"))
    }

    fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, bits) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (u32::from(ours).into(), u32::from(theirs).into(), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (u128::from(ours), u128::from(theirs), 128),
            _ => return false,
        };
        let differing: u128 = ours ^ theirs;
        differing.checked_shr(bits - u32::from(self.prefix)).unwrap_or(0) == 0
    }
}

/// The address of the client behind `peer`: `peer` itself, unless it is one of `proxies` and says otherwise. Nothing is
/// believed that cannot be read.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let is_ours = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let lines = headers.get_all("x-forwarded-for").into_iter().rev();
    let mut told = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    while is_ours(client) {
        let Some(Ok(next)) = told.next().map(|text| text.trim().parse::<IpAddr>()) else { break };
        client = next.to_canonical();
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lines: &[&str], proxies: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().expect("a header"));
        }
        let proxies: Vec<_> = proxies.iter().map(|text| Network::parse(text).expect("a network")).collect();
        client_address(peer.parse().expect("an address"), &headers, &proxies).to_string()
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        assert_eq!(client("192.0.2.9", &["198.51.100.1"], &[]), "192.0.2.9");
        assert_eq!(client("192.0.2.9", &["198.51.100.1"], &["10.0.0.0/8"]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.1"], &["10.0.0.0/8"]), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.1"], &["10.0.0.0/8"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["2001:db8::1"], &["10.0.0.0/8"]), "2001:db8::1");
    }

    #[test]
    fn what_a_client_wrote_itself_does_not_count() {
        let proxies = ["10.0.0.0/8", "fd00::/8"];

        assert_eq!(client("10.0.0.1", &["203.0.113.7, 198.51.100.1"], &proxies), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.7", "198.51.100.1, fd00::2"], &proxies), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["10.9.9.9, 198.51.100.1, 10.0.0.2"], &proxies), "198.51.100.1");
    }

    #[test]
    fn what_can_not_be_read_ends_the_search() {
        let proxies = ["10.0.0.0/8"];

        for line in ["unknown", "198.51.100.1:4711", "", "198.51.100.1,", "\"198.51.100.1\""] {
            assert_eq!(client("10.0.0.1", &[line], &proxies), "10.0.0.1", "{line}");
        }
        assert_eq!(client("10.0.0.1", &[], &proxies), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.2, 10.0.0.3"], &proxies), "10.0.0.2", "all of them are ours");
    }

    #[test]
    fn networks_are_addresses_with_a_prefix_that_fits() {
        for network in ["10.0.0.0/8", "127.0.0.1", "::1/128", "fd00::/8", "0.0.0.0/0"] {
            assert!(Network::parse(network).is_ok(), "{network}");
        }
        for other in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "proxy.example.com", "10.0.0.0/-1"] {
            assert!(Network::parse(other).is_err(), "{other}");
        }
        let all = Network::parse("0.0.0.0/0").expect("a network");
        assert!(all.contains("192.0.2.1".parse().expect("an address")));
        assert!(!all.contains("::1".parse().expect("an address")));
    }
}
