// Rows of means as means.py has them, of the cells that are given.

function means(cells) {
  return Object.keys(data.groups).flatMap((group) => {
    const own = cells.filter((cell) => cell.group === group);
    const rows = [...new Set(own.map((cell) => cell.method))].map((method) => ({
      method,
      group,
      apart: data.apart.includes(method),
      cells: own.filter((cell) => cell.method === method),
      means: {},
    }));
    for (const column of data.columns) average(column, rows);
    return rows;
  });
}

function average(column, rows) {
  const known = (row) => row.cells.filter((cell) => cell.values[column.key]);
  const compared = rows.filter((row) => !row.apart).flatMap(known);
  const everyone = new Set(compared.map((cell) => cell.subject));
  const ranked = [];
  for (const row of rows) {
    const own = known(row);
    if (!own.length) continue;
    const found = own.map((cell) => cell.values[column.key]);
    const n = found.length;
    const squares = found.reduce((sum, [, error]) => sum + error * error, 0);
    const mean = {
      value: found.reduce((sum, [value]) => sum + value, 0) / n,
      error: found.some(([, error]) => error === null) ? null : Math.sqrt(squares) / n,
      subjects: n,
      whole: [...everyone].every((name) => own.some((cell) => cell.subject === name)),
      rank: 0,
    };
    row.means[column.key] = mean;
    if (mean.whole && !row.apart) ranked.push(mean);
  }
  rank(column, ranked);
}

// What is shown as the same number has the same rank.
function rank(column, found) {
  if (!column.better) return;
  const sign = column.better === "higher" ? -1 : 1;
  found.sort((a, b) => sign * (a.value - b.value));
  const texts = [...new Set(found.map((mean) => shown(column, mean.value)))];
  if (texts.length < 2) return;
  for (const mean of found) {
    const place = texts.indexOf(shown(column, mean.value)) + 1;
    mean.rank = place <= 2 ? place : 0;
  }
}

function shown(column, value) {
  if (column.key !== "size") return fixed(value, column.digits);
  const units = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]];
  const [scale, unit] = units.find(([least]) => Math.abs(value) >= least) ?? units[3];
  const scaled = value / scale;
  const digits = unit === "B" ? 0 : scaled < 10 ? 2 : scaled < 100 ? 1 : 0;
  return `${fixed(scaled, digits)} ${unit}`;
}

function fixed(value, digits) {
  const [whole, part] = value.toFixed(digits).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return part === undefined ? grouped : `${grouped}.${part}`;
}

const arrow = (column) => ({ higher: " ↑", lower: " ↓" })[column.better] ?? "";
const withError = (column, { value, error }) =>
  shown(column, value) + (error === null ? "" : ` ± ${shown(column, error)}`);
