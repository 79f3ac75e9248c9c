// Tables of joints, as the server gives them, and what hangs on what.

export const tables = {};
const PARENT = {
  left_elbow: "left_shoulder", right_elbow: "right_shoulder", left_wrist: "left_elbow", right_wrist: "right_elbow",
  left_knee: "left_hip", right_knee: "right_hip", left_ankle: "left_knee", right_ankle: "right_knee",
  left_eye: "nose", right_eye: "nose", left_ear: "left_eye", right_ear: "right_eye",
  left_finger: "left_wrist", right_finger: "right_wrist", left_toe: "left_ankle", right_toe: "right_ankle",
};
// Ends that are reached for with two bones.
const REACH = new Set(["left_wrist", "right_wrist", "left_ankle", "right_ankle"]);
// A person who stands, in shares of their height; where new people and restored joints come from.
const STANDING = {
  nose: [0, 0.08], left_eye: [0.025, 0.06], right_eye: [-0.025, 0.06], left_ear: [0.05, 0.07], right_ear: [-0.05, 0.07],
  neck: [0, 0.19], left_shoulder: [0.115, 0.19], right_shoulder: [-0.115, 0.19],
  left_elbow: [0.165, 0.36], right_elbow: [-0.165, 0.36], left_wrist: [0.18, 0.51], right_wrist: [-0.18, 0.51],
  left_hip: [0.07, 0.5], right_hip: [-0.07, 0.5], left_knee: [0.075, 0.73], right_knee: [-0.075, 0.73],
  left_ankle: [0.08, 0.96], right_ankle: [-0.08, 0.96],
  left_finger: [0.185, 0.57], right_finger: [-0.185, 0.57], left_toe: [0.11, 1], right_toe: [-0.11, 1],
};

export function learn(skeletons) {
  for (const [name, table] of Object.entries(skeletons)) {
    const index = Object.fromEntries(table.joints.map((joint, i) => [joint, i]));
    const parent = table.joints.map((joint) => index[PARENT[joint]] ?? -1);
    const children = table.joints.map((_, i) => parent.flatMap((p, j) => (p === i ? [j] : [])));
    const reach = table.joints.map((joint) => REACH.has(joint));
    tables[name] = { ...table, name, index, parent, children, reach, standing: table.joints.map((j) => STANDING[j] || [0, 0.5]) };
  }
}

export const words = (joint) => joint.replaceAll("_", " ");

// Joint and everything that hangs on it.
export function branch(table, joint) {
  return [joint, ...table.children[joint].flatMap((child) => branch(table, child))];
}
