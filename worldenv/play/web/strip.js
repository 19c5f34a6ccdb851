// The timeline: a row of thumbnails for each branch, from where it leaves its trunk.

import { paint } from "./pane.js";

const GAP = 3; // pixels between thumbnails

/** Draws a game's tree; ``onChoose`` is called with the chunk that is chosen. */
export class Strip {
  #thumbs = new Map();

  constructor(place, onChoose) {
    Object.assign(this, { place, onChoose });
  }

  /** Forget the thumbnails of another game. */
  clear() {
    this.#thumbs.clear();
  }

  draw(game) {
    const focused = this.place.contains(document.activeElement);
    const rows = game.branches.map((branch) => this.#row(branch, game));
    this.place.replaceChildren(...rows);
    const current = this.place.querySelector('[aria-current="true"]');
    current?.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (focused) current?.focus();
  }

  #row(branch, game) {
    const row = document.createElement("div");
    row.className = `branch${branch === game.branch ? " current" : ""}`;
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", `Branch ${branch.number}`);
    const name = row.appendChild(document.createElement("span"));
    name.className = "name";
    name.textContent = branch.number;
    const own = branch.own;
    const first = own[0]?.index ?? branch.head.index + 1;
    if (first > 0) {
      const indent = row.appendChild(document.createElement("span"));
      indent.className = "indent";
      indent.style.width = `calc(${first} * (var(--thumb) + ${GAP}px) - ${GAP}px)`;
    }
    const { width, height } = game.about.spec;
    for (const chunk of own) row.append(this.#thumb(chunk, width, height, chunk === game.here));
    return row;
  }

  #thumb(chunk, width, height, current) {
    let thumb = this.#thumbs.get(chunk.id);
    if (!thumb) {
      thumb = document.createElement("button");
      thumb.className = "thumb";
      thumb.dataset.chunk = chunk.index || "start";
      thumb.setAttribute("aria-label", chunk.index ? `Chunk ${chunk.index}` : "The start view");
      thumb.append(paint(chunk.views[0].frames.at(-1), width, height));
      thumb.addEventListener("click", () => this.onChoose(chunk));
      this.#thumbs.set(chunk.id, thumb);
    }
    thumb.setAttribute("aria-current", String(current));
    thumb.tabIndex = current ? 0 : -1; // one stop of the Tab key; [ and ] go on from there
    return thumb;
  }
}
