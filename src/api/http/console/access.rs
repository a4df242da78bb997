//! Who may see the console.
//!
//! Where the HTTP side listens on loopback, whoever is on the machine. Elsewhere, whoever has the
//! token, or a certificate with the role admin.

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

/// Who is at the other end of a connection, as far as its certificate says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caller {
    /// `None`: it showed no certificate.
    pub(crate) role: Option<Role>,
}

/// What opens the console.
pub(crate) struct Gate {
    /// Whether the HTTP side can only be reached from this machine.
    pub(crate) on_loopback: bool,
    /// `http.console-token`
    pub(crate) token: Option<String>,
    /// `http.tls`
    pub(crate) tls: bool,
}

/// Why somebody does not see it.
#[derive(Debug, PartialEq, Eq)]
enum Denial {
    /// A page of another site, by a name that leads here.
    Host,
    /// With the right token it would be seen.
    Token,
    /// Nothing is set that could open it.
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
            // Any site can have a name that resolves to loopback, and then read what answers there.
            None if !names_loopback(headers.get(header::HOST)) => Err(Denial::Host),
            None => Ok(()),
        }
    }
}

/// `Bearer TOKEN`, or the password of `Basic`, which is what browsers ask for.
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

/// The layer before every page of the console.
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
        true => " A certificate with the role admin opens the console too.",
        false => "",
    };
    match denial {
        Denial::Host => {
            let text =
                "The console answers to localhost and to loopback addresses only: open it by one of those.\n";
            (StatusCode::FORBIDDEN, text).into_response()
        }
        Denial::Token => {
            let text = format!(
                "The console needs the token of http.console-token: as the password, with any name.{certificate}\n"
            );
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"brock console\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, text).into_response()
        }
        Denial::Closed => {
            let text = format!(
                "The console is closed: this node's HTTP side can be reached from other machines. Set \
                 http.console-token, or http.tls and come with a certificate of the role admin; or let http.address \
                 be on loopback.{certificate}\n"
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
    fn on_loopback_it_is_open_to_whoever_calls_it_by_a_loopback_name() {
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
        // Whoever sets a token means it, on loopback too.
        let gate = Gate { on_loopback: true, ..gate };
        assert_eq!(gate.check(Caller::default(), &headers("localhost", "")), Err(Denial::Token));
    }
}
