import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { queueNumber } from "../../../web/verify-draw.js";
import { OPENS_AT_MS, Stage, blockStorage, documentOf, dropOf, pass, receiptOf, renew, setOnline, ticketOf, world } from "./stage.mjs";

const SECRET = "a".repeat(32);
const COMMITMENT = "c0".repeat(32);
const PLACED = { v: 1, secret: SECRET, ticket: "d.t1", receipt: receiptOf({}), commitment: COMMITMENT, entry: 7, number: 700, epoch: 1, line: 0, drawKey: null };
const TOKEN = { admission_token: "the.token", expires_at_ms: OPENS_AT_MS + 600_000 };
const REFUSED = (code, more = {}, status = 409) => [status, { code, detail: `Refused: ${code}.`, ...more }];
const BUSY = (seconds) => [503, { code: "busy" }, { "Retry-After": String(seconds) }];
afterEach(() => {
  const { mistakes } = world;
  renew();
  assert.deepEqual(mistakes, []);
});

const cut = new TypeError("Failed to fetch");

/** A stage that has started, with a place unless told otherwise. */
async function started(answers, options = {}) {
  const stage = new Stage(answers, { kept: PLACED, ...options });
  await stage.visit.start(options.auto);
  return stage;
}

/** A serving document that moves: `serving` may be changed by the test. */
function moving(first, more = {}) {
  const now = { serving: documentOf(first) };
  return [now, { "GET /serving": () => now.serving, ...more }];
}

test("the document is handed on as it came", async () => {
  const stage = await started();
  assert.deepEqual(stage.visit.latest(), documentOf());
});

test("joining makes a secret, sends only its hash, and keeps the place", async () => {
  const stage = await started({ "POST /tickets": ticketOf() }, { kept: undefined });
  assert.equal(stage.view.state, "ready");
  await stage.visit.join();
  const [{ body, credentials }] = stage.requests("POST /tickets");
  assert.deepEqual(Object.keys(body), ["secret_hash"]);
  assert.match(body.secret_hash, /^[\w-]{43}$/);
  assert.equal(credentials, "omit");
  const { v, ticket, number, entry, epoch, secret } = stage.kept;
  assert.deepEqual([v, ticket, number, entry, epoch, secret.length, stage.view.state], [1, "d.t1", 700, null, 1, 36, "waiting"]);
});

test("with auto it joins by itself, also when joining opens only later", async () => {
  const [now, answers] = moving({ state: "scheduled", now_ms: OPENS_AT_MS - 7_200_000, serving_number: 0 }, { "POST /tickets": ticketOf() });
  const stage = await started(answers, { kept: undefined, auto: true });
  assert.equal(stage.view.state, "before");
  now.serving = documentOf({ state: "waiting", now_ms: OPENS_AT_MS - 60_000, serving_number: 0 });
  await pass(30_000);
  assert.equal(stage.view.state, "joined");
});

test("with auto nobody gets a second place", async () => {
  for (const kept of [PLACED, { ...PLACED, gone: "removed" }]) {
    const stage = await started({}, { kept, auto: true });
    assert.equal(stage.requests("POST /tickets").length, 0);
  }
});

test("without a draw the entry number is the place", async () => {
  const answers = { "GET ": dropOf({ order: "arrival" }), "POST /tickets": ticketOf({ entry_number: 130, queue_number: undefined }) };
  const stage = await started(answers, { kept: undefined });
  await stage.visit.join();
  assert.deepEqual([stage.kept.number, stage.view.place.position], [130, 30]);
});

test("a place in a group is in that group's line", async () => {
  const line = { joined: 900, entries: 700, key: null, serving_number: 100, share_permille: 700 };
  const groups = [{ ...line, group: "" }, { ...line, group: "gold", serving_number: 690, share_permille: 300 }];
  const answers = { "GET /serving": documentOf({ groups }), "POST /tickets": ticketOf({ group: "gold" }) };
  const stage = await started(answers, { kept: undefined });
  await stage.visit.join();
  assert.deepEqual([stage.kept.line, stage.view.place.position], [1, 10]);
});

