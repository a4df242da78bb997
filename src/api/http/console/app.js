// Shows the state of the cluster, as the node that serves this page reports it. Changes nothing.

import { badge, chart, el, matrix, replace, table } from "./draw.js";
import * as words from "./words.js";

const EVERY_MS = 2000;
const LAG_WATCH = 1000;
// The levels of the API, as they are shown.
const LEVELS = { well: "ok", watch: "warning", act: "critical" };
const $ = (id) => document.getElementById(id);

let heardAt = 0;
let paused = false;
let problem = "";

async function ask(path, options = {}) {
  const response = await fetch(path, { signal: AbortSignal.timeout(10000), cache: "no-store", ...options });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `the node answered with status ${response.status}`);
  return answer;
}

async function refresh() {
  try {
    const cluster = await ask("api/cluster");
    problem = "";
    heardAt = Date.now();
    show(cluster);
  } catch (error) {
    problem = error.name === "TimeoutError" || error.name === "TypeError" ? "it does not answer" : error.message;
  }
  tell();
}

function tell() {
  const age = $("age");
  const since = heardAt ? `last heard ${words.span((Date.now() - heardAt) / 1000)} ago` : "never heard";
  age.className = problem ? "stale" : "";
  age.textContent = problem ? `This node: ${problem}; ${since}` : paused ? `Paused; ${since}` : "Live";
  if (problem && !heardAt) $("sentence").textContent = `This node cannot report the state of the cluster: ${problem}.`;
}

