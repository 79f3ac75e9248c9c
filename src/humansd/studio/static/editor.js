// The canvas on which the pose is drawn: view, selection, mouse and touch.

import { drawPeople } from "./draw.js";
import { box, center, distance } from "./pose.js";

const HANDLE = 26; // px above the box, for turning

export class Editor {
  constructor(canvas, pose) {
    this.canvas = canvas;
    this.pose = pose;
    this.context = canvas.getContext("2d");
    this.selected = []; // [person, joint]
    this.locked = true;
    this.zoom = 1;
    this.pan = [0, 0];
    this.trace = null; // {image, opacity}
    this.pointers = new Map();
    this.action = null;
    this.watchers = [];
    pose.watchers.push(() => { this.prune(); this.draw(); });
    new ResizeObserver(() => this.resize()).observe(canvas);
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this[name](event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", (event) => this.double(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  // -- view --------------------------------------------------------------------------------------------------
  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.ratio = ratio;
    this.size = [width, height];
    this.draw();
  }

  get scale() {
    const [width, height] = this.size || [1, 1];
    const [w, h] = this.pose.canvas;
    return this.zoom * Math.min((width - 32) / w, (height - 32) / h);
  }

  get origin() {
    const [width, height] = this.size || [1, 1];
    const [w, h] = this.pose.canvas;
    return [(width - w * this.scale) / 2 + this.pan[0], (height - h * this.scale) / 2 + this.pan[1]];
  }

  toScreen = ([x, y]) => [this.origin[0] + (x + 0.5) * this.scale, this.origin[1] + (y + 0.5) * this.scale];
  toPose = ([x, y]) => [(x - this.origin[0]) / this.scale - 0.5, (y - this.origin[1]) / this.scale - 0.5];

  fit() { this.zoom = 1; this.pan = [0, 0]; this.draw(); }

  zoomAt([x, y], factor) {
    const before = this.toPose([x, y]);
    this.zoom = Math.min(12, Math.max(0.3, this.zoom * factor));
    const after = this.toScreen(before);
    this.pan = [this.pan[0] + x - after[0], this.pan[1] + y - after[1]];
    this.draw();
  }

  // -- selection ---------------------------------------------------------------------------------------------
  select(selected) { this.selected = selected; this.tell(); this.draw(); }
  tell() { for (const watcher of this.watchers) watcher(); }
  get people() { return [...new Set(this.selected.map(([p]) => p))]; }
  joints(p) { return this.pose.people[p].v.flatMap((v, j) => (v ? [[p, j]] : [])); }
  selectPerson(p) { this.select(this.joints(p)); }
  isSelected(p, j) { return this.selected.some(([q, i]) => q === p && i === j); }

  prune() {
    this.selected = this.selected.filter(([p, j]) => this.pose.people[p]?.v[j]);
    this.tell();
  }

  // The one person whose joints are all selected, or null.
  get whole() {
    const people = this.people;
    if (people.length !== 1 || this.selected.length < 2) return null;
    return this.joints(people[0]).length === this.selected.length ? people[0] : null;
  }

  jointAt(point, radius) {
    let best = null;
    let least = radius;
    this.pose.people.forEach((person, p) => person.xy.forEach((xy, j) => {
      if (!person.v[j]) return;
      const far = distance(this.toScreen(xy), point) - (this.isSelected(p, j) ? 2 : 0);
      if (far <= least) { least = far; best = [p, j]; }
    }));
    return best;
  }

  limbAt(point, radius) {
    for (let p = this.pose.people.length - 1; p >= 0; p--) {
      const person = this.pose.people[p];
      for (const [a, b] of this.pose.table.limbs) {
        if (person.v[a] && person.v[b] && toSegment(point, this.toScreen(person.xy[a]), this.toScreen(person.xy[b])) < radius) return p;
      }
    }
    return null;
  }

  handleAt(point, radius) {
    if (this.whole === null) return null;
    const { corners, turn } = this.handles();
    if (distance(point, turn) < radius) return { kind: "turn" };
    const corner = corners.findIndex((one) => distance(point, one) < radius);
    return corner < 0 ? null : { kind: "scale", fixed: this.toPose(corners[3 - corner]) };
  }

  handles() {
    const [x0, y0, x1, y1] = box(this.pose.people[this.whole]);
    const [a, b] = [this.toScreen([x0, y0]), this.toScreen([x1, y1])];
    const m = 12;
    return {
      corners: [[a[0] - m, a[1] - m], [b[0] + m, a[1] - m], [a[0] - m, b[1] + m], [b[0] + m, b[1] + m]],
      turn: [(a[0] + b[0]) / 2, a[1] - m - HANDLE],
    };
  }

  // -- mouse and touch ---------------------------------------------------------------------------------------
  at(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  pointerdown(event) {
    this.canvas.focus({ preventScroll: true });
    const point = this.at(event);
    this.pointers.set(event.pointerId, point);
    this.canvas.setPointerCapture(event.pointerId);
    if (this.pointers.size === 2) { this.abort(); this.action = { kind: "pinch", before: [...this.pointers.values()] }; return; }
    if (event.button === 1 || event.button === 2 || event.altKey) { this.action = { kind: "pan", last: point }; return; }
    this.begin(point, event.pointerType === "touch" ? 24 : 12, event.shiftKey || event.ctrlKey || event.metaKey);
  }

  begin(point, radius, more) {
    const handle = this.handleAt(point, radius);
    const joint = this.jointAt(point, radius);
    const limb = joint ? null : this.limbAt(point, radius * 0.7);
    const start = this.toPose(point);
    if (handle && !joint) {
      const middle = handle.kind === "turn" ? center(this.pose.people[this.whole]) : handle.fixed;
      this.action = { ...handle, middle, last: start, person: this.whole };
    } else if (joint && more) {
      this.select(this.isSelected(...joint) ? this.selected.filter(([p, j]) => p !== joint[0] || j !== joint[1]) : [...this.selected, joint]);
    } else if (joint && this.isSelected(...joint) && this.selected.length > 1 && this.whole === null) {
      this.action = { kind: "move", last: start };
    } else if (joint) {
      this.select([joint]);
      const xy = this.pose.people[joint[0]].xy[joint[1]];
      this.action = { kind: "joint", joint, grip: [xy[0] - start[0], xy[1] - start[1]] };
    } else if (limb !== null) {
      this.select(more ? [...this.selected.filter(([p]) => p !== limb), ...this.joints(limb)] : this.joints(limb));
      this.action = { kind: "move", last: start };
    } else this.action = { kind: "marquee", from: point, to: point, before: more ? this.selected : [] };
  }

  pointermove(event) {
    const point = this.at(event);
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, point);
    const action = this.action;
    if (!action) {
      const joint = this.jointAt(point, 12);
      this.canvas.style.cursor = joint ? "grab" : this.handleAt(point, 12) ? "pointer" : this.limbAt(point, 8) !== null ? "move" : "crosshair";
      return;
    }
    if (action.kind === "pinch") { this.pinch(action); return; }
    if (action.kind === "pan") {
      this.pan = [this.pan[0] + point[0] - action.last[0], this.pan[1] + point[1] - action.last[1]];
      action.last = point;
      this.draw();
      return;
    }
    if (action.kind === "marquee") { action.to = point; this.draw(); return; }
    if (!action.changed) { action.undo = this.pose.snapshot(); this.pose.remember(); action.changed = true; }
    this.change(action, this.toPose(point));
    this.pose.changed();
  }

  change(action, now) {
    if (action.kind === "joint") this.pose.drag(...action.joint, [now[0] + action.grip[0], now[1] + action.grip[1]], this.locked);
    else if (action.kind === "move") this.pose.move(this.selected, now[0] - action.last[0], now[1] - action.last[1]);
    else {
      const [a, b] = [action.last, now].map(([x, y]) => [x - action.middle[0], y - action.middle[1]]);
      const scale = action.kind === "scale" ? Math.max(0.05, Math.hypot(...b)) / Math.max(0.05, Math.hypot(...a)) : 1;
      const turn = action.kind === "turn" ? Math.atan2(b[1], b[0]) - Math.atan2(a[1], a[0]) : 0;
      this.pose.transform([action.person], action.middle, scale, turn);
    }
    action.last = now;
  }

  pinch(action) {
    const now = [...this.pointers.values()];
    if (now.length < 2) return;
    const [a, b] = action.before;
    const middle = [(now[0][0] + now[1][0]) / 2, (now[0][1] + now[1][1]) / 2];
    this.pan = [this.pan[0] + middle[0] - (a[0] + b[0]) / 2, this.pan[1] + middle[1] - (a[1] + b[1]) / 2];
    this.zoomAt(middle, distance(...now) / Math.max(1, distance(a, b)));
    action.before = now;
  }

  pointerup(event) {
    this.pointers.delete(event.pointerId);
    const action = this.action;
    if (action?.kind === "pinch" && this.pointers.size) return;
    this.action = null;
    if (action?.kind === "marquee") {
      const [x0, x1] = [action.from[0], action.to[0]].sort((a, b) => a - b);
      const [y0, y1] = [action.from[1], action.to[1]].sort((a, b) => a - b);
      const inside = this.pose.people.flatMap((person, p) => this.joints(p).filter(([, j]) => {
        const [x, y] = this.toScreen(person.xy[j]);
        return x >= x0 && x <= x1 && y >= y0 && y <= y1;
      }));
      this.select([...action.before, ...inside.filter(([p, j]) => !action.before.some(([q, i]) => p === q && i === j))]);
    } else if (action?.changed) this.tell();
  }

  pointercancel(event) { this.pointers.delete(event.pointerId); this.abort(); }

  abort() {
    if (this.action?.changed) this.pose.undo();
    this.action = null;
    this.draw();
  }

  double(event) {
    const joint = this.jointAt(this.at(event), 14);
    if (joint) this.pose.toggleHidden([joint]);
  }

  wheel(event) {
    event.preventDefault();
    this.zoomAt(this.at(event), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
  }

  // -- drawing -----------------------------------------------------------------------------------------------
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    if (!this.size) return;
    const { context, pose } = this;
    const [w, h] = pose.canvas.map((side) => side * this.scale);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, ...this.size);
    context.fillStyle = "#11181a";
    context.fillRect(...this.origin, w, h);
    if (this.trace) {
      context.globalAlpha = this.trace.opacity;
      const { image } = this.trace;
      const scale = Math.min(w / image.width, h / image.height);
      context.drawImage(image, this.origin[0] + (w - image.width * scale) / 2, this.origin[1] + (h - image.height * scale) / 2, image.width * scale, image.height * scale);
      context.globalAlpha = 1;
    }
    const width = Math.max(3, (Math.min(...pose.canvas) * this.scale) / 70);
    drawPeople(context, pose.table, pose.people, this.toScreen, width);
    this.paintSelection(width);
  }

