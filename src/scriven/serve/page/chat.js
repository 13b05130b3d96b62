// Chat, for models that were tuned for it.

import { element, find, stopped, stream } from "./api.js";
import { clearError, fail, state } from "./app.js";
import { sampling } from "./write.js";

let messages = [];
let running = null;
let attempt = 0; // another seed for each answer

export function start() {
  find("ask").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  find("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); send(); }
  });
  find("regenerate").addEventListener("click", () => {
    if (messages.at(-1)?.role === "assistant") messages.pop();
    if (messages.length) answer();
  });
  find("clear").addEventListener("click", () => { running?.abort(); messages = []; draw(); });
  find("chat-stop").addEventListener("click", () => running?.abort());
  find("save").addEventListener("click", save);
}

export function modelChanged(model) {
  find("no-chat").hidden = model.chats;
  find("no-chat").replaceChildren(`${model.id} was not tuned for chat. This makes a model that is: `,
    element("code", {}, `scriven finetune ${model.id} talks.jsonl --task chat`));
  find("system").closest("details").hidden = !model.chats;
  find("ask").hidden = !model.chats;
  messages = [];
  draw();
}

function send() {
  const text = find("question").value.trim();
  if (!text || running) return;
  messages.push({ role: "user", content: text });
  find("question").value = "";
  answer();
}

function whole() {
  const system = find("system").value.trim();
  return system ? [{ role: "system", content: system }, ...messages] : messages;
}

async function answer() {
  clearError();
  const mine = running = new AbortController();
  find("chat-stop").hidden = false;
  const body = { model: state.model.id, messages: whole(), truncation: "auto", seed: attempt++, ...sampling() };
  const said = { role: "assistant", content: "" };
  messages.push(said);
  draw();
  try {
    for await (const event of stream("/v1/chat/completions", body, mine.signal)) {
      said.content += event.choices[0]?.delta?.content ?? "";
      find("messages").lastChild.firstChild.textContent = said.content;
    }
  } catch (error) { if (!stopped(error)) fail(error); }
  if (!said.content) messages.splice(messages.indexOf(said), 1);
  running = null;
  find("chat-stop").hidden = true;
  draw();
}

function draw() {
  find("messages").replaceChildren(...messages.map((each, place) => {
    const box = element("div", { class: `message ${each.role}` }, element("span", {}, each.content));
    if (each.role === "user") {
      box.append(element("button", { type: "button", "aria-label": "Edit this message", onclick: () => edit(place) }, "Edit"));
    }
    return box;
  }));
  find("regenerate").disabled = find("save").disabled = !messages.length;
}

function edit(place) {
  running?.abort();
  find("question").value = messages[place].content;
  messages = messages.slice(0, place);
  draw();
  find("question").focus();
}

// One conversation a line, as `scriven finetune --task chat` reads it.
function save() {
  const line = JSON.stringify({ messages: whole() }) + "\n";
  const link = element("a", { download: "conversation.jsonl", href: URL.createObjectURL(new Blob([line], { type: "application/jsonl" })) });
  link.click();
  URL.revokeObjectURL(link.href);
}
