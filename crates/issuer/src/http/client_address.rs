//! Who sent a request, where proxies stand in front.
//!
//! Each proxy adds the address it was asked from to the end of `X-Forwarded-For`, or of `Forwarded` (RFC 7239). Whatever
//! stands before the address that the first proxy of ours added was written by somebody we don't know, so the list is read
//! from its end: the first address that is no proxy of ours is the client's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use http::header::FORWARDED;

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
/// believed that cannot be read; and where `X-Forwarded-For` and `Forwarded` contradict each other, one of them was passed
/// on as a stranger wrote it, so neither is.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_ours = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    if !is_ours(peer) {
        return peer;
    }
    let behind = |told: &mut dyn Iterator<Item = Option<IpAddr>>| {
        let mut client = peer;
        while is_ours(client) {
            let Some(Some(next)) = told.next() else { break };
            client = next.to_canonical();
        }
        client
    };
    let listed = headers.contains_key(X_FORWARDED_FOR).then(|| {
        let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        let texts = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        behind(&mut texts.map(|text| text.trim().parse().ok()))
    });
    let forwarded =
        headers.contains_key(FORWARDED).then(|| behind(&mut hops(headers).map(|hop| address(hop?.client?.as_str()))));
    match (listed, forwarded) {
        (Some(one), Some(other)) if one != other => peer,
        (one, other) => one.or(other).unwrap_or(peer),
    }
}

/// Whether `peer` is a proxy of ours.
pub(crate) fn is_trusted(peer: IpAddr, proxies: &[Network]) -> bool {
    // Most servers have no proxy, or are met by nobody else.
    !proxies.is_empty() && proxies.iter().any(|network| network.contains(peer.to_canonical()))
}

/// Whether a proxy of ours says that it was asked by https.
pub(crate) fn came_by_https(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> bool {
    let peer = peer.to_canonical();
    if !proxies.iter().any(|network| network.contains(peer)) {
        return false;
    }
    let listed = headers.get_all(X_FORWARDED_PROTO).into_iter().next_back();
    let listed = listed.map(|line| line.to_str().unwrap_or_default().rsplit(',').next().unwrap_or_default().trim());
    let forwarded = hops(headers).next().map(|hop| hop.and_then(|hop| hop.protocol));
    let is_https = |protocol: &str| protocol.eq_ignore_ascii_case("https");
    match (listed, forwarded) {
        (None, None) => false,
        (listed, forwarded) => {
            listed.is_none_or(is_https) && forwarded.is_none_or(|told| told.as_deref().is_some_and(is_https))
        }
    }
}

/// One element of `Forwarded` (RFC 7239 §4): what a proxy knows of who asked it.
#[derive(Debug, Default, PartialEq)]
struct Hop {
    /// `for`
    client: Option<String>,
    /// `proto`
    protocol: Option<String>,
}

/// The elements of `Forwarded`, the nearest proxy's first; `None` for a line that cannot be read.
fn hops(headers: &HeaderMap) -> impl Iterator<Item = Option<Hop>> {
    let lines = headers.get_all(FORWARDED).into_iter().rev();
    lines.flat_map(|line| {
        let read = line.to_str().ok().and_then(read_hops);
        read.map_or_else(|| vec![None], |hops| hops.into_iter().rev().map(Some).collect())
    })
}

/// Reads `for=192.0.2.60;proto=http, for="[2001:db8::17]:4711"`.
fn read_hops(line: &str) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    let mut hop = Hop::default();
    let mut rest = line;
    loop {
        let (name, after) = rest.trim_ascii_start().split_once('=')?;
        if !is_token(name) {
            return None;
        }
        let value;
        (value, rest) = read_value(after)?;
        let place = match name.to_ascii_lowercase().as_str() {
            "for" => Some(&mut hop.client),
            "proto" => Some(&mut hop.protocol),
            _ => None,
        };
        // "Each parameter MUST NOT occur more than once per field-value."
        if place.is_some_and(|place| place.replace(value).is_some()) {
            return None;
        }
        rest = rest.trim_ascii_start();
        match rest.as_bytes().first() {
            None => break,
            Some(b';') => {}
            Some(b',') => hops.push(std::mem::take(&mut hop)),
            Some(_) => return None,
        }
        rest = &rest[1..];
    }
    hops.push(hop);
    Some(hops)
}

/// A token or a quoted string (RFC 9110 §5.6), and what comes after it.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        let (token, rest) = text.split_at(end);
        return is_token(token).then(|| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let is_of_one = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_one)
}

