// The blind test: two arms side by side under the same keys, who is who drawn by lot, and what is preferred.

import { send } from "./http.js";

const get = (id) => document.getElementById(id);
const QUESTIONS = [
  ["picture", "Which picture is better?"],
  ["control", "Which does what you press?"],
  ["consistency", "Which stays the same place?"],
];
const ANSWERS = [["left", "Left"], ["same", "Same"], ["right", "Right"]];
const LEAST = 6; // chunks to be played before a vote

/** Runs trials; the page is told by ``host``: {begin(arms, begun), leave(), toast(text), starts}. */
export class BlindTest {
  #trial = 0;
  #rater = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);

  constructor(config, host) {
    Object.assign(this, { config, host, on: false });
    get("blind").addEventListener("click", () => (this.on ? this.#finish() : this.#ask()));
  }

  /** Let the player choose what is compared. */
  #ask() {
    const options = (chosen) =>
      this.config.arms.map(({ id, name }) => `<option value="${id}"${id === chosen ? " selected" : ""}>${name}</option>`).join("");
    get("blind-body").innerHTML = `
      <p>Both worlds begin alike and follow your keys. Which one is left is drawn by lot each time and not shown.
      Walk, turn away, come back; after ${LEAST} chunks you are asked three questions.</p>
      <div class="row"><label class="field">One <select id="one">${options(this.config.arms[0].id)}</select></label>
      <label class="field">Other <select id="other">${options(this.config.compare)}</select></label></div>
      <div><button class="primary" id="go">Begin</button></div>`;
    get("go").addEventListener("click", () => {
      this.pair = ["one", "other"].map((id) => this.config.arms.find((arm) => arm.id === get(id).value));
      if (this.pair[0] === this.pair[1]) return this.host.toast("Choose two different ones.");
      get("blind-dialog").close();
      this.#next();
    });
    get("blind-dialog").showModal();
  }

  async #next() {
    this.on = true;
    document.body.classList.add("blind");
    get("blind").textContent = "End the test";
    this.#trial++;
    this.#removeBallot();
    this.left = Math.random() < 0.5 ? 0 : 1;
    const { starts } = this.config;
    this.begun = { seed: Math.floor(Math.random() * 1e6), start: starts ? Math.floor(Math.random() * starts) : null };
    const order = [this.pair[this.left], this.pair[1 - this.left]];
    const begun = await this.host.begin(order.map((arm, i) => ({ ...arm, name: ANSWERS[2 * i][1] })), this.begun);
    if (!begun && this.on) await this.#finish();
  }

  /** Ask once enough was seen. */
  played(chunks) {
    if (this.on && chunks >= LEAST && !get("ballot")) this.#ballot();
  }

  #ballot() {
    const ballot = document.createElement("form");
    ballot.id = "ballot";
    ballot.innerHTML = QUESTIONS.map(([name, text]) => `<div class="question" role="radiogroup" aria-label="${text}"><span>${text}</span>${
      ANSWERS.map(([value, label]) => `<button type="button" role="radio" aria-checked="false" data-question="${name}" data-answer="${value}">${label}</button>`).join("")
    }</div>`).join("");
    const answers = {};
    ballot.addEventListener("click", (event) => {
      const { question, answer } = event.target.dataset;
      if (!question) return;
      answers[question] = answer;
      for (const other of event.target.parentElement.querySelectorAll("button")) {
        other.setAttribute("aria-checked", String(other === event.target));
      }
      if (Object.keys(answers).length === QUESTIONS.length) this.#vote(answers);
    });
    get("stage").append(ballot);
  }

  async #vote(answers) {
    const named = (answer) => (answer === "same" ? "same" : this.pair[(answer === "left") === (this.left === 0) ? 0 : 1].id);
    const votes = Object.entries(answers).map(([question, answer]) => ({
      rater: this.#rater, trial: this.#trial, one: this.pair[0].id, other: this.pair[1].id,
      left: this.pair[this.left].id, question, preferred: named(answer), ...this.begun,
    }));
    try {
      this.result = await send("play/votes", "application/json", JSON.stringify(votes));
    } catch (error) {
      return this.host.toast(error.message);
    }
    this.host.toast(`Counted. The left one was: ${this.pair[this.left].name}.`);
    await this.#next();
  }

  async #finish() {
    this.on = false;
    this.#removeBallot();
    document.body.classList.remove("blind");
    get("blind").textContent = "Blind test";
    await this.host.leave();
    if (!this.result) return;
    const name = (id) => this.config.arms.find((arm) => arm.id === id)?.name ?? id;
    const percent = (share) => `${Math.round(100 * share)} %`;
    const rows = this.result.rows.map((row) => `<tr><td>${row.question}</td><td>${name(row.one)}</td><td>${name(row.other)}</td><td>${row.for_one}</td>
      <td>${row.same}</td><td>${row.for_other}</td><td>${percent(row.share_one)} [${percent(row.ci95_low)}, ${percent(row.ci95_high)}]</td></tr>`);
    get("blind-body").innerHTML = `<table><tr><th>asked</th><th>one</th><th>other</th><th>for one</th><th>same</th><th>for other</th>
      <th>share for one, 95 % interval</th></tr>${rows.join("")}</table><p class="note">Written to ${this.result.path}, votes beside it.
      A vote for "same" counts half for each.</p>`;
    get("blind-dialog").showModal();
  }

  #removeBallot() {
    get("ballot")?.remove();
  }
}
