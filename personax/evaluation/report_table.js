// The table of means, sorted by the clicked head and filtered by method.

const NONE = "–";
const order = { key: null, ascending: false };

function drawTable() {
  const heads = [{ key: "method", title: "Method", better: "" }, ...data.columns].map(head);
  const groups = [...new Set(data.rows.map((row) => row.group))];
  const bodies = groups.map((group) => {
    const attributes = { colspan: data.columns.length + 1, scope: "rowgroup" };
    const name = el("th", attributes, data.groups[group]);
    const title = groups.length > 1 ? el("tr", { class: "group" }, name) : null;
    const rows = data.rows.filter((row) => row.group === group);
    return el("tbody", {}, title, ...rows.map(tableRow));
  });
  const top = el("thead", {}, el("tr", {}, ...heads));
  byId("table").append(el("table", {}, top, ...bodies));
  const missing = data.rows.some((row) => data.columns.some(({ key }) => !row.means[key]));
  byId("notes").textContent = data.notes + (missing ? ` ${NONE} was not measured.` : "");
}

function head(column) {
  const better = column.better && `, ${column.better} is better`;
  const button = el(
    "button",
    { type: "button", "aria-label": column.title + better, onclick: () => sort(column) },
    column.title,
  );
  return el("th", { scope: "col", "data-key": column.key }, button);
}

// The first click puts the best at the top, or the first name; the next one reverses.
function sort({ key, better }) {
  const ascending = key === "method" || better === "lower";
  order.ascending = order.key === key ? !order.ascending : ascending;
  order.key = key;
  for (const node of document.querySelectorAll("thead th")) {
    if (node.dataset.key === key) {
      node.setAttribute("aria-sort", order.ascending ? "ascending" : "descending");
    } else {
      node.removeAttribute("aria-sort");
    }
  }
  for (const row of sorted(data.rows)) row.node.parentNode.append(row.node);
}

// Rows without a value stay at the end.
function sorted(rows) {
  const sign = order.ascending ? 1 : -1;
  if (order.key === "method") {
    return [...rows].sort((a, b) => sign * a.method.localeCompare(b.method));
  }
  const value = (row) => row.means[order.key]?.value;
  const known = rows.filter((row) => value(row) !== undefined);
  const others = rows.filter((row) => value(row) === undefined);
  return [...known.sort((a, b) => sign * (value(a) - value(b))), ...others];
}

function filterRows() {
  for (const row of data.rows) row.node.hidden = !chosen.methods.has(row.method);
  for (const body of document.querySelectorAll("tbody")) {
    body.hidden = !body.querySelector("tr:not(.group):not([hidden])");
  }
}

function tableRow(row) {
  const names = row.unranked ? "name unranked" : "name";
  const name = el("div", { class: names }, mark(row.method), breakable(row.method));
  row.node = el(
    "tr",
    {},
    el("th", { scope: "row" }, name),
    ...data.columns.map(({ key }) => field(row.means[key])),
  );
  return row.node;
}

function field(mean) {
  if (!mean) return el("td", { class: "soft", title: "not measured" }, NONE);
  const { text, error, rank, subjects } = mean;
  return el(
    "td",
    {},
    el("span", { class: ["plain", "best", "second"][rank] }, text),
    subjects && el("span", { title: `over ${count(subjects, "subject")}` }, "†"),
    error && el("span", { class: "error" }, ` ± ${error}`),
  );
}
