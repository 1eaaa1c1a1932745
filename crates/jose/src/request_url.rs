//! URLs of HTTP requests, made comparable (RFC 3986 §6.2.2 and §6.2.3), as RFC 9449 §4.3 wants it for `htu`.

/// An absolute `http` or `https` URL without query and fragment, in its one normalised spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestUrl(String);

impl RequestUrl {
    /// Reads and normalises a URL: scheme and host in lower case, no default port, no needless percent-encoding, no dot
    /// segments, at least `/` as its path. `None` if it is relative, of another scheme, with user information, or
    /// not printable ASCII.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority)?;

        let mut normalised = scheme.to_ascii_lowercase();
        normalised.push_str("://");
        normalised.push_str(&normalised_host(host)?);
        if let Some(port) = port.filter(|port| *port != default_port) {
            normalised.push_str(&format!(":{port}"));
        }
        let path = decode_unreserved(path)?;
        push_without_dot_segments(&mut normalised, if path.is_empty() { "/" } else { &path });
        Some(Self(normalised))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Host and port; an empty port is none. Colons inside brackets belong to an IPv6 address.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_address = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[after_address..].find(':').map(|colon| after_address + colon) else {
        return Some((authority, None));
    };
    let port = &authority[colon + 1..];
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    Some((&authority[..colon], port))
}

fn normalised_host(host: &str) -> Option<String> {
    let is_address_byte = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']')?;
        return (!address.is_empty() && address.bytes().all(is_address_byte)).then(|| host.to_ascii_lowercase());
    }
    let is_name_byte = |byte: u8| is_unreserved(byte) || b"%!$&'()*+,;=".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name_byte) {
        return None;
    }
    // Decoding first: an encoded letter has a case too. The digits of what stays encoded are in upper case again then.
    decode_unreserved(&decode_unreserved(host)?.to_ascii_lowercase())
}

/// RFC 3986 §6.2.2.1 and §6.2.2.2: what needs no percent-encoding has none, and the rest has it in upper case.
fn decode_unreserved(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, encoded)) = rest.split_once('%') {
        let digits = encoded.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        decoded.push_str(plain);
        if is_unreserved(byte) {
            decoded.push(char::from(byte));
        } else {
            decoded.push('%');
            decoded.push_str(&digits.to_ascii_uppercase());
        }
        rest = &encoded[2..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

/// RFC 3986 §5.2.4 for a path that begins with a slash.
fn push_without_dot_segments(url: &mut String, path: &str) {
    let root = url.len();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => url.truncate(url[root..].rfind('/').map_or(root, |slash| root + slash)),
            _ => {
                url.push('/');
                url.push_str(segment);
                continue;
            }
        }
        // A dot segment at the end leaves the directory itself.
        if segments.peek().is_none() {
            url.push('/');
        }
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normalised(url: &str) -> Option<String> {
        RequestUrl::parse(url).map(|url| url.0)
    }

    #[test]
    fn equivalent_urls_have_one_spelling() {
        for (url, expected) in [
            ("https://api.example.com/a/b", "https://api.example.com/a/b"),
            ("HTTPS://API.Example.COM/a/b", "https://api.example.com/a/b"),
            ("https://api.example.com:443/a", "https://api.example.com/a"),
            ("https://api.example.com:0443/a", "https://api.example.com/a"),
            ("https://api.example.com:/a", "https://api.example.com/a"),
            ("http://api.example.com:80/a", "http://api.example.com/a"),
            ("http://api.example.com:443/a", "http://api.example.com:443/a"),
            ("https://api.example.com", "https://api.example.com/"),
            ("https://api.example.com?x=/y", "https://api.example.com/"),
            ("https://api.example.com/a?b#c", "https://api.example.com/a"),
            ("https://api.example.com/a#b?c", "https://api.example.com/a"),
            ("https://api.example.com/%7euser/%41%2D", "https://api.example.com/~user/A-"),
            ("https://api.example.com/a%2fb%3F", "https://api.example.com/a%2Fb%3F"),
            ("https://%41pi.example.com/", "https://api.example.com/"),
            ("https://a%c3%a9/", "https://a%C3%A9/"),
            // RFC 3986 §5.2.4 and §6.2.2.
            ("https://h/a/b/c/./../../g", "https://h/a/g"),
            ("eXAMPLE://a/./b/../b/%63/%7bfoo%7d", ""),
            ("https://h/./b/../b/%63/%7bfoo%7d", "https://h/b/c/%7Bfoo%7D"),
            ("https://h/a/%2e%2E/b", "https://h/b"),
            ("https://h/../../a", "https://h/a"),
            ("https://h/a/.", "https://h/a/"),
            ("https://h/a/..", "https://h/"),
            ("https://h/a/../", "https://h/"),
            ("https://h/..", "https://h/"),
            ("https://h//a//..//b", "https://h//a//b"),
            ("https://h/...", "https://h/..."),
            ("https://[2001:DB8::1]:8443/a", "https://[2001:db8::1]:8443/a"),
            ("https://[::1]/", "https://[::1]/"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/"),
            ("https://h/a|b^c;d=e,f@g:h", "https://h/a|b^c;d=e,f@g:h"),
        ] {
            assert_eq!(normalised(url).as_deref(), (!expected.is_empty()).then_some(expected), "{url}");
        }
    }

    #[test]
    fn urls_that_differ_stay_different() {
        let distinct = [
            "https://h/a",
            "http://h/a",
            "https://h/a/",
            "https://h/A",
            "https://h:444/a",
            "https://i/a",
            "https://h//a",
            "https://h/a%2F",
            "https://h/a%252F",
            "https://h./a",
        ];
        for (index, url) in distinct.iter().enumerate() {
            for other in &distinct[..index] {
                assert_ne!(normalised(url), normalised(other), "{url} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_request_url_is_refused() {
        for url in [
            "",
            "/a",
            "h/a",
            "//h/a",
            "https:/h/a",
            "https//h/a",
            "https://",
            "https:///a",
            "https://?a",
            "ftp://h/",
            "javascript://h/",
            " https://h/",
            "https://h/ ",
            "https://h/a b",
            "https://h/\n",
            "https://h/é",
            "https://user@h/",
            "https://user:pw@h/",
            "https://h:x/",
            "https://h:-1/",
            "https://h:65536/",
            "https://h:99999999999/",
            "https://h:1:2/",
            "https://h\\a/",
            "https://[::1/",
            "https://::1/",
            "https://[]/",
            "https://[::1]x/",
            "https://[g::1]/",
            "https://h/%",
            "https://h/%4",
            "https://h/%zz",
            "https://h/%+1",
            "https://%/",
            "https://<h>/",
        ] {
            assert_eq!(normalised(url), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn normalising_never_panics_and_is_done_after_one_time(
            url in "(https?|HTTP)://[a-zA-Z0-9.%:\\[\\]-]{0,12}(/[a-z.%2eE5cé?#@/]{0,20})?"
        ) {
            if let Some(once) = normalised(&url) {
                prop_assert_eq!(normalised(&once), Some(once));
            }
        }

        #[test]
        fn any_text_can_be_tried(url in any::<String>()) {
            let _ = normalised(&url);
            let _ = normalised(&format!("https://{url}"));
        }
    }
}
