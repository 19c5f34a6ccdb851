// What has been played: a tree of chunks. A branch is a way through it, with sessions of its own that stand at its end.

let count = 0;

/** A chunk: what was done, and what each pane showed. The root is the start view. */
export class Chunk {
  constructor(parent, panes, { action = null, input = 0 } = {}) {
    this.id = count++;
    this.parent = parent;
    this.index = parent ? parent.index + 1 : 0;
    this.action = action;
    this.input = input;
    this.branch = null;
    this.views = Array.from({ length: panes }, view);
  }

  /** Frames that every pane has. */
  get shown() {
    return Math.min(...this.views.map((view) => view.frames.length));
  }

  /** Forget the large pictures of all frames but the last. */
  tidy() {
    for (const { large } of this.views) {
      large.slice(0, -1).forEach((picture, t) => {
        picture?.close();
        large[t] = null;
      });
    }
  }

  /** Whether every pane has answered. */
  get done() {
    return this.views.every((view) => view.outcome);
  }

  /** Chunks from the root to this one. */
  get path() {
    const path = [];
    for (let chunk = this; chunk; chunk = chunk.parent) path.unshift(chunk);
    return path;
  }
}

/** Return what a pane knows of a chunk before it is shown: frames, and where the world has a display decoder large ones. */
export function view() {
  return { frames: [], large: [], c2w: null, outcome: null };
}

/** Add what a pane was told of a chunk. */
export function settle(view, outcome) {
  view.outcome = outcome;
  const c2w = outcome.signals?.c2w;
  if (c2w) view.c2w = Array.from({ length: c2w.data.length / 16 }, (_, i) => c2w.data.slice(16 * i, 16 * i + 16));
}

/** A way through the tree, and what goes on from its end. */
export class Branch {
  constructor(number, sessions, head) {
    this.number = number;
    this.sessions = sessions;
    this.head = head;
  }

  /** Chunks that were made on this branch. */
  get own() {
    return this.head.path.filter((chunk) => chunk.branch === this);
  }

  close() {
    for (const session of this.sessions) session.close();
    this.sessions = [];
  }
}

/** Mean squared error of pictures as a signal-to-noise ratio in dB, at most 60. */
export function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.min(60, 10 * Math.log10((255 * 255 * a.length) / Math.max(sum, 1e-9)));
}

const NEAR = 0.15; // metres
const LIKE = Math.cos((5 * Math.PI) / 180);
const AGO = 3; // chunks

/** Return the first chunk whose end was seen from where ``chunk`` ends, long enough ago to have been away; or null. */
export function seenBefore(chunk, pane = 0) {
  const poses = chunk.views[pane]?.c2w; // a pane was not everywhere, and not every world has a camera
  if (!poses || chunk.index <= AGO) return null;
  const here = poses.at(-1);
  return chunk.path.slice(0, 1 - AGO).find((other) => {
    const there = other.views[pane].c2w.at(-1); // what led to where a pane was, it was shown
    const apart = Math.hypot(here[3] - there[3], here[7] - there[7], here[11] - there[11]);
    return apart < NEAR && here[2] * there[2] + here[6] * there[6] + here[10] * there[10] > LIKE;
  }) ?? null;
}
