// The page of the local Polaris: it requests the state every second, and changes only the elements that differ.
"use strict";

const STORED_KEY = "local-polaris-key";
const PAUSE_MS = 1000;
const find = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
let lastState = "";
let timer;

function element(tag, classes = "", text = "") {
  const made = document.createElement(tag);
  made.className = classes;
  made.textContent = text;
  return made;
}

function setText(node, text, classes) {
  if (node.textContent !== text) node.textContent = text;
  if (classes !== undefined && node.className !== classes) node.className = classes;
}

/** Make the children of a box show these items. An element is kept as long as its item is there, with its focus. */
function sync(box, items, keyOf, make, update, nothing) {
  const old = new Map([...box.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const key = keyOf(item, place);
    let child = old.get(key);
    old.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (box.children[place] !== child) box.insertBefore(child, box.children[place] ?? null);
    update(child, item);
  });
  for (const child of old.values()) child.remove();
  if (!items.length) {
    const line = element("div", "nothing", nothing);
    line.dataset.key = "";
    box.append(line);
  }
}

function makeJob(job) {
  const made = element("details", "job");
  made.id = job.id;
  const row = element("summary");
  for (const name of ["status", "name", "bar", "number", "when quiet"]) row.append(element("span", name));
  const id = element("code", "quiet", job.id.slice(0, 8));
  id.title = job.id;
  row.append(id);
  made.append(row, element("div", "detail"));
  made.addEventListener("toggle", () => {
    if (made.open) showDetail(made);
  });
  return made;
}

function updateJob(made, job) {
  const [status, name, bar, counters, when] = made.firstChild.children;
  setText(status, job.wish ? `${job.status} → ${job.wish}` : job.status, `status ${job.status}`);
  if (!name.firstChild) name.append(element("span"), " ", element("span", "kind"));
  setText(name.firstChild, job.table);
  setText(name.lastChild, job.type);
  if (job.is_read) {
    if (!bar.querySelector("progress")) {
      const progress = element("progress");
      progress.max = 1;
      progress.setAttribute("aria-label", `Progress of ${job.table}`);
      bar.replaceChildren(progress);
    }
    bar.firstChild.value = job.progress;
    bar.className = "bar";
  } else {
    setText(bar, job.reason || job.note, `bar ${job.reason ? job.health : "quiet"}`);
  }
  const share = job.is_read ? [`${Math.floor(100 * job.progress)} %`] : [];
  setText(counters, [...share, ...(job.counters ? [job.counters] : [])].join(" · "));
  setText(when, [time(job.began), duration(job)].filter(Boolean).join(" · "));
}

function time(stamp) {
  return stamp ? clock.format(new Date(stamp)) : "";
}