test("a store that is away hides nothing of a place: the public numbers are still there", async () => {
  const stage = await started({ "GET ": [503, { code: "store_unavailable" }] });
  assert.deepEqual([stage.view.state, stage.view.place.position, stage.view.away.code], ["waiting", 600, "unreachable"]);
});

for (const missing of ["GET ", "GET /serving"])
  test(`whoever joins while "${missing}" is not answered is in line as soon as it is`, async () => {
    const stage = await started({ [missing]: cut, "POST /tickets": ticketOf() }, { kept: undefined });
    await stage.visit.join();
    assert.deepEqual([stage.view.isBusy, stage.view.hasPlace], [true, false]);
    stage.answers[missing] = missing === "GET " ? dropOf() : documentOf();
    await pass(10_000);
    assert.deepEqual([stage.view.isBusy, stage.view.state], [false, "waiting"]);
  });

test("the lot is worked out here, once the key is published", async () => {
  const [now, answers] = moving({ state: "open", serving_number: 0 });
  const stage = await started(answers, { kept: { ...PLACED, number: null } });
  assert.equal(stage.view.state, "drawing");
  now.serving = documentOf({ key: "ab".repeat(32), serving_number: 0, now_ms: OPENS_AT_MS + 63_000 });
  await pass(4_000);
  assert.equal(stage.view.state, "waiting");
  assert.equal(stage.kept.drawKey, "ab".repeat(32));
  assert.ok(stage.kept.number >= 0 && stage.kept.number < 800);
  assert.equal(stage.requests("POST /tickets").length, 0);
});

const NUMBER = await queueNumber(7, 800, "ab".repeat(32));
const DRAWN = { "GET /serving": () => documentOf({ key: "ab".repeat(32), now_ms: OPENS_AT_MS + 60_000 + world.time }) };

test("the draw is checked once, not by everybody at the same moment, and not again after a reload", async () => {
  const checks = [];
  world.verifyPlace = async (...all) => checks.push(all) && { queue_number: NUMBER, steps: [{ name: "receipt", passed: true }] };
  const stage = await started(DRAWN);
  assert.deepEqual([checks.length, stage.view.proof], [0, null]);
  const found = stage.until(({ proof }) => proof);
  await pass(10_000);
  assert.deepEqual((await found).proof, { verified: true, step: undefined, sentence: undefined, remembered: true });
  assert.equal(checks.length, 1);
  assert.deepEqual(checks[0].slice(1), ["d", PLACED.receipt, COMMITMENT]);
  assert.equal(stage.kept.checked, "ab".repeat(32));
  const again = await started(DRAWN, { kept: stage.kept });
  assert.deepEqual([again.view.proof.verified, checks.length], [true, 1]);
});

test("a draw that does not hold is said with the step; one that cannot be checked just now is tried again later", async () => {
  let checks = 0;
  world.verifyPlace = async () => {
    checks += 1;
    if (checks === 1) throw new TypeError("Failed to fetch");
    return { queue_number: null, steps: [{ name: "receipt", passed: true }, { name: "key", passed: false, sentence: "The key does not follow." }] };
  };
  const stage = await started(DRAWN);
  await pass(10_000);
  assert.deepEqual([checks, stage.view.proof, stage.view.away], [1, null, null]);
  const found = stage.until(({ proof }) => proof);
  await pass(40_000);
  const { verified, step, sentence } = (await found).proof;
  assert.deepEqual([checks, verified, step, sentence], [2, false, "key", "The key does not follow."]);
  assert.equal(stage.kept.checked, undefined);
  await pass(60_000);
  assert.equal(checks, 2);
});

test("a draw that holds, but of another key than people are served by, is told", async () => {
  world.verifyPlace = async () => ({ queue_number: NUMBER + 1, steps: [{ name: "receipt", passed: true }] });
  const stage = await started(DRAWN);
  const found = stage.until(({ proof }) => proof);
  await pass(10_000);
  const { verified, step } = (await found).proof;
  assert.deepEqual([verified, step, stage.kept.checked], [false, "queue_number", undefined]);
});

