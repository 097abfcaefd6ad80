// Checks the draw in the browser, with the verifier that anybody can read: web/verify-draw.js, loaded only when there is something to
// check.

const loadBeside = (name) => import(new URL(name, import.meta.url));

/**
 * Whether the receipt's place follows from the draw: {verified, step?, sentence?}; without a step when there was nothing to check it
 * with. `read(path)` gives a document of the service.
 */
export async function checkDraw({ read, dropId, receipt, load = loadBeside }) {
  try {
    const { proofWanted, verifyDraw } = await load("verify-draw.js");
    const fairness = await read(`/v1/drops/${dropId}/fairness`);
    const wanted = proofWanted(receipt, fairness);
    const group = wanted?.group ? `?group=${encodeURIComponent(wanted.group)}` : "";
    const proof = wanted && (await read(`/v1/drops/${dropId}/fairness/proofs/${wanted.entry_number}${group}`));
    const { passed, steps } = await verifyDraw({ receipt, fairness, proof, jwks: await read("/.well-known/jwks.json") });
    const open = steps.find((step) => step.passed !== true);
    return passed ? { verified: true } : { verified: false, step: open.name, sentence: open.sentence };
  } catch {
    return { verified: false };
  }
}
