// Builds dist/: the element's one file, its languages, its types, and what it loads later: a place's outlook, a draw's verifier.
//
//   npm run build --workspace widget             writes widget/dist
//   node widget/build.mjs --into /some/folder    writes it there; a test compares it with what is committed

import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const source = join(here, "src");
const asked = process.argv.indexOf("--into");
const target = asked < 0 ? join(here, "dist") : process.argv[asked + 1];

// Names of properties that only these files use with one another. None of them is a field of the service's documents, of an event,
// of the browser's, of a sentence, or of what place.js is given, which may be of another version than a page that has long been open;
// tests/widget/test_build.py holds all but the browser's.
const INTERNAL = [
  "again", "authorization", "away", "button", "clock", "details", "handOver", "hasPlace", "headline", "isBusy", "kept",
  "lasts", "latest", "locale", "mayJoin", "nowMs", "parts", "place", "problem", "proof", "rest", "retryMs", "said", "say", "serving",
  "show", "start", "startsAtMs", "stop", "takesCode", "telling", "untilMs", "view", "wake",
];

const minifiedRules = {
  name: "minified rules",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, "utf-8"), { loader: "css", minify: true });
      return { contents: code.trim().replaceAll(/([:,]) /g, "$1"), loader: "text" }; // also inside custom properties
    });
  },
};

await rm(target, { recursive: true, force: true });
await mkdir(join(target, "languages"), { recursive: true });
await build({
  entryPoints: [join(source, "flash-sale-room.js"), join(source, "place.js")],
  outdir: target,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  mangleProps: new RegExp(`^(${INTERNAL.join("|")})$`),
  legalComments: "none",
  logLevel: "warning",
  plugins: [minifiedRules],
});
for (const name of await readdir(join(source, "languages"))) {
  const words = JSON.parse(await readFile(join(source, "languages", name), "utf-8"));
  await writeFile(join(target, "languages", name), JSON.stringify(words));
}
await copyFile(join(source, "flash-sale-room.d.ts"), join(target, "flash-sale-room.d.ts"));
await copyFile(join(here, "..", "web", "verify-draw.js"), join(target, "verify-draw.js"));
