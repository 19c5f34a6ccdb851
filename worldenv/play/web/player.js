// When which frame is shown, and how long a key took to show.

const FIRST_GUESS = 300; // ms that a chunk's first frames take, before one was measured
const REPAINT = 17; // ms from one repaint to the next

/** Shows the frames of chunks one after the other, as fast as the world's clock or as they are made. */
export class Player {
  #queue = [];
  #shown = 0; // frames of the first chunk in the queue
  #due = 0;
  #marks = [];
  #moments = []; // when the newest frames were shown

  constructor(fps, chunkFrames, draw) {
    Object.assign(this, { fps, chunkFrames, draw });
    this.firstMs = FIRST_GUESS;
    this.spreadMs = FIRST_GUESS / 10;
    this.chunkMs = (1000 * chunkFrames) / fps;
    this.latencies = { rest: [], moving: [] };
    this.total = 0; // frames shown
  }

  /** Frames a second at which chunks are shown: the world's, or as many as are made. */
  get rate() {
    return Math.min(this.fps, (970 * this.chunkFrames) / this.chunkMs);
  }

  /** Milliseconds for which there are frames. */
  get buffered() {
    const ready = this.#queue.reduce((sum, chunk) => sum + chunk.shown, 0) - this.#shown;
    return (1000 * ready) / this.rate;
  }

  /** Whether everything that was made is shown. */
  get idle() {
    return this.#queue.length === 0;
  }

  /** Whether the next chunk must be asked for now, to come when the last frame has been shown: not before, for what is
   * pressed meanwhile counts for the next one alone. The margin follows from how much chunks vary, as in TCP's timer of
   * retransmission (Jacobson 1988). */
  get hungry() {
    return this.buffered <= this.firstMs + 3 * this.spreadMs + REPAINT;
  }

  add(chunk) {
    this.#queue.push(chunk);
  }

  /** Forget what has not been shown. */
  clear() {
    this.#queue = [];
    this.#shown = 0;
    this.#marks = [];
  }

  /** Go on from what another one has measured. */
  learn({ latencies, firstMs, spreadMs, chunkMs }) {
    Object.assign(this, { latencies, firstMs, spreadMs, chunkMs });
  }

  /** Learn how long chunks take: to their first frames, and whole. */
  measured(firstMs, chunkMs) {
    this.spreadMs += 0.25 * (Math.abs(firstMs - this.firstMs) - this.spreadMs);
    this.firstMs += 0.3 * (firstMs - this.firstMs);
    this.chunkMs += 0.3 * (chunkMs - this.chunkMs);
  }

  /** Remember when a key was pressed; the first frame that answers this input, or a later one, ends the wait. */
  mark(input, at, moving) {
    this.#marks.push({ input, at, kind: moving ? "moving" : "rest" });
  }

  /** Show what is due; to be called before every repaint, and when a frame has arrived. */
  tick(now, { arrived = false } = {}) {
    const chunk = this.#queue[0];
    if (!chunk || now < this.#due) return;
    if (this.#shown < chunk.shown) {
      this.draw(chunk, this.#shown++);
      const each = 1000 / this.rate;
      this.#due = (now - this.#due < each ? this.#due : now) + each; // evenly, unless it was at rest or came too late
      this.#moments.push(now);
      this.total++;
      this.#answer(chunk.input, arrived);
    }
    if (chunk.done && this.#shown >= chunk.shown) {
      this.#queue.shift().tidy();
      this.#shown = 0;
    }
  }

  #answer(input, arrived) {
    const answered = this.#marks.filter((mark) => mark.input <= input);
    if (!answered.length) return;
    this.#marks = this.#marks.filter((mark) => mark.input > input);
    afterPainting(arrived, () => {
      for (const { at, kind } of answered) this.latencies[kind].push(performance.now() - at);
    });
  }

  /** Frames a second that were shown lately, 0 if none was. */
  measuredFps(now) {
    this.#moments = this.#moments.filter((moment) => now - moment < 2000);
    const [first, last] = [this.#moments[0], this.#moments.at(-1)];
    return this.#moments.length > 8 && now - last < 500 ? ((this.#moments.length - 1) * 1000) / (last - first) : 0;
  }
}

/** Do something once what was drawn has been painted: after the coming repaint, or the one that is being prepared. */
function afterPainting(coming, act) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = act; // messages wait for a repaint to end
  if (coming) requestAnimationFrame(() => port2.postMessage(null));
  else port2.postMessage(null);
}

/** Return the q-quantile of numbers, null of none. */
export function quantile(numbers, q) {
  if (!numbers.length) return null;
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}
