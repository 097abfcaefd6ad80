// Reads {module, documents, cases, polls} as JSON from the standard input and writes what the module says to each.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { module, documents, cases, polls } = JSON.parse(readFileSync(0, "utf-8"));
const { outlook, nextPollMs } = await import(pathToFileURL(module).href);
const told = cases.map(({ document, place, line }) => outlook(documents[document], place, line));
const polled = polls.map(({ poll, wait_ms: waitMs, random }) => nextPollMs({ poll }, waitMs, () => random));
process.stdout.write(JSON.stringify({ told, polled }));
