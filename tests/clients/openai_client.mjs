// The common script with the openai package of npm. Arguments: base URL, key. Prints what it saw as JSON.
import OpenAI from "openai";
import { CITY_SCHEMA, PICTURE, QUESTION, WEATHER } from "./script.mjs";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20000 });
const messages = [{ role: "user", content: QUESTION }];
const tools = [{ type: "function", function: { name: "weather", description: "Weather of a city", parameters: WEATHER } }];

const chat = (model, more = {}) => client.chat.completions.create({ model, messages, ...more });
const calls = (message) =>
  message.tool_calls.map((call) => ({ id: call.id, name: call.function.name, input: JSON.parse(call.function.arguments) }));

async function streamed(model, more = {}) {
  const seen = { text: "", tokens: null };
  for await (const chunk of await chat(model, { stream: true, ...more })) {
    seen.text += chunk.choices[0]?.delta?.content ?? "";
    if (chunk.usage) seen.tokens = chunk.usage.total_tokens;
  }
  return seen;
}

async function failure(model, key = apiKey) {
  const other = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
  try {
    await other.chat.completions.create({ model, messages });
  } catch (error) {
    return { name: error.constructor.name, status: error.status };
  }
  return null;
}

const first = await chat("say");
const answered = await chat("parallel-tools", { tools });
const toldBack = await chat("say", {
  tools,
  messages: [
    ...messages,
    answered.choices[0].message,
    ...answered.choices[0].message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "21" })),
  ],
});
const runner = client.chat.completions.stream({ model: "streamed-tools", messages, tools });
const parsed = await chat("json", {
  response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema: CITY_SCHEMA } },
});
const vision = await chat("say", {
  messages: [
    { role: "user", content: [{ type: "text", text: "What is this?" }, { type: "image_url", image_url: { url: PICTURE } }] },
  ],
});
const vectors = await client.embeddings.create({ model: "embedding", input: ["a", "b"] });
const plain = await streamed("stream");
const counted = await streamed("stream", { stream_options: { include_usage: true } });

console.log(
  JSON.stringify({
    chat: first.choices[0].message.content,
    chat_tokens: first.usage.total_tokens,
    tools: calls((await chat("tools", { tools })).choices[0].message),
    parallel_tools: calls(answered.choices[0].message),
    after_tools: toldBack.choices[0].message.content,
    streamed_tools: calls((await runner.finalChatCompletion()).choices[0].message),
    json: JSON.parse(parsed.choices[0].message.content),
    vision: vision.choices[0].message.content,
    stream: plain.text,
    stream_tokens: counted.tokens,
    embeddings: vectors.data.map((row) => row.embedding),
    errors: {
      401: await failure("say", "sk-nobody"),
      400: await failure("fails-400"),
      404: await failure("fails-404"),
      429: await failure("fails-429"),
      500: await failure("fails-500"),
      unknown: await failure("nobody-serves-this"),
    },
  }),
);
