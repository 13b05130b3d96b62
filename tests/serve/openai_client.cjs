// What OpenAI's JavaScript client gets from a server: node openai_client.cjs ADDRESS
// Ends with status 1 at the first thing that differs from what the API promises.
const assert = require("node:assert");
const OpenAI = require("openai");

async function main(baseURL) {
  const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
  const request = { model: "book", prompt: "The ", max_tokens: 12, seed: 3 };
  // 1. models
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.deepEqual(names, ["book", "talk", "label"]);
  await assert.rejects(client.models.retrieve("nothing"), OpenAI.NotFoundError);
  // 2. a completion, whole and streamed
  const whole = await client.completions.create(request);
  assert.equal(whole.usage.completion_tokens, 12);
  let text = "", usage = null;
  const stream = await client.completions.create(
    { ...request, stream: true, stream_options: { include_usage: true } });
  for await (const piece of stream) {
    text += piece.choices[0]?.text ?? "";
    usage = piece.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].text);
  assert.deepEqual(usage, whole.usage);
  // 3. log-probabilities
  const scored = await client.completions.create({ ...request, logprobs: 2 });
  const { tokens, token_logprobs: logprobs, top_logprobs: top } = scored.choices[0].logprobs;
  assert.equal(tokens.join(""), whole.choices[0].text);
  assert.ok(logprobs.every((each) => each <= 0) && top.every((each) => Object.keys(each).length >= 1));
  // 4. a conversation, whole and streamed by the client's own helper
  const chat = { model: "talk", messages: [{ role: "user", content: "3 cats?" }], seed: 1, max_tokens: 8 };
  const answer = await client.chat.completions.create(chat);
  assert.equal(answer.choices[0].message.role, "assistant");
  const streamed = await client.chat.completions.stream(chat).finalMessage();
  assert.equal(streamed.content, answer.choices[0].message.content);
  // 5. embeddings, which the client asks for in base64
  const { data } = await client.embeddings.create({ model: "book", input: ["The cat", "A dog"] });
  assert.ok(data.length === 2 && data[0].embedding.length === 32);
  // 6. errors have the client's own classes
  await assert.rejects(client.completions.create({ ...request, temperature: -1 }), OpenAI.BadRequestError);
  await assert.rejects(
    client.chat.completions.create({ ...chat, model: "book" }), /\/v1\/completions/);
  // 7. a client that leaves
  const left = await client.completions.create({ ...request, max_tokens: 5000, stream: true });
  for await (const _ of left) break;
  left.controller.abort();
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
