// Where to begin: the gallery of start views, a picture of one's own, a prompt.

import { arrays } from "./client.js";
import { decode } from "./msgpack.js";
import { paint } from "./pane.js";

const get = (id) => document.getElementById(id);
const LARGEST = 4 * 2 ** 20; // bytes of a picture

/** The gallery; ``onBegin`` is called with {start}, or {picture: bytes}, and {prompt}. */
export class Gallery {
  constructor(config, onBegin, onTrouble) {
    Object.assign(this, { config, onBegin, onTrouble });
    this.dialog = get("gallery-dialog");
    get("prompt-field").hidden = !config.text;
    get("picture").addEventListener("change", (event) => this.#upload(event.target));
  }

  async open(current) {
    if (!get("starts").children.length) await this.#fill();
    for (const button of get("starts").children) {
      button.setAttribute("aria-current", String(Number(button.dataset.start) === current));
    }
    this.dialog.showModal();
  }

  async #fill() {
    const answer = await fetch("play/starts");
    const { frames } = arrays(decode(await answer.arrayBuffer()));
    const [count, height, width] = frames.shape;
    const size = height * width * 3;
    for (let i = 0; i < count; i++) {
      const button = document.createElement("button");
      button.dataset.start = i;
      button.setAttribute("aria-label", `Start view ${i}`);
      button.append(paint(frames.data.subarray(i * size, (i + 1) * size), width, height));
      button.addEventListener("click", () => this.#begin({ start: i }));
      get("starts").append(button);
    }
  }

  async #upload(input) {
    const file = input.files[0];
    input.value = "";
    if (!file) return;
    if (file.size > LARGEST) return this.onTrouble(new Error(`${file.name} has more than 4 MiB; choose a smaller picture`));
    this.#begin({ picture: new Uint8Array(await file.arrayBuffer()) });
  }

  #begin(where) {
    this.dialog.close();
    this.onBegin({ ...where, prompt: get("prompt").value || null });
  }
}
