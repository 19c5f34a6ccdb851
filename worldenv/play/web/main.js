// The page: what is on it, and what its buttons and keys do.

import { BlindTest } from "./blind.js";
import { Client } from "./client.js";
import { Game } from "./game.js";
import { ask, token } from "./http.js";
import { camera, CameraInput } from "./input.js";
import { Insight } from "./insight.js";
import { listen, listKeys } from "./keys.js";
import { Pane } from "./pane.js";
import { PartsInput } from "./parts.js";
import { Recorder } from "./record.js";
import { Gallery } from "./start.js";
import { Status } from "./status.js";
import { Strip } from "./strip.js";
import { psnr, seenBefore } from "./tree.js";

const get = (id) => document.getElementById(id);
const AWAY = 4; // chunks of turning away, and of turning back
const GAP = 14; // pixels between panes

class Page {
  constructor(config, client) {
    Object.assign(this, { config, panes: [], hatched: false, fresh: true });
    this.status = new Status();
    this.recorder = new Recorder();
    const game = (this.game = new Game(client, config, (chunk, t) => this.#draw(chunk, t)));
    this.strip = new Strip(get("strip"), (chunk) => game.look(chunk));
    this.gallery = new Gallery(config, (where) => this.begin(where), (error) => this.status.toast(error.message));
    this.blind = new BlindTest(config, {
      begin: (arms, begun) => this.#withArms(arms, begun),
      leave: () => this.#withArms([config.arms[0]], game.begun.options),
      toast: (text) => this.status.toast(text),
    });
    this.commands = {
      pause: () => this.#pause(), step: () => game.once(), undo: () => game.undo(), reset: () => this.begin(game.begun),
      earlier: () => this.#turnPages(-1), later: () => this.#turnPages(1), newest: () => game.look(game.head),
      seed: () => this.#newSeed(), gallery: () => this.gallery.open(game.begun.options.start), memory: () => this.#nextMemory(),
      compare: () => this.compare(), tour: () => this.tour(), hatch: () => this.#hatch(), record: () => this.record(),
      insight: () => this.showMap(document.body.classList.contains("plain")), run: () => this.#run(),
      help: () => get("help-dialog").showModal(),
    };
    this.#listen(client);
  }

  #listen(client) {
    const { game, status } = this;
    const told = {
      begun: () => this.#begun(), arms: () => this.#arms(), branch: () => this.#look(), chunk: () => this.#look(),
      trouble: (event) => this.#trouble(event.detail),
    };
    for (const [name, act] of Object.entries(told)) game.addEventListener(name, act);
    client.addEventListener("ended", (event) => status.toast(`The server ended a session: ${event.detail.why}`));
    client.addEventListener("lost", () => status.say("lost", "connection lost: start worldenv play again and reload"));
    for (const [name, act] of Object.entries(this.commands)) {
      const button = get(name);
      if (button?.matches("button")) button.addEventListener("click", act);
    }
    const fields = {
      seed: () => this.begin(game.begun), memory: (id) => this.#remember(id), rival: (id) => game.compare(this.#arm(id)),
      prompt: (text) => game.describe(text),
    };
    for (const [name, act] of Object.entries(fields)) {
      get(name).addEventListener("change", ({ target }) => {
        target.blur(); // the next key is the world's again
        act(target.value);
      });
    }
    document.addEventListener("click", ({ detail, target }) => {
      if (detail) target.closest("button:not(dialog *)")?.blur(); // likewise, unless the button was pressed by a key
    });
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => game.head && this.#look());
    get("prompt-field").hidden = !this.config.text;
    document.body.classList.toggle("parts", !this.config.camera);
    get("actions").hidden = this.config.camera;
    listen(this);
    listKeys(this.config.camera);
    new ResizeObserver(() => this.#resize()).observe(get("panes"));
    const tick = (now) => {
      if (game.player) {
        game.player.tick(now);
        game.advance();
        status.look(game, now);
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  /** Begin an episode: from a start view or a picture, under the seed that the page shows; tell whether it has begun. */
  begin({ options = {}, start = options.start ?? null, picture = null } = {}) {
    const seed = Math.max(0, Math.min(999999, Math.round(Number(get("seed").value)) || 0));
    get("seed").value = seed;
    return this.game.begin({ seed, start: picture ? null : start, picture, prompt: get("prompt").value || null });
  }

  #withArms(arms, { seed = Number(get("seed").value), start = this.config.start }) {
    return this.game.begin({ arms, seed, start, prompt: get("prompt").value || null });
  }

  #begun() {
    this.recorder.cancel();
    this.#recording();
    this.fresh = true;
    const { width, height } = this.game.about.spec;
    document.documentElement.style.setProperty("--aspect", width / height);
    this.insight = new Insight(this.game.about);
    this.strip.clear();
    this.#arms();
  }

  /** Lay out as many panes as there are arms. */
  #arms() {
    const { game, config } = this;
    const { width, height } = game.about.spec;
    while (this.panes.length > game.arms.length) this.panes.pop().remove();
    while (this.panes.length < game.arms.length) this.panes.push(new Pane(get("panes"), { width, height }));
    game.input ??= config.camera
      ? new CameraInput(get("keycaps"), this.panes[0].screen, (at) => this.#meant(at))
      : new PartsInput(game.about, get("parts"), (at) => this.#meant(at));
    game.arms.forEach((arm, i) => (this.panes[i].name = arm.name));
    const [first, other] = game.arms;
    const offered = this.#arm(this.#rival());
    const title = first.id === "memory" && offered.id === "none" ? "With / without memory" : `Compare ${offered.name.toLowerCase()}`;
    this.#turn("compare", Boolean(other), [title, "One picture again"]);
    get("rival-field").hidden = !other;
    get("tour").hidden = !config.camera;
    choose(get("rival"), config.arms.filter((arm) => arm.id !== first.id), other?.id);
    choose(get("memory"), config.arms.filter((arm) => arm.memory && arm.id !== other?.id), first.id);
    get("panes").classList.toggle("several", Boolean(other));
    this.showMap(!other);
    this.#resize();
    this.#look();
  }

  #resize() {
    const { width, height } = this.panes[0] ?? {};
    if (!width) return;
    const place = get("panes").getBoundingClientRect();
    const count = this.panes.length;
    const wide = (place.width - GAP * (count - 1)) / count;
    const high = Math.floor(Math.min(place.height, (wide * height) / width));
    for (const pane of this.panes) pane.resize(Math.floor((high * width) / height), high);
  }

  #draw(chunk, t) {
    this.panes.forEach((pane, i) => {
      const view = chunk.views[i];
      const known = this.hatched ? view?.outcome?.explained?.known : null;
      pane.draw(view?.frames[t] ?? null, view?.large[t], known);
    });
  }

  /** Show what is known of the chunk that is looked at; its pictures too, unless they are being played. */
  #look() {
    const { game } = this;
    const chunk = game.here;
    if (game.player.idle) this.#draw(chunk, chunk.shown - 1);
    this.panes.forEach((pane, i) => {
      const before = seenBefore(chunk, i);
      pane.alike = before && { chunk: before.index, db: psnr(chunk.views[i].frames.at(-1), before.views[i].frames.at(-1)) };
    });
    this.insight.show(chunk);
    this.strip.draw(game);
    this.#hint();
    get("undo").disabled = !game.head.parent;
    this.blind.played(chunk.index);
  }

  #hint() {
    this.status.hint(this.game, this.fresh && !this.game.head.parent, this.config.camera);
  }

