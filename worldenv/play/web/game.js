// A game: the sessions that are played, the tree of what was played, and the loop that asks for the next chunk.

import { array, Session } from "./client.js";
import { Player } from "./player.js";
import { Branch, Chunk, settle } from "./tree.js";

const MOST_BRANCHES = 8; // with sessions of their own

/** Events: ``begun``, ``chunk``, ``branch``, ``arms`` (what is seen has changed), ``trouble`` (detail: the error). */
export class Game extends EventTarget {
  constructor(client, config, draw) {
    super();
    Object.assign(this, { client, config, draw });
    this.arms = [config.arms[0]];
    this.branches = [];
    this.branch = null;
    this.cursor = null; // a chunk that is looked at, if not the newest
    this.paused = false;
    this.running = false; // whether time goes on while no key is held
    this.input = null;
    this.inputs = 0; // number of the newest input
    this.busy = false;
    this.asked = null; // one more chunk, whatever is held
    this.begun = { seed: 0, options: {} };
  }

  get head() {
    return this.branch?.head ?? null;
  }

  /** The chunk that is looked at. */
  get here() {
    return this.cursor ?? this.head;
  }

  get over() {
    return Boolean(this.head?.views[0].outcome?.terminated || this.head?.views[0].outcome?.truncated);
  }

  get about() {
    return this.branch.sessions[0].about;
  }

