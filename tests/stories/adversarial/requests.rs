//! Where a token stands in a request: one place, once, in one form (RFC 6750 §2, RFC 9110 §11.6.2, RFC 6265 §5.4), whichever
//! front is asked.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;
use keywheel_jose::Algorithm;
use keywheel_verifier::Guard;

use super::fronts::{long_fresh, verifier};
use super::services::{Gated, Routed, Service};
use super::signer::good;
use super::table::World;

const COOKIE_NAME: &str = "__Host-access";

/// A request, and what it is answered: the status, and the `error` of the challenge.
struct Asking {
    name: &'static str,
    request: Request<Full<Bytes>>,
    status: u16,
    error: Option<&'static str>,
}

#[tokio::test]
async fn a_token_in_the_header_is_found_by_all_or_by_none() {
    let world = World::ours();
    let (verifier, _) = verifier(&world, long_fresh()).await;
    let guard = Guard::new(verifier);
    let fronts: [(&str, &dyn Service); 5] = [
        ("the layer", &Routed::by_layer(&guard)),
        ("the extractor", &Routed::by_extractor(guard.clone())),
        ("the gate at /verify", &Gated::at_verify(&world).await),
        ("the gate at /verify behind nginx", &Gated::behind_nginx(&world, "").await),
        ("the gate as a proxy", &Gated::before_a_service(&world, "").await),
    ];
    assert_answers(&fronts, in_headers).await;
}

#[tokio::test]
async fn a_token_in_a_cookie_is_found_by_all_or_by_none() {
    let world = World::ours();
    let (verifier, _) = verifier(&world, long_fresh()).await;
    let guard = Guard::new(verifier).cookie(COOKIE_NAME).external_url("https://api.example.com").expect("a URL");
    let settings = format!("[token]\ncookie = \"{COOKIE_NAME}\"\nexternal_url = \"https://api.example.com\"\n");
    let fronts: [(&str, &dyn Service); 4] = [
        ("the layer", &Routed::by_layer(&guard)),
        ("the extractor", &Routed::by_extractor(guard.clone())),
        ("the gate at /verify behind nginx", &Gated::behind_nginx(&world, &settings).await),
        ("the gate as a proxy", &Gated::before_a_service(&world, &settings).await),
    ];
    assert_answers(&fronts, in_cookies).await;
}

