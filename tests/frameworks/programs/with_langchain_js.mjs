// LangChain in JavaScript: OpenAIAssistantRunnable alone, and in an AgentExecutor.
//
//     node with_langchain_js.mjs http://127.0.0.1:8400/v1
import { AgentExecutor } from "@langchain/classic/agents";
import { OpenAIAssistantRunnable } from "@langchain/classic/experimental/openai_assistant";
import { DynamicStructuredTool } from "@langchain/core/tools";

const BASE_URL = process.argv[2];
const called = [];

const weather = new DynamicStructuredTool({
  name: "weather",
  description: "The weather in a city.",
  schema: { type: "object", properties: { city: { type: "string" } } },
  func: async ({ city }) => {
    called.push(city);
    return "sunny";
  },
});

const agent = await OpenAIAssistantRunnable.createAssistant({
  name: "assistant",
  instructions: "Answer in one sentence.",
  tools: [weather],
  model: "gpt-4o",
  clientOptions: { baseURL: BASE_URL, apiKey: "any" },
  asAgent: true,
});
const first = await agent.invoke({ content: "My name is Ana." });
const threadId = first.threadId;
const executor = AgentExecutor.fromAgentAndTools({ agent, tools: [weather] });
const second = await executor.invoke({ content: "What is the weather in Lisbon?", threadId });
const third = await agent.invoke({ content: "What is my name?", threadId });

const resumed = new OpenAIAssistantRunnable({
  assistantId: agent.assistantId,
  clientOptions: { baseURL: BASE_URL, apiKey: "any" },
  asAgent: true,
});
const again = AgentExecutor.fromAgentAndTools({ agent: resumed, tools: [weather] });
const fourth = await again.invoke({ content: "And in Porto?", threadId });
const fifth = await resumed.invoke({ content: "Goodbye.", threadId });

const replies = [
  first.returnValues.output,
  second.output,
  third.returnValues.output,
  fourth.output,
  fifth.returnValues.output,
];
console.log(JSON.stringify({ thread: threadId, replies, called }));
