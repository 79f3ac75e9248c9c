// What to draw: prompt, model, settings; makes the request.

import { $, chooseFile, base64Of, el, icon } from "./ui.js";
import { app, modelOf } from "./state.js";
import { showWords, wordsOf } from "./words.js";

const ROLL = () => Math.floor(Math.random() * 2 ** 31);
const ASPECTS = [["square", 1, 1], ["portrait 3:4", 3, 4], ["tall 2:3", 2, 3], ["landscape 4:3", 4, 3], ["wide 3:2", 3, 2]];

export function buildPanel(onGenerate) {
  const form = $("panel");
  const label = (text, node, more) => el("label", {}, el("span", {}, text), node, more);
  const number = (name, min, max, step) => el("input", { type: "number", name, min: String(min), max: String(max), step: String(step), inputmode: "decimal", required: true });
  const models = el("select", { name: "model" }, ...app.models.map(({ id }) => el("option", { value: id }, id)));
  form.replaceChildren(
    el("div", { class: "field" }, label("Prompt", el("textarea", { name: "prompt", rows: "3", required: true, placeholder: "photo, a woman in a red coat in a park" })),
      el("button", { type: "button", class: "link", id: "words", hidden: true, onclick: () => showWords(form) }, "Words")),
    label("Leave out", el("input", { name: "negative_prompt", placeholder: "what should not be seen" })),
    el("div", { class: "begin", id: "begin", hidden: true }),
    el("div", { class: "pair uneven" }, label("Images", number("n", 1, app.config.limits.count, 1)), label("Shape", el("select", { name: "size" }))),
    el("button", { class: "main big", id: "generate" }, "Generate"),
    el("details", { open: window.innerWidth > 700 }, el("summary", {}, "Settings"),
      el("div", { class: "pair" }, label("Model", models), label("Method", el("select", { name: "method" }))),
      el("div", { class: "pair" }, label("Steps", number("num_inference_steps", 1, app.config.limits.steps, 1)),
        label("Sampler", el("select", { name: "scheduler" }, el("option", { value: "" }, "model's own"), ...app.config.samplers.map((name) => el("option", {}, name))))),
      slider("guidance_scale", "Text guidance", 1, 15), slider("pose_guidance_scale", "Pose guidance", 0, 10),
      label("Seed", number("seed", 0, 2 ** 53 - 1, 1), el("span", { class: "side" },
        el("button", { type: "button", class: "quiet small", onclick: () => { form.seed.value = ROLL(); } }, "Roll"),
        el("label", { class: "check" }, el("input", { type: "checkbox", name: "keep" }), " keep"))),
      el("button", { type: "button", class: "quiet", onclick: beginWith }, "Begin with an image")),
    el("p", { class: "hint", id: "filter-note" }),
  );
  form.noValidate = true; // `valid` asks instead, which opens what is closed
  form.n.value = "2";
  form.seed.value = String(ROLL());
  form.model.addEventListener("change", useModel);
  form.method.addEventListener("change", useMethod);
  form.size.addEventListener("change", useSize);
  form.addEventListener("submit", (event) => { event.preventDefault(); onGenerate(); });
  form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) onGenerate(); });
  $("canvas").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) onGenerate(); });
  useModel();
}

function slider(name, text, min, max) {
  const range = el("input", { type: "range", name, min: String(min), max: String(max), step: "0.5", "aria-label": text });
  const shown = el("output", {});
  const show = () => { shown.value = Number(range.value).toFixed(1); };
  range.addEventListener("input", show);
  range.show = show;
  return el("label", { class: "slider" }, el("span", {}, text, shown), range);
}

// The model's own values, and the sizes that it can draw.
export function useModel() {
  const form = $("panel");
  const model = modelOf(form.model.value);
  const own = model.defaults;
  form.method.replaceChildren(...model.methods.map((name) => el("option", {}, name)));
  $("words").hidden = true;
  wordsOf(model.id).then((words) => { if (form.model.value === model.id) $("words").hidden = !words; }).catch(() => {});
  useMethod();
  const side = Math.sqrt(own.width * own.height);
  const grid = Math.max(model.size_step, 8);
  const sizes = ASPECTS.map(([name, w, h]) => {
    const [width, height] = [Math.sqrt(w / h), Math.sqrt(h / w)].map((share) => Math.round((side * share) / grid) * grid);
    return [name, w === h ? own.width : width, w === h ? own.height : height];
  });
  form.size.replaceChildren(...sizes.map(([name, width, height]) => el("option", { value: `${width}x${height}` }, `${width} × ${height}, ${name}`)));
  useSize();
}

