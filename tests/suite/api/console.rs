//! The console, as a browser shows it and as it refuses those who must not see it.

use std::path::PathBuf;

use crate::harness::{
    browser::Browser,
    certs::Certs,
    cluster::Cluster,
    eventually,
    node::{TestNode, compacts_on_command, config},
    process::run,
    random_key,
};
use brock::config::{error::Source, sources::ShownSetting, validate::Config};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

fn with_http(config: Config) -> Config {
    let said = |key, value: &str, source| ShownSetting { key, value: value.to_owned(), source };
    Config {
        http_address: Some("127.0.0.1:0".parse().unwrap()),
        settings: vec![
            said("node.id", "node-0", Source::Flag),
            said("node.backup.secret-access-key", "***", Source::Environment("BROCK_…".to_owned())),
            said("node.path", "", Source::Default),
        ],
        ..config
    }
}

fn console(node: &TestNode) -> String {
    format!("http://{}/console/", node.node.http_address().unwrap())
}

/// The cell of a matrix: its text and its class.
async fn cell(browser: &Browser, matrix: &str, row: &str, column: &str) -> Value {
    let script = format!(
        "const table = document.querySelector('#{matrix}');
         const columns = [...table.querySelectorAll('thead th')].map(th => th.textContent);
         const row = [...table.querySelectorAll('tbody tr')].find(tr => tr.querySelector('th').textContent === '{row}');
         const cell = row?.children[columns.indexOf('{column}')];
         return cell ? [cell.textContent, cell.className] : null;"
    );
    browser.run(&script).await
}

