// Formats numbers and times. An unknown value is "?", never 0.

export const UNKNOWN = "?";

export const count = (n) => (n === null || n === undefined ? UNKNOWN : n.toLocaleString("en"));

export function bytes(n) {
  if (n === null || n === undefined) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? n : n.toFixed(n < 10 ? 1 : 0)} ${units[unit]}`;
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

// Formats a name of the protocol: NO_PAYLOAD becomes "no payload".
export const plain = (name) => name.toLowerCase().replaceAll("_", " ");

export const ago = (unix, now) => (unix > 0 ? `${span(now - unix)} ago` : "never");

export const until = (unix, now) => (unix >= now ? `in ${span(unix - now)}` : `${span(now - unix)} ago`);

export function moment(unix) {
  return unix > 0 ? new Date(unix * 1000).toISOString().replace(".000Z", "Z") : "";
}

export function milliseconds(micros) {
  if (micros === null || micros === undefined) return UNKNOWN;
  const ms = micros / 1000;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

export function rate(perSecond) {
  if (perSecond === null) return UNKNOWN;
  const n = perSecond < 10 ? Number(perSecond.toFixed(1)) : Math.round(perSecond);
  return `${n.toLocaleString("en")}/s`;
}
