const state = { layer: 0, head: 0, channel: "surprise", place: 0, hover: null };  // head 0 is the mean over heads
const isMemory = DATA.kind === "memory", unit = isMemory ? "line" : "token", Unit = isMemory ? "Line" : "Token";
const spans = [], charts = [];
const traced = new Map(DATA.traced.map((place, i) => [place, i]));

/* Values of one row of a layer's channel: of a head, or their mean. */
const rowsOf = new Map();
function rows(channel, layer) {
  if (channel === "bits") return [array("bits"), array("bits")];
  const key = `${layer}.${channel}`;
  if (!rowsOf.has(key)) {
    const all = array(key), heads = DATA.layers[layer].heads, n = all.length / heads;
    const each = Array.from({ length: heads }, (_, h) => all.subarray(h * n, (h + 1) * n)), mean = new Float32Array(n);
    for (let i = 0; i < n; i++) { let sum = 0; for (const one of each) sum += one[i]; mean[i] = sum / heads; }
    rowsOf.set(key, [mean, ...each]);
  }
  return rowsOf.get(key);
}
function row(channel, layer = state.layer, head = state.head) { const all = rows(channel, layer); return all[Math.min(head, all.length - 1)]; }
function label(channel) { return DATA.terms[channel][0]; }

function write() {
  const parts = ["<p>"];
  let since = 0;
  for (let i = 0; i < DATA.count; i++) {
    const piece = DATA.pieces[i], classes = [traced.has(i) ? "r" : "", piece.includes("\n") && !isMemory ? "n" : "", piece ? "" : "e"].join(" ").trim();
    parts.push(classes ? `<span class="${classes}">` : "<span>", escaped(piece), "</span>");
    if (++since >= 160 && piece.includes("\n") && !isMemory && i + 1 < DATA.count) { parts.push("</p><p>"); since = 0; }
  }
  $("text").innerHTML = parts.join("") + "</p>";
  for (const block of $("text").children) for (const span of block.children) { span.place = spans.length; spans.push(span); span.kept = span.className; }
}
function paint() {
  const values = row(state.channel), range = domain(values);
  for (let i = 0; i < spans.length; i++) {
    const level = Number.isFinite(values[i]) ? Math.round(share(values[i], range) * (LEVELS - 1)) : -1;
    const kept = spans[i].kept + (level >= 0 ? " k" + level : "");
    if (spans[i].className !== kept) spans[i].className = kept;
  }
  legend(values, range);
  mark();
  most(values);
}
function legend(values, range) {
  const [pen, width, height] = prepared($("legend"), 34), bins = new Float32Array(Math.floor(width / 3));
  for (const v of values) if (Number.isFinite(v)) bins[Math.min(bins.length - 1, Math.floor(share(v, range) * bins.length))]++;
  const tallest = Math.max(...bins);
  pen.clearRect(0, 0, width, height);
  for (let x = 0; x < width; x++) { pen.fillStyle = colour(x / width); pen.fillRect(x, height - 10, 1, 10); }
  pen.fillStyle = ink("other");
  bins.forEach((n, i) => { if (n) { const tall = Math.max(1, Math.sqrt(n / tallest) * 21); pen.fillRect(i * 3, 22 - tall, 2, tall); } });
  $("low").textContent = (values.some((v) => v < range[0]) ? "≤ " : "") + number(range[0]);
  $("middle").textContent = label(state.channel).toLowerCase();
  $("high").textContent = (values.some((v) => v > range[1]) ? "≥ " : "") + number(range[1]);
  $("legend").setAttribute("aria-label", `Colours run from ${number(range[0])} to ${number(range[1])}; above them, how many ${unit}s have which value`);
}
function options(select, entries, chosen) {
  select.innerHTML = entries.map(([value, name]) => `<option value="${value}"${value === chosen ? " selected" : ""}>${escaped(name)}</option>`).join("");
  select.disabled = entries.length < 2;
}
function controls() {
  const layer = DATA.layers[state.layer], channels = [...layer.channels, ...(array("bits") ? ["bits"] : [])];
  if (!channels.includes(state.channel)) state.channel = channels[0];
  state.head = Math.min(state.head, layer.heads);
  options($("channel"), channels.map((name) => [name, label(name)]), state.channel);
  options($("layer"), DATA.layers.map((one, i) => [i, one.name]), state.layer);
  options($("head"), layer.heads > 1 ? [[0, `mean of ${layer.heads}`], ...Array.from({ length: layer.heads }, (_, h) => [h + 1, String(h + 1)])] : [[0, "1"]], state.head);
}
function context(place, width = 14) {
  const before = DATA.pieces.slice(Math.max(0, place - width), place).join(""), after = DATA.pieces.slice(place + 1, place + 1 + width).join("");
  return `${escaped(shown(before.slice(-width)))}<mark>${escaped(shown(DATA.pieces[place]) || "·")}</mark>${escaped(shown(after))}`;
}
function jump(place, amount, part) {
  const words = isMemory ? escaped(DATA.pieces[place]) : context(place);
  return `<button class="jump" data-place="${place}" aria-label="Go to ${unit} ${place + 1}: ${escaped(shown(DATA.pieces[place]))}, ${number(amount)}"><span class="where">${(place + 1).toLocaleString("en")}</span><span class="context">${words}</span><span class="amount">${number(amount)}</span>${part === undefined ? "" : `<span class="bar" style="width:${(100 * part).toFixed(1)}%"></span>`}</button>`;
}
function most(values) {
  $("most-title").textContent = `Highest ${label(state.channel).toLowerCase()}`;
  const places = Array.from(values.keys()).filter((i) => Number.isFinite(values[i])).sort((a, b) => values[b] - values[a]).slice(0, 12);
  $("most").innerHTML = places.map((place) => `<li>${jump(place, values[place])}</li>`).join("");
}
function stretchOf(place) { return Math.min(rows("norm", state.layer)[0].length - 1, Math.ceil((place + 1) / DATA.stretch)); }
function at(channel, place, head = state.head, layer = state.layer) {
  return row(channel, layer, head)[DATA.stretched.includes(channel) ? stretchOf(place) : place];
}
function token() {
  const place = state.place, layer = DATA.layers[state.layer], heads = layer.heads > 1 ? [0, ...Array.from({ length: layer.heads }, (_, h) => h + 1)] : [0];
  const names = [...layer.channels, ...layer.stretched];
  const head = heads.length > 1 ? `<thead><tr><th></th>${heads.map((h) => `<th>${h ? "head " + h : "mean"}</th>`).join("")}</tr></thead>` : "";
  const body = names.map((name) => `<tr${name === state.channel ? ' class="now"' : ""}><th title="${escaped(DATA.terms[name][1])}">${escaped(label(name))}</th>${heads.map((h) => `<td class="num" data-value="${name}.${h}">${number(at(name, place, h))}</td>`).join("")}</tr>`);
  if (array("bits")) body.push(`<tr${state.channel === "bits" ? ' class="now"' : ""}><th title="${escaped(DATA.terms.bits[1])}">${escaped(label("bits"))}</th><td class="num" data-value="bits.0">${number(array("bits")[place])}</td>${heads.slice(1).map(() => "<td></td>").join("")}</tr>`);
  $("token-title").textContent = DATA.layers.length > 1 ? `${Unit}, in ${layer.name}` : Unit;
  $("token").innerHTML = `<div class="token"><b>${escaped(shown(DATA.pieces[place]) || "·")}</b><span>${(place + 1).toLocaleString("en")} of ${DATA.count.toLocaleString("en")}</span></div><div class="scroll"><table>${head}<tbody>${body.join("")}</tbody></table></div>`;
  $("live").textContent = `${Unit} ${place + 1}: ${shown(DATA.pieces[place])}. ${label(state.channel)} ${number(row(state.channel)[place])}`;
}
function sources(place) {
  const read = traced.get(place), all = array(`${state.layer}.places`);
  if (read === undefined || !all) return null;
  const layer = DATA.layers[state.layer], begin = (read * (1 + layer.heads) + state.head) * DATA.most;
  const places = all.subarray(begin, begin + DATA.most), weights = array(`${state.layer}.weights`).subarray(begin, begin + DATA.most);
  const total = array(`${state.layer}.totals`)[read * (1 + layer.heads) + state.head];
  return { found: Array.from(places).map((p, i) => [p, weights[i]]).filter(([p]) => p >= 0), total, since: DATA.since[read] };
}
function draws() {
  if (isMemory) {
    const found = DATA.recalled[state.place];
    $("draws").innerHTML = found.length ? found.map(([id, weight]) => `<div class="record-row"><span class="where">${id}</span><span class="record">${escaped(DATA.records[id])}</span><span class="amount">${number(weight)}</span><span class="bar" style="width:${(100 * weight).toFixed(1)}%"></span></div>`).join("") : '<p class="quiet">The memory holds no records.</p>';
    return;
  }
  if (!DATA.traced.length) { $("draws").innerHTML = '<p class="quiet">No reads were traced: the page was made with --reads 0.</p>'; return; }
  const own = sources(state.place), after = DATA.traced.find((p) => p > state.place), before = DATA.traced.filter((p) => p < state.place).pop();
  const go = `<div class="row">${before === undefined ? "" : `<button data-place="${before}">← read at ${(before + 1).toLocaleString("en")}</button>`}${after === undefined ? "" : `<button data-place="${after}">read at ${(after + 1).toLocaleString("en")} →</button>`}</div>`;
  if (!own) { $("draws").innerHTML = `<p class="quiet">The read of this token was not traced. ${counted(DATA.traced.length, "read")} of the text ${DATA.traced.length === 1 ? "was" : "were"}; they are underlined with dots.</p>${go}`; return; }
  if (!own.found.length) { $("draws").innerHTML = `<p class="quiet">Nothing that was written since token ${own.since + 1} has a part in this read.</p>${go}`; return; }
  const covered = own.found.reduce((sum, [, w]) => sum + w, 0) / own.total;
  $("draws").innerHTML = own.found.slice(0, 8).map(([p, w]) => jump(p, w, w / own.found[0][1])).join("")
    + `<p class="quiet">Traced back to token ${(own.since + 1).toLocaleString("en")}; weights add up to ${number(own.total)}, of which the ${own.found.length} marked in the text are ${Math.round(100 * covered)}%.</p>${go}`;
}
const marked = [];
function mark() {
  for (const span of marked.splice(0)) { span.classList.remove("s", "d"); span.style.removeProperty("--share"); }
  const own = isMemory ? null : sources(state.place);
  if (own) for (const [p, w] of own.found) { spans[p].classList.add("d"); spans[p].style.setProperty("--share", (w / own.found[0][1]).toFixed(3)); marked.push(spans[p]); }
  spans[state.place].classList.add("s");
  marked.push(spans[state.place]);
}
function buildCharts() {
  const layer = DATA.layers[state.layer], names = [...layer.channels, ...layer.stretched, ...(array("bits") ? ["bits"] : [])];
  charts.length = 0;
  $("charts").replaceChildren();
  for (const name of names) {
    const all = rows(name, state.layer), chosen = Math.min(state.head, all.length - 1);
    const lines = name === "bits" || layer.heads === 1 ? [{ values: all[0], own: true }] : all.map((values, h) => ({ values, own: h === chosen })).filter((one, h) => h || one.own);
    const chart = new Chart(label(name), DATA.terms[name][1], lines, (place, click) => (click ? select(place, true) : hover(place)));
    chart.name = name;
    charts.push(chart);
    $("charts").append(chart.figure);
  }
  const axis = document.createElement("div");
  axis.className = "axis";
  axis.innerHTML = `<span>1</span><span>${unit}</span><span>${DATA.count.toLocaleString("en")}</span>`;
  $("charts").append(axis);
  for (const chart of charts) chart.draw();
  cross();
}
function cross() { const place = state.hover ?? state.place; for (const chart of charts) chart.cross(place, at(chart.name, place)); }
function hover(place) { if (place !== state.hover) { state.hover = place; cross(); } }
function select(place, scroll) {
  if (!(place >= 0 && place < DATA.count)) return;
  state.place = place;
  mark(); token(); draws(); cross();
  if (scroll) {
    const box = $("text"), span = spans[place];
    span.parentElement.style.contentVisibility = "visible";
    const top = span.getBoundingClientRect().top - box.getBoundingClientRect().top;
    if (top < 60 || top > box.clientHeight - 90) box.scrollTop += top - box.clientHeight / 3;
  }
}
/* The token above or below: the nearest on the next line that has one. */
function line(direction) {
  const from = spans[state.place].getClientRects()[0];
  let best = null, distance = Infinity, level = null;
  for (let i = state.place + direction; i >= 0 && i < DATA.count; i += direction) {
    const box = spans[i].getClientRects()[0];
    if (!box || Math.abs(box.top - from.top) < 4) continue;
    if (level !== null && Math.abs(box.top - level) > 4) break;
    level = box.top;
    if (Math.abs(box.left - from.left) < distance) { distance = Math.abs(box.left - from.left); best = i; }
  }
  return best;
}
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const next = { ArrowRight: () => state.place + 1, ArrowLeft: () => state.place - 1, ArrowDown: () => line(1), ArrowUp: () => line(-1), Home: () => 0, End: () => DATA.count - 1,
    "]": () => DATA.traced.find((p) => p > state.place), "[": () => DATA.traced.filter((p) => p < state.place).pop() }[event.key];
  if (!next) return;
  event.preventDefault();
  const place = next();
  if (place !== null && place !== undefined) select(Math.min(DATA.count - 1, Math.max(0, place)), true);
}
function tip(event) {
  const place = event.target.place, box = $("tip");
  if (hovered) hovered.classList.remove("h");
  hovered = null;
  if (place === undefined) { box.hidden = true; hover(null); return; }
  hovered = event.target;
  hovered.classList.add("h");
  const all = rows(state.channel, state.layer), own = row(state.channel)[place];
  const heads = all.length > 2 && state.channel !== "bits" ? `<br>heads ${all.slice(1, 9).map((r) => number(r[place])).join(" · ")}${all.length > 9 ? " …" : ""}` : "";
  box.innerHTML = `<b>${escaped(shown(DATA.pieces[place]).slice(0, 60) || "·")}</b> ${unit} ${(place + 1).toLocaleString("en")}<br>${escaped(label(state.channel).toLowerCase())} ${number(own)}${heads}`;
  box.hidden = false;
  const room = box.getBoundingClientRect();
  box.style.left = Math.max(6, Math.min(event.clientX + 14, innerWidth - room.width - 8)) + "px";
  box.style.top = (event.clientY + 22 + room.height > innerHeight ? event.clientY - room.height - 12 : event.clientY + 22) + "px";
  hover(place);
}
let hovered = null;
function all() { controls(); paint(); token(); draws(); buildCharts(); }

