// How the explorer looks: black ink on white paper like the figures of the book, in the fonts of the
// page around it. The colours are the ones in plots.py (Okabe and Ito).
export const STYLE = `
:host { display: block; }
.explorer {
  --paper: #fff; --outside: #ececea; --line: #8a8a8a; --hair: #d4d4d4; --muted: #595959;
  --text: #222; --face: #fff; --orange: #d55e00; --blue: #0072b2; --green: #00694d;
  --band: #e8f1f6;
  color: var(--text); font-size: 0.875rem; line-height: 1.4; margin: 1.25rem 0 1.75rem;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); padding: 0.75rem 0 1rem;
  font-variant-numeric: tabular-nums; container-type: inline-size; position: relative;
}
.explorer[data-theme="dark"] {
  --outside: #34373d; --line: #8b8f96; --hair: #4a4e55; --muted: #b4b8bf; --text: #e4e6e9;
  --face: #22252a; --orange: #f0883e; --blue: #6cb6e8; --green: #4cc7a0; --band: #2a3a45;
}
section + section { border-top: 1px solid var(--hair); margin-top: 1.5rem; padding-top: 1rem; }
.title { font-weight: 600; margin-bottom: 0.6rem; }
figure { margin: 0; min-width: 0; }
figcaption, .note { color: var(--muted); font-size: 0.8125rem; margin: 0.3rem 0 0; }
.note { margin: 0.6rem 0; }
[role="alert"], .warning { color: var(--orange); font-weight: 600; margin: 0 0 0.6rem; }
.numbers .warning { max-width: 34rem; min-height: 2.8em; margin: 0.3rem 0 0; }
.loading { position: absolute; top: 0.5rem; right: 0; margin: 0; padding: 0.25rem 0.6rem; background: var(--face); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }

.row { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }
.row + .row, .tools + .row, .row + figure { margin-top: 1rem; }
.strip + .row, .tools + figure, .said + figure { margin-top: 0.75rem; }
.grow { flex: 1 1 15rem; min-width: 0; }
/* A stage is half as wide again as the image on it. With that, all images have the same size. */
.pictures { flex-wrap: nowrap; }
.pictures > figure { flex: 1 1 0; max-width: 13rem; }
.pictures > figure:has(.stage, .pad) { flex-grow: 1.5; max-width: 19.5rem; }
.matrix { display: grid; grid-template-columns: 1fr 1.7fr 1.7fr; gap: 0.75rem 1rem; max-width: 38rem; margin-top: 0.9rem; align-items: start; }
.matrix .head canvas { width: 45%; }
.matrix .mixed canvas { outline: 3px solid var(--blue); outline-offset: -1px; }
.said { margin: 0.8rem 0 0; min-height: 2.8em; font-weight: 600; }
.length { max-width: 26rem; }
.length path { fill: var(--band); stroke: var(--blue); vector-effect: non-scaling-stroke; }
.length line.mark { stroke: var(--orange); stroke-width: 2; }
.length circle.mark { fill: var(--orange); }
canvas {
  display: block; width: 100%; height: auto; background: var(--paper);
  image-rendering: pixelated; border: 1px solid var(--line); box-sizing: border-box;
}
.stage, .pad { position: relative; aspect-ratio: 1; width: 100%; box-sizing: border-box; }
.stage { background: var(--outside); overflow: hidden; }
.stage canvas { position: absolute; border: 0; }
.stage svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.stage path { fill: none; stroke: #d55e00; vector-effect: non-scaling-stroke; stroke-width: 0.9; opacity: 0.75; }
.stage path.edge { stroke-width: 1.8; opacity: 1; }
.explorer[data-theme="dark"] .stage path { stroke: #e8731a; }
.pad { background: #fff; }
.pad canvas { image-rendering: auto; opacity: 0.75; }

.knob {
  position: absolute; width: 28px; height: 28px; margin: -14px 0 0 -14px; border-radius: 50%;
  cursor: grab; touch-action: none; outline: none; display: grid; place-items: center;
}
.knob::after {
  content: ""; width: 11px; height: 11px; border-radius: 50%; background: #0072b2;
  border: 1.5px solid #fff; box-shadow: 0 0 0 1px #0072b2; box-sizing: border-box;
}
.knob:hover::after { width: 14px; height: 14px; }
.knob:active { cursor: grabbing; }
.knob:focus-visible::after { outline: 3px solid #d55e00; outline-offset: 2px; }

.tools { display: flex; flex-wrap: wrap; gap: 0.4rem 0.6rem; align-items: center; margin-top: 0.75rem; }
.tools.models { margin: 0 0 1rem; gap: 0.4rem 1.25rem; }
button, select {
  font: inherit; font-size: 0.8125rem; line-height: 1.3; color: inherit; background: var(--face);
  border: 1px solid var(--line); border-radius: 4px; padding: 0.25rem 0.6rem; min-height: 1.9rem;
  max-width: 100%;
}
button { cursor: pointer; }
button:hover:not(:disabled) { border-color: var(--blue); color: var(--blue); }
button:disabled { opacity: 0.55; cursor: default; }
button[aria-pressed="true"] { border-color: var(--blue); box-shadow: inset 0 0 0 1px var(--blue); }
:is(button, select, input, summary):focus-visible { outline: 3px solid var(--orange); outline-offset: 2px; }
.check { display: inline-flex; gap: 0.4rem; align-items: center; }
input[type="checkbox"], input[type="range"] { accent-color: var(--blue); }

.sliders { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); gap: 0.1rem 1.75rem; }
.slider { display: grid; grid-template-columns: auto 1fr 3rem; gap: 0.5rem; align-items: center; min-height: 1.75rem; }
.slider > span { min-width: 2rem; }
.slider input { width: 100%; min-width: 0; margin: 0; }
.slider output { text-align: right; }
summary { cursor: pointer; color: var(--muted); margin-top: 0.4rem; width: fit-content; }
.slider.beyond output { color: var(--orange); font-weight: 600; }
.slider.wide { flex: 1 1 14rem; max-width: 26rem; }

.strip { display: grid; grid-template-columns: repeat(10, minmax(0, 1fr)); gap: 3px; max-width: 26rem; }
.tools + .strip { margin-top: 0.6rem; }
:is(.row, section) > .tools:first-child { margin-top: 0; }
.strip button { padding: 0; border: 0; border-radius: 2px; min-height: 0; line-height: 0; }
.strip button[aria-pressed="true"] { box-shadow: 0 0 0 2px var(--blue); }
.strip canvas { border-color: var(--hair); }
.sheetbox { width: 10rem; display: grid; gap: 0.4rem; justify-items: start; }
.paper { position: relative; width: 100%; }
.paper .hint { position: absolute; inset: 0; display: grid; place-items: center; color: #6b6b6b; pointer-events: none; }
.paper .hint[hidden] { display: none; }
canvas.sheet { touch-action: none; cursor: crosshair; image-rendering: auto; }
.choose > figure { width: 7rem; }

svg { display: block; width: 100%; overflow: visible; }
.stage svg { overflow: hidden; }
svg text { fill: var(--muted); font-size: 11px; }
svg .axis { stroke: var(--line); }
svg .rule { stroke: var(--hair); }
.posterior .prior { fill: var(--band); }
.posterior line { stroke: var(--blue); stroke-width: 1.4; }
.posterior line.axis { stroke: var(--line); stroke-width: 1; }
.posterior circle { fill: var(--blue); }
.grow figure + figure { margin-top: 0.75rem; }
.plot .bar { fill: var(--blue); opacity: 0.75; }
.plot line.curve { stroke: var(--blue); stroke-width: 1.6; }
.plot circle.curve { fill: var(--blue); }
.plot line.elbo { stroke: var(--orange); stroke-width: 1.6; stroke-dasharray: 4 3; }
.plot line.logp { stroke: var(--green); stroke-width: 1.6; }
.plot text.elbo { fill: var(--orange); font-weight: 600; }
.plot text.logp { fill: var(--green); font-weight: 600; }
.plot.empty { outline: 1px dashed var(--line); }
.plot.empty > * { visibility: hidden; }
.even > figure { flex: 1 1 15rem; }
table { border-collapse: collapse; }
th { font-weight: normal; text-align: left; padding: 0.15rem 1rem 0.15rem 0; }
td { text-align: right; padding: 0.15rem 0; min-width: 6.5rem; }
tr + tr { border-top: 1px solid var(--hair); }
.encode .numbers { flex: 0 1 15rem; }

/* The room of a view is kept from the start, so that a page does not move while figures load. */
:host([choose]) .head { min-height: 2.9rem; }
:host([view="swap"]) .views { min-height: 55.5rem; }
:host([view="pose"]) .views { min-height: 38.5rem; }
:host([view="appearance"]) .views { min-height: 30.5rem; }
:host([view="encode"]) .views { min-height: 56.5rem; }
:host([view="bounds"]) .views { min-height: 42rem; }
:host([view="move"]) .views { min-height: 38.25rem; }
@container (max-width: 32rem) {
  :host([choose]) .head { min-height: 4.3rem; }
  :host([view="swap"]) .views { min-height: 48rem; }
  :host([view="encode"]) .views { min-height: 57rem; }
  :host([view="bounds"]) .views { min-height: 54rem; }
}
@container (max-width: 28rem) {
  :host([choose]) .head { min-height: 5.2rem; }
  :host([view="swap"]) .views { min-height: 46.5rem; }
  :host([view="pose"]) .views { min-height: 41rem; }
  :host([view="appearance"]) .views { min-height: 49rem; }
  :host([view="encode"]) .views { min-height: 71rem; }
}
@container (max-width: 24rem) {
  :host([view="bounds"]) .views { min-height: 65rem; }
}

@container (max-width: 28rem) {
  .pictures { flex-wrap: wrap; }
  .pictures > figure { flex: 0 0 calc(50% - 0.75rem); }
  .pictures > figure:has(.stage, .pad) { flex: 0 0 100%; max-width: 20rem; }
  .said { min-height: 4.2em; }
  .pose .pictures { flex-wrap: nowrap; gap: 0.75rem; }
  .pose .pictures > figure { flex: 1 1 0; }
  .pose .pictures > figure:has(.stage) { flex: 1.5 1 0; }
  /* What is drawn and what comes out stand side by side. */
  .encode { display: grid; grid-template-columns: 1fr 1fr; gap: 0.75rem; align-items: start; }
  .encode > :is(.choose, .pictures) { display: contents; }
  .encode > *, .encode .grow { grid-column: 1 / -1; order: 3; margin-top: 0; }
  .encode > .choose > .grow { order: 0; }
  .encode .sheetbox { order: 1; width: auto; }
  .encode .pictures > figure { order: 2; max-width: none; }
  .encode .pictures > figure:last-child { order: 1; }
  .encode .pictures:has(> :nth-child(4)) > figure:has(.stage) { grid-column: 1 / -1; }
  .matrix { gap: 0.6rem; }
  .knob { width: 40px; height: 40px; margin: -20px 0 0 -20px; }
}
@media (prefers-reduced-motion: no-preference) {
  .knob::after { transition: width 0.1s, height 0.1s; }
}
`;
