//! A real browser: headless Chromium, driven through WebDriver, which is JSON over HTTP.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{eventually, free_port};

/// The key that WebDriver has for an element in an answer.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // The browser outlives its driver when a test has failed. Nothing else has this directory.
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let _ = Command::new("pkill").args(["-KILL", "-f", "--", &profile]).status();
    }
}

impl Browser {
    pub async fn start() -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: `make setup` installs it");
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, port, session: String::new(), profile };
        eventually("chromedriver listens", || async {
            TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
        })
        .await;
        let profile = format!("--user-data-dir={}", browser.profile.path().display());
        let mut arguments = vec![
            "--headless",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1600",
            &profile,
        ];
        // Chromium's sandbox refuses to work for root, which tests in containers are.
        if rustix::process::getuid().is_root() {
            arguments.push("--no-sandbox");
        }
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let session = browser.call("POST", "/session", Some(capabilities)).await;
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    pub async fn quit(self) {
        self.command("DELETE", "", None).await;
    }

    pub async fn open(&self, address: &str) {
        self.command("POST", "/url", Some(json!({ "url": address }))).await;
    }

    /// What a script answers.
    pub async fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", Some(json!({ "script": script, "args": [] }))).await
    }

    /// Waits until a script answers with something true.
    pub async fn until(&self, what: &str, script: &str) -> Value {
        eventually(what, || async {
            let answer = self.run(script).await;
            let is_false = answer.is_null() || answer == json!(false) || answer == json!("");
            (!is_false).then_some(answer)
        })
        .await
    }

    pub async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        // The page scrolls smoothly, and a click does not wait for that.
        let scroll = format!(
            "document.querySelector('{selector}').scrollIntoView({{behavior: 'instant', block: 'center'}})"
        );
        self.run(&scroll).await;
        self.command("POST", &format!("/element/{element}/click"), Some(json!({}))).await;
    }

    /// Types into whatever has the focus.
    pub async fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
            })
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        self.command("POST", "/actions", Some(actions)).await;
    }

    /// The page as a PNG.
    pub async fn screenshot(&self) -> Vec<u8> {
        let picture = self.command("GET", "/screenshot", None).await;
        BASE64.decode(picture.as_str().unwrap().as_bytes()).unwrap()
    }

    /// What the page has complained of.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", Some(json!({ "type": "browser" }))).await;
        log.as_array().unwrap().iter().map(|line| line["message"].to_string()).collect()
    }

    async fn element(&self, selector: &str) -> String {
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.command("POST", "/element", Some(query)).await;
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector} is not on the page")).to_owned()
    }

    async fn command(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body).await
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: \
             {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let answer = tokio::time::timeout(Duration::from_secs(60), self.exchange(&request)).await;
        let answer = answer.unwrap_or_else(|_| panic!("chromedriver did not answer {method} {path}"));
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer}"));
        let mut body: Value = serde_json::from_str(body).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {body}");
        body["value"].take()
    }

    async fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // It does not hang up, whatever it is asked.
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
                });
                if body.len() >= length.unwrap_or(0_usize) {
                    return text.into_owned();
                }
            }
            drop(text);
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "chromedriver hung up");
        }
    }
}