scaleStyle();
$("title").textContent = DATA.title;
$("facts").textContent = DATA.facts.join(" · ");
$("made").textContent = DATA.made;
$("draws-about").textContent = DATA.draws;
if (isMemory) { $("draws-title").textContent = "What its answer draws on"; $("text").setAttribute("aria-label", "The lines of the text. Arrow keys go from line to line."); }
const used = new Set(DATA.layers.flatMap((layer) => [...layer.channels, ...layer.stretched]).concat(array("bits") ? ["bits"] : []));
$("terms").innerHTML = [...used].map((name) => `<dt>${escaped(label(name))}</dt><dd>${escaped(DATA.terms[name][1])}</dd>`).join("") + DATA.layers.map((layer) => `<dt>${escaped(layer.name)}</dt><dd>${escaped(layer.rule)}</dd>`).join("");
write();
state.place = DATA.start;
all();
select(DATA.start, true);
$("channel").addEventListener("change", (event) => { state.channel = event.target.value; paint(); token(); });
$("layer").addEventListener("change", (event) => { state.layer = Number(event.target.value); all(); });
$("head").addEventListener("change", (event) => { state.head = Number(event.target.value); all(); });
$("text").addEventListener("keydown", key);
$("charts").addEventListener("keydown", key);
$("text").addEventListener("click", (event) => { if (event.target.place !== undefined) select(event.target.place, false); });
$("text").addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") tip(event); });
$("text").addEventListener("pointerleave", () => { if (hovered) hovered.classList.remove("h"); hovered = null; $("tip").hidden = true; hover(null); });
document.querySelector("aside").addEventListener("click", (event) => { const button = event.target.closest("[data-place]"); if (button) { select(Number(button.dataset.place), true); if (!button.isConnected) $("text").focus({ preventScroll: true }); } });
dark.addEventListener("change", () => { paint(); buildCharts(); });
let waiting = 0;
addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => { for (const chart of charts) chart.draw(); legend(row(state.channel), domain(row(state.channel))); cross(); }); });
document.body.dataset.ready = String(Math.round(performance.now()));