test("a check that hangs keeps nobody waiting", async () => {
  let checks = 0;
  world.verifyPlace = () => new Promise(() => (checks += 1));
  const stage = await started(DRAWN);
  await pass(10_000);
  const looks = stage.requests("GET /serving").length;
  await pass(30_000);
  assert.ok(checks > 0);
  assert.ok(stage.requests("GET /serving").length > looks);
  assert.deepEqual([stage.view.state, stage.view.away, stage.view.proof], ["waiting", null, null]);
});

test("the commitment of before the draw is kept with the place, the first of all that were shown", async () => {
  const answers = { "GET ": dropOf({ commitment: COMMITMENT }), "POST /tickets": ticketOf({ queue_number: undefined, entry_number: 7 }) };
  const stage = await started(answers, { kept: undefined });
  await stage.visit.join();
  assert.equal(stage.kept.commitment, COMMITMENT);
  const exchanged = { ...answers, "GET ": dropOf({ commitment: "0e".repeat(32) }), "GET /serving": documentOf({ epoch: 2 }) };
  const after = await started(exchanged, { kept: stage.kept });
  assert.deepEqual([after.requests("POST /tickets").length, after.kept.commitment], [1, COMMITMENT]);
});

test("a commitment that is first seen after the draw is not taken for one that is remembered", async () => {
  world.verifyPlace = async (...all) => ({ queue_number: NUMBER, steps: [{ name: "receipt", passed: all[3] === null }] });
  const line = { joined: 900, entries: 800, key: "ab".repeat(32), serving_number: 100, share_permille: 500 };
  const groups = [{ ...line, group: "", key: null }, { ...line, group: "gold" }];
  const GROUPS = { "GET /serving": () => documentOf({ groups, now_ms: OPENS_AT_MS + 60_000 + world.time }) };
  for (const [serving, group] of [[DRAWN, undefined], [GROUPS, "gold"]]) {
    const place = ticketOf({ entry_number: 7, queue_number: NUMBER, group });
    const stage = await started({ ...serving, "GET ": dropOf({ commitment: COMMITMENT }), "POST /tickets": place }, { kept: undefined });
    await stage.visit.join({ handoff: "code" });
    assert.equal(stage.kept.commitment, null);
    const found = stage.until(({ proof }) => proof);
    await pass(30_000);
    const { verified, remembered } = (await found).proof;
    assert.deepEqual([verified, remembered], [true, false]);
  }
});

test("what a check finds of a place that is gone meanwhile is not told of the next", async () => {
  const answering = Promise.withResolvers();
  world.verifyPlace = () => answering.promise;
  const stage = await started(DRAWN);
  await pass(10_000);
  stage.visit.reset();
  answering.resolve({ queue_number: NUMBER, steps: [{ name: "receipt", passed: true }] });
  await pass(1_000);
  assert.deepEqual([stage.kept.checked, stage.view.proof], [undefined, false]);
});

test("a place that was given back behind the draw keeps its number", async () => {
  const stage = await started({ "GET /serving": documentOf({ key: "ab".repeat(32) }) }, { kept: { ...PLACED, entry: 900, number: null } });
  assert.equal(stage.kept.number, 900);
});

test("who is called gets the token, and it is the same after a reload", async () => {
  const stage = await started({ "POST /admissions": TOKEN }, { kept: { ...PLACED, number: 99 } });
  assert.equal(stage.view.state, "admitted");
  assert.equal(stage.token, "the.token");
  assert.equal(stage.requests("POST /admissions")[0].authorization, `Ticket d.t1.${SECRET}`);
  const again = await started({}, { kept: stage.kept });
  assert.deepEqual([again.view.state, again.token, again.requests("POST /admissions").length], ["admitted", "the.token", 0]);
});

