// What the player does in a world without a camera: a button for each choice of its actions, a slider for each number.

import { array } from "./client.js";

/** What is chosen holds until another is; each choice plays a chunk. Reads an action of a space as messages hold it. */
export class PartsInput {
  #pressed = false;

  /** ``about`` is what the session said of itself; ``onChange`` is called when another action is meant. */
  constructor(about, place, onChange) {
    this.onChange = onChange;
    this.read = widget(about.action_space, place, (at) => this.#choose(at), names(about));
    this.buttons = [...place.querySelectorAll(".choices .cap")];
  }

  #choose(at) {
    this.#pressed = true;
    this.onChange(at);
  }

  knows(code) {
    return /^Digit[0-9]$/.test(code) && Number(code.slice(5)) < this.buttons.length;
  }

  press(code, at) {
    this.buttons[Number(code.slice(5))].dispatchEvent(new CustomEvent("choose", { detail: at }));
  }

  lift() {}

  clear() {
    this.#pressed = false;
  }

  get active() {
    return this.#pressed;
  }

  take() {
    this.#pressed = false;
    return this.read();
  }
}

/** Return what the numbers of a Box are called: names of the body's, or the numbers that they have. */
function names({ action_names: known, spec }) {
  return ({ shape }) => {
    const rows = shape.length === 2 ? shape[0] : 1;
    if (known.length && shape.at(-1) === known.length && [1, spec.chunk_latents].includes(rows)) return known;
    return filled(shape, "").map((_, i) => `${i + 1}`);
  };
}

/** Fill ``place`` with what chooses an element of a space, and return what reads it. */
function widget(space, place, onChoose, called, title = "") {
  place.replaceChildren();
  if (space.kind === "dict") {
    const parts = Object.entries(space.parts).map(([name, part]) => {
      return [name, widget(part, place.appendChild(document.createElement("div")), onChoose, called, name)];
    });
    return () => Object.fromEntries(parts.map(([name, read]) => [name, read()]));
  }
  if (space.kind === "discrete") {
    const [read] = choices([{ count: space.n, least: space.start ?? 0 }], place, onChoose, title);
    return read;
  }
  if (space.kind === "multi_discrete" || space.kind === "multi_binary") {
    const [counts, least] = [space.nvec ?? filled(space.shape, 2), space.start ?? filled(space.shape, 0)];
    const shape = space.shape ?? shapeOf(counts);
    const reads = choices(counts.flat(Infinity).map((count, i) => ({ count, least: least.flat(Infinity)[i] })), place, onChoose, title);
    return () => array(Int32Array.from(reads, (read) => read()), shape);
  }
  return sliders(space, place, onChoose, called, title);
}

function choices(parts, place, onChoose, title) {
  return parts.map(({ count, least }, part) => {
    const box = group(place, parts.length > 1 || !title ? `${title} choice ${part + 1}`.trim() : title);
    let chosen = least;
    for (let i = 0; i < count; i++) {
      const button = box.appendChild(document.createElement("button"));
      button.className = "cap";
      button.textContent = String(least + i);
      button.setAttribute("aria-pressed", String(i === 0));
      const choose = (at) => {
        chosen = least + i;
        for (const other of box.querySelectorAll(".cap")) other.setAttribute("aria-pressed", String(other === button));
        onChoose(at);
      };
      button.addEventListener("click", (event) => choose(event.timeStamp));
      button.addEventListener("choose", (event) => choose(event.detail)); // a digit's key
    }
    return () => chosen;
  });
}

function sliders(space, place, onChoose, called, title) {
  const box = group(place, title);
  const whole = space.dtype.includes("int");
  const inputs = called(space).map((name, i) => slider(box, name, [bound(space.low, i, -1), bound(space.high, i, 1)], whole, onChoose));
  const middle = box.appendChild(document.createElement("button"));
  middle.textContent = "All to the middle";
  middle.addEventListener("click", (event) => {
    inputs.forEach(({ reset }) => reset());
    onChoose(event.timeStamp);
  });
  // a body's numbers are of one latent, and hold for all of the chunk's
  return () => array(Float32Array.from(filled(space.shape, 0), (_, i) => inputs[i % inputs.length].read()), space.shape);
}

function slider(box, name, [low, high], whole, onChoose) {
  const row = box.appendChild(document.createElement("label"));
  row.className = "slider";
  row.append(Object.assign(document.createElement("span"), { textContent: name }));
  const input = row.appendChild(document.createElement("input"));
  const said = row.appendChild(document.createElement("output"));
  const rest = String(Math.max(low, Math.min(high, 0)));
  Object.assign(input, { type: "range", min: low, max: high, step: whole ? 1 : (high - low) / 100, value: rest });
  const say = () => (said.textContent = Number(input.value).toFixed(whole ? 0 : 2));
  const reset = () => {
    input.value = rest;
    say();
  };
  input.addEventListener("input", (event) => {
    say();
    onChoose(event.timeStamp);
  });
  say();
  return { reset, read: () => Number(input.value) };
}

function group(place, title) {
  const box = place.appendChild(document.createElement("div"));
  box.className = "choices";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", title || "Numbers of the action");
  if (title) box.append(Object.assign(document.createElement("small"), { textContent: title }));
  return box;
}

function bound(limits, i, without) {
  const flat = [limits].flat(Infinity);
  const value = flat[flat.length === 1 ? 0 : i];
  return Number.isFinite(value) && Math.abs(value) < 1e6 ? value : without;
}

function filled(shape, value) {
  return Array(shape.reduce((product, axis) => product * axis, 1)).fill(value);
}

function shapeOf(list) {
  return Array.isArray(list) ? [list.length, ...shapeOf(list[0])] : [];
}
