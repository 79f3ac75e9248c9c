// Poses from files, the clipboard, photographs and presets; poses to files; images to trace.

import { $, chooseFile, closeDialog, download, el, loadImage, openDialog, toast } from "./ui.js";
import { post, send } from "./api.js";
import { app } from "./state.js";
import { tables } from "./skeletons.js";
import { thumbnail } from "./draw.js";

const POSES = () => [...app.config.pose_endings, "application/json"].join(",");
const IMAGES = "image/png,image/jpeg,image/webp,image/bmp,image/gif";

export async function open() { await read(await chooseFile(`${POSES()},${IMAGES}`)); }
export async function photo() { await detect(await chooseFile(IMAGES)); }
export async function trace() { await showTrace(await chooseFile(IMAGES)); }

export async function paste() {
  const text = await navigator.clipboard?.readText?.().catch(() => "");
  if (text && /^\s*[[{]/.test(text)) return read(new Blob([text]));
  const area = el("textarea", { rows: "8", "aria-label": "Pose JSON", placeholder: "COCO, OpenPose, Human-Art or humansd JSON" });
  openDialog("Paste a pose", el("form", { class: "stack", onsubmit: (event) => {
    event.preventDefault();
    closeDialog();
    read(new Blob([area.value]));
  } }, area, el("button", { class: "main" }, "Use it")));
  area.focus();
}

// A pose file, or where it is an image, the people in it.
export async function read(file) {
  if (file.type?.startsWith("image/")) return detect(file);
  const [width, height] = app.pose.canvas;
  try {
    const found = await post(`/v1/poses/read?canvas=${width}x${height}`, file, "application/octet-stream");
    for (const note of found.notes.slice(0, 3)) if (!/lie outside/.test(note)) toast(note);
    if (found.poses.length === 1) return use(found.poses[0].pose);
    choose(`${found.poses.length} poses in this file${found.left_out ? `, and ${found.left_out} more that are not shown` : ""}`, found.poses);
  } catch (error) {
    toast(error.message, "error");
  }
}

export async function detect(file) {
  toast("Looking for people ...");
  try {
    const found = await post("/v1/poses/detect", file, "application/octet-stream");
    if (!found.people) return toast("Nobody was found. Try an image that shows people larger; it can still be traced.", "error");
    if (found.estimator === "drawing") { use(found.pose); return toast("A drawn skeleton: its joints were read. One that others cover may be missed."); }
    await showTrace(file);
    use(found.pose);
    toast(`${found.people} ${found.people === 1 ? "person" : "people"} found. Drag what is not quite right.`);
  } catch (error) {
    toast(error.message, "error");
  }
}

export function use(json) {
  app.pose.replace(json);
  app.editor.fit();
  app.editor.select([]);
  $("canvas").focus({ preventScroll: true });
}

async function showTrace(file) {
  const image = await loadImage(URL.createObjectURL(file)).catch(() => null);
  if (!image) return toast("This image cannot be shown.", "error");
  app.editor.trace = { image, opacity: Number($("trace-opacity").value) / 100 };
  $("trace-bar").hidden = false;
  app.editor.draw();
}

export function setUpTrace() {
  $("trace-opacity").addEventListener("input", (event) => {
    if (app.editor.trace) app.editor.trace.opacity = Number(event.target.value) / 100;
    app.editor.draw();
  });
  $("trace-off").addEventListener("click", () => {
    app.editor.trace = null;
    $("trace-bar").hidden = true;
    app.editor.draw();
  });
}

export const presets = () => choose("Poses", app.presets, true);

function choose(title, poses, add = false) {
  const cards = poses.map(({ name, pose }) => el("button", { class: "preset", onclick: (event) => {
    closeDialog();
    if (add && event.shiftKey) return join(pose);
    use(pose);
  } }, thumbnail(pose, tables[pose.skeleton]), el("span", {}, name.replaceAll("_", " "))));
  openDialog(title, el("div", { class: "presets" }, ...cards), add ? el("p", { class: "hint" }, "Shift + click adds the people to those who are there.") : null);
}

function join(json) {
  app.pose.remember();
  app.pose.people.push(...app.pose.peopleOf(json));
  app.pose.changed();
}

export function save() {
  if (!app.pose.people.length) return toast("There is nobody to save yet.");
  const buttons = [["coco", "COCO JSON"], ["openpose", "OpenPose JSON"], ["humanart", "Human-Art JSON"], ["npz", "npz"], ["humansd", "humansd JSON"], ["png", "Drawing (HumanSD)"], ["png-openpose", "Drawing (OpenPose)"]];
  openDialog("Save the pose", el("div", { class: "stack" },
    ...buttons.map(([format, label]) => el("button", { class: "quiet", "data-format": format, onclick: () => exportAs(format) }, label)),
    el("button", { class: "quiet", onclick: copy }, "Copy as OpenPose JSON")));
}

async function exported(format) {
  return send("/v1/poses/export", { method: "POST", body: { poses: [{ name: "pose", pose: app.pose.toJSON() }], format } });
}

async function exportAs(format) {
  try {
    const ending = format === "npz" ? "npz" : format.startsWith("png") ? "png" : "json";
    download(await (await exported(format)).blob(), `pose-${format}.${ending}`);
    closeDialog();
  } catch (error) {
    toast(error.message, "error");
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(await (await exported("openpose")).text());
    closeDialog();
    toast("Copied.");
  } catch (error) {
    toast(`Not copied: ${error.message}`, "error");
  }
}

export function setUpDrop() {
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file) read(file);
  });
  document.addEventListener("paste", (event) => {
    if (/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    const file = [...(event.clipboardData?.files || [])][0];
    const text = event.clipboardData?.getData("text") || "";
    if (file) read(file);
    else if (/^\s*[[{]/.test(text)) read(new Blob([text]));
  });
}
