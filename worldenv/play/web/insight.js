// The panel beside the picture: the map, what memory knows of the newest picture, its depth, and signals over time.

import { drawMap, LEGEND } from "./map.js";
import { hatch } from "./pane.js";
import { Enlarger } from "./scale.js";

const get = (id) => document.getElementById(id);

/** What the first pane's session told of a chunk. */
export class Insight {
  constructor(about) {
    this.about = about;
    const { width, height } = about.spec;
    this.enlarger = new Enlarger(width, height);
    for (const name of ["known", "depth"]) get(name).height = Math.round((get(name).width * height) / width);
    get("legend").innerHTML = LEGEND.map(([drawn, text]) => `<li>${drawn}${text}</li>`).join("");
  }

  show(chunk) {
    const { outcome, frames } = chunk.views[0];
    const explained = outcome?.explained ?? {};
    get("map-note").textContent = drawMap(get("map"), chunk, this.about.spec.fov_deg);
    get("sight").hidden = !explained.known && !explained.depth;
    this.#known(explained.known, frames.at(-1));
    this.#depth(explained.depth);
    this.#signals(chunk.path);
  }

  #known(known, frame) {
    const canvas = get("known");
    const context = canvas.getContext("2d");
    this.enlarger.draw(context, frame);
    if (known) hatch(context, known);
    const share = known && known.data.filter((value) => value >= 0.5).length / known.data.length;
    get("known-share").textContent = known ? `${Math.round(100 * share)} %` : "–";
    get("known-share").title = known ? "" : "this memory is not rendered, so that nobody knows";
  }

  #depth(depth) {
    const canvas = get("depth");
    canvas.closest("figure").hidden = !depth;
    if (!depth) return;
    const near = depth.data.reduce((least, value) => Math.min(least, value), Infinity);
    const far = depth.data.reduce((most, value) => Math.max(most, Math.min(value, 20)), 0);
    const grey = new Uint8Array(3 * depth.data.length);
    depth.data.forEach((value, i) => grey.fill(255 * (near / Math.max(value, near)) ** 0.6, 3 * i, 3 * i + 3));
    this.enlarger.draw(canvas.getContext("2d"), grey);
    get("depth-range").textContent = `${near.toFixed(1)}–${far.toFixed(0)} m`;
  }

  /** Draw every signal that is one number, over the chunks that led here. */
  #signals(path) {
    const lines = new Map();
    for (const chunk of path.slice(1)) {
      const { reward, info = {}, signals = {}, explained } = chunk.views[0].outcome ?? {};
      if (typeof reward === "number") add(lines, "reward", reward);
      if (info.uncertainty !== undefined) add(lines, DOUBT, Number(info.uncertainty.data?.[0] ?? info.uncertainty));
      const gain = explained?.memory?.information_gain;
      if (gain !== undefined && gain !== null) add(lines, NEW, Number(gain.data?.[0] ?? gain));
      for (const [name, value] of Object.entries(signals)) {
        if (value?.shape?.length === 1 && name !== "reward") add(lines, name, value.data.at(-1));
      }
    }
    if (!lines.get("reward")?.some(Boolean)) lines.delete("reward");
    get("signals").hidden = lines.size === 0;
    get("lines").replaceChildren(...[...lines].map(([name, values]) => line(name, values)));
  }
}

function add(lines, name, value) {
  lines.set(name, [...(lines.get(name) ?? []), value]);
}

const NEW = "new in view";
const DOUBT = "uncertainty";
const TITLES = { [DOUBT]: "how far the chunk is to be doubted: 1 is as usual", [NEW]: "what the newest viewpoint adds to those that memory keeps, in nats" };

function line(name, values) {
  const row = document.createElement("div");
  row.className = "line";
  row.title = TITLES[name] ?? "";
  const label = row.appendChild(document.createElement("span"));
  label.textContent = name;
  const canvas = row.appendChild(document.createElement("canvas"));
  Object.assign(canvas, { width: 280, height: 52 });
  const context = canvas.getContext("2d");
  const [low, high] = [Math.min(0, ...values), Math.max(1e-6, ...values)];
  const point = (value, i) => [4 + (272 * i) / Math.max(1, values.length - 1), 48 - (44 * (value - low)) / (high - low)];
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--text");
  context.lineWidth = 2.5;
  context.beginPath();
  values.forEach((value, i) => context.lineTo(...point(value, i)));
  context.stroke();
  const newest = row.appendChild(document.createElement("output"));
  newest.textContent = values.at(-1).toFixed(2);
  return row;
}
