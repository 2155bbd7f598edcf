// The views by name, and the element that holds them on a page or in a notebook.
import { appearanceView } from "./appearance_view.mjs";
import { boundsView } from "./bounds_view.mjs";
import { h } from "./elements.mjs";
import { encodeView } from "./encode_view.mjs";
import { moveView } from "./move_view.mjs";
import { poseView } from "./pose_view.mjs";
import { STYLE } from "./style.mjs";
import { swapView } from "./swap_view.mjs";

export const VIEWS = {
  swap: ["Swap: what from one digit, where from another", swapView],
  pose: ["Pose: drag the grid", poseView],
  appearance: ["Appearance: move through z", appearanceView],
  move: ["Move: turn and shift a digit", moveView],
  encode: ["Encode: a digit's z and u", encodeView],
  bounds: ["Bounds: draw importance samples", boundsView],
};

/** The elements of one view of a scene, or of all of them if `view` is "all". */
export function viewsOf(scene, view) {
  // The view of moves puts a moved digit in place of the others' image, so it stands alone.
  const names = view === "all" ? Object.keys(VIEWS).filter((name) => name !== "move") : [view];
  return names.map((name) => {
    const [title, build] = VIEWS[name];
    const announce = (live) => (event) =>
      event.currentTarget.querySelector(".said[role=status]")?.setAttribute("aria-live", live);
    return h(
      "section",
      {
        "aria-label": title,
        class: name,
        onfocusin: announce("polite"),
        onfocusout: announce("off"),
      },
      view === "all" ? h("div", { class: "title" }, title) : null,
      ...build(scene),
    );
  });
}

/** An empty, styled element in the host's shadow root, for views to go into. */
export function shell(host) {
  const body = h("div", { class: "explorer" });
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  root.replaceChildren(h("style", {}, STYLE), body);
  followTheme(body);
  return body;
}

/** Keep an element's data-theme in line with the theme of the page around it. */
function followTheme(element) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => {
    const [page, body] = [document.documentElement, document.body];
    if (page.dataset.theme) return page.dataset.theme === "dark"; // the book
    if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false"; // JupyterLab
    if (page.getAttribute("theme")) return page.getAttribute("theme") === "dark"; // Colab
    if (body.dataset.vscodeThemeKind) return /dark/.test(body.dataset.vscodeThemeKind);
    return system.matches;
  };
  const follow = () => (element.dataset.theme = dark() ? "dark" : "light");
  const watcher = new MutationObserver(follow);
  for (const each of [document.documentElement, document.body]) {
    watcher.observe(each, { attributes: true });
  }
  system.addEventListener("change", follow);
  follow();
}
