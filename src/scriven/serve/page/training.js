// Training: curves, samples and the plan, as they come.

import { call, element, find } from "./api.js";
import { fail, state } from "./app.js";

const EVERY = 2000; // milliseconds between two looks
const STEPS = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6, 7].map((power) => n * 10 ** power)).sort((a, b) => a - b);
let events = [], next = 0, timer = null, plots = {}, last = null;

export function start() {
  find("stop-training").addEventListener("click", () => ask("stop", {}, "saving ..."));
  find("finish-training").addEventListener("click", () => {
    const minutes = Math.max(0.1, Number(find("finish-minutes").value) || 1);
    ask("finish", { seconds: 60 * minutes }, `the learning rate falls: ${minutes} minutes left`);
  });
}

async function ask(what, body, answer) {
  try {
    await call(`/api/training/${what}`, { model: state.model.id, ...body });
    find("state").textContent = answer;
  } catch (error) { fail(error); }
}

export function modelChanged() {
  events = []; next = 0; last = null;
  find("samples").replaceChildren();
  if (!find("training").hidden) show();
}

export function show() {
  clearTimeout(timer);
  last = null; // draw anew
  for (const plot of Object.values(plots)) plot.destroy();
  plots = {};
  look();
}

async function look() {
  // an idle page asks for nothing
  if (find("training").hidden) return;
  if (!document.hidden) {
    const model = state.model.id;
    try {
      const found = await call(`/api/training?model=${encodeURIComponent(model)}&after=${next}`);
      if (model !== state.model.id) return;
      if (found.next < next) events = [];
      events.push(...found.events);
      next = found.next;
      const isNew = found.events.length > 0 || found.running !== last?.running;
      last = found;
      if (isNew) draw(found);
    } catch (error) { fail(error); }
  }
  if (!last || last.running || !last.finished) timer = setTimeout(look, EVERY);
}

function draw(found) {
  const steps = events.filter((each) => each.event === "step");
  const scores = events.filter((each) => each.event === "evaluation");
  const now = steps.at(-1), budget = found.budget ?? {};
  const part = now && budget.unit === "seconds" ? now.seconds / budget.amount
    : now && budget.unit === "steps" ? now.step / budget.amount : null;
  const left = part ? now.seconds * (1 / part - 1) : null;
  const pieces = [found.running ? "training now" : found.finished ? "finished" : "not finished"];
  if (now) pieces.push(`step ${now.step}`, `loss ${now.loss?.toFixed(3)}`, `${now.tokens_per_second} tokens a second`);
  if (found.running && left !== null) pieces.push(`${Math.max(0, left / 60).toFixed(1)} minutes left`);
  find("state").textContent = pieces.join(" · ");
  find("training-buttons").hidden = !found.running;
  curve("loss", steps, scores, "loss", found.baseline);
  curve("accuracy", steps, scores, "accuracy", null);
  const samples = events.filter((each) => each.event === "sample").slice(-10).reverse();
  find("samples").replaceChildren(...samples.map((each) => element("li", {},
    element("span", { class: "faint" }, `step ${each.step}: `), (each.prompt ?? "") + each.text)));
  find("plan").replaceChildren(...Object.entries(found.reasons).flatMap(([name, reason]) => [
    element("dt", {}, name), element("dd", {}, reason)]));
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function curve(id, steps, scores, field, baseline) {
  const at = [...new Set([...steps, ...scores].map((each) => each.step))].sort((a, b) => a - b);
  const by = (rows) => {
    const known = new Map(rows.map((each) => [each.step, each[field]]));
    return at.map((step) => known.get(step) ?? null);
  };
  const counted = baseline !== null && baseline !== undefined;
  const data = [at, by(steps), by(scores), ...(counted ? [at.map(() => baseline)] : [])];
  if (plots[id]) { plots[id].setData(data); return; }
  const box = find(id), axis = { stroke: colour("--ink"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } };
  plots[id] = new uPlot({
    width: box.clientWidth || 320, height: 240, scales: { x: { time: false } },
    legend: { live: false },
    axes: [{ ...axis, label: "step", incrs: STEPS }, axis],
    series: [{ label: "step" },
      { label: "training", stroke: colour("--faint"), width: 1, spanGaps: true },
      { label: "validation", stroke: colour("--accent"), width: 2, spanGaps: true, points: { show: true } },
      ...(counted ? [{ label: "counting n-grams", stroke: colour("--warn"), dash: [6, 4], points: { show: false } }] : [])],
  }, data, box);
}
