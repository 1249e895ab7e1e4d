/* A line over the tokens: the mean of what falls on a pixel, and from its least to its most behind it. */
class Chart {
  /* rows: each {values, own}, of which the own ones are drawn in front. */
  constructor(title, about, rows, onPlace) {
    this.title = title; this.rows = rows; this.onPlace = onPlace;
    this.figure = document.createElement("figure");
    this.figure.className = "chart";
    this.figure.innerHTML = `<figcaption><span title="${escaped(about)}">${escaped(title)}</span><small></small><output></output></figcaption><canvas height="66" tabindex="0" role="img"></canvas>`;
    this.canvas = this.figure.querySelector("canvas");
    this.range = this.figure.querySelector("small");
    this.output = this.figure.querySelector("output");
    const place = (event) => Math.round((event.offsetX / this.canvas.clientWidth) * (DATA.count - 1));
    this.canvas.addEventListener("pointermove", (event) => onPlace(place(event), false));
    this.canvas.addEventListener("pointerleave", () => onPlace(null, false));
    this.canvas.addEventListener("click", (event) => onPlace(place(event), true));
  }
  draw() {
    const [pen, width, height] = prepared(this.canvas, 66);
    let low = Infinity, high = -Infinity;
    for (const { values } of this.rows) for (const v of values) if (Number.isFinite(v)) { if (v < low) low = v; if (v > high) high = v; }
    if (low > high) { low = 0; high = 1; }
    this.low = low; this.high = high;
    const room = high - low || Math.abs(high) || 1, y = (v) => height - 5 - ((v - low) / room) * (height - 10);
    pen.fillStyle = ink("paper");
    pen.fillRect(0, 0, width, height);
    for (const row of [...this.rows].sort((a, b) => a.own - b.own)) this.line(pen, row, width, y);
    this.range.textContent = low === high ? "" : `${number(low)} to ${number(high)}`;
    this.picture = document.createElement("canvas");
    this.picture.width = this.canvas.width; this.picture.height = this.canvas.height;
    this.picture.getContext("2d").drawImage(this.canvas, 0, 0);
    this.canvas.setAttribute("aria-label", `${this.title}, over the text: from ${number(low)} to ${number(high)}`);
  }
  line(pen, { values, own }, width, y) {
    const n = values.length, points = [];
    if (n <= width) for (let i = 0; i < n; i++) points.push([n > 1 ? (i / (n - 1)) * width : width / 2, values[i], values[i], values[i]]);
    else for (let x = 0; x < width; x++) {
      let sum = 0, count = 0, least = Infinity, most = -Infinity;
      for (let i = Math.floor((x * n) / width); i < Math.floor(((x + 1) * n) / width); i++) {
        const v = values[i];
        if (Number.isFinite(v)) { sum += v; count++; if (v < least) least = v; if (v > most) most = v; }
      }
      if (count) points.push([x + 0.5, sum / count, least, most]);
    }
    const there = points.filter((p) => Number.isFinite(p[1]));
    if (own && n > width) {
      pen.fillStyle = ink("accent-soft");
      for (const [x, , least, most] of there) pen.fillRect(x - 0.5, y(most), 1, Math.max(1, y(least) - y(most)));
    }
    pen.beginPath();
    there.forEach(([x, mean], i) => (i ? pen.lineTo(x, y(mean)) : pen.moveTo(x, y(mean))));
    pen.strokeStyle = ink(own ? "accent" : "other");
    pen.lineWidth = own ? 1.5 : 0.8;
    pen.lineJoin = "round";
    pen.stroke();
  }
  cross(place, value) {
    if (!this.picture) return;
    const pen = this.canvas.getContext("2d"), ratio = devicePixelRatio || 1;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(this.picture, 0, 0);
    this.output.textContent = number(value);
    if (place === null) return;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const width = this.canvas.width / ratio, x = DATA.count > 1 ? (place / (DATA.count - 1)) * width : width / 2;
    pen.fillStyle = ink("ink");
    pen.globalAlpha = 0.55;
    pen.fillRect(Math.min(width - 1, Math.max(0, x - 0.5)), 0, 1, 66);
    pen.globalAlpha = 1;
  }
}
