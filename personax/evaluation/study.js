// One question at a time. The votes are the whole state: the next question is the first
// without a vote, and undo removes the last vote.

const PLACE = `personax study ${data.study}`; // key in localStorage
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" };
const QUESTIONS = {
  subject: (several) => `Which shows ${several ? "these subjects" : "this subject"} better?`,
  text: () => "Which fits the text better?",
};

let stores = true; // whether localStorage works
let started = false;
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
  started = state.votes.length > 0;
  save();
  draw();
}

function press(event) {
  // A held key votes once; Alt+← belongs to the browser.
  if (event.repeat || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Backspace") undo();
  else if (event.key === "Enter" && !started && event.target.tagName !== "BUTTON") begin();
  else if (KEYS[event.key] && started) vote(KEYS[event.key]);
  else return;
  event.preventDefault();
}

function begin() {
  started = true;
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
  const warning = "This deletes the votes of this voter unless you exported them. Continue?";
  if (!window.confirm(warning)) return;
  state = { voter: newVoter(), votes: [] };
  started = false;
  save();
  draw();
}

// --- View ---

function draw() {
  const [done, all] = [state.votes.length, data.questions.length];
  const question = data.questions[done];
  byId("intro").hidden = started;
  byId("question").hidden = !started || !question;
  byId("end").hidden = !started || Boolean(question);
  byId("forgetful").hidden = stores;
  byId("undo").hidden = done === 0;
  byId("progress").value = done / all;
  byId("position").textContent = started && question ? `${done + 1} of ${all}` : "";
  byId("exported").textContent = "";
  byId("tally").textContent = `All ${count(all, "question")} are answered. Please export the \
votes and send the file to the person who runs the study.`;
  document.activeElement.blur();
  if (started && question) drawQuestion(question);
}

function drawQuestion(question) {
  const { several, pictures } = data.references[question.subject];
  const kinds = [...new Set(data.questions.map((each) => each.kind))];
  const part = kinds.indexOf(question.kind) + 1;
  byId("part").textContent = kinds.length > 1 ? `Part ${part} of ${kinds.length}` : "";
  byId("task").textContent = QUESTIONS[question.kind](several);
  byId("prompt").textContent = `“${question.prompt}”`;
  byId("references").replaceChildren(
    ...pictures.map((src, i) => fitting(el("img", { alt: `Reference ${i + 1}` }), src)),
  );
  for (const side of ["left", "right"]) {
    fitting(document.querySelector(`[data-choice="${side}"] img`), question[side]);
  }
}

// Small pictures are enlarged without smoothing.
function fitting(image, src) {
  image.onload = () => image.classList.toggle("exact", image.naturalWidth <= 64);
  image.src = src;
  return image;
}

// --- Storage and export ---

function newVoter() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// null without stored votes, and for votes that do not match the questions.
function load() {
  try {
    const stored = JSON.parse(localStorage.getItem(PLACE));
    const fits = stored.votes.every(([id], i) => id === data.questions[i]?.id);
    return fits ? stored : null;
  } catch {
    return null;
  }
}

function save() {
  try {
    localStorage.setItem(PLACE, JSON.stringify(state));
  } catch {
    stores = false;
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

// CRC-32 of an ASCII text.
function crc32(text) {
  let sum = ~0;
  for (const letter of text) {
    sum ^= letter.charCodeAt(0);
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (~sum >>> 0).toString(16).padStart(8, "0");
}

start();
