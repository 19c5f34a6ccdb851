// What the player does, as an action of the session's space: keys and mouse for a camera, else a widget per part.

const KEYS = {
  KeyW: [0, 1], KeyS: [0, -1], KeyD: [1, 1], KeyA: [1, -1],
  ArrowRight: [3, 1], ArrowLeft: [3, -1], ArrowUp: [4, 1], ArrowDown: [4, -1],
};
const CAPS = [
  ["walk", [["KeyW", "W"]], [["KeyA", "A"], ["KeyS", "S"], ["KeyD", "D"]]],
  ["look", [["ArrowUp", "↑"]], [["ArrowLeft", "←"], ["ArrowDown", "↓"], ["ArrowRight", "→"]]],
];
const FULL_TURN = 45; // pixels of dragging that are a whole step of turning

/** Return what reads the player's actions; ``onChange`` is called when another action is meant. */
export function makeInput(camera, space, place, screen, onChange) {
  return camera ? new CameraInput(place, screen, onChange) : new PartsInput(space, place, onChange);
}

/** Keys held, and the mouse dragged: (forward, right, up, yaw, pitch) in units of the world's step. */
class CameraInput {
  #held = new Set();
  #tapped = new Set();
  #drag = null;

  constructor(place, screen, onChange) {
    this.onChange = onChange;
    this.place = place;
    place.replaceChildren(...CAPS.map(([title, ...rows]) => this.#caps(title, rows)));
    screen.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      screen.setPointerCapture(event.pointerId);
      this.#drag = { x: event.clientX, y: event.clientY, dx: 0, dy: 0, at: event.timeStamp };
    });
    screen.addEventListener("pointermove", (event) => this.#look(event));
    for (const end of ["pointerup", "pointercancel"]) screen.addEventListener(end, () => this.#release());
    window.addEventListener("blur", () => this.clear());
  }

  #caps(title, rows) {
    const group = document.createElement("div");
    group.className = "caps";
    for (const row of rows) {
      const line = document.createElement("div");
      for (const [code, label] of row) line.append(this.#cap(code, label, title));
      group.append(line);
    }
    const name = document.createElement("small");
    name.textContent = title;
    group.append(name);
    return group;
  }

  #cap(code, label, title) {
    const cap = document.createElement("button");
    cap.className = "cap";
    cap.textContent = label;
    cap.dataset.code = code;
    cap.tabIndex = -1; // the keyboard has the key itself
    cap.setAttribute("aria-label", `${title}: ${label}`);
    cap.addEventListener("pointerdown", (event) => {
      cap.setPointerCapture(event.pointerId);
      this.press(code, event.timeStamp);
    });
    for (const end of ["pointerup", "pointercancel"]) cap.addEventListener(end, () => this.lift(code));
    return cap;
  }

  #look(event) {
    if (!this.#drag) return;
    this.#drag.dx = event.clientX - this.#drag.x;
    this.#drag.dy = event.clientY - this.#drag.y;
    if (this.turning && !this.#drag.told) {
      this.#drag.told = true;
      this.onChange(event.timeStamp);
    }
  }

  #release() {
    this.#drag = null;
  }

  get turning() {
    return this.#drag && Math.hypot(this.#drag.dx, this.#drag.dy) > 6;
  }

  knows(code) {
    return code in KEYS;
  }

