// Runs every vector, and what a door does besides, through the npm module; prints one JSON object: name of the check to null or what was wrong.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { EdgeVM } from "@edge-runtime/vm";
import { build } from "esbuild";
import express from "express";
import { AdmissionVerifier, Door } from "../../connectors/node/index.js";

const document = JSON.parse(await readFile(process.argv[2], "utf8"));
const make = JSON.parse(await readFile(process.argv[3], "utf8"));
const { drop, jwks, min_epoch: minEpoch, vectors } = document;
const good = vectors[0].token;
const waitingPage = "https://queue.shop.example/drops/launch";
const now = () => document.now_s * 1000;
const verifierOf = (options = {}) =>
  new AdmissionVerifier({ drop, minEpoch, now, ...(options.jwksUrl ? {} : { jwks }), ...options });

const results = {};
async function check(name, body) {
  try {
    await body();
    results[name] = null;
  } catch (error) {
    results[name] = String(error.stack ?? error).slice(0, 2000);
  }
}

/** A server on a free port; `answer` is called with each request. */
async function serve(answer) {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push(request.url);
    answer(request, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve)));
  return { url: `http://127.0.0.1:${server.address().port}`, asked, close };
}

const codeOf = ({ admission, refusal }) => {
  assert.equal(admission === null, refusal !== null);
  return refusal?.code ?? null;
};

// ---------------------------------------------------------------------------------------------------------------- vectors

const core = verifierOf();
const door = new Door({ verifier: core, waitingPage, origin: "https://shop.example" });
const app = express();
app.use(door.express());
app.use((request, response) => response.json(request.flashsale));
const shops = {
  express: await serve(app),
  node: await serve((request, response) =>
    door.express()(request, response, (error) => {
      response.statusCode = error ? 500 : 200;
      response.end(error ? String(error) : JSON.stringify(request.flashsale));
    }),
  ),
};
const byServer = (way) => (path, headers = {}, method = "GET") =>
  fetch(shops[way].url + path, { method, headers, redirect: "manual" });
const byFetch = async (path, headers = {}, method = "GET") => {
  const { admission, response } = await door.verify(new Request(`https://shop.example${path}`, { method, headers }));
  return response ?? new Response(JSON.stringify(admission));
};

/** The module inside a worker's runtime, which has what the web has and nothing of Node's. */
async function byWorker() {
  const worker = `
    import { AdmissionVerifier, Door } from "flashsale-verify";
    const { drop, jwks, min_epoch: minEpoch, now_s: nowS } = ${JSON.stringify({ ...document, vectors: [] })};
    const verifier = new AdmissionVerifier({ drop, minEpoch, jwks, now: () => nowS * 1000 });
    const door = new Door({ verifier, waitingPage: ${JSON.stringify(waitingPage)}, origin: "https://shop.example" });
    addEventListener("fetch", (event) => event.respondWith(answer(event)));
    async function answer(event) {
      const { admission, response } = await door.verify(event.request, { waitUntil: (promise) => event.waitUntil(promise) });
      return response ?? new Response(JSON.stringify(admission));
    }
  `;
  const { outputFiles } = await build({
    stdin: { contents: worker, resolveDir: fileURLToPath(new URL("../../connectors/node", import.meta.url)) },
    ...{ bundle: true, write: false, format: "iife", platform: "browser", target: "es2022", logLevel: "silent" },
  });
  const runtime = new EdgeVM({ initialCode: outputFiles[0].text });
  assert.equal(runtime.evaluate("typeof process + typeof require + typeof Buffer"), "undefined".repeat(3));
  return (path, headers = {}, method = "GET") => runtime.dispatchFetch(`https://shop.example${path}`, { method, headers });
}

const ways = Object.entries({ express: byServer("express"), node: byServer("node"), fetch: byFetch, worker: await byWorker() });

for (const { name, token, code } of vectors) {
  await check(`core: ${name}`, async () => {
    assert.equal(codeOf(await core.verify(token)), code);
    assert.equal(codeOf(await core.verify(token)), code);
  });
  for (const [way, ask] of ways) {
    await check(`${way}: ${name}`, async () => {
      for (const headers of [{ authorization: `Bearer ${token}` }, { cookie: `a=b; flashsale_admission=${token}; c=d` }]) {
        const answer = await ask("/", headers);
        const body = await answer.json();
        if (code === null) {
          assert.equal(answer.status, 200);
          assert.equal(body.subject, `${drop}.tAAAAAAAAAAAAAAAAAAAAAA`);
        } else {
          assert.deepEqual([answer.status, body.code, body.status], [403, code, 403]);
          assert.equal(answer.headers.get("content-type"), "application/problem+json");
          assert.equal(answer.headers.get("cache-control"), "no-store");
        }
      }
    });
  }
}

