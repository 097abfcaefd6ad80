// The page's title, borrowed while nobody sees the page.

let own = null;
let borrowed = null;

/** Shows a text in place of the page's title; an empty one gives the title back, unless the page has written another since. */
export function entitle(text) {
  if (text) {
    own ??= document.title;
    document.title = borrowed = text;
    return;
  }
  if (own !== null && document.title === borrowed) document.title = own;
  own = null;
}
