// Runs web/verify-draw.js for the tests: a JSON request on stdin, the answer on stdout.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { module, cases = [], numbers = [], texts = [], withoutEd25519 = false } = JSON.parse(readFileSync(0, "utf-8"));

if (withoutEd25519) {
  const known = crypto.subtle.importKey.bind(crypto.subtle);
  crypto.subtle.importKey = async (format, key, algorithm, ...rest) => {
    if (algorithm.name === "Ed25519") throw new DOMException("Unrecognized algorithm name", "NotSupportedError");
    return known(format, key, algorithm, ...rest);
  };
}

const { queueNumber, recognised, verifyDraw } = await import(pathToFileURL(module));
const outcome = async (promise) => promise.catch((error) => ({ error: `${error.name}: ${error.message}` }));

const answer = { verdicts: [], numbers: [], recognised: texts.map((text) => recognised(text)) };
for (const one of cases) answer.verdicts.push(await outcome(verifyDraw(one)));
for (const [entry, entries, key] of numbers) answer.numbers.push(await outcome(queueNumber(entry, entries, key)));
process.stdout.write(JSON.stringify(answer));
