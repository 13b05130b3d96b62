// The page: the model, the views and what they share.

import { call, element, find } from "./api.js";
import * as write from "./write.js";
import * as chat from "./chat.js";
import * as inspect from "./inspect.js";
import * as compare from "./compare.js";
import * as training from "./training.js";

const views = { write, chat, inspect, compare, training };
export const state = { models: [], settings: [], model: null };

export function fail(error) {
  find("error").textContent = error.message;
  find("error").hidden = false;
}
export function clearError() { find("error").hidden = true; }

function show(name, focus = false) {
  for (const each of Object.keys(views)) {
    const chosen = each === name, tab = find(`tab-${each}`);
    find(each).hidden = !chosen;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen && focus) tab.focus();
  }
  state.view = name;
  clearError();
  views[name].show?.();
}

function describe(model) {
  const millions = (model.parameters / 1e6).toPrecision(3);
  const kind = model.finished ? "" : " · still training";
  find("about").textContent = `${model.architecture} · ${millions} M parameters · context ${model.context_length} · ${model.task}${kind}`;
}

function choose(id) {
  state.model = state.models.find((each) => each.id === id) ?? state.models[0];
  find("model").value = state.model.id;
  describe(state.model);
  for (const view of Object.values(views)) view.modelChanged?.(state.model);
}

async function begin() {
  const found = await call("/api/models");
  state.models = found.models;
  state.settings = found.settings;
  for (const id of ["model", "left", "right"]) {
    find(id).replaceChildren(...state.models.map((each) => element("option", { value: each.id }, each.id)));
  }
  if (state.models.length > 1) find("right").value = state.models[1].id;
  for (const view of Object.values(views)) view.start?.(state);
  const link = new URLSearchParams(location.hash.slice(1));
  choose(link.get("model"));
  write.restore(link);
  const first = state.model.writes ? "write" : state.model.chats ? "chat" : "inspect";
  show(views[link.get("view")] ? link.get("view") : first);
}

find("model").addEventListener("change", (event) => choose(event.target.value));
find("reload").addEventListener("click", async () => {
  try {
    const model = await call("/api/reload", { model: state.model.id });
    Object.assign(state.model, model);
    describe(model);
  } catch (error) { fail(error); }
});
find("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  views[state.view].show?.();
});
const tabs = Object.keys(views);
for (const [place, name] of tabs.entries()) {
  find(`tab-${name}`).addEventListener("click", () => show(name));
  find(`tab-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) show(tabs[(place + step + tabs.length) % tabs.length], true);
  });
}
begin().catch(fail);
