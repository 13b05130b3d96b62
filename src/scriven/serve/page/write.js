// Write: the text goes on as one watches, and every token can be looked at and replaced.

import { call, element, find, stopped, stream, visible } from "./api.js";
import { clearError, fail, state } from "./app.js";

const SHOWN = ["temperature", "top_p", "min_p", "top_k", "repetition_penalty"];
const ALTERNATIVES = 10;
let tokens = [];       // {id, token, logprob, top}
let promptIds = [];
let history = [];      // earlier versions, for Undo
let running = null;

export function start() {
  const form = find("settings");
  const known = new Map(state.settings.map((each) => [each.name, each]));
  const rows = SHOWN.filter((name) => known.has(name)).map((name) => slider(known.get(name)));
  form.replaceChildren(
    number("max_tokens", "Tokens", 200, "How many tokens to write.", 1, 100000),
    number("seed", "Seed", 0, "The same seed gives the same text.", 0, 4294967295), ...rows);
  form.addEventListener("submit", (event) => event.preventDefault());
  find("go").addEventListener("click", begin);
  find("more").addEventListener("click", () => { remember(); generate(); });
  find("stop").addEventListener("click", () => running?.abort());
  find("undo").addEventListener("click", undo);
  find("link").addEventListener("click", copyLink);
  find("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) begin();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".popover, .token")) hide();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(true); });
}

export function modelChanged(model) {
  promptIds = []; tokens = []; history = [];
  find("go").disabled = !(model.writes || model.translates);
  for (const [name, value] of Object.entries(model.defaults)) set(name, value);
  draw();
}

export function restore(link) {
  if (link.has("prompt")) find("prompt").value = link.get("prompt");
  for (const name of ["max_tokens", "seed", ...SHOWN]) if (link.has(name)) set(name, link.get(name));
}

function number(name, title, value, help, low, high) {
  return element("label", {}, element("span", { class: "row" }, title),
    element("input", { type: "number", id: `set-${name}`, min: low, max: high, value }),
    element("small", {}, ` ${help}`));
}

function slider({ name, help, default: value, low, high, whole }) {
  const top = { temperature: 2, top_k: 100, repetition_penalty: 2 }[name] ?? high;
  const shown = element("output", { for: `set-${name}` }, String(value));
  const input = element("input", {
    type: "range", id: `set-${name}`, min: low, max: top, step: whole ? 1 : 0.01, value,
    oninput: () => { shown.value = input.value; },
  });
  return element("label", {}, element("span", { class: "row" }, name.replaceAll("_", " "), shown),
    input, element("small", {}, help));
}

function set(name, value) {
  const input = find(`set-${name}`);
  if (!input) return;
  input.value = value;
  input.dispatchEvent(new Event("input"));
}

export function sampling() {
  const found = {};
  for (const name of SHOWN) {
    const input = find(`set-${name}`);
    if (input) found[name] = Number(input.value);
  }
  // 0 lies outside the ranges of these two; the nearest number inside says the same
  if ("top_p" in found) found.top_p = Math.max(found.top_p, 0.01);
  if ("repetition_penalty" in found) found.repetition_penalty = Math.max(found.repetition_penalty, 0.01);
  return found;
}

async function begin() {
  remember();
  tokens = [];
  try {
    const found = await call("/api/tokenize", { model: state.model.id, text: find("prompt").value });
    promptIds = found.ids;
    await generate();
  } catch (error) { fail(error); }
}

async function generate() {
  running?.abort();
  const mine = running = new AbortController();
  clearError(); hide();
  busy(true);
  const began = performance.now(), before = tokens.length;
  try {
    const body = {
      model: state.model.id, prompt: [...promptIds, ...tokens.map((each) => each.id)],
      max_tokens: Number(find("set-max_tokens").value), seed: Number(find("set-seed").value) + before,
      logprobs: ALTERNATIVES, return_token_ids: true, truncation: "auto", ...sampling(),
    };
    if (!body.prompt.length) body.prompt = "";
    for await (const event of stream("/v1/completions", body, mine.signal)) {
      const choice = event.choices[0];
      if (!choice?.logprobs) continue;
      choice.logprobs.tokens.forEach((token, place) => tokens.push({
        id: choice.token_ids[place], token, logprob: choice.logprobs.token_logprobs[place],
        top: choice.logprobs.top[place],
      }));
      draw();
      const rate = (tokens.length - before) / ((performance.now() - began) / 1000);
      find("speed").textContent = `${tokens.length - before} tokens, ${rate.toFixed(0)} a second`;
    }
  } catch (error) { if (!stopped(error)) fail(error); }
  if (running === mine) { running = null; busy(false); }
}

function busy(on) {
  find("stop").hidden = !on;
  find("go").hidden = find("more").hidden = on;
}

function remember() { history.push({ promptIds, tokens: [...tokens] }); }

function undo() {
  running?.abort();
  const before = history.pop();
  if (before) ({ promptIds, tokens } = before);
  draw();
}

function draw() {
  const box = find("text");
  // tokens that are there already stay, so that the focus and the selection do
  const same = box.dataset.shown === String(promptIds) ? box.querySelectorAll(".token") : [];
  if (!same.length || same.length > tokens.length) {
    box.replaceChildren(element("span", { class: "before" }, find("prompt").value));
    box.dataset.shown = String(promptIds);
  }
  const have = box.querySelectorAll(".token").length;
  tokens.slice(have).forEach((each, index) => box.append(span(each, have + index)));
  find("more").disabled = find("undo").disabled = !history.length;
}

function span(each, place) {
  const p = Math.exp(each.logprob);
  const level = p > 0.5 ? 4 : p > 0.2 ? 3 : p > 0.05 ? 2 : 1;
  const open = (event) => offer(event.currentTarget, place);
  return element("span", {
    class: `token p${level}`, role: "button", tabindex: 0,
    "aria-label": `${visible(each.token)}, ${(100 * p).toFixed(0)} percent`,
    onclick: open, onmouseenter: open,
    onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(event); find("alternatives").querySelector("button")?.focus(); } },
  }, each.token);
}