test("a token that has ended is exchanged anew", async () => {
  let tokens = 0;
  const answer = () => ({ admission_token: `token ${(tokens += 1)}`, expires_at_ms: OPENS_AT_MS + 60_000 + 5_000 * tokens });
  const [now, answers] = moving({}, { "POST /admissions": answer });
  const stage = await started(answers, { kept: { ...PLACED, number: 99 } });
  assert.equal(stage.token, "token 1");
  now.serving = documentOf({ now_ms: OPENS_AT_MS + 66_000 });
  await pass(2_000);
  assert.equal(stage.token, "token 2");
});

test("not yet: it looks again when it was asked to", async () => {
  const stage = await started({ "POST /admissions": REFUSED("not_yet", { poll_after_ms: 5_000 }) }, { kept: { ...PLACED, number: 99 } });
  assert.equal(stage.view.state, "called");
  await pass(4_900);
  assert.equal(stage.requests("POST /admissions").length, 1);
  await pass(2_000);
  assert.equal(stage.requests("POST /admissions").length, 2);
});

for (const code of ["paused", "not_open", "sold_out", "closed"])
  test(`${code} at the door is no trouble: the next document tells`, async () => {
    const stage = await started({ "POST /admissions": REFUSED(code) }, { kept: { ...PLACED, number: 99 } });
    assert.deepEqual([stage.view.state, stage.kept.ticket], ["called", "d.t1"]);
  });

for (const [code, status] of [["moved", 409], ["removed", 403]])
  test(`${code} at the door is final, also after a reload`, async () => {
    const stage = await started({ "POST /admissions": REFUSED(code, {}, status) }, { kept: { ...PLACED, number: 99 } });
    assert.equal(stage.view.state, code);
    const again = await started({}, { kept: stage.kept });
    await pass(60_000);
    assert.deepEqual([again.view.state, again.requests("POST /admissions").length], [code, 0]);
  });

test("a ticket that is unknown is joined again with its receipt", async () => {
  const answers = { "POST /admissions": REFUSED("ticket_invalid", {}, 401), "POST /tickets": ticketOf({ ticket_id: "d.t2" }) };
  const stage = await started(answers, { kept: { ...PLACED, number: 99 } });
  assert.equal(stage.requests("POST /tickets")[0].body.receipt, PLACED.receipt);
  assert.deepEqual([stage.kept.ticket, stage.kept.secret], ["d.t2", SECRET]);
});

test("a later epoch is joined again with the receipt, and the token before it is gone", async () => {
  const [now, answers] = moving({}, { "POST /tickets": ticketOf({ receipt: receiptOf({ epoch: 2 }) }) });
  const stage = await started(answers, { kept: { ...PLACED, token: "old", tokenExpiresAtMs: OPENS_AT_MS + 600_000 } });
  assert.equal(stage.view.state, "admitted");
  now.serving = documentOf({ epoch: 2, now_ms: OPENS_AT_MS + 50_000 });
  await pass(3_000);
  const [{ body }] = stage.requests("POST /tickets");
  assert.equal(body.receipt, PLACED.receipt);
  assert.deepEqual([stage.kept.epoch, stage.kept.token, stage.kept.secret, stage.view.state], [2, null, SECRET, "waiting"]);
  await pass(60_000);
  assert.equal(stage.requests("POST /tickets").length, 1);
});

test("while the drop is being recovered nobody joins", async () => {
  const stage = await started({ "GET /serving": documentOf({ state: "recovering", epoch: 2 }) });
  await pass(10_000);
  assert.deepEqual([stage.view.state, stage.requests("POST /tickets").length], ["recovering", 0]);
});

test("a receipt that is refused is left out the next time, with the same secret", async () => {
  const answer = ({ body }) => (body.receipt ? REFUSED("receipt_invalid", {}, 422) : ticketOf({ receipt: receiptOf({ epoch: 2 }) }));
  const stage = await started({ "GET /serving": documentOf({ epoch: 2 }), "POST /tickets": answer });
  const [first, second] = stage.requests("POST /tickets");
  assert.equal(first.body.secret_hash, second.body.secret_hash);
  assert.deepEqual([stage.kept.epoch, stage.view.state], [2, "waiting"]);
});