  /** Begin an episode: other sessions are closed. */
  async begin({ seed, start = null, picture = null, prompt = null }) {
    await this.#alone(async () => {
      const options = { ...(start === null ? {} : { start }), ...(prompt ? { prompt } : {}) };
      const begun = { seed, options, picture: picture ?? undefined };
      const fresh = await Promise.all(this.arms.map((arm) => Session.create(this.client, arm.env, arm.options)));
      const views = await Promise.all(fresh.map((session) => session.reset(seed, options, begun.picture)));
      this.branches.forEach((branch) => branch.close());
      this.begun = begun;
      const root = new Chunk(null, fresh.length);
      views.forEach(({ outcome, frames }, i) => this.#take(root, i, outcome, frames));
      this.branch = new Branch(1, fresh, root);
      root.branch = this.branch;
      this.branches = [this.branch];
      this.cursor = null;
      this.#newPlayer();
      this.#tell("begun");
    });
  }

  #take(chunk, pane, outcome, frames) {
    chunk.views[pane] ??= { frames: [], c2w: null, outcome: null };
    chunk.views[pane].frames = frames;
    settle(chunk.views[pane], outcome);
  }

  #newPlayer() {
    const { fps, chunk_latents: latents, frames_per_latent: each } = this.about.spec;
    const before = this.player;
    this.player = new Player(fps, latents * each, this.draw);
    if (before) Object.assign(this.player, { latencies: before.latencies, firstMs: before.firstMs, chunkMs: before.chunkMs });
  }

  /** Note that the player means something else now, at a time of the page's clock. */
  meant(at) {
    this.inputs++;
    this.player?.mark(this.inputs, at, this.busy || !this.player.idle);
    this.advance();
  }

  /** Ask for the next chunk if it is time; to be called often. */
  advance() {
    const wanted = this.asked || (!this.paused && (this.input.active || this.running));
    if (!wanted || this.busy || this.over || !this.player.hungry) return;
    const action = this.asked?.action ?? this.input.take();
    const [input, resolve] = [this.inputs, this.asked?.resolve];
    this.asked = null;
    this.#alone(async () => {
      if (this.cursor) await this.#goOn(this.cursor);
      await this.#step(action, input);
    }).then(resolve, resolve);
  }

  /** Do this for one chunk, or what is held, even while paused; resolves when the chunk is there. */
  once(action = null) {
    return new Promise((resolve) => {
      this.asked = { action: action ?? this.input.take(), resolve };
      this.inputs++;
    });
  }

  async #step(action, input) {
    const branch = this.branch;
    const chunk = new Chunk(this.head, branch.sessions.length, { action, input });
    chunk.branch = branch;
    const began = performance.now();
    let first = 0;
    const asked = branch.sessions.map(async (session, i) => {
      const view = chunk.views[i];
      const outcome = await session.step(wire(action), (frame) => {
        first ||= performance.now() - began;
        view.frames.push(frame);
      });
      settle(view, outcome);
    });
    this.player.add(chunk);
    try {
      await Promise.all(asked);
    } catch (error) {
      this.player.clear();
      throw error;
    }
    this.player.measured(first, performance.now() - began);
    branch.head = chunk;
    this.#tell("chunk", chunk);
  }

  /** Take back the newest chunk. */
  async undo() {
    await this.#alone(async () => {
      const chunk = this.head;
      if (!chunk.parent) return;
      await Promise.all(this.branch.sessions.map((session, i) => this.#return(session, i, chunk.parent)));
      this.branch.head = chunk.parent;
      this.cursor = null;
      this.player.clear();
      this.#tell("branch");
    });
  }

  async #return(session, pane, chunk) {
    if (session.branches) await session.back(chunk.index);
    else await this.#replay(session, chunk, pane);
  }

  /** Look at a chunk; what is done next goes on from there. */
  look(chunk) {
    this.cursor = chunk === this.head ? null : chunk;
    this.player.clear();
    this.#tell("branch");
  }

  async #goOn(chunk) {
    const there = this.branches.find((branch) => branch.head === chunk && branch.sessions.length);
    this.branch = there ?? (await this.#branchAt(chunk));
    this.cursor = null;
    await this.#fill(this.branch);
    this.#tell("branch");
  }

  async #branchAt(chunk) {
    const trunk = this.branches.find((branch) => branch.sessions.length && branch.head.path.includes(chunk));
    if (!trunk) throw new Error("no session remembers this chunk any more; begin anew with R");
    const number = Math.max(...this.branches.map((branch) => branch.number)) + 1;
    const reseed = this.begun.seed + 1000 * number;
    const some = trunk.sessions.slice(0, this.arms.length);
    const made = await Promise.all(some.map((session, i) => this.#fork(session, i, chunk, { reseed })));
    const branch = new Branch(number, made, chunk);
    this.branches.push(branch);
    const open = this.branches.filter((other) => other.sessions.length && other !== branch);
    if (open.length >= MOST_BRANCHES) open[0].close();
    return branch;
  }

  async #fork(session, pane, chunk, options) {
    if (session.branches) return session.fork(chunk.index, options);
    const made = await Session.create(this.client, this.arms[pane].env, this.arms[pane].options);
    await this.#replay(made, chunk, pane);
    return made;
  }

  /** Bring a session to a chunk by doing again what led there; what it shows on the way is what the pane shows. */
  async #replay(session, chunk, pane) {
    for (const past of chunk.path) {
      const frames = [];
      const outcome = past.parent
        ? await session.step(wire(past.action), (frame) => frames.push(frame))
        : await session.reset(this.begun.seed, this.begun.options, this.begun.picture).then((made) => {
            frames.push(...made.frames);
            return made.outcome;
          });
      this.#take(past, pane, outcome, frames);
    }
  }

  /** Show another arm beside the first, from here on, under the same keys; null shows the first alone. */
  async compare(arm) {
    await this.#alone(async () => {
      if (arm?.id === this.arms[1]?.id) return;
      for (const branch of this.branches) branch.sessions.splice(1).forEach((session) => session.close());
      for (const chunk of new Set(this.branches.flatMap((branch) => branch.head.path))) chunk.views.splice(1);
      this.arms = arm ? [this.arms[0], arm] : [this.arms[0]];
      await this.#fill(this.branch);
      this.player.clear();
      this.#tell("arms");
    });
  }

  /** Open the sessions that a branch lacks. */
  async #fill(branch) {
    const [arm, first] = [this.arms[1], branch.sessions[0]];
    if (!arm || branch.sessions.length > 1) return;
    if (arm.env === this.arms[0].env && first.branches) {
      branch.sessions.push(await first.fork(branch.head.index, { memory: arm.memory }));
      for (const chunk of branch.head.path) chunk.views[1] ??= { ...chunk.views[0] };
    } else {
      const twin = await Session.create(this.client, arm.env, arm.options);
      await this.#replay(twin, branch.head, 1);
      branch.sessions.push(twin);
    }
  }

  /** Go on with another memory. */
  async remember(arm) {
    await this.#alone(async () => {
      await Promise.all(this.branches.filter((b) => b.sessions.length).map((b) => b.sessions[0].remember(arm.memory)));
      this.arms[0] = arm;
      this.#tell("arms");
    });
  }

  /** Do one thing after the other, and tell of what goes wrong. */
  async #alone(act) {
    while (this.busy) await new Promise((resolve) => setTimeout(resolve, 5));
    this.busy = true;
    try {
      await act();
    } catch (error) {
      this.paused = true;
      this.#tell("trouble", error);
    } finally {
      this.busy = false;
    }
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Return an action as messages hold it. */
function wire(action) {
  if (action instanceof Float32Array) return array(action);
  if (action?.constructor !== Object) return action;
  return Object.fromEntries(Object.entries(action).map(([name, part]) => [name, wire(part)]));
}
