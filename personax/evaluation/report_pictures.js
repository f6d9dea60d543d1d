// The pictures: by subject and prompt, with a card per method.

function drawPictures() {
  const pictures = byId("pictures");
  pictures.append(...subjects.map(subjectNode));
  byId("pictures-note").textContent = data.results.some((result) => result.samples.length)
    ? "Pictures at the same place of two cards have the same seed. Click a picture to " +
      "enlarge it; arrow keys move to the next."
    : "No pictures.";
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
  const results = data.results.filter((result) => result.subject === subject);
  const prompts = new Set(results.flatMap((result) => result.samples.map(([prompt]) => prompt)));
  const onload = ({ target }) => target.classList.toggle("exact", target.naturalWidth <= 64);
  const references = data.references[subject].map((src, i) =>
    el("img", { src, onload, alt: `${subject}, reference ${i + 1}` }),
  );
  const label = el("span", { class: "soft small" }, "References");
  return el(
    "section",
    { class: "subject", "data-subject": subject, "aria-label": subject },
    el("h3", {}, subject, el("small", {}, results[0].kind)),
    references.length ? el("div", { class: "references" }, label, ...references) : null,
    ...[...prompts].map((prompt) => promptNode(results, prompt)),
  );
}

function promptNode(results, prompt) {
  const numbers = (result) =>
    result.samples.flatMap((sample, i) => (sample[0] === prompt ? [i] : []));
  const own = results.filter((result) => numbers(result).length);
  const seeds = new Set(
    own.flatMap((result) => numbers(result).map((i) => result.samples[i][1])),
  );
  const label = `seed${seeds.size > 1 ? "s" : ""} ${[...seeds].join(", ")}`;
  return el(
    "div",
    { class: "prompt" },
    el("h4", {}, data.prompts[prompt], el("small", {}, label)),
    el("div", { class: "cards" }, ...own.map((result) => card(result, numbers(result)))),
  );
}

function card(result, numbers) {
  const n = numbers.length;
  const across = n < 4 ? n : Math.ceil(Math.sqrt(n));
  const style = `--tiles: ${across}; ${sides(result, result.exact ? 96 : 128)}`;
  return el(
    "figure",
    { class: "card", "data-method": result.method, style },
    el("figcaption", {}, mark(result.method), breakable(result.method)),
    el("div", { class: "tiles" }, ...numbers.map((i) => pictureNode(result, i))),
  );
}

// Small pictures are enlarged by an integer factor.
function sides(result, most) {
  const [width, height] = result.tile;
  const exactly = most / Math.max(width, height);
  const scale = result.exact ? Math.max(1, Math.floor(exactly)) : exactly;
  return `--width: ${Math.round(width * scale)}px; --ratio: ${width} / ${height}`;
}

function pictureNode(result, i) {
  const [prompt, seed, index] = result.samples[i];
  const title = `${result.method}: ${data.prompts[prompt]}, seed ${seed}, picture ${index}`;
  const node = el(
    "button",
    { type: "button", class: "picture", tabindex: -1, title },
    tile(result, i, title),
  );
  node.sample = { result, i };
  return node;
}

// One tile of the result's sheet.
function tile(result, i, label) {
  const { across, down } = result;
  const part = (at, all) => `${all > 1 ? (100 * at) / (all - 1) : 0}%`;
  const position = `${part(i % across, across)} ${part(Math.floor(i / across), down)}`;
  const style = `--across: ${across}; --down: ${down}; background-position: ${position}`;
  const names = `tile ${result.sheet} ${result.exact ? "exact" : ""}`;
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
    const visiblePrompt = node.querySelector(".prompt:not([hidden])");
    node.hidden = !visiblePrompt || !chosen.subjects.has(node.dataset.subject);
    // One tab stop per subject; arrow keys move on from there.
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
  const { result, i } = picture.sample;
  const [prompt, seed, index] = result.samples[i];
  byId("enlarged-picture").replaceChildren(tile(result, i, picture.title));
  byId("enlarged-picture").style = sides(result, Math.min(480, window.innerWidth - 80));
  byId("enlarged-method").textContent = `${result.method} · ${result.subject}`;
  byId("enlarged-prompt").textContent = data.prompts[prompt];
  byId("enlarged-seed").textContent = `seed ${seed}, picture ${index}`;
  if (!byId("enlarged").open) byId("enlarged").showModal();
}
