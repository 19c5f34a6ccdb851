// A pane: a picture, large, and what is said of it.

import { Enlarger } from "./scale.js";

/** One of the pictures on the stage. */
export class Pane {
  #shown = [];

  constructor(place, size) {
    Object.assign(this, size);
    this.enlarger = new Enlarger(this.width, this.height);
    this.element = place.appendChild(document.createElement("article"));
    this.element.className = "pane";
    this.element.innerHTML = `<div class="screen"><canvas></canvas></div>
      <div class="caption"><span class="chip"><b></b></span><span class="chip alike" hidden></span></div>
      <p class="absent" hidden>Not played here. Move, and it is led here by the same keys.</p>`;
    this.screen = this.element.querySelector(".screen");
    this.canvas = this.element.querySelector("canvas");
    this.canvas.setAttribute("role", "img");
  }

  /** Give it so many CSS pixels. */
  resize(width, height) {
    Object.assign(this.element.style, { width: `${width}px`, height: `${height}px` });
    const scale = Math.min(2, window.devicePixelRatio || 1);
    Object.assign(this.canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
    if (this.#shown.length) this.draw(...this.#shown);
  }

  /** Show a frame (H, W, 3), as the display decoder has it if it did; where ``known`` is given, hatch what was imagined.
   * Null is nothing to show. */
  draw(frame, large = null, known = null) {
    this.element.querySelector(".absent").hidden = Boolean(frame);
    const context = this.canvas.getContext("2d");
    this.#shown = frame ? [frame, large, known] : [];
    if (large) {
      context.imageSmoothingQuality = "high";
      context.drawImage(large, 0, 0, this.canvas.width, this.canvas.height);
    } else if (frame) this.enlarger.draw(context, frame);
    else context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (known) hatch(context, known);
  }

  set name(text) {
    this.element.querySelector("b").textContent = text;
    this.canvas.setAttribute("aria-label", `Picture: ${text}`);
  }

  /** Say how alike the picture is to an earlier one from the same place; null says nothing. */
  set alike(found) {
    const place = this.element.querySelector(".alike");
    place.hidden = !found;
    if (!found) return;
    place.innerHTML = `as in ${found.chunk ? `chunk ${found.chunk}` : "the start view"} <output>${found.db.toFixed(1)} dB</output>`;
    place.title = "You were here before. PSNR of the two pictures: at 30 dB they look the same, below 20 dB it is another place";
  }

  remove() {
    this.element.remove();
  }
}

/** Return a canvas of a frame's own size. */
export function paint(frame, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0, j = 0; i < frame.length; i += 3, j += 4) {
    pixels.data.set(frame.subarray(i, i + 3), j);
    pixels.data[j + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Hatch the cells (h, w) of a picture that are less than half known. */
export function hatch(context, known) {
  const [rows, columns] = known.shape;
  const { width, height } = context.canvas;
  context.save();
  context.beginPath();
  for (let i = 0; i < rows * columns; i++) {
    if (known.data[i] >= 0.5) continue;
    const [x, y] = [i % columns, Math.floor(i / columns)];
    context.rect((x * width) / columns, (y * height) / rows, width / columns, height / rows);
  }
  context.clip();
  context.fillStyle = "rgb(0 0 0 / 22%)";
  context.fillRect(0, 0, width, height);
  const step = Math.max(6, width / 48);
  for (const [style, thickness, shift] of [["rgb(0 0 0 / 45%)", step / 4, step / 4], ["rgb(255 255 255 / 55%)", step / 6, 0]]) {
    context.beginPath();
    context.strokeStyle = style;
    context.lineWidth = thickness;
    for (let x = -height; x < width; x += step) {
      context.moveTo(x + shift, height);
      context.lineTo(x + height + shift, 0);
    }
    context.stroke();
  }
  context.restore();
}