await check("a good token says who was let in", async () => {
  const { admission } = await core.verify(good);
  assert.deepEqual(admission, {
    subject: `${drop}.tAAAAAAAAAAAAAAAAAAAAAA`,
    drop,
    epoch: minEpoch,
    tokenId: "BBBBBBBBBBBBBBBBBBBBBB",
    issuedAtMs: (document.now_s - 60) * 1000,
    expiresAtMs: (document.now_s + 540) * 1000,
  });
});

await check("a remembered token still expires", async () => {
  let time = now();
  const one = verifierOf({ now: () => time });
  assert.equal(codeOf(await one.verify(good)), null);
  time += (540 + 29) * 1000;
  assert.equal(codeOf(await one.verify(good)), null);
  time += 1000;
  assert.equal(codeOf(await one.verify(good)), "token_expired");
});

await check("nonsense is refused and raises nothing", async () => {
  for (const token of ["é", "\ud800.a.b", `${good}\n`, ` ${good}`, "....", "\0", "__proto__"]) {
    assert.equal(codeOf(await core.verify(token)), "token_invalid");
  }
  for (const token of [null, undefined, ""]) assert.equal(codeOf(await core.verify(token)), "token_missing");
});

await check("a verifier that cannot work is not made", async () => {
  for (const options of [{}, { jwks, jwksUrl: "https://a.example" }, { jwks: { keys: 7 } }, { jwks, servingUrl: "https://a.example" }]) {
    assert.throws(() => new AdmissionVerifier(options), TypeError);
  }
  for (const options of [{ cookie: "a b" }, { waitingPage: "queue" }, { paths: ["x"] }, { entrance: "enter" }]) {
    assert.throws(() => new Door({ verifier: core, ...options }), TypeError);
  }
});

// --------------------------------------------------------------------------------------------------------- keys over HTTP

await check("a crowd shares the first request, and keys are kept", async () => {
  const service = await serve((_, response) => response.end(JSON.stringify(jwks)));
  const one = verifierOf({ jwksUrl: `${service.url}/keys` });
  const verdicts = await Promise.all(Array.from({ length: 50 }, () => one.verify(good)));
  assert.ok(verdicts.every(({ admission }) => admission));
  assert.equal(codeOf(await one.verify(make.stranger)), "token_invalid");
  assert.deepEqual(service.asked, ["/keys"], "an unknown kid asks at most once a minute");
  await service.close();
});

await check("the last good keys stay while the service is away", async () => {
  const service = await serve((_, response) => response.setHeader("Cache-Control", "max-age=0").end(JSON.stringify(jwks)));
  const one = verifierOf({ jwksUrl: `${service.url}/keys` });
  assert.equal(codeOf(await one.verify(good)), null);
  await service.close();
  await anHourLater(async () => {
    assert.equal(await renewed(one), null);
    assert.equal(codeOf(await one.verify(good)), null);
  });
});

await check("another key under the same name takes its tokens along", async () => {
  let keys = jwks;
  const service = await serve((_, response) => response.end(JSON.stringify(keys)));
  const one = verifierOf({ jwksUrl: `${service.url}/keys` });
  assert.equal(codeOf(await one.verify(good)), null);
  keys = { keys: jwks.keys.map((key, _, [{ x }]) => ({ ...key, x })) };
  await anHourLater(async () => {
    assert.equal(await renewed(one), null, "nobody waits for the new keys");
    assert.equal(codeOf(await one.verify(good)), "token_invalid");
  });
  await service.close();
});

/** Judges a good token by keys that are stale, and returns the code once they have been renewed. */
async function renewed(one) {
  const waited = [];
  const code = codeOf(await one.verify(good, { waitUntil: (promise) => waited.push(promise) }));
  assert.equal(waited.length, 1);
  await waited[0];
  return code;
}

async function anHourLater(body) {
  const clock = performance.now.bind(performance);
  performance.now = () => clock() + 3_600_000;
  try {
    await body();
  } finally {
    performance.now = clock;
  }
}

