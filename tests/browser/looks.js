// What a page looks like, as numbers: whether anything is out of place, and where its landmarks and the widget's parts are.
(() => {
  const TOUCHES_PX = 3;
  const OVERLAP_SHARE = 0.3; // of the smaller box; letters of neighbouring lines may touch

  function* elementsOf(root) {
    for (const element of root.querySelectorAll("*")) {
      yield element;
      if (element.shadowRoot) yield* elementsOf(element.shadowRoot);
    }
  }

  const parentOf = (node) => node.assignedSlot ?? node.parentElement ?? node.getRootNode().host ?? null;

  function ancestorsOf(element) {
    const found = [];
    for (let one = element; one; one = parentOf(one)) found.push(one);
    return found;
  }

  // Visually hidden text (for screen readers), scrolled content and modal layers are not laid out in the page's plane.
  function isInPlane(element) {
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return false;
    return ancestorsOf(element).every((one) => {
      const style = getComputedStyle(one);
      const box = one.getBoundingClientRect();
      const hidden = style.position === "absolute" && box.width <= 1 && box.height <= 1;
      return !hidden && style.clipPath === "none" && style.position !== "fixed" && !one.matches(":modal, [popover]:popover-open");
    });
  }

  const scrolls = (element) => /auto|scroll/.test(getComputedStyle(element).overflowX);
  const isBox = (element) => element.matches("button, input, select, textarea, img, svg, progress, meter, canvas, model-viewer");

  function name(element) {
    const part = element.getAttribute("part");
    return part ? `part ${part}` : `${element.localName}${element.id ? `#${element.id}` : ""}`;
  }

  // The visible boxes of a page: controls and pictures, and the lines of each text.
  function boxesOf() {
    const found = [];
    for (const element of elementsOf(document.body)) {
      if (!isInPlane(element)) continue;
      if (isBox(element)) {
        found.push({ element, rect: element.getBoundingClientRect(), what: name(element) });
        continue;
      }
      if (element.closest("svg, button, select, textarea")) continue;
      for (const node of element.childNodes) {
        if (node.nodeType !== Node.TEXT_NODE || !node.textContent.trim()) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        const what = `“${node.textContent.trim().slice(0, 40)}” in ${name(element)}`;
        for (const rect of range.getClientRects()) found.push({ element, node, rect, what });
      }
    }
    return found.filter(({ rect }) => rect.width > 0 && rect.height > 0);
  }

  function overlap(one, other) {
    const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
    const height = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
    if (width <= TOUCHES_PX || height <= TOUCHES_PX) return false;
    return width * height > OVERLAP_SHARE * Math.min(one.width * one.height, other.width * other.height);
  }

  function faults() {
    const found = [];
    const page = document.documentElement;
    if (page.scrollWidth > page.clientWidth) found.push(`the page scrolls sideways: ${page.scrollWidth} in ${page.clientWidth} px`);
    const boxes = boxesOf();
    for (const { element, rect, what } of boxes) {
      if (ancestorsOf(element).some(scrolls)) continue;
      if (rect.left < -1 || rect.right > page.clientWidth + 1) found.push(`outside the viewport: ${what}`);
    }
    boxes.forEach((one, i) => {
      for (const other of boxes.slice(i + 1)) {
        if (one.node && one.node === other.node) continue;
        const within = ancestorsOf(one.element).includes(other.element) || ancestorsOf(other.element).includes(one.element);
        const both = isBox(one.element) || isBox(other.element);
        if (within && both) continue;
        if (overlap(one.rect, other.rect)) found.push(`${one.what} lies over ${other.what}`);
      }
    });
    return [...new Set(found)];
  }

  // Name to [left, top, width, height], as far as it can be compared on another machine.
  function geometry(selector) {
    const found = {};
    for (const element of elementsOf(document.body)) {
      if (!element.matches(selector) || !isInPlane(element)) continue;
      const { left, top, width, height } = element.getBoundingClientRect();
      if (width && height) found[name(element)] ??= [left + scrollX, top + scrollY, width, height].map(Math.round);
    }
    return found;
  }

  // Live regions and alerts, heard as a screen reader would: each text once when it changes.
  function listen() {
    globalThis.announced = [];
    const regions = [...elementsOf(document.body)].filter((one) => one.matches("[role=status], [role=alert], [aria-live]"));
    for (const region of regions) {
      const tell = () => region.textContent.trim() && announced.at(-1)?.text !== region.textContent.trim()
        && announced.push({ text: region.textContent.trim(), role: region.getAttribute("role") });
      new MutationObserver(tell).observe(region, { childList: true, characterData: true, subtree: true });
      tell();
    }
    return regions.map((one) => [one.getAttribute("role"), one.getAttribute("aria-live")]);
  }

  globalThis.looks = { faults, geometry, listen };
})();
