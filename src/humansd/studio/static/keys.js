// Everything that the canvas can do, by keyboard.

import { $, el, openDialog } from "./ui.js";
import { app } from "./state.js";
import { center } from "./pose.js";
import { words } from "./skeletons.js";

const KEYS = [
  ["Arrow keys", "move what is selected (Shift: further, Alt: finer)"],
  ["[ and ]", "choose the joint before or after"],
  ["{ and }", "choose the person before or after"],
  ["P", "select the whole person"],
  ["Shift + click, or drag on the ground", "select several joints"],
  ["+ and −", "make the person larger or smaller"],
  ["< and >", "turn the person"],
  ["M", "mirror"],
  ["V, or double click", "hidden or visible"],
  ["Delete", "remove what is selected; a removed joint comes back in the list of joints"],
  ["A", "add a person"],
  ["F and B", "bring forward, send back"],
  ["L", "keep bone lengths, or not"],
  ["Ctrl + Z, Ctrl + Y", "undo, redo"],
  ["Ctrl + V", "paste a pose (JSON of any format)"],
  ["0, wheel, two fingers, Alt + drag", "whole frame, zoom, move the view"],
  ["Ctrl + Enter", "generate"],
];

export function showKeys() {
  openDialog("Keys and gestures", el("dl", { class: "keys" }, ...KEYS.flatMap(([key, does]) => [el("dt", {}, key), el("dd", {}, does)])));
}

export function speak() {
  const { pose, editor } = app;
  if (editor.selected.length !== 1) {
    $("spoken").textContent = editor.selected.length ? `${editor.selected.length} joints selected` : "";
    return;
  }
  const [p, j] = editor.selected[0];
  const person = pose.people[p];
  const [x, y] = person.xy[j].map(Math.round);
  $("spoken").textContent = `${words(pose.table.joints[j])} of person ${p + 1}${person.v[j] === 1 ? ", hidden" : ""}: ${x}, ${y}`;
}

// What the tool buttons and the keys share. Each returns nothing.
export const actions = {
  undo: () => app.pose.undo(),
  redo: () => app.pose.redo(),
  add: () => { app.editor.selectPerson(app.pose.addPerson()); },
  mirror: () => app.pose.mirror(app.editor.people.length ? app.editor.people : app.pose.people.map((_, p) => p)),
  hide: () => app.editor.selected.length && app.pose.toggleHidden(app.editor.selected),
  delete: () => app.editor.selected.length && app.pose.removeJoints(app.editor.selected),
  lock: () => { app.editor.locked = !app.editor.locked; document.querySelector('[data-do="lock"]').setAttribute("aria-pressed", String(app.editor.locked)); },
  fit: () => app.editor.fit(),
};

function cycleJoint(step) {
  const { pose, editor } = app;
  if (!pose.people.length) return;
  const [p, j] = editor.selected.at(-1) || [pose.people.length - 1, -1];
  const seen = editor.joints(p).map(([, joint]) => joint);
  const place = editor.selected.length === 1 ? seen.indexOf(j) : step > 0 ? -1 : 0;
  editor.select([[p, seen[(place + step + seen.length) % seen.length]]]);
}

function cyclePerson(step) {
  const { pose, editor } = app;
  const n = pose.people.length;
  if (n) editor.selectPerson(((editor.people[0] ?? (step > 0 ? -1 : 0)) + step + n) % n);
}

function order(step) {
  const [p] = app.editor.people;
  if (p !== undefined) app.editor.selectPerson(app.pose.order(p, step));
}

function transform(scale, turn) {
  const { pose, editor } = app;
  const people = editor.people;
  if (!people.length) return;
  pose.remember();
  for (const p of people) pose.transform([p], center(pose.people[p]), scale, turn);
  pose.changed();
}

function nudge(event, x, y) {
  const { pose, editor } = app;
  if (!editor.selected.length) return;
  const step = (Math.min(...pose.canvas) / 100) * (event.shiftKey ? 5 : event.altKey ? 0.2 : 1);
  pose.remember();
  if (editor.selected.length === 1) {
    const [p, j] = editor.selected[0];
    const [px, py] = pose.people[p].xy[j];
    pose.drag(p, j, [px + x * step, py + y * step], editor.locked);
  } else pose.move(editor.selected, x * step, y * step);
  pose.changed();
}

const PLAIN = {
  ArrowLeft: (event) => nudge(event, -1, 0), ArrowRight: (event) => nudge(event, 1, 0),
  ArrowUp: (event) => nudge(event, 0, -1), ArrowDown: (event) => nudge(event, 0, 1),
  "[": () => cycleJoint(-1), "]": () => cycleJoint(1), "{": () => cyclePerson(-1), "}": () => cyclePerson(1),
  p: () => app.editor.people.length && app.editor.selectPerson(app.editor.people[0]),
  "+": () => transform(1.05, 0), "=": () => transform(1.05, 0), "-": () => transform(1 / 1.05, 0),
  "<": () => transform(1, -0.087), ">": () => transform(1, 0.087),
  m: actions.mirror, v: actions.hide, Delete: actions.delete, Backspace: actions.delete, a: actions.add, l: actions.lock,
  f: () => order(1), b: () => order(-1), 0: actions.fit, "?": showKeys, Escape: () => app.editor.select([]),
};

export function setUpKeys() {
  $("canvas").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    const does = PLAIN[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!does) return;
    event.preventDefault();
    does(event);
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || /^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    const key = event.key.toLowerCase();
    if (key === "z") { event.preventDefault(); if (event.shiftKey) actions.redo(); else actions.undo(); }
    if (key === "y") { event.preventDefault(); actions.redo(); }
  });
}
