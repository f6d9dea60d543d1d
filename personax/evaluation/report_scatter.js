// The scatter: one metric against another, a point with error bars for each method.

function drawScatter() {
  if (!data.scatter) return;
  const [x, y] = data.scatter.map((key) => data.columns.find((each) => each.key === key));
  byId("scatter-section").hidden = false;
  byId("scatter-title").textContent = titleOf(x, y);
  const rows = means(data.cells.filter(isChosen));
  const seen = rows.filter((row) => row.means[x.key] && row.means[y.key]);
  const others = rows.filter((row) => !seen.includes(row)).map((row) => row.method);
  const groups = new Set(seen.map((row) => row.group));
  byId("scatter-notes").textContent = [
    "Bars are one standard error.",
    groups.size > 1 ? "Hollow: several subjects at once." : "",
    others.length ? `Without both numbers: ${others.join(", ")}.` : "",
  ].join(" ");
  const holder = byId("scatter");
  const width = Math.max(holder.clientWidth, 280);
  const height = Math.round(Math.min(460, Math.max(300, width * 0.55)));
  const size = { width, height, hollow: groups.size > 1 ? "pair" : null };
  holder.replaceChildren(seen.length ? plot(seen, x, y, size) : el("p", {}, "Nothing to show."));
}

const titleOf = (x, y) => `${y.title} against ${x.title}`;

function plot(rows, x, y, { width, height, hollow }) {
  const box = { left: 62, right: width - 16, top: 12, bottom: height - 52 };
  const across = axis(rows.map((row) => row.means[x.key]), box.left, box.right, 90);
  const up = axis(rows.map((row) => row.means[y.key]), box.bottom, box.top, 70);
  const points = rows.map((row) => {
    const [a, b] = [row.means[x.key], row.means[y.key]];
    const at = { x: across.at(a.value), y: up.at(b.value) };
    return { row, ...at, wide: ends(a).map(across.at), high: ends(b).map(up.at) };
  });
  const labels = place(points, box);
  const middle = `translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)`;
  const centred = { class: "axis", "text-anchor": "middle" };
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": titleOf(x, y) },
    ...across.ticks.flatMap(({ at, text }) => [
      svg("line", { class: "grid", x1: at, x2: at, y1: box.top, y2: box.bottom }),
      svg("text", { class: "tick", x: at, y: box.bottom + 18, "text-anchor": "middle" }, text),
    ]),
    ...up.ticks.flatMap(({ at, text }) => [
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at }),
      svg("text", { class: "tick", x: box.left - 8, y: at + 4, "text-anchor": "end" }, text),
    ]),
    svg("text", { ...centred, x: (box.left + box.right) / 2, y: height - 8 }, x.title + arrow(x)),
    svg("text", { ...centred, transform: middle }, y.title + arrow(y)),
    ...points.flatMap(whiskers),
    ...labels.flatMap(({ leader }) => (leader ? svg("line", { class: "leader", ...leader }) : [])),
    ...points.map((point) => pointNode(point, [x, y], point.row.group === hollow)),
    ...labels.map(({ x, y, text }) => svg("text", { class: "label", x, y: y + 11.5 }, text)),
  );
}

const ends = ({ value, error }) => [value - (error ?? 0), value + (error ?? 0)];

// From values to pixels, with room for the error bars, and a tick about each `apart`.
function axis(found, from, to, apart) {
  const all = found.flatMap(ends);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const room = (most - least || Math.abs(most) || 1) * 0.08;
  const [low, high] = [least - room, most + room];
  const at = (value) => from + ((value - low) / (high - low)) * (to - from);
  const rough = (high - low) / Math.max(2, Math.abs(to - from) / apart);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) {
    ticks.push({ at: at(i * step), text: fixed(i * step || 0, digits) });
  }
  return { at, ticks };
}

function whiskers({ row, x, y, wide, high }) {
  const line = (x1, y1, x2, y2) =>
    svg("line", { class: "whisker", stroke: colour(row.method), x1, y1, x2, y2 });
  return [line(wide[0], y, wide[1], y), line(x, high[0], x, high[1])];
}

