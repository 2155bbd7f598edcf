// What guess.js and questions.js share: new elements, and options that can be chosen.
"use strict";
globalThis.pageElements = (() => {
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  /** Put a radio button in front of the words of each list item. */
  const choices = (items, name, valueOf) =>
    items.forEach((item, i) => {
      const radio = make("input", { type: "radio", name, value: valueOf(item, i) });
      item.replaceChildren(make("label", {}, radio, " ", ...item.childNodes));
    });

  return { make, choices };
})();
