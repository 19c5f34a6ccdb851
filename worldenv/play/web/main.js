// The page: what is on it, and what its buttons and keys do.

import { BlindTest } from "./blind.js";
import { Client } from "./client.js";
import { Game } from "./game.js";
import { makeInput } from "./input.js";
import { Insight } from "./insight.js";
import { Pane } from "./pane.js";
import { quantile } from "./player.js";
import { Recorder } from "./record.js";
import { Gallery } from "./start.js";
import { Strip } from "./strip.js";
import { psnr, seenBefore } from "./tree.js";

const get = (id) => document.getElementById(id);
const AWAY = 4; // chunks of turning away, and of turning back
const TELLING = new Set(["KeyC", "KeyI", "KeyK", "KeyM", "KeyG", "KeyN", "KeyR"]); // keys that would give a blind test away
const HELP = [
  ["W A S D", "walk"], ["← →  ↑ ↓", "turn, look up and down; or drag the picture"], ["Space", "pause"], [".", "one chunk"],
  ["Z", "take back a chunk"], ["[  ]", "look at earlier and later chunks"], ["R", "begin anew"], ["N", "another seed"],
  ["G", "start views, a picture of yours"], ["M", "another memory"], ["C", "side by side"], ["I", "what is remembered, from above"], ["T", "turn away and back"],
  ["K", "hatch what was imagined"], ["O", "record, and stop"], ["Y", "let time run"], ["Esc", "back to the newest chunk"],
];

class Page {
  constructor(config, client) {
    Object.assign(this, { config, client, panes: [], hatched: false, recorder: new Recorder() });
    this.game = new Game(client, config, (chunk, t) => this.#draw(chunk, t));
    this.strip = new Strip(get("strip"), (chunk) => this.game.look(chunk));
    this.gallery = new Gallery(config, (where) => this.begin(where), (error) => this.toast(error.message));
    this.blind = new BlindTest(config, {
      begin: (arms, begun) => this.#withArms(arms, begun),
      leave: () => this.#withArms([config.arms[0]], this.game.begun.options),
      toast: (text) => this.toast(text),
    });
    this.#listen();
  }

  async begin(where = {}) {
    this.recorder.cancel();
    this.touched = false;
    await this.game.begin({ seed: Number(get("seed").value), ...where });
  }

  async #withArms(arms, begun) {
    this.game.arms = arms;
    await this.game.begin({ seed: begun.seed ?? Number(get("seed").value), start: begun.start ?? 0 });
  }

