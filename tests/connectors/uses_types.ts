// What a shop writes; it only has to pass the compiler.
import { AdmissionVerifier, Door, type Admission, type Code } from "flashsale-verify";

const verifier = new AdmissionVerifier({ jwksUrl: "https://queue.shop.example/.well-known/jwks.json", drop: "launch" });
const door = new Door({ verifier, waitingPage: "https://queue.shop.example/drops/launch", paths: ["/checkout"] });

export async function whoIs(token: string): Promise<Admission | Code> {
  const { admission, refusal } = await verifier.verify(token);
  return admission ?? refusal.code;
}

export default {
  async fetch(request: Request, _env: unknown, context: { waitUntil(promise: Promise<unknown>): void }): Promise<Response> {
    const { admission, response } = await door.verify(request, { waitUntil: (promise) => context.waitUntil(promise) });
    return response ?? new Response(`Welcome, ${admission?.subject}`);
  },
};

export const middleware = door.express();

// @ts-expect-error An option that there is not.
new AdmissionVerifier({ jwks: { keys: [] }, algorithm: "none" });