test("a refusal to join is said, and is tried again only when the shopper asks for it", async () => {
  let code = "code_required";
  const answer = () => (code ? REFUSED(code, {}, 403) : ticketOf());
  const stage = await started({ "POST /tickets": answer }, { kept: undefined });
  await stage.visit.join();
  assert.deepEqual([stage.view.state, stage.view.problem.code, stage.view.mayJoin], ["trouble", "code_required", true]);
  await pass(120_000);
  assert.equal(stage.requests("POST /tickets").length, 1);
  code = null;
  await stage.visit.join();
  assert.equal(stage.view.state, "waiting");
});

test("a secret whose place was given up is not used again, and nothing is tried for ever", async () => {
  const stage = await started({ "POST /tickets": REFUSED("left") }, { kept: { v: 1, secret: SECRET } });
  await stage.visit.join();
  const hashes = stage.requests("POST /tickets").map(({ body }) => body.secret_hash);
  assert.equal(new Set(hashes).size, 2);
  assert.equal(stage.view.problem.code, "left");
});

test("an identity is shown where the drop takes one, a code where the page has one", async () => {
  const credentials = () => ({ code: "AAAAA-BBBBB", identity: "jwt" });
  const shown = async (drop) => {
    const stage = await started({ "GET ": dropOf(drop), "POST /tickets": ticketOf() }, { kept: undefined, credentials });
    await stage.visit.join();
    const { code, identity } = stage.requests("POST /tickets")[0].body;
    return [code, identity];
  };
  assert.deepEqual(await shown({}), ["AAAAA-BBBBB", undefined]);
  assert.deepEqual(await shown({ invites: "required", identity: "accepted" }), ["AAAAA-BBBBB", "jwt"]);
});

test("a busy service is asked again when it said, and the click is not lost", async () => {
  let answer = BUSY(7);
  const stage = await started({ "POST /tickets": () => answer }, { kept: undefined });
  await stage.visit.join();
  assert.deepEqual([stage.view.state, stage.view.isBusy, stage.view.away.code], ["ready", true, "unreachable"]);
  await pass(6_900);
  assert.equal(stage.requests("POST /tickets").length, 1);
  answer = ticketOf();
  await pass(3_000);
  assert.deepEqual([stage.view.state, stage.view.isBusy, stage.view.away], ["waiting", false, null]);
});

test("429 is waited for as well", async () => {
  const stage = await started({ "GET /serving": [429, { code: "rate_limited" }, { "Retry-After": "40" }] });
  await pass(39_000);
  assert.equal(stage.requests("GET /serving").length, 1);
  await pass(13_000);
  assert.equal(stage.requests("GET /serving").length, 2);
});

test("a service that is away leaves the place in sight, and is tried less and less often", async () => {
  let answer = () => documentOf();
  const stage = await started({ "GET /serving": () => answer() });
  answer = () => cut;
  await pass(33_000);
  const at = stage.requests("GET /serving").map((request) => request.at);
  assert.deepEqual(at.slice(1), [3_000, 5_300, 9_900, 19_100]);
  assert.deepEqual([stage.view.state, stage.view.place.position, stage.view.away.code], ["waiting", 600, "unreachable"]);
  answer = () => documentOf({ now_ms: OPENS_AT_MS + 120_000, serving_number: 600 });
  await pass(31_000);
  assert.deepEqual([stage.view.away, stage.view.place.position, stage.kept.number], [null, 100, 700]);
});

test("a service that never answered is trouble, not an endless wait", async () => {
  const stage = await started({ "GET ": cut, "GET /serving": cut }, { kept: undefined });
  assert.deepEqual([stage.view.state, stage.view.problem.code], ["trouble", "unreachable"]);
  Object.assign(stage.answers, { "GET ": dropOf(), "GET /serving": documentOf() });
  await stage.visit.again();
  assert.equal(stage.view.state, "ready");
});

