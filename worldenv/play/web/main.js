// The page: what is on it, and what its buttons and keys do.

import { BlindTest } from "./blind.js";
import { Client } from "./client.js";
import { Game } from "./game.js";
import { makeInput } from "./input.js";
import { Insight } from "./insight.js";
import { listen, listKeys } from "./keys.js";
import { Pane } from "./pane.js";
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
    get("seed").addEventListener("change", () => this.begin(game.begun));
    get("memory").addEventListener("change", (event) => this.#remember(event.target.value));
    get("rival").addEventListener("change", (event) => this.game.compare(this.#arm(event.target.value)));
    listen(this);
    listKeys();
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

  /** Begin an episode: from a start view or a picture, under the seed that the page shows. */
  async begin({ options = {}, start = options.start ?? null, picture = null, prompt = options.prompt ?? null } = {}) {
    this.recorder.cancel();
    this.#recording();
    this.fresh = true;
    await this.game.begin({ seed: Number(get("seed").value), start: picture ? null : start, picture, prompt });
  }

  async #withArms(arms, { seed = Number(get("seed").value), start = this.config.start }) {
    this.game.arms = arms;
    await this.game.begin({ seed, start });
  }

  #begun() {
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
    game.input ??= makeInput(config.camera, game.about.action_space, get("keycaps"), this.panes[0].screen, (at) => this.#meant(at));
    game.arms.forEach((arm, i) => (this.panes[i].name = arm.name));
    const [first, other] = game.arms;
    const offered = this.#arm(this.#rival());
    const title = first.id === "memory" && offered.id === "none" ? "With / without memory" : `Compare ${offered.name.toLowerCase()}`;
    get("compare").setAttribute("aria-pressed", String(Boolean(other)));
    get("compare").querySelector("span").textContent = other ? "One picture again" : title;
    get("rival-field").hidden = !other;
    get("tour").hidden = !config.camera;
    choose(get("rival"), config.arms.filter((arm) => arm.id !== first.id), other?.id);
    choose(get("memory"), config.arms.filter((arm) => arm.memory), first.id);
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
    chunk.views.forEach((view, i) => this.panes[i]?.draw(view.frames[t], this.hatched ? view.outcome?.explained?.known : null));
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
    get("pause").setAttribute("aria-pressed", "true");
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
    get("pause").setAttribute("aria-pressed", String(this.game.paused));
    get("pause").querySelector("span").textContent = this.game.paused ? "Go on" : "Pause";
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
    for (let i = 0; i < 2 * AWAY; i++) await this.game.once(Float32Array.of(0, 0, 0, i < AWAY ? 1 : -1, 0));
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
        status.toast(`of ${frames} frames, and a shard for training: ${folder}`, { href: video, textContent: "A video" });
      });
    } catch (error) {
      status.toast(error.message);
    }
    this.#recording();
  }

  #recording() {
    get("record").setAttribute("aria-pressed", String(this.recorder.on));
    get("record").querySelector("span").textContent = this.recorder.on ? "Stop" : "Record";
  }
}

/** Offer arms in a list. */
function choose(list, arms, id) {
  list.replaceChildren(...arms.map((arm) => new Option(arm.name, arm.id)));
  list.value = id ?? "";
}

async function main() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  const config = await (await fetch("play/config")).json();
  const url = new URL(config.socket, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const page = new Page(config, await Client.connect(url.href, token));
  get("world").textContent = config.world;
  window.page = page; // for tests and measurements
  await page.begin({ start: config.start });
}

main().catch((error) => {
  get("state").dataset.kind = "lost";
  get("state-text").textContent = error.message;
});
