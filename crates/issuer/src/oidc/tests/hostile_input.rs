//! What nobody should send: whatever it is, the answer says what is wrong with it and never that we failed.

use axum::body::Body;
use http::{Method, Request};

use super::*;

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn no_input_makes_an_endpoint_fail() {
    let world = World::new().await;
    let tokens = world.tokens("shop", "openid").await;
    let credentials = credentials("shop");
    let long = "x".repeat(60_000);
    let bodies = [
        String::new(),
        "&&&&".to_owned(),
        "=".to_owned(),
        "token=%".to_owned(),
        "token=%00".to_owned(),
        "token=%ff%fe".to_owned(),
        "token=a&token=b".to_owned(),
        "{\"token\":1}".to_owned(),
        format!("token={long}"),
        format!("{credentials}&token={long}"),
        format!("{credentials}&token=eyJhbGciOiJub25lIn0.e30."),
        format!("{credentials}&token={}.{}", tokens.access, tokens.access),
        format!("{credentials}&token=\u{1F980}.\u{1F980}.\u{1F980}"),
        format!("{credentials}&token={}", "[".repeat(30_000)),
        format!("{credentials}&grant_type=refresh_token&refresh_token={}", tokens.access),
        format!("{credentials}&grant_type=authorization_code&code={}&redirect_uri=%20", tokens.refresh),
        format!("{credentials}&grant_type=authorization_code&code=a&code_verifier={long}"),
        format!("id_token_hint={}&post_logout_redirect_uri=javascript:alert(1)", tokens.id),
        format!("id_token_hint={}&state={long}", tokens.access),
        "client_id=shop&post_logout_redirect_uri=%0d%0aset-cookie:a=b".to_owned(),
        format!("client_id={long}"),
        format!("client_assertion_type=x&client_assertion={long}"),
        format!("csrf={long}&decision=sign-out"),
        format!("access_token={long}"),
        (0..1000).map(|number| format!("p{number}=1&")).collect(),
    ];
    let headers = ["", "Bearer", "Bearer ", "Bearer \u{e9}", "Basic", "Basic !!!", "Basic Og==", "DPoP x", ", ,"];
    let paths = ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke", "/oauth2/userinfo", "/oauth2/logout"];
    for path in paths {
        for body in &bodies {
            for kind in [FORM, "text/plain", "multipart/form-data; boundary=x"] {
                refused(&world, Request::post(path).header("content-type", kind), body).await;
            }
            if let Ok(request) = format!("{path}?{body}").parse::<http::Uri>() {
                refused(&world, Request::get(request), "").await;
            }
        }
        for header in headers {
            let value = http::HeaderValue::from_bytes(header.as_bytes()).expect("a header");
            refused(&world, Request::get(path).header("authorization", &value), "").await;
            refused(
                &world,
                Request::post(path).header("authorization", &value).header("content-type", FORM),
                "token=x",
            )
            .await;
        }
        for cookie in ["keywheel-session=", "keywheel-session=%00", "=;=;=", "keywheel-session=x; keywheel-session=y"] {
            refused(&world, Request::get(path).header("cookie", cookie), "").await;
        }
        for origin in ["null", "https://\u{e9}", "*"] {
            let value = http::HeaderValue::from_bytes(origin.as_bytes()).expect("a header");
            refused(&world, Request::builder().method(Method::OPTIONS).uri(path).header("origin", value), "").await;
        }
    }
}

async fn refused(world: &World, request: http::request::Builder, body: &str) {
    let request = request.body(Body::from(body.to_owned())).expect("a request");
    let shown = format!("{} {} {:?}: {:.200}", request.method(), request.uri(), request.headers(), body);
    let response = send(&world.app, request).await;
    assert!(!response.status().is_server_error(), "{shown}: {}", response.status());
    let location = response.headers().get("location").map(|value| value.to_str().expect("text"));
    assert!(location.is_none_or(|location| location.starts_with("/")), "{shown}: {location:?}");
}