test("what is no JSON is no answer", async () => {
  const stage = await started({ "GET /serving": () => [502, undefined] });
  assert.equal(stage.view.problem.code, "unreachable");
});

test("an unknown drop is said, and asked for every thirty seconds at most", async () => {
  const stage = await started({ "GET ": [404, { code: "drop_not_found" }] }, { kept: undefined });
  assert.deepEqual([stage.view.state, stage.view.problem.code], ["trouble", "drop_not_found"]);
  await pass(29_999);
  assert.equal(stage.requests("GET ").length, 1);
  await pass(300_000);
  const asked = stage.requests("GET ").length;
  assert.ok(asked > 2 && asked <= 11, `asked ${asked} times`);
});

test("offline is said as such, and back means at once", async () => {
  let answer = () => documentOf();
  const stage = await started({ "GET /serving": () => answer() });
  setOnline(false);
  answer = () => cut;
  await pass(18_000);
  assert.equal(stage.view.away.code, "offline");
  setOnline(true);
  answer = () => documentOf({ now_ms: OPENS_AT_MS + 90_000, serving_number: 650 });
  await stage.visit.wake();
  assert.deepEqual([stage.view.away, stage.view.place.position], [null, 50]);
});

test("a mistake while showing is told, and is no end", async () => {
  const mistake = new Error("a card that cannot be shown");
  const stage = await started();
  const shown = stage.views.length;
  stage.shows = () => {
    throw mistake;
  };
  await pass(4_000);
  assert.deepEqual(world.mistakes.splice(0).slice(0, 1), [mistake]);
  stage.shows = () => {};
  const looks = stage.requests("GET /serving").length;
  await pass(40_000);
  assert.ok(stage.requests("GET /serving").length > looks);
  assert.ok(stage.views.length > shown);
  assert.equal(stage.view.away, null);
});

test("whoever has no place in an open drop looks as seldom as the document allows", async () => {
  for (const kept of [undefined, { ...PLACED, gone: "removed" }]) {
    const stage = await started({}, { kept });
    await pass(29_000);
    assert.equal(stage.requests("GET /serving").length, 1);
  }
});

test("a hidden tab asks nothing, and catches up at once when it is seen", async () => {
  const stage = await started();
  await stage.hide();
  await pass(600_000);
  assert.equal(stage.requests("GET /serving").length, 1);
  stage.answers["GET /serving"] = documentOf({ now_ms: OPENS_AT_MS + 660_000, serving_number: 690 });
  await stage.appear();
  assert.deepEqual([stage.requests("GET /serving").length, stage.view.place.position], [2, 10]);
  await pass(2_000);
  assert.equal(stage.requests("GET /serving").length, 3);
});

test("who flips through tabs does not hammer the service", async () => {
  const stage = await started();
  for (let i = 0; i < 20; i += 1) {
    await stage.hide();
    await pass(10);
    await stage.appear();
  }
  assert.equal(stage.requests("GET /serving").length, 1);
  await pass(1_000);
  assert.equal(stage.requests("GET /serving").length, 2);
});

test("a page that opened in the background looks once", async () => {
  const stage = new Stage({}, { kept: PLACED });
  document.hidden = true;
  await stage.visit.start();
  await pass(600_000);
  assert.equal(stage.requests("GET /serving").length, 1);
});

for (const aheadMs of [-3_600_000, 3_600_000])
  test(`a clock that is wrong by ${aheadMs / 3_600_000} h changes nothing`, async () => {
    const serving = documentOf({ state: "waiting", serving_number: 0, now_ms: OPENS_AT_MS - 60_000 });
    const stage = new Stage({ "GET /serving": serving }, { kept: { ...PLACED, number: null } });
    world.wallAheadMs = aheadMs;
    await stage.visit.start();
    assert.equal(stage.view.untilMs, 60_000);
    await pass(1_500);
    assert.equal(stage.visit.view().untilMs, 58_500);
  });

