// The official Node SDK: polled, streamed, and a function.
//
//     node with_node.mjs http://127.0.0.1:8400/v1
import OpenAI from "openai";

const BASE_URL = process.argv[2];
const called = [];
const streamed = [];

const client = new OpenAI({ baseURL: BASE_URL, apiKey: "any" });

const assistant = await client.beta.assistants.create({
  model: "gpt-4o",
  instructions: "Answer in one sentence.",
  tools: [
    {
      type: "function",
      function: {
        name: "weather",
        parameters: { type: "object", properties: { city: { type: "string" } } },
      },
    },
  ],
});
const thread = await client.beta.threads.create();

function outputs(run) {
  return run.required_action.submit_tool_outputs.tool_calls.map((call) => {
    called.push(JSON.parse(call.function.arguments).city);
    return { tool_call_id: call.id, output: "sunny" };
  });
}

async function add(text) {
  await client.beta.threads.messages.create(thread.id, { role: "user", content: text });
}

async function ask(text) {
  await add(text);
  const run = await client.beta.threads.runs.createAndPoll(thread.id, {
    assistant_id: assistant.id,
  });
  if (run.status === "requires_action") {
    await client.beta.threads.runs.submitToolOutputsAndPoll(run.id, {
      thread_id: thread.id,
      tool_outputs: outputs(run),
    });
  }
  const messages = await client.beta.threads.messages.list(thread.id, { limit: 1 });
  return messages.data[0].content[0].text.value;
}

async function stream(text) {
  const pieces = [];
  await add(text);
  const run = await client.beta.threads.runs
    .stream(thread.id, { assistant_id: assistant.id })
    .on("textDelta", (delta) => pieces.push(delta.value))
    .finalRun();
  if (run.status === "requires_action") {
    await client.beta.threads.runs
      .submitToolOutputsStream(run.id, { thread_id: thread.id, tool_outputs: outputs(run) })
      .on("textDelta", (delta) => pieces.push(delta.value))
      .finalRun();
  }
  streamed.push(pieces);
  return pieces.join("");
}

const replies = [
  await ask("My name is Ana."),
  await ask("What is the weather in Lisbon?"),
  await stream("What is my name?"),
  await stream("And in Porto?"),
  await ask("Goodbye."),
];
console.log(JSON.stringify({ thread: thread.id, replies, called, streamed }));
