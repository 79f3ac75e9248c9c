// Does an image show the pose that was wished? What the estimator sees, how far each joint is off, and trying again.

import { el, loadImage, openDialog, toast } from "./ui.js";
import { post } from "./api.js";
import { drawPeople } from "./draw.js";
import { tables, words } from "./skeletons.js";

const MET = 0.75; // similarity (OKS) from which a pose counts as met

// {similarity, pairs, found ...}; kept on the item. null where no pose was wished.
export async function check(item) {
  if (!item.pose) return null;
  item.checked ??= await post("/v1/poses/compare", { pose: item.pose, image: item.base64 });
  return item.checked;
}

export const verdict = (similarity) => (similarity >= MET ? "good" : similarity >= 0.5 ? "fair" : "poor");

export function badge(result) {
  const percent = Math.round(result.similarity * 100);
  const people = [result.missing && `${result.missing} missing`, result.extra && `${result.extra} too many`].filter(Boolean).join(", ");
  return el("span", { class: `badge ${verdict(result.similarity)}`, title: "Similarity of the pose that the estimator sees with the wished one" }, `pose ${percent} %${people ? `, ${people}` : ""}`);
}

export async function showPose(item) {
  let result;
  try {
    result = await check(item);
  } catch (error) {
    return toast(error.message, "error");
  }
  if (!result) return toast("This image was drawn without a pose.");
  const side = Math.min(520, window.innerWidth - 72);
  const canvas = el("canvas", { class: "overlay", "aria-label": "The wished pose in white, the seen one in color, the errors in red" });
  await paint(canvas, item, result, side);
  openDialog("Is the pose met?", el("div", { class: "meet" }, canvas, el("div", {}, badge(result),
    el("p", { class: "hint" }, "White: wished. Color: what the estimator sees. Red: the way between them. It sees about as well as it was trained; it may be wrong."),
    joints(item, result))));
}

async function paint(canvas, item, result, side) {
  const image = await loadImage(item.url);
  const ratio = window.devicePixelRatio || 1;
  const scale = (side / Math.max(image.width, image.height)) * ratio;
  canvas.width = image.width * scale;
  canvas.height = image.height * scale;
  const context = canvas.getContext("2d");
  context.globalAlpha = 0.6;
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 1;
  const place = ([x, y]) => [(x + 0.5) * scale, (y + 0.5) * scale];
  const table = tables[result.found.skeleton];
  const people = (json) => json.people.map((person) => ({ xy: person.xy, v: person.visibility }));
  const [wished, found] = [people(item.pose), people(result.found)];
  drawPeople(context, table, wished, place, 2.5 * ratio, { joints: false, plain: "rgba(255, 255, 255, 0.85)" });
  drawPeople(context, table, found, place, 4 * ratio, { joints: false });
  context.strokeStyle = "#ff4d4d";
  context.lineWidth = 1.5 * ratio;
  for (const pair of result.pairs) {
    if (pair.found === null) continue;
    pair.errors.forEach((error, j) => {
      if (error === null) return;
      context.beginPath();
      context.moveTo(...place(wished[pair.wished].xy[j]));
      context.lineTo(...place(found[pair.found].xy[j]));
      context.stroke();
    });
  }
}

function joints(item, result) {
  const table = tables[result.found.skeleton];
  const share = 100 / Math.max(...item.pose.canvas);
  const rows = result.pairs.flatMap((pair) => pair.errors.map((error, j) => [pair.wished, j, error, item.pose.people[pair.wished].visibility[j]]))
    .filter(([, , , wished]) => wished)
    .sort((a, b) => (b[2] ?? Infinity) - (a[2] ?? Infinity));
  const many = result.pairs.length > 1;
  return el("ol", { class: "errors", "aria-label": "Error of each joint, the largest first" }, ...rows.map(([p, j, error]) => el("li", {},
    el("span", {}, words(table.joints[j]) + (many ? ` of person ${p + 1}` : "")),
    el("b", {}, error === null ? "not seen" : `${(error * share).toFixed(1)} %`))));
}

// New seeds until an image meets the pose, or `most` images are drawn. show(result, request): of each batch.
export async function tryUntilMet(request, most, show, going = () => true) {
  let best = null;
  let drawn = 0;
  for (let seed = request.seed; drawn < most && going(); seed += 4) {
    const wanted = { ...request, n: Math.min(4, most - drawn), seed };
    const items = await show(wanted);
    if (!items) break;
    drawn += items.length;
    for (const item of items) {
      const result = await check(item);
      if (!best || result.similarity > best.checked.similarity) best = item;
    }
    if (best.checked.similarity >= MET && !best.checked.extra) break;
  }
  return { best, drawn, met: Boolean(best) && best.checked.similarity >= MET && !best.checked.extra };
}