async function loop() {
  for (;;) {
    if (!paused && !document.hidden) await refresh();
    else tell();
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
}

function show({ verdict, nodes }) {
  const own = nodes[0];
  $("where").textContent = `seen from ${own.node}`;
  document.title = `${verdict.level === "well" ? "✓" : verdict.level === "act" ? "✗" : "!"} Brock – ${own.node}`;
  showVerdict(verdict);
  showNodes(nodes);
  showReplication(nodes);
  showCharts(nodes);
  showRounds(nodes);
  showUpkeep(nodes);
}

function showVerdict(verdict) {
  $("verdict").dataset.level = verdict.level;
  if ($("sentence").textContent !== verdict.sentence) $("sentence").textContent = verdict.sentence;
  const items = verdict.findings.map((finding) =>
    el(
      "li",
      {},
      badge(finding.level, LEVELS[finding.level] ?? finding.level),
      el("p", {}, finding.node ? el("strong", {}, `${finding.node}: `) : "", finding.what),
      el("p", { class: "todo" }, finding.todo),
    ),
  );
  replace($("findings"), ...items);
}

function state(node) {
  if (node.retired) return badge("unknown", "retired");
  if (!node.status) return badge("act", "silent");
  if (node.status.writes_refused) return badge("act", "read only");
  return node.status.ready ? badge("well", "ready") : badge("watch", "not ready");
}

const nowOf = (node) => (node.status ? node.status.now_unix_ms / 1000 : Date.now() / 1000);

/** Per second, over the newest samples; null = unknown. */
function rateOf(node, field) {
  const history = node.status?.history ?? [];
  if (history.length < 2) return null;
  const [a, b] = [history.at(Math.max(-3, -history.length)), history.at(-1)];
  const seconds = (b.at_unix_ms - a.at_unix_ms) / 1000;
  return seconds > 0 ? Math.max(0, b.traffic[field] - a.traffic[field]) / seconds : null;
}

function showNodes(nodes) {
  const columns = [
    ["Node"], ["State"], ["Version"], ["Uptime", "number"], ["Records", "number"], ["Reads", "number"],
    ["Writes", "number"], ["Log", "number"], ["Files", "number"], ["Disk free", "number"],
  ];
  const rows = nodes.map((node) => {
    const s = node.status;
    const name = [node.node, node.address ? el("span", { class: "sub" }, node.address) : null];
    if (!s) return [name, state(node), ...Array(columns.length - 2).fill(words.UNKNOWN)];
    const disk = s.storage.disk_total_bytes;
    return [
      name,
      state(node),
      s.version,
      words.span(nowOf(node) - s.started_unix),
      [words.count(s.records), el("span", { class: "sub" }, `${words.count(s.tombstones)} deleted`)],
      words.rate(rateOf(node, "reads")),
      words.rate(rateOf(node, "writes")),
      [`${words.count(s.log_entries)}`, el("span", { class: "sub" }, words.bytes(s.log_bytes))],
      words.bytes(s.storage.sst_bytes),
      disk ? `${Math.round((100 * s.storage.disk_free_bytes) / disk)} %` : s.storage.in_ram ? "in RAM" : "unknown",
    ];
  });
  table($("nodes-table"), "All nodes", columns, rows);
}

function showReplication(nodes) {
  const names = nodes.map((node) => node.node);
  const byName = new Map(nodes.map((node) => [node.node, node]));
  const origins = [...new Set(nodes.flatMap((node) => Object.keys(node.lags ?? {})))].sort();
  matrix($("lags"), "Lag", "node ↓ lacks of →", names, origins.length ? origins : ["–"], (row, column) => {
    const lags = byName.get(row).lags;
    if (!lags || (origins.length && !(column in lags))) return { level: "unknown", text: words.UNKNOWN };
    if (!origins.length) return { level: "self", text: "–", title: "no operations yet" };
    const lag = lags[column];
    const level = lag === 0 ? "well" : lag > LAG_WATCH ? "act" : "watch";
    return { level, text: words.count(lag), title: `${row} lacks ${lag} operations of ${column}` };
  });
  matrix($("trips"), "Round trips", "from ↓ to →", names, names, (row, column) => {
    if (row === column) return { level: "self", text: "–" };
    const to = byName.get(column);
    const peer = byName.get(row).status?.peers.find((p) => p.node_id === column || p.address === to.address);
    const micros = peer?.round_trip_micros ?? null;
    if (micros === null) return { level: "unknown", text: words.UNKNOWN, title: peer?.last_error || null };
    return { level: "well", text: words.milliseconds(micros), title: `${row} to ${column}` };
  });
}

function steps(history, field) {
  return history.slice(1).map((sample, i) => {
    const before = history[i];
    const seconds = Math.max(0.001, (sample.at_unix_ms - before.at_unix_ms) / 1000);
    return [sample.at_unix_ms, Math.max(0, sample.traffic[field] - before.traffic[field]) / seconds];
  });
}

function showCharts(nodes) {
  const cards = nodes.map((node) => {
    const history = node.status?.history ?? [];
    const title = el("h3", {}, node.node);
    if (history.length < 2) {
      return el("div", { class: "chart" }, title, el("p", { class: "soft" }, node.status ? "collecting samples …" : "unknown"));
    }
    const log = history.map((sample) => [sample.at_unix_ms, sample.log_bytes]);
    const [first, last] = [history[0], history.at(-1)];
    const figures = el(
      "p",
      { class: "figures" },
      el("span", { class: "reads" }, `— reads ${words.rate(rateOf(node, "reads"))}`),
      el("span", { class: "writes" }, `- - writes ${words.rate(rateOf(node, "writes"))}`),
    );
    const grown = last.log_bytes - first.log_bytes;
    const growth = `log ${words.bytes(last.log_bytes)}, ${grown < 0 ? "compacted by" : "grown by"} ${words.bytes(Math.abs(grown))}`;
    return el(
      "div",
      { class: "chart" },
      title,
      figures,
      chart(
        [{ kind: "reads", points: steps(history, "reads") }, { kind: "writes", points: steps(history, "writes") }],
        `Reads and writes of ${node.node}`,
      ),
      el("p", { class: "figures soft" }, growth),
      chart([{ kind: "log", points: log }], `Log of ${node.node}`),
    );
  });
  replace($("charts"), ...cards);
}

function strip(rounds) {
  const most = Math.max(1, ...rounds.map((round) => round.entries));
  const bars = rounds.map((round) => {
    const height = 4 + Math.round((22 * round.entries) / most);
    const title = `${words.moment(Math.floor(round.started_unix_ms / 1000))}, ${words.span(round.duration_ms / 1000)}: ${
      round.error || `${words.count(round.entries)} entries, ${words.bytes(round.bytes)}`
    }`;
    const kind = round.error ? "failed" : round.entries ? "" : "empty";
    const bar = el("span", { class: kind, title });
    bar.style.height = `${round.error ? 26 : height}px`;
    return bar;
  });
  return el("div", { class: "strip", role: "img", "aria-label": `${rounds.length} rounds` }, bars);
}

function showRounds(nodes) {
  const rows = nodes.flatMap((node) =>
    (node.status?.peers ?? []).map((peer) => {
      const last = peer.recent_rounds.at(-1);
      return [
        `${node.node} ← ${peer.node_id || peer.address}`,
        peer.up ? badge("well", "up") : badge("act", "down"),
        peer.recent_rounds.length ? strip(peer.recent_rounds) : el("span", { class: "soft" }, "no completed rounds yet"),
        last ? words.count(last.entries) : words.UNKNOWN,
        words.count(peer.entries_received),
        words.ago(peer.last_success_unix, nowOf(node)),
        [peer.group, peer.suite.replace(/^TLS_/, ""), peer.signature].filter(Boolean).join(" ") || words.UNKNOWN,
        peer.last_error || "",
      ];
    }),
  );
  const columns = [
    ["Puller ← peer"], ["State"], ["Last rounds (height: entries; red: failed)"], ["Entries, last round", "number"],
    ["Entries, total", "number"], ["Last contact"], ["Encryption", "wrap"], ["Error", "wrap"],
  ];
  const holder = el("table", {});
  table(holder, "Rounds", columns, rows);
  replace($("rounds-list"), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Rounds" }, holder));
}

function backupOf(node) {
  const backup = node.status.backup;
  if (!backup) return el("span", { class: "soft" }, "off");
  const age = words.ago(backup.last_success_unix_ms / 1000, nowOf(node));
  if (backup.verify_error) return [badge("act", "damaged"), ` ${backup.verify_error}`];
  const read = backup.last_verified_unix_ms
    ? `verified ${words.ago(backup.last_verified_unix_ms / 1000, nowOf(node))}`
    : "not verified yet";
  return [
    backup.last_error ? badge("watch", "failing") : badge("well", "ok"),
    ` ${age}`,
    el("span", { class: "sub" }, backup.last_error || read),
  ];
}

function showUpkeep(nodes) {
  const columns = [
    ["Node"], ["Backup"], ["Next certificate to expire"], ["Conflicts", "number"], ["Quarantine", "number"],
    ["Pending removals", "number"], ["Alarms", "wrap"],
  ];
  const rows = nodes.map((node) => {
    const s = node.status;
    if (!s) return [node.node, ...Array(columns.length - 1).fill(words.UNKNOWN)];
    const first = s.certificates[0];
    const marked = (n) => (n ? el("span", { class: "watch-text" }, words.count(n)) : "0");
    return [
      node.node,
      backupOf(node),
      first
        ? [`${first.file} `, el("span", { title: words.moment(first.not_after_unix) }, words.until(first.not_after_unix, nowOf(node)))]
        : words.UNKNOWN,
      marked(s.conflicts),
      marked(s.quarantined),
      words.count(s.removals_pending),
      s.alarms.length ? s.alarms.map((alarm) => el("p", { class: "watch-text", title: words.moment(alarm.at_unix) }, alarm.text)) : "none",
    ];
  });
  table($("upkeep-table"), "Maintenance", columns, rows);
}

async function trace(event) {
  event.preventDefault();
  const into = $("traced");
  const body = JSON.stringify({ key_hash: $("key-hash").value });
  try {
    const nodes = await ask("api/trace", { method: "POST", body, headers: { "content-type": "application/json" } });
    const rows = nodes.map((node) => {
      if (node.error) return [node.node, badge("unknown", "?"), "", el("span", { class: "soft" }, node.error)];
      const operations = node.operations.map((operation) =>
        el(
          "p",
          {},
          `${operation.operation} `,
          el("code", {}, `${operation.origin}:${operation.clock}`),
          operation.applied_unix_ms ? ` applied ${words.moment(Math.floor(operation.applied_unix_ms / 1000))}` : "",
          operation.reason ? ` “${operation.reason}”` : "",
          operation.quarantined ? " QUARANTINED" : "",
        ),
      );
      return [node.node, words.plain(node.state), words.plain(node.payload), operations.length ? operations : "none"];
    });
    const holder = el("table", {});
    table(holder, "Trace", [["Node"], ["State"], ["Payload"], ["Operations", "wrap"]], rows);
    replace(into, el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Trace" }, holder));
  } catch (error) {
    replace(into, el("p", { class: "act-text" }, error.message));
  }
}

async function showSettings() {
  try {
    const settings = await ask("api/configuration");
    const shown = settings.filter((setting) => !$("only-set").checked || setting.source !== "default");
    const rows = shown.map((setting) => [el("code", {}, setting.key), el("code", {}, setting.value), setting.source]);
    table($("settings"), "Settings", [["Setting"], ["Value", "wrap"], ["Source"]], rows);
  } catch {
    // The header shows that the node does not answer.
  }
}

function theme() {
  const order = ["auto", "light", "dark"];
  let chosen = localStorage.getItem("theme") ?? "auto";
  const apply = () => {
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    $("theme").textContent = `Theme: ${chosen}`;
  };
  $("theme").addEventListener("click", () => {
    chosen = order[(order.indexOf(chosen) + 1) % order.length];
    localStorage.setItem("theme", chosen);
    apply();
  });
  apply();
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  tell();
});
$("trace").addEventListener("submit", trace);
$("only-set").addEventListener("change", showSettings);
theme();
showSettings();
loop();