fn keep(name: &str, picture: &[u8]) {
    assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");
    let (width, height) = (&picture[16..20], &picture[20..24]);
    let side = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    assert!(side(width) > 1000 && side(height) > 800, "{} x {}", side(width), side(height));
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(directory.join(name), picture).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_a_healthy_a_lagging_and_a_dead_node_as_what_they_are() {
    let mut cluster = Cluster::start_some(3, 0, compacts_on_command).await;
    cluster.start_node_with(0, with_http).await;
    // It pulls from no peer.
    cluster.start_node_with(1, |config| Config { join: Vec::new(), ..config }).await;
    cluster.start_node(2).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"the grant that nobody may see").await.unwrap();
    for _ in 0..6 {
        cluster.node(0).client.put(&random_key(), b"grant").await.unwrap();
    }
    cluster.node(2).client.put(&random_key(), b"grant").await.unwrap();
    cluster.node(0).admin.invalidate(&key, "<b>leaked</b>", None).await.unwrap();
    eventually("node 0 has what node 2 wrote", || async {
        (cluster.node(0).vector().len() == 2).then_some(())
    })
    .await;
    cluster.stop_node(2).await;
    cluster.node(1).node.alarms().raise("the disk <i>is</i> odd".to_owned());

    let browser = Browser::start().await;
    browser.open(&console(cluster.node(0))).await;
    let level = "return document.querySelector('#verdict').dataset.level === 'act'";
    browser.until("the verdict is there", level).await;
    let dead = "const cell = [...document.querySelectorAll('#nodes-table tbody tr')].find(tr => \
                tr.textContent.startsWith('node-2')); return cell?.textContent.includes('silent')";
    browser.until("the dead node is shown as silent", dead).await;
    let sentence = browser.run("return document.querySelector('#sentence').textContent").await;
    let sentence = sentence.as_str().unwrap();
    assert!(sentence.starts_with("2 of 3 nodes answer; act now: node-2: "), "{sentence}");
    assert_eq!(cell(&browser, "lags", "node-0", "node-0").await, json!(["0", "well"]));
    assert_eq!(cell(&browser, "lags", "node-1", "node-0").await, json!(["8", "watch"]));
    // Unknown is unknown, not 0.
    for column in ["node-0", "node-2"] {
        assert_eq!(cell(&browser, "lags", "node-2", column).await, json!(["?", "unknown"]));
        assert_eq!(cell(&browser, "trips", "node-1", column).await, json!(["?", "unknown"]));
    }
    let near = "const cells = [...document.querySelectorAll('#trips tbody tr')][0].children; \
                return [...cells].some(td => td.textContent.endsWith(' ms'))";
    browser.until("the round trip to the lagging node is measured", near).await;
    let alarm =
        "return document.querySelector('#upkeep-table').textContent.includes('the disk <i>is</i> odd')";
    browser.until("what the lagging node was surprised by is shown", alarm).await;
    let charts = "return document.querySelectorAll('#charts path.reads').length > 0";
    browser.until("the rates are drawn", charts).await;

    // By keyboard alone: the first stop leads to the verdict, the form is sent with Enter.
    browser.press(TAB).await;
    let focus = "return document.activeElement.textContent";
    assert_eq!(browser.run(focus).await, json!("Skip to the verdict"));
    browser.press(ENTER).await;
    assert_eq!(browser.run("return document.activeElement.id").await, json!("verdict"));
    browser.run("document.querySelector('#key-hash').focus()").await;
    let hex = data_encoding::HEXLOWER.encode(&key);
    browser.press(&hex).await;
    browser.press(ENTER).await;
    let traced = "return document.querySelector('#traced table')?.textContent";
    let text = browser.until("the record is traced", traced).await;
    let text = text.as_str().unwrap();
    for part in ["node-0", "invalidated", "create", "invalidate", "“<b>leaked</b>”", "node-2"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(!text.contains("nobody may see"), "{text}");
    assert_eq!(browser.run("return document.querySelector('#traced b')").await, Value::Null, "it is text");

    let settings = browser.run("return document.querySelector('#settings').textContent").await;
    let settings = settings.as_str().unwrap();
    assert!(settings.contains("node.id") && settings.contains("***"), "{settings}");
    assert!(!settings.contains("node.path"), "nobody has set it");
    browser.click("#only-set").await;
    let all = "return document.querySelector('#settings').textContent.includes('node.path')";
    browser.until("all settings are shown", all).await;

    let ground = "return getComputedStyle(document.body).backgroundColor";
    browser.run("scrollTo(0, 0)").await;
    browser.click("#theme").await;
    let light = browser.run(ground).await;
    keep("console-light.png", &browser.screenshot().await);
    browser.click("#theme").await;
    assert_ne!(browser.run(ground).await, light, "dark is not light");
    keep("console-dark.png", &browser.screenshot().await);

    let elsewhere = "return performance.getEntriesByType('resource').map(r => r.name).filter(name => \
                     !name.startsWith(location.origin + '/console/'))";
    assert_eq!(browser.run(elsewhere).await, json!([]), "nothing comes from elsewhere");
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    cluster.stop_node(0).await;
    let stale = "return document.querySelector('#age').className === 'stale' && \
                 document.querySelector('#age').textContent";
    let said = browser.until("the page says that its node does not answer", stale).await;
    assert!(said.as_str().unwrap().contains("does not answer; last heard"), "{said}");
    browser.quit().await;
    cluster.stop().await;
}

async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: std::net::SocketAddr, path: &str, headers: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_the_console_is_open_and_not_to_pages_of_other_sites() {
    let certs = Certs::new();
    let node = TestNode::start(&certs, with_http(config(&certs, "node-0", 0, &[]))).await;
    let address = node.node.http_address().unwrap();
    let page = get(address, "/console/", "Host: localhost\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("<title>Brock</title>"), "{page}");
    for header in ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff"] {
        assert!(page.contains(header), "{header} is not in {page}");
    }
    let cluster = get(address, "/console/api/cluster", "Host: localhost\r\n").await;
    let (_, body) = cluster.split_once("\r\n\r\n").unwrap();
    let cluster: Value = serde_json::from_str(body).unwrap();
    assert_eq!(cluster["nodes"][0]["status"]["node_id"], "node-0");
    assert_eq!(cluster["verdict"]["sentence"], "The only node is well.");
    let rebound = get(address, "/console/api/cluster", "Host: evil.example\r\n").await;
    assert!(rebound.starts_with("HTTP/1.1 403 ") && !rebound.contains("node-0"), "{rebound}");
    // A form of another site can be sent here, but not with this type.
    let body = format!("{{\"key_hash\":\"{}\"}}", "ab".repeat(32));
    let post = |kind: &str, body: &str| {
        format!(
            "POST /console/api/trace HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: \
             {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let form = exchange(address, &post("text/plain", &body)).await;
    assert!(form.starts_with("HTTP/1.1 415 "), "{form}");
    let traced = exchange(address, &post("application/json", &body)).await;
    assert!(traced.starts_with("HTTP/1.1 200 ") && traced.contains("\"ABSENT\""), "{traced}");
    for (body, code) in [("{}", "400"), ("{\"key_hash\":\"ab\"}", "400"), (&*"x".repeat(2000), "413")] {
        let refused = exchange(address, &post("application/json", body)).await;
        assert!(refused.starts_with(&format!("HTTP/1.1 {code} ")), "{refused}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_the_console_needs_a_token_and_the_probes_do_not() {
    let certs = Certs::new();
    let everywhere = |config: Config, token: Option<&str>| Config {
        http_address: Some("0.0.0.0:0".parse().unwrap()),
        console_token: token.map(brock::backup::objects::Secret::new),
        ..config
    };
    let closed = TestNode::start(&certs, everywhere(config(&certs, "node-0", 0, &[]), None)).await;
    let reached = |node: &TestNode| {
        std::net::SocketAddr::from(([127, 0, 0, 1], node.node.http_address().unwrap().port()))
    };
    let refused = get(reached(&closed), "/console/", "Host: localhost\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("http.console-token"), "{refused}");
    assert!(get(reached(&closed), "/livez", "Host: x\r\n").await.starts_with("HTTP/1.1 200 "));
    closed.stop().await;

    let token = "0123456789abcdef0123";
    let open = TestNode::start(&certs, everywhere(config(&certs, "node-0", 0, &[]), Some(token))).await;
    for path in ["/console/", "/console/app.js", "/console/api/cluster", "/console/api/configuration"] {
        let asked = get(reached(&open), path, "Host: node-0\r\n").await;
        assert!(asked.starts_with("HTTP/1.1 401 ") && asked.contains("www-authenticate: Basic"), "{asked}");
        let wrong =
            get(reached(&open), path, "Host: n\r\nAuthorization: Bearer 0123456789abcdef0124\r\n").await;
        assert!(wrong.starts_with("HTTP/1.1 401 "), "{wrong}");
        let right = get(reached(&open), path, &format!("Host: n\r\nAuthorization: Bearer {token}\r\n")).await;
        assert!(right.starts_with("HTTP/1.1 200 "), "{right}");
    }
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_an_admins_certificate_opens_the_console_and_nobody_elses() {
    let certs = Certs::new();
    let change = |config: Config| Config {
        http_address: Some("0.0.0.0:0".parse().unwrap()),
        http_tls: true,
        ..config
    };
    let node = TestNode::start(&certs, change(config(&certs, "node-0", 0, &[]))).await;
    let port = node.node.http_address().unwrap().port();
    let curl = |arguments: &[&str], path: &str| {
        let ca = certs.path("ca/ca.crt");
        let url = format!("https://localhost:{port}{path}");
        let mut all = vec!["-sS", "-o", "-", "-w", "\n%{http_code}", "--cacert", ca.to_str().unwrap()];
        all.extend(arguments);
        all.push(&url);
        let output = std::process::Command::new("curl").args(all).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text.rsplit('\n').next().unwrap_or("").to_owned(), text)
    };
    let (code, _) = curl(&[], "/livez");
    assert_eq!(code, "200", "probes need no certificate");
    assert_eq!(curl(&[], "/console/api/cluster").0, "403");
    let pair = |directory: PathBuf, name: &str| {
        ["crt", "key"].map(|kind| directory.join(format!("{name}.{kind}")).to_str().unwrap().to_owned())
    };
    let [certificate, key] = pair(certs.admin(), "client");
    let (code, text) = curl(&["--cert", &certificate, "--key", &key], "/console/api/cluster");
    assert_eq!(code, "200", "{text}");
    assert!(text.contains("node-0"), "{text}");
    let [certificate, key] = pair(certs.client(), "client");
    assert_eq!(curl(&["--cert", &certificate, "--key", &key], "/console/api/cluster").0, "403");
    let place = format!("--http-address=localhost:{port}");
    let ca = certs.path("ca/ca.crt");
    let health =
        |arguments: &[&str]| run(env!("CARGO_BIN_EXE_brock"), &[&["health", &place], arguments].concat(), "");
    let asked = health(&["--ca", ca.to_str().unwrap()]);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let untold = health(&[]);
    assert_eq!(untold.status.code(), Some(1));
    let text = String::from_utf8_lossy(&untold.stderr).into_owned();
    assert!(text.contains("speaks TLS") && text.contains("--ca"), "{text}");
    let plain = exchange(([127, 0, 0, 1], port).into(), "GET /livez HTTP/1.1\r\n\r\n").await;
    assert!(!plain.starts_with("HTTP/1.1 200"), "{plain}");
    node.stop().await;
}