function duration(job) {
  if (!job.began || !job.ended) return "";
  const seconds = (new Date(job.ended) - new Date(job.began)) / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

async function showDetail(made) {
  const answer = await request(`/local/jobs/${encodeURIComponent(made.id)}`);
  if (!answer?.ok) return;
  const text = await answer.text();
  if (made.dataset.detail === text) return;
  made.dataset.detail = text;
  const detail = JSON.parse(text);
  const parts = [element("h3", "", "Job"), element("code", "", made.id)];
  const lists = [
    ["Changes", detail.changes.map((one) => `${time(one.at)} ${one.text}`)],
    ["Log", detail.log.map((one) => [time(one.timestamp), one.healthStatus, one.code, one.message].filter(Boolean).join(" "))],
  ];
  for (const [title, lines] of lists) {
    if (!lines.length) continue;
    const list = element("ul");
    list.append(...lines.map((line) => element("li", "", line)));
    parts.push(element("h3", "", title), list);
  }
  const spec = element("pre", "", JSON.stringify(detail.spec, null, 2));
  spec.tabIndex = 0;
  parts.push(element("h3", "", "Spec"), spec);
  made.lastChild.replaceChildren(...parts);
}

function makeTable() {
  const made = element("div", "card");
  made.append(element("span", "name"), element("span", "status"), " ", element("span", "number"));
  return made;
}

function updateTable(made, table) {
  const [name, status, rows] = made.children;
  setText(name, table.name);
  setText(status, table.availability, `status ${table.availability}`);
  setText(rows, table.rows === null ? "" : `${number.format(table.rows)} ${table.rows === 1 ? "row" : "rows"}`);
}

function makeLine() {
  const made = element("div", "request");
  made.append(element("span", "quiet"), element("b"), element("span"));
  return made;
}

function updateRequest(made, seen) {
  const [at, status, text] = made.children;
  setText(at, time(1000 * seen.at));
  setText(status, seen.status === null ? "none" : String(seen.status));
  setText(text, seen.times > 1 ? `${seen.text} × ${number.format(seen.times)}` : seen.text);
  made.className = `request ${seen.status === null || seen.status >= 400 ? "bad" : ""}`;
}

function updatePlan(made, plan) {
  setText(made.children[1], plan.mark);
  setText(made.children[2], plan.text);
}

function show(state) {
  const running = state.jobs.filter((job) => job.status === "running").length;
  document.title = running ? `${running} running - Local Polaris` : "Local Polaris";
  setText(find("summary"), `${location.origin} · ${state.summary}`);
  sync(find("jobs"), state.jobs, (job) => job.id, makeJob, updateJob, "No job yet.");
  sync(find("tables"), state.tables, (table) => table.name, makeTable, updateTable, "No table yet.");
  sync(find("planned"), state.planned, (_, place) => String(place), makeLine, updatePlan, "");
  sync(find("requests"), state.requests, (_, place) => String(place), makeLine, updateRequest, "No request yet.");
  find("planned-section").hidden = !state.planned.length;
  setText(find("folded"), state.folded ? `(newest first; ${number.format(state.folded)} polls folded)` : "(newest first)");
}

/** Mark, open and show the job that the address names. */
function mark() {
  const id = decodeURIComponent(location.hash.slice(1));
  for (const job of document.querySelectorAll(".job.marked")) job.classList.remove("marked");
  const job = id && find("jobs").querySelector(`[data-key="${CSS.escape(id)}"]`);
  if (!job) return;
  job.classList.add("marked");
  job.open = true;
  job.scrollIntoView({ block: "center" });
}

async function request(path) {
  const key = localStorage.getItem(STORED_KEY);
  if (!key) return null;
  const headers = { Authorization: `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${key}:`)))}` };
  return fetch(path, { headers, cache: "no-store" });
}

function trouble(text) {
  setText(find("trouble"), text);
  find("trouble").hidden = !text;
}

function askForKey(text) {
  find("state").hidden = true;
  find("login").hidden = false;
  setText(find("summary"), location.origin);
  trouble(text);
  find("key").focus();
}

async function refresh() {
  clearTimeout(timer);
  let answer;
  try {
    answer = await request("/local/state");
    if (!answer) return askForKey("");
    if (answer.status === 401) return askForKey("This is not the API key of this server.");
    if (!answer.ok) throw new Error(`The server returned ${answer.status}.`);
    const text = await answer.text();
    trouble("");
    find("login").hidden = true;
    find("state").hidden = false;
    if (text !== lastState) {
      const isFirst = !lastState;
      lastState = text;
      show(JSON.parse(text));
      if (isFirst) mark();
    }
    for (const job of document.querySelectorAll(".job[open]")) await showDetail(job);
  } catch (error) {
    trouble(error instanceof TypeError ? "The server does not respond. It may have been stopped." : error.message);
  }
  timer = setTimeout(refresh, PAUSE_MS);
}

function takeKeyFromAddress() {
  if (!location.hash.startsWith("#key=")) return;
  localStorage.setItem(STORED_KEY, decodeURIComponent(location.hash.slice(5)));
  history.replaceState(null, "", "/");
}

find("login").addEventListener("submit", (event) => {
  event.preventDefault();
  localStorage.setItem(STORED_KEY, find("key").value.trim());
  find("key").value = "";
  refresh();
});
window.addEventListener("hashchange", () => {
  takeKeyFromAddress();
  mark();
});
takeKeyFromAddress();
refresh();
