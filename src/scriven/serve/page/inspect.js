// Look inside: attention of a head over the text, and the logit lens.

import { call, element, find, visible } from "./api.js";
import { clearError, fail, state } from "./app.js";

let seen = null;
let row = null;

export function start() {
  find("look").addEventListener("click", look);
  find("layer").addEventListener("change", look);
  find("head").addEventListener("change", draw);
}

export function modelChanged() {
  seen = row = null;
  find("layer").replaceChildren();
  find("head").replaceChildren();
  find("rows").replaceChildren();
  find("lens").replaceChildren();
  find("matrix").width = find("matrix").height = 0;
}

export function show() { if (seen) draw(); }

async function look() {
  clearError();
  try {
    seen = await call("/api/inspect", {
      model: state.model.id, text: find("look-text").value, layer: Number(find("layer").value || 0),
    });
    row = seen.tokens.length - 1;
    fill("layer", seen.layers, seen.layer);
    fill("head", seen.attention.length, Math.min(find("head").value || 0, seen.attention.length - 1));
    draw();
  } catch (error) { fail(error); }
}

function fill(id, count, chosen) {
  find(id).replaceChildren(...Array.from({ length: count }, (_, n) => element("option", { value: n }, String(n + 1))));
  find(id).value = chosen;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw() {
  const head = seen.attention[Number(find("head").value)] ?? [];
  const size = head.length, canvas = find("matrix");
  const cell = Math.max(3, Math.min(18, Math.floor(360 / Math.max(1, size))));
  canvas.width = canvas.height = size * cell;
  const paint = canvas.getContext("2d");
  paint.fillStyle = colour("--accent");
  head.forEach((weights, y) => weights.forEach((weight, x) => {
    paint.globalAlpha = Math.sqrt(weight); // small weights show too
    paint.fillRect(x * cell, y * cell, cell, cell);
  }));
  // the row of the chosen token, on the text itself
  const weights = head[row] ?? [];
  find("rows").replaceChildren(...seen.tokens.map((token, place) => {
    const w = weights[place] ?? 0, level = w > 0.5 ? 1 : w > 0.2 ? 2 : w > 0.05 ? 3 : 0;
    return element("span", {
      class: `token ${level ? `p${level}` : ""} ${place === row ? "chosen" : ""}`, role: "button", tabindex: 0,
      title: `${(100 * w).toFixed(1)} %`, onclick: () => { row = place; draw(); },
      onkeydown: (event) => { if (event.key === "Enter") { row = place; draw(); } },
    }, token);
  }));
  lens();
}

function lens() {
  const head = element("tr", {}, element("th", { scope: "row" }, "reads"),
    ...seen.tokens.map((token) => element("th", { scope: "col" }, visible(token))));
  const rows = seen.lens.map((layer, number) => {
    const name = number === 0 ? "embedding" : number === seen.lens.length - 1 ? `layer ${number}, says` : `layer ${number}`;
    return element("tr", {}, element("th", { scope: "row" }, name), ...layer.map((best) => {
      const [token, logprob] = best[0], p = Math.exp(logprob);
      const level = p > 0.5 ? 4 : p > 0.2 ? 3 : p > 0.05 ? 2 : 1;
      const others = best.map(([other, value]) => `${visible(other)} ${(100 * Math.exp(value)).toFixed(1)} %`).join("\n");
      return element("td", { class: `token p${level}`, title: others }, visible(token));
    }));
  });
  find("lens").replaceChildren(head, ...rows);
}
