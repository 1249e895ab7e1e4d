const TERMS = {
  share: ["Relative change", "The Frobenius norm of the difference, over the norm before. It has no value where the norm before was zero."],
  moved: ["Change", "The Frobenius norm of the difference of the two states' tensors, for one head."],
  before: ["Norm before", "The Frobenius norm in the first state."],
  after: ["Norm after", "The Frobenius norm in the second state."],
  cosine: ["Cosine", "Of the angle between the tensor before and after: 1 for the same direction."],
  first: ["Distance from the start, before", "How far the first state is from the initial weights."],
  second: ["Distance from the start, after", "How far the second state is from the initial weights."],
};
const changes = DATA.changes.map((one) => ({ ...one, first: one.from && one.from[0], second: one.from && one.from[1] }));
const names = Object.keys(TERMS).filter((name) => changes.some((one) => one[name] !== null && one[name] !== undefined));
let channel = names[0], chosen = 0;

function paint() {
  const values = Float32Array.from(changes, (one) => one[channel] ?? NaN), there = values.filter(Number.isFinite);
  const range = there.length ? [Math.min(...there, channel === "cosine" ? Infinity : 0), Math.max(...there)] : [0, 1];
  if (range[0] === range[1]) range[1] = range[0] + 1;
  const heads = Math.max(...changes.map((one) => one.head)), tensors = [...new Set(changes.map((one) => one.tensor))];
  const cell = (i) => `<td class="cell"><button data-i="${i}" aria-pressed="${i === chosen}" aria-label="${escaped(changes[i].tensor)}, head ${changes[i].head}: ${TERMS[channel][0]} ${number(changes[i][channel])}" style="background:${colour(share(values[i], range))}">${number(changes[i][channel])}</button></td>`;
  $("heat").innerHTML = `<thead><tr><th></th>${Array.from({ length: heads }, (_, h) => `<th>${heads > 1 ? "head " + (h + 1) : ""}</th>`).join("")}</tr></thead><tbody>${tensors.map((name) => `<tr><th>${escaped(name)}</th>${changes.map((one, i) => (one.tensor === name ? cell(i) : "")).join("")}</tr>`).join("")}</tbody>`;
  const [pen, width, height] = prepared($("legend"), 34);
  pen.clearRect(0, 0, width, height);
  for (let x = 0; x < width; x++) { pen.fillStyle = colour(x / width); pen.fillRect(x, height - 10, 1, 10); }
  $("low").textContent = number(range[0]); $("high").textContent = number(range[1]); $("middle").textContent = TERMS[channel][0].toLowerCase();
  $("legend").setAttribute("aria-label", `Colours run from ${number(range[0])} to ${number(range[1])}`);
}
function tell() {
  const one = changes[chosen];
  $("one").innerHTML = `<div class="token" style="margin-top:18px"><b>${escaped(one.tensor)}</b><span>head ${one.head}</span></div><table style="max-width:420px"><tbody>${names.map((name) => `<tr><th>${TERMS[name][0]}</th><td class="num" data-value="${name}">${number(one[name])}</td></tr>`).join("")}</tbody></table>`;
}
function choose(i, focus) {
  chosen = i;
  for (const button of document.querySelectorAll("#heat button")) button.setAttribute("aria-pressed", Number(button.dataset.i) === i);
  if (focus) document.querySelector(`#heat button[data-i="${i}"]`).focus();
  tell();
}
function move(event) {
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key], button = event.target.closest("button");
  if (!step || !button) return;
  const all = [...document.querySelectorAll("#heat tbody tr")].map((row) => [...row.querySelectorAll("button")]);
  const at = all.findIndex((row) => row.includes(button)), next = all[at + step[0]]?.[all[at].indexOf(button) + step[1]];
  if (next) { event.preventDefault(); choose(Number(next.dataset.i), true); }
}
$("title").textContent = DATA.title;
$("facts").textContent = DATA.states[0].hash === DATA.states[1].hash ? "The two are equal." : `${counted(new Set(changes.map((one) => one.tensor)).size, "tensor")}; ${changes.filter((one) => one.moved > 0).length} of ${counted(changes.length, "head")} moved`;
$("states").innerHTML = `<thead><tr><th></th><th>before</th><th>after</th></tr></thead><tbody>${[["where", (s) => s.name], ["hash", (s) => s.hash], [DATA.states[0].records ? "records" : "tokens read", (s) => s.seen.map((n) => n.toLocaleString("en")).join(", ")]].map(([name, of]) => `<tr><th>${name}</th>${DATA.states.map((s) => `<td class="num">${escaped(of(s))}</td>`).join("")}</tr>`).join("")}</tbody>`;
if (DATA.states[0].records) {
  const list = (title, entries, count) => (count ? `<h3 class="quiet">${title}: ${count.toLocaleString("en")}${entries.length < count ? `, of which the first ${entries.length}` : ""}</h3>${entries.map(([id, text]) => `<div class="record-row"><span class="where">${id}</span><span class="record">${escaped(text)}</span></div>`).join("")}` : "");
  $("records").hidden = !(DATA.counts[0] || DATA.counts[1]);
  $("lists").innerHTML = list("Only after", DATA.came, DATA.counts[0]) + list("Only before", DATA.went, DATA.counts[1]);
}
$("terms").innerHTML = names.map((name) => `<dt>${TERMS[name][0]}</dt><dd>${TERMS[name][1]}</dd>`).join("") + `<dt>Rule</dt><dd>${escaped(DATA.rule)}</dd>`;
$("made").textContent = DATA.made;
$("channel").innerHTML = names.map((name) => `<option value="${name}">${TERMS[name][0]}</option>`).join("");
$("channel").addEventListener("change", (event) => { channel = event.target.value; paint(); });
$("heat").addEventListener("click", (event) => { const button = event.target.closest("button"); if (button) choose(Number(button.dataset.i), false); });
$("heat").addEventListener("keydown", move);
dark.addEventListener("change", paint);
paint();
tell();
document.body.dataset.ready = String(Math.round(performance.now()));
