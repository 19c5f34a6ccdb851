// Recording: what was shown since the button was pressed, to a video and to a shard that training reads.

import { array } from "./client.js";
import { ask, send } from "./http.js";
import { encode } from "./msgpack.js";

/** Keeps the chunk that a recording begins after; the chunks themselves are in the game's tree. */
export class Recorder {
  #after = null;

  get on() {
    return this.#after !== null;
  }

  begin(chunk) {
    this.#after = chunk;
  }

  cancel() {
    this.#after = null;
  }

  /** Send what led from there to the game's newest chunk, or from where its branch left what led there; return what was
   * written: {video (an address), folder, frames}. */
  async end(game) {
    const [path, before] = [game.head.path, this.#after.path];
    const chunks = path.slice(path.findLastIndex((chunk) => before.includes(chunk)));
    this.#after = null;
    if (chunks.length < 2) throw new Error("nothing has happened since Record was pressed; walk a little first");
    const { video, ...written } = await send("play/recordings", "application/msgpack", encode(message(chunks, game)));
    return { video: URL.createObjectURL(await (await ask(video)).blob()), ...written }; // a link sends no token
  }
}

function message(chunks, game) {
  const { width, height } = game.about.spec;
  const panes = game.arms.map((arm, i) => {
    const frames = chunks.flatMap(({ views }, k) => (k ? views[i].frames : [views[i].frames.at(-1)]));
    return {
      arm: arm.id,
      frames: array(join(frames, Uint8Array), [frames.length, height, width, 3]),
      signals: signals(chunks.map(({ views }) => views[i].outcome.signals)),
      rewards: chunks.slice(1).map(({ views }) => Number(views[i].outcome.reward)),
    };
  });
  return { type: "recording", id: 0, panes, actions: chunks.slice(1).map(({ action }) => action), seed: game.begun.seed };
}

/** Join what each chunk gave of its latents; of the first the last one alone. */
function signals(given) {
  const joined = {};
  for (const [name, first] of Object.entries(given[0])) {
    const parts = given.map((some) => some[name]);
    if (!parts.every((part) => part?.shape?.length)) continue;
    const row = first.data.length / first.shape[0];
    const data = join([first.data.slice(-row), ...parts.slice(1).map((part) => part.data)], first.data.constructor);
    joined[name] = array(data, [data.length / row, ...first.shape.slice(1)]);
  }
  return joined;
}

function join(parts, Kind) {
  const whole = new Kind(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