test("a device that has slept looks at once", async () => {
  const [now, answers] = moving({ state: "waiting", serving_number: 0, now_ms: OPENS_AT_MS - 3_600_000 });
  const stage = await started(answers, { kept: { ...PLACED, number: null } });
  now.serving = documentOf({ state: "open", serving_number: 0 });
  world.wallAheadMs += 3_660_000;
  await pass(1_000);
  assert.deepEqual([stage.requests("GET /serving").length, stage.view.state], [2, "drawing"]);
});

test("a document that is older than the last one is left aside", async () => {
  const [now, answers] = moving({ serving_number: 200 });
  const stage = await started(answers);
  now.serving = documentOf({ serving_number: 150, now_ms: OPENS_AT_MS + 59_000 });
  await pass(4_000);
  assert.equal(stage.view.place.position, 500);
  now.serving = documentOf({ serving_number: 300, now_ms: OPENS_AT_MS - 3_600_000 }); // the service's clock was set back
  await pass(4_000);
  assert.equal(stage.view.place.position, 400);
});

test("with storage blocked the place is kept in memory, and that is said", async () => {
  const stage = new Stage({ "POST /tickets": ticketOf() }, { kept: "shared" });
  blockStorage();
  await stage.visit.start();
  await stage.visit.join();
  assert.deepEqual([stage.view.state, stage.view.lasts, stage.kept.ticket], ["waiting", false, "d.t1"]);
});

test("storage that fills up is as good as blocked", async () => {
  const stage = await started({ "POST /tickets": ticketOf() }, { kept: undefined });
  stage.storage.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  await stage.visit.join();
  assert.deepEqual([stage.view.state, stage.view.lasts, stage.kept.ticket], ["waiting", false, "d.t1"]);
});

test("what the page keeps beside the place stays there", async () => {
  const stage = await started({}, { kept: { ...PLACED, key: "k", reservation: { id: "r" } } });
  stage.visit.reset();
  const { key, reservation, v, ...rest } = JSON.parse(stage.storage.items.get("flashsale:d"));
  assert.deepEqual({ key, reservation, v }, { key: "k", reservation: { id: "r" }, v: 1 });
  assert.deepEqual([rest.secret, rest.ticket, rest.receipt, rest.token], [null, null, null, null]);
  assert.equal(stage.view.state, "ready");
});

for (const broken of ["{", "null", "[]", '"x"', '{"v": 7, "ticket": 3, "receipt": {}}'])
  test(`storage that holds ${broken} is as good as empty`, async () => {
    const stage = await started({ "POST /tickets": ticketOf() }, { kept: broken });
    await stage.visit.join();
    assert.equal(stage.view.state, "waiting");
  });

test("leaving gives the place up and forgets it; a refusal is told", async () => {
  const name = `DELETE /v1/tickets/${PLACED.ticket}`;
  const stage = await started({ [name]: REFUSED("units_held") });
  await assert.rejects(stage.visit.leave(), { code: "units_held" });
  assert.equal(stage.kept.ticket, "d.t1");
  stage.answers[name] = { state: "left" };
  await stage.visit.leave();
  assert.deepEqual([stage.kept.ticket, stage.kept.secret, stage.view.state], [null, null, "ready"]);
  await stage.visit.leave(); // there is nothing to give up any more
  assert.equal(stage.requests(name).length, 2);
});

for (const [code, status, state] of [["moved", 409, "moved"], ["removed", 403, "removed"], ["ticket_invalid", 401, "waiting"], ["ticket_not_found", 404, "waiting"]])
  test(`leaving a place is refused with ${code}, and forgets nothing`, async () => {
    const stage = await started({ [`DELETE /v1/tickets/${PLACED.ticket}`]: REFUSED(code, {}, status) });
    await assert.rejects(stage.visit.leave(), { code });
    assert.deepEqual([stage.kept.receipt, stage.view.state], [PLACED.receipt, state]);
  });

test("a place that was left elsewhere is left", async () => {
  const stage = await started({ [`DELETE /v1/tickets/${PLACED.ticket}`]: REFUSED("left") });
  await stage.visit.leave();
  assert.equal(stage.view.state, "ready");
});

