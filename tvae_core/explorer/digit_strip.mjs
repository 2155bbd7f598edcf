// The bundled digits to choose from.
import { button, h, picture } from "./elements.mjs";

const COLUMNS = 10; // as in style.mjs
const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -COLUMNS, ArrowDown: COLUMNS };

/**
 * One button per digit. The strip is one stop for the Tab key; arrow keys go from digit to digit.
 *
 * `act` receives the index of the chosen one; `isChosen(index)` says which buttons are pressed, and
 * is asked again after a change of one of the scene's `topics`.
 */
export function digitStrip(scene, act, isChosen, topics) {
  const { images, labels } = scene.digits;
  const buttons = images.map((gray, i) => {
    const image = picture(scene.model.size, "");
    image.setAttribute("aria-hidden", "true");
    image.show(gray);
    const name = labels ? `a ${labels[i]}, number ${Math.floor(i / 10) + 1}` : `image ${i + 1}`;
    return button(image, () => act(i), {
      "aria-label": name,
      "aria-pressed": "false",
      tabindex: i ? -1 : 0,
      onfocus: () => stopAt(i),
      onkeydown: (event) => {
        const next = buttons[i + STEPS[event.key]];
        if (!next) return;
        event.preventDefault();
        next.focus();
      },
    });
  });
  const stopAt = (i) => buttons.forEach((each, j) => each.setAttribute("tabindex", i === j ? 0 : -1));
  scene.on(topics, () => {
    buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(isChosen(i))));
    const chosen = images.findIndex((_, i) => isChosen(i));
    if (chosen >= 0) stopAt(chosen);
  });
  return h("div", { class: "strip", role: "group", "aria-label": "digits" }, ...buttons);
}
