// A function that playwright evaluates on a page, to collect everything that the tests check.
() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const visible = (element) => element.checkVisibility();
  const isCode = (node) =>
    node.parentElement.closest("pre, code, script, style, textarea, mjx-container, kbd");

  const raw = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data;
    if (/\$|\\\(|\\\[|\\begin\{/.test(text) && !isCode(walker.currentNode)) raw.push(text.trim());
  }

  const width = document.documentElement.clientWidth;
  const sticksOut = (element) => element.getBoundingClientRect().right > width;

  return {
    // The elements that make the page scroll sideways, if it does.
    overflow:
      document.documentElement.scrollWidth > width
        ? all("body *").filter(sticksOut).map((element) => element.outerHTML.slice(0, 150))
        : [],
    // Formulas whose end is out of sight. (An accent sticks out by 2 pixels.)
    cut: all(":is(span, div).math")
      .filter((formula) => visible(formula) && formula.scrollWidth > formula.clientWidth + 3)
      .map((formula) => formula.textContent),
    ids: all("[id]").map((element) => element.id),
    // Icons and style sheets too. `href` is an absolute address here; the text is for messages.
    links: all("a[href], link[href]").map((a) => [a.href, a.textContent.trim() || a.rel]),
    images: all("img").map((image) => [image.currentSrc, image.getAttribute("alt")]),
    // The theme has a second, hidden title for printing.
    headings: all("h1, h2, h3, h4, h5, h6")
      .filter(visible)
      .map((h) => [Number(h.tagName[1]), h.textContent.trim()]),
    math: {
      rendered: all("mjx-container").length,
      missing: all(".math").filter((m) => !m.querySelector("mjx-container")).map((m) => m.textContent),
      wrong: all("mjx-merror, [data-mjx-error]").map((m) => m.textContent),
      raw,
    },
  };
}
