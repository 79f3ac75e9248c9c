// The pose that is edited: a frame, people in it, and what can be done to them. Nothing here draws.

import { tables, branch } from "./skeletons.js";

const MOST_UNDO = 200;

export class Pose {
  constructor() {
    this.canvas = [512, 512];
    this.skeleton = "coco17";
    this.people = []; // {xy: [[x, y]], v: [0 absent, 1 hidden, 2 visible], score, extras}; later ones stand in front
    this.past = [];
    this.future = [];
    this.watchers = [];
  }

  get table() { return tables[this.skeleton]; }

  // -- undo --------------------------------------------------------------------------------------------------
  snapshot() { return JSON.stringify({ canvas: this.canvas, skeleton: this.skeleton, people: this.people }); }

  remember() {
    this.past.push(this.snapshot());
    if (this.past.length > MOST_UNDO) this.past.shift();
    this.future = [];
  }

  step(from, to) {
    if (!from.length) return false;
    to.push(this.snapshot());
    Object.assign(this, JSON.parse(from.pop()));
    this.changed();
    return true;
  }

  undo() { return this.step(this.past, this.future); }
  redo() { return this.step(this.future, this.past); }
  changed() { for (const watcher of this.watchers) watcher(); }

  // -- in and out --------------------------------------------------------------------------------------------
  toJSON() {
    const people = this.people.filter((person) => person.v.some((v) => v > 0)).map((person) => ({
      xy: person.xy.map(([x, y], j) => (person.v[j] ? [x, y] : [0, 0])),
      score: person.v.map((v, j) => (v ? person.score[j] || 1 : 0)),
      visibility: person.v,
      area: null,
      extras: person.moved ? {} : person.extras || {}, // extras hold places of hands and the like
    }));
    return { version: 1, skeleton: this.skeleton, canvas: this.canvas, people };
  }

  // People of a server's pose JSON, letterboxed into the frame as the server would do it.
  peopleOf(json) {
    const own = tables[json.skeleton];
    const [scale, left, top] = fitting(json.canvas, this.canvas);
    const shift = 0.5 * scale - 0.5;
    const place = ([x, y]) => [x * scale + shift + left, y * scale + shift + top];
    return json.people.map((person) => {
      const made = this.blank();
      made.extras = scale === 1 && !left && !top ? person.extras : {}; // extras hold pixels of the old frame
      this.table.joints.forEach((joint, j) => {
        const i = own.index[joint];
        if (i !== undefined && person.visibility[i]) set(made, j, place(person.xy[i]), person.visibility[i], person.score[i]);
      });
      this.addNeck(made);
      return made;
    });
  }

  addNeck(person) {
    const { neck, left_shoulder: l, right_shoulder: r } = this.table.index;
    if (neck === undefined || person.v[neck] || !person.v[l] || !person.v[r]) return;
    set(person, neck, [(person.xy[l][0] + person.xy[r][0]) / 2, (person.xy[l][1] + person.xy[r][1]) / 2], Math.min(person.v[l], person.v[r]));
  }

  replace(json) {
    this.remember();
    if (json.skeleton !== this.skeleton && json.skeleton === "humanart21") this.skeleton = json.skeleton;
    else if (this.skeleton !== json.skeleton) this.skeleton = "coco17";
    this.people = this.peopleOf(json);
    this.changed();
  }

  // A frame of another shape: the people are letterboxed into it.
  reframe(width, height) {
    if (width === this.canvas[0] && height === this.canvas[1]) return false;
    const json = this.toJSON();
    const extras = this.people.map((person) => person.extras);
    this.canvas = [width, height];
    this.people = this.peopleOf(json);
    this.people.forEach((person, i) => { person.extras = person.extras || extras[i] || {}; });
    this.past = [];
    this.future = [];
    this.changed();
    return true;
  }

  // -- people ------------------------------------------------------------------------------------------------
  blank() {
    const k = this.table.joints.length;
    return { xy: Array.from({ length: k }, () => [0, 0]), v: Array(k).fill(0), score: Array(k).fill(0), extras: {} };
  }

  addPerson() {
    this.remember();
    const [width, height] = this.canvas;
    const person = this.blank();
    const tall = height * 0.78;
    const free = [0.5, 0.28, 0.72, 0.4, 0.6].find((share) => this.people.every((one) => Math.abs(center(one)[0] / width - share) > 0.1));
    this.table.standing.forEach(([x, y], j) => set(person, j, [width * (free ?? 0.5) + x * tall, height * 0.11 + y * tall], 2));
    this.people.push(person);
    this.changed();
    return this.people.length - 1;
  }

  removePerson(p) { this.remember(); this.people.splice(p, 1); this.changed(); }

  // To the front of, or behind, the next one.
  order(p, step) {
    const to = p + step;
    if (to < 0 || to >= this.people.length) return p;
    this.remember();
    this.people.splice(to, 0, ...this.people.splice(p, 1));
    this.changed();
    return to;
  }

  // -- joints ------------------------------------------------------------------------------------------------
  toggleHidden(selected) {
    this.remember();
    const hide = selected.some(([p, j]) => this.people[p].v[j] === 2);
    for (const [p, j] of selected) if (this.people[p].v[j]) this.people[p].v[j] = hide ? 1 : 2;
    this.changed();
  }

  removeJoints(selected) {
    this.remember();
    for (const [p, j] of selected) Object.assign(this.people[p], without(this.people[p], j));
    this.people = this.people.filter((person) => person.v.some((v) => v));
    this.changed();
  }

