// Runs web/verify-draw.js for the tests: a JSON request on stdin, the answer on stdout.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { module, cases = [], places = [], numbers = [], texts = [], withoutEd25519 = false } = JSON.parse(readFileSync(0, "utf-8"));

if (withoutEd25519) {
  const known = crypto.subtle.importKey.bind(crypto.subtle);
  crypto.subtle.importKey = async (format, key, algorithm, ...rest) => {
    if (algorithm.name === "Ed25519") throw new DOMException("Unrecognized algorithm name", "NotSupportedError");
    return known(format, key, algorithm, ...rest);
  };
}

const { queueNumber, recognised, verifyDraw, verifyPlace } = await import(pathToFileURL(module));
const outcome = async (promise) => promise.catch((error) => ({ error: `${error.name}: ${error.message}` }));

const answer = { verdicts: [], asked: [], numbers: [], recognised: texts.map((text) => recognised(text)) };
for (const one of cases) answer.verdicts.push(await outcome(verifyDraw(one)));
for (const { origin, drop, receipt, commitment, answers, hangs = [] } of places) {
  const asked = [];
  AbortSignal.timeout = () => AbortSignal.abort(new DOMException("No answer in time.", "TimeoutError")); // its time is over at once
  globalThis.fetch = async (address, { credentials, signal }) => {
    asked.push([address, credentials]);
    if (hangs.includes(address.slice(origin.length))) {
      const forever = setInterval(() => {}, 60_000); // as an open connection, it keeps Node waiting
      if (signal?.aborted) clearInterval(forever);
      return new Promise((_, reject) => signal?.aborted && reject(signal.reason));
    }
    const [status, document] = answers[address.slice(origin.length)] ?? [404, { code: "not_found" }];
    return new Response(JSON.stringify(document), { status });
  };
  answer.verdicts.push(await outcome(verifyPlace(origin, drop, receipt, commitment)));
  answer.asked.push(asked);
}
for (const [entry, entries, key] of numbers) answer.numbers.push(await outcome(queueNumber(entry, entries, key)));
process.stdout.write(JSON.stringify(answer));
