// The report page: filters by method and subject for the table and the pictures.

const methods = [...new Set(data.rows.map((row) => row.method))];
const subjects = [...new Set(data.results.map((result) => result.subject))];
const chosen = { methods: new Set(methods), subjects: new Set(subjects) };

function start() {
  drawFilters();
  drawTable();
  drawPictures();
  if (data.scatter) {
    byId("scatter").src = data.scatter;
    byId("scatter-section").hidden = false;
  }
  update();
}

function update() {
  const shown = data.results.filter(
    ({ method, subject }) => chosen.methods.has(method) && chosen.subjects.has(subject),
  );
  const pictures = shown.reduce((sum, { samples }) => sum + samples.length, 0);
  filterRows();
  filterPictures();
  const some = (set, all, what) =>
    set.size === all.length ? count(all.length, what) : `${set.size} of ${count(all.length, what)}`;
  byId("status").textContent = [
    some(chosen.methods, methods, "method"),
    some(chosen.subjects, subjects, "subject"),
    count(pictures, "picture"),
  ].join(" · ");
}

// --- Filters ---

function drawFilters() {
  byId("filter-groups").append(
    filter("Methods", methods, chosen.methods, mark),
    filter("Subjects", subjects, chosen.subjects, () => null),
  );
}

function filter(title, names, set, decorate) {
  const change = (box) => {
    if (box.checked) set.add(box.value);
    else set.delete(box.value);
  };
  const boxes = names.map((value) =>
    el("input", {
      type: "checkbox",
      checked: true,
      value,
      onchange: ({ target }) => {
        change(target);
        update();
      },
    }),
  );
  const all = (checked, text) => {
    const label = `${text} ${title.toLowerCase()}`;
    const onclick = () => {
      for (const box of boxes) change(Object.assign(box, { checked }));
      update();
    };
    return el("button", { type: "button", class: "all", "aria-label": label, onclick }, text);
  };
  const chips = boxes.map((box) =>
    el("label", { class: "chip eased" }, box, decorate(box.value), el("span", {}, box.value)),
  );
  const both = el("span", {}, all(true, "all"), all(false, "none"));
  return el("fieldset", {}, el("legend", {}, title), el("div", { class: "chips" }, ...chips, both));
}

// --- Marks: the colours and shapes of scatter.py ---

const COLOURS = [
  ...["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"],
  ...["#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"],
];
const SHAPES = [
  (r) => svg("circle", { r }),
  (r) => svg("rect", { x: -0.9 * r, y: -0.9 * r, width: 1.8 * r, height: 1.8 * r }),
  (r) => svg("path", { d: `M0 ${-1.2 * r}L${1.1 * r} ${0.8 * r}H${-1.1 * r}Z` }),
  (r) => svg("path", { d: `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0Z` }),
];

const colour = (method) => COLOURS[methods.indexOf(method) % COLOURS.length];

function shape(method, r) {
  const round = Math.floor(methods.indexOf(method) / COLOURS.length);
  return SHAPES[round % SHAPES.length](r);
}

function mark(method) {
  const fill = colour(method);
  const attributes = { class: "mark", viewBox: "-8 -8 16 16", fill, "aria-hidden": "true" };
  return svg("svg", attributes, shape(method, 5.5));
}

start();
