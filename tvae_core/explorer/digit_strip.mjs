// The bundled digits to choose from.
import { button, h, picture } from "./elements.mjs";

/**
 * One button per digit. `act` receives the index of the chosen one; `isChosen(index)` says which
 * buttons are pressed, and is asked again after a change of one of the scene's `topics`.
 */
export function digitStrip(scene, act, isChosen, topics) {
  const { images, labels } = scene.digits;
  const buttons = images.map((gray, i) => {
    const image = picture(scene.model.size, "");
    image.setAttribute("aria-hidden", "true");
    image.show(gray);
    const name = labels ? `a ${labels[i]}, number ${Math.floor(i / 10) + 1}` : `image ${i + 1}`;
    return button(image, () => act(i), { "aria-label": name, "aria-pressed": "false" });
  });
  scene.on(topics, () =>
    buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(isChosen(i)))),
  );
  return h("div", { class: "strip", role: "group", "aria-label": "digits" }, ...buttons);
}
