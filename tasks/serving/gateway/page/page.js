"use strict";

const EVERY_MS = 5000;

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(4000) });
  const text = await answer.text();
  let body = null;
  try { body = JSON.parse(text); } catch { /* not every answer is JSON */ }
  return { ok: answer.ok, status: answer.status, body };
}

function show(element, state, word) {
  element.dataset.state = state;
  element.textContent = word || state;
}

async function airflow() {
  const card = document.getElementById("airflow");
  const [state, detail] = [card.querySelector(".state"), card.querySelector(".detail")];
  try {
    const { ok, body } = await ask("airflow/api/v2/monitor/health");
    const parts = Object.entries(body || {});
    const unhealthy = parts.filter(([, part]) => part.status && part.status !== "healthy").map(([name]) => name);
    show(state, ok && !unhealthy.length ? "running" : "failed", ok && unhealthy.length ? "degraded" : "");
    detail.textContent = unhealthy.length ? "not healthy: " + unhealthy.join(", ").replaceAll("_", " ") : "";
  } catch {
    show(state, "failed", "no answer");
    detail.textContent = "";
  }
}

async function mlflow() {
  const card = document.getElementById("mlflow");
  const [state, detail] = [card.querySelector(".state"), card.querySelector(".detail")];
  try {
    const { ok, status } = await ask("mlflow/health");
    show(state, ok ? "running" : status === 403 ? "closed" : "failed");
    detail.textContent = status === 403 ? "It has no login, so it is closed under this name." : "";
  } catch {
    show(state, "failed", "no answer");
    detail.textContent = "";
  }
}

function row(name) {
  const line = document.createElement("tr");
  line.id = "model-" + name;
  const cells = [0, 1, 2, 3].map(() => line.appendChild(document.createElement("td")));
  cells[0].textContent = name;
  cells[1].appendChild(Object.assign(document.createElement("span"), { className: "state" }));
  show(cells[1].firstChild, "asking");
  cells[3].appendChild(document.createElement("code")).textContent =
    "POST " + new URL(`models/${name}/invocations`, document.baseURI).pathname;
  return line;
}

async function model(name, line) {
  const [, state, version] = line.children;
  try {
    const { ok, status, body } = await ask(`models/${name}/version`);
    if (ok) show(state.firstChild, "running");
    else show(state.firstChild, "none", status === 503 ? "not served" : "status " + status);
    version.textContent = ok && body ? body.version : "";
  } catch {
    show(state.firstChild, "none", "not served");
    version.textContent = "";
  }
}

async function models() {
  const table = document.getElementById("models");
  const { body } = await ask("models.json");
  const names = body || [];
  for (const line of [...table.children]) {
    if (!names.includes(line.id.slice("model-".length))) line.remove();
  }
  document.getElementById("none").hidden = names.length > 0;
  await Promise.all(names.map((name) => {
    const known = document.getElementById("model-" + name);
    return model(name, known || table.appendChild(row(name)));
  }));
}

async function refresh() {
  await Promise.allSettled([airflow(), mlflow(), models()]);
  document.getElementById("when").textContent = "Last refresh: " + new Date().toLocaleTimeString() + ".";
  setTimeout(refresh, EVERY_MS);
}

refresh();
