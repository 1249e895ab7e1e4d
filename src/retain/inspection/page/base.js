"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const LEVELS = 40;

/* Arrays are kept as base64 of little-endian numbers, and read when they are first asked for. */
const arrays = new Map();
function array(name) {
  if (!arrays.has(name)) {
    const element = $("array-" + name);
    if (!element) { arrays.set(name, null); return null; }
    const text = atob(element.textContent), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    arrays.set(name, element.dataset.type === "i4" ? new Int32Array(bytes.buffer) : new Float32Array(bytes.buffer));
  }
  return arrays.get(name);
}

const dark = matchMedia("(prefers-color-scheme: dark)");
function ink(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); }

/* OKLCH to sRGB, so that equal steps of a value look like equal steps. */
function oklch(L, C, H) {
  const a = C * Math.cos(H * Math.PI / 180), b = C * Math.sin(H * Math.PI / 180);
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3, m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3, s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s, -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s, -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s];
  return "rgb(" + linear.map((x) => { x = Math.min(1, Math.max(0, x)); return Math.round(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055)); }).join(" ") + ")";
}
/* Lightness falls in light mode, and rises in dark mode, evenly with the value. */
function colour(share, night = dark.matches) {
  return night ? oklch(0.205 + 0.32 * share, 0.012 + 0.128 * share, 75 - 42 * share) : oklch(0.985 - 0.285 * share, 0.006 + 0.164 * share, 92 - 52 * share);
}
function scaleStyle() {
  const rules = (night) => Array.from({ length: LEVELS }, (_, i) => `.k${i}{background-color:${colour(i / (LEVELS - 1), night)}}`).join("");
  const style = document.createElement("style");
  style.textContent = `${rules(false)}@media(prefers-color-scheme:dark){${rules(true)}}`;
  document.head.append(style);
}
function number(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
  return text.replace("-", "−");
}
function escaped(text) { return text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]); }
function shown(text) { return (/^ +$/.test(text) ? "␣".repeat(text.length) : text).replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/\r/g, "␍"); }
function counted(n, noun) { return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`; }
/* The range that colours span: from the 2nd percentile to the 99.5th; to the most where that leaves nothing. */
function domain(values) {
  if (DATA.range) return DATA.range;
  const sorted = Float32Array.from(values).filter(Number.isFinite).sort();
  if (!sorted.length) return [0, 1];
  const low = sorted[Math.floor(sorted.length * 0.02)], most = sorted[sorted.length - 1];
  const high = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.995))];
  return [low, high > low ? high : most > low ? most : low + 1];
}
function share(value, [low, high]) { return Number.isFinite(value) ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0; }
function prepared(canvas, height) {
  const ratio = devicePixelRatio || 1, width = Math.max(1, Math.round(canvas.getBoundingClientRect().width || canvas.width));
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [pen, width, height];
}