await check("without keys nobody is let in", async () => {
  const answers = {
    "/empty": (response) => response.end(""),
    "/list": (response) => response.end("[]"),
    "/none": (response) => response.end('{"keys":[]}'),
    "/other": (response) => response.end(JSON.stringify({ keys: make.other_keys })),
    "/long": (response) => response.end(JSON.stringify(jwks) + " ".repeat(300_000)),
    "/503": (response) => ((response.statusCode = 503), response.end(JSON.stringify(jwks))),
    "/hangs": () => {},
  };
  const service = await serve((request, response) => answers[request.url](response));
  for (const path of Object.keys(answers)) {
    const one = verifierOf({ jwksUrl: service.url + path, timeoutMs: path === "/hangs" ? 50 : 10_000 });
    assert.equal(codeOf(await one.verify(good)), "keys_unavailable", path);
    const { response } = await new Door({ verifier: one, waitingPage }).verify(
      new Request("https://shop.example/", { headers: { authorization: `Bearer ${good}`, "sec-fetch-mode": "navigate" } }),
    );
    assert.deepEqual([response.status, response.headers.get("retry-after")], [503, "5"]);
  }
  await service.close();
});

await check("no redirection is followed", async () => {
  const attacker = await serve((_, response) => response.end(JSON.stringify({ keys: make.other_keys })));
  const service = await serve((_, response) => response.writeHead(302, { Location: attacker.url }).end());
  assert.equal(codeOf(await verifierOf({ jwksUrl: service.url }).verify(make.stranger)), "keys_unavailable");
  assert.deepEqual(attacker.asked, []);
  await Promise.all([attacker.close(), service.close()]);
});

await check("an epoch is learned from the serving document", async () => {
  const service = await serve((_, response) => response.end(JSON.stringify({ epoch: minEpoch + 1 })));
  const one = verifierOf({ servingUrl: `${service.url}/v1/drops/{drop}/serving` });
  assert.equal(codeOf(await one.verify(good)), "old_epoch");
  assert.equal(codeOf(await one.verify(make.next_epoch)), null);
  assert.deepEqual(service.asked, [`/v1/drops/${drop}/serving`]);
  await service.close();
  const away = verifierOf({ servingUrl: `${service.url}/v1/drops/{drop}/serving` });
  assert.equal(codeOf(await away.verify(good)), null);
});

// ------------------------------------------------------------------------------------------------------------------- door

for (const [way, ask] of ways) {
  await check(`${way}: who opens a page is led to the waiting page`, async () => {
    // Browsers' own fetch may not send this header; undici's may.
    const answer = await byHand(way, "/launch/42?size=44&colour=a%26b", { "sec-fetch-mode": "navigate" });
    assert.equal(answer.status, 303);
    const back = new URL(new URL(answer.headers.location).searchParams.get("return"));
    assert.equal(back.origin + back.pathname, "https://shop.example/flashsale/enter");
    assert.equal(back.searchParams.get("to"), "/launch/42?size=44&colour=a%26b");
    const long = await byHand(way, `/?q=${"x".repeat(3000)}`, { "sec-fetch-mode": "navigate" });
    assert.equal(new URL(long.headers.location).searchParams.get("return"), "https://shop.example/flashsale/enter");
  });

  await check(`${way}: a script is told`, async () => {
    for (const [headers, method] of [[{ "sec-fetch-mode": "cors", accept: "text/html" }], [{ accept: "application/json" }], [{ "sec-fetch-mode": "navigate" }, "POST"]]) {
      const answer = await byHand(way, "/", headers, method);
      assert.equal(answer.status, 403);
      assert.equal(JSON.parse(answer.body).waiting_page, waitingPage);
    }
  });

  await check(`${way}: the entrance is open to everybody`, async () => {
    const page = await ask("/flashsale/enter?to=/x");
    assert.equal(page.status, 200);
    assert.match(page.headers.get("content-security-policy"), /^default-src 'none'/);
    assert.match(await page.text(), /src="\/flashsale\/enter.js" data-cookie="flashsale_admission"/);
    assert.match(await (await ask("/flashsale/enter.js")).text(), /document\.cookie/);
    assert.equal((await ask("/flashsale/enter", {}, "POST")).status, 403);
  });
}

/** To a server without fetch, which has its own mind about some headers. */
async function byHand(way, path, headers, method = "GET") {
  if (way in shops) return requested(shops[way].url + path, headers, method);
  const answer = await Object.fromEntries(ways)[way](path, headers, method);
  return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() };
}

