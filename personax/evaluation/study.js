// One question at a time. The votes are all the state: the next question is the first
// without one, and undoing takes the last one back.

const PLACE = `personax study ${data.study}`; // in the browser's storage
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" };
const ASKED = {
  subject: (several) => `Which shows ${several ? "these subjects" : "this subject"} better?`,
  text: () => "Which fits the text better?",
};

let keeps = true; // whether the browser stores anything
let begun = false;
let state = load() ?? { voter: newVoter(), votes: [] };

function start() {
  byId("amount").textContent = count(data.questions.length, "pair");
  byId("begin").addEventListener("click", begin);
  byId("undo").addEventListener("click", undo);
  byId("export").addEventListener("click", download);
  byId("another").addEventListener("click", startAgain);
  for (const button of document.querySelectorAll(".choice")) {
    button.addEventListener("click", () => vote(button.dataset.choice));
  }
  document.addEventListener("keydown", press);
  begun = state.votes.length > 0;
  save();
  draw();
}

function press(event) {
  // A key that is held down votes once, and Alt and ← is the browser's.
  if (event.repeat || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Backspace") undo();
  else if (event.key === "Enter" && !begun && event.target.tagName !== "BUTTON") begin();
  else if (KEYS[event.key] && begun) vote(KEYS[event.key]);
  else return;
  event.preventDefault();
}

function begin() {
  begun = true;
  draw();
}

function vote(choice) {
  const question = data.questions[state.votes.length];
  if (!question) return;
  state.votes.push([question.id, choice]);
  save();
  draw();
}

function undo() {
  state.votes.pop();
  save();
  draw();
}

function startAgain() {
  const said = "The votes of this voter are forgotten, unless you have exported them. Go on?";
  if (!window.confirm(said)) return;
  state = { voter: newVoter(), votes: [] };
  begun = false;
  save();
  draw();
}

// --- What is seen ---

function draw() {
  const [done, all] = [state.votes.length, data.questions.length];
  const question = data.questions[done];
  byId("intro").hidden = begun;
  byId("question").hidden = !begun || !question;
  byId("end").hidden = !begun || Boolean(question);
  byId("forgetful").hidden = keeps;
  byId("undo").hidden = done === 0;
  byId("progress").value = done / all;
  byId("position").textContent = begun && question ? `${done + 1} of ${all}` : "";
  byId("exported").textContent = "";
  byId("tally").textContent = `All ${count(all, "question")} are answered. Please export the \
votes and send the file to whoever asked you.`;
  document.activeElement.blur();
  if (begun && question) drawQuestion(question);
}

function drawQuestion(question) {
  const { several, pictures } = data.references[question.subject];
  const kinds = [...new Set(data.questions.map((each) => each.kind))];
  const part = kinds.indexOf(question.kind) + 1;
  byId("part").textContent = kinds.length > 1 ? `Part ${part} of ${kinds.length}` : "";
  byId("asked").textContent = ASKED[question.kind](several);
  byId("prompt").textContent = `“${question.prompt}”`;
  byId("references").replaceChildren(
    ...pictures.map((src, i) => fitting(el("img", { alt: `Reference ${i + 1}` }), src)),
  );
  for (const side of ["left", "right"]) {
    fitting(document.querySelector(`[data-choice="${side}"] img`), question[side]);
  }
}

// Small pictures are enlarged pixel for pixel.
function fitting(image, src) {
  image.onload = () => image.classList.toggle("exact", image.naturalWidth <= 64);
  image.src = src;
  return image;
}

// --- What is kept ---

function newVoter() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// null where nothing was kept, or nothing that these questions could have had.
function load() {
  try {
    const found = JSON.parse(localStorage.getItem(PLACE));
    const fits = found.votes.every(([id], i) => id === data.questions[i]?.id);
    return fits ? found : null;
  } catch {
    return null;
  }
}

function save() {
  try {
    localStorage.setItem(PLACE, JSON.stringify(state));
  } catch {
    keeps = false;
  }
}

function download() {
  const { voter, votes } = state;
  const lines = votes.map(([id, choice]) => `${id} ${choice}\n`).join("");
  const sum = crc32(`${data.study}\n${voter}\n${lines}`);
  const record = { format: data.format, study: data.study, voter, votes, sum };
  const blob = new Blob([JSON.stringify(record, null, 1)], { type: "application/json" });
  const link = el("a", { href: URL.createObjectURL(blob), download: `votes-${voter}.json` });
  link.click();
  URL.revokeObjectURL(link.href);
  byId("exported").textContent = `Exported as ${link.download}.`;
}

// The checksum of zip and PNG, of a text in ASCII.
function crc32(text) {
  let sum = ~0;
  for (const letter of text) {
    sum ^= letter.charCodeAt(0);
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (~sum >>> 0).toString(16).padStart(8, "0");
}

start();