  #trouble(error) {
    this.status.toast(error.message);
    this.#showPause(); // what goes wrong pauses
  }

  #meant(at) {
    this.#touch();
    this.game.meant(at);
  }

  /** Take the first hints away: the player knows. */
  #touch() {
    this.fresh = false;
    get("keycaps").classList.add("known");
    this.#hint();
  }

  #pause() {
    this.game.paused = !this.game.paused;
    this.#showPause();
  }

  #showPause() {
    this.#turn("pause", this.game.paused, ["Pause", "Go on"]);
  }

  /** Let a button say what it does next. */
  #turn(name, on, [before, after]) {
    get(name).dataset.on = on;
    get(name).querySelector("span").textContent = on ? after : before;
  }

  #newSeed() {
    get("seed").value = Math.floor(Math.random() * 1e6);
    return this.begin(this.game.begun);
  }

  #run() {
    this.game.running = !this.game.running;
    this.status.toast(this.game.running ? "Time runs." : "Time stands still while no key is held.");
  }

  #hatch() {
    this.hatched = !this.hatched;
    this.#look();
  }

  #turnPages(by) {
    const path = this.game.head.path;
    const chunk = path[path.indexOf(this.game.here) + by];
    if (chunk) this.game.look(chunk);
  }

  #arm(id) {
    return this.config.arms.find((arm) => arm.id === id);
  }

  /** What is offered beside the first arm. */
  #rival() {
    const { arms, compare } = this.config;
    return this.game.arms[0].id === compare ? arms[0].id : compare;
  }

  /** Show another arm beside the first, or the first alone again. */
  compare() {
    return this.game.compare(this.game.arms[1] ? null : this.#arm(this.#rival()));
  }

  #nextMemory() {
    const choices = [...get("memory").options].map((option) => option.value);
    return this.#remember(choices[(choices.indexOf(this.game.arms[0].id) + 1) % choices.length]);
  }

  #remember(id) {
    return this.game.remember(this.#arm(id));
  }

  /** Turn away and back again; the pictures can then be compared with those from before. */
  async tour() {
    if (!this.config.camera) return;
    this.#touch();
    for (let i = 0; i < 2 * AWAY; i++) {
      if (!(await this.game.once(camera(0, 0, 0, i < AWAY ? 1 : -1, 0)))) return; // something else was asked for
    }
  }

  /** Show the panel of what is remembered beside the pictures, or leave the room to them. */
  showMap(shown) {
    document.body.classList.toggle("plain", !shown);
    get("insight").setAttribute("aria-pressed", String(shown));
  }

  /** Begin to record, or end it and write what was shown since. */
  async record() {
    const { recorder, game, status } = this;
    try {
      if (!recorder.on) recorder.begin(game.head);
      else await recorder.end(game).then(({ video, folder, frames }) => {
        status.toast(`of ${frames} frames, and a shard for training: ${folder}`, { href: video, textContent: "A video", download: "video.mp4" });
      });
    } catch (error) {
      status.toast(error.message);
    }
    this.#recording();
  }

  #recording() {
    this.#turn("record", this.recorder.on, ["Record", "Stop"]);
  }
}

/** Offer arms in a list. */
function choose(list, arms, id) {
  list.replaceChildren(...arms.map((arm) => new Option(arm.name, arm.id)));
  list.value = id ?? "";
}

async function main() {
  const config = await (await ask("play/config")).json();
  const url = new URL(config.socket, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const page = new Page(config, await Client.connect(url.href, token));
  get("world").textContent = config.world;
  window.page = page; // for tests and measurements
  if (!(await page.begin({ start: config.start }))) page.status.say("lost", "the world could not begin; reload to try again");
}

main().catch((error) => {
  get("state").dataset.kind = "lost";
  get("state-text").textContent = error.message;
});
