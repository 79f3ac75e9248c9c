// What the parts of the page share.

import { Pose } from "./pose.js";

export const app = {
  pose: new Pose(),
  editor: null,
  models: [],
  config: {},
  presets: [],
  mostTries: 16, // images of one "until the pose is met"
  begin: null, // {base64, url, pose, strength, mask}: the image that the next ones begin with
};

export const modelOf = (name) => app.models.find((model) => model.id === name) || app.models[0];