function requested(url, headers, method) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers }, (answer) => {
      let body = "";
      answer.on("data", (part) => (body += part)).on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, body }));
    });
    request.on("error", reject).end();
  });
}

await check("only what is behind the door is kept", async () => {
  const some = new Door({ verifier: core, paths: ["/checkout", "/Cart/"] });
  const statusOf = async (path) => {
    const { admission, response } = await some.verify({ url: `https://shop.example${path}`, method: "GET", headers: new Headers() });
    assert.equal(admission, null);
    return response?.status ?? 200;
  };
  for (const path of ["/", "/checkouts", "/carts", "/public", "/%"]) assert.equal(await statusOf(path), 200, path);
  for (const path of ["/checkout", "/checkout/pay", "//checkout", "/Checkout/PAY", "/%63heckout", "/x/..%2fcheckout", "/cart", "/cart/1"]) {
    assert.equal(await statusOf(path), 403, path);
  }
});

/** What a server says to a request's target just as it is written. */
function answerTo(shop, target) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(new URL(shop.url).port, "127.0.0.1");
    let answer = "";
    socket.setEncoding("latin1").on("data", (part) => (answer += part)).on("error", reject);
    socket.on("close", () => resolve({ status: Number(answer.slice(9, 12)), body: answer.split("\r\n\r\n")[1] }));
    socket.write(`GET ${target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n`);
  });
}

/** Shops that show what is behind the door at /launch, each in its own way of reading a request's target. */
function shopsBehind(door) {
  const behind = express().use("/launch", (_, response) => response.end("behind"));
  const byPath = (request, response) => response.end(/^\/launch(\/|$)/.test(pathOf(request.url)) ? "behind" : "public");
  const guarded = (handle) => (request, response) => (door ? door.express()(request, response, () => handle(request, response)) : handle(request, response));
  return Promise.all([guarded(behind.use((_, response) => response.end("public"))), guarded(byPath)].map(serve));
}

function pathOf(target) {
  try {
    return new URL(target, "http://shop.example").pathname;
  } catch {
    return "";
  }
}

await check("no spelling of a request's target leads around the door", async () => {
  const [open, kept] = await Promise.all([shopsBehind(null), shopsBehind(new Door({ verifier: core, paths: ["/launch"] }))]);
  const printable = Array.from({ length: 94 }, (_, index) => String.fromCharCode(0x21 + index));
  const around = (sign) => [`/launch${sign}`, `/launch${sign}x`, `/${sign}launch`, `/x${sign}/launch`, `//x${sign}/launch`, `http://x${sign}/launch`, `http://x/${sign}launch`];
  const targets = new Set(printable.flatMap(around).flatMap((target) => [target, `${target}#x`, `${target}?x`]));
  for (const target of ["/launch#x", "/launch/42#x", "http://x/launch", "HTTP://x/Launch", "http://x\\launch", "/launch\\42#x", "///x/launch"]) targets.add(target);
  const reached = [0, 0];
  const walkedAround = [];
  for (const target of targets) {
    for (const [index, shop] of open.entries()) {
      if ((await answerTo(shop, target)).body !== "behind") continue;
      reached[index] += 1;
      if ((await answerTo(kept[index], target)).status !== 403) walkedAround.push(target);
    }
  }
  await Promise.all([...open, ...kept].map((shop) => shop.close()));
  assert.deepEqual(walkedAround, []);
  assert.ok(reached.every((targets) => targets > 200), `no test of anything: ${reached}`);
  assert.ok(targets.size > reached[0], "some of it is not behind the door");
});


await check("a token is looked for where it may be", async () => {
  for (const [headers, status] of [
    [{ authorization: `bearer  ${good} ` }, 200],
    [{ authorization: "Basic dTpw", cookie: `flashsale_admission=${good}` }, 200],
    [{ authorization: "Bearer of-the-shop", cookie: `flashsale_admission=${good}` }, 200],
    [{ authorization: `Bearer ${good}`, cookie: "flashsale_admission=bad" }, 403],
    [{ authorization: `Bearer ${good}`, cookie: "flashsale_admission=" }, 200],
    [{ cookie: `other_flashsale_admission=${good}` }, 403],
  ]) {
    assert.equal((await byServer("express")("/", headers)).status, status, JSON.stringify(headers));
  }
});

await Promise.all(Object.values(shops).map((shop) => shop.close()));
console.log(JSON.stringify(results));
