//! Who may open the console.
//!
//! If the HTTP server listens on loopback: every user of the machine. Otherwise: a client with the token,
//! or with a certificate with the role admin.

use std::{net::IpAddr, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use data_encoding::BASE64;

use brock_core::base::metrics as names;
use brock_net::tls::roles::Role;

/// The client of a connection, as its certificate states.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caller {
    /// `None`: it presented no certificate.
    pub(crate) role: Option<Role>,
}

/// Decides who may open the console.
pub(crate) struct Gate {
    /// Whether the HTTP server can only be reached from this machine.
    pub(crate) on_loopback: bool,
    /// `http.console-token`
    pub(crate) token: Option<String>,
    /// `http.tls`
    pub(crate) tls: bool,
}

/// Why the console refuses a request.
#[derive(Debug, PartialEq, Eq)]
enum Denial {
    /// The request's host is not a loopback name: it may come from a page of another site.
    Host,
    /// The token is missing or wrong.
    Token,
    /// No setting allows access from other machines.
    Closed,
}

impl Gate {
    fn check(&self, caller: Caller, headers: &HeaderMap) -> Result<(), Denial> {
        if caller.role == Some(Role::Admin) {
            return Ok(());
        }
        match &self.token {
            Some(token) => match presented(headers) {
                Some(said) if verify_slices_are_equal(said.as_bytes(), token.as_bytes()).is_ok() => Ok(()),
                _ => Err(Denial::Token),
            },
            None if !self.on_loopback => Err(Denial::Closed),
            // Any site can have a name that resolves to loopback, and could then read the answers.
            None if !names_loopback(headers.get(header::HOST)) => Err(Denial::Host),
            None => Ok(()),
        }
    }
}

/// The token: from `Bearer TOKEN`, or the password of `Basic`, for which browsers ask.
fn presented(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = said.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64.decode(credentials.trim().as_bytes()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

fn names_loopback(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The layer in front of every page of the console.
pub(crate) async fn check(
    State(gate): State<Arc<Gate>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match gate.check(caller, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(denial) => {
            metrics::counter!(names::CONSOLE_DENIED).increment(1);
            refusal(&gate, &denial)
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(gate: &Gate, denial: &Denial) -> Response {
    let certificate = match gate.tls {
        true => " A client certificate with the role admin opens the console too.",
        false => "",
    };
    match denial {
        Denial::Host => {
            let text =
                "The console answers only to localhost and loopback addresses: open it by one of those.\n";
            (StatusCode::FORBIDDEN, text).into_response()
        }
        Denial::Token => {
            let text = format!(
                "The console needs the token in http.console-token: enter it as the password, with any user name.{certificate}\n"
            );
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"brock console\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, text).into_response()
        }
        Denial::Closed => {
            let text = format!(
                "The console is closed, because other machines can reach this node's HTTP server. Set \
                 http.console-token; or set http.tls and use a client certificate with the role admin; or set \
                 http.address to a loopback address.{certificate}\n"
            );
            (StatusCode::FORBIDDEN, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if !authorization.is_empty() {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        headers
    }

    #[test]
    fn on_loopback_it_is_open_by_a_loopback_name_only() {
        let gate = Gate { on_loopback: true, token: None, tls: false };
        for host in ["localhost", "localhost:20005", "127.0.0.1:20005", "[::1]:20005", "127.9.9.9"] {
            assert_eq!(gate.check(Caller::default(), &headers(host, "")), Ok(()), "{host}");
        }
        for host in
            ["evil.example:20005", "localhost.evil.example", "10.0.0.1", "", "[::1", "127.0.0.1.nip.io"]
        {
            assert_eq!(gate.check(Caller::default(), &headers(host, "")), Err(Denial::Host), "{host}");
        }
        assert_eq!(gate.check(Caller::default(), &HeaderMap::new()), Err(Denial::Host));
    }

    #[test]
    fn elsewhere_it_needs_the_token_or_a_certificate_of_an_admin() {
        let closed = Gate { on_loopback: false, token: None, tls: true };
        let host = headers("localhost", "Bearer anything");
        assert_eq!(closed.check(Caller::default(), &host), Err(Denial::Closed));
        for (role, expected) in
            [(Role::Admin, Ok(())), (Role::Client, Err(Denial::Closed)), (Role::Node, Err(Denial::Closed))]
        {
            assert_eq!(closed.check(Caller { role: Some(role) }, &host), expected, "{role}");
        }
        let gate = Gate { on_loopback: false, token: Some("s3cret".to_owned()), tls: false };
        // `any:s3cret`, `any:other`, `s3cret`
        for (said, expected) in [
            ("Bearer s3cret", Ok(())),
            ("Basic YW55OnMzY3JldA==", Ok(())),
            ("bearer s3cret", Ok(())),
            ("Bearer S3cret", Err(Denial::Token)),
            ("Basic YW55Om90aGVy", Err(Denial::Token)),
            ("Basic czNjcmV0", Err(Denial::Token)),
            ("Basic not-base64", Err(Denial::Token)),
            ("Digest s3cret", Err(Denial::Token)),
            ("", Err(Denial::Token)),
        ] {
            assert_eq!(gate.check(Caller::default(), &headers("node-1.example", said)), expected, "{said}");
        }
        // A token protects the console on loopback too.
        let gate = Gate { on_loopback: true, ..gate };
        assert_eq!(gate.check(Caller::default(), &headers("localhost", "")), Err(Denial::Token));
    }
}