/// The address of a node (RFC 7239 §6), without its port; none where it is `unknown` or obfuscated.
fn address(node: &str) -> Option<IpAddr> {
    if let Some(bracketed) = node.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_token);
        return address.parse::<Ipv6Addr>().ok().filter(|_| has_port).map(IpAddr::V6);
    }
    let (address, port) = node.split_once(':').map_or((node, None), |(address, port)| (address, Some(port)));
    address.parse::<Ipv4Addr>().ok().filter(|_| port.is_none_or(is_token)).map(IpAddr::V4)
}

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

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

    /// Who the client is by headers of both kinds, behind a proxy at 10.0.0.1.
    fn told(lines: &[(&'static str, &str)]) -> String {
        client_address("10.0.0.1".parse().expect("an address"), &headers(lines), &proxies()).to_string()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, line.parse().expect("a header"));
        }
        headers
    }

    fn proxies() -> Vec<Network> {
        ["10.0.0.0/8", "fd00::/8"].map(|text| Network::parse(text).expect("a network")).to_vec()
    }

    #[test]
    fn the_forwarded_header_is_read_like_the_other() {
        for (line, client) in [
            ("for=198.51.100.1", "198.51.100.1"),
            ("For=198.51.100.1;proto=https;by=203.0.113.43", "198.51.100.1"),
            ("proto=https;for=\"198.51.100.1:4711\"", "198.51.100.1"),
            ("for=\"[2001:db8::17]:4711\"", "2001:db8::17"),
            ("for=\"[2001:db8::17]\"", "2001:db8::17"),
            ("for=203.0.113.7, for=198.51.100.1", "198.51.100.1"),
            ("for=198.51.100.1 ,for=10.0.0.2;host=\"a,b;c=\\\"d\"", "198.51.100.1"),
            ("for=198.51.100.1, for=\"[fd00::2]\"", "198.51.100.1"),
            ("for=\"\\198.51.100.1\"", "198.51.100.1"),
        ] {
            assert_eq!(told(&[("forwarded", line)]), client, "{line}");
        }
        let two_lines = [("forwarded", "for=203.0.113.7"), ("forwarded", "for=198.51.100.1")];
        assert_eq!(told(&two_lines), "198.51.100.1");
        let stranger = client_address("192.0.2.9".parse().expect("an address"), &headers(&two_lines), &proxies());
        assert_eq!(stranger.to_string(), "192.0.2.9");
    }

    #[test]
    fn a_forwarded_header_that_cannot_be_read_is_not_believed() {
        for line in [
            "",
            "for",
            "for=",
            "=198.51.100.1",
            "for=unknown",
            "for=_hidden",
            "for=2001:db8::17",
            "for=198.51.100.1:4711",
            "for=\"198.51.100.1:\"",
            "for=\"2001:db8::17\"",
            "for=\"[2001:db8::17\"",
            "for=\"[2001:db8::17]x\"",
            "for=\"[198.51.100.1]\"",
            "for=\"198.51.100.1",
            "for=\"198.51.100.1\\",
            "for=\"198.51.100.1\"x",
            "for=198.51.100.1;for=198.51.100.2",
            "for=198.51.100.1,",
            "for=198.51.100.1;",
            "f or=198.51.100.1",
            "proto=https",
            "for=198.51.100.1, \"",
        ] {
            assert_eq!(told(&[("forwarded", line)]), "10.0.0.1", "{line}");
        }
    }

    #[test]
    fn headers_that_contradict_each_other_are_not_believed() {
        let both = |list: &str, forwarded: &str| told(&[("x-forwarded-for", list), ("forwarded", forwarded)]);

        assert_eq!(both("198.51.100.1", "for=198.51.100.1"), "198.51.100.1");
        assert_eq!(both("203.0.113.7, 198.51.100.1", "for=198.51.100.1"), "198.51.100.1");
        assert_eq!(both("198.51.100.1", "for=203.0.113.7"), "10.0.0.1");
        assert_eq!(both("198.51.100.1", "for=unknown"), "10.0.0.1");
        assert_eq!(both("198.51.100.1", "\""), "10.0.0.1");
    }

    #[test]
    fn only_a_proxy_of_ours_says_that_it_was_https() {
        let by = |peer: &str, lines: &[(&'static str, &str)]| {
            came_by_https(peer.parse().expect("an address"), &headers(lines), &proxies())
        };
        let (listed, forwarded) = (("x-forwarded-proto", "https"), ("forwarded", "for=198.51.100.1;proto=HTTPS"));

        assert!(by("10.0.0.1", &[listed]) && by("10.0.0.1", &[forwarded]) && by("10.0.0.1", &[listed, forwarded]));
        assert!(!by("192.0.2.9", &[listed, forwarded]) && !by("10.0.0.1", &[]));
        for other in ["http", "", "https, http", "é"] {
            assert!(!by("10.0.0.1", &[("x-forwarded-proto", other)]), "{other}");
            assert!(!by("10.0.0.1", &[forwarded, ("x-forwarded-proto", other)]), "{other}");
        }
        for other in ["proto=http", "for=198.51.100.1", "\"", "proto=https;proto=https"] {
            assert!(!by("10.0.0.1", &[listed, ("forwarded", other)]), "{other}");
        }
        assert!(by("10.0.0.1", &[("x-forwarded-proto", "http, https")]), "the nearest counts");
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