test("a place is handed over with a code, and shows when the other device has taken it", async () => {
  const [code, ticket] = [`POST /v1/tickets/${PLACED.ticket}/handoff`, `GET /v1/tickets/${PLACED.ticket}`];
  const stage = await started({ [code]: { handoff: "code", expires_at_ms: OPENS_AT_MS + 660_000 }, [ticket]: { state: "waiting" } });
  assert.deepEqual(await stage.visit.handOver(), { handoff: "code", expiresAtMs: OPENS_AT_MS + 660_000 });
  await pass(3_000);
  assert.equal(stage.view.state, "waiting");
  stage.visit.stop();
  const again = await started({ [ticket]: { state: "moved" } }, { kept: stage.kept });
  assert.equal(again.view.state, "moved", "and after a reload");
  await pass(60_000);
  assert.deepEqual([stage.requests(ticket).length, again.requests(ticket).length], [1, 1]);
});

for (const state of ["waiting", "moved"])
  test(`a handover that nobody saw before its code ended is asked for once more: ${state}`, async () => {
    const ticket = `GET /v1/tickets/${PLACED.ticket}`;
    const stage = await started({ [ticket]: { state } }, { kept: { ...PLACED, handoffEndsAtMs: OPENS_AT_MS } });
    assert.equal(stage.view.state, state);
    await pass(10_000);
    assert.equal(stage.requests(ticket).length, 1);
  });

test("the last look for a handover waits for an answer", async () => {
  const ticket = `GET /v1/tickets/${PLACED.ticket}`;
  const stage = await started({ [ticket]: cut }, { kept: { ...PLACED, handoffEndsAtMs: OPENS_AT_MS } });
  stage.answers[ticket] = { state: "moved" };
  await pass(10_000);
  assert.equal(stage.view.state, "moved");
});

test("a browser that has a place keeps it, and leaves the code of another device unused", async () => {
  const stage = await started();
  await stage.visit.join({ handoff: "code" });
  assert.deepEqual([stage.requests("POST /tickets").length, stage.view.state], [0, "waiting"]);
});

test("a place that cannot be handed over says why", async () => {
  const stage = await started({ [`POST /v1/tickets/${PLACED.ticket}/handoff`]: REFUSED("handoff_used") });
  await assert.rejects(stage.visit.handOver(), { code: "handoff_used" });
});

test("the other device joins with the code and a secret of its own", async () => {
  const stage = await started({ "POST /tickets": ticketOf() }, { kept: undefined });
  await stage.visit.join({ handoff: "code" });
  assert.equal(stage.requests("POST /tickets")[0].body.handoff, "code");
});

test("a second tab hears what the first has seen, and does not ask itself", async () => {
  const [now, answers] = moving({});
  const first = await started(answers, { });
  const second = new Stage(answers, { kept: "shared" });
  world.part = 0.9; // looks later
  await second.visit.start();
  now.serving = documentOf({ serving_number: 400, now_ms: OPENS_AT_MS + 63_000 });
  const heard = second.until(({ place }) => place?.position === 300);
  await pass(3_000);
  await heard;
  assert.equal(second.requests("GET /serving").length, 1);
});

test("two tabs that join at the same time have one place", async () => {
  const answer = ({ body }) => ticketOf({ ticket_id: `d.${body.secret_hash}` });
  const first = new Stage({ "POST /tickets": answer }, { });
  const second = new Stage({ "POST /tickets": answer }, { kept: "shared" });
  await Promise.all([first.visit.start(true), second.visit.start(true)]);
  assert.equal(new Set([...first.asked, ...second.asked].filter(({ body }) => body).map(({ body }) => body.secret_hash)).size, 1);
  assert.equal(first.kept.ticket, second.kept.ticket);
});

test("a visit that has stopped asks and shows nothing more", async () => {
  const stage = await started();
  const views = stage.views.length;
  stage.visit.stop();
  await pass(600_000);
  assert.deepEqual([stage.asked.length, stage.views.length, world.timers.length], [2, views, 0]);
});
