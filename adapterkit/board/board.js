// The board. Everything that it shows comes from the service's own paths; texts are only ever set as text.
const EVERY_MS = 2000, KEPT = 60;
const $ = (id) => document.getElementById(id);
const seen = new Map();  // "task arm digest" -> [{at, rows, confidence}]
let admin = false, fleet = null, quality = null, timer = null;

function make(tag, given = {}, ...inside) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else if (name in found && name !== "list") found[name] = value;
    else found.setAttribute(name, value);
  }
  found.append(...inside.filter((each) => each !== null && each !== undefined));
  return found;
}

class Refused extends Error {
  constructor(status, facts) { super(facts?.message ?? `the service answered with ${status}`); this.status = status; }
}

async function ask(path, body, as = "json") {
  const key = sessionStorage.getItem("key"), headers = key ? { authorization: `Bearer ${key}` } : {};
  const how = body === undefined ? { headers } : { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(body) };
  const reply = await fetch(path, how);
  if (!reply.ok) throw new Refused(reply.status, (await reply.json().catch(() => ({}))).error);
  return as === "json" ? reply.json() : reply.text();
}

const short = (digest) => (digest || "").slice(0, 12) || "–";
const percent = (share) => share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`;
const shareOf = (found) => percent(found?.share?.value);
const meanOf = (found) => found?.value ?? null;
const versionsOf = (task) => quality?.tasks?.[task]?.versions ?? [];

function say(problem) { $("notice").textContent = problem; $("notice").hidden = !problem; }

async function look() {
  try {
    const ready = await fetch("/readyz").then((reply) => reply.json());
    try { fleet = await ask("/v1/admin/fleet"); admin = true; } catch (error) {
      if (error.status !== 403) throw error;
      admin = false;
      const { tasks } = await ask("/v1/tasks");
      fleet = { backbones: [], registry: false, wrong: {}, tasks: tasks.map((each) => ({ ...each, arms: Object.entries(each.arms).map(([arm, facts]) => ({ arm, ...facts })) })) };
    }
    quality = await ask("/v1/quality");
    $("login").hidden = true; $("main").hidden = false; $("audit").hidden = !admin;
    $("state").textContent = ready.draining ? "draining" : ready.ready ? "ready" : "not ready";
    $("state").className = `badge ${ready.ready ? "good" : "bad"}`;
    $("backbone").textContent = fleet.backbones.join(" + ");
    const wrong = Object.entries(fleet.wrong);
    say(wrong.map(([task, why]) => `${task}: ${why}`).join("\n"));
    note(); draw();
    if (admin) await audit();
  } catch (error) {
    if (error.status === 401) { $("login").hidden = false; $("main").hidden = true; $("state").textContent = "a key is needed"; say(sessionStorage.getItem("key") ? "This key is not known." : ""); return; }
    $("state").textContent = "not reached"; $("state").className = "badge bad"; say(error.message);
  }
  timer = setTimeout(look, EVERY_MS);
}

function note() {
  for (const [task, facts] of Object.entries(quality.tasks)) for (const each of facts.versions) {
    const name = `${task}\n${each.arm}\n${each.artifact}`, line = seen.get(name) ?? [];
    line.push({ at: Date.now(), rows: each.rows, confidence: meanOf(each.confidence) });
    seen.set(name, line.slice(-KEPT));
  }
}

function rates(line) { return line.slice(1).map((each, place) => Math.max(0, each.rows - line[place].rows) / Math.max(0.001, (each.at - line[place].at) / 1000)); }

function chart(title, lines, most) {
  const top = most ?? Math.max(1, ...lines.flatMap(([values]) => values.filter((value) => value !== null)));
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 100 64"); svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("role", "img"); svg.setAttribute("aria-label", title);
  const steps = Math.max(12, ...lines.map(([values]) => values.length)) - 1;
  const floor = document.createElementNS(space, "polyline"); floor.setAttribute("points", "0,63 100,63"); floor.setAttribute("stroke", "var(--line)"); svg.append(floor);
  for (const [values, colour] of lines) {
    const points = values.map((value, place) => value === null ? null : `${100 - (values.length - 1 - place) * 100 / steps},${62 - 60 * Math.min(1, value / top)}`).filter(Boolean);
    const line = document.createElementNS(space, "polyline"); line.setAttribute("points", points.join(" ")); line.setAttribute("class", `a${colour % 4}`); svg.append(line);
  }
  return make("figure", {}, svg, make("figcaption", {}, `${title}, at most ${top.toFixed(most ? 2 : 1)}`));
}

function draw() {
  const busy = document.activeElement?.closest?.(".steer");
  if (busy) return;  // nobody's slider is moved under the hand
  $("tasks").replaceChildren(...fleet.tasks.map(card));
  if (!fleet.tasks.length) $("tasks").append(make("p", { className: "soft" }, "Nothing is mounted yet."));
  $("events").replaceChildren(...(quality.events ?? []).slice(-8).reverse().map((event) => make("li", {}, make("span", { className: "soft" }, `${event.at} `), `${event.task} ${event.arm}: ${event.detail}; ${event.did}`)));
}

function card(task) {
  const own = versionsOf(task.task), sum = task.arms.reduce((total, arm) => total + arm.share, 0) || 1;
  const shown = [...task.arms, ...own.filter((each) => each.shadow).map((each) => ({ ...each, share: null }))];
  const several = fleet.backbones.length > 1;
  const head = ["arm", "version", "share", "answers", "confidence", "errors", "right", "p95", "drift", "artifact", ...(several ? ["backbone"] : [])];
  const rows = shown.map((arm, place) => {
    const found = own.find((each) => each.artifact === arm.artifact && each.arm === arm.arm) ?? {};
    const drift = found.drift;
    const row = make("tr", { "data-arm": arm.arm },
      make("td", {}, make("span", { className: `dot b${place % 4}` }), arm.arm),
      make("td", {}, admin ? make("button", { className: "link", onclick: () => about(task.task, arm) }, arm.version || "composition") : arm.version),
      make("td", { className: "n" }, arm.share === null ? "shadow" : percent(arm.share / sum)),
      make("td", { className: "n" }, String(found.rows ?? 0)),
      make("td", { className: "n" }, percent(meanOf(found.confidence))),
      make("td", { className: `n ${found.errors?.count ? "bad" : ""}` }, shareOf(found.errors)),
      make("td", { className: "n" }, found.right?.of ? shareOf(found.right) : "–"),
      make("td", { className: "n" }, found.latency_ms?.p95 === undefined ? "–" : `${found.latency_ms.p95.toFixed(1)} ms`),
      make("td", { className: drift?.drifted ? "bad" : "" }, drift ? `${drift.drifted ? "drifted" : "none"} (p ${drift.p.toFixed(3)})` : "–"),
      make("td", {}, make("code", {}, short(arm.artifact))), several ? make("td", {}, arm.backbone ?? "–") : null);
    head.forEach((name, column) => row.children[column].setAttribute("data-name", name));  // a phone has no line of heads
    return row;
  });
  const lines = shown.map((arm, place) => [seen.get(`${task.task}\n${arm.arm}\n${arm.artifact}`) ?? [], place]);
  const verdicts = (quality.tasks[task.task]?.verdicts ?? []).map((each) => make("p", { className: "soft" }, `${each.arm} against ${each.against}: ${each.says}`));
  return make("article", { className: "card", "data-task": task.task },
    make("div", { className: "head" }, make("b", {}, task.task), make("span", { className: "soft" }, task.kind)),
    make("div", { className: "wide" }, make("table", { className: "arms" }, make("tr", {}, ...head.map((name, place) => make("th", { className: place > 1 && place < 8 ? "n" : "" }, name))), ...rows)),
    make("div", { className: "charts" }, chart("answers a second", lines.map(([line, place]) => [rates(line), place])), chart("confidence", lines.map(([line, place]) => [line.map((each) => each.confidence), place]), 1)),
    ...verdicts, admin && fleet.registry ? steer(task, sum) : null);
}

function steer(task, sum) {
  const sliders = task.arms.map((arm) => {
    const told = make("output", {}, percent(arm.share / sum));
    const slider = make("input", { type: "range", min: 0, max: 100, step: 1, value: Math.round(100 * arm.share / sum), "aria-label": `share of ${arm.arm}`, oninput: () => { told.textContent = `${slider.value} %`; } });
    return [arm.arm, slider, make("label", { className: "slider" }, arm.arm, slider, told)];
  });
  const divide = () => confirmSplit(task, Object.fromEntries(sliders.map(([arm, slider]) => [arm, Number(slider.value) / 100])));
  return make("div", { className: "steer" },
    make("button", { onclick: () => promote(task.task) }, "Promote…"), make("button", { onclick: () => rollBack(task) }, "Roll back…"),
    ...(sliders.length > 1 ? [...sliders.map((each) => each[2]), make("button", { onclick: divide }, "Split…")] : []));
}

// Shows what speaks for an act; it is done only by the button, and what the service answers to it is shown.
function confirm(title, body, word, act, ready = true) {
  document.activeElement?.blur?.();
  $("dialog-title").textContent = title; $("dialog-body").replaceChildren(...body);
  const button = $("confirm"); button.textContent = word; button.hidden = !act; button.disabled = !ready;
  $("cancel").textContent = act ? "Cancel" : "Close";
  button.onclick = async () => {
    button.disabled = true;
    try { const done = await act(); $("dialog").close(); say(done?.problem ?? ""); clearTimeout(timer); await look(); }
    catch (error) { $("dialog-body").append(make("p", { className: "bad", role: "alert" }, error.message)); button.disabled = false; }
  };
  if (!$("dialog").open) $("dialog").showModal();
}

function figures(task, arms) {
  const rows = versionsOf(task).filter((each) => !arms || arms.includes(each.arm)).map((each) => make("tr", {}, make("td", {}, `${each.arm}: version ${each.version}`), make("td", { className: "n" }, `${each.rows} answers`), make("td", { className: "n" }, `confidence ${percent(meanOf(each.confidence))}`), make("td", { className: "n" }, `errors ${shareOf(each.errors)}`), make("td", { className: "n" }, each.right?.of ? `right ${shareOf(each.right)} of ${each.right.of}` : "no feedback")));
  return make("div", { className: "wide" }, make("table", { className: "figures" }, ...rows));
}

async function promote(task) {
  const { versions } = await ask(`/v1/admin/tasks/${encodeURIComponent(task)}/versions`).catch((error) => { say(error.message); return { versions: [] }; });
  const which = make("select", { "aria-label": "version" }, ...versions.slice().reverse().map((each) => make("option", { value: each.digest }, `${each.number} (${short(each.digest)})${each.channels.length ? ` – ${each.channels.join(", ")}` : ""}`)));
  const channel = make("input", { type: "text", value: "stable", "aria-label": "channel" }), evidence = make("div");
  const reason = make("input", { type: "text", "aria-label": "reason for going past the gate" }), past = make("label", { hidden: true }, "The gate says no. Reason for going past it, which the audit keeps ", reason);
  const body = () => ({ task, version: which.value, channel: channel.value });
  const show = async () => {
    $("confirm").disabled = true; evidence.replaceChildren("Trying it out on the service's host …"); past.hidden = true; reason.value = "";
    try {
      const found = await ask("/v1/admin/promote", { ...body(), try_only: true });
      const lines = Object.entries(found.evidence).map(([name, each]) => make("tr", {}, make("td", { className: each.passed ? "good" : "bad" }, each.passed ? "✓" : "✗"), make("td", {}, name), make("td", { className: "long" }, each.detail)));
      const metrics = [found.before, found.version].filter(Boolean).map((each) => make("tr", {}, make("td", {}, each === found.version ? "after" : "before"), make("td", {}, `version ${each.number}`), make("td", { className: "long" }, Object.entries(each.metrics.test ?? each.metrics.validation ?? {}).map(([name, value]) => `${name} ${value.value.toFixed(3)}`).join(", "))));
      evidence.replaceChildren(make("div", { className: "wide" }, make("table", { id: "evidence" }, ...metrics, ...lines)), ...found.problems.map((problem) => make("p", { className: "bad" }, problem)), figures(task));
      past.hidden = !found.problems.length; $("confirm").disabled = found.problems.length > 0;
    } catch (error) { evidence.replaceChildren(make("p", { className: "bad" }, error.message)); }
  };
  which.onchange = channel.onchange = show; reason.oninput = () => { $("confirm").disabled = !reason.value.trim(); };
  confirm(`Promote a version of ${task}`, [make("label", {}, "Version ", which), make("label", {}, "Channel ", channel), evidence, past], "Promote", () => ask("/v1/admin/promote", { ...body(), force: reason.value.trim() }), false);
  await show();
}

async function rollBack(task) {
  const channel = make("select", { "aria-label": "channel" }, ...task.arms.map((arm) => make("option", {}, arm.arm))), evidence = make("div");
  const { entries } = await ask(`/v1/admin/audit?task=${encodeURIComponent(task.task)}`).catch(() => ({ entries: [] }));
  const show = () => {
    const moves = entries.filter((entry) => entry.channel === channel.value && entry.digest).slice(0, 4);
    evidence.replaceChildren(make("p", { className: "soft" }, "What the channel pointed to, the newest first. A roll back asks no gate."), make("div", { className: "wide" }, make("table", {}, ...moves.map((entry) => make("tr", {}, make("td", {}, entry.at.slice(0, 19)), make("td", {}, entry.action), make("td", {}, make("code", {}, short(entry.digest))), make("td", {}, entry.actor))))), figures(task.task, [channel.value]));
  };
  channel.onchange = show; show();
  confirm(`Roll back ${task.task}`, [make("label", {}, "Channel ", channel), evidence], "Roll back", () => ask("/v1/admin/roll-back", { task: task.task, channel: channel.value }));
}

function confirmSplit(task, split) {
  const sum = Object.values(split).reduce((total, share) => total + share, 0), before = task.arms.reduce((total, arm) => total + arm.share, 0) || 1;
  const rows = task.arms.map((arm) => make("tr", {}, make("td", {}, arm.arm), make("td", { className: "n" }, percent(arm.share / before)), make("td", {}, "→"), make("td", { className: "n" }, percent(split[arm.arm] / (sum || 1)))));
  confirm(`Divide the traffic of ${task.task}`, [make("table", {}, ...rows), figures(task.task), sum ? null : make("p", { className: "bad" }, "One share has to be above 0.")].filter(Boolean), "Divide", () => ask("/v1/admin/split", { task: task.task, split }), sum > 0);
}

async function about(task, arm) {
  const path = `/v1/admin/tasks/${encodeURIComponent(task)}/versions/${encodeURIComponent(arm.artifact || arm.version)}`;
  try {
    const found = await ask(path);
    const frame = found.report ? make("iframe", { title: "report", sandbox: "", srcdoc: await ask(`${path}/report`, undefined, "text") }) : null;
    confirm(`${task}, version ${arm.version}`, [make("p", { className: "soft" }, make("code", {}, found.digest)), make("pre", {}, found.card.replace(/^---\n[\s\S]*?\n---\n/, "")), ...(frame ? [frame] : [])], "", null);
  } catch (error) { say(error.message); }
}

async function audit() {
  const found = await ask("/v1/admin/audit");
  const acts = found.acts.map((act) => ({ ...act, number: "", hash: "" })), told = found.entries.length ? found.entries : acts;
  $("chain").textContent = !found.head ? "Without a registry: what was done to this process." : found.problems.length ? `The chain is broken: ${found.problems.join("; ")}` : `The chain is whole; its head is ${short(found.head)}.`;
  $("chain").className = found.problems.length ? "bad" : "soft";
  const details = (entry) => [entry.channel, entry.digest && short(entry.digest), entry.details.forced && `forced: ${entry.details.forced}`, entry.details.why?.detail, entry.details.split && Object.entries(entry.details.split).map(([arm, share]) => `${arm} ${percent(share)}`).join(", ")].filter(Boolean).join(" · ");
  $("entries").replaceChildren(make("tr", {}, ...["", "when", "who", "what", "task", ""].map((name) => make("th", {}, name))), ...told.slice(0, 50).map((entry) => make("tr", {}, make("td", { className: "n" }, String(entry.number)), make("td", {}, entry.at.slice(0, 19).replace("T", " ")), make("td", {}, entry.actor), make("td", {}, entry.action), make("td", {}, entry.task), make("td", { className: "long" }, details(entry)))));
}

function answer(task, found) {
  if (found.error) return make("article", { className: "card", "data-task": task }, make("b", {}, task), make("p", { className: "bad" }, found.error.message));
  const given = found.answer, chances = Object.entries(given?.probabilities ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 5);
  const said = given?.label ?? given?.text ?? given?.answer ?? (given?.labels && given.labels.join(", ")) ?? (given?.entities && (given.entities.map((each) => `${each.type}: ${each.text}`).join("\n") || "nothing")) ?? JSON.stringify(given);
  const receipt = Object.entries(found.receipt).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, /^[0-9a-f]{64}$/.test(value) ? short(value) : name === "signature" ? "signed" : value)]);
  return make("article", { className: "card", "data-task": task }, make("span", { className: "soft" }, task), make("p", { className: "said" }, make("b", {}, String(said)), found.confidence === null ? null : make("span", {}, percent(found.confidence))),
    ...chances.map(([label, chance]) => make("div", { className: "bar" }, make("span", {}, label), make("meter", { value: chance, "aria-label": label }), percent(chance))), make("dl", { className: "receipt" }, ...receipt));
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const { answers } = await ask("/v1/predict_all", { row: $("text").value, key: $("sticky").value });
    $("answers").replaceChildren(...Object.entries(answers).map(([task, found]) => answer(task, found))); say("");
  } catch (error) { say(error.message); }
});
$("login").addEventListener("submit", (event) => { event.preventDefault(); sessionStorage.setItem("key", $("key").value.trim()); $("key").value = ""; clearTimeout(timer); look(); });
$("cancel").addEventListener("click", () => $("dialog").close());
look();