async fn assert_answers(fronts: &[(&str, &dyn Service)], table: fn(&str) -> Vec<Asking>) {
    let token = good(Algorithm::ES256);
    let mut wrong = Vec::new();
    for (front, service) in fronts {
        for Asking { name, request, status, error } in table(&token) {
            let reply = service.answer(request).await;
            let challenge = reply.header("www-authenticate");
            let found = challenge.split_once("error=\"").map(|(_, rest)| rest.split('"').next().unwrap_or_default());
            let has_challenge = challenge.starts_with("Bearer realm=\"");
            if reply.status != status || found != error || has_challenge != (status == 400 || status == 401) {
                wrong.push(format!("{front}: {name}: expected {status} {error:?}, got {} {challenge}", reply.status));
            }
            assert!(!reply.headers.iter().any(|(_, value)| contains(value, &token)), "{front}: {name} is echoed");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// For a front that looks into the `Authorization` header alone.
fn in_headers(token: &str) -> Vec<Asking> {
    let other = good(Algorithm::EdDSA);
    let authorization = |value: String| request(&[("authorization", &value)]);
    let (passes, malformed, absent) = ((200, None), (400, Some("invalid_request")), (401, None));
    let mut table = Table(Vec::new());
    for (name, value, answer) in [
        ("Bearer", format!("Bearer {token}"), passes),
        ("bearer", format!("bearer {token}"), passes),
        ("bEARER", format!("bEARER {token}"), passes),
        ("several blanks", format!("Bearer    {token}"), passes),
        ("a tab", format!("Bearer\t{token}"), malformed),
        ("a blank and a tab", format!("Bearer \t{token}"), malformed),
        ("the scheme alone", "Bearer".to_owned(), malformed),
        ("two tokens", format!("Bearer {token} {other}"), malformed),
        ("two tokens and a comma", format!("Bearer {token},{other}"), malformed),
        ("two credentials", format!("Bearer {token}, Bearer {other}"), malformed),
        ("a token and a parameter", format!("Bearer {token}, realm=\"api\""), malformed),
        ("as a parameter", format!("Bearer token={token}"), malformed),
        ("as a parameter in quotes", format!("Bearer token=\"{token}\""), malformed),
        ("in quotes", format!("Bearer \"{token}\""), malformed),
        ("in angle brackets", format!("Bearer <{token}>"), malformed),
        ("a colon", format!("Bearer: {token}"), malformed),
        ("an equals sign", format!("Bearer={token}"), malformed),
        ("a comma first", format!(", Bearer {token}"), malformed),
        ("the scheme twice", format!("Bearer Bearer {token}"), malformed),
        ("a zero-width space", format!("Bearer \u{200b}{token}"), malformed),
        ("JSON", format!("Bearer {{\"token\":\"{token}\"}}"), malformed),
        ("no blank", format!("Bearer{token}"), absent),
        ("no scheme", token.to_owned(), absent),
        ("Basic", "Basic YWxpY2U6c2VjcmV0".to_owned(), absent),
        ("Basic with a token", format!("Basic {token}"), absent),
        ("Negotiate", format!("Negotiate {token}"), absent),
        ("Token", format!("Token {token}"), absent),
        ("JWT", format!("JWT {token}"), absent),
        ("an empty header", String::new(), absent),
    ] {
        table.add(name, authorization(value), answer);
    }
    let bearer = format!("Bearer {token}");
    let another = format!("Bearer {other}");
    for (name, values) in [
        ("twice the same", [&*bearer, &bearer]),
        ("two lines", [&*bearer, &another]),
        ("Basic and Bearer", ["Basic YWxpY2U6c2VjcmV0", &bearer]),
        ("Bearer and Basic", [&*bearer, "Basic YWxpY2U6c2VjcmV0"]),
        ("Bearer and nothing", [&*bearer, ""]),
        ("nothing and Bearer", ["", &*bearer]),
        ("Basic twice", ["Basic YWxpY2U6c2VjcmV0"; 2]),
    ] {
        table.add(name, request(&values.map(|value| ("authorization", value))), malformed);
    }
    let cookie = format!("{COOKIE_NAME}={token}; access_token={token}");
    for (name, headers) in [
        ("nothing", vec![]),
        ("Proxy-Authorization", vec![("proxy-authorization", &*bearer)]),
        ("X-Authorization", vec![("x-authorization", &*bearer)]),
        ("X-Access-Token", vec![("x-access-token", token)]),
        ("X-Forwarded-Access-Token", vec![("x-forwarded-access-token", token)]),
        ("Access-Token", vec![("access-token", token)]),
        ("a cookie that nobody asked for", vec![("cookie", &*cookie)]),
        ("a subprotocol of WebSocket", vec![("sec-websocket-protocol", &*bearer)]),
    ] {
        table.add(name, request(&headers), absent);
    }
    let in_query = |request: Request<Full<Bytes>>| {
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("/?access_token={token}").parse().expect("a URI");
        Request::from_parts(parts, body)
    };
    table.add("in the query", in_query(request(&[])), absent);
    table.add("in the query beside a header", in_query(request(&[("authorization", &another)])), passes);
    let form = Request::builder().method(Method::POST).uri("/");
    let form = form.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let form = form.body(Full::from(format!("access_token={token}"))).expect("a request");
    table.add("in a form", form, absent);
    table.0
}

/// For a front that looks into a cookie too. What changes something has to come from our own pages.
fn in_cookies(token: &str) -> Vec<Asking> {
    let other = good(Algorithm::EdDSA);
    let bearer = format!("Bearer {other}");
    let (passes, malformed, absent, cross_site) =
        ((200, None), (400, Some("invalid_request")), (401, None), (403, None));
    let named = |value: &str| format!("{COOKIE_NAME}={value}");
    let mut table = Table(Vec::new());
    for (name, value, answer) in [
        ("alone", named(token), passes),
        ("among others", format!("a=b; {}; c=d", named(token)), passes),
        ("blanks around", format!(" ;  {} ; ", named(token)), passes),
        ("another name", format!("access={token}"), absent),
        ("the name in other letters", format!("__host-access={token}"), absent),
        ("a longer name", format!("x{}", named(token)), absent),
        ("the value of another", format!("a={COOKIE_NAME}"), absent),
        ("twice", format!("{0}; {0}", named(token)), malformed),
        ("two of them", format!("{}; {}", named(token), named(&other)), malformed),
        ("two of them, one empty", format!("{}; {}", named(token), named("")), malformed),
        ("empty", named(""), malformed),
        ("in quotes", named(&format!("\"{token}\"")), malformed),
        ("with the scheme", named(&format!("Bearer {token}")), malformed),
        ("percent-encoded", named(&token.replace('.', "%2E")), malformed),
        ("a comma", named(&format!("{token},{other}")), malformed),
        ("not a token that holds", named("a.b.c"), (401, Some("invalid_token"))),
        (
            "another token's signature",
            named(&format!("{}.AAAA", token.rsplit_once('.').expect("a token").0)),
            (401, Some("invalid_token")),
        ),
    ] {
        table.add(name, request(&[("cookie", &value)]), answer);
    }
    let cookie = named(token);
    table.add("on two lines", request(&[("cookie", &cookie), ("cookie", &cookie)]), malformed);
    table.add("and in the header", request(&[("cookie", &cookie), ("authorization", &bearer)]), malformed);
    table.add("and Basic in the header", request(&[("cookie", &cookie), ("authorization", "Basic YTpi")]), passes);
    table.add("in the header alone", request(&[("authorization", &bearer)]), passes);
    for (name, headers, answer) in [
        ("no word of its origin", vec![], cross_site),
        ("Sec-Fetch-Site: same-origin", vec![("sec-fetch-site", "same-origin")], passes),
        ("Sec-Fetch-Site: same-site", vec![("sec-fetch-site", "same-site")], cross_site),
        ("Sec-Fetch-Site: cross-site", vec![("sec-fetch-site", "cross-site")], cross_site),
        ("Sec-Fetch-Site: none", vec![("sec-fetch-site", "none")], cross_site),
        ("Sec-Fetch-Site: Same-Origin", vec![("sec-fetch-site", "Same-Origin")], cross_site),
        ("Sec-Fetch-Site twice", vec![("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], cross_site),
        ("our Origin", vec![("origin", "https://api.example.com")], passes),
        (
            "our Origin, another site",
            vec![("origin", "https://api.example.com"), ("sec-fetch-site", "cross-site")],
            cross_site,
        ),
        ("another Origin", vec![("origin", "https://evil.example")], cross_site),
        ("our Origin without TLS", vec![("origin", "http://api.example.com")], cross_site),
        ("our Origin at another port", vec![("origin", "https://api.example.com:8443")], cross_site),
        ("a longer Origin", vec![("origin", "https://api.example.com.evil.example")], cross_site),
        ("a neighbour's Origin", vec![("origin", "https://www.example.com")], cross_site),
        ("Origin: null", vec![("origin", "null")], cross_site),
        ("Origin twice", vec![("origin", "https://api.example.com"), ("origin", "https://evil.example")], cross_site),
        ("our Referer", vec![("referer", "https://api.example.com/")], cross_site),
        ("X-Requested-With", vec![("x-requested-with", "XMLHttpRequest")], cross_site),
        ("the Origin of the Host", vec![("host", "evil.example"), ("origin", "https://evil.example")], cross_site),
    ] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let mut asking = request(&[&[("cookie", &*cookie)][..], &headers].concat());
            *asking.method_mut() = method;
            table.add(name, asking, answer);
        }
        // What only reads may come from anywhere: the answer is kept from other pages by the browser.
        table.add(name, request(&[&[("cookie", &*cookie)][..], &headers].concat()), passes);
    }
    let mut by_header = request(&[("authorization", &bearer), ("origin", "https://evil.example")]);
    *by_header.method_mut() = Method::POST;
    table.add("a header needs no proof", by_header, passes);
    table.0
}

struct Table(Vec<Asking>);

impl Table {
    fn add(&mut self, name: &'static str, request: Request<Full<Bytes>>, answer: (u16, Option<&'static str>)) {
        self.0.push(Asking { name, request, status: answer.0, error: answer.1 });
    }
}

fn request(headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        request.headers_mut().append(HeaderName::from_static(name), value);
    }
    request
}

fn contains(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().windows(token.len()).any(|window| window == token.as_bytes())
}
