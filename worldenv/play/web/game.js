// A game: the sessions that are played, the tree of what was played, and the loop that asks for the next chunk.

import { Session } from "./client.js";
import { Player } from "./player.js";
import { Branch, Chunk, settle, view } from "./tree.js";

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
    this.asked = []; // chunks that come whatever is held: {action, resolve}
    this.begun = { seed: 0, options: {} };
  }

  get head() {
    return this.branch?.head ?? null;
  }

  /** The chunk that is looked at. */
  get here() {
    return this.cursor ?? this.head;
  }

  /** Whether the episode ended with the chunk that is looked at: nothing follows on it. */
  get over() {
    const outcome = this.here?.views[0].outcome;
    return Boolean(outcome?.terminated || outcome?.truncated);
  }

  get about() {
    return this.branch.sessions[0].about;
  }

  /** Begin an episode: other sessions are closed. Where it cannot begin, the last one goes on. */
  begin({ arms = this.arms, seed, start = null, picture = null, prompt = null }) {
    this.drop();
    return this.#alone(async () => {
      const options = { ...(start === null ? {} : { start }), ...(prompt ? { prompt } : {}) };
      const begun = { seed, options, picture: picture ?? undefined };
      const root = new Chunk(null, arms.length);
      const fresh = await together(arms.map((arm, i) => this.#open(arm, async (session) => {
        this.#take(root, i, await session.reset(seed, options, begun.picture));
      })));
      this.drop();
      this.branches.forEach((branch) => branch.close());
      [this.begun, this.arms] = [begun, arms];
      this.branch = new Branch(1, fresh, root);
      root.branch = this.branch;
      this.branches = [this.branch];
      this.cursor = null;
      this.#newPlayer();
      this.#tell("begun");
    });
  }

  /** Open a session of an arm and do something with it; it is closed where that fails. */
  async #open(arm, act) {
    const session = await Session.create(this.client, arm.env, arm.options, this.config.display);
    try {
      await act(session);
    } catch (error) {
      session.close();
      throw error;
    }
    return session;
  }

  #take(chunk, pane, { outcome, frames, large }) {
    chunk.views[pane] = { ...view(), frames, large };
    settle(chunk.views[pane], outcome);
  }

  #newPlayer() {
    const { fps, chunk_latents: latents, frames_per_latent: each } = this.about.spec;
    const before = this.player;
    this.player = new Player(fps, latents * each, this.draw);
    if (before) this.player.learn(before);
  }

  /** Note that the player means something else now, at a time of the page's clock. */
  meant(at) {
    this.inputs++;
    if (!this.paused) this.player.mark(this.inputs, at, this.busy || !this.player.idle); // else nothing answers it
    this.advance();
  }

  /** Ask for the next chunk if it is time; to be called often. */
  advance() {
    if (this.over) return this.drop();
    const wanted = this.asked.length || (!this.paused && (this.input.active || this.running));
    if (!wanted || this.busy || !this.player.hungry) return;
    const asked = this.asked.shift();
    const [action, input] = [asked?.action ?? this.input.take(), this.inputs];
    this.#alone(async () => {
      if (this.cursor) await this.#goOn(this.cursor);
      await this.#step(action, input);
    }).then((done) => asked?.resolve(done));
  }

  /** Do this for one chunk, or what is held, after all that was asked for before, even while paused; resolves when
   * the chunk is there, or to false if it will not come. */
  once(action = null) {
    this.inputs++;
    return new Promise((resolve) => this.asked.push({ action: action ?? this.input.take(), resolve }));
  }

  /** Forget chunks that were asked for. */
  drop() {
    this.asked.splice(0).forEach(({ resolve }) => resolve(false));
  }

  async #step(action, input) {
    const branch = this.branch;
    const chunk = new Chunk(this.head, branch.sessions.length, { action, input });
    chunk.branch = branch;
    const began = performance.now();
    let first = 0;
    const asked = branch.sessions.map(async (session, i) => {
      const view = chunk.views[i];
      const outcome = await session.step(action, (frame, large) => {
        first ||= performance.now() - began;
        view.frames.push(frame);
        if (large) view.large.push(large);
        this.player.tick(performance.now(), { arrived: true }); // from rest it is shown at once
      });
      settle(view, outcome);
    });
    this.player.add(chunk);
    const failed = (await Promise.allSettled(asked)).find(({ status }) => status === "rejected");
    if (failed) {
      this.player.clear();
      throw failed.reason;
    }
    this.player.measured(first, performance.now() - began);
    branch.head = chunk;
    this.#tell("chunk", chunk);
  }

  /** Take back the newest chunk. */
  undo() {
    this.drop();
    return this.#alone(async () => {
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
    this.drop();
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
    const made = await together(some.map((session, i) => this.#fork(session, i, chunk, { reseed })));
    const branch = new Branch(number, made, chunk);
    this.branches.push(branch);
    const open = this.branches.filter((other) => other.sessions.length && other !== branch);
    if (open.length >= MOST_BRANCHES) open[0].close();
    return branch;
  }

  #fork(session, pane, chunk, options) {
    if (session.branches) return session.fork(chunk.index, options);
    return this.#open(this.arms[pane], (made) => this.#replay(made, chunk, pane));
  }

  /** Bring a session to a chunk by doing again what led there; what it shows on the way is what the pane shows. */
  async #replay(session, chunk, pane) {
    for (const past of chunk.path) {
      if (!past.parent) {
        this.#take(past, pane, await session.reset(this.begun.seed, this.begun.options, this.begun.picture));
        continue;
      }
      const made = view();
      made.outcome = await session.step(past.action, (frame, large) => {
        made.frames.push(frame);
        if (large) made.large.push(large);
      });
      this.#take(past, pane, made);
    }
  }

  /** Show another arm beside the first, from here on, under the same keys; null shows the first alone. */
  compare(arm) {
    return this.#alone(async () => {
      if (arm?.id === this.arms[1]?.id) return;
      for (const branch of this.branches) branch.sessions.splice(1).forEach((session) => session.close());
      for (const chunk of this.#chunks) chunk.views.splice(1);
      this.arms = [this.arms[0]];
      try {
        if (arm) await this.#fill(this.branch, arm);
        if (arm) this.arms = [this.arms[0], arm];
      } finally {
        this.player.clear();
        this.#tell("arms");
      }
    });
  }

  get #chunks() {
    return new Set(this.branches.flatMap((branch) => branch.head.path));
  }

  /** Open the session that a branch lacks. A fork has what the first pane has shown for its past, wherever one goes on
   * from; what a simulator shows of a branch is known once it was led there. */
  async #fill(branch, arm = this.arms[1]) {
    const first = branch.sessions[0];
    if (!arm || branch.sessions.length > 1) return;
    if (arm.env === this.arms[0].env && first.branches) {
      branch.sessions.push(await first.fork(branch.head.index, { memory: arm.memory }));
      for (const chunk of this.#chunks) chunk.views[1] ??= { ...chunk.views[0] };
    } else {
      branch.sessions.push(await this.#open(arm, (twin) => this.#replay(twin, branch.head, 1)));
    }
  }

  /** Describe the world with other words from here on. */
  describe(prompt) {
    return this.#alone(async () => {
      const open = this.branches.flatMap((branch) => branch.sessions).filter((session) => session.about.can.includes("prompt"));
      await Promise.all(open.map((session) => session.prompt(prompt)));
    });
  }

  /** Go on with another memory. */
  remember(arm) {
    return this.#alone(async () => {
      await Promise.all(this.branches.filter((b) => b.sessions.length).map((b) => b.sessions[0].remember(arm.memory)));
      this.arms[0] = arm;
      this.#tell("arms");
    });
  }

  /** Do one thing after the other, and tell of what goes wrong; resolves to whether nothing did. */
  async #alone(act) {
    while (this.busy) await new Promise((resolve) => setTimeout(resolve, 5));
    this.busy = true;
    try {
      await act();
      return true;
    } catch (error) {
      this.drop();
      this.paused = true;
      this.#tell("trouble", error);
      return false;
    } finally {
      this.busy = false;
    }
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Wait for sessions; where one cannot be had, close the others and say why. */
async function together(sessions) {
  const all = await Promise.allSettled(sessions);
  const failed = all.find(({ status }) => status === "rejected");
  if (!failed) return all.map(({ value }) => value);
  all.forEach(({ value }) => value?.close());
  throw failed.reason;
}