  press(code, at) {
    if (this.#held.has(code)) return;
    this.#held.add(code);
    this.#tapped.add(code);
    this.place.querySelector(`[data-code="${code}"]`)?.classList.add("down");
    this.onChange(at);
  }

  lift(code) {
    this.#held.delete(code);
    this.place.querySelector(`[data-code="${code}"]`)?.classList.remove("down");
  }

  clear() {
    for (const code of [...this.#held]) this.lift(code);
    this.#tapped.clear();
    this.#release();
  }

  /** Whether anything is meant to happen. */
  get active() {
    return this.#held.size > 0 || this.#tapped.size > 0 || Boolean(this.turning);
  }

  /** Return the action of the coming chunk; taps since the last one count, a turn by mouse is taken once. */
  take() {
    const action = [0, 0, 0, 0, 0];
    for (const code of new Set([...this.#held, ...this.#tapped])) {
      const [axis, sign] = KEYS[code];
      action[axis] += sign;
    }
    if (this.turning) {
      action[3] += this.#drag.dx / FULL_TURN;
      action[4] -= this.#drag.dy / FULL_TURN;
      Object.assign(this.#drag, { x: this.#drag.x + this.#drag.dx, y: this.#drag.y + this.#drag.dy, dx: 0, dy: 0, told: false });
    }
    this.#tapped.clear();
    return Float32Array.from(action, (value) => Math.max(-1, Math.min(1, value)));
  }
}

/** A button for each choice, a slider for each number; what is chosen holds until another is. */
class PartsInput {
  constructor(space, place, onChange) {
    this.onChange = onChange;
    this.pressed = false;
    this.read = widget(space, place, (at) => {
      this.pressed = true;
      onChange(at);
    });
    this.buttons = [...place.querySelectorAll("button")];
  }

  knows(code) {
    return /^Digit[0-9]$/.test(code) && Number(code.slice(5)) < this.buttons.length;
  }

  press(code) {
    this.buttons[Number(code.slice(5))].click();
  }

  lift() {}

  clear() {
    this.pressed = false;
  }

  get active() {
    return this.pressed;
  }

  take() {
    this.pressed = false;
    return this.read();
  }
}

/** Fill ``place`` with what chooses an element of a space, and return what reads it. */
function widget(space, place, onChoose, title = "") {
  place.replaceChildren();
  if (space.kind === "dict") {
    const parts = Object.entries(space.parts).map(([name, part]) => {
      const box = place.appendChild(document.createElement("div"));
      return [name, widget(part, box, onChoose, name)];
    });
    return () => Object.fromEntries(parts.map(([name, read]) => [name, read()]));
  }
  if (space.kind === "discrete") {
    const [read] = choices([{ count: space.n, least: space.start ?? 0 }], place, onChoose, title);
    return read;
  }
  if (space.kind === "multi_discrete" || space.kind === "multi_binary") {
    const counts = space.nvec ?? Array(size(space.shape)).fill(2);
    const least = space.start ?? counts.map(() => 0);
    const reads = choices(counts.map((count, i) => ({ count, least: least[i] ?? 0 })), place, onChoose, title);
    return () => reads.map((read) => read());
  }
  return sliders(space, place, onChoose, title);
}

function choices(parts, place, onChoose, title) {
  return parts.map(({ count, least }, part) => {
    const box = place.appendChild(document.createElement("div"));
    box.className = "choices";
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", title || `choice ${part + 1}`);
    let chosen = least;
    for (let i = 0; i < count; i++) {
      const button = box.appendChild(document.createElement("button"));
      button.className = "cap";
      button.textContent = String(least + i);
      button.addEventListener("click", (event) => {
        chosen = least + i;
        for (const other of box.children) other.classList.toggle("down", other === button);
        onChoose(event.timeStamp);
      });
    }
    return () => chosen;
  });
}

function sliders(space, place, onChoose, title) {
  const count = size(space.shape);
  const box = place.appendChild(document.createElement("div"));
  box.className = "choices";
  const inputs = Array.from({ length: count }, (_, i) => {
    const [low, high] = [bound(space.low, i, -1), bound(space.high, i, 1)];
    const label = box.appendChild(document.createElement("label"));
    label.textContent = `${title} ${i + 1}`.trim();
    const input = label.appendChild(document.createElement("input"));
    Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 100, value: Math.max(low, Math.min(high, 0)) });
    input.addEventListener("input", (event) => onChoose(event.timeStamp));
    input.addEventListener("dblclick", () => (input.value = 0));
    return input;
  });
  return () => Float32Array.from(inputs, (input) => Number(input.value));
}

function bound(limits, i, without) {
  const flat = [limits].flat(Infinity);
  const value = flat[flat.length === 1 ? 0 : i];
  return Number.isFinite(value) && Math.abs(value) < 1e6 ? value : without;
}

function size(shape) {
  return shape.reduce((product, axis) => product * axis, 1);
}
