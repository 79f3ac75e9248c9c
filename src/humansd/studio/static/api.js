// The server: requests with the API key, and the events of a job.

import { el, openDialog, closeDialog } from "./ui.js";

let key = sessionStorage.getItem("key") || "";
let asking = null; // one question for all requests that need the key

function askForKey() {
  return new Promise((done) => {
    const input = el("input", { type: "password", autocomplete: "off", "aria-label": "API key" });
    const form = el("form", { class: "stack", onsubmit: (event) => {
      event.preventDefault();
      key = input.value.trim();
      sessionStorage.setItem("key", key);
      closeDialog();
      done();
    } }, el("p", {}, "This studio asks for an API key. It is kept until this tab is closed."), input,
      el("button", { class: "main" }, "Go on"));
    openDialog("API key", form);
    input.focus();
  });
}

export async function send(path, { method = "GET", body, type, signal } = {}) {
  const headers = {};
  const used = key;
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = type || "application/json";
  const sent = body === undefined || type ? body : JSON.stringify(body);
  const answer = await fetch(path, { method, headers, body: sent, signal }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the server does not answer; is it running?");
  });
  if (answer.status === 401) {
    if (key === used) await (asking ??= askForKey().finally(() => { asking = null; }));
    return send(path, { method, body, type, signal });
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    const error = new Error(told.error?.message || `the server answered ${answer.status}`);
    error.status = answer.status;
    error.retryAfter = Number(answer.headers.get("retry-after")) || 0;
    throw error;
  }
  return answer;
}

export const get = async (path) => (await send(path)).json();
export const post = async (path, body, type) => (await send(path, { method: "POST", body, type })).json();

// A job from its request to its result; waits where the queue is full. on: {accepted, progress, preview}.
export async function runJob(request, on = {}) {
  let job;
  for (let tries = 0; ; tries++) {
    try {
      job = await post("/v1/jobs", request);
      break;
    } catch (error) {
      if (![429, 503].includes(error.status) || tries > 20) throw error;
      on.progress?.({ state: "waiting", progress: 0 });
      await new Promise((done) => setTimeout(done, 1000 * Math.max(1, error.retryAfter)));
    }
  }
  on.accepted?.(job.id);
  const end = await follow(job.id, on);
  if (end.state === "cancelled") return null;
  if (end.state !== "done") throw new Error(end.error || end.state);
  return get(`/v1/jobs/${job.id}/result`);
}

export async function cancelJob(id) {
  await send(`/v1/jobs/${id}`, { method: "DELETE" }).catch(() => {});
}

const OVER = ["done", "failed", "cancelled"];

// The status at its end. A server that stops keeps the job and goes on when it is started again.
async function follow(id, on) {
  let silent = 0; // tries without an answer
  for (;;) {
    try {
      const status = await events(id, on);
      if (OVER.includes(status.state)) return status;
      silent = 0;
    } catch (error) {
      if (error.status || ++silent > 60) throw error;
    }
    on.progress?.({ state: "waiting", progress: 0 });
    await new Promise((done) => setTimeout(done, 1000));
  }
}

async function events(id, on) {
  const answer = await send(`/v1/jobs/${id}/events`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let last = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const name = /^event: (.*)$/m.exec(part)?.[1];
      const data = /^data: (.*)$/m.exec(part)?.[1];
      if (!name || !data) continue;
      last = JSON.parse(data);
      if (name === "end") return last;
      on[name]?.(last);
    }
  }
  return get(`/v1/jobs/${id}`); // the connection broke
}