  paintSelection(width) {
    const { context } = this;
    context.lineWidth = 2;
    context.strokeStyle = "#ffd166";
    for (const [p, j] of this.selected) {
      context.beginPath();
      context.arc(...this.toScreen(this.pose.people[p].xy[j]), width * 0.62 + 4, 0, 2 * Math.PI);
      context.stroke();
    }
    if (this.whole !== null) {
      const { corners, turn } = this.handles();
      context.setLineDash([4, 4]);
      context.strokeRect(...corners[0], corners[3][0] - corners[0][0], corners[3][1] - corners[0][1]);
      context.setLineDash([]);
      context.fillStyle = "#ffd166";
      for (const [x, y] of corners) context.fillRect(x - 4, y - 4, 8, 8);
      context.beginPath();
      context.arc(...turn, 6, 0, 2 * Math.PI);
      context.fill();
    }
    if (this.action?.kind === "marquee") {
      const { from, to } = this.action;
      context.strokeRect(...from, to[0] - from[0], to[1] - from[1]);
    }
  }
}

function toSegment(point, a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const share = Math.min(1, Math.max(0, ((point[0] - a[0]) * dx + (point[1] - a[1]) * dy) / (dx * dx + dy * dy || 1)));
  return distance(point, [a[0] + share * dx, a[1] + share * dy]);
}