function pointNode(point, columns, hollow) {
  const { row } = point;
  const said = columns.map((each) => `${each.title}  ${withError(each, row.means[each.key])}`);
  const light = (on) => () => {
    for (const line of document.querySelectorAll("tbody tr")) {
      line.classList.toggle("lit", on && line.dataset.name === nameOf(row));
    }
    byId("scatter").querySelector(".tip")?.remove();
    if (on) byId("scatter").append(tip([row.method, ...said].join("\n")));
    if (on) moveTip(point);
  };
  return svg(
    "g",
    {
      class: "point",
      tabindex: 0,
      role: "img",
      "aria-label": [row.method, ...said].join(", "),
      "data-name": nameOf(row),
      transform: `translate(${point.x} ${point.y})`,
      fill: hollow ? "var(--paper)" : colour(row.method),
      stroke: colour(row.method),
      onmouseenter: light(true),
      onmouseleave: light(false),
      onfocus: light(true),
      onblur: light(false),
    },
    svg("circle", { class: "halo", r: 14, stroke: "none", fill: colour(row.method) }),
    shape(row.method, 5.5),
  );
}

function lightPoint(row, on) {
  for (const node of byId("scatter").querySelectorAll(".point")) {
    node.classList.toggle("lit", on && node.dataset.name === nameOf(row));
  }
}

const tip = (text) => el("div", { class: "tip" }, text);

function moveTip({ x, y }) {
  const [holder, node] = [byId("scatter"), byId("scatter").querySelector(".tip")];
  const most = holder.clientWidth - node.offsetWidth;
  node.style.left = `${Math.min(Math.max(0, x - node.offsetWidth / 2), most)}px`;
  const above = y - node.offsetHeight - 16;
  node.style.top = `${above > 0 ? above : y + 16}px`;
}

// Each label goes where it covers least of points, bars, labels and the margin.
function place(points, box) {
  const taken = points.flatMap(({ x, y, wide, high }) => [
    { x: x - 8, y: y - 8, w: 16, h: 16, weight: 4 },
    { x: wide[0], y: y - 1, w: wide[1] - wide[0], h: 2, weight: 3 },
    { x: x - 1, y: high[1], w: 2, h: high[0] - high[1], weight: 3 },
  ]);
  return points.map((point) => {
    const text = point.row.method;
    const spots = [10, 22, 38, 56].flatMap((far) => around(point, textWidth(text), far));
    const costs = spots.map((spot) => cost(spot, taken, box));
    const best = spots[costs.indexOf(Math.min(...costs))];
    taken.push({ ...best, weight: 6 });
    return { ...best, text };
  });
}

// Eight places for a label, `far` pixels from its point.
function around({ x, y }, w, far) {
  const [h, near] = [15, far * 0.7];
  const corners = [
    [x + far, y - h / 2], [x - far - w, y - h / 2],
    [x - w / 2, y - far - h], [x - w / 2, y + far],
    [x + near, y - near - h], [x + near, y + near],
    [x - near - w, y - near - h], [x - near - w, y + near],
  ];
  return corners.map(([left, top], i) => {
    const to = { x2: clamp(x, left, left + w), y2: clamp(y, top, top + h) };
    const leader = far > 12 ? { x1: x, y1: y, ...to } : null;
    return { x: left, y: top, w, h, leader, worse: far / 2 + i };
  });
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function cost(spot, taken, box) {
  const shared = (from, length) => (each) =>
    Math.max(0, Math.min(spot[from] + spot[length], each[from] + each[length]) -
      Math.max(spot[from], each[from]));
  const [wide, high] = [shared("x", "w"), shared("y", "h")];
  const covered = taken.reduce((sum, each) => sum + each.weight * wide(each) * high(each), 0);
  const outside =
    Math.max(0, box.left - spot.x) + Math.max(0, spot.x + spot.w - box.right) +
    Math.max(0, box.top - 8 - spot.y) + Math.max(0, spot.y + spot.h - box.bottom);
  return covered + 50 * outside + spot.worse;
}

function textWidth(text) {
  textWidth.context ??= document.createElement("canvas").getContext("2d");
  textWidth.context.font = `13px ${getComputedStyle(document.body).fontFamily}`;
  return textWidth.context.measureText(text).width + 2;
}
