//! Reaching one node: name, connection, handshake, call.

use std::{io, net::SocketAddr, time::Duration};

use super::{Report, now_unix};
use brock_client::{calls, error::reason_of};
use brock_core::{
    base::limits,
    proto::{self, replication_service_client::ReplicationServiceClient},
};
use brock_net::{
    address::Address,
    channel::open_channel,
    dial::{DialError, Dialler, dial_in_halves},
    tls::errors::Problem,
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tonic::{Code, Status, transport::Channel};

/// The identity with which the node is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Operator,
    /// The node that is configured on this machine.
    Node,
}

/// The node to reach, and how.
pub(super) struct Target<'a> {
    pub(super) address: &'a Address,
    /// `None` without certificates to show.
    pub(super) dialler: Option<Dialler>,
    pub(super) role: Role,
    pub(super) timeout: Duration,
}

/// Checks each step until one fails.
pub(super) async fn examine(report: &mut Report, target: &Target<'_>) {
    let subject = target.address.to_string();
    let Some(sockets) = name(report, target, &subject).await else { return };
    if !connects(report, target, &subject, &sockets).await {
        return;
    }
    let Some(dialler) = target.dialler.clone() else { return };
    let dialled = timeout(target.timeout, open_channel(target.address, dialler.clone())).await;
    let dialled = match dialled {
        Ok(dialled) => dialled,
        Err(_) => Err(DialError::Timeout { address: target.address.clone(), after: target.timeout }),
    };
    let channel = match dialled {
        Ok((channel, peer)) => {
            report.ok("tls", &subject, &format!("TLS 1.3 with {peer}"));
            channel
        }
        Err(error) => {
            let what = match &error {
                DialError::Tls { reason, .. } => reason.clone(),
                other => other.to_string(),
            };
            return report.fail("tls", &subject, &what, &remedy(&error, target));
        }
    };
    let asked = Instant::now();
    let answer = timeout(target.timeout, ask(channel, target.role)).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer within the time-out")));
    match answer {
        Ok(answer) => {
            let version = answer.version.map(|version| format!(", version {version}")).unwrap_or_default();
            report.ok("call", &subject, &format!("{} answers{version}", answer.node_id));
            clock(report, &subject, answer.now_unix, asked.elapsed());
            halves(report, target, &subject, &dialler).await;
        }
        Err(status) => {
            let what = reason_of(&status);
            let fix = match status.code() {
                Code::PermissionDenied => {
                    "use a certificate with the role admin: `brock cert admin --certs-dir DIR --ca-key FILE --name NAME`"
                        .to_owned()
                }
                _ => remedy(&status, target),
            };
            report.fail("call", &subject, &what, &fix);
        }
    }
}