  #listen() {
    const { game } = this;
    game.addEventListener("begun", () => this.#begun());
    game.addEventListener("arms", () => this.#arms());
    game.addEventListener("branch", () => this.#look());
    game.addEventListener("chunk", (event) => this.#chunk(event.detail));
    game.addEventListener("trouble", (event) => this.toast(event.detail.message));
    this.client.addEventListener("ended", (event) => this.toast(`The server ended this session: ${event.detail.why}`));
    this.client.addEventListener("lost", () => this.#say("lost", "connection lost: start worldenv play again and reload"));
    const acts = {
      pause: () => this.pause(), step: () => this.step(), undo: () => game.undo(), reset: () => this.begin(game.begun.options),
      gallery: () => this.gallery.open(game.begun.options.start), record: () => this.record(), tour: () => this.tour(),
      compare: () => this.compare(), insight: () => this.showMap(document.body.classList.contains("plain")), help: () => get("help-dialog").showModal(),
    };
    for (const [id, act] of Object.entries(acts)) get(id).addEventListener("click", act);
    this.keys = {
      Space: acts.pause, Period: acts.step, KeyZ: acts.undo, KeyR: acts.reset, KeyG: acts.gallery, KeyO: acts.record,
      KeyT: acts.tour, KeyC: acts.compare, KeyI: acts.insight, KeyN: () => this.newSeed(), KeyM: () => this.#nextMemory(), KeyK: () => this.#hatch(),
      KeyY: () => this.#run(), BracketLeft: () => this.#turnPages(-1), BracketRight: () => this.#turnPages(1), Escape: () => game.look(game.head),
    };
    get("seed").addEventListener("change", () => this.begin(game.begun.options));
    get("memory").addEventListener("change", (event) => this.#remember(event.target.value));
    get("keys").innerHTML = HELP.map(([key, does]) => `<dt><kbd>${key}</kbd></dt><dd>${does}</dd>`).join("");
    window.addEventListener("keydown", (event) => this.#down(event));
    window.addEventListener("keyup", (event) => this.game.input?.lift(event.code));
    new ResizeObserver(() => this.#resize()).observe(get("panes"));
    const tick = (now) => {
      if (game.player) {
        game.player.tick(now);
        game.advance();
        this.#meters(now);
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  #down(event) {
    const typing = event.target.matches?.("input, select, textarea") || document.querySelector("dialog[open]");
    const pressing = event.target.matches?.("button") && (event.code === "Space" || event.code === "Enter");
    if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey || !this.game.input) return;
    if (event.key === "?") return get("help-dialog").showModal();
    if (this.game.input.knows(event.code)) {
      event.preventDefault();
      this.game.input.press(event.code, event.timeStamp);
    } else if (this.keys[event.code] && !event.repeat && !(this.blind.on && TELLING.has(event.code))) {
      event.preventDefault();
      this.keys[event.code]();
    }
  }

  #begun() {
    const { game } = this;
    this.#arms();
    this.insight = new Insight(game.about);
    this.strip.clear();
    this.#look();
  }

  /** Lay out as many panes as there are arms. */
  #arms() {
    const { game } = this;
    const { width, height } = game.about.spec;
    const fresh = this.panes.length === 0;
    while (this.panes.length > game.arms.length) this.panes.pop().remove();
    while (this.panes.length < game.arms.length) this.panes.push(new Pane(get("panes"), { width, height }));
    if (fresh) {
      const { camera } = this.config;
      game.input = makeInput(camera, game.about.action_space, get("keycaps"), this.panes[0].screen, (at) => this.#meant(at));
    }
    game.arms.forEach((arm, i) => Object.assign(this.panes[i], { name: arm.name }));
    const other = game.arms[1];
    get("compare").setAttribute("aria-pressed", String(Boolean(other)));
    const offered = this.config.arms.find((arm) => arm.id === this.#rival());
    get("compare").hidden = !offered;
    const title = game.arms[0].id === "memory" && offered?.id === "none" ? "With / without memory" : `Compare ${offered?.name.toLowerCase()}`;
    get("compare").querySelector("span").textContent = other ? "One picture again" : title;
    get("panes").classList.toggle("several", Boolean(other));
    this.showMap(!other);
    get("memory").replaceChildren(...this.config.arms.filter((arm) => arm.memory).map((arm) => new Option(arm.name, arm.id)));
    get("memory").value = game.arms[0].id;
    this.#resize();
    this.#look();
  }

  #resize() {
    const { width, height } = this.panes[0] ?? {};
    if (!width) return;
    const place = get("panes").getBoundingClientRect();
    const count = this.panes.length;
    const high = Math.floor(Math.min(place.height, ((place.width - 14 * (count - 1)) / count) * (height / width)));
    for (const pane of this.panes) pane.resize(Math.floor((high * width) / height), high);
  }

  #draw(chunk, t) {
    chunk.views.forEach((view, i) => this.panes[i]?.draw(view.frames[t], this.hatched ? view.outcome?.explained?.known : null));
  }

  /** Show the chunk that is looked at, as it ended. */
  #look() {
    const { game } = this;
    const chunk = game.here;
    this.#draw(chunk, chunk.shown - 1);
    this.panes.forEach((pane, i) => {
      const before = chunk.views[i] && seenBefore(chunk, i);
      pane.alike = before && { chunk: before.index, db: psnr(chunk.views[i].frames.at(-1), before.views[i].frames.at(-1)) };
    });
    this.insight?.show(chunk);
    this.strip.draw(game);
    this.#hint();
    get("undo").disabled = !game.head.parent;
  }

  #hint() {
    const { game } = this;
    let text = "";
    if (game.over) text = "The episode has ended.<small>R begins anew, Z takes the last chunk back</small>";
    else if (game.cursor) text = `Chunk ${game.cursor.index}.<small>Move, and a new branch begins here. Esc: back to the newest</small>`;
    else if (!this.touched && game.head.index === 0) {
      text = this.config.camera
        ? "Hold W to walk, ← → to turn.<small>All but this first picture is imagined as you go.</small>"
        : "Choose an action.<small>All but this first picture is imagined as you go.</small>";
    }
    get("hint").innerHTML = text;
    get("hint").hidden = !text;
    get("hint").className = game.over || game.cursor ? "small" : "";
  }

  #meant(at) {
    this.#touch();
    this.game.meant(at);
  }

  /** Take the hints away: the player knows. */
  #touch() {
    this.touched = true;
    get("keycaps").classList.add("known");
    this.#hint();
  }

  #chunk(chunk) {
    this.#look();
    this.blind.played(chunk.index);
  }

  pause() {
    this.game.paused = !this.game.paused;
    get("pause").setAttribute("aria-pressed", String(this.game.paused));
    get("pause").querySelector("span").textContent = this.game.paused ? "Go on" : "Pause";
  }

  step() {
    return this.game.once();
  }

  newSeed() {
    get("seed").value = Math.floor(Math.random() * 1e6);
    return this.begin(this.game.begun.options);
  }

  #run() {
    this.game.running = !this.game.running;
    this.toast(this.game.running ? "Time runs." : "Time stands still while no key is held.");
  }

