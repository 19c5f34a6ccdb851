// What the player does in a world with a camera: keys held and the mouse dragged, as an action.

import { array } from "./client.js";

const KEYS = {
  KeyW: [0, 1], KeyS: [0, -1], KeyD: [1, 1], KeyA: [1, -1],
  ArrowRight: [3, 1], ArrowLeft: [3, -1], ArrowUp: [4, 1], ArrowDown: [4, -1],
};
const CAPS = [
  ["walk", [["KeyW", "W"]], [["KeyA", "A"], ["KeyS", "S"], ["KeyD", "D"]]],
  ["look", [["ArrowUp", "↑"]], [["ArrowLeft", "←"], ["ArrowDown", "↓"], ["ArrowRight", "→"]]],
];
const FULL_TURN = 45; // pixels of dragging that are a whole step of turning

/** Keys held, and the mouse dragged: (forward, right, up, yaw, pitch) in units of the world's step. */
export class CameraInput {
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

  /** Return the action of the coming chunk, as messages hold it; taps since the last one count, a turn by mouse is taken once. */
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
    return camera(...action);
  }
}

/** Return an action of a camera, each number in -1..1 of the world's step, as messages hold it. */
export function camera(forward, right, up, yaw, pitch) {
  return array(Float32Array.of(forward, right, up, yaw, pitch).map((value) => Math.max(-1, Math.min(1, value))));
}