// What the model draws with by the chosen method, and what a user must know of it.
function useMethod() {
  const form = $("panel");
  const model = modelOf(form.model.value);
  const own = model.method_defaults[form.method.value];
  form.num_inference_steps.value = own.num_inference_steps;
  for (const name of ["guidance_scale", "pose_guidance_scale"]) { form[name].value = own[name]; form[name].show(); }
  const notes = [model.content_filter_note && `Content filter: ${model.content_filter_note}.`,
    model.ignores_pose.includes(form.method.value) && `The method ${form.method.value} does not look at the pose.`];
  $("filter-note").textContent = notes.filter(Boolean).join(" ");
}

export function useSize() {
  const [width, height] = $("panel").size.value.split("x").map(Number);
  const scale = 512 / Math.min(width, height);
  if (app.pose.reframe(Math.round(width * scale), Math.round(height * scale))) app.editor?.fit();
}

function setSize(width, height) {
  const form = $("panel");
  const value = `${width}x${height}`;
  if (![...form.size.options].some((one) => one.value === value)) form.size.append(el("option", { value }, `${width} × ${height}`));
  form.size.value = value;
  useSize();
}

// The request as the server takes it, for a pose.
export function requestOf(changes = {}) {
  const form = $("panel");
  const [width, height] = form.size.value.split("x").map(Number);
  const pose = app.pose.toJSON();
  const request = {
    prompt: form.prompt.value.trim(), negative_prompt: form.negative_prompt.value.trim(),
    model: form.model.value, method: form.method.value, scheduler: form.scheduler.value,
    n: Number(form.n.value), seed: Number(form.seed.value), num_inference_steps: Number(form.num_inference_steps.value),
    guidance_scale: Number(form.guidance_scale.value), pose_guidance_scale: Number(form.pose_guidance_scale.value),
    width, height, preview: true,
  };
  if (pose.people.length) request.pose = pose;
  if (app.begin) {
    Object.assign(request, { image: app.begin.base64, strength: Number(app.begin.strength) });
    if (app.begin.mask) request.mask = "pose";
    if (app.begin.mask && app.begin.pose) request.image_pose = app.begin.pose;
  }
  return { ...request, ...changes };
}

// Whether all fields can be used; the settings open where one of them cannot, as nobody sees it else.
export function valid() {
  const form = $("panel");
  if (form.querySelector("details :invalid")) form.querySelector("details").open = true;
  return form.reportValidity();
}

export function rollSeed() {
  const form = $("panel");
  if (!form.keep.checked) form.seed.value = String(ROLL());
}

// Prompt, settings, pose and seed of an image that is there.
export function useAgain(record) {
  const form = $("panel");
  const own = record.settings;
  if ([...form.model.options].some((one) => one.value === own.model) && form.model.value !== own.model) { form.model.value = own.model; useModel(); }
  if ([...form.method.options].some((one) => one.value === own.method)) { form.method.value = own.method; useMethod(); }
  form.prompt.value = record.prompt;
  form.negative_prompt.value = record.negative_prompt || "";
  form.seed.value = record.seed;
  form.keep.checked = true;
  form.num_inference_steps.value = own.num_inference_steps;
  form.scheduler.value = own.scheduler || "";
  for (const name of ["guidance_scale", "pose_guidance_scale"]) { form[name].value = own[name]; form[name].show(); }
  setSize(...own.size);
  if (record.people) app.pose.replace(record.people);
}

// -- an image to begin with ------------------------------------------------------------------------------------
async function beginWith() {
  const file = await chooseFile("image/png,image/jpeg,image/webp");
  setBegin({ base64: await base64Of(file), url: URL.createObjectURL(file), pose: null, strength: 0.6, mask: false });
}

export function setBegin(begin) {
  app.begin = begin;
  const host = $("begin");
  host.hidden = !begin;
  if (!begin) return host.replaceChildren();
  const strength = el("input", { type: "range", min: "0.1", max: "1", step: "0.05", "aria-label": "How much may change", oninput: () => { begin.strength = strength.value; } });
  strength.value = String(begin.strength);
  const where = el("select", { "aria-label": "Where it may change", onchange: () => {
    begin.mask = where.value === "pose";
    strength.value = begin.strength = begin.mask ? 1 : 0.6;
  } }, el("option", { value: "" }, "everywhere"), el("option", { value: "pose" }, "where people move"));
  where.value = begin.mask ? "pose" : "";
  host.replaceChildren(el("img", { src: begin.url, alt: "The image to begin with" }),
    el("div", {}, el("strong", {}, "Begins with this image"), el("label", {}, "may change ", where), el("label", {}, "how much ", strength)),
    el("button", { type: "button", class: "icon small", "aria-label": "Begin without an image", onclick: () => setBegin(null) }, icon("close")));
}
