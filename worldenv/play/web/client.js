// The connection to the session server: what is asked is numbered, and answers carry the number.

import { decode, encode } from "./msgpack.js";

const PROTOCOL = 1;
const DTYPES = {
  uint8: Uint8Array, int8: Int8Array, int32: Int32Array, int64: BigInt64Array,
  float32: Float32Array, float64: Float64Array, bool: Uint8Array,
};

/** Why something that was asked could not be done. */
export class Refusal extends Error {
  constructor(answer) {
    super(answer.why);
    this.kind = answer.kind;
    this.field = answer.field;
  }
}

/** One WebSocket. Events: ``ended`` (detail: session, why) and ``lost``. */
export class Client extends EventTarget {
  #socket;
  #waiting = new Map();
  #last = 0;

  /** Open a connection and say hello; ``welcome`` is then what the server says of itself. */
  static async connect(url, token) {
    const client = new Client();
    client.#socket = new WebSocket(url);
    client.#socket.binaryType = "arraybuffer";
    await new Promise((resolve, reject) => {
      client.#socket.onopen = resolve;
      client.#socket.onclose = () => reject(new Error("the server does not answer; is `worldenv play` still running?"));
    });
    client.#socket.onmessage = (event) => client.#read(event.data);
    client.#socket.onclose = () => client.#lose();
    client.welcome = await client.ask("hello", { protocol: PROTOCOL, token });
    return client;
  }

  /** Send a message and return its answer; ``onFrames`` sees the pictures that come before it. */
  ask(type, fields = {}, onFrames = null) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      if (this.#socket.readyState !== WebSocket.OPEN) return reject(new Error("the connection is lost"));
      this.#waiting.set(id, { resolve, reject, onFrames });
      this.#socket.send(encode({ type, id, ...fields }));
    });
  }

  #read(data) {
    const answer = arrays(decode(data));
    if (answer.type === "ended") return this.#tell("ended", answer);
    const asked = this.#waiting.get(answer.id);
    if (answer.type === "frames") return asked?.onFrames?.(answer);
    this.#waiting.delete(answer.id);
    if (answer.type !== "failed") asked?.resolve(answer);
    else if (asked) asked.reject(new Refusal(answer));
    else this.#tell("ended", answer);
  }

  #lose() {
    for (const { reject } of this.#waiting.values()) reject(new Error("the connection is lost"));
    this.#waiting.clear();
    this.#tell("lost");
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Return plain values with arrays in place of maps of dtype, shape and data: {shape, data: typed array}. */
export function arrays(value) {
  if (Array.isArray(value)) return value.map(arrays);
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return value;
  if (value.data instanceof Uint8Array && value.shape && value.dtype in DTYPES) {
    const data = new DTYPES[value.dtype](value.data.slice().buffer); // the copy is aligned
    return { shape: value.shape, data: value.dtype === "int64" ? Float64Array.from(data, Number) : data };
  }
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, arrays(part)]));
}

/** Return a typed array as messages hold it. */
export function array(data, shape = [data.length]) {
  const dtype = Object.keys(DTYPES).find((name) => data instanceof DTYPES[name]);
  return { dtype, shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

/** An environment on the server. */
export class Session {
  constructor(client, created) {
    this.client = client;
    this.id = created.session;
    this.about = created.about;
  }

  static async create(client, env, options, display) {
    const asked = { env, options, display, batch: false, pictures: "raw", obs: false, keep: 512 };
    return new Session(client, await client.ask("create", asked));
  }

  /** Whether it can go back to a chunk, be forked and change its memory; a simulator cannot. */
  get branches() {
    return this.about.can.includes("back");
  }

  /** Begin an episode; return its start view and what is known then. */
  reset(seed, options, picture) {
    return this.#moment("reset", { seed, options, picture, explain: true });
  }

  /** Advance by a chunk; ``onFrame`` sees every frame (H, W, 3) as it comes, and the large picture of it, if there is one. */
  step(action, onFrame) {
    return this.#watched("step", { action, explain: true }, onFrame);
  }

  /** Go back to right after a chunk. */
  back(chunk) {
    return this.#moment("back", { chunk, explain: true });
  }

  /** Return a session that goes on from right after a chunk, with other random numbers or another memory if told. */
  async fork(chunk, { reseed, memory } = {}) {
    return new Session(this.client, await this.client.ask("fork", { session: this.id, chunk, reseed, memory }));
  }

  remember(memory) {
    return this.client.ask("remember", { session: this.id, memory });
  }

  prompt(prompt) {
    return this.client.ask("prompt", { session: this.id, prompt });
  }

  close() {
    return this.client.ask("close", { session: this.id }).catch(() => {});
  }

  async #moment(type, fields) {
    const [frames, large] = [[], []];
    const outcome = await this.#watched(type, fields, (frame, picture) => {
      frames.push(frame);
      if (picture) large.push(picture);
    });
    return { outcome, frames, large };
  }

  /** Ask something that pictures come with; resolves when all of them have been seen. */
  async #watched(type, fields, onFrame) {
    let decoding = null; // large pictures are files, which are shown in their order
    const each = ({ pictures, displayed }) => {
      const show = (large) => split(pictures).forEach((frame, i) => onFrame(frame, large[i] ?? null));
      if (!displayed) return show([]);
      const decoded = Promise.all(displayed.map((file) => createImageBitmap(new Blob([file]))));
      decoding = Promise.all([decoded, decoding]).then(([large]) => show(large));
    };
    const outcome = await this.client.ask(type, { session: this.id, ...fields }, each);
    await decoding;
    return outcome;
  }
}

/** Cut an array (T, H, W, 3) into frames. */
function split({ shape: [count, height, width], data }) {
  const size = height * width * 3;
  return Array.from({ length: count }, (_, i) => data.subarray(i * size, (i + 1) * size));
}
