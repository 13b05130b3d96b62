// Compare: two models go on with the same text and the same seed, side by side.

import { find, stopped, stream } from "./api.js";
import { clearError, fail } from "./app.js";
import { sampling } from "./write.js";

let running = null;

export function start() {
  find("compare-go").addEventListener("click", both);
  find("compare-stop").addEventListener("click", () => running?.abort());
}

async function both() {
  running?.abort();
  clearError();
  const mine = running = new AbortController();
  find("compare-stop").hidden = false;
  await Promise.all(["left", "right"].map((side) => one(side, mine.signal)));
  find("compare-stop").hidden = true;
}

async function one(side, signal) {
  const box = find(`${side}-text`), prompt = find("compare-prompt").value;
  box.textContent = prompt;
  try {
    const body = {
      model: find(side).value, prompt, seed: Number(find("compare-seed").value),
      max_tokens: Number(find("set-max_tokens").value), truncation: "auto", ...sampling(),
    };
    for await (const event of stream("/v1/completions", body, signal)) {
      box.textContent += event.choices[0]?.text ?? "";
    }
  } catch (error) { if (!stopped(error)) fail(error); }
}