  #hatch() {
    this.hatched = !this.hatched;
    this.#look();
  }

  #turnPages(by) {
    const path = this.game.head.path;
    const at = path.indexOf(this.game.here) + by;
    if (path[at]) this.game.look(path[at]);
  }

  #rival() {
    const { arms, compare } = this.config;
    const first = this.game.arms[0];
    return first.id === compare ? arms[0].id : compare;
  }

  /** Show another arm beside the first, or the first alone again. */
  compare(id = this.#rival()) {
    return this.game.compare(this.game.arms[1] ? null : this.config.arms.find((arm) => arm.id === id));
  }

  #nextMemory() {
    const choices = [...get("memory").options].map((option) => option.value);
    return this.#remember(choices[(choices.indexOf(this.game.arms[0].id) + 1) % choices.length]);
  }

  #remember(id) {
    return this.game.remember(this.config.arms.find((arm) => arm.id === id));
  }

  /** Turn away and back again; the pictures can then be compared with those from before. */
  async tour() {
    this.#touch();
    for (let i = 0; i < 2 * AWAY; i++) await this.game.once(Float32Array.of(0, 0, 0, i < AWAY ? 1 : -1, 0));
  }

  /** Show the panel of what is remembered beside the pictures, or leave the room to them. */
  showMap(shown) {
    document.body.classList.toggle("plain", !shown);
    get("insight").setAttribute("aria-pressed", String(shown));
  }

  /** Begin to record, or end it and write what was shown since. */
  async record() {
    const { recorder, game } = this;
    const button = get("record");
    try {
      if (!recorder.on) recorder.begin(game.head);
      else await recorder.end(game).then(({ video, folder, frames }) => {
        this.toast(`${frames} frames: <a href="${video}" download>video</a>, and a shard for training, in ${folder}`, true);
      });
    } catch (error) {
      this.toast(error.message);
    }
    button.setAttribute("aria-pressed", String(recorder.on));
    button.querySelector("span").textContent = recorder.on ? "Stop" : "Record";
  }

  #meters(now) {
    const { game } = this;
    if (now - (this.metered ?? 0) < 250) return;
    this.metered = now;
    const fps = game.player.measuredFps(now);
    get("fps").textContent = fps ? fps.toFixed(0) : "–";
    const { rest, moving } = game.player.latencies;
    const newest = quantile(rest.slice(-20), 0.5);
    get("latency").textContent = newest === null ? "–" : newest.toFixed(0);
    const said = (all) => (all.length ? `${quantile(all, 0.5).toFixed(0)} ms median, ${quantile(all, 0.95).toFixed(0)} p95 of ${all.length}` : "none yet");
    get("latency-meter").title = `From a key to the picture that answers it. From rest: ${said(rest)}. While moving: ${said(moving)}. A chunk: ${game.player.chunkMs.toFixed(0)} ms`;
    if (game.paused) this.#say("paused", "paused");
    else if (game.over) this.#say("over", "ended");
    else this.#say("live", game.busy || !game.player.idle ? "moving" : "ready");
  }

  #say(kind, text) {
    if (get("state").dataset.kind === "lost" || get("state-text").textContent === text) return;
    get("state").dataset.kind = kind;
    get("state-text").textContent = text;
  }

  toast(text, html = false) {
    get("toast")[html ? "innerHTML" : "textContent"] = text;
    get("toast").hidden = false;
    clearTimeout(this.toasting);
    this.toasting = setTimeout(() => (get("toast").hidden = true), 9000);
  }
}

async function main() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  const config = await (await fetch("play/config")).json();
  const url = new URL(config.socket, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const page = new Page(config, await Client.connect(url.href, token));
  get("world").textContent = config.world;
  window.page = page; // for tests and measurements
  await page.begin({ start: 0 });
}

main().catch((error) => {
  get("state").dataset.kind = "lost";
  get("state-text").textContent = error.message;
});
