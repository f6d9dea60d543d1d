// The pictures: by subject, by prompt, and a card for each method.

function drawPictures() {
  const pictures = byId("pictures");
  pictures.append(...subjects.map(subjectNode));
  byId("pictures-note").textContent = data.cells.some((cell) => cell.shots.length)
    ? "In the same place of two cards stands the same picture of the same seed. A click " +
      "enlarges one, and arrow keys go on to the next."
    : "None were kept.";
  pictures.addEventListener("click", (event) => {
    const picture = event.target.closest(".picture");
    if (picture) enlarge(picture);
  });
  pictures.addEventListener("keydown", (event) => {
    const picture = event.target.closest(".picture");
    if (picture) neighbour(picture, event.key)?.focus();
  });
  const dialog = byId("enlarged");
  dialog.addEventListener("keydown", (event) => {
    const picture = neighbour(enlarge.picture, event.key);
    if (picture) enlarge(picture);
  });
  dialog.addEventListener("close", () => enlarge.picture.focus());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

function subjectNode(subject) {
  const cells = data.cells.filter((cell) => cell.subject === subject);
  const prompts = new Set(cells.flatMap((cell) => cell.shots.map(([prompt]) => prompt)));
  const onload = ({ target }) => target.classList.toggle("exact", target.naturalWidth <= 64);
  const references = data.references[subject].map((src, i) =>
    el("img", { src, onload, alt: `${subject}, reference ${i + 1}` }),
  );
  const said = el("span", { class: "soft small" }, "References");
  return el(
    "section",
    { class: "subject", "data-subject": subject, "aria-label": subject },
    el("h3", {}, subject, el("small", {}, cells[0].kind)),
    references.length ? el("div", { class: "references" }, said, ...references) : null,
    ...[...prompts].map((prompt) => promptNode(cells, prompt)),
  );
}

function promptNode(cells, prompt) {
  const numbers = (cell) =>
    cell.shots.flatMap((shot, i) => (shot[0] === prompt ? [i] : []));
  const own = cells.filter((cell) => numbers(cell).length);
  const seeds = new Set(
    own.flatMap((cell) => numbers(cell).map((i) => cell.shots[i][1])),
  );
  const said = `seed${seeds.size > 1 ? "s" : ""} ${[...seeds].join(", ")}`;
  return el(
    "div",
    { class: "prompt" },
    el("h4", {}, data.prompts[prompt], el("small", {}, said)),
    el("div", { class: "cards" }, ...own.map((cell) => card(cell, numbers(cell)))),
  );
}

function card(cell, numbers) {
  const n = numbers.length;
  const across = n < 4 ? n : Math.ceil(Math.sqrt(n));
  const style = `--tiles: ${across}; ${sides(cell, cell.exact ? 96 : 128)}`;
  return el(
    "figure",
    { class: "card", "data-method": cell.method, style },
    el("figcaption", {}, mark(cell.method), breakable(cell.method)),
    el("div", { class: "tiles" }, ...numbers.map((i) => pictureNode(cell, i))),
  );
}

// Small pictures are enlarged by a whole number.
function sides(cell, most) {
  const [width, height] = cell.tile;
  const exactly = most / Math.max(width, height);
  const times = cell.exact ? Math.max(1, Math.floor(exactly)) : exactly;
  return `--width: ${Math.round(width * times)}px; --ratio: ${width} / ${height}`;
}

function pictureNode(cell, i) {
  const [prompt, seed, index] = cell.shots[i];
  const title = `${cell.method}: ${data.prompts[prompt]}, seed ${seed}, picture ${index}`;
  const node = el(
    "button",
    { type: "button", class: "picture", tabindex: -1, title },
    tile(cell, i, title),
  );
  node.shot = { cell, i };
  return node;
}

// A window on the cell's sheet.
function tile(cell, i, label) {
  const { across, down } = cell;
  const part = (at, all) => `${all > 1 ? (100 * at) / (all - 1) : 0}%`;
  const position = `${part(i % across, across)} ${part(Math.floor(i / across), down)}`;
  const style = `--across: ${across}; --down: ${down}; background-position: ${position}`;
  const names = `tile ${cell.sheet} ${cell.exact ? "exact" : ""}`;
  return el("span", { role: "img", "aria-label": label, class: names, style });
}

function filterPictures() {
  for (const node of document.querySelectorAll(".card")) {
    node.hidden = !chosen.methods.has(node.dataset.method);
  }
  for (const node of document.querySelectorAll(".prompt")) {
    node.hidden = !node.querySelector(".card:not([hidden])");
  }
  for (const node of document.querySelectorAll(".subject")) {
    const here = node.querySelector(".prompt:not([hidden])");
    node.hidden = !here || !chosen.subjects.has(node.dataset.subject);
    // One stop for the tabulator in each subject; arrow keys go on from there.
    visible(node).forEach((picture, i) => (picture.tabIndex = i ? -1 : 0));
  }
}

const visible = (node) => [...node.querySelectorAll(".card:not([hidden]) .picture")];

function neighbour(picture, key) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
  const sections = [...document.querySelectorAll(".subject:not([hidden])")];
  const all = sections.flatMap(visible);
  return step && all[all.indexOf(picture) + step];
}

function enlarge(picture) {
  enlarge.picture = picture;
  const { cell, i } = picture.shot;
  const [prompt, seed, index] = cell.shots[i];
  byId("enlarged-picture").replaceChildren(tile(cell, i, picture.title));
  byId("enlarged-picture").style = sides(cell, Math.min(480, window.innerWidth - 80));
  byId("enlarged-method").textContent = `${cell.method} · ${cell.subject}`;
  byId("enlarged-prompt").textContent = data.prompts[prompt];
  byId("enlarged-seed").textContent = `seed ${seed}, picture ${index}`;
  if (!byId("enlarged").open) byId("enlarged").showModal();
}
