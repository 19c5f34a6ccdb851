// The keyboard: what is not an action is a command of the page.

const get = (id) => document.getElementById(id);

const WALKING = [["W A S D", "walk"], ["← →  ↑ ↓", "turn, look up and down; or drag the picture"]];
const CHOOSING = [["Tab  ← →", "go to a slider, and move it"], ["0 – 9", "press the button of that place"]];
/** [key as people read it, what it does, code, name of the command]. */
const KEYS = [
  ["Space", "pause", "Space", "pause"],
  [".", "one chunk", "Period", "step"],
  ["Z", "take back a chunk", "KeyZ", "undo"],
  ["[", "look at the chunk before", "BracketLeft", "earlier"],
  ["]", "look at the chunk after", "BracketRight", "later"],
  ["Esc", "back to the newest chunk", "Escape", "newest"],
  ["R", "begin anew", "KeyR", "reset"],
  ["N", "another seed", "KeyN", "seed"],
  ["G", "start views, a picture of yours", "KeyG", "gallery"],
  ["M", "another memory", "KeyM", "memory"],
  ["C", "side by side", "KeyC", "compare"],
  ["T", "turn away and back", "KeyT", "tour"],
  ["I", "what is remembered, from above", "KeyI", "insight"],
  ["K", "hatch what was imagined", "KeyK", "hatch"],
  ["O", "record, and stop", "KeyO", "record"],
  ["Y", "let time run", "KeyY", "run"],
];
/** Commands that a blind test has no use for: they would tell, or change, what is compared. */
const TELLING = new Set(["reset", "seed", "gallery", "memory", "compare", "insight", "hatch"]);

/** Listen to the keyboard; ``page`` has ``game``, ``blind`` and the ``commands`` by name. */
export function listen(page) {
  const commands = new Map(KEYS.map(([, , code, name]) => [code, name]));
  window.addEventListener("keydown", (event) => {
    const { input } = page.game;
    const typing = event.target.matches?.("input:not([type=range]), select") || document.querySelector("dialog[open]");
    const pressing = event.target.matches?.("button") && (event.code === "Space" || event.code === "Enter");
    if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey || !input) return;
    if (event.key === "?") return get("help-dialog").showModal();
    const name = commands.get(event.code);
    if (input.knows(event.code)) input.press(event.code, event.timeStamp);
    else if (!name || (page.blind.on && TELLING.has(name))) return;
    else if (!event.repeat) page.commands[name]();
    event.preventDefault();
  });
  window.addEventListener("keyup", (event) => page.game.input?.lift(event.code));
}

/** Fill the dialog that lists them. */
export function listKeys(camera) {
  get("keys").replaceChildren(
    ...[...(camera ? WALKING : CHOOSING), ...KEYS].flatMap(([key, does]) => {
      const [term, said] = [document.createElement("dt"), document.createElement("dd")];
      term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      said.textContent = does;
      return [term, said];
    }),
  );
}
