// The words of a model that knows few: listed by kind; one that is pressed comes into the prompt.

import { el, openDialog } from "./ui.js";
import { get } from "./api.js";

const KINDS = ["scenes", "places", "light", "people", "garments", "colors", "patterns", "actions"];
const known = {}; // model: what the server says of it

// Lists by kind; null for a model that reads any text.
export async function wordsOf(model) {
  known[model] ??= get(`/v1/words?model=${encodeURIComponent(model)}`).then(({ words }) => words);
  return known[model];
}

export async function showWords(form) {
  const words = await wordsOf(form.model.value);
  const use = (kind, word) => () => {
    const text = form.prompt.value.trim();
    const first = text.split(",")[0];
    if (kind !== "scenes") form.prompt.value = text ? `${text} ${word}` : word;
    else form.prompt.value = `${word}, ${words.scenes.includes(first) ? text.slice(first.length + 1).trim() : text}`;
    shown.textContent = form.prompt.value;
  };
  const shown = el("p", { class: "hint", "aria-live": "polite" }, form.prompt.value);
  openDialog("Words that this model knows", shown, ...KINDS.filter((kind) => words[kind]?.length).map((kind) => el("section", {},
    el("h2", {}, kind), el("div", { class: "known" }, ...words[kind].map((word) => el("button", { type: "button", class: "quiet", onclick: use(kind, word) }, word))))));
}
