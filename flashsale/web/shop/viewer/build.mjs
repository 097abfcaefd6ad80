// Builds the viewer: node flashsale/web/shop/viewer/build.mjs [FILE]. The built file is committed, and a test builds it again.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

await build({
  entryPoints: [here("viewer.js")],
  outfile: process.argv[2] ?? here("../files/shop-viewer.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "inline",
});
