// A card with a term's definition, or with what a citation cites, where the pointer or the focus is on
// a link to the glossary or to a paper.
"use strict";
{
  const links = document.querySelectorAll(
    '.bd-article a[data-cites], .bd-article a.reference.internal[href*="glossary.html#term-"]',
  );
  const card = document.createElement("div");
  card.className = "term-card";
  card.setAttribute("role", "tooltip");
  card.id = "term-card";
  const pages = new Map(); // those that explain, by address
  let wanted = null;

  const hide = () => {
    wanted?.removeAttribute("aria-describedby");
    wanted = null;
    card.remove();
  };

  async function show(link) {
    if (location.protocol === "file:") return; // a page from the disk may fetch nothing
    wanted = link;
    const [page, id] = (link.dataset.cites ?? link.href).split("#");
    if (!pages.has(page)) {
      const text = fetch(page).then((answer) => answer.text());
      pages.set(page, text.then((t) => new DOMParser().parseFromString(t, "text/html")));
    }
    const source = await pages.get(page).catch(() => null);
    const term = id && source?.getElementById(decodeURIComponent(id));
    const said = id
      ? (term?.closest("dt")?.nextElementSibling ?? term?.nextElementSibling)
      : source?.querySelector(`.citation a[href="${CSS.escape(link.getAttribute("href"))}"]`)?.closest("p");
    said?.querySelector(".first-use")?.remove();
    if (!said || wanted !== link) return;
    if (said.querySelector(".math") && !window.MathJax?.typesetPromise) return;
    card.innerHTML = said.innerHTML;
    document.body.append(card);
    if (card.querySelector(".math")) await window.MathJax.typesetPromise([card]);
    const { left, bottom, top } = link.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    card.style.left = `${scrollX + Math.max(8, Math.min(left, width - card.offsetWidth - 8))}px`;
    const below = bottom + card.offsetHeight + 8 < innerHeight;
    card.style.top = `${scrollY + (below ? bottom + 4 : top - card.offsetHeight - 4)}px`;
    link.setAttribute("aria-describedby", card.id);
  }

  for (const link of links) {
    for (const event of ["pointerenter", "focus"]) link.addEventListener(event, () => show(link));
    for (const event of ["pointerleave", "blur"]) link.addEventListener(event, hide);
  }
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
}