function offer(target, place) {
  const box = find("alternatives"), each = tokens[place];
  if (!each) return;
  document.querySelector(".token.chosen")?.classList.remove("chosen");
  target.classList.add("chosen");
  box.replaceChildren(...each.top.map((other) => element("button", {
    type: "button", "aria-current": other.id === each.id, onclick: () => replace(place, other),
  }, element("span", {}, visible(other.token)), element("span", {}, `${(100 * Math.exp(other.logprob)).toFixed(1)} %`))));
  box.hidden = false;
  const at = target.getBoundingClientRect();
  const left = Math.min(at.left, document.documentElement.clientWidth - box.offsetWidth - 8);
  box.style.left = `${Math.max(8, left) + scrollX}px`;
  box.style.top = `${at.bottom + scrollY + 4}px`;
}

function hide(back = false) {
  find("alternatives").hidden = true;
  const chosen = document.querySelector(".token.chosen");
  chosen?.classList.remove("chosen");
  if (back) chosen?.focus();
}

// Goes on from another token in this place.
function replace(place, other) {
  running?.abort();
  remember();
  tokens = [...tokens.slice(0, place), { ...other, top: tokens[place].top }];
  find("text").dataset.shown = "";
  draw();
  generate();
}

async function copyLink() {
  const link = new URLSearchParams({ view: "write", model: state.model.id, prompt: find("prompt").value });
  for (const name of ["max_tokens", "seed", ...SHOWN]) link.set(name, find(`set-${name}`)?.value ?? "");
  location.hash = link;
  try { await navigator.clipboard.writeText(location.href); } catch { /* the address has it */ }
}
