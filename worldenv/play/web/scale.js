// Small pictures made large and smooth: cubic B-splines, which show neither the pixels' edges nor rings beside them.

const TIMES = 4;

/** Weights of the four pixels around each of TIMES places within a pixel. */
const WEIGHTS = Array.from({ length: TIMES }, (_, i) => {
  const t = ((i + 0.5) / TIMES + 0.5) % 1; // how far behind the second of the four
  return [(1 - t) ** 3 / 6, (3 * t ** 3 - 6 * t ** 2 + 4) / 6, (-3 * t ** 3 + 3 * t ** 2 + 3 * t + 1) / 6, t ** 3 / 6];
});

/** Enlarges frames of one size TIMES times. */
export class Enlarger {
  constructor(width, height) {
    Object.assign(this, { width, height });
    this.rows = new Float32Array(3 * width * TIMES * height);
    this.canvas = Object.assign(document.createElement("canvas"), { width: width * TIMES, height: height * TIMES });
    this.pixels = this.canvas.getContext("2d").createImageData(this.canvas.width, this.canvas.height);
    this.pixels.data.fill(255);
    [this.x, this.y] = [taps(width), taps(height)];
  }

  /** Draw a frame (H, W, 3) over all of a context. */
  draw(context, frame) {
    const { width, height, rows, pixels } = this;
    const wide = width * TIMES;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < wide; x++) {
        const { at, weights } = this.x[x];
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (let k = 0; k < 4; k++) sum += weights[k] * frame[3 * (y * width + at[k]) + c];
          rows[3 * (y * wide + x) + c] = sum;
        }
      }
    }
    for (let y = 0, out = 0; y < height * TIMES; y++) {
      const { at, weights } = this.y[y];
      for (let i = 0; i < 3 * wide; i++) {
        let sum = 0;
        for (let k = 0; k < 4; k++) sum += weights[k] * rows[3 * wide * at[k] + i];
        pixels.data[out++] = sum;
        if (i % 3 === 2) out++; // opaque
      }
    }
    this.canvas.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.canvas, 0, 0, context.canvas.width, context.canvas.height);
  }
}

/** Return which pixels make each place of a row of ``count`` pixels, and by how much. */
function taps(count) {
  return Array.from({ length: count * TIMES }, (_, place) => {
    const second = Math.floor((place + 0.5) / TIMES - 0.5);
    const at = [-1, 0, 1, 2].map((k) => Math.max(0, Math.min(count - 1, second + k)));
    return { at, weights: WEIGHTS[place % TIMES] };
  });
}
