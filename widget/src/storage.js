// What a page keeps of one place, in its own origin's storage. Other values in the same object are the page's and stay.

/** What is kept when there is no place. */
export const NOTHING = {
  secret: null, ticket: null, receipt: null, commitment: null, entry: null, number: null, token: null, gone: null, handoffEndsAtMs: null,
};

/** The storage of a drop: `read()` gives everything kept, anew each time as other tabs write too; `lasts()` whether it survives the page. */
export function storageOf(name) {
  let memory = "{}";
  let isLasting = true;

  function read() {
    try {
      const kept = JSON.parse(isLasting ? localStorage.getItem(name) : memory);
      return { ...kept, ...(kept?.v !== 1 && NOTHING) };
    } catch (error) {
      isLasting &&= error instanceof SyntaxError;
      return {};
    }
  }

  function write(values) {
    memory = JSON.stringify({ ...read(), v: 1, ...values });
    try {
      if (isLasting) localStorage.setItem(name, memory);
    } catch {
      isLasting = false;
    }
  }

  return { read, write, lasts: () => isLasting };
}
