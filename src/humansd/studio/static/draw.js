// Skeletons on a 2D context.

const color = ([r, g, b], alpha = 1) => `rgba(${r}, ${g}, ${b}, ${alpha})`;

// people: [{xy, v}]. place: point -> point on the context. faint: 0..1 for all of it.
export function drawPeople(context, table, people, place, width, { faint = 1, joints = true, plain = null } = {}) {
  context.lineCap = "round";
  for (const person of people) {
    const at = person.xy.map(place);
    table.limbs.forEach(([a, b], i) => {
      if (!person.v[a] || !person.v[b]) return;
      const hidden = person.v[a] === 1 || person.v[b] === 1;
      context.strokeStyle = plain || color(table.colors[i], faint * (hidden ? 0.45 : 0.95));
      context.lineWidth = width;
      context.setLineDash(hidden ? [width * 1.2, width * 1.8] : []);
      context.beginPath();
      context.moveTo(...at[a]);
      context.lineTo(...at[b]);
      context.stroke();
    });
    context.setLineDash([]);
    if (!joints) continue;
    at.forEach(([x, y], j) => {
      if (!person.v[j]) return;
      context.beginPath();
      context.arc(x, y, Math.max(1.5, width * 0.62), 0, 2 * Math.PI);
      context.fillStyle = person.v[j] === 2 ? `rgba(255, 255, 255, ${faint})` : `rgba(20, 26, 28, ${faint})`;
      context.fill();
      if (person.v[j] === 1) {
        context.strokeStyle = `rgba(255, 255, 255, ${faint})`;
        context.lineWidth = Math.max(1, width * 0.22);
        context.stroke();
      }
    });
  }
}

// A small canvas with the people of a server's pose JSON.
export function thumbnail(json, table, side = 112) {
  const canvas = document.createElement("canvas");
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = json.canvas;
  const scale = (side * ratio) / Math.max(w, h);
  canvas.width = Math.max(1, Math.round(w * scale));
  canvas.height = Math.max(1, Math.round(h * scale));
  const people = json.people.map((person) => ({ xy: person.xy, v: person.visibility }));
  drawPeople(canvas.getContext("2d"), table, people, ([x, y]) => [(x + 0.5) * scale, (y + 0.5) * scale], 4 * ratio, { joints: false });
  return canvas;
}