  // A joint that is absent comes back where it would be on a standing person laid over the others.
  restore(p, j) {
    this.remember();
    const person = this.people[p];
    const seen = person.v.flatMap((v, i) => (v ? [i] : []));
    set(person, j, similarity(this.table.standing, person.xy, seen)(this.table.standing[j]), 2);
    this.changed();
  }

  move(selected, dx, dy) {
    for (const [p, j] of selected) {
      const person = this.people[p];
      person.moved = true;
      if (person.v[j]) person.xy[j] = [person.xy[j][0] + dx, person.xy[j][1] + dy];
    }
  }

  // Joint j to `to`. locked: bones keep their lengths, and what hangs on the joint follows.
  drag(p, j, to, locked) {
    const person = this.people[p];
    person.moved = true;
    if (!locked) { person.xy[j] = to; return; }
    const { parent, reach } = this.table;
    const mid = parent[j];
    const root = mid >= 0 ? parent[mid] : -1;
    const before = person.xy[j];
    if (reach[j] && person.v[mid] && person.v[root]) {
      const [elbow, hand] = twoBones(person.xy[root], person.xy[mid], before, to);
      person.xy[mid] = elbow;
      person.xy[j] = hand;
    } else if (mid >= 0 && person.v[mid]) {
      person.xy[j] = atLength(person.xy[mid], to, distance(person.xy[mid], before), before);
    } else person.xy[j] = to;
    const dx = person.xy[j][0] - before[0];
    const dy = person.xy[j][1] - before[1];
    this.move(branch(this.table, j).slice(1).map((child) => [p, child]), dx, dy);
  }

  // scale and turn (radians) of people around a point.
  transform(people, [cx, cy], scale, turn) {
    const cos = Math.cos(turn) * scale;
    const sin = Math.sin(turn) * scale;
    for (const p of people) {
      const person = this.people[p];
      person.moved = true;
      person.xy = person.xy.map(([x, y], j) => (person.v[j]
        ? [cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos] : [x, y]));
    }
  }

  // Left and right trade places, around each person's own middle.
  mirror(people) {
    this.remember();
    for (const p of people) {
      const person = this.people[p];
      const [cx] = center(person);
      const flip = this.table.flip;
      Object.assign(person, {
        xy: flip.map((j) => (person.v[j] ? [2 * cx - person.xy[j][0], person.xy[j][1]] : [0, 0])),
        v: flip.map((j) => person.v[j]),
        score: flip.map((j) => person.score[j]),
        extras: {},
      });
    }
    this.changed();
  }
}

function set(person, j, xy, v, score = 1) {
  person.xy[j] = xy;
  person.v[j] = v;
  person.score[j] = score || 1;
}

function without(person, j) {
  return { xy: person.xy.with(j, [0, 0]), v: person.v.with(j, 0), score: person.score.with(j, 0) };
}

// [scale, left, top] of a letterbox, in whole pixels as `fit_box` of the package.
export function fitting([w, h], [width, height]) {
  const scale = Math.min(width / w, height / h);
  return [scale, Math.floor((width - Math.round(w * scale)) / 2), Math.floor((height - Math.round(h * scale)) / 2)];
}

export const distance = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by);

export function box(person) {
  const seen = person.xy.filter((_, j) => person.v[j]);
  const xs = seen.map(([x]) => x);
  const ys = seen.map(([, y]) => y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

export function center(person) {
  const [x0, y0, x1, y1] = box(person);
  return [(x0 + x1) / 2, (y0 + y1) / 2];
}

function atLength(root, to, length, fallback) {
  const far = distance(root, to);
  if (far < 1e-6) return fallback;
  return [root[0] + ((to[0] - root[0]) * length) / far, root[1] + ((to[1] - root[1]) * length) / far];
}

// Elbow and hand so that the hand is at `to`, or as near as the two bones reach; the elbow stays on its side.
export function twoBones(root, mid, end, to) {
  const a = distance(root, mid);
  const b = distance(mid, end);
  const far = Math.max(Math.min(distance(root, to), (a + b) * 0.9999), Math.abs(a - b) + 1e-6);
  const hand = atLength(root, to, far, end);
  const along = (a * a - b * b + far * far) / (2 * far);
  const off = Math.sqrt(Math.max(0, a * a - along * along));
  const [ux, uy] = [(hand[0] - root[0]) / far, (hand[1] - root[1]) / far];
  const side = Math.sign((end[0] - root[0]) * (mid[1] - root[1]) - (end[1] - root[1]) * (mid[0] - root[0])) || 1;
  return [[root[0] + ux * along - uy * off * side, root[1] + uy * along + ux * off * side], hand];
}

// The map (move, scale, turn) that lays `from` over `to` at these joints, by least squares.
export function similarity(from, to, joints) {
  const n = joints.length;
  if (!n) return (point) => point;
  const mean = (points) => [0, 1].map((d) => joints.reduce((sum, j) => sum + points[j][d], 0) / n);
  const [fx, fy] = mean(from);
  const [tx, ty] = mean(to);
  let norm = 0;
  let same = 0;
  let cross = 0;
  for (const j of joints) {
    const [ax, ay, bx, by] = [from[j][0] - fx, from[j][1] - fy, to[j][0] - tx, to[j][1] - ty];
    norm += ax * ax + ay * ay;
    same += ax * bx + ay * by;
    cross += ax * by - ay * bx;
  }
  const [c, s] = norm > 1e-9 ? [same / norm, cross / norm] : [100, 0];
  return ([x, y]) => [tx + (x - fx) * c - (y - fy) * s, ty + (x - fx) * s + (y - fy) * c];
}
