// The table: a row for each method, sorted by the column whose head was clicked.

const NONE = "–";
const order = { key: null, ascending: false };

function drawHead() {
  const heads = [
    head({ key: "method", title: "Method", better: "" }),
    ...data.columns.map(head),
  ];
  byId("table").append(el("table", {}, el("thead", {}, el("tr", {}, ...heads))));
}

function head(column) {
  const better = column.better && `, ${column.better} is better`;
  const button = el(
    "button",
    { type: "button", "aria-label": column.title + better, onclick: () => sort(column) },
    column.title + arrow(column),
  );
  return el("th", { scope: "col", "data-key": column.key }, button);
}

// The first click brings the best to the top, or the first by name; the next turns.
function sort({ key, better }) {
  const first = key === "method" || better === "lower";
  order.ascending = order.key === key ? !order.ascending : first;
  order.key = key;
  for (const node of document.querySelectorAll("thead th")) {
    if (node.dataset.key === key) {
      node.setAttribute("aria-sort", order.ascending ? "ascending" : "descending");
    } else {
      node.removeAttribute("aria-sort");
    }
  }
  drawRows(means(data.cells.filter(isChosen)));
}

function drawRows(rows) {
  const table = document.querySelector("table");
  for (const body of [...table.tBodies]) body.remove();
  const groups = [...new Set(rows.map((row) => row.group))];
  for (const group of groups) {
    const attributes = { colspan: data.columns.length + 1, scope: "rowgroup" };
    const name = el("th", attributes, data.groups[group]);
    const title = groups.length > 1 ? el("tr", { class: "group" }, name) : null;
    const own = sorted(rows.filter((row) => row.group === group));
    table.append(el("tbody", {}, title, ...own.map(tableRow)));
  }
}

function sorted(rows) {
  if (!order.key) return rows;
  const sign = order.ascending ? 1 : -1;
  if (order.key === "method") {
    return rows.sort((a, b) => sign * a.method.localeCompare(b.method));
  }
  const value = (row) => row.means[order.key]?.value;
  const known = rows.filter((row) => value(row) !== undefined);
  const others = rows.filter((row) => value(row) === undefined);
  return [...known.sort((a, b) => sign * (value(a) - value(b))), ...others];
}

function tableRow(row) {
  const names = row.apart ? "name apart" : "name";
  const name = el("div", { class: names }, mark(row.method), breakable(row.method));
  return el(
    "tr",
    {
      "data-name": nameOf(row),
      onmouseenter: () => lightPoint(row, true),
      onmouseleave: () => lightPoint(row, false),
    },
    el("th", { scope: "row" }, name),
    ...data.columns.map((column) => field(column, row.means[column.key])),
  );
}

function field(column, mean) {
  if (!mean) return el("td", { class: "soft", title: "not measured" }, NONE);
  const { error, whole, subjects } = mean;
  return el(
    "td",
    {},
    el("span", { class: ["plain", "best", "second"][mean.rank] }, shown(column, mean.value)),
    whole ? null : el("span", { title: `over ${count(subjects, "subject")}` }, "†"),
    error === null ? null : el("span", { class: "error" }, ` ± ${shown(column, error)}`),
  );
}

const nameOf = (row) => `${row.group} ${row.method}`;

function drawNotes(rows) {
  const found = rows.flatMap((row) => Object.values(row.means));
  const missing = (row) => data.columns.some((column) => !row.means[column.key]);
  const said = {
    "Means over the chosen subjects.": found.length,
    "± is the standard error, √(Σ e²) / n of the n subjects’ own errors e: how far other \
pictures of the same subjects would move the mean.": found.some((mean) => mean.error !== null),
    "Best bold, second underlined.": found.some((mean) => mean.rank),
    "† is over fewer subjects than others, and not ranked.": found.some((mean) => !mean.whole),
    "Italic rows are a floor or a ceiling, and not ranked.": rows.some((row) => row.apart),
    [`${NONE} was not measured.`]: rows.some(missing),
  };
  byId("notes").textContent = Object.keys(said).filter((text) => said[text]).join(" ");
}
