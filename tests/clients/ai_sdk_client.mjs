// The common script with the Vercel AI SDK. Arguments: base URL, key. Prints what it saw as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";
import { PICTURE, QUESTION } from "./script.mjs";

const [baseURL, apiKey] = process.argv.slice(2);
const provider = createOpenAI({ baseURL, apiKey });
const tools = { weather: tool({ description: "Weather of a city", inputSchema: z.object({ city: z.string() }) }) };

const ask = (model, more = {}) => ({ model: provider.chat(model), prompt: QUESTION, maxRetries: 0, ...more });
const calls = (found) => found.map((call) => ({ id: call.toolCallId, name: call.toolName, input: call.input }));

async function failure(model, key = apiKey) {
  try {
    await generateText({ model: createOpenAI({ baseURL, apiKey: key }).chat(model), prompt: QUESTION, maxRetries: 0 });
  } catch (error) {
    return { name: error.name, status: error.statusCode };
  }
  return null;
}

async function streamed(model, more = {}) {
  const result = streamText(ask(model, more));
  let text = "";
  for await (const part of result.textStream) text += part;
  return { text, tokens: (await result.usage).totalTokens, calls: calls(await result.toolCalls) };
}

const first = await generateText(ask("say"));
const answered = await generateText(ask("parallel-tools", { tools }));
const toldBack = await generateText({
  model: provider.chat("say"),
  maxRetries: 0,
  tools,
  messages: [
    { role: "user", content: QUESTION },
    ...answered.response.messages,
    {
      role: "tool",
      content: answered.toolCalls.map(({ toolCallId, toolName }) => ({
        type: "tool-result", toolCallId, toolName, output: { type: "text", value: "21" },
      })),
    },
  ],
});
const object = await generateObject(ask("json", { schema: z.object({ city: z.string(), degrees: z.number().int() }) }));
const vision = await generateText({
  model: provider.chat("say"),
  maxRetries: 0,
  messages: [{ role: "user", content: [{ type: "text", text: "What is this?" }, { type: "image", image: PICTURE }] }],
});
const vectors = await embedMany({ model: provider.textEmbeddingModel("embedding"), values: ["a", "b"], maxRetries: 0 });
const stream = await streamed("stream");

console.log(
  JSON.stringify({
    chat: first.text,
    chat_tokens: first.usage.totalTokens,
    tools: calls((await generateText(ask("tools", { tools }))).toolCalls),
    parallel_tools: calls(answered.toolCalls),
    after_tools: toldBack.text,
    streamed_tools: (await streamed("streamed-tools", { tools })).calls,
    json: object.object,
    vision: vision.text,
    stream: stream.text,
    stream_tokens: stream.tokens,
    embeddings: vectors.embeddings,
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
