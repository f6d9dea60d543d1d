"use strict";
// Shared by the pages: their data, and functions that create elements.
const data = JSON.parse(document.getElementById("data").textContent);

const byId = (id) => document.getElementById(id);
const count = (n, what) => `${n.toLocaleString("en-US")} ${what}${n === 1 ? "" : "s"}`;

// An element with attributes, "on…" listeners and children; null children are skipped.
function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return filled(node, attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// A name with line-break opportunities after underscores.
const breakable = (name) =>
  el("span", {}, ...name.split(/(?<=_)/).flatMap((part) => [part, el("wbr")]));
