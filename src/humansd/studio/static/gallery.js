// Images as they come: previews, settings, and what can be done with each.

import { $, bytesOf, download, el, icon, noteText, openDialog, closeDialog, pngUrl, tellNotes, toast } from "./ui.js";
import { cancelJob, runJob } from "./api.js";
import { app } from "./state.js";
import { badge, check, showPose } from "./meet.js";
import { setBegin, useAgain } from "./panel.js";

const MOST = 200; // images that the page keeps
const items = [];

// Draws a request; cards appear at once and show previews. -> the finished items, null where it was cancelled.
export async function draw(request) {
  const cards = Array.from({ length: request.n }, () => waiting(request));
  let id = null;
  const cancel = () => { if (id) cancelJob(id); cards.forEach((card) => card.remove()); };
  cards[0].querySelector(".cancel").onclick = cancel;
  cards.slice(1).forEach((card) => card.querySelector(".cancel").remove());
  $("gallery").prepend(...cards);
  $("gallery").querySelector(".empty")?.remove();
  try {
    const result = await runJob(request, {
      accepted: (job) => { id = job; },
      progress: (status) => cards.forEach((card) => { card.querySelector("progress").value = status.progress; card.querySelector(".state").textContent = status.state === "running" ? `${Math.round(status.progress * 100)} %` : "waiting"; }),
      preview: ({ images }) => images.forEach((image, i) => image && show(cards[i], image)),
    });
    if (!result) { cancel(); return null; }
    tellNotes(result.notes);
    return result.data.map((one, i) => finish(cards[i], one, result.pose, request));
  } catch (error) {
    cards.forEach((card) => card.remove());
    if (!/cancel|is not there/.test(error.message)) toast(error.message, "error");
    return null;
  } finally {
    if (!$("gallery").children.length) $("gallery").append(el("p", { class: "empty" }, "Images appear here, each with its settings."));
  }
}

function waiting(request) {
  const shape = el("div", { class: "shape" });
  shape.style.aspectRatio = `${request.width} / ${request.height}`;
  return el("article", { class: "card busy" }, shape, el("progress", { max: "1", value: 0, "aria-label": "Progress" }),
    el("footer", {}, el("span", { class: "state" }, "waiting"), el("button", { class: "icon small cancel", "aria-label": "Cancel" }, icon("close"))));
}

function show(card, base64) {
  const url = pngUrl(base64);
  const image = el("img", { alt: "Preview", class: "preview", onload: () => URL.revokeObjectURL(url) });
  image.src = url;
  card.querySelector(".shape").replaceChildren(image);
}

function finish(card, one, pose, request) {
  const item = { base64: one.b64_json, url: pngUrl(one.b64_json), record: one.info, seed: one.seed, pose, request, checked: null };
  items.unshift(item);
  while (items.length > MOST) forget(items.pop());
  const node = el("article", { class: "card" },
    el("button", { class: "shape", "aria-label": `Image with seed ${one.seed}: ${one.info.prompt}`, onclick: () => details(item) }, el("img", { src: item.url, alt: one.info.prompt })),
    el("footer", {}, el("span", { class: "state", title: `seed ${one.seed}` }, one.withheld ? "withheld by the content filter" : String(one.seed)),
      el("button", { class: "icon small", "aria-label": "Download", title: "Download", onclick: () => save(item) }, icon("save")),
      el("button", { class: "icon small", "aria-label": "Remove", title: "Remove", onclick: () => remove(item) }, icon("close"))));
  node.querySelector(".shape").style.aspectRatio = `${request.width} / ${request.height}`;
  item.card = node;
  card.replaceWith(node);
  $("clear").hidden = false;
  if ($("auto-check").checked && !one.withheld) mark(item);
  return item;
}

// The similarity on the card.
export async function mark(item) {
  try {
    const result = await check(item);
    if (result) { item.card.querySelector(".badge")?.remove(); item.card.querySelector("footer").prepend(badge(result)); }
  } catch (error) {
    toast(error.message, "error");
  }
}

export function crown(item) {
  for (const other of items) other.card.classList.toggle("best", other === item);
}

function save(item) { download(new Blob([bytesOf(item.base64)], { type: "image/png" }), `humansd-${item.seed}.png`); }

function forget(item) {
  URL.revokeObjectURL(item.url);
  item.card.remove();
}

function remove(item) {
  items.splice(items.indexOf(item), 1);
  forget(item);
  $("clear").hidden = !items.length;
}

export function setUpGallery() {
  $("clear").addEventListener("click", () => { for (const item of [...items]) remove(item); });
  $("auto-check").addEventListener("change", (event) => { if (event.target.checked) items.forEach(mark); });
}

function details(item) {
  const own = item.record.settings;
  const rows = [["prompt", item.record.prompt], ["without", item.record.negative_prompt], ["seed", item.seed], ["model", own.model], ["method", own.method], ["steps", own.num_inference_steps], ["text guidance", own.guidance_scale], ["pose guidance", own.pose_guidance_scale], ["sampler", own.scheduler || "the model's own"], ["size", own.size.join(" × ")], ["strength", own.strength], ...(item.record.notes ?? []).map((note) => ["note", noteText(note)])];
  const then = (action) => () => { closeDialog(); action(item); };
  openDialog("Image", el("div", { class: "details" }, el("img", { src: item.url, alt: item.record.prompt }), el("div", {},
    el("dl", {}, ...rows.filter(([, value]) => value !== undefined && value !== "" && value !== null).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])),
    el("div", { class: "stack" },
      el("button", { class: "main", onclick: then(() => useAgain(item.record)) }, "Use these again"),
      el("button", { class: "quiet", onclick: then(changePose) }, "Change the pose of this one"),
      el("button", { class: "quiet", onclick: () => showPose(item) }, "Is the pose met?"),
      el("button", { class: "quiet", onclick: () => save(item) }, "Download with its settings")))));
}

// The image to begin with, its pose in the editor; what is drawn next changes where people move.
function changePose(item) {
  useAgain(item.record);
  setBegin({ base64: item.base64, url: item.url, pose: item.pose, strength: 1, mask: Boolean(item.pose) });
  app.editor.select([]);
  $("canvas").scrollIntoView({ block: "center" });
  $("canvas").focus({ preventScroll: true });
  toast("Move somebody, then press Generate: the image changes there alone.");
}
