// Lets a reader answer the questions that tvae_core.questions.ask has put on a page.
//
// Without this script each question stands there with its answer folded. What has been answered is
// kept in this browser's localStorage, if there is one.
"use strict";
{
  const KEY = "what-and-where:answered";
  const LETTERS = "abcdef";

  const remembered = () => {
    try {
      return new Set(JSON.parse(localStorage.getItem(KEY)) ?? []);
    } catch {
      return new Set(); // blocked, or written by something else
    }
  };
  const remember = (id) => {
    try {
      localStorage.setItem(KEY, JSON.stringify([...remembered().add(id)]));
    } catch {
      // The marks on this page last as long as the page.
    }
  };

  const { make, choices } = globalThis.pageElements; // of elements.js

  /** For each kind: the fields, and a function that reads an answer from them, or null. */
  const KINDS = {
    number(question, { id }) {
      const input = make("input", { type: "text", inputmode: "decimal", size: "9", autocomplete: "off" });
      input.setAttribute("aria-label", `Answer to ${id}, a number`);
      const read = () => {
        const text = input.value.trim().replace("−", "-");
        return text === "" || Number.isNaN(Number(text)) ? null : Number(text);
      };
      return { field: input, read, missing: "Write a number, such as 4.2." };
    },
    choice(question, { id }) {
      const list = question.querySelector("ol");
      choices([...list.children], id, (item, i) => LETTERS[i]);
      list.setAttribute("role", "radiogroup");
      for (const item of list.children) item.setAttribute("role", "none");
      list.setAttribute("aria-label", `Answers to ${id}`);
      const read = () => list.querySelector("input:checked")?.value ?? null;
      return { read, missing: "Choose one of the answers." };
    },
    order(question, { id }) {
      const list = question.querySelector("ol");
      const letters = new Map([...list.children].map((item, i) => [item, LETTERS[i]]));
      list.classList.add("ordered");
      for (const item of letters.keys()) {
        const words = item.textContent;
        const move = (sign, label) => {
          const button = make("button", { type: "button", "aria-label": `Move ${label}: ${words}` }, sign);
          button.addEventListener("click", () => {
            const other = label === "up" ? item.previousElementSibling : item.nextElementSibling;
            if (!other) return;
            other[label === "up" ? "before" : "after"](item);
            button.focus();
          });
          return button;
        };
        item.prepend(move("↑", "up"), move("↓", "down"), ` ${letters.get(item)}. `);
      }
      return { read: () => [...list.children].map((item) => letters.get(item)).join("") };
    },
    match: (question) => globalThis.matchQuestion.fields(question, make), // of match.js
  };

  const isRight = ({ kind, answer, tolerance }, given) => {
    if (kind === "choice" || kind === "order") return given === answer;
    // One number, or one from each slider.
    const [wanted, off] = [answer, tolerance].map((text) => [JSON.parse(text)].flat());
    return [given].flat().every((value, i) => Math.abs(value - wanted[i]) <= off[i] + 1e-12);
  };

  function upgrade(question, changed) {
    const { id, kind, hint } = question.dataset;
    const folded = question.querySelector("details");
    const { field, read, missing } = KINDS[kind](question, question.dataset);
    const said = make("p", { class: "said", role: "status", "aria-live": "polite" });
    const button = make("button", { type: "submit", "aria-label": `Check the answer to ${id}` }, "Check");
    const form = make("form", { class: "answer" }, ...(field ? [field, " "] : []), button);
    const mark = () => question.classList.add("answered");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = read();
      const right = given !== null && isRight(question.dataset, given);
      said.textContent = given === null ? missing : right ? "Right." : `Not yet. ${hint}`;
      if (!right) return;
      folded.open = true;
      mark();
      remember(id);
      changed();
    });
    // Return in a choice sends its form, as it does in a field of text.
    question.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.type === "radio") form.requestSubmit();
    });
    folded.before(form, said);
    if (remembered().has(id)) mark();
  }

  for (const chapter of document.querySelectorAll(".tvae-questions")) {
    const questions = [...chapter.querySelectorAll(".tvae-question")];
    const count = make("p", { class: "count", role: "status", "aria-live": "polite" });
    const changed = () => {
      const done = questions.filter((each) => each.classList.contains("answered")).length;
      count.textContent = done ? `${done} of ${questions.length} answered.` : "";
    };
    for (const question of questions) upgrade(question, changed);
    chapter.append(count);
    changed();
  }

  // The map of the book says how many questions of each chapter have been answered.
  for (const place of document.querySelectorAll("[data-answered-in]")) {
    const ofChapter = [...remembered()].filter((id) => id.startsWith(`${place.dataset.answeredIn}.`));
    if (ofChapter.length) place.textContent = `${ofChapter.length} of ${place.dataset.of} answered`;
  }
}
