// Builds elements from data. Data from nodes becomes text, never markup.

import * as words from "./words.js";

export function el(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "title"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const badge = (level, text) => el("span", { class: `badge ${level}` }, text);

/** A table. `columns`: [title, class]; `rows`: elements or texts, with the row's header first. */
export function table(into, caption, columns, rows) {
  const head = columns.map(([title, kind]) => el("th", { scope: "col", class: kind ?? null }, title));
  const body = rows.map((cells) =>
    el(
      "tr",
      {},
      cells.map((cell, i) =>
        i === 0
          ? el("th", { scope: "row" }, cell)
          : el("td", { class: columns[i][1] ?? null }, cell === null || cell === undefined ? words.UNKNOWN : cell),
      ),
    ),
  );
  replace(into, el("caption", { class: "skip" }, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body));
}

/** Replaces the content, unless it is the same, so that a selection survives. */
export function replace(into, ...children) {
  const fresh = children.map((child) => child.outerHTML ?? child).join("");
  if (into.dataset.fresh === String(hash(fresh))) return;
  into.dataset.fresh = String(hash(fresh));
  into.replaceChildren(...children);
}

function hash(text) {
  let h = 5381;
  for (let i = 0; i < text.length; i += 1) h = ((h * 33) ^ text.charCodeAt(i)) >>> 0;
  return `${h}:${text.length}`;
}

/** A matrix; `cell(row, column)` returns { level, text, title }. */
export function matrix(into, caption, corner, rows, columns, cell) {
  const head = [corner, ...columns].map((title) => el("th", { scope: "col" }, title));
  const body = rows.map((row) => {
    const cells = columns.map((column) => {
      const { level, text, title } = cell(row, column);
      return el("td", { class: level, title: title ?? null }, text);
    });
    return el("tr", {}, el("th", { scope: "row" }, row), cells);
  });
  replace(into, el("caption", { class: "skip" }, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body));
}

/** Lines over the same time axis; each is { kind, points: [[ms, value]] }. */
export function chart(lines, label) {
  const points = lines.flatMap((line) => line.points);
  const [from, to] = [Math.min(...points.map((p) => p[0])), Math.max(...points.map((p) => p[0]))];
  const top = Math.max(1e-9, ...points.map((p) => p[1]));
  const x = (ms) => ((ms - from) / Math.max(1, to - from)) * 100;
  const y = (value) => 29 - (value / top) * 27;
  const paths = lines
    .filter((line) => line.points.length > 1)
    .map((line) => {
      const d = line.points.map(([ms, value], i) => `${i ? "L" : "M"}${x(ms).toFixed(2)} ${y(value).toFixed(2)}`);
      return el("path", { class: line.kind, d: d.join("") });
    });
  const axis = el("line", { class: "axis", x1: 0, x2: 100, y1: 29.5, y2: 29.5 });
  return el("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label }, axis, paths);
}
