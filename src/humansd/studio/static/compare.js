// The same pose, prompt and seeds under several models, methods or settings.

import { $, el, icon, pngUrl, tellNotes, toast } from "./ui.js";
import { runJob } from "./api.js";
import { app, modelOf } from "./state.js";
import { requestOf } from "./panel.js";
import { badge, check, showPose } from "./meet.js";

const FIELDS = [["num_inference_steps", "steps"], ["guidance_scale", "text guidance"], ["pose_guidance_scale", "pose guidance"]];

export function setUpCompare() {
  $("add-variant").addEventListener("click", () => addVariant());
  $("run-compare").addEventListener("click", compare);
}

// At first every model with every method; of one model alone, its pose guidance weaker and stronger.
export function firstVariants() {
  if ($("variants").children.length) return;
  const all = app.models.flatMap((model) => model.methods.map((method) => ({ model: model.id, method })));
  if (all.length > 1) all.forEach((one) => addVariant(one));
  else for (const pose_guidance_scale of [1, app.models[0].defaults.pose_guidance_scale, 5]) addVariant({ pose_guidance_scale });
}

function addVariant(values = {}) {
  const model = el("select", { "data-name": "model", "aria-label": "Model" }, ...app.models.map(({ id }) => el("option", { value: id }, id)));
  const method = el("select", { "data-name": "method", "aria-label": "Method" });
  const inputs = FIELDS.map(([name]) => el("input", { type: "number", min: name === "num_inference_steps" ? "1" : "0", step: name === "num_inference_steps" ? "1" : "0.5", "data-name": name }));
  const useModel = () => {
    const known = modelOf(model.value);
    method.replaceChildren(...known.methods.map((one) => el("option", {}, one)));
    useMethod();
  };
  const useMethod = () => {
    const own = modelOf(model.value).method_defaults[method.value];
    FIELDS.forEach(([name], i) => { inputs[i].value = values[name] ?? own[name]; });
  };
  if (values.model) model.value = values.model;
  model.addEventListener("change", useModel);
  method.addEventListener("change", useMethod);
  useModel();
  if (values.method) { method.value = values.method; useMethod(); }
  const node = el("fieldset", { class: "variant" }, el("legend", {}, ""), el("label", {}, "model", model), el("label", {}, "method", method),
    ...FIELDS.map(([, label], i) => el("label", {}, label, inputs[i])),
    el("button", { type: "button", class: "icon small", "aria-label": "Remove this column", onclick: () => { node.remove(); number(); } }, icon("close")));
  $("variants").append(node);
  number();
}

function number() {
  [...$("variants").children].forEach((node, i) => { node.querySelector("legend").textContent = String.fromCharCode(65 + i); });
}

const valuesOf = (node) => Object.fromEntries([...node.querySelectorAll("[data-name]")].map((one) => [one.dataset.name, one.type === "number" ? Number(one.value) : one.value]));

async function compare() {
  const variants = [...$("variants").children].map(valuesOf);
  const count = Math.min(8, Math.max(1, Math.round(Number($("compare-count").value)) || 1));
  $("compare-count").value = String(count);
  if (!variants.length) return toast("Add a column first.", "error");
  const base = requestOf({ n: count, preview: false });
  if (!base.prompt) return toast("Write a prompt on the Draw page first.", "error");
  const grid = $("compare-grid");
  grid.style.gridTemplateColumns = `repeat(${variants.length}, minmax(96px, 1fr))`;
  grid.replaceChildren(...variants.map((_, i) => el("h3", {}, String.fromCharCode(65 + i))));
  const cells = variants.map(() => Array.from({ length: count }, () => el("div", { class: "cell" })));
  for (let row = 0; row < count; row++) grid.append(...cells.map((column) => column[row]));
  $("run-compare").disabled = true;
  await Promise.all(variants.map(async (variant, i) => {
    try {
      const { width, height } = sizeFor(base, variant.model);
      const result = await runJob({ ...base, ...variant, width, height });
      if (!result) throw new Error("cancelled");
      tellNotes(result.notes);
      await Promise.all(result.data.map((one, row) => fill(cells[i][row], one, result.pose)));
    } catch (error) {
      cells[i][0].textContent = error.message;
    }
  }));
  $("run-compare").disabled = false;
}

// Another model's own size where the chosen one is of another model.
function sizeFor(base, model) {
  const own = modelOf(model).defaults;
  return model === base.model ? base : { width: own.width, height: own.height };
}

async function fill(cell, one, pose) {
  const item = { base64: one.b64_json, url: pngUrl(one.b64_json), pose, record: one.info };
  cell.replaceChildren(el("button", { class: "shape", "aria-label": `Seed ${one.seed}`, onclick: () => showPose(item) }, el("img", { src: item.url, alt: `${one.info.prompt}, seed ${one.seed}` })), el("small", {}, `seed ${one.seed}`));
  const result = await check(item).catch(() => null);
  if (result) cell.append(badge(result));
}
