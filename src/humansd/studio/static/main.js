// The page: what is loaded first, and what each button does.

import { $, el, setUpDialog, status, toast } from "./ui.js";
import { get } from "./api.js";
import { app } from "./state.js";
import { learn } from "./skeletons.js";
import { Editor } from "./editor.js";
import { actions, setUpKeys, showKeys, speak } from "./keys.js";
import { showJoint, showPeople } from "./people.js";
import { buildPanel, requestOf, rollSeed, valid } from "./panel.js";
import * as files from "./files.js";
import { crown, draw, mark, setUpGallery } from "./gallery.js";
import { tryUntilMet } from "./meet.js";
import { firstVariants, setUpCompare } from "./compare.js";

let trying = false;

async function generate() {
  if (!valid()) return;
  const request = requestOf();
  const items = draw(request);
  rollSeed();
  await items;
}

async function untilMet() {
  const button = $("until-met");
  if (trying) { trying = false; return; }
  if (!valid()) return;
  const request = requestOf();
  if (!request.pose) return toast("Draw a pose first; it is what the images are held against.");
  trying = true;
  button.textContent = "Stop trying";
  try {
    const { best, drawn, met } = await tryUntilMet(request, app.mostTries, async (wanted) => {
      const items = await draw(wanted);
      if (items) await Promise.all(items.map(mark));
      return items;
    }, () => trying);
    if (best) { crown(best); toast(met ? `The pose is met after ${drawn} images.` : `Not quite met in ${drawn} images; the best one is marked.`); }
  } catch (error) {
    toast(error.message, "error");
  }
  trying = false;
  button.textContent = "Try until the pose is met";
  rollSeed();
}

function setUpTools() {
  const all = { ...actions, presets: files.presets, photo: files.photo, trace: files.trace, open: files.open, paste: files.paste, save: files.save };
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => all[button.dataset.do]());
  $("help").addEventListener("click", showKeys);
  $("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme.trim() === "dark";
    setTheme(dark ? "light" : "dark");
  });
  setTheme(localStorage.getItem("theme") || "");
  for (const name of ["draw", "compare"]) $(`tab-${name}`).addEventListener("click", () => showPage(name));
}

function setTheme(theme) {
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  if (theme) localStorage.setItem("theme", theme);
}

function showPage(name) {
  for (const page of ["draw", "compare"]) {
    $(`page-${page}`).hidden = page !== name;
    if (page === name) $(`tab-${page}`).setAttribute("aria-current", "page");
    else $(`tab-${page}`).removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  if (name === "compare") { if (app.models.length) firstVariants(); }
  else app.editor?.resize();
}

// Answered once they are loaded, however long that takes.
async function loadedModels() {
  for (;;) {
    try {
      return (await get("/v1/models")).data;
    } catch (error) {
      if (![502, 503, 504].includes(error.status)) throw error;
      await new Promise((done) => setTimeout(done, 1000 * Math.max(1, error.retryAfter)));
    }
  }
}

async function start() {
  setUpDialog();
  setUpTools();
  status("loading ...");
  const models = loadedModels(); // a pose can be drawn before
  models.catch(() => {}); // told below
  const [config, presets] = await Promise.all([get("/v1/studio"), get("/v1/poses/presets")]);
  Object.assign(app, { config, presets: presets.poses });
  learn(config.skeletons);
  app.editor = new Editor($("canvas"), app.pose);
  app.editor.watchers.push(showPeople, showJoint, speak);
  setUpKeys();
  files.setUpTrace();
  files.setUpDrop();
  const first = app.presets.find(({ name }) => name === "standing") || app.presets[0];
  if (first) { app.pose.replace(first.pose); app.pose.past = []; }
  showPeople();
  showJoint();
  window.studio = app; // for a look from the console
  const waits = setTimeout(() => status("loading the model; draw a pose meanwhile"), 500);
  try { app.models = await models; } finally { clearTimeout(waits); }
  buildPanel(generate);
  $("generate").after(el("button", { type: "button", class: "quiet", id: "until-met", onclick: untilMet }, "Try until the pose is met"));
  setUpGallery();
  setUpCompare();
  if (!$("page-compare").hidden) firstVariants();
  status(app.models.map(({ id }) => id).join(", "));
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => { status("not loaded"); toast(error.message, "error"); });