/// Warns of a proxy that loses a first message in two packets: handshakes would fail now and then, on some networks.
async fn halves(report: &mut Report, target: &Target<'_>, subject: &str, dialler: &Dialler) {
    let error = match timeout(target.timeout, dial_in_halves(target.address, dialler)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    report.warn(
        "split",
        subject,
        &format!("a handshake fails if its first message arrives in two packets: {error}"),
        "something on the way reads that message and expects it whole, which post-quantum ones are not everywhere: update \
         the proxy or firewall, or let it pass TCP on as it is",
    );
}

async fn name(report: &mut Report, target: &Target<'_>, subject: &str) -> Option<Vec<SocketAddr>> {
    let (host, port) = (target.address.host(), target.address.port());
    let looked = match timeout(target.timeout, lookup_host((host.clone(), port))).await {
        Ok(looked) => looked.map(|found| found.take(limits::DIAL_ADDRESSES_MAX).collect::<Vec<_>>()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name server does not answer")),
    };
    let fix = format!(
        "check the name; `getent hosts {host}` asks the same, /etc/hosts and /etc/resolv.conf decide it"
    );
    match looked {
        Ok(sockets) if !sockets.is_empty() => {
            let found: Vec<String> = sockets.iter().map(|socket| socket.ip().to_string()).collect();
            report.ok("dns", subject, &found.join(", "));
            Some(sockets)
        }
        Ok(_) => {
            report.fail("dns", subject, "the name has no addresses", &fix);
            None
        }
        Err(error) => {
            report.fail("dns", subject, &format!("cannot resolve {host}: {error}"), &fix);
            None
        }
    }
}

async fn connects(report: &mut Report, target: &Target<'_>, subject: &str, sockets: &[SocketAddr]) -> bool {
    let mut problems = Vec::new();
    for socket in sockets {
        let began = Instant::now();
        let error = match timeout(target.timeout, TcpStream::connect(socket)).await {
            Ok(Ok(_)) => {
                report.ok(
                    "tcp",
                    subject,
                    &format!("connected in {:.1} ms", began.elapsed().as_secs_f64() * 1000.0),
                );
                return true;
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        };
        problems.push((socket, error));
    }
    let refused = problems.iter().any(|(_, error)| error.kind() == io::ErrorKind::ConnectionRefused);
    let fix = match refused {
        true => format!(
            "nothing listens there: does the node run (`brock health` on its machine, its log), and is its node.address \
             that of port {}?",
            target.address.port()
        ),
        false => format!(
            "the machine is down, or something on the way drops it: open port {} in firewalls and network policies",
            target.address.port()
        ),
    };
    let what: Vec<String> = problems.iter().map(|(socket, error)| format!("{socket}: {error}")).collect();
    report.fail("tcp", subject, &what.join("; "), &fix);
    false
}

/// A node's answer.
struct Answer {
    node_id: String,
    version: Option<String>,
    now_unix: i64,
}

async fn ask(channel: Channel, role: Role) -> Result<Answer, Status> {
    match role {
        Role::Operator => {
            let status = calls::admin(channel).status(proto::StatusRequest::default()).await?.into_inner();
            let now_unix = status.now_unix_ms / 1000;
            Ok(Answer { node_id: status.node_id, version: Some(status.version), now_unix })
        }
        Role::Node => {
            let mut client = ReplicationServiceClient::new(channel);
            let proto::PingResponse { node_id, now_unix, .. } =
                client.ping(proto::PingRequest {}).await?.into_inner();
            Ok(Answer { node_id, version: None, now_unix })
        }
    }
}

fn clock(report: &mut Report, subject: &str, now_there: i64, waited: Duration) {
    let apart = now_there.saturating_sub(now_unix());
    // It read its clock while we waited.
    let beyond = apart.unsigned_abs().saturating_sub(waited.as_secs() + 1);
    let what = match apart {
        0.. => format!("its clock is {apart} s ahead of this machine's"),
        _ => format!("its clock is {} s behind this machine's", apart.unsigned_abs()),
    };
    let fix = "synchronise the clocks (chrony, systemd-timesyncd); `date -u` on both machines shows which one is wrong";
    match beyond {
        0..=limits::CLOCK_SKEW_NOTABLE_SECONDS => report.ok("clock", subject, "the same as here"),
        _ if beyond <= limits::CLOCK_SKEW_MAX_SECONDS => report.warn("clock", subject, &what, fix),
        _ => report.fail("clock", subject, &what, fix),
    }
}

/// The remedy for a failed handshake, by its explanation.
fn remedy(error: &(dyn std::error::Error + 'static), target: &Target<'_>) -> String {
    let host = target.address.host();
    let own = match target.role {
        Role::Operator => "brock cert admin --certs-dir DIR --ca-key FILE --name NAME --overwrite",
        Role::Node => "brock cert node --certs-dir DIR --ca-key FILE --node-id ID --host HOST --overwrite",
    };
    let node =
        format!("brock cert node --certs-dir DIR --ca-key FILE --node-id ID --host {host} --overwrite");
    match Problem::of(error) {
        Some(Problem::Refused) => format!("issue a certificate with the cluster's CA: {own}"),
        Some(Problem::Name) => {
            format!("dial the node by a name that its certificate states, or issue it a new one: {node}")
        }
        Some(Problem::Untrusted) => {
            "copy ca.crt of the cluster's CA into the certificates directory, here or there".to_owned()
        }
        Some(Problem::Dates) => format!(
            "compare `date -u` on both machines; if the clocks are right, issue the node a new one: {node}"
        ),
        Some(Problem::Revoked) => format!("issue a new certificate: {own}, or for the node: {node}"),
        Some(Problem::Usage) => {
            format!("the process that listens there has no node certificate; issue one: {node}")
        }
        Some(Problem::WireEncryption) => "set node.wire-encryption alike on both ends (`brock config show`), and at 256 use \
                                          certificates of ecdsa-p384 or ml-dsa-87 (`brock cert … --algorithm`)"
            .to_owned(),
        Some(Problem::Other) | None => {
            format!("is {} the gRPC port of a node (node.address), and not its http.address?", target.address)
        }
    }
}
