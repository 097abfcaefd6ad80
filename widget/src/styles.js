// Puts the look on a shadow root: as a constructed sheet, which a strict content security policy lets pass.

import rules from "./styles.css";

let sheet;

export function dress(root) {
  if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(rules);
  root.adoptedStyleSheets = [sheet];
}
