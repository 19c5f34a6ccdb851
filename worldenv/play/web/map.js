// The floor from above: what was seen of it, the way walked, and what memory brought back for the newest chunk.

const LEAST = 9; // metres that the shorter side shows
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const symbol = (inner) => `<svg viewBox="0 0 15 13" aria-hidden="true">${inner}</svg>`;
export const LEGEND = [
  [symbol('<path d="M7.5 1 13 12 7.5 9 2 12z" fill="var(--accent)"/>'), "you"],
  [symbol('<path d="M1 11 6 4 14 7" fill="none" stroke="var(--text)" stroke-width="1.6"/>'), "the way walked"],
  [symbol('<circle cx="7.5" cy="6.5" r="4" fill="none" stroke="var(--warm)" stroke-width="2"/>'), "fetched"],
  [symbol('<rect x="3.5" y="2.5" width="8" height="8" fill="none" stroke="var(--warm)" stroke-width="1.6"/>'), "rendered"],
  [symbol('<rect x="1" y="1" width="13" height="11" fill="var(--solid)"/>'), "solid"],
  [symbol('<rect x="1" y="1" width="13" height="11" fill="var(--free)"/>'), "free"],
  [symbol('<path d="M2 3h1M7 3h1M12 3h1M4 7h1M9 7h1M2 11h1M7 11h1M12 11h1" stroke="var(--soft)"/>'), "never seen"],
];

/** Draw what is known where ``chunk`` ends; return in words what memory did. */
export function drawMap(canvas, chunk, fovDeg) {
  const context = canvas.getContext("2d");
  const way = chunk.path.flatMap((one) => one.views[0].c2w ?? []);
  const explained = chunk.views[0].outcome?.explained ?? {};
  const view = look(canvas, way, explained.floor);
  context.fillStyle = colour("--ground");
  context.fillRect(0, 0, canvas.width, canvas.height);
  dots(context);
  if (explained.floor) drawFloor(context, explained.floor, view);
  if (!way.length) return "";
  const ends = chunk.path.map((one) => one.views[0].c2w?.at(-1));
  const memory = explained.memory ?? {};
  const place = (entry) => ends[entry] && view.at(ends[entry][3], ends[entry][11]);
  drawWay(context, way, ends, view);
  const back = numbers(memory.retrieved).filter((entry) => entry >= 0);
  const rendered = numbers(memory.rendered).filter((entry) => entry >= 0);
  const here = view.at(way.at(-1)[3], way.at(-1)[11]);
  context.strokeStyle = context.fillStyle = colour("--warm");
  for (const entry of rendered) square(context, place(entry));
  for (const entry of back) ring(context, place(entry), here);
  drawYou(context, way.at(-1), here, fovDeg, view.scale);
  if (back.length) return `chunk ${back.join(", ")} fetched`;
  return rendered.length ? `chunk ${[...new Set(rendered)].join(", ")} rendered` : "";
}

function numbers(array) {
  return array ? [...array.data] : [];
}

/** Choose what the map shows: all of the way, and where one is in its middle if that fits. */
function look(canvas, way, floor) {
  const xs = way.map((c2w) => c2w[3]);
  const zs = way.map((c2w) => c2w[11]);
  const [x, z] = way.length ? [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...zs) + Math.max(...zs)) / 2] : [0, 0];
  const margin = floor ? 6 : 3;
  const wide = Math.max((LEAST * canvas.width) / canvas.height, Math.max(...xs, x) - Math.min(...xs, x) + margin);
  const high = Math.max(LEAST, Math.max(...zs, z) - Math.min(...zs, z) + margin);
  const scale = Math.min(canvas.width / wide, canvas.height / high);
  return { scale, at: (px, pz) => [canvas.width / 2 + (px - x) * scale, canvas.height / 2 - (pz - z) * scale] };
}

function dots(context) {
  context.fillStyle = colour("--dots");
  for (let y = 10, odd = 0; y < context.canvas.height; y += 16, odd ^= 1) {
    for (let x = odd ? 18 : 10; x < context.canvas.width; x += 16) context.fillRect(x, y, 2, 2);
  }
}

function drawFloor(context, floor, view) {
  const [rows, columns] = floor.cells.shape;
  const side = floor.cell * view.scale;
  const styles = { true: colour("--solid"), false: colour("--free") };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const evidence = floor.cells.data[row * columns + column];
      if (!evidence) continue;
      const [x, y] = view.at(floor.corner[1] + column * floor.cell, floor.corner[0] + (row + 1) * floor.cell);
      if (x < -side || y < -side || x > context.canvas.width || y > context.canvas.height) continue;
      context.fillStyle = styles[evidence > 0];
      context.fillRect(x, y, side + 0.6, side + 0.6);
    }
  }
}

function drawWay(context, way, ends, view) {
  context.strokeStyle = context.fillStyle = colour("--text");
  context.lineWidth = 2.5;
  context.beginPath();
  way.forEach((c2w) => context.lineTo(...view.at(c2w[3], c2w[11])));
  context.stroke();
  for (const c2w of ends.filter(Boolean)) disc(context, view.at(c2w[3], c2w[11]), 3.5);
}

function disc(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

function square(context, place) {
  if (!place) return;
  context.lineWidth = 2.5;
  context.strokeRect(place[0] - 9, place[1] - 9, 18, 18);
}

function ring(context, place, here) {
  if (!place) return;
  context.lineWidth = 2;
  context.setLineDash([5, 5]);
  context.beginPath();
  context.moveTo(...here);
  context.lineTo(...place);
  context.stroke();
  context.setLineDash([]);
  context.lineWidth = 4;
  context.beginPath();
  context.arc(...place, 7, 0, 7);
  context.stroke();
}

function drawYou(context, c2w, [x, y], fovDeg, scale) {
  const heading = Math.atan2(c2w[2], c2w[10]); // from z towards x
  const half = (fovDeg * Math.PI) / 360;
  context.save();
  context.translate(x, y);
  context.rotate(heading);
  context.fillStyle = colour("--accent");
  context.globalAlpha = 0.2;
  context.beginPath();
  context.moveTo(0, 0);
  context.arc(0, 0, 2.6 * scale, -Math.PI / 2 - half, -Math.PI / 2 + half);
  context.fill();
  context.globalAlpha = 1;
  context.beginPath();
  for (const point of [[0, -15], [11, 11], [0, 5], [-11, 11]]) context.lineTo(...point);
  context.fill();
  context.restore();
}
