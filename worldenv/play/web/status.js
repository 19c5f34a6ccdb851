// What the page says: hints over the picture, how fast it is, what has happened.

import { quantile } from "./player.js";

const get = (id) => document.getElementById(id);
const EVERY = 250; // ms between two looks at the meters
const TOAST = 9000; // ms that a message stays

/** Says how a game stands. */
export class Status {
  #looked = 0;
  #fps = 0;
  #fading = 0;

  /** Say something for a while; ``link`` (address, text) is put in front of it. */
  toast(text, link = null) {
    const toast = get("toast");
    toast.replaceChildren(...(link ? [Object.assign(document.createElement("a"), link), " "] : []), text);
    toast.hidden = false;
    clearTimeout(this.#fading);
    this.#fading = setTimeout(() => (toast.hidden = true), TOAST);
  }

  /** Say whether the game lives, and in a word what it does. */
  say(kind, text) {
    if (get("state").dataset.kind === "lost" || get("state-text").textContent === text) return;
    get("state").dataset.kind = kind;
    get("state-text").textContent = text;
  }

  /** Say what one can do now. */
  hint(game, fresh, camera) {
    let [text, more] = ["", ""];
    if (game.over) [text, more] = ["The episode has ended.", "R begins anew, Z takes the last chunk back"];
    else if (game.cursor) [text, more] = [`Chunk ${game.cursor.index}.`, "Move, and a new branch begins here. Esc: back to the newest"];
    else if (fresh) [text, more] = [camera ? "Hold W to walk, ← → to turn." : "Choose an action on the right.", "All but this first picture is imagined as you go."];
    get("hint").hidden = !text;
    get("hint").className = game.over || game.cursor ? "small" : "";
    get("hint").replaceChildren(text, Object.assign(document.createElement("small"), { textContent: more }));
  }

  /** Look at the meters, from time to time. */
  look(game, now) {
    if (now - this.#looked < EVERY) return;
    this.#looked = now;
    const { player } = game;
    this.#fps = player.measuredFps(now) || this.#fps;
    get("fps").textContent = this.#fps ? this.#fps.toFixed(0) : "–";
    const { rest, moving } = player.latencies;
    const newest = quantile(rest.slice(-20), 0.5);
    get("latency").textContent = newest === null ? "–" : newest.toFixed(0);
    get("latency-meter").title =
      `From a key to the picture that answers it. From rest: ${summary(rest)}. While moving: ${summary(moving)}. A chunk: ${player.chunkMs.toFixed(0)} ms`;
    if (game.paused) this.say("paused", "paused");
    else if (game.over) this.say("over", "ended");
    else this.say("live", game.busy || !player.idle ? "moving" : "ready");
  }
}

function summary(all) {
  return all.length ? `${quantile(all, 0.5).toFixed(0)} ms median, ${quantile(all, 0.95).toFixed(0)} p95 of ${all.length}` : "none yet";
}
