// Plays the table of scenarios with the official Node SDK, whichever version is installed.
//
//     OPENAI_API_KEY=... node runner.mjs BASE_URL FOLDER < scenarios.json > transcripts.json
//
// FOLDER holds node_modules. Until version 4 every id of a path is an argument of its own; since
// version 5 the last one is, and the others are parameters.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [baseURL, folder] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(folder, "package.json")));
const { OpenAI, APIError, toFile } = require("openai");
const { version } = JSON.parse(
  readFileSync(join(folder, "node_modules/openai/package.json"), "utf8"),
);
const idsAreArguments = version.startsWith("4.");

const CALLBACKS = [
  "runStepCreated",
  "runStepDelta",
  "runStepDone",
  "messageCreated",
  "messageDelta",
  "messageDone",
  "textCreated",
  "textDelta",
  "textDone",
  "toolCallCreated",
  "toolCallDelta",
  "toolCallDone",
  "end",
];
const NO_BODY = new Set(["retrieve", "delete", "cancel", "poll", "content"]);

const resourcesOf = (client) => ({
  assistants: client.beta.assistants,
  threads: client.beta.threads,
  messages: client.beta.threads.messages,
  runs: client.beta.threads.runs,
  steps: client.beta.threads.runs.steps,
  files: client.files,
  models: client.models,
});
const own = resourcesOf(new OpenAI({ baseURL, maxRetries: 0 }));
let resources = own;
let kept = {};

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (letter) => "_" + letter.toLowerCase());

function at(value, path) {
  for (const key of path.split(".")) {
    const there = value !== null && typeof value === "object" && key in value;
    value = there ? value[key] : "<absent>";
  }
  return value;
}

const shown = (value, step) =>
  Object.fromEntries((step.show ?? []).map((path) => [path, at(value, path)]));

function filled(value) {
  if (typeof value === "string" && value.startsWith("$")) {
    const [name, ...path] = value.slice(1).split(".");
    return at(kept[name], path.join("."));
  }
  if (Array.isArray(value)) return value.map(filled);
  if (value !== null && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, filled(item)]));
  return value;
}

function invoke(noun, verb, ids, body, options) {
  const resource = resources[noun];
  let name = camel(verb);
  if (name === "delete" && idsAreArguments) name = "del";
  const names = Object.keys(ids);
  const takesBody = !NO_BODY.has(verb);
  let args;
  if (idsAreArguments || names.length < 2) {
    args = [...Object.values(ids), ...(takesBody ? [body] : []), options];
  } else {
    const last = names.at(-1);
    const { [last]: id, ...others } = ids;
    args = [id, { ...others, ...body }, options];
  }
  return resource[name](...args);
}

async function follow(stream, step) {
  const events = [];
  const callbacks = [];
  let text = "";
  let cancelled;
  stream.on("event", ({ event, data }) => {
    events.push(event);
    if (event === step.cancel_at && !cancelled) {
      const ids = { thread_id: data.thread_id ?? stream.currentRun().thread_id };
      ids.run_id = stream.currentRun().id;
      cancelled = invoke("runs", "cancel", ids, {}, {});
    }
  });
  for (const name of CALLBACKS) {
    stream.on(name, (value) => {
      callbacks.push(snake(name));
      if (name === "textDelta") text += value.value;
    });
  }
  const final = await stream.finalRun();
  await cancelled;
  return [{ events, callbacks, text, value: shown(final, step) }, final];
}

async function perform(step) {
  const [noun, verb] = step.do.split(".");
  const ids = filled(step.ids ?? {});
  const body = filled(step.body ?? {});
  const options = "poll_ms" in step ? { pollIntervalMs: step.poll_ms } : {};
  const other = () => resourcesOf(new OpenAI({ baseURL, apiKey: step.key, maxRetries: 0 }));
  resources = "key" in step ? other() : own;
  if (step.file) body.file = await toFile(Buffer.from(step.file.content), step.file.name);
  if (verb.endsWith("stream")) return follow(invoke(noun, verb, ids, body, options), step);
  if (step.streamed) {
    const events = [];
    for await (const event of await invoke(noun, verb, ids, { ...body, stream: true }, options))
      events.push(event);
    return [{ events: events.map(({ event }) => event) }, events.at(-1).data];
  }
  if (verb === "list") {
    const items = [];
    for await (const item of invoke(noun, verb, ids, body, options)) items.push(item);
    return [{ items: items.map((item) => shown(item, step)) }, items];
  }
  const result = await invoke(noun, verb, ids, body, options);
  if (verb === "content") return [{ text: await result.text() }, null];
  return [{ value: shown(result, step) }, result];
}

async function record(step) {
  try {
    const [told, result] = await perform(step);
    if (step.keep) kept[step.keep] = result;
    return told;
  } catch (error) {
    if (!(error instanceof APIError) || error.status === undefined)
      return { crash: `${error.constructor.name}: ${error.message}` };
    const { message, type } = error.error;
    return {
      error: {
        class: error.constructor.name,
        status: error.status,
        message,
        type,
        param: error.param,
        code: error.code,
        has_request_id: Boolean(error.requestID ?? error.request_id),
      },
    };
  }
}

const transcripts = {};
for (const { name, steps } of JSON.parse(readFileSync(0, "utf8"))) {
  kept = {};
  transcripts[name] = [];
  for (const step of steps) transcripts[name].push(await record(step));
}
process.stdout.write(JSON.stringify({ version, transcripts }));
