// Where to begin: the gallery of start views, or a picture of one's own.

import { arrays } from "./client.js";
import { ask } from "./http.js";
import { decode } from "./msgpack.js";
import { paint } from "./pane.js";

const get = (id) => document.getElementById(id);
const LARGEST = 4 * 2 ** 20; // bytes of a picture

/** The gallery; ``onBegin`` is called with {start}, or {picture: bytes}. */
export class Gallery {
  constructor(config, onBegin, onTrouble) {
    Object.assign(this, { config, onBegin, onTrouble });
    this.dialog = get("gallery-dialog");
    get("picture").addEventListener("change", (event) => this.#upload(event.target));
  }

  async open(current) {
    try {
      if (!get("starts").children.length) await this.#fill();
    } catch (error) {
      this.onTrouble(error); // a picture of one's own may still do
    }
    for (const button of get("starts").children) {
      button.setAttribute("aria-current", String(Number(button.dataset.start) === current));
    }
    this.dialog.showModal();
  }

  async #fill() {
    const { frames } = arrays(decode(await (await ask("play/starts")).arrayBuffer()));
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
    this.onBegin(where);
  }
}
