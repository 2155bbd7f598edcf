// The pose view: drag the grid, or set u latent by latent.
import { button, fixed, h, slider, subscript } from "./elements.mjs";
import { happened } from "./happened.mjs";
import { lengthPlot } from "./plots.mjs";
import { shareShorter } from "./probability.mjs";
import { decoderPanels } from "./stage.mjs";

const NO_POSE = "A plain VAE has no u: where a digit lies is mixed into its z.";

export function poseView(scene) {
  const { model } = scene;
  if (!model.warp)
    return [
      h("p", { class: "note" }, NO_POSE),
      h("div", { class: "row pictures" }, ...decoderPanels(scene)),
      happened(scene),
    ];
  const likely = h("input", { type: "checkbox", checked: true });
  const lengthNote = h("figcaption", { class: "note" });
  const lengths = lengthPlot(model.dim_u);
  const sliders = [...Array(model.dim_u).keys()].map((i) =>
    slider(`u${subscript(i)}`, `pose latent u ${i + 1}`, (value) =>
      scene.setLatent(model.dim_z + i, value),
    ),
  );
  const isInformative = (_, i) => model.informative[model.dim_z + i];
  const informative = sliders.filter(isInformative);
  const uninformative = sliders.filter((row, i) => !isInformative(row, i));
  const group = (rows) =>
    h("div", { class: "sliders", role: "group", "aria-label": "pose latents" }, ...rows);
  scene.on(["latents"], () => {
    const { u } = scene;
    sliders.forEach((row, i) => row.show(u[i]));
    const length = Math.hypot(...u);
    const share = 100 * shareShorter(length, model.dim_u);
    const percent = share < 1 ? "under 1" : share > 99 ? "over 99" : fixed(share, 0);
    lengths.show(length);
    lengthNote.textContent =
      `u is ${fixed(length, length < 10 ? 1 : 0)} long: ` +
      `${percent} % of draws from the prior are shorter.`;
  });
  return [
    h("div", { class: "row pictures" }, ...decoderPanels(scene, () => likely.checked)),
    h(
      "div",
      { class: "tools" },
      button("all u = 0", () => scene.setU(scene.u.map(() => 0))),
      button("random u", () => scene.setU(scene.random(model.dim_u))),
      button("random z", () => scene.setZ(scene.random(model.dim_z))),
      button("reset", () => scene.set(scene.q.mean)),
      h("label", { class: "check" }, likely, "drag only to likely poses"),
    ),
    happened(scene),
    h("figure", {}, lengths, lengthNote),
    group(informative),
    uninformative.length
      ? h(
          "details",
          { open: !informative.length },
          h(
            "summary",
            {},
            `uninformative latents (${uninformative.length}), which tell nothing about the digit`,
          ),
          group(uninformative),
        )
      : null,
  ].filter(Boolean);
}
