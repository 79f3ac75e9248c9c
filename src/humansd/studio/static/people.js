// The list of people, and the selected joint with its place and state; all of it works by keyboard.

import { $, el, icon } from "./ui.js";
import { app } from "./state.js";
import { words } from "./skeletons.js";

export function showPeople() {
  const { pose, editor } = app;
  const rows = pose.people.map((person, p) => {
    const seen = person.v.filter((v) => v).length;
    const button = (name, label, action, disabled = false) => el("button", { class: "icon small", "aria-label": `${label} person ${p + 1}`, title: label, disabled, onclick: action }, icon(name));
    return el("li", { class: editor.people.includes(p) ? "on" : "" },
      el("button", { class: "name", onclick: () => { editor.selectPerson(p); $("canvas").focus(); } }, `Person ${p + 1}`, el("small", {}, `${seen} of ${person.v.length} joints`)),
      button("up", "Bring forward", () => { const to = pose.order(p, 1); editor.selectPerson(to); }, p === pose.people.length - 1),
      button("down", "Send back", () => { const to = pose.order(p, -1); editor.selectPerson(to); }, p === 0),
      button("trash", "Delete", () => pose.removePerson(p)));
  });
  $("people").replaceChildren(...rows.reverse());
  if (!rows.length) $("people").append(el("li", { class: "empty" }, "Nobody yet. Add a person, choose a pose, or open a file."));
}

export function showJoint() {
  const { pose, editor } = app;
  const host = $("joint");
  const person = editor.people.length === 1 ? editor.people[0] : null;
  if (person === null) {
    host.replaceChildren(el("h2", {}, "Joint"), el("p", { class: "hint" }, editor.selected.length ? `${editor.selected.length} joints of ${editor.people.length} people are selected.` : "Select a joint to see its place."));
    return;
  }
  const one = editor.selected.length === 1 ? editor.selected[0][1] : null;
  const table = pose.table;
  const choose = el("select", { "aria-label": "Joint", onchange: () => pick(person, Number(choose.value)) },
    el("option", { value: "-1", selected: one === null }, `${editor.selected.length} joints`),
    ...table.joints.map((joint, j) => el("option", { value: String(j), selected: one === j }, words(joint) + (pose.people[person].v[j] ? "" : " (absent)"))));
  const parts = [el("h2", {}, "Joint"), choose];
  if (one !== null) parts.push(fields(person, one));
  if (host.contains(document.activeElement) && document.activeElement.tagName === "INPUT") return refresh(host, person, one);
  host.replaceChildren(...parts);
}

function pick(person, joint) {
  if (joint < 0) return app.editor.selectPerson(person);
  if (!app.pose.people[person].v[joint]) app.pose.restore(person, joint);
  app.editor.select([[person, joint]]);
}

function fields(person, joint) {
  const { pose } = app;
  const number = (axis, label) => el("label", {}, label, el("input", {
    type: "number", step: "1", "data-axis": String(axis), value: pose.people[person].xy[joint][axis].toFixed(0),
    onchange: (event) => {
      const to = [...pose.people[person].xy[joint]];
      to[axis] = Number(event.target.value);
      if (!Number.isFinite(to[axis])) return;
      pose.remember();
      pose.drag(person, joint, to, app.editor.locked);
      pose.changed();
    },
  }));
  const state = el("select", { "aria-label": "State of the joint", onchange: () => {
    const v = Number(state.value);
    if (v) { pose.remember(); pose.people[person].v[joint] = v; pose.changed(); } else pose.removeJoints([[person, joint]]);
  } }, ...["absent", "hidden", "visible"].map((word, v) => el("option", { value: String(v), selected: pose.people[person].v[joint] === v }, word)));
  return el("div", { class: "fields" }, number(0, "x"), number(1, "y"), state);
}

function refresh(host, person, joint) {
  for (const input of host.querySelectorAll("input[data-axis]")) {
    if (input !== document.activeElement && joint !== null) input.value = app.pose.people[person].xy[joint][Number(input.dataset.axis)].toFixed(0);
  }
}
